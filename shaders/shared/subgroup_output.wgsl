// #import params, coordinates, epilogue, quantize, tiles, subgroup, output_{floats}

// How the kernels for subgroups store their sums: as floats, or as integer activations of whole blocks.

// Stores four pixels of a tile, from its `first` on, for this lane's output channels.
fn store(tile: Tile, first: u32, lane: u32, sums: Sums) {
    for (var i = 0u; i < 4u; i++) {
        let index = tile.first_pixel + first + i;
        let pixel = output_pixel(index);
        let four = vec4<f32>(sums[0][i], sums[1][i], sums[2][i], sums[3][i]);
        if params.output_scales_at == NONE {
            store_four(tile, lane, pixel, four);
        } else {
            store_integers(tile, lane, index, pixel.valid, finish_four(tile, lane, pixel, four));
        }
    }
}

// Computes this lane's four output channels of a pixel from their sums; 0 where there are none.
fn finish_four(tile: Tile, lane: u32, pixel: Pixel, sums: vec4<f32>) -> vec4<f32> {
    var values = vec4<f32>();
    if pixel.valid {
        for (var i = 0u; i < 4u; i++) {
            let channel = tile.first_output + lane + LANES * i;
            if channel < params.outputs {
                let place = OutputPlace(pixel.image, tile.group * params.outputs + channel, pixel.y, pixel.x);
                values[i] = finish(place, sums[i]);
            }
        }
    }
    return values;
}

// Stores this lane's four output channels of a pixel as floats, as far as they exist.
fn store_four(tile: Tile, lane: u32, pixel: Pixel, sums: vec4<f32>) {
    if !pixel.valid {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        let channel = tile.first_output + lane + LANES * i;
        if channel < params.outputs {
            store_output(OutputPlace(pixel.image, tile.group * params.outputs + channel, pixel.y, pixel.x), sums[i]);
        }
    }
}

// Stores a pixel as integer activations. Lanes hold neighbouring channels: each component of a vector is a run of
// eight. Blocks of 16 and 32 channels are two and four of these runs: swapping components combines them.
fn store_integers(tile: Tile, lane: u32, index: u32, valid: bool, values: vec4<f32>) {
    let bits = finite(bitcast<vec4<u32>>(values));
    var largest = subgroupMax(bits & vec4<u32>(MAGNITUDE));
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
    let own = mantissas(bits, vec4<f32>(s0.inverse, s1.inverse, s2.inverse, s3.inverse));
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
    let first_eight = (tile.group * params.outputs + tile.first_output) / 8u;
    let scales = vec4<f32>(s0.scale, s1.scale, s2.scale, s3.scale);
    for (var i = 0u; i < 4u; i++) {
        let eight = first_eight + i;
        if lane % 4u == 0u && tile.first_output + LANES * i + lane < params.outputs {
            store_word(index * params.output_quads + 2u * eight + lane / 4u, words[i]);
        }
        if lane == 0u && tile.first_output + LANES * i < params.outputs && i % params.output_eights == 0u {
            store_scale(index, eight, scales[i], sums[i]);
        }
    }
}
