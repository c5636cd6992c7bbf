// Float input, as halves in fours. Takes the place of input_f16.wgsl where four channels are one load.

@group(0) @binding(2) var<storage, read> input: array<vec4<f16>>;

// One element.
fn input_float(at: u32) -> f32 {
    return f32(input[at / 4u][at % 4u]);
}

// Four neighbouring elements, the `at`th four.
fn input_vector(at: u32) -> vec4<f32> {
    return vec4<f32>(input[at]);
}
