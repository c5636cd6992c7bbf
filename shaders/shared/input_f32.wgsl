// Float input, as 32-bit floats: for loads of one.

@group(0) @binding(2) var<storage, read> input: array<f32>;

// One element.
fn input_float(at: u32) -> f32 {
    return input[at];
}

// Four neighbouring elements, the `at`th four.
fn input_vector(at: u32) -> vec4<f32> {
    let first = 4u * at;
    return vec4<f32>(input_float(first), input_float(first + 1u), input_float(first + 2u), input_float(first + 3u));
}
