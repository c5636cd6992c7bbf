// #import params, coordinates, input_{words}

// Input of integer activations: first the mantissas, quads of four int8 a word, [pixel][group][quad]; then, for
// [pixel][group][block], a scale and the scaled sum of the block's mantissas. A pixel and group are a row.

// The scale of a block of activations: a value is scale * mantissa. `sum` is the sum of the block's values, which a KDS
// bias is multiplied by.
struct ActivationScale {
    scale: f32,
    sum: f32,
}

// Which row a pixel and tap meet; NONE in the padding and past the last pixel.
fn integer_row(pixel: Pixel, group: u32, tap: u32) -> u32 {
    let position = tap_position(pixel.origin, tap);
    if !pixel.valid || !inside_input(position) {
        return NONE;
    }
    let row = pixel.image * u32(params.input_height) + u32(position.y);
    return (row * u32(params.input_width) + u32(position.x)) * params.groups + group;
}

// Where the scale of a block of a row lies; its sum follows.
fn activation_scale_at(row: u32, block: u32) -> u32 {
    return params.input_scales_at + 2u * (row * params.block_count + block);
}

// The scale of a block, and its sum where a KDS bias wants it; 0 for no row.
fn activation_scale(row: u32, block: u32) -> ActivationScale {
    if row == NONE {
        return ActivationScale();
    }
    let at = activation_scale_at(row, block);
    if has_kds_bias() {
        return ActivationScale(bitcast<f32>(input_word(at)), bitcast<f32>(input_word(at + 1u)));
    }
    return ActivationScale(bitcast<f32>(input_word(at)), 0.0);
}
