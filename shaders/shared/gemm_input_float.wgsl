// #import params, coordinates, input_quad, input_{loads}

// What conv_gemm reads where its input is floats. For integer activations gemm_input_int8.wgsl takes its place.

// Whether the channels of a pixel are neighbours in the input, and start at a multiple of four, so that four are one
// load. Only together with WHOLE_STEPS.
override CHANNELS_LAST: bool = false;

// Where a pixel's channels start in the input at a tap; NONE in the padding and past the last pixel.
fn input_row(pixel: Pixel, group: u32, tap: u32) -> u32 {
    return tap_index(pixel, group, tap);
}

// Where a quad of a row is read, with WHOLE_STEPS: what does not change from step to step.
fn quad_from(row: u32, quad: u32) -> u32 {
    if CHANNELS_LAST {
        return row / 4u + quad;
    }
    return row + 4u * quad * params.input_c;
}

// What a block of a row is to be multiplied by.
fn input_scale(row: u32, block: u32) -> f32 {
    return 1.0;
}

// Four channels, `quads` behind `first`.
fn load_quad(first: u32, quads: u32, scale: f32) -> vec4<f32> {
    if CHANNELS_LAST {
        return input_vector(first + quads);
    }
    let step = params.input_c;
    let at = first + 4u * quads * step;
    return vec4<f32>(
        input_float(at), input_float(at + step), input_float(at + 2u * step), input_float(at + 3u * step),
    );
}

// Up to four channels of a row's quad; 0 past the block's end.
fn load_ragged_quad(row: u32, quad: u32, end: u32, block: u32, scale: f32) -> vec4<f32> {
    if quad >= end {
        return vec4<f32>();
    }
    let place = quad_place(quad, block);
    return input_quad(row + place.channel * params.input_c, place.count);
}
