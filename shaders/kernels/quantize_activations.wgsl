// #import quantize, conv, input_quad, output_f32

// Floats to integer activations: int8 mantissas in blocks of channels with a scale each. One thread
// per pixel, group and block.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = work_index(workgroup, grid) * 64u + lane;
    let block = index % params.block_count;
    let row = index / params.block_count;
    let group = row % params.groups;
    let pixel = pixel_place(row / params.groups);
    if !pixel.valid {
        return;
    }
    let first_quad = block * params.block_quads;
    let end_quad = select(first_quad + params.block_quads, params.row_quads, block + 1u == params.block_count);
    let start = input_index(pixel.image, group, pixel.origin);

    var largest = 0u;
    for (var quad = first_quad; quad < end_quad; quad++) {
        let magnitudes = finite_bits(start, quad, block) & vec4<u32>(0x7fffffffu);
        largest = max(largest, max(max(magnitudes.x, magnitudes.y), max(magnitudes.z, magnitudes.w)));
    }
    let scale = block_scale(largest);
    var sum = 0;
    for (var quad = first_quad; quad < end_quad; quad++) {
        let values = mantissas(finite_bits(start, quad, block), vec4<f32>(scale.y));
        sum += dot(values, vec4<i32>(1));
        store_word(row * params.row_quads + quad, quad_word(values));
    }
    let at = params.scales_at + 2u * (row * params.block_count + block);
    store_word(at, bitcast<u32>(scale.x));
    store_word(at + 1u, bitcast<u32>(scale.x * f32(sum)));
}

// The bits of a quad's floats, made finite.
fn finite_bits(start: u32, quad: u32, block: u32) -> vec4<u32> {
    let place = quad_place(quad, block);
    return finite(bitcast<vec4<u32>>(input_quad(start + place.channel * params.input_c, place.count)));
}
