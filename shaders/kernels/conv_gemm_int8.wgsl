// #import params, coordinates, unpack_weights, weight_scales, tiles
// #import gemm, gemm_tile_{tiles}, gemm_output, input_int8, input_{words}

// The implicit matrix product with integer activations, on the packed dot product, for GPUs that have it as an
// instruction.
//
//     for each tap, block of input channels:
//         for each step of 32 channels of the block:
//             products[pixel][output] += x[channel][pixel] * q[channel][output]      int8 times int8, exact in i32
//         sum[pixel][output] += products * (alpha[block][output] * scale[block][pixel])
//     sum += kds_bias[block][output] * scaled sum of x[block][pixel]                 apart, where there is a KDS bias
//     output[pixel][output] = epilogue(sum[pixel][output])
//
// A workgroup of 8 x 8 threads computes 32 pixels x 64 output channels of one group; thread (x, y) the pixels x + 8i
// and the output channels y + 8k, 4 x 8 of them, as in the drawing of conv_gemm.wgsl.
//
// Workgroup memory, 6.25 KB, holds what a step needs. An entry of a tile is four quads: 16 input channels, 16 bytes.
//
//     x_tile   [2 halves of the step][32 pixels]                      64 entries
//     w_tile   [2 halves of the step][64 output channels]            128 entries; 256 for the sums on their way out
//     x_scale  [32 pixels][4]                                        128 floats
//     w_scale  [2][8][4]: alpha of the 64 output channels             64 floats
//     x_moved, w_moved: see trick 10                                 128 integers
//
// A thread fills one entry of x, half a step of a pixel, and two of w, both of output channel `thread`.
//
// The tricks, and why:
//
// 1. One `dot4I8Packed` is four multiply-adds. Down a block the sums are exact in i32, then convert, multiply the two
//    scales, multiply and add: three instructions per output and block.
// 2. Weights are unpacked on the way into workgroup memory, once for 32 pixels. They stay at the top of their bytes,
//    which makes them int8 with no sign extension; alpha takes the factor back, exactly.
// 3. Nothing in registers is indexed by a variable, so that it stays there: products and sums have names.
// 4. In x, the second half is permuted: its pixels' numbers are taken exclusive or 4. So threads that write or read
//    together use different banks of workgroup memory.
// 5. Scales lie as far apart as the entries of the tiles they belong to, 16 bytes, so that one address serves for both.
// 6. Padding is loaded like everything else, from row 0; its scale is 0.
// 7. Places move on by additions, and loops test at their end: Mesa's compiler does neither by itself.
// 8. With ONE_STEP the products start from 0 in every step, and need no registers from one step to the next.
// 9. The KDS bias has a loop of its own behind the main one, for few layers have one.
// 10. Adreno GPUs have the packed dot product as an instruction for unsigned bytes only. So with UNSIGNED all bytes are
//    moved by 128 on the way into workgroup memory, x' = x + 128 and w' = w + 128, and down a block of n channels
//
//        sum of x * w  =  sum of x' * w'  -  128 * (sum of x')  -  128 * (sum of w' - 128 * n)
//
//    in 32 bits that wrap around, so it is exact. The last two are of a pixel alone and of an output channel alone:
//    threads sum them while they fill the tiles, by dot products with ones. Per output and block they cost one
//    addition where products start from them (ONE_STEP), else two. What is filled up at a block's end counts in n.
//
// Tiles of 8 x 8 outputs a thread, as conv_gemm has them, and of 4 x 16 take 200 and 136 registers on AMD GPUs, which
// leaves 4 and 6 waves instead of 8.

// Whether every block is a whole number of steps, of 32 channels: then nothing is cut off at a block's end.
override WHOLE_STEPS: bool = false;
// Whether every block is exactly one step (trick 8). Only together with WHOLE_STEPS.
override ONE_STEP: bool = false;
// Whether dot products are of unsigned bytes (trick 10).
override UNSIGNED: bool = false;

const STEP = 8u; // quads of a step: two entries of a tile
const ZERO_POINT = 128u; // what bytes are moved by with UNSIGNED
const FOUR = 0x01010101u; // a byte in all four of a word

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

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let index = workgroup_index(workgroup, grid);
    if index >= params.workgroups {
        return;
    }
    let tile = tile_place(index, TILE_PIXELS, TILE_OUTPUTS);

    let pixel = output_pixel(tile.first_pixel + thread / 2u);
    let x_half = thread % 2u;
    let x_to = TILE_PIXELS * x_half + ((thread / 2u) ^ (4u * x_half));
    let channel = tile_channel(tile, thread);
    let x_scale_to = SCALES * (thread / 2u) + x_half;
    let w_scale_to = SCALES * SIDE * (thread / 32u) + SCALES * (thread % SIDE) + thread / SIDE % 4u;
    let moved_to = vec2<u32>(thread, w_scale_to);
    let x_from = vec2<u32>(local.x, TILE_PIXELS + (local.x ^ 4u));
    let blocks = params.block_count;
    let all_outputs = params.all_outputs;
    let w_half = next_sixteen();
    let w_step = 2u * w_half + vec3<u32>(0u, 0u, all_outputs);

    var sums = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        let row = integer_row(pixel, tile.group, tap);
        let exists = row != NONE;
        // Trick 6.
        let some_row = select(0u, row, exists);
        let x_row = some_row * params.row_quads;
        let x_first = x_row / 4u + x_half;
        var scale_at = activation_scale_at(some_row, 0u);
        var alpha_at = tap * blocks * all_outputs + channel;
        var w_at = first_sixteen(tap, channel);
        var start = 0u;
        var block = 0u;
        // Trick 7: there is at least one block, and at least one step in each.
        loop {
            let scale = bitcast<f32>(input_word(scale_at));
            let alpha = weight_scale_at(alpha_at) * byte_scale();
            scale_at += 2u;
            alpha_at += all_outputs;
            if !ONE_STEP {
                // Nobody reads those of the last block any more.
                workgroupBarrier();
            }
            x_scale[x_scale_to] = select(0.0, scale, exists);
            w_scale[w_scale_to] = alpha;
            if ONE_STEP {
                let x = input_four(x_first + start / 4u);
                set_moved(fill(x_to, x, whole_weights(w_at, w_half, channel, all_outputs), thread), moved_to);
                w_at += w_step;
                start += STEP;
                workgroupBarrier();
                add_scaled(&sums, multiply(moved_back(local.xy), load_pixels(x_from), local.y), local.xy);
                workgroupBarrier();
            } else {
                let end = block_end(start, block);
                var products = Integers();
                var moved = vec2<i32>();
                loop {
                    if WHOLE_STEPS {
                        let x = input_four(x_first + start / 4u);
                        moved += fill(x_to, x, whole_weights(w_at, w_half, channel, all_outputs), thread);
                        w_at += w_step;
                    } else {
                        let x = ragged_quads(x_row, start + 4u * x_half, end);
                        moved += fill(x_to, x, ragged_weights(tap, start, end, channel), thread);
                    }
                    set_moved(moved, moved_to);
                    workgroupBarrier();
                    products = multiply(products, load_pixels(x_from), local.y);
                    workgroupBarrier();
                    start += STEP;
                    if start >= end {
                        break;
                    }
                }
                start = end;
                if UNSIGNED {
                    products = plus(products, moved_back(local.xy));
                }
                add_scaled(&sums, products, local.xy);
            }
            block += 1u;
            if block == blocks {
                break;
            }
        }
    }
    if has_kds_bias() {
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

// Reads four pixels of a thread from the tile.
fn load_pixels(at: vec2<u32>) -> Pixels {
    return Pixels(
        x_tile[at.x], x_tile[at.x + SIDE], x_tile[at.x + 2u * SIDE], x_tile[at.x + 3u * SIDE],
        x_tile[at.y], x_tile[at.y + SIDE], x_tile[at.y + 2u * SIDE], x_tile[at.y + 3u * SIDE],
    );
}

// Adds the products of a step: four pixels times eight output channels, written out (trick 3).
fn multiply(sums: Integers, x: Pixels, y: u32) -> Integers {
    return Integers(
        dots(sums.o0, x, y), dots(sums.o1, x, y + SIDE),
        dots(sums.o2, x, y + 2u * SIDE), dots(sums.o3, x, y + 3u * SIDE),
        dots(sums.o4, x, y + 4u * SIDE), dots(sums.o5, x, y + 5u * SIDE),
        dots(sums.o6, x, y + 6u * SIDE), dots(sums.o7, x, y + 7u * SIDE),
    );
}

// The same for one output channel.
fn dots(sums: vec4<i32>, x: Pixels, at: u32) -> vec4<i32> {
    let w0 = w_tile[at];
    let w1 = w_tile[W_HALF + at];
    return vec4<i32>(
        eight_dots(sums.x, x.a0, x.b0, w0, w1), eight_dots(sums.y, x.a1, x.b1, w0, w1),
        eight_dots(sums.z, x.a2, x.b2, w0, w1), eight_dots(sums.w, x.a3, x.b3, w0, w1),
    );
}

// Adds the products of thirty-two channels of a pixel and an output channel (tricks 1 and 10).
fn eight_dots(sum: i32, x0: vec4<u32>, x1: vec4<u32>, w0: vec4<u32>, w1: vec4<u32>) -> i32 {
    if UNSIGNED {
        return sum + bitcast<i32>(
            dot4U8Packed(x0.x, w0.x) + dot4U8Packed(x0.y, w0.y) + dot4U8Packed(x0.z, w0.z) + dot4U8Packed(x0.w, w0.w)
            + dot4U8Packed(x1.x, w1.x) + dot4U8Packed(x1.y, w1.y) + dot4U8Packed(x1.z, w1.z) + dot4U8Packed(x1.w, w1.w)
        );
    }
    return sum
        + dot4I8Packed(x0.x, w0.x) + dot4I8Packed(x0.y, w0.y) + dot4I8Packed(x0.z, w0.z) + dot4I8Packed(x0.w, w0.w)
        + dot4I8Packed(x1.x, w1.x) + dot4I8Packed(x1.y, w1.y) + dot4I8Packed(x1.z, w1.z) + dot4I8Packed(x1.w, w1.w);
}

// Adds a block's integers times alpha and the pixels' scales (tricks 1 and 5).
fn add_scaled(sums: ptr<function, Sums>, products: Integers, local: vec2<u32>) {
    let x_at = SCALES * local.x;
    let scales = vec4<f32>(
        x_scale[x_at], x_scale[x_at + SCALES * SIDE],
        x_scale[x_at + 2u * SCALES * SIDE], x_scale[x_at + 3u * SCALES * SIDE],
    );
    let at = SCALES * local.y;
    let upper_at = at + SCALES * SIDE;
    (*sums).o0 += vec4<f32>(products.o0) * (w_scale[at] * scales);
    (*sums).o1 += vec4<f32>(products.o1) * (w_scale[at + 1u] * scales);
    (*sums).o2 += vec4<f32>(products.o2) * (w_scale[at + 2u] * scales);
    (*sums).o3 += vec4<f32>(products.o3) * (w_scale[at + 3u] * scales);
    (*sums).o4 += vec4<f32>(products.o4) * (w_scale[upper_at] * scales);
    (*sums).o5 += vec4<f32>(products.o5) * (w_scale[upper_at + 1u] * scales);
    (*sums).o6 += vec4<f32>(products.o6) * (w_scale[upper_at + 2u] * scales);
    (*sums).o7 += vec4<f32>(products.o7) * (w_scale[upper_at + 3u] * scales);
}

// Adds the KDS bias of every block times the scaled sum of its inputs (trick 9).
fn add_kds_bias(sums: ptr<function, Sums>, tile: Tile, local: vec2<u32>) {
    let first = tile.first_pixel + local.x;
    let pixel_0 = output_pixel(first);
    let pixel_1 = output_pixel(first + SIDE);
    let pixel_2 = output_pixel(first + 2u * SIDE);
    let pixel_3 = output_pixel(first + 3u * SIDE);
    let lower_channels = vec4<u32>(
        tile_channel(tile, local.y), tile_channel(tile, local.y + SIDE),
        tile_channel(tile, local.y + 2u * SIDE), tile_channel(tile, local.y + 3u * SIDE),
    );
    let upper_channels = vec4<u32>(
        tile_channel(tile, local.y + 4u * SIDE), tile_channel(tile, local.y + 5u * SIDE),
        tile_channel(tile, local.y + 6u * SIDE), tile_channel(tile, local.y + 7u * SIDE),
    );
    for (var tap = 0u; tap < params.taps; tap++) {
        let row_0 = integer_row(pixel_0, tile.group, tap);
        let row_1 = integer_row(pixel_1, tile.group, tap);
        let row_2 = integer_row(pixel_2, tile.group, tap);
        let row_3 = integer_row(pixel_3, tile.group, tap);
        for (var block = 0u; block < params.block_count; block++) {
            let x = vec4<f32>(
                activation_scale(row_0, block).sum, activation_scale(row_1, block).sum,
                activation_scale(row_2, block).sum, activation_scale(row_3, block).sum,
            );
            (*sums).o0 += weight_scale(tap, block, lower_channels.x).kds_bias * x;
            (*sums).o1 += weight_scale(tap, block, lower_channels.y).kds_bias * x;
            (*sums).o2 += weight_scale(tap, block, lower_channels.z).kds_bias * x;
            (*sums).o3 += weight_scale(tap, block, lower_channels.w).kds_bias * x;
            (*sums).o4 += weight_scale(tap, block, upper_channels.x).kds_bias * x;
            (*sums).o5 += weight_scale(tap, block, upper_channels.y).kds_bias * x;
            (*sums).o6 += weight_scale(tap, block, upper_channels.z).kds_bias * x;
            (*sums).o7 += weight_scale(tap, block, upper_channels.w).kds_bias * x;
        }
    }
}

// What a step multiplies the input by, of one output channel: eight quads of packed integers, thirty-two channels.
struct StepWeights {
    first: vec4<u32>,
    second: vec4<u32>,
}

// Those of a step with WHOLE_STEPS (trick 2).
fn whole_weights(at: vec3<u32>, w_half: vec3<u32>, channel: u32, all_outputs: u32) -> StepWeights {
    return StepWeights(
        unpack_sixteen(at, 0u, channel, all_outputs),
        unpack_sixteen(at + w_half, 1u, channel, all_outputs),
    );
}

// Those of a step that a block's end may cut; what lies past it meets zeros of the input.
fn ragged_weights(tap: u32, quad: u32, end: u32, channel: u32) -> StepWeights {
    return StepWeights(
        ragged_sixteen(tap, quad, end, channel),
        ragged_sixteen(tap, quad + 4u, end, channel),
    );
}

fn ragged_sixteen(tap: u32, quad: u32, end: u32, channel: u32) -> vec4<u32> {
    return vec4<u32>(
        unpack_quad(tap, min(quad, end - 1u), channel),
        unpack_quad(tap, min(quad + 1u, end - 1u), channel),
        unpack_quad(tap, min(quad + 2u, end - 1u), channel),
        unpack_quad(tap, min(quad + 3u, end - 1u), channel),
    );
}

// Fills an entry of the input's tile, and a column of the weights'. Gives what a pixel's sums, and an output channel's,
// are moved back by for it (trick 10).
fn fill(x_to: u32, x: vec4<u32>, w: StepWeights, column: u32) -> vec2<i32> {
    if !UNSIGNED {
        x_tile[x_to] = x;
        w_tile[column] = w.first;
        w_tile[W_HALF + column] = w.second;
        return vec2<i32>();
    }
    // Adding 128 to a byte changes its highest bit.
    let moved = vec4<u32>(ZERO_POINT * FOUR);
    x_tile[x_to] = x ^ moved;
    w_tile[column] = w.first ^ moved;
    w_tile[W_HALF + column] = w.second ^ moved;
    let w_sum = byte_sum(w.first ^ moved) + byte_sum(w.second ^ moved);
    return vec2<i32>(-i32(ZERO_POINT * byte_sum(x ^ moved)), i32(ZERO_POINT) * i32(4u * STEP * ZERO_POINT - w_sum));
}

// The sum of sixteen unsigned bytes.
fn byte_sum(x: vec4<u32>) -> u32 {
    return dot4U8Packed(x.x, FOUR) + dot4U8Packed(x.y, FOUR) + dot4U8Packed(x.z, FOUR) + dot4U8Packed(x.w, FOUR);
}

// Tells all threads what `fill` gave for a block, or gives so far.
fn set_moved(moved: vec2<i32>, to: vec2<u32>) {
    if UNSIGNED {
        x_moved[to.x] = moved.x;
        w_moved[to.y] = moved.y;
    }
}

// What the sums of a block are moved back by (trick 10).
fn moved_back(local: vec2<u32>) -> Integers {
    if !UNSIGNED {
        return Integers();
    }
    let x_at = 2u * local.x;
    let x = vec4<i32>(
        x_moved[x_at] + x_moved[x_at + 1u],
        x_moved[x_at + 2u * SIDE] + x_moved[x_at + 2u * SIDE + 1u],
        x_moved[x_at + 4u * SIDE] + x_moved[x_at + 4u * SIDE + 1u],
        x_moved[x_at + 6u * SIDE] + x_moved[x_at + 6u * SIDE + 1u],
    );
    let at = SCALES * local.y;
    let upper_at = at + SCALES * SIDE;
    return Integers(
        x + w_moved[at], x + w_moved[at + 1u], x + w_moved[at + 2u], x + w_moved[at + 3u],
        x + w_moved[upper_at], x + w_moved[upper_at + 1u], x + w_moved[upper_at + 2u], x + w_moved[upper_at + 3u],
    );
}

fn plus(a: Integers, b: Integers) -> Integers {
    return Integers(
        a.o0 + b.o0, a.o1 + b.o1, a.o2 + b.o2, a.o3 + b.o3, a.o4 + b.o4, a.o5 + b.o5, a.o6 + b.o6, a.o7 + b.o7,
    );
}

// Four quads of a row of the input; what lies past the block's end is 0.
fn ragged_quads(row: u32, quad: u32, end: u32) -> vec4<u32> {
    let at = row + quad;
    var x = vec4<u32>();
    if quad < end { x.x = input_word(at); }
    if quad + 1u < end { x.y = input_word(at + 1u); }
    if quad + 2u < end { x.z = input_word(at + 2u); }
    if quad + 3u < end { x.w = input_word(at + 3u); }
    return x;
}
