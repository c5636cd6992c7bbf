// What conv_gemm reads: floats. Appended to it; gemm_integers.wgsl takes its place for integer activations.

// Where a pixel's channels start in the input at a tap; NONE in the padding and past the last pixel.
fn input_row(pixel: Pixel, group: u32, tap: u32) -> u32 {
    return tap_index(pixel, group, tap);
}

// What a block of a row is to be multiplied by.
fn input_scale(row: u32, block: u32) -> f32 {
    return 1.0;
}

// Four channels of a row; 0 past the block's end.
fn load_input(row: u32, quad: u32, end: u32, block: u32, scale: f32) -> vec4<f32> {
    if WHOLE_STEPS {
        if CHANNELS_LAST {
            return input_vector(row / 4u + quad);
        }
        let step = params.input_c;
        let at = row + 4u * quad * step;
        return vec4<f32>(input_float(at), input_float(at + step), input_float(at + 2u * step), input_float(at + 3u * step));
    }
    if quad >= end {
        return vec4<f32>();
    }
    let place = quad_place(quad, block);
    return input_quad(row + place.channel * params.input_c, place.count);
}
