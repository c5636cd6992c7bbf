// Words of an input of integer activations, in fours. Takes the place of input_words.wgsl where four quads are one
// load.

@group(0) @binding(2) var<storage, read> input: array<vec4<u32>>;

// One word.
fn input_word(at: u32) -> u32 {
    return input[at / 4u][at % 4u];
}

// Four neighbouring words, the `at`th four.
fn input_four(at: u32) -> vec4<u32> {
    return input[at];
}
