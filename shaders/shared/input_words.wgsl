// Words of an input of integer activations, which input_int8.wgsl gives their meaning: for loads of one.

@group(0) @binding(2) var<storage, read> input: array<u32>;

// One word.
fn input_word(at: u32) -> u32 {
    return input[at];
}

// Four neighbouring words, the `at`th four.
fn input_four(at: u32) -> vec4<u32> {
    return vec4<u32>(input[4u * at], input[4u * at + 1u], input[4u * at + 2u], input[4u * at + 3u]);
}
