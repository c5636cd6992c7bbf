// For browsers without the language feature packed_4x8_integer_dot_product: takes the built-in's place.

fn dot4I8Packed(a: u32, b: u32) -> i32 {
    let to_top = vec4<u32>(24u, 16u, 8u, 0u);
    let x = bitcast<vec4<i32>>(vec4<u32>(a) << to_top) >> vec4<u32>(24u);
    let y = bitcast<vec4<i32>>(vec4<u32>(b) << to_top) >> vec4<u32>(24u);
    return dot(x, y);
}
