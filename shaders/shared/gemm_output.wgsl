// #import params, coordinates, epilogue, quantize, tiles, gemm, gemm_tile_{tiles}, output_{floats}

// How the matrix products store their sums: by way of workgroup memory, where they can be indexed, so that one copy
// of the epilogue in a loop serves all of them. That brought conv_gemm from 41 to 11 KB of code on navi21, less than
// its instruction cache holds.
//
// Two pixels of each thread are staged at a time, four places of four floats:
//
//     [first pixel, second][output channels y + 0, 8, 16, 24; then y + 32, 40, 48, 56][thread]

// Places of one pixel of every thread.
const STAGED_PIXEL = 128u;
// Output channels of a thread.
const OUTPUTS_PER_THREAD = 8u;

// Stores two pixels of a thread, its `number`th and the next: `a` its first four output channels, `b` the others.
fn store_two(tile: Tile, local: vec2<u32>, number: u32, a0: vec4<f32>, b0: vec4<f32>, a1: vec4<f32>, b1: vec4<f32>) {
    let thread = local.x + SIDE * local.y;
    if has_int8_output() {
        // Neighbours may still read what was staged before.
        workgroupBarrier();
    }
    stage(thread, a0);
    stage(THREADS + thread, b0);
    stage(STAGED_PIXEL + thread, a1);
    stage(STAGED_PIXEL + THREADS + thread, b1);
    for (var i = 0u; i < 2u; i++) {
        let index = tile.first_pixel + local.x + SIDE * (number + i);
        let pixel = output_pixel(index);
        for (var k = 0u; k < OUTPUTS_PER_THREAD; k++) {
            let channel = tile.first_output + local.y + SIDE * k;
            if pixel.valid && channel < params.outputs {
                let at = THREADS * (2u * i + k / 4u) + thread;
                let place = OutputPlace(pixel.image, tile.group * params.outputs + channel, pixel.y, pixel.x);
                let sum = staged(at)[k % 4u];
                if has_int8_output() {
                    stage_one(at, k % 4u, finish(place, sum));
                } else {
                    store_output(place, sum);
                }
            }
        }
        if has_int8_output() {
            store_integers(tile, local, index, pixel.valid, STAGED_PIXEL * i);
        }
    }
}

// Stores one pixel of a thread as integer activations. The eight threads of a pixel have staged channels eight apart,
// from `base` on; here each gets eight neighbours, `local.y` their number, of the block that starts with the eight of
// `leader`.
fn store_integers(tile: Tile, local: vec2<u32>, index: u32, valid: bool, base: u32) {
    workgroupBarrier();
    let first_at = base + THREADS * (local.y / 4u) + local.x;
    let part = local.y % 4u;
    // How many of the eight channels this layer has. What is none was not finished.
    let count = params.outputs - min(tile.first_output + 8u * local.y, params.outputs);
    let channel = vec4<u32>(0u, 1u, 2u, 3u);
    let first = select(vec4<u32>(), finite(bitcast<vec4<u32>>(vec4<f32>(
        staged(first_at)[part], staged(first_at + SIDE)[part],
        staged(first_at + 2u * SIDE)[part], staged(first_at + 3u * SIDE)[part],
    ))), channel < vec4<u32>(count));
    let second = select(vec4<u32>(), finite(bitcast<vec4<u32>>(vec4<f32>(
        staged(first_at + 4u * SIDE)[part], staged(first_at + 5u * SIDE)[part],
        staged(first_at + 6u * SIDE)[part], staged(first_at + 7u * SIDE)[part],
    ))), channel + 4u < vec4<u32>(count));
    let both = max(first & vec4<u32>(MAGNITUDE), second & vec4<u32>(MAGNITUDE));
    var largest = max(max(both.x, both.y), max(both.z, both.w));
    workgroupBarrier();
    // As floats: magnitudes of finite numbers are ordered alike.
    let at = base + local.x + SIDE * local.y;
    stage(at, vec4<f32>(bitcast<f32>(largest)));
    workgroupBarrier();
    let leader = local.y / params.output_eights * params.output_eights;
    let leader_at = base + local.x + SIDE * leader;
    for (var i = 0u; i < params.output_eights; i++) {
        largest = max(largest, bitcast<u32>(staged(leader_at + SIDE * i).x));
    }
    let chosen = block_scale(largest);
    let low = mantissas(first, vec4<f32>(chosen.inverse));
    let high = mantissas(second, vec4<f32>(chosen.inverse));
    let ones = vec4<i32>(1);
    var sum = dot(low, ones) + dot(high, ones);
    stage(THREADS + at, vec4<f32>(f32(sum)));
    workgroupBarrier();
    if !valid || count == 0u {
        return;
    }
    let eight = (tile.group * params.outputs + tile.first_output) / 8u + local.y;
    let word = index * params.output_quads + 2u * eight;
    store_word(word, quad_word(low));
    if count > 4u {
        store_word(word + 1u, quad_word(high));
    }
    if local.y == leader {
        for (var i = 1u; i < params.output_eights; i++) {
            sum += i32(staged(THREADS + leader_at + SIDE * i).x);
        }
        store_scale(index, eight, chosen.scale, sum);
    }
}
