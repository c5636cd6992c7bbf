// Weights and what scales them, in fours of words: for loads of 16 bytes. Takes the place of weights_words.wgsl, whose
// functions it has.

@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;

// One word.
fn weight_word(at: u32) -> u32 {
    return weights[at / 4u][at % 4u];
}

// Four neighbouring words, the `at`th four.
fn weight_four(at: u32) -> vec4<u32> {
    return weights[at];
}
