// What every kernel shares: bindings, weight formats, coordinates, epilogue. Appended after the kernel.

// Geometry of one plan. The host's twin is `Params` in src/gpu/params.rs.
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
    // Blocks of a row of channels, and quads: four neighbouring channels of one block.
    block_count: u32,
    block_size: u32, // of every block but the last
    block_quads: u32, // of every block but the last
    row_quads: u32,
    row_words: u32, // words of packed weights per tap and output channel
    // Where KDS bias and bias start in `shifts`, the first in its elements, the other in words; NONE where there are
    // none. Alpha starts at 0.
    kds_bias_at: u32,
    bias_at: u32,
    work: u32, // workgroups of this plan; the grid may hold some more
    activation: u32,
    activation_a: f32,
    activation_b: f32,
    residual: u32,
    taps: u32, // kernel_height * kernel_width
    all_outputs: u32, // outputs * groups
    scales_at: u32, // where the scales of integer activations start, in words
    power_of_two: u32, // whether scales of activations are powers of two
    // The output as integer activations: words of a pixel's mantissas, its blocks, how many times eight
    // channels a block has, and where the scales start; NONE for floats.
    output_quads: u32,
    output_blocks: u32,
    output_eights: u32,
    output_scales_at: u32,
    scale_factor: f32, // what alpha and KDS bias in memory are to be multiplied by, where they are halves
}

const NONE = 0xffffffffu;

// Bits of a weight: 2 to 8 for packed integers, 32 for floats.
override BITS: u32 = 32;
// Whether alpha and KDS bias are halves, two a word.
override HALF_SCALES: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
// Packed integers: planes of words, [tap][word][output channel]; 8-bit integers, a quad a word: [tap][quad / 4]
// [output channel][quad % 4]; floats: [tap][quad][output channel][channel % 4]. The last of these fours may be shorter.
@group(0) @binding(1) var<storage, read> weights: array<u32>;
// alpha [tap][block][output channel], KDS bias likewise, bias [output channel].
@group(0) @binding(2) var<storage, read> shifts: array<f32>;
// The number of this workgroup; the grid is folded, for counts beyond the limit of one dimension.
fn work_index(workgroup: vec3<u32>, grid: vec3<u32>) -> u32 {
    return workgroup.x + workgroup.y * grid.x;
}

// Where the `index`th of `count` elements of a row lies, stored in fours: [index / 4][output channel][index % 4].
// `base` is where the row starts, in elements of one output channel.
fn in_fours(base: u32, index: u32, count: u32, channel: u32) -> u32 {
    let first = index & 0xfffffffcu;
    return (base + first) * params.all_outputs + channel * min(count - first, 4u) + index % 4u;
}

// A quad of one plane of a row, its bits aligned to the top of each byte.
fn plane_quad(plane: u32, mask: u32, row: u32, quad: u32, channel: u32) -> u32 {
    let per_word = 8u / plane;
    let word = weights[(row + quad / per_word) * params.all_outputs + channel];
    return (word << (plane * (quad % per_word))) & mask;
}

// Four integers of a row as bytes, aligned to the top: times 2^(8 - BITS).
fn packed_quad(tap: u32, quad: u32, channel: u32) -> u32 {
    var row = tap * params.row_words;
    if BITS == 8u {
        return weights[in_fours(row, quad, params.row_quads, channel)];
    }
    var value = 0u;
    if (BITS & 4u) != 0u {
        value = plane_quad(4u, 0xf0f0f0f0u, row, quad, channel);
        row += (params.row_quads + 1u) / 2u;
    }
    if (BITS & 2u) != 0u {
        value |= plane_quad(2u, 0xc0c0c0c0u, row, quad, channel) >> (BITS & 4u);
        row += (params.row_quads + 3u) / 4u;
    }
    if (BITS & 1u) != 0u {
        value |= plane_quad(1u, 0x80808080u, row, quad, channel) >> (BITS & 6u);
    }
    return value;
}

// What integers aligned to the top of a byte are to be multiplied by; 1 for floats.
fn byte_scale() -> f32 {
    return 1.0 / f32(1u << ((8u - BITS) & 7u));
}

// Bytes as floats, signs and all.
fn byte_floats(bytes: u32) -> vec4<f32> {
    let word = bitcast<i32>(bytes);
    return vec4<f32>(vec4<i32>(extractBits(word, 0u, 8u), extractBits(word, 8u, 8u), extractBits(word, 16u, 8u), extractBits(word, 24u, 8u)));
}

// Four weights of a row before their block's shifts: integers as floats, or the floats themselves.
// `channel` is the output channel over all groups. What lies past a block's end is any weight of the
// layer: it must meet an input of 0.
fn weight_quad(tap: u32, quad: u32, channel: u32) -> vec4<f32> {
    if BITS == 32u {
        let row = tap * params.channels + 4u * quad;
        let count = min(params.channels - 4u * quad, 4u);
        let places = row * params.all_outputs + channel * count + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u));
        return bitcast<vec4<f32>>(vec4<u32>(weights[places.x], weights[places.y], weights[places.z], weights[places.w]));
    }
    return byte_floats(packed_quad(tap, quad, channel)) * byte_scale();
}

// An element of alpha or KDS bias.
fn shift_at(index: u32) -> f32 {
    if HALF_SCALES {
        let pair = unpack2x16float(bitcast<u32>(shifts[index / 2u]));
        return params.scale_factor * select(pair.x, pair.y, index % 2u == 1u);
    }
    return shifts[index];
}

// Alpha and KDS bias of a block: a weight is x times its integer plus y.
fn block_shift(tap: u32, block: u32, channel: u32) -> vec2<f32> {
    if BITS == 32u {
        return vec2<f32>(1.0, 0.0);
    }
    let at = (tap * params.block_count + block) * params.all_outputs + channel;
    if params.kds_bias_at == NONE {
        return vec2<f32>(shift_at(at), 0.0);
    }
    return vec2<f32>(shift_at(at), shift_at(params.kds_bias_at + at));
}

// Where a quad of a block lies in its row: its first channel, and how many of its four channels exist.
struct QuadPlace {
    channel: u32,
    count: u32,
}

fn quad_place(quad: u32, block: u32) -> QuadPlace {
    let inside = 4u * (quad - block * params.block_quads);
    let first = block * params.block_size;
    let last = block + 1u == params.block_count;
    let size = select(params.block_size, params.channels - first, last);
    return QuadPlace(first + inside, min(size - inside, 4u));
}

// Where the receptive field of an output pixel starts in the input; may be in the padding.
fn field_origin(y: u32, x: u32) -> vec2<i32> {
    return vec2<i32>(i32(y * params.stride_y) - params.padding_top, i32(x * params.stride_x) - params.padding_left);
}

// The input pixel (y, x) that a tap meets.
fn tap_position(origin: vec2<i32>, tap: u32) -> vec2<i32> {
    let y = tap / params.kernel_width;
    let x = tap % params.kernel_width;
    return origin + vec2<i32>(i32(y * params.dilation_y), i32(x * params.dilation_x));
}

fn inside_input(position: vec2<i32>) -> bool {
    return position.x >= 0 && position.x < params.input_height && position.y >= 0 && position.y < params.input_width;
}

// The index of the first channel of a group at an input pixel.
fn input_index(image: u32, group: u32, position: vec2<i32>) -> u32 {
    return image * params.input_n + group * params.channels * params.input_c
        + u32(position.x) * params.input_y + u32(position.y) * params.input_x;
}

// An output element: image, output channel over all groups, row and column.
struct OutputPlace {
    image: u32,
    channel: u32,
    y: u32,
    x: u32,
}

// The `index`th output in the order of the output's memory, so that neighbouring threads write side by side.
fn output_place(index: u32) -> OutputPlace {
    let channels = params.all_outputs;
    var rest = index;
    var place = OutputPlace();
    if params.output_c == 1u {
        place.channel = rest % channels;
        rest /= channels;
    }
    place.x = rest % params.output_width;
    rest /= params.output_width;
    place.y = rest % params.output_height;
    rest /= params.output_height;
    if params.output_c != 1u {
        place.channel = rest % channels;
        rest /= channels;
    }
    place.image = rest;
    return place;
}

// A pixel of the output and the origin of its receptive field; not valid past the last pixel.
struct Pixel {
    image: u32,
    y: u32,
    x: u32,
    valid: bool,
    origin: vec2<i32>,
}

fn pixel_place(index: u32) -> Pixel {
    let x = index % params.output_width;
    let row = index / params.output_width;
    let y = row % params.output_height;
    let image = row / params.output_height;
    return Pixel(image, y, x, image < params.batch, field_origin(y, x));
}

// Where a pixel's channels start in the input at a tap; NONE in the padding and past the last pixel.
fn tap_index(pixel: Pixel, group: u32, tap: u32) -> u32 {
    let position = tap_position(pixel.origin, tap);
    if !pixel.valid || !inside_input(position) {
        return NONE;
    }
    return input_index(pixel.image, group, position);
}

// Activation numbers are those of `Params::new` in src/gpu/params.rs.
fn activate(value: f32) -> f32 {
    switch params.activation {
        case 1u: { return clamp(value, params.activation_a, params.activation_b); }
        case 2u: { return select(params.activation_a * value, value, value > 0.0); }
        case 3u: { return value * sigmoid(value); }
        case 4u: { return value * clamp(value + 3.0, 0.0, 6.0) * (1.0 / 6.0); }
        case 5u: { return sigmoid(value); }
        default: { return value; }
    }
}

// The exponent is bounded: WGSL does not promise what an infinite quotient gives.
fn sigmoid(value: f32) -> f32 {
    return 1.0 / (1.0 + exp(min(-value, 80.0)));
}

// Where an element lies in the output and in the residual.
fn output_index(place: OutputPlace) -> u32 {
    return place.image * params.output_n + place.channel * params.output_c
        + place.y * params.output_y + place.x * params.output_x;
}

// The epilogue: adds bias and residual, applies the activation.
fn finish(place: OutputPlace, sum: f32) -> f32 {
    let at = output_index(place);
    var value = sum;
    if params.bias_at != NONE {
        value += shifts[params.bias_at + place.channel];
    }
    if params.residual == 1u {
        value += residual_float(at);
    }
    value = activate(value);
    if params.residual == 2u {
        value += residual_float(at);
    }
    return value;
}

fn store_output(place: OutputPlace, sum: f32) {
    store_float(output_index(place), finish(place, sum));
}
