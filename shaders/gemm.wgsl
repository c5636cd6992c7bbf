// What the two matrix products share. Appended after them; each says how to `stage` four floats in the
// workgroup memory of its weights.

const PIXELS = 32u; // of a workgroup: four per thread, 8 apart
const OUTPUTS = 64u; // of a workgroup: eight per thread, 8 apart

// Stores eight output channels of a thread's `number`th pixel: `a` the first four, `b` the others.
fn store_eight(tile: Tile, local: vec2<u32>, number: u32, a: vec4<f32>, b: vec4<f32>) {
    let index = tile.pixel + local.x + 8u * number;
    let pixel = pixel_place(index);
    let output = tile.output + local.y;
    if params.output_scales_at == NONE {
        store_four(pixel, tile.group, output, a);
        store_four(pixel, tile.group, output + 32u, b);
    } else {
        let lower = finish_four(pixel, tile.group, output, a);
        let upper = finish_four(pixel, tile.group, output + 32u, b);
        store_integers(tile, local, index, pixel.valid, lower, upper);
    }
}

// Stores one pixel of a thread as integer activations. The eight threads of a pixel hold channels eight
// apart; here each gets eight neighbours, those of block `local.y / output_eights`.
fn store_integers(tile: Tile, local: vec2<u32>, row: u32, valid: bool, lower: vec4<f32>, upper: vec4<f32>) {
    let base = local.x * 16u;
    workgroupBarrier();
    stage(base + local.y, lower);
    stage(base + 8u + local.y, upper);
    workgroupBarrier();
    let first_at = base + (local.y / 4u) * 8u;
    let part = local.y % 4u;
    let first = finite(bitcast<vec4<u32>>(vec4<f32>(
        staged(first_at)[part], staged(first_at + 1u)[part], staged(first_at + 2u)[part], staged(first_at + 3u)[part],
    )));
    let second = finite(bitcast<vec4<u32>>(vec4<f32>(
        staged(first_at + 4u)[part], staged(first_at + 5u)[part], staged(first_at + 6u)[part], staged(first_at + 7u)[part],
    )));
    let both = max(first & vec4<u32>(0x7fffffffu), second & vec4<u32>(0x7fffffffu));
    var largest = max(max(both.x, both.y), max(both.z, both.w));
    workgroupBarrier();
    // As floats: magnitudes of finite numbers are ordered alike.
    stage(base + local.y, vec4<f32>(bitcast<f32>(largest)));
    workgroupBarrier();
    let leader = local.y / params.output_eights * params.output_eights;
    for (var i = 0u; i < params.output_eights; i++) {
        largest = max(largest, bitcast<u32>(staged(base + leader + i).x));
    }
    let scale = block_scale(largest);
    let low = mantissas(first, vec4<f32>(scale.y));
    let high = mantissas(second, vec4<f32>(scale.y));
    let ones = vec4<i32>(1);
    var sum = dot(low, ones) + dot(high, ones);
    stage(base + 8u + local.y, vec4<f32>(f32(sum)));
    workgroupBarrier();
    let outputs = params.outputs - min(tile.output + 8u * local.y, params.outputs);
    if !valid || outputs == 0u {
        return;
    }
    let eight = (tile.group * params.outputs + tile.output) / 8u + local.y;
    let at = row * params.output_quads + 2u * eight;
    output[at] = quad_word(low);
    if outputs > 4u {
        output[at + 1u] = quad_word(high);
    }
    if local.y == leader {
        for (var i = 1u; i < params.output_eights; i++) {
            sum += i32(staged(base + 8u + leader + i).x);
        }
        store_scale(row, eight, scale.x, sum);
    }
}
