// #import params

// The output as 32-bit words: floats, or integer activations as input_int8.wgsl has them. The residual as floats.

@group(0) @binding(3) var<storage, read> residual: array<f32>;
@group(0) @binding(4) var<storage, read_write> output_words: array<u32>;

// One element of the residual.
fn residual_float(at: u32) -> f32 {
    if has_residual_in_place() {
        return bitcast<f32>(output_words[at]);
    }
    return residual[at];
}

// Stores an element of a float output.
fn store_float(at: u32, value: f32) {
    output_words[at] = bitcast<u32>(value);
}

// Stores a word of an output of integer activations.
fn store_word(at: u32, word: u32) {
    output_words[at] = word;
}
