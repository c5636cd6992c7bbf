// Float input, as halves: for loads of one. Takes the place of input_f32.wgsl in kernels that read floats.

@group(0) @binding(2) var<storage, read> input: array<f16>;

// One element.
fn input_float(at: u32) -> f32 {
    return f32(input[at]);
}

// Four neighbouring elements, the `at`th four.
fn input_vector(at: u32) -> vec4<f32> {
    let first = 4u * at;
    return vec4<f32>(input_float(first), input_float(first + 1u), input_float(first + 2u), input_float(first + 3u));
}
