// #import subgroup, input_{floats}

// Convolution for software devices with subgroups of eight lanes. There a load costs as much as some
// fifty multiply-adds, whether from memory or from workgroup memory, so nothing is loaded twice: a
// workgroup is one subgroup and computes 32 pixels x 32 output channels. Lanes are output channels,
// so a load of packed weights serves eight of them; each lane loads one input channel of every pixel
// too, and broadcasts, which are cheap, spread those.

// Whether every block is a whole number of the kernel's steps, pairs of quads: then nothing is cut off at a block's end.
override WHOLE_STEPS: bool = false;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let work = work_index(workgroup, grid);
    if work >= params.work {
        return;
    }
    let tile = tile_place(work, TILE, TILE);
    let first_output = tile.output;
    let group = tile.group;
    let first_pixel = tile.pixel;
    // Outputs past the last compute the last one again, and are not stored.
    let outputs = min(vec4<u32>(0u, 8u, 16u, 24u) + first_output + lane, vec4<u32>(params.outputs - 1u));
    let channels = group * params.outputs + outputs;
    let pixel_0 = pixel_place(first_pixel + lane);
    let pixel_1 = pixel_place(first_pixel + lane + 8u);
    let pixel_2 = pixel_place(first_pixel + lane + 16u);
    let pixel_3 = pixel_place(first_pixel + lane + 24u);

    var s0 = Sums();
    var s1 = Sums();
    var s2 = Sums();
    var s3 = Sums();
    var s4 = Sums();
    var s5 = Sums();
    var s6 = Sums();
    var s7 = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        // Where each pixel's channels start in the input: a lane works out four, and all get them all.
        let starts = vec4<u32>(
            tap_index(pixel_0, group, tap),
            tap_index(pixel_1, group, tap),
            tap_index(pixel_2, group, tap),
            tap_index(pixel_3, group, tap),
        );
        let p0 = four_lanes(starts.x);
        let p1 = four_more_lanes(starts.x);
        let p2 = four_lanes(starts.y);
        let p3 = four_more_lanes(starts.y);
        let p4 = four_lanes(starts.z);
        let p5 = four_more_lanes(starts.z);
        let p6 = four_lanes(starts.w);
        let p7 = four_more_lanes(starts.w);
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(quad + params.block_quads, params.row_quads, block + 1u == params.block_count);
            let shift_0 = block_shift(tap, block, channels.x);
            let shift_1 = block_shift(tap, block, channels.y);
            let shift_2 = block_shift(tap, block, channels.z);
            let shift_3 = block_shift(tap, block, channels.w);
            for (; quad < end; quad += 2u) {
                // Two quads: lane l loads channel l % 4 of quad l / 4.
                var offset = (4u * quad + lane) * params.input_c;
                if !WHOLE_STEPS {
                    let mine = quad + lane / 4u;
                    let place = quad_place(min(mine, end - 1u), block);
                    let exists = mine < end && lane % 4u < place.count;
                    offset = select(NONE, (place.channel + lane % 4u) * params.input_c, exists);
                }
                let x0 = fetch(p0, offset);
                let x1 = fetch(p1, offset);
                let x2 = fetch(p2, offset);
                let x3 = fetch(p3, offset);
                let x4 = fetch(p4, offset);
                let x5 = fetch(p5, offset);
                let x6 = fetch(p6, offset);
                let x7 = fetch(p7, offset);
                let w_0 = weight_pair(tap, quad, channels.x);
                let w_1 = weight_pair(tap, quad, channels.y);
                let w_2 = weight_pair(tap, quad, channels.z);
                let w_3 = weight_pair(tap, quad, channels.w);
                let w = Weights(
                    w_0.first * shift_0.x + shift_0.y,
                    w_1.first * shift_1.x + shift_1.y,
                    w_2.first * shift_2.x + shift_2.y,
                    w_3.first * shift_3.x + shift_3.y,
                    w_0.second * shift_0.x + shift_0.y,
                    w_1.second * shift_1.x + shift_1.y,
                    w_2.second * shift_2.x + shift_2.y,
                    w_3.second * shift_3.x + shift_3.y,
                );
                add(&s0, x0, w);
                add(&s1, x1, w);
                add(&s2, x2, w);
                add(&s3, x3, w);
                add(&s4, x4, w);
                add(&s5, x5, w);
                add(&s6, x6, w);
                add(&s7, x7, w);
            }
            quad = end;
        }
    }
    store(tile, 0u, lane, s0);
    store(tile, 4u, lane, s1);
    store(tile, 8u, lane, s2);
    store(tile, 12u, lane, s3);
    store(tile, 16u, lane, s4);
    store(tile, 20u, lane, s5);
    store(tile, 24u, lane, s6);
    store(tile, 28u, lane, s7);
}

// Eight channels of this lane's four output channels: a quad of each, then the next quad of each.
struct Weights {
    a0: vec4<f32>,
    a1: vec4<f32>,
    a2: vec4<f32>,
    a3: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
}

// Adds the products of eight channels of four pixels; lane l holds channel l of `x`. Two outputs at a
// time, so that their sums stay in registers.
fn add(sums: ptr<function, Sums>, x: vec4<f32>, w: Weights) {
    let x0 = subgroupBroadcast(x, 0u);
    let x1 = subgroupBroadcast(x, 1u);
    let x2 = subgroupBroadcast(x, 2u);
    let x3 = subgroupBroadcast(x, 3u);
    let x4 = subgroupBroadcast(x, 4u);
    let x5 = subgroupBroadcast(x, 5u);
    let x6 = subgroupBroadcast(x, 6u);
    let x7 = subgroupBroadcast(x, 7u);
    (*sums)[0] += x0 * w.a0.x + x1 * w.a0.y + x2 * w.a0.z + x3 * w.a0.w + x4 * w.b0.x + x5 * w.b0.y + x6 * w.b0.z + x7 * w.b0.w;
    (*sums)[1] += x0 * w.a1.x + x1 * w.a1.y + x2 * w.a1.z + x3 * w.a1.w + x4 * w.b1.x + x5 * w.b1.y + x6 * w.b1.z + x7 * w.b1.w;
    (*sums)[2] += x0 * w.a2.x + x1 * w.a2.y + x2 * w.a2.z + x3 * w.a2.w + x4 * w.b2.x + x5 * w.b2.y + x6 * w.b2.z + x7 * w.b2.w;
    (*sums)[3] += x0 * w.a3.x + x1 * w.a3.y + x2 * w.a3.z + x3 * w.a3.w + x4 * w.b3.x + x5 * w.b3.y + x6 * w.b3.z + x7 * w.b3.w;
}

// This lane's channel of four pixels; 0 where there is none.
fn fetch(starts: vec4<u32>, offset: u32) -> vec4<f32> {
    let exists = (starts != vec4<u32>(NONE)) & vec4<bool>(WHOLE_STEPS || offset != NONE);
    let at = select(vec4<u32>(), starts + offset, exists);
    return select(vec4<f32>(), vec4<f32>(input_float(at.x), input_float(at.y), input_float(at.z), input_float(at.w)), exists);
}

// Two neighbouring quads of a row's weights, before their block's shifts; past the row's end the last comes again.
struct Pair {
    first: vec4<f32>,
    second: vec4<f32>,
}

fn weight_pair(tap: u32, quad: u32, channel: u32) -> Pair {
    if BITS == 32u {
        return Pair(weight_quad(tap, quad, channel), weight_quad(tap, min(quad + 1u, params.row_quads - 1u), channel));
    }
    let bytes = packed_pair(tap, quad, channel);
    return Pair(byte_floats(bytes.x) * byte_scale(), byte_floats(bytes.y) * byte_scale());
}

// Two neighbouring quads of a row of packed integers, as packed_quad gives them; past the row's end the last comes again.
// Below 8 bits one load brings both quads of a plane.
fn packed_pair(tap: u32, quad: u32, channel: u32) -> vec2<u32> {
    if !WHOLE_STEPS || BITS >= 8u {
        return vec2<u32>(packed_quad(tap, quad, channel), packed_quad(tap, min(quad + 1u, params.row_quads - 1u), channel));
    }
    var row = tap * params.row_words;
    var bytes = vec2<u32>();
    if (BITS & 4u) != 0u {
        bytes = plane_pair(4u, 0xf0f0f0f0u, row, quad, channel);
        row += (params.row_quads + 1u) / 2u;
    }
    if (BITS & 2u) != 0u {
        bytes |= plane_pair(2u, 0xc0c0c0c0u, row, quad, channel) >> vec2<u32>(BITS & 4u);
        row += (params.row_quads + 3u) / 4u;
    }
    if (BITS & 1u) != 0u {
        bytes |= plane_pair(1u, 0x80808080u, row, quad, channel) >> vec2<u32>(BITS & 6u);
    }
    return bytes;
}

fn plane_pair(plane: u32, mask: u32, row: u32, quad: u32, channel: u32) -> vec2<u32> {
    let per_word = 8u / plane;
    let word = weights[(row + quad / per_word) * params.all_outputs + channel] << (plane * (quad % per_word));
    return vec2<u32>(word, word << plane) & vec2<u32>(mask);
}
