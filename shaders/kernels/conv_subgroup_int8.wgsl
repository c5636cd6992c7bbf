// #import params, unpack_weights, weight_scales, tiles
// #import subgroup, subgroup_output, input_int8

// Convolution with integer activations for software devices with subgroups of eight lanes.
//
//     for each tap, block of input channels:
//         for each step of 8 quads of the block:
//             lane l loads quad l of all 32 pixels
//             for each quad, pixel p, own output o:
//                 products[p][o] += dot(shuffle(x[p], from lane quad), q[quad][o])      exact, in floats
//         sum[p][o] += products[p][o] * (scale[p] * alpha[o]) + scaled sum of x[p] * kds_bias[o]
//     output[p][o] = epilogue(sum[p][o])
//
// A workgroup is one subgroup, and computes 32 pixels x 32 output channels of one group, laid out over the lanes as in
// conv_subgroup.wgsl, with the same reasons. What differs:
//
// 1. A load brings four channels, those of a quad: all lanes' loads bring 32 channels of a pixel.
// 2. Software devices multiply floats faster than bytes: integers become floats. The sum over a block is exact below
//    2^24 (the host sees to that), so it is the integer sum bit for bit.
// 3. The loop over quads stays a loop: a shuffle with a loop's lane number costs no more than a broadcast with a
//    constant one, and a longer body costs more than it brings. So does unpacking two quads at a time, as
//    conv_subgroup does.
// 4. A lane loads the scales of four pixels, and broadcasts spread them.

// Four pixels' channels of a lane's quad: a column for each of the four channels.
alias Quads = mat4x4<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = workgroup_index(workgroup, grid);
    if index >= params.workgroups {
        return;
    }
    let tile = tile_place(index, TILE, TILE);
    let own = lane_part(tile, lane);

    var t0 = Sums();
    var t1 = Sums();
    var t2 = Sums();
    var t3 = Sums();
    var t4 = Sums();
    var t5 = Sums();
    var t6 = Sums();
    var t7 = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        let own_rows = vec4<u32>(
            integer_row(own.pixel_0, tile.group, tap),
            integer_row(own.pixel_1, tile.group, tap),
            integer_row(own.pixel_2, tile.group, tap),
            integer_row(own.pixel_3, tile.group, tap),
        );
        let rows = spread(own_rows);
        var start = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(start, block);
            var s0 = Sums();
            var s1 = Sums();
            var s2 = Sums();
            var s3 = Sums();
            var s4 = Sums();
            var s5 = Sums();
            var s6 = Sums();
            var s7 = Sums();
            for (; start < end; start += LANES) {
                // Trick 1: lane l loads quad l of the step.
                let mine = select(NONE, start + lane, start + lane < end);
                let x0 = fetch(rows.p0, mine);
                let x1 = fetch(rows.p1, mine);
                let x2 = fetch(rows.p2, mine);
                let x3 = fetch(rows.p3, mine);
                let x4 = fetch(rows.p4, mine);
                let x5 = fetch(rows.p5, mine);
                let x6 = fetch(rows.p6, mine);
                let x7 = fetch(rows.p7, mine);
                let count = min(end - start, LANES);
                for (var quad = 0u; quad < count; quad++) {
                    let w = Quads(
                        weight_quad(tap, start + quad, own.channels.x),
                        weight_quad(tap, start + quad, own.channels.y),
                        weight_quad(tap, start + quad, own.channels.z),
                        weight_quad(tap, start + quad, own.channels.w),
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
            let w_0 = weight_scale(tap, block, own.channels.x);
            let w_1 = weight_scale(tap, block, own.channels.y);
            let w_2 = weight_scale(tap, block, own.channels.z);
            let w_3 = weight_scale(tap, block, own.channels.w);
            let alpha = vec4<f32>(w_0.alpha, w_1.alpha, w_2.alpha, w_3.alpha);
            let kds_bias = vec4<f32>(w_0.kds_bias, w_1.kds_bias, w_2.kds_bias, w_3.kds_bias);
            // Trick 4.
            let x_0 = activation_scale(own_rows.x, block);
            let x_1 = activation_scale(own_rows.y, block);
            let x_2 = activation_scale(own_rows.z, block);
            let x_3 = activation_scale(own_rows.w, block);
            add_scaled(&t0, s0, alpha, kds_bias, four_scales(x_0.scale), four_scales(x_0.sum));
            add_scaled(&t1, s1, alpha, kds_bias, four_more_scales(x_0.scale), four_more_scales(x_0.sum));
            add_scaled(&t2, s2, alpha, kds_bias, four_scales(x_1.scale), four_scales(x_1.sum));
            add_scaled(&t3, s3, alpha, kds_bias, four_more_scales(x_1.scale), four_more_scales(x_1.sum));
            add_scaled(&t4, s4, alpha, kds_bias, four_scales(x_2.scale), four_scales(x_2.sum));
            add_scaled(&t5, s5, alpha, kds_bias, four_more_scales(x_2.scale), four_more_scales(x_2.sum));
            add_scaled(&t6, s6, alpha, kds_bias, four_scales(x_3.scale), four_scales(x_3.sum));
            add_scaled(&t7, s7, alpha, kds_bias, four_more_scales(x_3.scale), four_more_scales(x_3.sum));
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

// Adds a block's sums, scaled by alpha and by the scales of four pixels, and the KDS bias times the pixels' scaled
// sums.
fn add_scaled(
    totals: ptr<function, Sums>, sums: Sums,
    alpha: vec4<f32>, kds_bias: vec4<f32>, scales: vec4<f32>, x_sums: vec4<f32>,
) {
    (*totals)[0] += sums[0] * (scales * alpha.x) + x_sums * kds_bias.x;
    (*totals)[1] += sums[1] * (scales * alpha.y) + x_sums * kds_bias.y;
    (*totals)[2] += sums[2] * (scales * alpha.z) + x_sums * kds_bias.z;
    (*totals)[3] += sums[3] * (scales * alpha.w) + x_sums * kds_bias.w;
}

// The scales of lanes 0 to 3, or their sums.
fn four_scales(value: f32) -> vec4<f32> {
    return bitcast<vec4<f32>>(four_lanes(bitcast<u32>(value)));
}

// Those of lanes 4 to 7.
fn four_more_scales(value: f32) -> vec4<f32> {
    return bitcast<vec4<f32>>(four_more_lanes(bitcast<u32>(value)));
}

// The channels of one quad of four pixels, as floats; 0 where there is none.
fn fetch(rows: vec4<u32>, quad: u32) -> Quads {
    let exists = (rows != vec4<u32>(NONE)) & vec4<bool>(quad != NONE);
    let at = select(vec4<u32>(), rows * params.row_quads + quad, exists);
    let loaded = vec4<u32>(input_words[at.x], input_words[at.y], input_words[at.z], input_words[at.w]);
    let words = select(vec4<u32>(), loaded, exists);
    let bytes = bitcast<vec4<i32>>(words);
    return Quads(
        vec4<f32>((bytes << vec4<u32>(24u)) >> vec4<u32>(24u)),
        vec4<f32>((bytes << vec4<u32>(16u)) >> vec4<u32>(24u)),
        vec4<f32>((bytes << vec4<u32>(8u)) >> vec4<u32>(24u)),
        vec4<f32>(bytes >> vec4<u32>(24u)),
    );
}
