// #import params

// From floats to int8 mantissas with a scale: value = scale * mantissa, the largest of a block at 127 or just below.
// Works on the bits of the floats, so that NaN and infinities are what they are whatever a compiler assumes of them.

const LARGEST = 0x7f7fffffu; // the largest float; NaN and infinities lie above
const SMALLEST = 0x0d800000u; // 2^-100: blocks whose largest value is smaller are zero
const MAGNITUDE = 0x7fffffffu; // all bits of a float but the sign; as integers they are ordered as magnitudes are

// The scale of a block, and its inverse.
struct BlockScale {
    scale: f32,
    inverse: f32,
}

// Makes floats finite, bits to bits: NaN becomes 0, infinities the largest float.
fn finite(bits: vec4<u32>) -> vec4<u32> {
    let magnitudes = bits & vec4<u32>(MAGNITUDE);
    let signs = bits & vec4<u32>(~MAGNITUDE);
    let nan = magnitudes > vec4<u32>(LARGEST + 1u);
    return select(signs | min(magnitudes, vec4<u32>(LARGEST)), vec4<u32>(), nan);
}

// Chooses the scale of a block by its largest magnitude, given as bits.
fn block_scale(largest: u32) -> BlockScale {
    if largest < SMALLEST {
        return BlockScale();
    }
    if params.power_of_two_scales != 0u {
        // 127 * 2^E has the exponent E + 6 and the leading fraction bits 111111.
        let exponent = (largest >> 23u) - 6u + select(0u, 1u, (largest & 0x7fffffu) > 0x7e0000u);
        return BlockScale(bitcast<f32>(exponent << 23u), bitcast<f32>((254u - exponent) << 23u));
    }
    return BlockScale(bitcast<f32>(largest) / 127.0, 127.0 / bitcast<f32>(largest));
}

// Rounds four finite floats, given as bits, to mantissas.
fn mantissas(finite_bits: vec4<u32>, inverse: vec4<f32>) -> vec4<i32> {
    let scaled = round(bitcast<vec4<f32>>(finite_bits) * inverse);
    return vec4<i32>(clamp(scaled, vec4<f32>(-127.0), vec4<f32>(127.0)));
}

// Packs four mantissas into a word, the first in the lowest byte.
fn quad_word(values: vec4<i32>) -> u32 {
    let bytes = vec4<u32>(values) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
