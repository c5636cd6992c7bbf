// #import params

// Output and residual as halves. Takes the place of output_f32.wgsl.

@group(0) @binding(3) var<storage, read> residual: array<f16>;
@group(0) @binding(4) var<storage, read_write> output_halves: array<f16>;

// One element of the residual.
fn residual_float(at: u32) -> f32 {
    if has_residual_in_place() {
        return f32(output_halves[at]);
    }
    return f32(residual[at]);
}

// Stores an element. Saturates: WGSL does not say what becomes of a number out of range.
fn store_float(at: u32, value: f32) {
    output_halves[at] = f16(clamp(value, -65504.0, 65504.0));
}

// Integer activations are words: the host has them put out with 32-bit floats only.
fn store_word(at: u32, word: u32) {}
