// #import params, coordinates, quantize, input_{loads}, input_quad, output_f32

// Floats to integer activations, int8 mantissas in blocks of channels with a scale each; the layout is that of
// input_int8.wgsl. One thread per pixel, group and block.
//
//     scale = the largest |x| of the block / 127, or the next power of two that is enough
//     mantissa = round(x / scale)          for each channel, four a word
//     stored behind all mantissas: scale, and scale * the sum of the block's mantissas
//
// The plan's Params describe a 1x1 convolution that keeps every pixel: output pixels are the input's.

const THREADS = 64u;

// Whether blocks are whole quads of neighbouring channels, so that one load brings a quad. Here both are one.
override WHOLE_STEPS: bool = false;
override CHANNELS_LAST: bool = false;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = workgroup_index(workgroup, grid) * THREADS + thread;
    let block = index % params.block_count;
    let row = index / params.block_count;
    let group = row % params.groups;
    let pixel = output_pixel(row / params.groups);
    if !pixel.valid {
        return;
    }
    let first_quad = block * params.block_quads;
    let end_quad = block_end(first_quad, block);
    let start = input_index(pixel.image, group, pixel.origin);

    var largest = 0u;
    for (var quad = first_quad; quad < end_quad; quad++) {
        let magnitudes = finite_quad(start, quad, block) & vec4<u32>(MAGNITUDE);
        largest = max(largest, max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w)));
    }
    let chosen = block_scale(largest);
    var sum = 0;
    for (var quad = first_quad; quad < end_quad; quad++) {
        let values = mantissas(finite_quad(start, quad, block), vec4<f32>(chosen.inverse));
        sum += dot(values, vec4<i32>(1));
        store_word(row * params.row_quads + quad, quad_word(values));
    }
    let at = params.input_scales_at + 2u * (row * params.block_count + block);
    store_word(at, bitcast<u32>(chosen.scale));
    store_word(at + 1u, bitcast<u32>(chosen.scale * f32(sum)));
}

// The bits of a quad's floats, made finite.
fn finite_quad(start: u32, quad: u32, block: u32) -> vec4<u32> {
    if WHOLE_STEPS && CHANNELS_LAST {
        return finite(bitcast<vec4<u32>>(input_vector(start / 4u + quad)));
    }
    let place = quad_place(quad, block);
    return finite(bitcast<vec4<u32>>(input_quad(start + place.channel * params.input_c, place.count)));
}
