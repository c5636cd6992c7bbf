// #import params

// Output and residual as 32-bit floats, in fours.

@group(0) @binding(3) var<storage, read> residual_vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output_vectors: array<vec4<f32>>;

// The `at`th four of the residual.
fn residual_vector(at: u32) -> vec4<f32> {
    if has_residual_in_place() {
        return output_vectors[at];
    }
    return residual_vectors[at];
}

// Stores the `at`th four.
fn store_vector(at: u32, values: vec4<f32>) {
    output_vectors[at] = values;
}
