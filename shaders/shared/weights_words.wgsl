// Weights and what scales them, one buffer, as words: for loads of one. unpack_weights.wgsl and weight_scales.wgsl say
// what lies in it.

@group(0) @binding(1) var<storage, read> weights: array<u32>;

// One word.
fn weight_word(at: u32) -> u32 {
    return weights[at];
}

// Four neighbouring words, the `at`th four.
fn weight_four(at: u32) -> vec4<u32> {
    return vec4<u32>(weights[4u * at], weights[4u * at + 1u], weights[4u * at + 2u], weights[4u * at + 3u]);
}
