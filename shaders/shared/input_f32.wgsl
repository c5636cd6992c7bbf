// Float input, as 32-bit floats.

@group(0) @binding(3) var<storage, read> input: array<f32>;
// The same buffer in fours.
@group(0) @binding(6) var<storage, read> input_vectors: array<vec4<f32>>;

// One element.
fn input_float(at: u32) -> f32 {
    return input[at];
}

// Four neighbouring elements, the `at`th four.
fn input_vector(at: u32) -> vec4<f32> {
    return input_vectors[at];
}
