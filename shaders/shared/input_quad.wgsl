// #import params, input_{loads}

// Reads quads of a float input, whatever its layout.

// Up to four channels of a pixel, from an index into the input; missing ones are 0.
fn input_quad(at: u32, count: u32) -> vec4<f32> {
    let index = vec4<u32>(0u, 1u, 2u, 3u);
    let places = at + min(index, vec4<u32>(count - 1u)) * params.input_c;
    let values = vec4<f32>(input_float(places.x), input_float(places.y), input_float(places.z), input_float(places.w));
    return select(vec4<f32>(), values, index < vec4<u32>(count));
}
