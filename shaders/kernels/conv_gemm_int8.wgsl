// #import gemm, input_int8

// The implicit matrix product of conv_gemm with integer activations: a workgroup computes 32 pixels x
// 64 output channels of one group, each thread 4 x 8. Integer products are summed exactly over a block,
// four channels an instruction, then meet alpha and the activation's scale once. Weights are unpacked
// on the way into workgroup memory, once for 32 pixels.

// Whether every block is one step: then its integer sums need no registers of their own. With WHOLE_STEPS.
override ONE_STEP: bool = false;

const TILE_PIXELS = 32u;
const STEP = 8u; // quads of a step: two entries of a tile

// Pixels of the second half are permuted so that threads which write or read together use different banks.
var<workgroup> x_tile: array<vec4<u32>, 64>; // [half][pixel], four quads
var<workgroup> w_tile: array<vec4<u32>, 256>; // [half][output channel], four quads; the other half is for the outputs
// Scales lie as far apart as what they belong to, so that one place serves for both.
var<workgroup> x_scale: array<f32, 128>; // [pixel][4]: that of a pixel's block, from either thread that loads it
var<workgroup> w_scale: array<f32, 64>; // alpha of an output channel's block: those of a thread by fours, side by side

// Four pixels of a thread: their first four quads, and the others.
struct Pixels {
    a0: vec4<u32>,
    a1: vec4<u32>,
    a2: vec4<u32>,
    a3: vec4<u32>,
    b0: vec4<u32>,
    b1: vec4<u32>,
    b2: vec4<u32>,
    b3: vec4<u32>,
}

// Sums over a block: for each output channel of a thread, those of its four pixels.
struct Integers {
    o0: vec4<i32>,
    o1: vec4<i32>,
    o2: vec4<i32>,
    o3: vec4<i32>,
    o4: vec4<i32>,
    o5: vec4<i32>,
    o6: vec4<i32>,
    o7: vec4<i32>,
}

// Sums over blocks, likewise.
struct Sums {
    o0: vec4<f32>,
    o1: vec4<f32>,
    o2: vec4<f32>,
    o3: vec4<f32>,
    o4: vec4<f32>,
    o5: vec4<f32>,
    o6: vec4<f32>,
    o7: vec4<f32>,
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

    // A thread fills one entry of the input's tile, half a row of a pixel, and two of the weights', both
    // of one output channel. Outputs past the last compute the last one again, and are not stored.
    let pixel = pixel_place(tile.pixel + lane / 2u);
    let x_half = lane % 2u;
    let to = TILE_PIXELS * x_half + ((lane / 2u) ^ (4u * x_half));
    let channel = group * params.outputs + min(tile.output + lane, params.outputs - 1u);
    let x_scale_to = 4u * (lane / 2u) + x_half;
    let w_scale_to = 32u * (lane / 32u) + 4u * (lane % 8u) + lane / 8u % 4u;
    let x_from = vec2<u32>(local.x, TILE_PIXELS + (local.x ^ 4u));
    let blocks = params.block_count;
    let all = params.all_outputs;
    let apart = sixteen_apart();
    let w_step = 2u * apart + vec3<u32>(0u, 0u, all);

    var sums = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        let row = integer_row(pixel, group, tap);
        let exists = row != NONE;
        // Where there is no row, any will do: its scale counts as 0.
        let some_row = select(0u, row, exists);
        let x_row = some_row * params.row_quads;
        let x_first = x_row / 4u + x_half;
        var scale_at = params.scales_at + 2u * some_row * blocks;
        var alpha_at = tap * blocks * all + channel;
        var w_at = weights_at(tap, channel);
        var start = 0u;
        var block = 0u;
        // There is at least one block, and at least one step in each.
        loop {
            let scale = bitcast<f32>(input[scale_at]);
            let alpha = shift_at(alpha_at) * byte_scale();
            scale_at += 2u;
            alpha_at += all;
            if !ONE_STEP {
                // Nobody reads those of the last block any more.
                workgroupBarrier();
            }
            x_scale[x_scale_to] = select(0.0, scale, exists);
            w_scale[w_scale_to] = alpha;
            if ONE_STEP {
                x_tile[to] = input_vectors[x_first + start / 4u];
                fill_weights(w_at, apart, channel, all, lane);
                w_at += w_step;
                start += STEP;
                workgroupBarrier();
                add_scaled(&sums, multiply(Integers(), load_pixels(x_from), local.y), local.xy);
                workgroupBarrier();
            } else {
                let end = select(start + params.block_quads, params.row_quads, block + 1u == blocks);
                var products = Integers();
                loop {
                    if WHOLE_STEPS {
                        x_tile[to] = input_vectors[x_first + start / 4u];
                        fill_weights(w_at, apart, channel, all, lane);
                        w_at += w_step;
                    } else {
                        x_tile[to] = ragged_quads(x_row, start + 4u * x_half, end);
                        w_tile[lane] = ragged_weights(tap, start, end, channel);
                        w_tile[OUTPUTS + lane] = ragged_weights(tap, start + 4u, end, channel);
                    }
                    workgroupBarrier();
                    products = multiply(products, load_pixels(x_from), local.y);
                    workgroupBarrier();
                    start += STEP;
                    if start >= end {
                        break;
                    }
                }
                start = end;
                add_scaled(&sums, products, local.xy);
            }
            block += 1u;
            if block == blocks {
                break;
            }
        }
    }
    if params.kds_bias_at != NONE {
        add_kds_bias(&sums, tile, local.xy);
    }
    store_two(
        tile, local.xy, 0u,
        vec4<f32>(sums.o0.x, sums.o1.x, sums.o2.x, sums.o3.x), vec4<f32>(sums.o4.x, sums.o5.x, sums.o6.x, sums.o7.x),
        vec4<f32>(sums.o0.y, sums.o1.y, sums.o2.y, sums.o3.y), vec4<f32>(sums.o4.y, sums.o5.y, sums.o6.y, sums.o7.y),
    );
    store_two(
        tile, local.xy, 2u,
        vec4<f32>(sums.o0.z, sums.o1.z, sums.o2.z, sums.o3.z), vec4<f32>(sums.o4.z, sums.o5.z, sums.o6.z, sums.o7.z),
        vec4<f32>(sums.o0.w, sums.o1.w, sums.o2.w, sums.o3.w), vec4<f32>(sums.o4.w, sums.o5.w, sums.o6.w, sums.o7.w),
    );
}

fn load_pixels(at: vec2<u32>) -> Pixels {
    return Pixels(
        x_tile[at.x], x_tile[at.x + 8u], x_tile[at.x + 16u], x_tile[at.x + 24u],
        x_tile[at.y], x_tile[at.y + 8u], x_tile[at.y + 16u], x_tile[at.y + 24u],
    );
}

// Adds the products of a step: four pixels times eight output channels.
fn multiply(sums: Integers, x: Pixels, y: u32) -> Integers {
    return Integers(
        dots(sums.o0, x, y), dots(sums.o1, x, y + 8u), dots(sums.o2, x, y + 16u), dots(sums.o3, x, y + 24u),
        dots(sums.o4, x, y + 32u), dots(sums.o5, x, y + 40u), dots(sums.o6, x, y + 48u), dots(sums.o7, x, y + 56u),
    );
}

// The same for one output channel.
fn dots(sums: vec4<i32>, x: Pixels, at: u32) -> vec4<i32> {
    let w0 = w_tile[at];
    let w1 = w_tile[OUTPUTS + at];
    return vec4<i32>(
        eight_dots(sums.x, x.a0, x.b0, w0, w1), eight_dots(sums.y, x.a1, x.b1, w0, w1),
        eight_dots(sums.z, x.a2, x.b2, w0, w1), eight_dots(sums.w, x.a3, x.b3, w0, w1),
    );
}

fn eight_dots(sum: i32, x0: vec4<u32>, x1: vec4<u32>, w0: vec4<u32>, w1: vec4<u32>) -> i32 {
    return sum + dot4I8Packed(x0.x, w0.x) + dot4I8Packed(x0.y, w0.y) + dot4I8Packed(x0.z, w0.z) + dot4I8Packed(x0.w, w0.w)
        + dot4I8Packed(x1.x, w1.x) + dot4I8Packed(x1.y, w1.y) + dot4I8Packed(x1.z, w1.z) + dot4I8Packed(x1.w, w1.w);
}

// Adds a block's integers times alpha and the pixels' scales.
fn add_scaled(sums: ptr<function, Sums>, products: Integers, local: vec2<u32>) {
    let x_at = 4u * local.x;
    let scales = vec4<f32>(x_scale[x_at], x_scale[x_at + 32u], x_scale[x_at + 64u], x_scale[x_at + 96u]);
    let at = 4u * local.y;
    (*sums).o0 += vec4<f32>(products.o0) * (w_scale[at] * scales);
    (*sums).o1 += vec4<f32>(products.o1) * (w_scale[at + 1u] * scales);
    (*sums).o2 += vec4<f32>(products.o2) * (w_scale[at + 2u] * scales);
    (*sums).o3 += vec4<f32>(products.o3) * (w_scale[at + 3u] * scales);
    (*sums).o4 += vec4<f32>(products.o4) * (w_scale[at + 32u] * scales);
    (*sums).o5 += vec4<f32>(products.o5) * (w_scale[at + 33u] * scales);
    (*sums).o6 += vec4<f32>(products.o6) * (w_scale[at + 34u] * scales);
    (*sums).o7 += vec4<f32>(products.o7) * (w_scale[at + 35u] * scales);
}

// Adds the KDS bias of every block times the scaled sum of its inputs. Apart from the main loop, for few layers have one.
fn add_kds_bias(sums: ptr<function, Sums>, tile: Tile, local: vec2<u32>) {
    let first = tile.pixel + local.x;
    let pixel_0 = pixel_place(first);
    let pixel_1 = pixel_place(first + 8u);
    let pixel_2 = pixel_place(first + 16u);
    let pixel_3 = pixel_place(first + 24u);
    let last = params.outputs - 1u;
    let output = tile.output + local.y;
    let channels = tile.group * params.outputs;
    let lower = channels + min(vec4<u32>(output, output + 8u, output + 16u, output + 24u), vec4<u32>(last));
    let upper = channels + min(vec4<u32>(output + 32u, output + 40u, output + 48u, output + 56u), vec4<u32>(last));
    for (var tap = 0u; tap < params.taps; tap++) {
        let row_0 = integer_row(pixel_0, tile.group, tap);
        let row_1 = integer_row(pixel_1, tile.group, tap);
        let row_2 = integer_row(pixel_2, tile.group, tap);
        let row_3 = integer_row(pixel_3, tile.group, tap);
        for (var block = 0u; block < params.block_count; block++) {
            let x = vec4<f32>(
                integer_scale(row_0, block).y, integer_scale(row_1, block).y,
                integer_scale(row_2, block).y, integer_scale(row_3, block).y,
            );
            (*sums).o0 += block_shift(tap, block, lower.x).y * x;
            (*sums).o1 += block_shift(tap, block, lower.y).y * x;
            (*sums).o2 += block_shift(tap, block, lower.z).y * x;
            (*sums).o3 += block_shift(tap, block, lower.w).y * x;
            (*sums).o4 += block_shift(tap, block, upper.x).y * x;
            (*sums).o5 += block_shift(tap, block, upper.y).y * x;
            (*sums).o6 += block_shift(tap, block, upper.z).y * x;
            (*sums).o7 += block_shift(tap, block, upper.w).y * x;
        }
    }
}

// Fills a column of the weights' tile, with WHOLE_STEPS.
fn fill_weights(at: vec3<u32>, apart: vec3<u32>, channel: u32, all: u32, column: u32) {
    w_tile[column] = packed_sixteen(at, 0u, channel, all);
    w_tile[OUTPUTS + column] = packed_sixteen(at + apart, 1u, channel, all);
}

// Four quads of a row of the input; what lies past the block's end is 0.
fn ragged_quads(row: u32, quad: u32, end: u32) -> vec4<u32> {
    let at = row + quad;
    var x = vec4<u32>();
    if quad < end { x.x = input[at]; }
    if quad + 1u < end { x.y = input[at + 1u]; }
    if quad + 2u < end { x.z = input[at + 2u]; }
    if quad + 3u < end { x.w = input[at + 3u]; }
    return x;
}

// Four quads of packed integers; what lies past the block's end meets zeros of the input.
fn ragged_weights(tap: u32, quad: u32, end: u32, channel: u32) -> vec4<u32> {
    return vec4<u32>(
        packed_quad(tap, min(quad, end - 1u), channel),
        packed_quad(tap, min(quad + 1u, end - 1u), channel),
        packed_quad(tap, min(quad + 2u, end - 1u), channel),
        packed_quad(tap, min(quad + 3u, end - 1u), channel),
    );
}

fn stage(at: u32, value: vec4<f32>) {
    w_tile[at] = bitcast<vec4<u32>>(value);
}

fn stage_one(at: u32, index: u32, value: f32) {
    w_tile[at][index] = bitcast<u32>(value);
}

fn staged(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(w_tile[at]);
}
