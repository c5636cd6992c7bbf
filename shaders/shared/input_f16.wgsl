// Float input, as halves. Takes the place of input_f32.wgsl in kernels that read floats.

@group(0) @binding(3) var<storage, read> input: array<f16>;
// The same buffer in fours.
@group(0) @binding(6) var<storage, read> input_vectors: array<vec4<f16>>;

// One element.
fn input_float(at: u32) -> f32 {
    return f32(input[at]);
}

// Four neighbouring elements, the `at`th four.
fn input_vector(at: u32) -> vec4<f32> {
    return vec4<f32>(input_vectors[at]);
}
