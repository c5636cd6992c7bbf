// #import params, coordinates, weight_scales, epilogue, quantize, tiles, subgroup, output_{floats}

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
    let own = vec4<f32>(
        channel_bias(channels.x), channel_bias(channels.y), channel_bias(channels.z), channel_bias(channels.w),
    );
    let bias = PixelSums(
        subgroupBroadcast(own, 0u), subgroupBroadcast(own, 1u), subgroupBroadcast(own, 2u), subgroupBroadcast(own, 3u),
        subgroupBroadcast(own, 4u), subgroupBroadcast(own, 5u), subgroupBroadcast(own, 6u), subgroupBroadcast(own, 7u),
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
        if !has_int8_output() {
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
    let eights = array<Eight, 4>(
        eight_bits(values.v0, values.v1), eight_bits(values.v2, values.v3),
        eight_bits(values.v4, values.v5), eight_bits(values.v6, values.v7),
    );
    var largest = vec4<u32>(
        largest_of_eight(eights[0]), largest_of_eight(eights[1]),
        largest_of_eight(eights[2]), largest_of_eight(eights[3]),
    );
    if params.output_eights >= 2u {
        largest = max(largest, largest.yxwz);
    }
    if params.output_eights >= 4u {
        largest = max(largest, largest.zwxy);
    }
    var sum = store_eight(tile, index, 0u, eights[0], largest.x, 0);
    sum = store_eight(tile, index, 1u, eights[1], largest.y, sum);
    sum = store_eight(tile, index, 2u, eights[2], largest.z, sum);
    sum = store_eight(tile, index, 3u, eights[3], largest.w, sum);
}

// Eight neighbouring channels: the bits of floats that are finite.
struct Eight {
    low: vec4<u32>,
    high: vec4<u32>,
}

fn eight_bits(low: vec4<f32>, high: vec4<f32>) -> Eight {
    return Eight(finite(bitcast<vec4<u32>>(low)), finite(bitcast<vec4<u32>>(high)));
}

// The largest magnitude of eight floats.
fn largest_of_eight(bits: Eight) -> u32 {
    let both = max(bits.low & vec4<u32>(MAGNITUDE), bits.high & vec4<u32>(MAGNITUDE));
    return max(max(both.x, both.y), max(both.z, both.w));
}

// Stores the tile's `number`th run of eight channels, as far as they exist. `largest` is the largest magnitude of their
// block, `sum` that of its mantissas before them. Returns the sum with them, or 0 at a block's end, where its scale is
// stored.
fn store_eight(tile: Tile, index: u32, number: u32, bits: Eight, largest: u32, sum: i32) -> i32 {
    let channel = tile.first_output + 8u * number;
    if channel >= params.outputs {
        return 0;
    }
    let chosen = block_scale(largest);
    let low = mantissas(bits.low, vec4<f32>(chosen.inverse));
    let high = mantissas(bits.high, vec4<f32>(chosen.inverse));
    let ones = vec4<i32>(1);
    let whole = sum + dot(low, ones) + dot(high, ones);
    let place = (tile.group * params.outputs + tile.first_output) / 8u + number;
    let word = index * params.output_quads + 2u * place;
    store_word(word, quad_word(low));
    if channel + 4u < params.outputs {
        store_word(word + 1u, quad_word(high));
    }
    if (number + 1u) % params.output_eights != 0u && channel + 8u < params.outputs {
        return whole;
    }
    store_scale(index, place, chosen.scale, whole);
    return 0;
}
