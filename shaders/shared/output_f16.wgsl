// Output and residual as halves. Takes the place of output_f32.wgsl.

@group(0) @binding(4) var<storage, read> residual: array<f16>;
@group(0) @binding(5) var<storage, read_write> output: array<f16>;

fn residual_float(at: u32) -> f32 {
    return f32(residual[at]);
}

// Saturates: WGSL does not say what becomes of a number out of range.
fn store_float(at: u32, value: f32) {
    output[at] = f16(clamp(value, -65504.0, 65504.0));
}

// Integer activations are words: the host has them put out by the other form only.
fn store_word(at: u32, word: u32) {}
