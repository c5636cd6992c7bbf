// The numbers of one plan, and the formats that a pipeline is compiled for: every kernel has both.

// Bits of a weight: 2 to 8 for packed integers, 32 for floats.
override BITS: u32 = 32;
// Whether packed weights are loaded in fours of neighbouring output channels: see `channel_words`.
override CHANNEL_FOURS: bool = false;
// Whether alpha and KDS bias are halves, two a word, instead of floats.
override HALF_SCALES: bool = false;
// What the code is for: layers with a KDS bias, an activation function with an exponential, a residual in a buffer of
// its own, one in the output's place, an output of floats, one of integer activations. Kernels for software devices
// leave out what a layer has not, because such devices work out both sides of a branch; all others have all of it, and
// their pipelines serve every layer.
override KDS_BIAS: bool = true;
override EXPONENTIAL: bool = true;
override RESIDUAL: bool = true;
override RESIDUAL_IN_PLACE: bool = true;
override FLOAT_OUTPUT: bool = true;
override INT8_OUTPUT: bool = true;

// "There is none", for indices and offsets.
const NONE = 0xffffffffu;

// The geometry of one plan. The host's twin is `Params` in src/gpu/params.rs.
//
// A row is all input channels of a group at one pixel, or at one tap of an output channel's weights. It is cut into
// blocks, and blocks into quads of four neighbouring channels; the last quad of a block may have fewer.
struct Params {
    batch: u32,
    groups: u32,
    channels: u32, // input channels per group
    outputs: u32, // output channels per group
    input_height: i32,
    input_width: i32,
    output_height: u32,
    output_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    padding_top: i32,
    padding_left: i32,
    // Distances in elements between neighbours; the residual has the output's.
    input_n: u32,
    input_c: u32,
    input_y: u32,
    input_x: u32,
    output_n: u32,
    output_c: u32,
    output_y: u32,
    output_x: u32,
    block_count: u32, // blocks of a row
    block_size: u32, // channels of every block but the last
    block_quads: u32, // quads of every block but the last
    row_quads: u32,
    row_words: u32, // words of packed weights per tap and output channel
    // Where alpha and bias start in the weights' buffer, in words, and the KDS bias behind alpha, in elements; NONE for
    // what there is not.
    scales_at: u32,
    kds_bias_at: u32,
    bias_at: u32,
    workgroups: u32, // of this plan; the grid may hold some more
    activation: u32, // which function, by the numbers of `activate`
    activation_a: f32,
    activation_b: f32,
    residual: u32, // 0 for none, 1 where it is added before the activation, 2 after it
    residual_in_place: u32, // whether the output's buffer holds it, until the output takes its place
    taps: u32, // kernel_height * kernel_width
    all_outputs: u32, // outputs * groups
    input_scales_at: u32, // where the scales of an input of integer activations start, in words
    power_of_two_scales: u32, // whether scales of activations are powers of two
    // The output as integer activations: words of a pixel's mantissas, its blocks, how many times eight channels a
    // block has, and where the scales start, in words; NONE for an output of floats.
    output_quads: u32,
    output_blocks: u32,
    output_eights: u32,
    output_scales_at: u32,
    weight_scale_factor: f32, // what alpha and KDS bias in memory are to be multiplied by, where they are halves
    matrix_factor: f32, // a power of two that weights are multiplied by on their way into halves
}

@group(0) @binding(0) var<uniform> params: Params;

// Whether the weights have a KDS bias.
fn has_kds_bias() -> bool {
    return KDS_BIAS && params.kds_bias_at != NONE;
}

// Whether a residual is added.
fn has_residual() -> bool {
    return (RESIDUAL || RESIDUAL_IN_PLACE) && params.residual != 0u;
}

// Whether the residual is what the output's buffer holds. Whoever stores an output has read the residual at its place.
fn has_residual_in_place() -> bool {
    return RESIDUAL_IN_PLACE && (!RESIDUAL || params.residual_in_place != 0u);
}

// Whether the output is integer activations, not floats.
fn has_int8_output() -> bool {
    return INT8_OUTPUT && (!FLOAT_OUTPUT || params.output_scales_at != NONE);
}

// The number of this workgroup; the grid is folded, for counts beyond the limit of one dimension.
fn workgroup_index(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup.x + workgroup.y * grid.x;
}

// The quad behind a block that starts at `start`.
fn block_end(start: u32, block: u32) -> u32 {
    return select(start + params.block_quads, params.row_quads, block + 1u == params.block_count);
}
