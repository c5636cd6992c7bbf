// What the kernels that compute tiles of pixels x output channels share: outputs as floats, or as integer
// activations for the next layer. Appended after them.

// Four output channels of a pixel, eight apart, from sums to values; 0 where there are none.
fn finish_four(pixel: Pixel, group: u32, output_in_group: u32, sums: vec4<f32>) -> vec4<f32> {
    var values = vec4<f32>();
    if pixel.valid {
        for (var i = 0u; i < 4u; i++) {
            let channel = output_in_group + 8u * i;
            if channel < params.outputs {
                values[i] = finish(OutputPlace(pixel.image, group * params.outputs + channel, pixel.y, pixel.x), sums[i]);
            }
        }
    }
    return values;
}

// Stores such four channels as floats, as far as they exist.
fn store_four(pixel: Pixel, group: u32, output_in_group: u32, sums: vec4<f32>) {
    if !pixel.valid {
        return;
    }
    for (var i = 0u; i < 4u; i++) {
        let channel = output_in_group + 8u * i;
        if channel < params.outputs {
            store_output(OutputPlace(pixel.image, group * params.outputs + channel, pixel.y, pixel.x), sums[i]);
        }
    }
}

// Writes a block's scale and scaled sum; `eight` is the number of its first eight channels in the pixel.
fn store_scale(row: u32, eight: u32, scale: f32, sum: i32) {
    let at = params.output_scales_at + 2u * (row * params.output_blocks + eight / params.output_eights);
    output[at] = bitcast<u32>(scale);
    output[at + 1u] = bitcast<u32>(scale * f32(sum));
}
