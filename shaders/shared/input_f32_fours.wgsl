// Float input, as 32-bit floats in fours. Takes the place of input_f32.wgsl where four channels are one load.

@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;

// One element.
fn input_float(at: u32) -> f32 {
    return input[at / 4u][at % 4u];
}

// Four neighbouring elements, the `at`th four.
fn input_vector(at: u32) -> vec4<f32> {
    return input[at];
}
