// The output as 32-bit words: floats, or integer activations as input_f32.wgsl has them; the residual as floats.

@group(0) @binding(4) var<storage, read> residual: array<f32>;
@group(0) @binding(5) var<storage, read_write> output: array<u32>;

fn residual_float(at: u32) -> f32 {
    return residual[at];
}

fn store_float(at: u32, value: f32) {
    output[at] = bitcast<u32>(value);
}

fn store_word(at: u32, word: u32) {
    output[at] = word;
}
