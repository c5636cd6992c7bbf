// The input as integer activations: quads, [pixel][group][quad], four mantissas a word; then [pixel][group][block], a
// scale and the scaled sum of the block's mantissas.

@group(0) @binding(3) var<storage, read> input: array<u32>;
// The same in fours.
@group(0) @binding(6) var<storage, read> input_vectors: array<vec4<u32>>;

// Which row of integer activations a pixel and tap meet, over all images and groups; NONE in the padding
// and past the last pixel.
fn integer_row(pixel: Pixel, group: u32, tap: u32) -> u32 {
    let position = tap_position(pixel.origin, tap);
    if !pixel.valid || !inside_input(position) {
        return NONE;
    }
    let index = (pixel.image * u32(params.input_height) + u32(position.x)) * u32(params.input_width) + u32(position.y);
    return index * params.groups + group;
}

// Scale of a block of integer activations, and its scaled sum where a KDS bias wants it; 0 for no row.
fn integer_scale(row: u32, block: u32) -> vec2<f32> {
    if row == NONE {
        return vec2<f32>();
    }
    let at = params.scales_at + 2u * (row * params.block_count + block);
    if params.kds_bias_at == NONE {
        return vec2<f32>(bitcast<f32>(input[at]), 0.0);
    }
    return bitcast<vec2<f32>>(vec2<u32>(input[at], input[at + 1u]));
}
