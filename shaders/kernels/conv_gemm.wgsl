// #import gemm, gemm_input_{activations}

// Convolution as an implicit matrix product: pixels x output channels, summed over taps and channels.
// A workgroup computes TILE_PIXELS pixels x 64 output channels of one group, each of its 64 threads 4 or 8
// pixels x 8 outputs. Up to sixteen channels of a block at a time go through workgroup memory; weights are
// unpacked and scaled on the way in, once for all pixels, and a thread unpacks for one output channel, so it
// loads a block's shifts once. The input is floats, or integers that become floats on their way in: see gemm_input_float.wgsl and
// gemm_input_int8.wgsl.

// Pixels of a workgroup: 32, or 64, which takes fewer instructions, where there is work for a whole device.
override TILE_PIXELS: u32 = 32;
// Whether the channels of a pixel are neighbours in the input, so that four are one load. With WHOLE_STEPS.
override CHANNELS_LAST: bool = false;

const STEP = 4u; // quads of a step

// Four channels an entry: of the input [quad][64 pixels], permuted, see `x_place`; from WEIGHTS on [quad][output channel].
var<workgroup> tiles: array<vec4<f32>, 512>;
const WEIGHTS = 256u;

// Sums of four pixels for a thread's first four output channels, and for its others.
struct Sums {
    a0: vec4<f32>,
    a1: vec4<f32>,
    a2: vec4<f32>,
    a3: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
}

@compute @workgroup_size(8, 8)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let work = work_index(workgroup, grid);
    if work >= params.work {
        return;
    }
    let tile = tile_place(work, TILE_PIXELS, OUTPUTS);
    let group = tile.group;

    // A thread loads two neighbouring quads of one pixel, or of two 32 apart, dealt so that neighbouring threads
    // read neighbouring elements: pixels of one channel, or channels of one pixel. Of the weights' tile it fills
    // a column. Outputs past the last compute the last one again, and are not stored.
    let channels_last = CHANNELS_LAST || (!WHOLE_STEPS && params.input_c == 1u);
    let x_quad = 2u * select(lane / 32u, lane % 2u, channels_last);
    let x_pixel = select(lane % 32u, lane / 2u, channels_last);
    let pixel_0 = pixel_place(tile.pixel + x_pixel);
    let pixel_1 = pixel_place(tile.pixel + x_pixel + 32u);
    let x_to = x_place(x_quad, x_pixel);
    let column = WEIGHTS + lane;
    let channel = group * params.outputs + min(tile.output + lane, params.outputs - 1u);
    // From a quad of float weights to the next three.
    let w_quads = vec3<u32>(1u, 2u, 3u) * params.all_outputs;
    let w_step = select(sixteen_apart(), vec3<u32>(STEP * params.all_outputs, 0u, 0u), BITS == 32u);
    let w_from = WEIGHTS + local.y;
    let x_from = x_place(0u, local.x);
    let x_from_upper = x_place(2u, local.x);

    var lower = Sums();
    var upper = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        // The padding's zeros stay in the tile for all channels of the tap: what is loaded for it (any row will do) goes
        // where this thread's weights follow. So there are no branches between the loads.
        let at_0 = input_row(pixel_0, group, tap);
        let at_1 = input_row(pixel_1, group, tap);
        let row_0 = select(at_0, 0u, at_0 == NONE);
        let row_1 = select(at_1, 0u, at_1 == NONE);
        let from_0 = quad_from(row_0, x_quad);
        let from_1 = quad_from(row_1, x_quad);
        let to_0 = select(x_to, column, at_0 == NONE);
        let to_1 = select(x_to + 32u, column, at_1 == NONE);
        if at_0 == NONE {
            tiles[x_to] = vec4<f32>();
            tiles[x_to + 64u] = vec4<f32>();
        }
        if TILE_PIXELS == 64u && at_1 == NONE {
            tiles[x_to + 32u] = vec4<f32>();
            tiles[x_to + 96u] = vec4<f32>();
        }
        var w_at = weights_at(tap, channel);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(start + params.block_quads, params.row_quads, block + 1u == params.block_count);
            let shift = block_shift(tap, block, channel) * vec2<f32>(byte_scale(), 1.0);
            let scale_0 = input_scale(row_0, block);
            let scale_1 = input_scale(row_1, block);
            // A block has at least one step.
            loop {
                if WHOLE_STEPS {
                    tiles[to_0] = load_quad(from_0, start, scale_0);
                    tiles[to_0 + 64u] = load_quad(from_0, start + 1u, scale_0);
                    if TILE_PIXELS == 64u {
                        tiles[to_1] = load_quad(from_1, start, scale_1);
                        tiles[to_1 + 64u] = load_quad(from_1, start + 1u, scale_1);
                    }
                    let odd = start / STEP % 2u;
                    fill_weights(w_at, odd, channel, w_quads, shift, column);
                    w_at += w_step + vec3<u32>(0u, 0u, odd * w_quads.x);
                } else {
                    let quad = start + x_quad;
                    tiles[to_0] = load_ragged_quad(row_0, quad, end, block, scale_0);
                    tiles[to_0 + 64u] = load_ragged_quad(row_0, quad + 1u, end, block, scale_0);
                    if TILE_PIXELS == 64u {
                        tiles[to_1] = load_ragged_quad(row_1, quad, end, block, scale_1);
                        tiles[to_1 + 64u] = load_ragged_quad(row_1, quad + 1u, end, block, scale_1);
                    }
                    fill_ragged_weights(tap, start, end, channel, shift, column);
                }
                workgroupBarrier();
                add_quads(&lower, &upper, x_from, w_from);
                add_quads(&lower, &upper, x_from + 64u, w_from + 64u);
                add_quads(&lower, &upper, x_from_upper, w_from + 128u);
                add_quads(&lower, &upper, x_from_upper + 64u, w_from + 192u);
                workgroupBarrier();
                start += STEP;
                if start >= end {
                    break;
                }
            }
            start = end;
        }
    }
    store(tile, local.xy, 0u, lower);
    if TILE_PIXELS == 64u {
        store(tile, local.xy, 4u, upper);
    }
}

fn store(tile: Tile, local: vec2<u32>, number: u32, sums: Sums) {
    store_two(tile, local, number, sums.a0, sums.b0, sums.a1, sums.b1);
    store_two(tile, local, number + 2u, sums.a2, sums.b2, sums.a3, sums.b3);
}

// Where a pixel's quad lies in the tile, the pixel below 8 or a multiple of 8 to be added. Of two neighbouring pairs of quads one
// is permuted, so that threads which write or read together use different banks.
fn x_place(quad: u32, pixel: u32) -> u32 {
    return 64u * quad + (pixel ^ (4u * (quad / 2u)));
}

// Adds the products of a quad: all pixels of a thread times all of its outputs. Neighbouring threads read neighbouring
// entries: no bank is asked twice.
fn add_quads(lower: ptr<function, Sums>, upper: ptr<function, Sums>, x_at: u32, w_at: u32) {
    let w0 = tiles[w_at];
    let w1 = tiles[w_at + 8u];
    let w2 = tiles[w_at + 16u];
    let w3 = tiles[w_at + 24u];
    let w4 = tiles[w_at + 32u];
    let w5 = tiles[w_at + 40u];
    let w6 = tiles[w_at + 48u];
    let w7 = tiles[w_at + 56u];
    let x0 = tiles[x_at];
    (*lower).a0 = add_quad((*lower).a0, x0, w0, w1, w2, w3);
    (*lower).b0 = add_quad((*lower).b0, x0, w4, w5, w6, w7);
    let x1 = tiles[x_at + 8u];
    (*lower).a1 = add_quad((*lower).a1, x1, w0, w1, w2, w3);
    (*lower).b1 = add_quad((*lower).b1, x1, w4, w5, w6, w7);
    let x2 = tiles[x_at + 16u];
    (*lower).a2 = add_quad((*lower).a2, x2, w0, w1, w2, w3);
    (*lower).b2 = add_quad((*lower).b2, x2, w4, w5, w6, w7);
    let x3 = tiles[x_at + 24u];
    (*lower).a3 = add_quad((*lower).a3, x3, w0, w1, w2, w3);
    (*lower).b3 = add_quad((*lower).b3, x3, w4, w5, w6, w7);
    if TILE_PIXELS == 64u {
        let x4 = tiles[x_at + 32u];
        (*upper).a0 = add_quad((*upper).a0, x4, w0, w1, w2, w3);
        (*upper).b0 = add_quad((*upper).b0, x4, w4, w5, w6, w7);
        let x5 = tiles[x_at + 40u];
        (*upper).a1 = add_quad((*upper).a1, x5, w0, w1, w2, w3);
        (*upper).b1 = add_quad((*upper).b1, x5, w4, w5, w6, w7);
        let x6 = tiles[x_at + 48u];
        (*upper).a2 = add_quad((*upper).a2, x6, w0, w1, w2, w3);
        (*upper).b2 = add_quad((*upper).b2, x6, w4, w5, w6, w7);
        let x7 = tiles[x_at + 56u];
        (*upper).a3 = add_quad((*upper).a3, x7, w0, w1, w2, w3);
        (*upper).b3 = add_quad((*upper).b3, x7, w4, w5, w6, w7);
    }
}

// Adds four channels of a pixel times those of four outputs; each term is one fused multiply-add.
fn add_quad(sums: vec4<f32>, x: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    var total = sums + x.x * vec4<f32>(w0.x, w1.x, w2.x, w3.x);
    total += x.y * vec4<f32>(w0.y, w1.y, w2.y, w3.y);
    total += x.z * vec4<f32>(w0.z, w1.z, w2.z, w3.z);
    total += x.w * vec4<f32>(w0.w, w1.w, w2.w, w3.w);
    return total;
}

// Fills a column of the weights' tile: a step's quads of one output channel.
fn fill_weights(at: vec3<u32>, odd: u32, channel: u32, quads: vec3<u32>, shift: vec2<f32>, column: u32) {
    if BITS == 32u {
        tiles[column] = bitcast<vec4<f32>>(weight_vectors[at.x]);
        tiles[column + 64u] = bitcast<vec4<f32>>(weight_vectors[at.x + quads.x]);
        tiles[column + 128u] = bitcast<vec4<f32>>(weight_vectors[at.x + quads.y]);
        tiles[column + 192u] = bitcast<vec4<f32>>(weight_vectors[at.x + quads.z]);
        return;
    }
    let bytes = packed_sixteen(at, odd, channel, quads.x);
    tiles[column] = byte_floats(bytes.x) * shift.x + shift.y;
    tiles[column + 64u] = byte_floats(bytes.y) * shift.x + shift.y;
    tiles[column + 128u] = byte_floats(bytes.z) * shift.x + shift.y;
    tiles[column + 192u] = byte_floats(bytes.w) * shift.x + shift.y;
}

// The same up to the block's end. What lies past it meets zeros of the input, so it must be a number: the last quad comes again.
fn fill_ragged_weights(tap: u32, start: u32, end: u32, channel: u32, shift: vec2<f32>, column: u32) {
    for (var quad = 0u; quad < STEP; quad++) {
        let weights = weight_quad(tap, min(start + quad, end - 1u), channel);
        tiles[column + 64u * quad] = weights * (shift.x / byte_scale()) + shift.y;
    }
}

fn stage(at: u32, value: vec4<f32>) {
    tiles[WEIGHTS + at] = value;
}

fn stage_one(at: u32, index: u32, value: f32) {
    tiles[WEIGHTS + at][index] = value;
}

fn staged(at: u32) -> vec4<f32> {
    return tiles[WEIGHTS + at];
}
