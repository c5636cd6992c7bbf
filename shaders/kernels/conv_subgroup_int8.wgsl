// #import params, unpack_weights, tiles
// #import subgroup, subgroup_output, input_int8, input_{words}

// Convolution with integer activations for software devices with subgroups of eight lanes.
//
//     for each tap, block of input channels:
//         for each quad (four neighbouring channels) of the block:
//             lane l loads the quad of its 4 pixels, and unpacks the weights of its 4 output channels
//             for each output channel o, own pixel p, channel c of the quad:
//                 products[p][o] += x[p][c] * broadcast(q[o][c], from the lane of o)      exact, see 2 and 3
//         sum[p][o] += products[p][o] * (scale[p] * broadcast(alpha[o])) + scaled sum of x[p] * broadcast(kds_bias[o])
//     output[p][o] = epilogue(sum[p][o])
//
// A workgroup is one subgroup, and computes 32 pixels x 32 output channels of one group, laid out over the lanes as in
// conv_subgroup.wgsl, with the same reasons. What differs:
//
// 1. A load of one word brings a quad of the input.
// 2. Software devices have no packed dot product, and multiply floats as fast as integers: integers become floats. The
//    sum over a block is exact below 2^24 (the host sees to that), so it is the integer sum bit for bit.
// 3. Where the sum over a block fits into 16 bits (SHORT_SUMS), one multiplication serves two output channels: the
//    weights of both lie in one integer, q0 + 65536 * q1, and so do the sums of their products with x. That is half the
//    multiplications, additions and broadcasts.

// Whether weights have at most 4 bits, and sums over a block fit into 16 bits.
override SHORT_SUMS: bool = false;

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
    let pixels = lane_pixels(tile, lane);

    var sums = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        let rows = vec4<u32>(
            integer_row(pixels[0], tile.group, tap), integer_row(pixels[1], tile.group, tap),
            integer_row(pixels[2], tile.group, tap), integer_row(pixels[3], tile.group, tap),
        );
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(quad, block);
            var products = Sums();
            if SHORT_SUMS {
                var pairs = AllPairSums();
                for (; quad < end; quad++) {
                    let x = vec4<u32>(
                        fetch(rows.x, quad), fetch(rows.y, quad), fetch(rows.z, quad), fetch(rows.w, quad),
                    );
                    add_pairs(&pairs, x, unpack_quads(tap, quad, channels));
                }
                products = Sums(
                    split(pairs.t0), split(pairs.t1), split(pairs.t2), split(pairs.t3),
                    split(pairs.t4), split(pairs.t5), split(pairs.t6), split(pairs.t7),
                );
            } else {
                for (; quad < end; quad++) {
                    let x = PixelFours(
                        byte_floats(fetch(rows.x, quad)), byte_floats(fetch(rows.y, quad)),
                        byte_floats(fetch(rows.z, quad)), byte_floats(fetch(rows.w, quad)),
                    );
                    let w = unpack_quads(tap, quad, channels);
                    add_quad(&products, x, transpose(mat4x4<f32>(
                        byte_floats(w.x), byte_floats(w.y), byte_floats(w.z), byte_floats(w.w),
                    )));
                }
            }
            let x = array<ActivationScale, 4>(
                activation_scale(rows.x, block), activation_scale(rows.y, block),
                activation_scale(rows.z, block), activation_scale(rows.w, block),
            );
            let w = lane_scales(tap, block, channels, select(byte_scale(), 1.0, SHORT_SUMS));
            sums.s0 = add_scaled(
                sums.s0, products.s0, x, LaneScales(subgroupBroadcast(w.alpha, 0u), subgroupBroadcast(w.kds_bias, 0u)),
            );
            sums.s1 = add_scaled(
                sums.s1, products.s1, x, LaneScales(subgroupBroadcast(w.alpha, 1u), subgroupBroadcast(w.kds_bias, 1u)),
            );
            sums.s2 = add_scaled(
                sums.s2, products.s2, x, LaneScales(subgroupBroadcast(w.alpha, 2u), subgroupBroadcast(w.kds_bias, 2u)),
            );
            sums.s3 = add_scaled(
                sums.s3, products.s3, x, LaneScales(subgroupBroadcast(w.alpha, 3u), subgroupBroadcast(w.kds_bias, 3u)),
            );
            sums.s4 = add_scaled(
                sums.s4, products.s4, x, LaneScales(subgroupBroadcast(w.alpha, 4u), subgroupBroadcast(w.kds_bias, 4u)),
            );
            sums.s5 = add_scaled(
                sums.s5, products.s5, x, LaneScales(subgroupBroadcast(w.alpha, 5u), subgroupBroadcast(w.kds_bias, 5u)),
            );
            sums.s6 = add_scaled(
                sums.s6, products.s6, x, LaneScales(subgroupBroadcast(w.alpha, 6u), subgroupBroadcast(w.kds_bias, 6u)),
            );
            sums.s7 = add_scaled(
                sums.s7, products.s7, x, LaneScales(subgroupBroadcast(w.alpha, 7u), subgroupBroadcast(w.kds_bias, 7u)),
            );
        }
    }
    store(tile, lane, sums);
}

// The word of a quad of a pixel, four int8; 0 where there is none.
fn fetch(row: u32, quad: u32) -> u32 {
    let exists = row != NONE;
    let word = input_word(select(0u, row * params.row_quads + quad, exists));
    return select(0u, word, exists);
}

// The sums of four output channels, with those of a block: scaled by alpha and by the scales of the pixels, and the KDS
// bias times the pixels' scaled sums.
fn add_scaled(sums: PixelFours, products: PixelFours, x: array<ActivationScale, 4>, w: LaneScales) -> PixelFours {
    let scaled = PixelFours(
        sums[0] + products[0] * (x[0].scale * w.alpha),
        sums[1] + products[1] * (x[1].scale * w.alpha),
        sums[2] + products[2] * (x[2].scale * w.alpha),
        sums[3] + products[3] * (x[3].scale * w.alpha),
    );
    if !has_kds_bias() {
        return scaled;
    }
    return PixelFours(
        scaled[0] + x[0].sum * w.kds_bias,
        scaled[1] + x[1].sum * w.kds_bias,
        scaled[2] + x[2].sum * w.kds_bias,
        scaled[3] + x[3].sum * w.kds_bias,
    );
}

// Sums of two output channels each, those of lane l in tl: of its first two channels, and of the other two. The
// components are the pixels.
alias PairSums = array<vec4<i32>, 2>;

struct AllPairSums {
    t0: PairSums,
    t1: PairSums,
    t2: PairSums,
    t3: PairSums,
    t4: PairSums,
    t5: PairSums,
    t6: PairSums,
    t7: PairSums,
}

// Adds the products of a quad: x holds the words of the lane's pixels, w those of this lane's output channels.
fn add_pairs(sums: ptr<function, AllPairSums>, x: vec4<u32>, w: vec4<u32>) {
    let words = bitcast<vec4<i32>>(x);
    let channels = array<vec4<i32>, 4>(
        extractBits(words, 0u, 8u), extractBits(words, 8u, 8u),
        extractBits(words, 16u, 8u), extractBits(words, 24u, 8u),
    );
    let first = pair_weights(w.x, w.y);
    let second = pair_weights(w.z, w.w);
    (*sums).t0 = add_two_pairs((*sums).t0, channels, subgroupBroadcast(first, 0u), subgroupBroadcast(second, 0u));
    (*sums).t1 = add_two_pairs((*sums).t1, channels, subgroupBroadcast(first, 1u), subgroupBroadcast(second, 1u));
    (*sums).t2 = add_two_pairs((*sums).t2, channels, subgroupBroadcast(first, 2u), subgroupBroadcast(second, 2u));
    (*sums).t3 = add_two_pairs((*sums).t3, channels, subgroupBroadcast(first, 3u), subgroupBroadcast(second, 3u));
    (*sums).t4 = add_two_pairs((*sums).t4, channels, subgroupBroadcast(first, 4u), subgroupBroadcast(second, 4u));
    (*sums).t5 = add_two_pairs((*sums).t5, channels, subgroupBroadcast(first, 5u), subgroupBroadcast(second, 5u));
    (*sums).t6 = add_two_pairs((*sums).t6, channels, subgroupBroadcast(first, 6u), subgroupBroadcast(second, 6u));
    (*sums).t7 = add_two_pairs((*sums).t7, channels, subgroupBroadcast(first, 7u), subgroupBroadcast(second, 7u));
}

// The weights of two output channels, for the four channels of a quad.
fn pair_weights(first: u32, second: u32) -> vec4<i32> {
    return quad_weights(first) + (quad_weights(second) << vec4<u32>(16u));
}

// The four integers of a quad, which lie at the top of its bytes.
fn quad_weights(bytes: u32) -> vec4<i32> {
    let word = bitcast<i32>(bytes);
    let bits = BITS & 7u;
    return vec4<i32>(
        extractBits(word, 8u - bits, bits), extractBits(word, 16u - bits, bits),
        extractBits(word, 24u - bits, bits), extractBits(word, 32u - bits, bits),
    );
}

fn add_two_pairs(sums: PairSums, x: array<vec4<i32>, 4>, first: vec4<i32>, second: vec4<i32>) -> PairSums {
    return PairSums(
        sums[0] + (x[0] * first.x + x[1] * first.y + x[2] * first.z + x[3] * first.w),
        sums[1] + (x[0] * second.x + x[1] * second.y + x[2] * second.z + x[3] * second.w),
    );
}

// The sums of the four output channels, apart, as floats.
fn split(pairs: PairSums) -> PixelFours {
    let o_0 = lower(pairs[0]);
    let o_1 = upper(pairs[0]);
    let o_2 = lower(pairs[1]);
    let o_3 = upper(pairs[1]);
    return PixelFours(
        vec4<f32>(vec4<i32>(o_0.x, o_1.x, o_2.x, o_3.x)), vec4<f32>(vec4<i32>(o_0.y, o_1.y, o_2.y, o_3.y)),
        vec4<f32>(vec4<i32>(o_0.z, o_1.z, o_2.z, o_3.z)), vec4<f32>(vec4<i32>(o_0.w, o_1.w, o_2.w, o_3.w)),
    );
}

// The lower sum of a pair: from -32767 to 32768, which is 32 times -8 times -128.
fn lower(pairs: vec4<i32>) -> vec4<i32> {
    return extractBits(pairs - 1, 0u, 16u) + 1;
}

// The upper sum of a pair: what is left without the lower one, in the same range.
fn upper(pairs: vec4<i32>) -> vec4<i32> {
    return ((pairs - lower(pairs) - 65536) >> vec4<u32>(16u)) + 1;
}
