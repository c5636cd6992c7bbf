// Floats to integer activations: int8 mantissas in blocks of channels with a scale each. One thread
// per pixel, group and block. Works on the bits of the floats, so that NaN and infinities are what
// they are whatever a compiler assumes of them.

const LARGEST = 0x7f7fffffu; // the largest float; NaN and infinities lie above
const SMALLEST = 0x0d800000u; // 2^-100: blocks below are zero

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
    var scale = 0.0;
    var inverse = 0.0;
    if largest >= SMALLEST {
        if params.power_of_two != 0u {
            // 127 * 2^E has the exponent E + 6 and the leading fraction bits 111111.
            let exponent = (largest >> 23u) - 6u + select(0u, 1u, (largest & 0x7fffffu) > 0x7e0000u);
            scale = bitcast<f32>(exponent << 23u);
            inverse = bitcast<f32>((254u - exponent) << 23u);
        } else {
            scale = bitcast<f32>(largest) / 127.0;
            inverse = 127.0 / bitcast<f32>(largest);
        }
    }
    var sum = 0;
    for (var quad = first_quad; quad < end_quad; quad++) {
        let scaled = round(bitcast<vec4<f32>>(finite_bits(start, quad, block)) * inverse);
        let mantissas = vec4<i32>(clamp(scaled, vec4<f32>(-127.0), vec4<f32>(127.0)));
        sum += mantissas.x + mantissas.y + mantissas.z + mantissas.w;
        let bytes = vec4<u32>(mantissas) & vec4<u32>(255u);
        output[row * params.row_quads + quad] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
    }
    let at = params.scales_at + 2u * (row * params.block_count + block);
    output[at] = bitcast<u32>(scale);
    output[at + 1u] = bitcast<u32>(scale * f32(sum));
}

// The bits of a quad's floats: NaN as 0, infinities as the largest float.
fn finite_bits(start: u32, quad: u32, block: u32) -> vec4<u32> {
    let place = quad_place(quad, block);
    let bits = input_words(start + place.channel * params.input_c, place.count);
    let magnitudes = bits & vec4<u32>(0x7fffffffu);
    let signs = bits & vec4<u32>(0x80000000u);
    let nan = magnitudes > vec4<u32>(LARGEST + 1u);
    return select(signs | min(magnitudes, vec4<u32>(LARGEST)), vec4<u32>(), nan);
}
