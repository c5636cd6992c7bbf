// #import tiles, quantize, conv, output_{floats}

// What the matrix products share. Appended after them; each says how to `stage` four floats in 256 places of
// workgroup memory.

const OUTPUTS = 64u; // of a workgroup: eight per thread, 8 apart; its pixels likewise

// Whether every block is a whole number of the kernel's steps, as Kernel::step in src/gpu/kernel.rs says:
// then nothing needs to be cut off at a block's end.
override WHOLE_STEPS: bool = false;

// The weights in fours, where whole steps align them: 8-bit integers and floats.
@group(0) @binding(7) var<storage, read> weight_vectors: array<vec4<u32>>;

// Where a row's weights start, with WHOLE_STEPS: floats and 8-bit integers in weight_vectors, in the first place; narrower ones
// in `weights`, a place for each plane. The first is that of one output channel, the others those of all.
fn weights_at(tap: u32, channel: u32) -> vec3<u32> {
    let all = params.all_outputs;
    if BITS >= 8u {
        let rows = select(params.row_quads, params.row_quads / 4u, BITS == 8u);
        return vec3<u32>(tap * rows * all + channel, 0u, 0u);
    }
    let twos = tap * params.row_words + select(0u, params.row_quads / 2u, (BITS & 4u) != 0u);
    let ones = twos + select(0u, params.row_quads / 4u, (BITS & 2u) != 0u);
    return vec3<u32>(tap * params.row_words, twos, ones) * all + vec3<u32>(channel, 0u, 0u);
}

// How far sixteen channels lie apart there; for single bits, of which a word has thirty-two channels, those behind an even number.
fn sixteen_apart() -> vec3<u32> {
    return vec3<u32>(select(2u, 1u, BITS == 8u), 1u, 0u) * params.all_outputs;
}

// Sixteen channels of packed integers, the first or, if `odd`, the second of thirty-two: four quads of bytes, as packed_quad
// gives them, with shifts that are known when this is compiled.
fn packed_sixteen(at: vec3<u32>, odd: u32, channel: u32, all: u32) -> vec4<u32> {
    if BITS == 8u {
        return weight_vectors[at.x];
    }
    var quads = vec4<u32>();
    if (BITS & 4u) != 0u {
        let first = weights[at.x];
        let second = weights[at.x + all];
        quads = vec4<u32>(first, first << 4u, second, second << 4u) & vec4<u32>(0xf0f0f0f0u);
    }
    if (BITS & 2u) != 0u {
        let word = weights[at.y + channel];
        let down = BITS & 4u;
        quads |= vec4<u32>(moved(word, 0u, down), moved(word, 2u, down), moved(word, 4u, down), moved(word, 6u, down))
            & vec4<u32>(0xc0c0c0c0u >> down);
    }
    if (BITS & 1u) != 0u {
        let word = weights[at.z + channel] << (4u * odd);
        let down = BITS & 6u;
        quads |= vec4<u32>(moved(word, 0u, down), moved(word, 1u, down), moved(word, 2u, down), moved(word, 3u, down))
            & vec4<u32>(0x80808080u >> down);
    }
    return quads;
}

fn moved(word: u32, up: u32, down: u32) -> u32 {
    return select(word >> ((down - up) & 31u), word << ((up - down) & 31u), up >= down);
}

// Stores two pixels of a thread, its `number`th and the next: `a` its first four output channels, `b` the others. The
// sums go through workgroup memory, where they can be indexed: one copy of the epilogue serves sixteen of them.
fn store_two(tile: Tile, local: vec2<u32>, number: u32, a0: vec4<f32>, b0: vec4<f32>, a1: vec4<f32>, b1: vec4<f32>) {
    let lane = local.x + 8u * local.y;
    if params.output_scales_at != NONE {
        // Neighbours may still read what was staged before.
        workgroupBarrier();
    }
    stage(lane, a0);
    stage(64u + lane, b0);
    stage(128u + lane, a1);
    stage(192u + lane, b1);
    for (var i = 0u; i < 2u; i++) {
        let index = tile.pixel + local.x + 8u * (number + i);
        let pixel = pixel_place(index);
        for (var k = 0u; k < 8u; k++) {
            let output = tile.output + local.y + 8u * k;
            if pixel.valid && output < params.outputs {
                let at = 64u * (2u * i + k / 4u) + lane;
                let place = OutputPlace(pixel.image, tile.group * params.outputs + output, pixel.y, pixel.x);
                let sum = staged(at)[k % 4u];
                if params.output_scales_at == NONE {
                    store_output(place, sum);
                } else {
                    stage_one(at, k % 4u, finish(place, sum));
                }
            }
        }
        if params.output_scales_at != NONE {
            store_integers(tile, local, index, pixel.valid, 128u * i);
        }
    }
}

// Stores one pixel of a thread as integer activations. The eight threads of a pixel hold channels eight
// apart, at `base`; here each gets eight neighbours, those of block `local.y / output_eights`.
fn store_integers(tile: Tile, local: vec2<u32>, row: u32, valid: bool, base: u32) {
    workgroupBarrier();
    let first_at = base + 64u * (local.y / 4u) + local.x;
    let part = local.y % 4u;
    let outputs = params.outputs - min(tile.output + 8u * local.y, params.outputs);
    let index = vec4<u32>(0u, 1u, 2u, 3u);
    // What is no channel of this layer was not finished.
    let first = select(vec4<u32>(), finite(bitcast<vec4<u32>>(vec4<f32>(
        staged(first_at)[part], staged(first_at + 8u)[part], staged(first_at + 16u)[part], staged(first_at + 24u)[part],
    ))), index < vec4<u32>(outputs));
    let second = select(vec4<u32>(), finite(bitcast<vec4<u32>>(vec4<f32>(
        staged(first_at + 32u)[part], staged(first_at + 40u)[part], staged(first_at + 48u)[part], staged(first_at + 56u)[part],
    ))), index + 4u < vec4<u32>(outputs));
    let both = max(first & vec4<u32>(0x7fffffffu), second & vec4<u32>(0x7fffffffu));
    var largest = max(max(both.x, both.y), max(both.z, both.w));
    workgroupBarrier();
    // As floats: magnitudes of finite numbers are ordered alike.
    let at = base + local.x + 8u * local.y;
    stage(at, vec4<f32>(bitcast<f32>(largest)));
    workgroupBarrier();
    let leader = local.y / params.output_eights * params.output_eights;
    let leader_at = base + local.x + 8u * leader;
    for (var i = 0u; i < params.output_eights; i++) {
        largest = max(largest, bitcast<u32>(staged(leader_at + 8u * i).x));
    }
    let scale = block_scale(largest);
    let low = mantissas(first, vec4<f32>(scale.y));
    let high = mantissas(second, vec4<f32>(scale.y));
    let ones = vec4<i32>(1);
    var sum = dot(low, ones) + dot(high, ones);
    stage(64u + at, vec4<f32>(f32(sum)));
    workgroupBarrier();
    if !valid || outputs == 0u {
        return;
    }
    let eight = (tile.group * params.outputs + tile.output) / 8u + local.y;
    let word = row * params.output_quads + 2u * eight;
    store_word(word, quad_word(low));
    if outputs > 4u {
        store_word(word + 1u, quad_word(high));
    }
    if local.y == leader {
        for (var i = 1u; i < params.output_eights; i++) {
            sum += i32(staged(64u + leader_at + 8u * i).x);
        }
        store_scale(row, eight, scale.x, sum);
    }
}
