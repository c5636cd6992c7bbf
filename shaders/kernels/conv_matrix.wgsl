// #import params, coordinates, unpack_weights, weights_{weights}, weight_scales, tiles
// #import gemm_input_float, epilogue, matrix_{size}

// Convolution as an implicit matrix product on the matrix units of GPUs ("tensor cores"): products of halves, sums in
// 32-bit floats.
//
//     for each tap, block of input channels, step of 16 channels of the block:
//         x[pixel][channel]  = half(input at pixel + tap)                                   -> workgroup memory
//         w[output][channel] = half(matrix_factor * (alpha[block][output] * q + kds_bias))  -> workgroup memory
//         sum[pixel][output] += x[pixel][channel] * w[output][channel]                         by matrices
//     output[pixel][output] = epilogue(sum[pixel][output] / matrix_factor)
//
// A workgroup computes TILE pixels x TILE output channels of one group, with as many threads: a thread brings the 16
// channels of one pixel and those of one output channel into workgroup memory. A tile is four patches, two by two, and
// a patch 4 x 4 matrices of SIZE x SIZE. In the drawing a dot is a matrix, and # are those of patch 1:
//
//              output   0            64           127
//     pixel 0           . . . .      # # # #
//                       . . . .      # # # #
//                       . . . .      # # # #
//                       . . . .      # # # #
//          64           . . . .      . . . .
//                       ...          ...
//
// A subgroup computes one patch, or two where a workgroup may have as few as two subgroups (PATCHES). Where there are
// more of them than patches, some compute the last patch again.
//
// Why it is as it is:
//
// 1. Alpha changes along the sum, so weights are scaled before the product, once for all pixels of the tile.
// 2. `matrix_factor`, a power of two, brings the layer's largest weight near a half's upper end, so that small ones
//    keep their precision.
// 3. In both tiles the channels of a row are neighbours, so that a matrix is loaded by a few wide loads. Rows are
//    padded so that rows which are loaded together lie in different banks.
// 4. Padding is loaded like everything else, from row 0, and stored in this thread's own row of w, which the thread
//    fills right afterwards. The zeros that x holds instead are stored once for a whole tap.
// 5. Sums have names: an array that a loop variable indexes would leave the registers.
// 6. Bytes are unpacked as unsigned ones, moved by 128, which AMD's chips do in one instruction each. Scaling moves
//    them back: 128 times alpha is exact.
// 7. Sums leave by way of workgroup memory, because nobody knows which thread holds which sum of a matrix.

// Patches of a subgroup: 1, or 2 where a workgroup may have two subgroups only.
override PATCHES: u32 = 1;
// Whether every block is a whole number of steps, of 16 channels: then nothing is cut off at a block's end.
override WHOLE_STEPS: bool = false;

const STEP = 4u; // quads of a step
const TILE_PATCHES = 4u;
const SIDE = 4u; // matrices of a patch, each way
const PATCH = SIDE * SIZE; // pixels of a patch, and output channels

// The sums of a patch, a matrix each: row by row, a row has the matrices of the same pixels.
struct Patch {
    c00: MatrixC,
    c01: MatrixC,
    c02: MatrixC,
    c03: MatrixC,
    c10: MatrixC,
    c11: MatrixC,
    c12: MatrixC,
    c13: MatrixC,
    c20: MatrixC,
    c21: MatrixC,
    c22: MatrixC,
    c23: MatrixC,
    c30: MatrixC,
    c31: MatrixC,
    c32: MatrixC,
    c33: MatrixC,
}

@compute @workgroup_size(TILE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let index = workgroup_index(workgroup, grid);
    if index >= params.workgroups {
        return;
    }
    let tile = tile_place(index, TILE, TILE);
    let pixel = output_pixel(tile.first_pixel + thread);
    let channel = tile_channel(tile, thread);
    let x_to = ROW * thread;
    let w_to = ROW * (TILE + thread);
    // From a quad of float weights to the next three.
    let w_quads = vec3<u32>(1u, 2u, 3u) * params.all_outputs;
    let w_step = select(next_sixteen(), vec3<u32>(STEP * params.all_outputs, 0u, 0u), BITS == 32u);
    let number = min(subgroup, TILE_PATCHES / PATCHES - 1u);
    let x_from = ROW * PATCH * (PATCHES * number / 2u);
    let w_from = ROW * (TILE + PATCH * (PATCHES * number % 2u));

    var first = Patch();
    var second = Patch();
    for (var tap = 0u; tap < params.taps; tap++) {
        // Trick 4.
        let found = input_row(pixel, tile.group, tap);
        let row = select(found, 0u, found == NONE);
        let from_quad = quad_from(row, 0u);
        let to = select(x_to, w_to, found == NONE);
        if found == NONE {
            put_row(x_to, vec4<f32>(), vec4<f32>(), vec4<f32>(), vec4<f32>());
        }
        var w_at = first_sixteen(tap, channel);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(start, block);
            let scale = weight_scale(tap, block, channel);
            let factor = params.matrix_factor;
            let scaled = WeightScale(scale.alpha * byte_scale() * factor, scale.kds_bias * factor);
            loop {
                if WHOLE_STEPS {
                    put_row(
                        to,
                        load_quad(from_quad, start, 1.0), load_quad(from_quad, start + 1u, 1.0),
                        load_quad(from_quad, start + 2u, 1.0), load_quad(from_quad, start + 3u, 1.0),
                    );
                    let odd = start / STEP % 2u;
                    put_weights(w_at, odd, channel, w_quads, scaled, w_to);
                    w_at += w_step + vec3<u32>(0u, 0u, odd * params.all_outputs);
                } else {
                    put_row(
                        to,
                        load_ragged_quad(row, start, end, block, 1.0),
                        load_ragged_quad(row, start + 1u, end, block, 1.0),
                        load_ragged_quad(row, start + 2u, end, block, 1.0),
                        load_ragged_quad(row, start + 3u, end, block, 1.0),
                    );
                    put_ragged_weights(tap, start, end, channel, scaled, w_to);
                }
                workgroupBarrier();
                for (var k = 0u; k < MATRICES_OF_A_STEP; k++) {
                    let x_at = x_from + MATRIX_STEP * k;
                    let w_first = w_from + MATRIX_STEP * k;
                    let x0 = load_a(x_at);
                    let x1 = load_a(x_at + SIZE * ROW);
                    let x2 = load_a(x_at + 2u * SIZE * ROW);
                    let x3 = load_a(x_at + 3u * SIZE * ROW);
                    add_products(&first, x0, x1, x2, x3, w_first);
                    if PATCHES == 2u {
                        add_products(&second, x0, x1, x2, x3, w_first + PATCH * ROW);
                    }
                }
                workgroupBarrier();
                start += STEP;
                if start >= end {
                    break;
                }
            }
            start = end;
        }
    }
    store_patch(tile, thread, number, 0u, &first);
    if PATCHES == 2u {
        store_patch(tile, thread, number, 1u, &second);
    }
}

// The matrix whose rows are pixels.
fn load_a(at: u32) -> MatrixA {
    return coopLoadT<MatrixA>(&tiles[at], ROW);
}

// The matrix whose columns are output channels.
fn load_b(at: u32) -> MatrixB {
    return coopLoad<MatrixB>(&tiles[at], ROW);
}

// Adds the products of four matrices of pixels with four of output channels.
fn add_products(sums: ptr<function, Patch>, x0: MatrixA, x1: MatrixA, x2: MatrixA, x3: MatrixA, w_at: u32) {
    let w0 = load_b(w_at);
    (*sums).c00 = coopMultiplyAdd(x0, w0, (*sums).c00);
    (*sums).c10 = coopMultiplyAdd(x1, w0, (*sums).c10);
    (*sums).c20 = coopMultiplyAdd(x2, w0, (*sums).c20);
    (*sums).c30 = coopMultiplyAdd(x3, w0, (*sums).c30);
    let w1 = load_b(w_at + SIZE * ROW);
    (*sums).c01 = coopMultiplyAdd(x0, w1, (*sums).c01);
    (*sums).c11 = coopMultiplyAdd(x1, w1, (*sums).c11);
    (*sums).c21 = coopMultiplyAdd(x2, w1, (*sums).c21);
    (*sums).c31 = coopMultiplyAdd(x3, w1, (*sums).c31);
    let w2 = load_b(w_at + 2u * SIZE * ROW);
    (*sums).c02 = coopMultiplyAdd(x0, w2, (*sums).c02);
    (*sums).c12 = coopMultiplyAdd(x1, w2, (*sums).c12);
    (*sums).c22 = coopMultiplyAdd(x2, w2, (*sums).c22);
    (*sums).c32 = coopMultiplyAdd(x3, w2, (*sums).c32);
    let w3 = load_b(w_at + 3u * SIZE * ROW);
    (*sums).c03 = coopMultiplyAdd(x0, w3, (*sums).c03);
    (*sums).c13 = coopMultiplyAdd(x1, w3, (*sums).c13);
    (*sums).c23 = coopMultiplyAdd(x2, w3, (*sums).c23);
    (*sums).c33 = coopMultiplyAdd(x3, w3, (*sums).c33);
}

// Fills a row of the weights' tile, a step's sixteen channels of one output channel.
fn put_weights(at: vec3<u32>, odd: u32, channel: u32, quads: vec3<u32>, scale: WeightScale, row: u32) {
    if BITS == 32u {
        put_row(
            row,
            bitcast<vec4<f32>>(weight_four(at.x)) * scale.alpha,
            bitcast<vec4<f32>>(weight_four(at.x + quads.x)) * scale.alpha,
            bitcast<vec4<f32>>(weight_four(at.x + quads.y)) * scale.alpha,
            bitcast<vec4<f32>>(weight_four(at.x + quads.z)) * scale.alpha,
        );
        return;
    }
    let bytes = unpack_sixteen(at, odd, channel, quads.x);
    // Trick 6.
    let moved = WeightScale(scale.alpha, scale.kds_bias - 128.0 * scale.alpha);
    put_row(
        row, scaled_quad(bytes.x, moved), scaled_quad(bytes.y, moved), scaled_quad(bytes.z, moved),
        scaled_quad(bytes.w, moved),
    );
}

// The weights of a word's four bytes, with a scale for moved ones.
fn scaled_quad(bytes: u32, scale: WeightScale) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(bytes ^ 0x80808080u)) * scale.alpha + scale.kds_bias;
}

// The same up to the block's end. What lies past it meets zeros of the input, so it must be a number: the last quad
// comes again.
fn put_ragged_weights(tap: u32, start: u32, end: u32, channel: u32, scale: WeightScale, row: u32) {
    let quads = min(start + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end - 1u));
    put_row(
        row,
        weight_bytes(tap, quads.x, channel) * scale.alpha + scale.kds_bias,
        weight_bytes(tap, quads.y, channel) * scale.alpha + scale.kds_bias,
        weight_bytes(tap, quads.z, channel) * scale.alpha + scale.kds_bias,
        weight_bytes(tap, quads.w, channel) * scale.alpha + scale.kds_bias,
    );
}

// Stores the `which`th patch of every subgroup, matrix by matrix through workgroup memory, where each has the place of
// that number. Subgroups that compute the same patch bring the same sums to the same place.
fn store_patch(tile: Tile, thread: u32, number: u32, which: u32, sums: ptr<function, Patch>) {
    for (var i = 0u; i < SIDE * SIDE; i++) {
        stage(number, i, sums);
        workgroupBarrier();
        for (var at = thread; at < TILE_PATCHES / PATCHES * SIZE * SIZE; at += TILE) {
            // Neighbouring threads store neighbouring channels, or else pixels.
            let slow = at / SIZE % SIZE;
            let fast = at % SIZE;
            let row = select(fast, slow, params.output_c == 1u);
            let column = select(slow, fast, params.output_c == 1u);
            let from_number = at / (SIZE * SIZE);
            let patch_number = PATCHES * from_number + which;
            let pixel = output_pixel(tile.first_pixel + PATCH * (patch_number / 2u) + SIZE * (i / SIDE) + row);
            let output = tile.first_output + PATCH * (patch_number % 2u) + SIZE * (i % SIDE) + column;
            if pixel.valid && output < params.outputs {
                let place = OutputPlace(pixel.image, tile.group * params.outputs + output, pixel.y, pixel.x);
                store_output(place, staged(from_number, row, column) / params.matrix_factor);
            }
        }
        workgroupBarrier();
    }
}

// Stages one matrix of a patch. naga wants each store in a block of its own, of a value that has a name.
fn stage(to: u32, matrix: u32, sums: ptr<function, Patch>) {
    switch matrix {
        case 0u: { let c = (*sums).c00; store_c(to, c); }
        case 1u: { let c = (*sums).c01; store_c(to, c); }
        case 2u: { let c = (*sums).c02; store_c(to, c); }
        case 3u: { let c = (*sums).c03; store_c(to, c); }
        case 4u: { let c = (*sums).c10; store_c(to, c); }
        case 5u: { let c = (*sums).c11; store_c(to, c); }
        case 6u: { let c = (*sums).c12; store_c(to, c); }
        case 7u: { let c = (*sums).c13; store_c(to, c); }
        case 8u: { let c = (*sums).c20; store_c(to, c); }
        case 9u: { let c = (*sums).c21; store_c(to, c); }
        case 10u: { let c = (*sums).c22; store_c(to, c); }
        case 11u: { let c = (*sums).c23; store_c(to, c); }
        case 12u: { let c = (*sums).c30; store_c(to, c); }
        case 13u: { let c = (*sums).c31; store_c(to, c); }
        case 14u: { let c = (*sums).c32; store_c(to, c); }
        default: { let c = (*sums).c33; store_c(to, c); }
    }
}

// Stages a matrix of sums.
fn store_c(subgroup: u32, matrix: MatrixC) {
    let at = SIZE * SIZE * subgroup;
    coopStoreT(matrix, &staged_sums[at], SIZE);
}

// Reads a staged sum.
fn staged(subgroup: u32, row: u32, column: u32) -> f32 {
    return staged_sums[SIZE * (SIZE * subgroup + row) + column];
}
