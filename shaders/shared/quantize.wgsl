// From floats to int8 mantissas with a scale. Works on the bits of the floats, so that NaN and infinities
// are what they are whatever a compiler assumes of them. Appended to the kernels that use it.

const LARGEST = 0x7f7fffffu; // the largest float; NaN and infinities lie above
const SMALLEST = 0x0d800000u; // 2^-100: blocks below are zero

// NaN as 0, infinities as the largest float.
fn finite(bits: vec4<u32>) -> vec4<u32> {
    let magnitudes = bits & vec4<u32>(0x7fffffffu);
    let signs = bits & vec4<u32>(0x80000000u);
    let nan = magnitudes > vec4<u32>(LARGEST + 1u);
    return select(signs | min(magnitudes, vec4<u32>(LARGEST)), vec4<u32>(), nan);
}

// Scale and inverse for the largest magnitude of a block, as bits.
fn block_scale(largest: u32) -> vec2<f32> {
    if largest < SMALLEST {
        return vec2<f32>();
    }
    if params.power_of_two != 0u {
        // 127 * 2^E has the exponent E + 6 and the leading fraction bits 111111.
        let exponent = (largest >> 23u) - 6u + select(0u, 1u, (largest & 0x7fffffu) > 0x7e0000u);
        return bitcast<vec2<f32>>(vec2<u32>(exponent << 23u, (254u - exponent) << 23u));
    }
    return vec2<f32>(bitcast<f32>(largest) / 127.0, 127.0 / bitcast<f32>(largest));
}

fn mantissas(finite_bits: vec4<u32>, inverse: vec4<f32>) -> vec4<i32> {
    let scaled = round(bitcast<vec4<f32>>(finite_bits) * inverse);
    return vec4<i32>(clamp(scaled, vec4<f32>(-127.0), vec4<f32>(127.0)));
}

// Four mantissas as one word.
fn quad_word(values: vec4<i32>) -> u32 {
    let bytes = vec4<u32>(values) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
