// The input as 32-bit words: floats, or integer activations. Those are quads, [pixel][group][quad], four mantissas a
// word; then [pixel][group][block], a scale and the scaled sum of the block's mantissas.

@group(0) @binding(3) var<storage, read> input: array<u32>;
// The same in fours.
@group(0) @binding(6) var<storage, read> input_vectors: array<vec4<u32>>;

fn input_float(at: u32) -> f32 {
    return bitcast<f32>(input[at]);
}

fn input_vector(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(input_vectors[at]);
}
