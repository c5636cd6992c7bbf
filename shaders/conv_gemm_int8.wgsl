// The implicit matrix product of conv_gemm with integer activations: a workgroup computes 32 pixels x
// 32 output channels of one group, each thread 4 x 4. Integer products are summed exactly over a block,
// four channels an instruction, then meet alpha and the activation's scale once. Weights are unpacked
// on the way into workgroup memory, once for 32 pixels.

const TILE = 32u; // pixels, and output channels, of a workgroup
const STEP = 8u; // quads of a step

var<workgroup> x_tile: array<u32, 256>; // [quad][pixel]
var<workgroup> w_tile: array<u32, 256>; // [quad][output channel]
var<workgroup> x_scale: array<vec2<f32>, 32>; // of a pixel's block: scale, scaled sum
var<workgroup> w_scale: array<vec2<f32>, 32>; // of an output channel's block: alpha, KDS bias

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
    let output_tiles = (params.outputs + TILE - 1u) / TILE;
    let first_output = work % output_tiles * TILE;
    let group = work / output_tiles % params.groups;
    let first_pixel = work / output_tiles / params.groups * TILE;

    // Each thread fills four entries of each tile. Inputs: neighbouring threads read neighbouring quads.
    let x_quad = lane % STEP;
    let pixel_0 = pixel_place(first_pixel + lane / STEP);
    let pixel_1 = pixel_place(first_pixel + lane / STEP + 8u);
    let pixel_2 = pixel_place(first_pixel + lane / STEP + 16u);
    let pixel_3 = pixel_place(first_pixel + lane / STEP + 24u);
    let scale_pixel = pixel_place(first_pixel + lane % TILE);
    let w_exists = first_output + lane % TILE < params.outputs;
    let w_channel = group * params.outputs + min(first_output + lane % TILE, params.outputs - 1u);
    let w_quad = lane / TILE;

    var sum_0 = vec4<f32>();
    var sum_1 = vec4<f32>();
    var sum_2 = vec4<f32>();
    var sum_3 = vec4<f32>();
    for (var tap = 0u; tap < params.taps; tap++) {
        let row_0 = integer_row(pixel_0, group, tap);
        let row_1 = integer_row(pixel_1, group, tap);
        let row_2 = integer_row(pixel_2, group, tap);
        let row_3 = integer_row(pixel_3, group, tap);
        let scale_row = integer_row(scale_pixel, group, tap);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(start + params.block_quads, params.row_quads, block + 1u == params.block_count);
            if lane < TILE {
                x_scale[lane] = integer_scale(scale_row, block);
            } else {
                w_scale[lane - TILE] = block_shift(tap, block, w_channel);
            }
            var dots_0 = vec4<i32>();
            var dots_1 = vec4<i32>();
            var dots_2 = vec4<i32>();
            var dots_3 = vec4<i32>();
            for (; start < end; start += STEP) {
                let x_at = x_quad * TILE + lane / STEP;
                x_tile[x_at] = load_mantissas(row_0, start + x_quad, end);
                x_tile[x_at + 8u] = load_mantissas(row_1, start + x_quad, end);
                x_tile[x_at + 16u] = load_mantissas(row_2, start + x_quad, end);
                x_tile[x_at + 24u] = load_mantissas(row_3, start + x_quad, end);
                w_tile[lane] = load_integers(tap, start + w_quad, end, w_channel, w_exists);
                w_tile[lane + 64u] = load_integers(tap, start + w_quad + 2u, end, w_channel, w_exists);
                w_tile[lane + 128u] = load_integers(tap, start + w_quad + 4u, end, w_channel, w_exists);
                w_tile[lane + 192u] = load_integers(tap, start + w_quad + 6u, end, w_channel, w_exists);
                workgroupBarrier();
                for (var quad = 0u; quad < STEP; quad++) {
                    let x = quad * TILE + local.x;
                    let w = quad * TILE + local.y;
                    let w_0 = w_tile[w];
                    let w_1 = w_tile[w + 8u];
                    let w_2 = w_tile[w + 16u];
                    let w_3 = w_tile[w + 24u];
                    dots_0 += four_dots(x_tile[x], w_0, w_1, w_2, w_3);
                    dots_1 += four_dots(x_tile[x + 8u], w_0, w_1, w_2, w_3);
                    dots_2 += four_dots(x_tile[x + 16u], w_0, w_1, w_2, w_3);
                    dots_3 += four_dots(x_tile[x + 24u], w_0, w_1, w_2, w_3);
                }
                workgroupBarrier();
            }
            start = end;
            // Packed integers are aligned to the top of their bytes: times 2^(8 - BITS).
            let top = 1.0 / f32(1u << (8u - BITS));
            let alpha = vec4<f32>(
                w_scale[local.y].x, w_scale[local.y + 8u].x, w_scale[local.y + 16u].x, w_scale[local.y + 24u].x,
            );
            let kds_bias = vec4<f32>(
                w_scale[local.y].y, w_scale[local.y + 8u].y, w_scale[local.y + 16u].y, w_scale[local.y + 24u].y,
            );
            let scale_0 = x_scale[local.x];
            let scale_1 = x_scale[local.x + 8u];
            let scale_2 = x_scale[local.x + 16u];
            let scale_3 = x_scale[local.x + 24u];
            sum_0 += vec4<f32>(dots_0) * top * alpha * scale_0.x + kds_bias * scale_0.y;
            sum_1 += vec4<f32>(dots_1) * top * alpha * scale_1.x + kds_bias * scale_1.y;
            sum_2 += vec4<f32>(dots_2) * top * alpha * scale_2.x + kds_bias * scale_2.y;
            sum_3 += vec4<f32>(dots_3) * top * alpha * scale_3.x + kds_bias * scale_3.y;
            // The next block's scales must not overtake these reads.
            workgroupBarrier();
        }
    }
    store(first_pixel + local.x, group, first_output + local.y, sum_0);
    store(first_pixel + local.x + 8u, group, first_output + local.y, sum_1);
    store(first_pixel + local.x + 16u, group, first_output + local.y, sum_2);
    store(first_pixel + local.x + 24u, group, first_output + local.y, sum_3);
}

fn four_dots(x: u32, w_0: u32, w_1: u32, w_2: u32, w_3: u32) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(x, w_0), dot4I8Packed(x, w_1), dot4I8Packed(x, w_2), dot4I8Packed(x, w_3));
}

fn load_mantissas(row: u32, quad: u32, end: u32) -> u32 {
    if row == NONE || quad >= end {
        return 0u;
    }
    return input[row * params.row_quads + quad];
}

fn load_integers(tap: u32, quad: u32, end: u32, channel: u32, exists: bool) -> u32 {
    if !exists || quad >= end {
        return 0u;
    }
    return packed_quad(tap, quad, channel);
}

// Stores four output channels of a pixel, eight apart.
fn store(index: u32, group: u32, output_in_group: u32, sums: vec4<f32>) {
    let pixel = pixel_place(index);
    if pixel.valid {
        store_pixel(pixel, group, output_in_group, 8u, sums);
    }
}
