// #import params

// Output and residual as halves, in fours. Takes the place of output_vectors_f32.wgsl.

@group(0) @binding(3) var<storage, read> residual_vectors: array<vec4<f16>>;
@group(0) @binding(4) var<storage, read_write> output_vectors: array<vec4<f16>>;

// The `at`th four of the residual.
fn residual_vector(at: u32) -> vec4<f32> {
    if has_residual_in_place() {
        return vec4<f32>(output_vectors[at]);
    }
    return vec4<f32>(residual_vectors[at]);
}

// Stores the `at`th four. Saturates: WGSL does not say what becomes of a number out of range.
fn store_vector(at: u32, values: vec4<f32>) {
    output_vectors[at] = vec4<f16>(clamp(values, vec4<f32>(-65504.0), vec4<f32>(65504.0)));
}
