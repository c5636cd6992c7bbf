// #import params, coordinates, unpack_weights, weight_scales, tiles
// #import subgroup, subgroup_output, input_int8

// Convolution with integer activations for software devices with subgroups of eight lanes.
//
//     for each tap, block of input channels:
//         for each quad (four neighbouring channels) of the block:
//             lane l loads the quad of its 4 pixels, and unpacks the weights of its 4 output channels
//             for each output channel o, own pixel p, channel c of the quad:
//                 products[p][o] += x[p][c] * broadcast(q[o][c], from the lane of o)      exact, in floats
//         sum[p][o] += products[p][o] * (scale[p] * broadcast(alpha[o])) + scaled sum of x[p] * broadcast(kds_bias[o])
//     output[p][o] = epilogue(sum[p][o])
//
// A workgroup is one subgroup, and computes 32 pixels x 32 output channels of one group, laid out over the lanes as in
// conv_subgroup.wgsl, with the same reasons. What differs:
//
// 1. A load of one word brings a quad of the input.
// 2. Software devices multiply floats faster than bytes: integers become floats. The sum over a block is exact below
//    2^24 (the host sees to that), so it is the integer sum bit for bit.

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
    let channels = lane_channels(tile, lane);
    let pixel_0 = output_pixel(tile.first_pixel + lane);
    let pixel_1 = output_pixel(tile.first_pixel + lane + LANES);
    let pixel_2 = output_pixel(tile.first_pixel + lane + 2u * LANES);
    let pixel_3 = output_pixel(tile.first_pixel + lane + 3u * LANES);

    var sums = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        let rows = vec4<u32>(
            integer_row(pixel_0, tile.group, tap), integer_row(pixel_1, tile.group, tap),
            integer_row(pixel_2, tile.group, tap), integer_row(pixel_3, tile.group, tap),
        );
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(quad, block);
            var products = Sums();
            for (; quad < end; quad++) {
                let x = PixelFours(fetch(rows.x, quad), fetch(rows.y, quad), fetch(rows.z, quad), fetch(rows.w, quad));
                add_quad(
                    &products, x,
                    weight_quad(tap, quad, channels.x), weight_quad(tap, quad, channels.y),
                    weight_quad(tap, quad, channels.z), weight_quad(tap, quad, channels.w),
                );
            }
            let x = array<ActivationScale, 4>(
                activation_scale(rows.x, block), activation_scale(rows.y, block),
                activation_scale(rows.z, block), activation_scale(rows.w, block),
            );
            let w_0 = weight_scale(tap, block, channels.x);
            let w_1 = weight_scale(tap, block, channels.y);
            let w_2 = weight_scale(tap, block, channels.z);
            let w_3 = weight_scale(tap, block, channels.w);
            sums.s0 = add_scaled(sums.s0, products.s0, x, four_scales(w_0));
            sums.s1 = add_scaled(sums.s1, products.s1, x, four_more_scales(w_0));
            sums.s2 = add_scaled(sums.s2, products.s2, x, four_scales(w_1));
            sums.s3 = add_scaled(sums.s3, products.s3, x, four_more_scales(w_1));
            sums.s4 = add_scaled(sums.s4, products.s4, x, four_scales(w_2));
            sums.s5 = add_scaled(sums.s5, products.s5, x, four_more_scales(w_2));
            sums.s6 = add_scaled(sums.s6, products.s6, x, four_scales(w_3));
            sums.s7 = add_scaled(sums.s7, products.s7, x, four_more_scales(w_3));
        }
    }
    store(tile, lane, sums);
}

// A quad of a pixel as floats; 0 where there is none.
fn fetch(row: u32, quad: u32) -> vec4<f32> {
    let exists = row != NONE;
    let word = input_words[select(0u, row * params.row_quads + quad, exists)];
    return byte_floats(select(0u, word, exists));
}

// The scales of a block of weights for four output channels.
struct FourScales {
    alpha: vec4<f32>,
    kds_bias: vec4<f32>,
}

// Those that lanes 0 to 3 hold.
fn four_scales(scale: WeightScale) -> FourScales {
    return FourScales(four_lanes(scale.alpha), four_lanes(scale.kds_bias));
}

// Those that lanes 4 to 7 hold.
fn four_more_scales(scale: WeightScale) -> FourScales {
    return FourScales(four_more_lanes(scale.alpha), four_more_lanes(scale.kds_bias));
}

// The sums of four output channels, with those of a block: scaled by alpha and by the scales of the pixels, and the KDS
// bias times the pixels' scaled sums.
fn add_scaled(sums: PixelFours, products: PixelFours, x: array<ActivationScale, 4>, w: FourScales) -> PixelFours {
    return PixelFours(
        sums[0] + products[0] * (x[0].scale * w.alpha) + x[0].sum * w.kds_bias,
        sums[1] + products[1] * (x[1].scale * w.alpha) + x[1].sum * w.kds_bias,
        sums[2] + products[2] * (x[2].scale * w.alpha) + x[2].sum * w.kds_bias,
        sums[3] + products[3] * (x[3].scale * w.alpha) + x[3].sum * w.kds_bias,
    );
}
