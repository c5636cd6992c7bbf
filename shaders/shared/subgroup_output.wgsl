// #import params, coordinates, epilogue, quantize, tiles, subgroup, output_{floats}

// How the kernels for subgroups store their sums: as floats, or as integer activations of whole blocks.
//
// Software devices work out both sides of an `if`, so what is done for each output is little here: a lane loads the
// bias of its output channels for all, and the sums of the pixels come one after another to the same place, because
// sums that a variable indexes cost more than the rest.

// All output channels of one pixel of a tile, four in a vector.
struct PixelSums {
    v0: vec4<f32>,
    v1: vec4<f32>,
    v2: vec4<f32>,
    v3: vec4<f32>,
    v4: vec4<f32>,
    v5: vec4<f32>,
    v6: vec4<f32>,
    v7: vec4<f32>,
}

// Stores the sums of a lane.
fn store(tile: Tile, lane: u32, sums: Sums) {
    let channels = lane_channels(tile, lane);
    let bias_0 = channel_bias(channels.x);
    let bias_1 = channel_bias(channels.y);
    let bias_2 = channel_bias(channels.z);
    let bias_3 = channel_bias(channels.w);
    let bias = PixelSums(
        four_lanes(bias_0), four_more_lanes(bias_0), four_lanes(bias_1), four_more_lanes(bias_1),
        four_lanes(bias_2), four_more_lanes(bias_2), four_lanes(bias_3), four_more_lanes(bias_3),
    );
    var rest = sums;
    for (var i = 0u; i < 4u; i++) {
        let index = tile.first_pixel + lane + LANES * i;
        let pixel = output_pixel(index);
        let count = select(0u, params.outputs - tile.first_output, pixel.valid);
        let channel = tile.group * params.outputs + tile.first_output;
        let at = output_index(OutputPlace(pixel.image, channel, pixel.y, pixel.x));
        let values = PixelSums(
            finish_channels(at, 0u, count, rest.s0[0] + bias.v0),
            finish_channels(at, 4u, count, rest.s1[0] + bias.v1),
            finish_channels(at, 8u, count, rest.s2[0] + bias.v2),
            finish_channels(at, 12u, count, rest.s3[0] + bias.v3),
            finish_channels(at, 16u, count, rest.s4[0] + bias.v4),
            finish_channels(at, 20u, count, rest.s5[0] + bias.v5),
            finish_channels(at, 24u, count, rest.s6[0] + bias.v6),
            finish_channels(at, 28u, count, rest.s7[0] + bias.v7),
        );
        if params.output_scales_at == NONE {
            store_channels(at, 0u, count, values.v0);
            store_channels(at, 4u, count, values.v1);
            store_channels(at, 8u, count, values.v2);
            store_channels(at, 12u, count, values.v3);
            store_channels(at, 16u, count, values.v4);
            store_channels(at, 20u, count, values.v5);
            store_channels(at, 24u, count, values.v6);
            store_channels(at, 28u, count, values.v7);
        } else if count > 0u {
            store_integers(tile, index, values);
        }
        rest = Sums(
            next(rest.s0), next(rest.s1), next(rest.s2), next(rest.s3),
            next(rest.s4), next(rest.s5), next(rest.s6), next(rest.s7),
        );
    }
}

// Moves the sums of the next pixel to the first place.
fn next(sums: PixelFours) -> PixelFours {
    return PixelFours(sums[1], sums[2], sums[3], sums[0]);
}

// Computes four output channels of a pixel, from the `first` of the tile on, whose output starts at `at`; 0 for what
// lies past the `count`th.
fn finish_channels(at: u32, first: u32, count: u32, sums: vec4<f32>) -> vec4<f32> {
    let channels = first + vec4<u32>(0u, 1u, 2u, 3u);
    let exists = channels < vec4<u32>(count);
    let places = at + select(vec4<u32>(), channels, exists) * params.output_c;
    return select(vec4<f32>(), finish_four(places, sums), exists);
}

// Stores them as floats.
fn store_channels(at: u32, first: u32, count: u32, values: vec4<f32>) {
    if first < count {
        store_four(at + first * params.output_c, min(count - first, 4u), params.output_c, values);
    }
}

// Stores a pixel as integer activations. A block is one, two or four runs of eight channels: swapping components
// combines them.
fn store_integers(tile: Tile, index: u32, values: PixelSums) {
    var bits = array<vec4<u32>, 8>(
        finite(bitcast<vec4<u32>>(values.v0)), finite(bitcast<vec4<u32>>(values.v1)),
        finite(bitcast<vec4<u32>>(values.v2)), finite(bitcast<vec4<u32>>(values.v3)),
        finite(bitcast<vec4<u32>>(values.v4)), finite(bitcast<vec4<u32>>(values.v5)),
        finite(bitcast<vec4<u32>>(values.v6)), finite(bitcast<vec4<u32>>(values.v7)),
    );
    var largest = vec4<u32>(
        largest_of_eight(bits[0], bits[1]), largest_of_eight(bits[2], bits[3]),
        largest_of_eight(bits[4], bits[5]), largest_of_eight(bits[6], bits[7]),
    );
    if params.output_eights >= 2u {
        largest = max(largest, largest.yxwz);
    }
    if params.output_eights >= 4u {
        largest = max(largest, largest.zwxy);
    }
    let first_eight = (tile.group * params.outputs + tile.first_output) / 8u;
    var sum = 0;
    for (var i = 0u; i < 4u; i++) {
        let channel = tile.first_output + 8u * i;
        if channel >= params.outputs {
            break;
        }
        let chosen = block_scale(largest[i]);
        let low = mantissas(bits[2u * i], vec4<f32>(chosen.inverse));
        let high = mantissas(bits[2u * i + 1u], vec4<f32>(chosen.inverse));
        let ones = vec4<i32>(1);
        sum += dot(low, ones) + dot(high, ones);
        let eight = first_eight + i;
        let word = index * params.output_quads + 2u * eight;
        store_word(word, quad_word(low));
        if channel + 4u < params.outputs {
            store_word(word + 1u, quad_word(high));
        }
        // The scale of a block is stored once its sum is whole.
        if (i + 1u) % params.output_eights == 0u || channel + 8u >= params.outputs {
            store_scale(index, eight, chosen.scale, sum);
            sum = 0;
        }
    }
}

// The largest magnitude of eight floats, given as bits.
fn largest_of_eight(a: vec4<u32>, b: vec4<u32>) -> u32 {
    let both = max(a & vec4<u32>(MAGNITUDE), b & vec4<u32>(MAGNITUDE));
    return max(max(both.x, both.y), max(both.z, both.w));
}
