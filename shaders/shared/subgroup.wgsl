// #import tiles, quantize, conv, output_{floats}

// What the kernels for subgroups of eight lanes share. Appended after them.

const LANES = 8u;
const TILE = 32u; // pixels, and output channels, of a workgroup: four per lane, LANES apart

// Sums of four pixels for this lane's four output channels.
alias Sums = array<vec4<f32>, 4>;

fn four_lanes(value: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u), subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u),
    );
}

fn four_more_lanes(value: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u), subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u),
    );
}

// Stores four pixels of a tile, from its `first`, for this lane's output channels.
fn store(tile: Tile, first: u32, lane: u32, sums: Sums) {
    for (var i = 0u; i < 4u; i++) {
        let index = tile.pixel + first + i;
        let pixel = pixel_place(index);
        let four = vec4<f32>(sums[0][i], sums[1][i], sums[2][i], sums[3][i]);
        if params.output_scales_at == NONE {
            store_four(pixel, tile.group, tile.output + lane, four);
        } else {
            store_integers(tile, lane, index, pixel.valid, finish_four(pixel, tile.group, tile.output + lane, four));
        }
    }
}

// Four output channels of a pixel, eight apart, from sums to values; 0 where there are none.
fn finish_four(pixel: Pixel, group: u32, output_in_group: u32, sums: vec4<f32>) -> vec4<f32> {
    var values = vec4<f32>();
    if pixel.valid {
        for (var i = 0u; i < 4u; i++) {
            let channel = output_in_group + 8u * i;
            if channel < params.outputs {
                values[i] = finish(OutputPlace(pixel.image, group * params.outputs + channel, pixel.y, pixel.x), sums[i]);
            }
        }
    }
    return values;
}

// Stores such four channels as floats, as far as they exist.
fn store_four(pixel: Pixel, group: u32, output_in_group: u32, sums: vec4<f32>) {
    if !pixel.valid {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        let channel = output_in_group + 8u * i;
        if channel < params.outputs {
            store_output(OutputPlace(pixel.image, group * params.outputs + channel, pixel.y, pixel.x), sums[i]);
        }
    }
}

// Stores a pixel as integer activations. Lanes hold neighbouring channels: each component of a vector is
// a run of eight.
fn store_integers(tile: Tile, lane: u32, row: u32, valid: bool, values: vec4<f32>) {
    let bits = finite(bitcast<vec4<u32>>(values));
    var largest = subgroupMax(bits & vec4<u32>(0x7fffffffu));
    if params.output_eights >= 2u {
        largest = max(largest, largest.yxwz);
    }
    if params.output_eights >= 4u {
        largest = max(largest, largest.zwxy);
    }
    let s0 = block_scale(largest.x);
    let s1 = block_scale(largest.y);
    let s2 = block_scale(largest.z);
    let s3 = block_scale(largest.w);
    let own = mantissas(bits, vec4<f32>(s0.y, s1.y, s2.y, s3.y));
    var sums = subgroupAdd(own);
    if params.output_eights >= 2u {
        sums += sums.yxwz;
    }
    if params.output_eights >= 4u {
        sums += sums.zwxy;
    }
    // Four lanes' bytes become a word, in the first of them.
    var words = (vec4<u32>(own) & vec4<u32>(255u)) << vec4<u32>(8u * (lane % 4u));
    words |= subgroupShuffleXor(words, 1u);
    words |= subgroupShuffleXor(words, 2u);
    if !valid {
        return;
    }
    let first_eight = (tile.group * params.outputs + tile.output) / 8u;
    let scales = vec4<f32>(s0.x, s1.x, s2.x, s3.x);
    for (var i = 0u; i < 4u; i++) {
        let eight = first_eight + i;
        if lane % 4u == 0u && tile.output + 8u * i + lane < params.outputs {
            store_word(row * params.output_quads + 2u * eight + lane / 4u, words[i]);
        }
        if lane == 0u && tile.output + 8u * i < params.outputs && i % params.output_eights == 0u {
            store_scale(row, eight, scales[i], sums[i]);
        }
    }
}
