// #import input_int8

// What conv_gemm reads: integer activations, which become floats on the way into workgroup memory. For devices without a
// packed dot product. Takes the place of gemm_input_float.wgsl, whose comments hold.

fn input_row(pixel: Pixel, group: u32, tap: u32) -> u32 {
    return integer_row(pixel, group, tap);
}

fn quad_from(row: u32, quad: u32) -> u32 {
    return row * params.row_quads + quad;
}

fn input_scale(row: u32, block: u32) -> f32 {
    return bitcast<f32>(input[params.scales_at + 2u * (row * params.block_count + block)]);
}

fn load_quad(first: u32, quads: u32, scale: f32) -> vec4<f32> {
    return byte_floats(input[first + quads]) * scale;
}

fn load_ragged_quad(row: u32, quad: u32, end: u32, block: u32, scale: f32) -> vec4<f32> {
    if quad >= end {
        return vec4<f32>();
    }
    return load_quad(quad_from(row, quad), 0u, scale);
}
