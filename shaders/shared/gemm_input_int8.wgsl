// #import params, coordinates, unpack_weights, input_int8, input_{words}

// What conv_gemm reads where its input is integer activations, which become floats on the way into workgroup memory:
// for devices without a packed dot product. Takes the place of gemm_input_float.wgsl, whose comments on the functions
// hold.

// Whether the channels of a pixel are neighbours, in the tile's order of loading: as integers they always are. True
// just where WHOLE_STEPS is.
override CHANNELS_LAST: bool = false;

fn input_row(pixel: Pixel, group: u32, tap: u32) -> u32 {
    return integer_row(pixel, group, tap);
}

fn quad_from(row: u32, quad: u32) -> u32 {
    return row * params.row_quads + quad;
}

fn input_scale(row: u32, block: u32) -> f32 {
    return bitcast<f32>(input_word(activation_scale_at(row, block)));
}

fn load_quad(first: u32, quads: u32, scale: f32) -> vec4<f32> {
    return byte_floats(input_word(first + quads)) * scale;
}

fn load_ragged_quad(row: u32, quad: u32, end: u32, block: u32, scale: f32) -> vec4<f32> {
    if quad >= end {
        return vec4<f32>();
    }
    return load_quad(quad_from(row, quad), 0u, scale);
}
