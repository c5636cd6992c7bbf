// The implicit matrix product of conv_gemm with integer activations: a workgroup computes 32 pixels x
// 64 output channels of one group, each thread 4 x 8. Integer products are summed exactly over a block,
// four channels an instruction, then meet alpha and the activation's scale once. Weights are unpacked
// on the way into workgroup memory, once for 32 pixels.

const STEP = 8u; // quads of a step: two entries of a tile

var<workgroup> x_tile: array<vec4<u32>, 64>; // [half][pixel], four quads
var<workgroup> w_tile: array<vec4<u32>, 128>; // [half][output channel], four quads
var<workgroup> x_scale: array<vec2<f32>, 32>; // of a pixel's block: scale, scaled sum
var<workgroup> w_scale: array<vec2<f32>, 64>; // of an output channel's block: alpha, KDS bias

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
    let tile = tile_place(work, PIXELS, OUTPUTS);
    let first_output = tile.output;
    let group = tile.group;
    let first_pixel = tile.pixel;

    // A thread fills one entry of the input's tile, half a row of a pixel, and two of the weights', both
    // of one output channel. Outputs past the last compute the last one again, and are not stored.
    let pixel = pixel_place(first_pixel + lane / 2u);
    let x_half = lane % 2u;
    let channel = group * params.outputs + min(first_output + lane, params.outputs - 1u);

    // Sums of a pixel for outputs 0 to 3 and 4 to 7 of this thread.
    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var b0 = vec4<f32>();
    var b1 = vec4<f32>();
    var b2 = vec4<f32>();
    var b3 = vec4<f32>();
    for (var tap = 0u; tap < params.taps; tap++) {
        let row = integer_row(pixel, group, tap);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(start + params.block_quads, params.row_quads, block + 1u == params.block_count);
            w_scale[lane] = block_shift(tap, block, channel);
            if x_half == 0u {
                x_scale[lane / 2u] = integer_scale(row, block);
            }
            var p0 = vec4<i32>();
            var p1 = vec4<i32>();
            var p2 = vec4<i32>();
            var p3 = vec4<i32>();
            var q0 = vec4<i32>();
            var q1 = vec4<i32>();
            var q2 = vec4<i32>();
            var q3 = vec4<i32>();
            for (; start < end; start += STEP) {
                x_tile[x_half * PIXELS + lane / 2u] = load_mantissas(row, start + 4u * x_half, end);
                w_tile[lane] = load_integers(tap, start, end, channel);
                w_tile[OUTPUTS + lane] = load_integers(tap, start + 4u, end, channel);
                workgroupBarrier();
                for (var half = 0u; half < 2u; half++) {
                    let x_at = half * PIXELS + local.x;
                    let x0 = x_tile[x_at];
                    let x1 = x_tile[x_at + 8u];
                    let x2 = x_tile[x_at + 16u];
                    let x3 = x_tile[x_at + 24u];
                    let w_at = half * OUTPUTS + local.y;
                    let w0 = w_tile[w_at];
                    let w1 = w_tile[w_at + 8u];
                    let w2 = w_tile[w_at + 16u];
                    let w3 = w_tile[w_at + 24u];
                    p0 = add_dots(p0, x0, w0, w1, w2, w3);
                    p1 = add_dots(p1, x1, w0, w1, w2, w3);
                    p2 = add_dots(p2, x2, w0, w1, w2, w3);
                    p3 = add_dots(p3, x3, w0, w1, w2, w3);
                    let w4 = w_tile[w_at + 32u];
                    let w5 = w_tile[w_at + 40u];
                    let w6 = w_tile[w_at + 48u];
                    let w7 = w_tile[w_at + 56u];
                    q0 = add_dots(q0, x0, w4, w5, w6, w7);
                    q1 = add_dots(q1, x1, w4, w5, w6, w7);
                    q2 = add_dots(q2, x2, w4, w5, w6, w7);
                    q3 = add_dots(q3, x3, w4, w5, w6, w7);
                }
                workgroupBarrier();
            }
            start = end;
            // Packed integers are aligned to the top of their bytes: times 2^(8 - BITS).
            let top = 1.0 / f32(1u << (8u - BITS));
            let alpha_a = top * vec4<f32>(
                w_scale[local.y].x, w_scale[local.y + 8u].x, w_scale[local.y + 16u].x, w_scale[local.y + 24u].x,
            );
            let alpha_b = top * vec4<f32>(
                w_scale[local.y + 32u].x, w_scale[local.y + 40u].x, w_scale[local.y + 48u].x, w_scale[local.y + 56u].x,
            );
            let s0 = x_scale[local.x];
            let s1 = x_scale[local.x + 8u];
            let s2 = x_scale[local.x + 16u];
            let s3 = x_scale[local.x + 24u];
            a0 += vec4<f32>(p0) * (alpha_a * s0.x);
            a1 += vec4<f32>(p1) * (alpha_a * s1.x);
            a2 += vec4<f32>(p2) * (alpha_a * s2.x);
            a3 += vec4<f32>(p3) * (alpha_a * s3.x);
            b0 += vec4<f32>(q0) * (alpha_b * s0.x);
            b1 += vec4<f32>(q1) * (alpha_b * s1.x);
            b2 += vec4<f32>(q2) * (alpha_b * s2.x);
            b3 += vec4<f32>(q3) * (alpha_b * s3.x);
            if params.kds_bias_at != NONE {
                let kds_a = vec4<f32>(
                    w_scale[local.y].y, w_scale[local.y + 8u].y, w_scale[local.y + 16u].y, w_scale[local.y + 24u].y,
                );
                let kds_b = vec4<f32>(
                    w_scale[local.y + 32u].y, w_scale[local.y + 40u].y, w_scale[local.y + 48u].y, w_scale[local.y + 56u].y,
                );
                a0 += kds_a * s0.y;
                a1 += kds_a * s1.y;
                a2 += kds_a * s2.y;
                a3 += kds_a * s3.y;
                b0 += kds_b * s0.y;
                b1 += kds_b * s1.y;
                b2 += kds_b * s2.y;
                b3 += kds_b * s3.y;
            }
            // The next block's scales must not overtake these reads.
            workgroupBarrier();
        }
    }
    store_eight(tile, local.xy, 0u, a0, b0);
    store_eight(tile, local.xy, 1u, a1, b1);
    store_eight(tile, local.xy, 2u, a2, b2);
    store_eight(tile, local.xy, 3u, a3, b3);
}

// Adds sixteen channels of a pixel times those of four outputs.
fn add_dots(sums: vec4<i32>, x: vec4<u32>, w0: vec4<u32>, w1: vec4<u32>, w2: vec4<u32>, w3: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(add_dot(sums.x, x, w0), add_dot(sums.y, x, w1), add_dot(sums.z, x, w2), add_dot(sums.w, x, w3));
}

fn add_dot(sum: i32, x: vec4<u32>, w: vec4<u32>) -> i32 {
    return sum + dot4I8Packed(x.x, w.x) + dot4I8Packed(x.y, w.y) + dot4I8Packed(x.z, w.z) + dot4I8Packed(x.w, w.w);
}

// Four quads of a row of the input; 0 past the block's end and where there is no row.
fn load_mantissas(row: u32, quad: u32, end: u32) -> vec4<u32> {
    var words = vec4<u32>();
    if row == NONE {
        return words;
    }
    let at = row * params.row_quads + quad;
    if quad < end { words.x = input[at]; }
    if quad + 1u < end { words.y = input[at + 1u]; }
    if quad + 2u < end { words.z = input[at + 2u]; }
    if quad + 3u < end { words.w = input[at + 3u]; }
    return words;
}

// Four quads of packed integers; what lies past the block's end meets zeros of the input.
fn load_integers(tap: u32, quad: u32, end: u32, channel: u32) -> vec4<u32> {
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

fn staged(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(w_tile[at]);
}
