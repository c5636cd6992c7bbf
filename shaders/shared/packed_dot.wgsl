// The packed dot products in plain WGSL, for browsers without the language feature packed_4x8_integer_dot_product. No
// file imports this one: the host adds it where the built-ins are missing.

// Multiplies four int8 in a word by four in another, and sums.
fn dot4I8Packed(a: u32, b: u32) -> i32 {
    let to_top = vec4<u32>(24u, 16u, 8u, 0u);
    let x = bitcast<vec4<i32>>(vec4<u32>(a) << to_top) >> vec4<u32>(24u);
    let y = bitcast<vec4<i32>>(vec4<u32>(b) << to_top) >> vec4<u32>(24u);
    return dot(x, y);
}

// The same of unsigned bytes.
fn dot4U8Packed(a: u32, b: u32) -> u32 {
    let to_bottom = vec4<u32>(0u, 8u, 16u, 24u);
    let x = (vec4<u32>(a) >> to_bottom) & vec4<u32>(255u);
    let y = (vec4<u32>(b) >> to_bottom) & vec4<u32>(255u);
    return dot(x, y);
}
