// #import subgroup, input_int8

// The subgroup form of conv_subgroup with integer activations: lanes are output channels, a workgroup
// computes 32 pixels x 32 output channels. A load brings four channels of eight quads, so it serves 32
// channels. Software devices multiply floats faster than bytes: integers become floats, whose sum over
// a block is exact below 2^24 (the host sees to that), and is the integer sum bit for bit.

// Channels of this lane's quad, of four pixels.
alias Quads = mat4x4<f32>;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let work = work_index(workgroup, grid);
    if work >= params.work {
        return;
    }
    let tile = tile_place(work, TILE, TILE);
    let first_output = tile.output;
    let group = tile.group;
    let first_pixel = tile.pixel;
    // Outputs past the last compute the last one again, and are not stored.
    let outputs = min(vec4<u32>(0u, 8u, 16u, 24u) + first_output + lane, vec4<u32>(params.outputs - 1u));
    let channels = group * params.outputs + outputs;
    let pixel_0 = pixel_place(first_pixel + lane);
    let pixel_1 = pixel_place(first_pixel + lane + 8u);
    let pixel_2 = pixel_place(first_pixel + lane + 16u);
    let pixel_3 = pixel_place(first_pixel + lane + 24u);

    var t0 = Sums();
    var t1 = Sums();
    var t2 = Sums();
    var t3 = Sums();
    var t4 = Sums();
    var t5 = Sums();
    var t6 = Sums();
    var t7 = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        // The row of each pixel: a lane works out four, and all get them all.
        let rows = vec4<u32>(
            integer_row(pixel_0, group, tap),
            integer_row(pixel_1, group, tap),
            integer_row(pixel_2, group, tap),
            integer_row(pixel_3, group, tap),
        );
        let p0 = four_lanes(rows.x);
        let p1 = four_more_lanes(rows.x);
        let p2 = four_lanes(rows.y);
        let p3 = four_more_lanes(rows.y);
        let p4 = four_lanes(rows.z);
        let p5 = four_more_lanes(rows.z);
        let p6 = four_lanes(rows.w);
        let p7 = four_more_lanes(rows.w);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(start + params.block_quads, params.row_quads, block + 1u == params.block_count);
            var s0 = Sums();
            var s1 = Sums();
            var s2 = Sums();
            var s3 = Sums();
            var s4 = Sums();
            var s5 = Sums();
            var s6 = Sums();
            var s7 = Sums();
            for (; start < end; start += LANES) {
                // Lane l loads quad l.
                let mine = select(NONE, start + lane, start + lane < end);
                let x0 = fetch(p0, mine);
                let x1 = fetch(p1, mine);
                let x2 = fetch(p2, mine);
                let x3 = fetch(p3, mine);
                let x4 = fetch(p4, mine);
                let x5 = fetch(p5, mine);
                let x6 = fetch(p6, mine);
                let x7 = fetch(p7, mine);
                let count = min(end - start, LANES);
                for (var quad = 0u; quad < count; quad++) {
                    let w = Quads(
                        weight_quad(tap, start + quad, channels.x),
                        weight_quad(tap, start + quad, channels.y),
                        weight_quad(tap, start + quad, channels.z),
                        weight_quad(tap, start + quad, channels.w),
                    );
                    add(&s0, x0, quad, w);
                    add(&s1, x1, quad, w);
                    add(&s2, x2, quad, w);
                    add(&s3, x3, quad, w);
                    add(&s4, x4, quad, w);
                    add(&s5, x5, quad, w);
                    add(&s6, x6, quad, w);
                    add(&s7, x7, quad, w);
                }
            }
            start = end;
            let shift_0 = block_shift(tap, block, channels.x);
            let shift_1 = block_shift(tap, block, channels.y);
            let shift_2 = block_shift(tap, block, channels.z);
            let shift_3 = block_shift(tap, block, channels.w);
            let alpha = vec4<f32>(shift_0.x, shift_1.x, shift_2.x, shift_3.x);
            let kds_bias = vec4<f32>(shift_0.y, shift_1.y, shift_2.y, shift_3.y);
            let scale_0 = integer_scale(rows.x, block);
            let scale_1 = integer_scale(rows.y, block);
            let scale_2 = integer_scale(rows.z, block);
            let scale_3 = integer_scale(rows.w, block);
            scale(&t0, s0, alpha, kds_bias, four_scales(scale_0.x), four_scales(scale_0.y));
            scale(&t1, s1, alpha, kds_bias, four_more_scales(scale_0.x), four_more_scales(scale_0.y));
            scale(&t2, s2, alpha, kds_bias, four_scales(scale_1.x), four_scales(scale_1.y));
            scale(&t3, s3, alpha, kds_bias, four_more_scales(scale_1.x), four_more_scales(scale_1.y));
            scale(&t4, s4, alpha, kds_bias, four_scales(scale_2.x), four_scales(scale_2.y));
            scale(&t5, s5, alpha, kds_bias, four_more_scales(scale_2.x), four_more_scales(scale_2.y));
            scale(&t6, s6, alpha, kds_bias, four_scales(scale_3.x), four_scales(scale_3.y));
            scale(&t7, s7, alpha, kds_bias, four_more_scales(scale_3.x), four_more_scales(scale_3.y));
        }
    }
    store(tile, 0u, lane, t0);
    store(tile, 4u, lane, t1);
    store(tile, 8u, lane, t2);
    store(tile, 12u, lane, t3);
    store(tile, 16u, lane, t4);
    store(tile, 20u, lane, t5);
    store(tile, 24u, lane, t6);
    store(tile, 28u, lane, t7);
}

// Adds the products of a quad, which lane `quad` holds, of four pixels.
fn add(sums: ptr<function, Sums>, x: Quads, quad: u32, w: Quads) {
    let x0 = subgroupShuffle(x[0], quad);
    let x1 = subgroupShuffle(x[1], quad);
    let x2 = subgroupShuffle(x[2], quad);
    let x3 = subgroupShuffle(x[3], quad);
    (*sums)[0] += x0 * w[0].x + x1 * w[0].y + x2 * w[0].z + x3 * w[0].w;
    (*sums)[1] += x0 * w[1].x + x1 * w[1].y + x2 * w[1].z + x3 * w[1].w;
    (*sums)[2] += x0 * w[2].x + x1 * w[2].y + x2 * w[2].z + x3 * w[2].w;
    (*sums)[3] += x0 * w[3].x + x1 * w[3].y + x2 * w[3].z + x3 * w[3].w;
}

// Adds a block's sums, scaled: by alpha, and by the scales of four pixels.
fn scale(totals: ptr<function, Sums>, sums: Sums, alpha: vec4<f32>, kds_bias: vec4<f32>, scales: vec4<f32>, x_sums: vec4<f32>) {
    (*totals)[0] += sums[0] * (scales * alpha.x) + x_sums * kds_bias.x;
    (*totals)[1] += sums[1] * (scales * alpha.y) + x_sums * kds_bias.y;
    (*totals)[2] += sums[2] * (scales * alpha.z) + x_sums * kds_bias.z;
    (*totals)[3] += sums[3] * (scales * alpha.w) + x_sums * kds_bias.w;
}

fn four_scales(value: f32) -> vec4<f32> {
    return bitcast<vec4<f32>>(four_lanes(bitcast<u32>(value)));
}

fn four_more_scales(value: f32) -> vec4<f32> {
    return bitcast<vec4<f32>>(four_more_lanes(bitcast<u32>(value)));
}

// The channels of one quad of four pixels, as floats; 0 where there is none.
fn fetch(rows: vec4<u32>, quad: u32) -> Quads {
    let exists = (rows != vec4<u32>(NONE)) & vec4<bool>(quad != NONE);
    let at = select(vec4<u32>(), rows * params.row_quads + quad, exists);
    let words = select(vec4<u32>(), vec4<u32>(input[at.x], input[at.y], input[at.z], input[at.w]), exists);
    let bytes = bitcast<vec4<i32>>(words);
    return Quads(
        vec4<f32>((bytes << vec4<u32>(24u)) >> vec4<u32>(24u)),
        vec4<f32>((bytes << vec4<u32>(16u)) >> vec4<u32>(24u)),
        vec4<f32>((bytes << vec4<u32>(8u)) >> vec4<u32>(24u)),
        vec4<f32>(bytes >> vec4<u32>(24u)),
    );
}
