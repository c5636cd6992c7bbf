// #import params, coordinates, unpack_weights, weight_scales, tiles
// #import weights_{weights}, gemm, gemm_tile_{tiles}, gemm_input_{activations}, gemm_output

// Convolution as an implicit matrix product in floats, for GPUs: pixels x output channels, summed over taps and
// channels.
//
//     for each tap, block of input channels, step of 16 channels of the block:
//         x[channel][pixel]  = input at pixel + tap                        -> workgroup memory
//         w[channel][output] = alpha[block][output] * q + kds_bias         -> workgroup memory
//         sum[pixel][output] += x[channel][pixel] * w[channel][output]        for all 16 channels
//     output[pixel][output] = epilogue(sum[pixel][output])
//
// A workgroup of 8 x 8 threads computes TILE_PIXELS x 64 outputs of one group; thread (x, y) the pixels x + 8i and
// the output channels y + 8k. In the drawing of a tile, # are the sums of thread (1, 2): 4 x 8 of them, or 8 x 8 in
// wide tiles, which have 64 pixels.
//
//                pixel   0       8       16      24    31
//     channel     0      ................................
//                 1      ................................
//                 2      .#.......#.......#.......#......
//                 3      ................................
//                ...
//                10      .#.......#.......#.......#......
//                ...
//                58      .#.......#.......#.......#......
//                ...
//                63      ................................
//
// Workgroup memory, 8 KB, holds what a step needs. An entry is a quad: four input channels, 16 bytes.
//
//     tiles[0..256]     x: [4 quads][64 pixels], of which narrow tiles use 32
//     tiles[256..512]   w: [4 quads][64 output channels]; behind the main loop the sums, on their way out
//
// Of x a thread fills two entries, or four in wide tiles; of w a column, the four quads of output channel `thread`.
//
// The tricks, and why:
//
// 1. Weights are unpacked and scaled on the way into workgroup memory, once for all pixels of the tile. A thread does
//    it for one output channel, so it loads alpha and KDS bias once per block.
// 2. Nothing in registers is indexed by a variable: an array that a loop variable indexes would leave the registers.
//    So sums have names, and loops over them are written out.
// 3. A product of quads is a chain of four fused multiply-adds. A `dot` would take five instructions.
// 4. Padding is loaded like everything else, from row 0, and stored in this thread's own column of w, which the
//    thread fills right afterwards. The zeros that x holds instead are stored once for a whole tap. So neither a
//    branch nor a select stands between the loads of a step, and they can all be under way at once.
// 5. In x, the second pair of quads is permuted: its pixels' numbers are taken exclusive or 4. So threads that write
//    or read together use different banks of workgroup memory, and it costs no memory: with one more entry per quad
//    seven workgroups would fit on a compute unit of an AMD GPU instead of eight.
// 6. Places of weights move on by additions, places that do not change in a loop are computed before it, and loops
//    test at their end, since there is at least one step: Mesa's compiler does none of these by itself.
// 7. With WHOLE_STEPS all shifts and masks are known when this is compiled, and loads bring 16 bytes where layouts
//    permit.
// 8. Outputs past the last compute the last one again, see `tile_channel`, and are not stored.
// 9. Wide tiles read workgroup memory half as often per product, and unpack weights once for twice the pixels.

// Pixels of a workgroup: 32, or 64 where there is work for a whole device (the host decides: conv_gemm_wide).
override TILE_PIXELS: u32 = 32;
// Whether every block is a whole number of steps, of 16 channels: then nothing is cut off at a block's end.
override WHOLE_STEPS: bool = false;

const STEP = 4u; // quads of a step
const HALF_WIDE = 32u; // pixels of half a wide tile

// Sums of four pixels, 0 to 3, each for a thread's first four output channels (a) and for its others (b).
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

    // A thread loads two neighbouring quads of one pixel, or of two 32 apart, dealt so that neighbouring threads
    // read neighbouring elements: pixels of one channel, or channels of one pixel.
    let channels_last = CHANNELS_LAST || (!WHOLE_STEPS && params.input_c == 1u);
    let x_quad = 2u * select(thread / 32u, thread % 2u, channels_last);
    let x_pixel = select(thread % 32u, thread / 2u, channels_last);
    let pixel_0 = output_pixel(tile.first_pixel + x_pixel);
    let pixel_1 = output_pixel(tile.first_pixel + x_pixel + HALF_WIDE);
    let x_to = x_place(x_quad, x_pixel);
    let column = WEIGHTS + thread;
    let channel = tile_channel(tile, thread);
    // From a quad of float weights to the next three.
    let w_quads = vec3<u32>(1u, 2u, 3u) * params.all_outputs;
    let w_step = select(next_sixteen(), vec3<u32>(STEP * params.all_outputs, 0u, 0u), BITS == 32u);
    let w_from = WEIGHTS + local.y;
    let x_from = x_place(0u, local.x);
    let x_from_permuted = x_place(2u, local.x);

    var lower = Sums();
    var upper = Sums(); // of the pixels HALF_WIDE further, in wide tiles
    for (var tap = 0u; tap < params.taps; tap++) {
        // Trick 4.
        let at_0 = input_row(pixel_0, tile.group, tap);
        let at_1 = input_row(pixel_1, tile.group, tap);
        let row_0 = select(at_0, 0u, at_0 == NONE);
        let row_1 = select(at_1, 0u, at_1 == NONE);
        let from_0 = quad_from(row_0, x_quad);
        let from_1 = quad_from(row_1, x_quad);
        let to_0 = select(x_to, column, at_0 == NONE);
        let to_1 = select(x_to + HALF_WIDE, column, at_1 == NONE);
        if at_0 == NONE {
            tiles[x_to] = vec4<f32>();
            tiles[x_to + QUAD] = vec4<f32>();
        }
        if TILE_PIXELS == 64u && at_1 == NONE {
            tiles[x_to + HALF_WIDE] = vec4<f32>();
            tiles[x_to + HALF_WIDE + QUAD] = vec4<f32>();
        }
        var w_at = first_sixteen(tap, channel);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(start, block);
            let w_scale = weight_scale(tap, block, channel);
            let byte_alpha = w_scale.alpha * byte_scale();
            let x_scale_0 = input_scale(row_0, block);
            let x_scale_1 = input_scale(row_1, block);
            // Trick 6: a block has at least one step.
            loop {
                if WHOLE_STEPS {
                    tiles[to_0] = load_quad(from_0, start, x_scale_0);
                    tiles[to_0 + QUAD] = load_quad(from_0, start + 1u, x_scale_0);
                    if TILE_PIXELS == 64u {
                        tiles[to_1] = load_quad(from_1, start, x_scale_1);
                        tiles[to_1 + QUAD] = load_quad(from_1, start + 1u, x_scale_1);
                    }
                    let odd = start / STEP % 2u;
                    fill_weights(w_at, odd, channel, w_quads, WeightScale(byte_alpha, w_scale.kds_bias), column);
                    w_at += w_step + vec3<u32>(0u, 0u, odd * params.all_outputs);
                } else {
                    let quad = start + x_quad;
                    tiles[to_0] = load_ragged_quad(row_0, quad, end, block, x_scale_0);
                    tiles[to_0 + QUAD] = load_ragged_quad(row_0, quad + 1u, end, block, x_scale_0);
                    if TILE_PIXELS == 64u {
                        tiles[to_1] = load_ragged_quad(row_1, quad, end, block, x_scale_1);
                        tiles[to_1 + QUAD] = load_ragged_quad(row_1, quad + 1u, end, block, x_scale_1);
                    }
                    fill_ragged_weights(tap, start, end, channel, WeightScale(byte_alpha, w_scale.kds_bias), column);
                }
                workgroupBarrier();
                add_quads(&lower, &upper, x_from, w_from);
                add_quads(&lower, &upper, x_from + QUAD, w_from + QUAD);
                add_quads(&lower, &upper, x_from_permuted, w_from + 2u * QUAD);
                add_quads(&lower, &upper, x_from_permuted + QUAD, w_from + 3u * QUAD);
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
        store(tile, local.xy, HALF_WIDE / SIDE, upper);
    }
}

// Stores four pixels of a thread, from its `number`th on.
fn store(tile: Tile, local: vec2<u32>, number: u32, sums: Sums) {
    store_two(tile, local, number, sums.a0, sums.b0, sums.a1, sums.b1);
    store_two(tile, local, number + 2u, sums.a2, sums.b2, sums.a3, sums.b3);
}

// Where a pixel's quad lies in the tile (trick 5). A multiple of 8 may be added for other pixels of a thread, and
// QUAD for the other quad of the pair.
fn x_place(quad: u32, pixel: u32) -> u32 {
    return QUAD * quad + (pixel ^ (4u * (quad / 2u)));
}

// Adds the products of a quad: all pixels of a thread times all of its outputs. Neighbouring threads read neighbouring
// entries: no bank is asked twice. Written out for trick 2.
fn add_quads(lower: ptr<function, Sums>, upper: ptr<function, Sums>, x_at: u32, w_at: u32) {
    let w0 = tiles[w_at];
    let w1 = tiles[w_at + SIDE];
    let w2 = tiles[w_at + 2u * SIDE];
    let w3 = tiles[w_at + 3u * SIDE];
    let w4 = tiles[w_at + 4u * SIDE];
    let w5 = tiles[w_at + 5u * SIDE];
    let w6 = tiles[w_at + 6u * SIDE];
    let w7 = tiles[w_at + 7u * SIDE];
    let x0 = tiles[x_at];
    (*lower).a0 = add_quad((*lower).a0, x0, w0, w1, w2, w3);
    (*lower).b0 = add_quad((*lower).b0, x0, w4, w5, w6, w7);
    let x1 = tiles[x_at + SIDE];
    (*lower).a1 = add_quad((*lower).a1, x1, w0, w1, w2, w3);
    (*lower).b1 = add_quad((*lower).b1, x1, w4, w5, w6, w7);
    let x2 = tiles[x_at + 2u * SIDE];
    (*lower).a2 = add_quad((*lower).a2, x2, w0, w1, w2, w3);
    (*lower).b2 = add_quad((*lower).b2, x2, w4, w5, w6, w7);
    let x3 = tiles[x_at + 3u * SIDE];
    (*lower).a3 = add_quad((*lower).a3, x3, w0, w1, w2, w3);
    (*lower).b3 = add_quad((*lower).b3, x3, w4, w5, w6, w7);
    if TILE_PIXELS == 64u {
        let x4 = tiles[x_at + HALF_WIDE];
        (*upper).a0 = add_quad((*upper).a0, x4, w0, w1, w2, w3);
        (*upper).b0 = add_quad((*upper).b0, x4, w4, w5, w6, w7);
        let x5 = tiles[x_at + HALF_WIDE + SIDE];
        (*upper).a1 = add_quad((*upper).a1, x5, w0, w1, w2, w3);
        (*upper).b1 = add_quad((*upper).b1, x5, w4, w5, w6, w7);
        let x6 = tiles[x_at + HALF_WIDE + 2u * SIDE];
        (*upper).a2 = add_quad((*upper).a2, x6, w0, w1, w2, w3);
        (*upper).b2 = add_quad((*upper).b2, x6, w4, w5, w6, w7);
        let x7 = tiles[x_at + HALF_WIDE + 3u * SIDE];
        (*upper).a3 = add_quad((*upper).a3, x7, w0, w1, w2, w3);
        (*upper).b3 = add_quad((*upper).b3, x7, w4, w5, w6, w7);
    }
}

// Adds four channels of a pixel times those of four outputs (trick 3).
fn add_quad(sums: vec4<f32>, x: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    var total = sums + x.x * vec4<f32>(w0.x, w1.x, w2.x, w3.x);
    total += x.y * vec4<f32>(w0.y, w1.y, w2.y, w3.y);
    total += x.z * vec4<f32>(w0.z, w1.z, w2.z, w3.z);
    total += x.w * vec4<f32>(w0.w, w1.w, w2.w, w3.w);
    return total;
}

// Fills a column of the weights' tile, a step's quads of one output channel (trick 1). `scale` is for bytes: its
// alpha has been multiplied by `byte_scale`.
fn fill_weights(at: vec3<u32>, odd: u32, channel: u32, quads: vec3<u32>, scale: WeightScale, column: u32) {
    if BITS == 32u {
        tiles[column] = bitcast<vec4<f32>>(weight_four(at.x));
        tiles[column + QUAD] = bitcast<vec4<f32>>(weight_four(at.x + quads.x));
        tiles[column + 2u * QUAD] = bitcast<vec4<f32>>(weight_four(at.x + quads.y));
        tiles[column + 3u * QUAD] = bitcast<vec4<f32>>(weight_four(at.x + quads.z));
        return;
    }
    let bytes = unpack_sixteen(at, odd, channel, quads.x);
    tiles[column] = byte_floats(bytes.x) * scale.alpha + scale.kds_bias;
    tiles[column + QUAD] = byte_floats(bytes.y) * scale.alpha + scale.kds_bias;
    tiles[column + 2u * QUAD] = byte_floats(bytes.z) * scale.alpha + scale.kds_bias;
    tiles[column + 3u * QUAD] = byte_floats(bytes.w) * scale.alpha + scale.kds_bias;
}

// The same up to the block's end. What lies past it meets zeros of the input, so it must be a number: the last quad
// comes again.
fn fill_ragged_weights(tap: u32, start: u32, end: u32, channel: u32, scale: WeightScale, column: u32) {
    for (var quad = 0u; quad < STEP; quad++) {
        let bytes = weight_bytes(tap, min(start + quad, end - 1u), channel);
        tiles[column + QUAD * quad] = bytes * scale.alpha + scale.kds_bias;
    }
}
