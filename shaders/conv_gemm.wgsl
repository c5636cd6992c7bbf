// Convolution as an implicit matrix product: pixels x output channels, summed over taps and channels.
// A workgroup computes 32 pixels x 32 output channels of one group, each thread 4 x 4. Sixteen
// channels at a time go through workgroup memory; weights are unpacked and scaled on the way in, once
// for 32 pixels.

const TILE = 32u; // pixels, and output channels, of a workgroup
const STEP = 4u; // quads of a step

var<workgroup> x_tile: array<vec4<f32>, 128>; // [quad][pixel], four channels
var<workgroup> w_tile: array<vec4<f32>, 128>; // [quad][output channel], four channels

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

    // Each thread fills two entries of each tile. The input's are dealt so that neighbouring threads
    // read neighbouring elements: pixels of one channel, or channels of one pixel.
    let channels_last = params.input_c == 1u;
    let x_quad = select(vec2<u32>(lane / TILE, lane / TILE + 2u), vec2<u32>(lane % STEP), channels_last);
    let x_pixel = select(vec2<u32>(lane % TILE), vec2<u32>(lane / STEP, lane / STEP + 16u), channels_last);
    let pixel_0 = pixel_place(first_pixel + x_pixel.x);
    let pixel_1 = pixel_place(first_pixel + x_pixel.y);
    let w_output = first_output + lane % TILE;
    let w_quad = lane / TILE;

    var sum_0 = vec4<f32>();
    var sum_1 = vec4<f32>();
    var sum_2 = vec4<f32>();
    var sum_3 = vec4<f32>();
    let depth = params.taps * params.row_quads;
    for (var start = 0u; start < depth; start += STEP) {
        x_tile[x_quad.x * TILE + x_pixel.x] = load_input(pixel_0, group, start + x_quad.x, depth);
        x_tile[x_quad.y * TILE + x_pixel.y] = load_input(pixel_1, group, start + x_quad.y, depth);
        w_tile[lane] = load_weights(group, w_output, start + w_quad, depth);
        w_tile[lane + 64u] = load_weights(group, w_output, start + w_quad + 2u, depth);
        workgroupBarrier();
        for (var quad = 0u; quad < STEP; quad++) {
            // Neighbouring threads read neighbouring entries: no bank is asked twice.
            let x_at = quad * TILE + local.x;
            let w_at = quad * TILE + local.y;
            let w_0 = w_tile[w_at];
            let w_1 = w_tile[w_at + 8u];
            let w_2 = w_tile[w_at + 16u];
            let w_3 = w_tile[w_at + 24u];
            let x_0 = x_tile[x_at];
            let x_1 = x_tile[x_at + 8u];
            let x_2 = x_tile[x_at + 16u];
            let x_3 = x_tile[x_at + 24u];
            sum_0 += vec4<f32>(dot(x_0, w_0), dot(x_0, w_1), dot(x_0, w_2), dot(x_0, w_3));
            sum_1 += vec4<f32>(dot(x_1, w_0), dot(x_1, w_1), dot(x_1, w_2), dot(x_1, w_3));
            sum_2 += vec4<f32>(dot(x_2, w_0), dot(x_2, w_1), dot(x_2, w_2), dot(x_2, w_3));
            sum_3 += vec4<f32>(dot(x_3, w_0), dot(x_3, w_1), dot(x_3, w_2), dot(x_3, w_3));
        }
        workgroupBarrier();
    }
    store(first_pixel + local.x, group, first_output + local.y, sum_0);
    store(first_pixel + local.x + 8u, group, first_output + local.y, sum_1);
    store(first_pixel + local.x + 16u, group, first_output + local.y, sum_2);
    store(first_pixel + local.x + 24u, group, first_output + local.y, sum_3);
}

// Four channels of the input at a pixel and the tap of a depth; 0 in the padding.
fn load_input(pixel: Pixel, group: u32, depth: u32, depth_end: u32) -> vec4<f32> {
    let position = tap_position(pixel.origin, depth / params.row_quads);
    if !pixel.valid || depth >= depth_end || !inside_input(position) {
        return vec4<f32>();
    }
    let place = quad_place(depth % params.row_quads);
    return input_quad(input_index(pixel.image, group, position) + place.channel * params.input_c, place.count);
}

fn load_weights(group: u32, output_in_group: u32, depth: u32, depth_end: u32) -> vec4<f32> {
    if output_in_group >= params.outputs || depth >= depth_end {
        return vec4<f32>();
    }
    let tap = depth / params.row_quads;
    let quad = depth % params.row_quads;
    let channel = group * params.outputs + output_in_group;
    let shift = block_shift(tap, quad_place(quad).block, channel);
    return weight_quad(tap, quad, channel) * shift.x + shift.y;
}

// Stores four output channels of a pixel, eight apart.
fn store(index: u32, group: u32, output_in_group: u32, sums: vec4<f32>) {
    let pixel = pixel_place(index);
    if pixel.valid {
        store_pixel(pixel, group, output_in_group, 8u, sums);
    }
}
