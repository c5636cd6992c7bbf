// Convolution as an implicit matrix product: pixels x output channels, summed over taps and channels.
// A workgroup computes 32 pixels x 64 output channels of one group, each thread 4 x 8. Up to sixteen
// channels of a block at a time go through workgroup memory; weights are unpacked and scaled on the
// way in, once for 32 pixels, and a thread unpacks for one output channel, so it loads a block's
// shifts once.

const STEP = 4u; // quads of a step

var<workgroup> x_tile: array<vec4<f32>, 128>; // [quad][pixel], four channels
var<workgroup> w_tile: array<vec4<f32>, 256>; // [quad][output channel], four channels

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

    // A thread fills two entries of the input's tile, dealt so that neighbouring threads read neighbouring
    // elements: pixels of one channel, or channels of one pixel. Of the weights' it fills a column.
    let channels_last = params.input_c == 1u;
    let x_quad = select(vec2<u32>(lane / PIXELS, lane / PIXELS + 2u), vec2<u32>(lane % STEP), channels_last);
    let x_pixel = select(vec2<u32>(lane % PIXELS), vec2<u32>(lane / STEP, lane / STEP + 16u), channels_last);
    let pixel_0 = pixel_place(first_pixel + x_pixel.x);
    let pixel_1 = pixel_place(first_pixel + x_pixel.y);
    // Outputs past the last compute the last one again, and are not stored.
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
        let at_0 = tap_index(pixel_0, group, tap);
        let at_1 = tap_index(pixel_1, group, tap);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(start + params.block_quads, params.row_quads, block + 1u == params.block_count);
            let shift = block_shift(tap, block, channel);
            for (; start < end; start += STEP) {
                x_tile[x_quad.x * PIXELS + x_pixel.x] = load_input(at_0, start + x_quad.x, end, block);
                x_tile[x_quad.y * PIXELS + x_pixel.y] = load_input(at_1, start + x_quad.y, end, block);
                let count = min(end - start, STEP);
                for (var quad = 0u; quad < count; quad++) {
                    w_tile[quad * OUTPUTS + lane] = weight_quad(tap, start + quad, channel) * shift.x + shift.y;
                }
                workgroupBarrier();
                for (var quad = 0u; quad < count; quad++) {
                    // Neighbouring threads read neighbouring entries: no bank is asked twice.
                    let x_at = quad * PIXELS + local.x;
                    let x0 = x_tile[x_at];
                    let x1 = x_tile[x_at + 8u];
                    let x2 = x_tile[x_at + 16u];
                    let x3 = x_tile[x_at + 24u];
                    let w_at = quad * OUTPUTS + local.y;
                    let w0 = w_tile[w_at];
                    let w1 = w_tile[w_at + 8u];
                    let w2 = w_tile[w_at + 16u];
                    let w3 = w_tile[w_at + 24u];
                    a0 = add_quad(a0, x0, w0, w1, w2, w3);
                    a1 = add_quad(a1, x1, w0, w1, w2, w3);
                    a2 = add_quad(a2, x2, w0, w1, w2, w3);
                    a3 = add_quad(a3, x3, w0, w1, w2, w3);
                    let w4 = w_tile[w_at + 32u];
                    let w5 = w_tile[w_at + 40u];
                    let w6 = w_tile[w_at + 48u];
                    let w7 = w_tile[w_at + 56u];
                    b0 = add_quad(b0, x0, w4, w5, w6, w7);
                    b1 = add_quad(b1, x1, w4, w5, w6, w7);
                    b2 = add_quad(b2, x2, w4, w5, w6, w7);
                    b3 = add_quad(b3, x3, w4, w5, w6, w7);
                }
                workgroupBarrier();
            }
            start = end;
        }
    }
    store_eight(tile, local.xy, 0u, a0, b0);
    store_eight(tile, local.xy, 1u, a1, b1);
    store_eight(tile, local.xy, 2u, a2, b2);
    store_eight(tile, local.xy, 3u, a3, b3);
}

// Adds four channels of a pixel times those of four outputs; each term is one fused multiply-add.
fn add_quad(sums: vec4<f32>, x: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
    var total = sums + x.x * vec4<f32>(w0.x, w1.x, w2.x, w3.x);
    total += x.y * vec4<f32>(w0.y, w1.y, w2.y, w3.y);
    total += x.z * vec4<f32>(w0.z, w1.z, w2.z, w3.z);
    total += x.w * vec4<f32>(w0.w, w1.w, w2.w, w3.w);
    return total;
}

// Four channels of the input, from where a pixel's channels start; 0 where there are none.
fn load_input(start: u32, quad: u32, end: u32, block: u32) -> vec4<f32> {
    if start == NONE || quad >= end {
        return vec4<f32>();
    }
    let place = quad_place(quad, block);
    return input_quad(start + place.channel * params.input_c, place.count);
}

fn stage(at: u32, value: vec4<f32>) {
    w_tile[at] = value;
}

fn staged(at: u32) -> vec4<f32> {
    return w_tile[at];
}
