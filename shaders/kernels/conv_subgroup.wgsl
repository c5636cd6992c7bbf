// #import params, coordinates, unpack_weights, weight_scales, tiles
// #import subgroup, subgroup_output, input_{floats}

// Convolution in floats for software devices with subgroups of eight lanes.
//
//     for each tap, block of input channels, step of 8 channels of the block:
//         lane l loads channel l of all 32 pixels, and unpacks all 8 channels of its 4 output channels
//         for each channel c, pixel p, own output o:
//             sum[p][o] += broadcast(x[p], from lane c) * (alpha[o] * q[c][o] + kds_bias[o])
//     output[p][o] = epilogue(sum[p][o])
//
// A workgroup is one subgroup, and computes 32 pixels x 32 output channels of one group. Nothing lies in workgroup
// memory:
//
//                                 pixels   0 to 3   4 to 7   8 to 11   ...   28 to 31
//     lane 0   channels 0,  8, 16, 24          s0       s1       s2      ...      s7
//     lane 1   channels 1,  9, 17, 25          s0       s1       s2      ...      s7
//     ...
//     lane 7   channels 7, 15, 23, 31          s0       s1       s2      ...      s7
//
// Each of s0 to s7 is the sums of a lane's four output channels for four pixels, a vector per channel: 128 sums a lane.
//
// The tricks, and why:
//
// 1. Lanes are output channels. On such devices a load costs as much as some fifty multiply-adds, whether from memory
//    or from workgroup memory, so nothing is loaded twice: a load of packed weights serves eight output channels, as
//    they lie side by side, and 32 pixels.
// 2. Each lane loads one input channel of every pixel, and broadcasts, which are cheap, spread those.
// 3. Nothing is indexed by a variable: sums that a loop variable indexes leave the registers, and took eight times as
//    long. So the eight sums and what is added to them are written out, here and in conv_subgroup_int8. The openings
//    are shared.
// 4. Sums of four pixels are added at a time, so that they stay in registers meanwhile.
// 5. Where each pixel's channels start is worked out by one lane for four pixels, and broadcast.
// 6. With WHOLE_STEPS one load of a plane of weights brings both quads of a step.
// 7. Outputs past the last compute the last one again, see `tile_channel`, and are not stored.

// Whether every block is a whole number of steps, of 8 channels (two quads): then nothing is cut off at a block's end.
override WHOLE_STEPS: bool = false;

const STEP = 2u; // quads of a step

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = workgroup_index(workgroup, grid);
    if index >= params.workgroups {
        return;
    }
    let tile = tile_place(index, TILE, TILE);
    let own = lane_part(tile, lane);

    var s0 = Sums();
    var s1 = Sums();
    var s2 = Sums();
    var s3 = Sums();
    var s4 = Sums();
    var s5 = Sums();
    var s6 = Sums();
    var s7 = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        // Trick 5.
        let starts = spread(vec4<u32>(
            tap_index(own.pixel_0, tile.group, tap),
            tap_index(own.pixel_1, tile.group, tap),
            tap_index(own.pixel_2, tile.group, tap),
            tap_index(own.pixel_3, tile.group, tap),
        ));
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(quad, block);
            let scale_0 = weight_scale(tap, block, own.channels.x);
            let scale_1 = weight_scale(tap, block, own.channels.y);
            let scale_2 = weight_scale(tap, block, own.channels.z);
            let scale_3 = weight_scale(tap, block, own.channels.w);
            for (; quad < end; quad += STEP) {
                // Trick 2: lane l loads channel l % 4 of quad l / 4 of the step.
                var offset = (4u * quad + lane) * params.input_c;
                if !WHOLE_STEPS {
                    let mine = quad + lane / 4u;
                    let place = quad_place(min(mine, end - 1u), block);
                    let exists = mine < end && lane % 4u < place.count;
                    offset = select(NONE, (place.channel + lane % 4u) * params.input_c, exists);
                }
                let x0 = fetch(starts.p0, offset);
                let x1 = fetch(starts.p1, offset);
                let x2 = fetch(starts.p2, offset);
                let x3 = fetch(starts.p3, offset);
                let x4 = fetch(starts.p4, offset);
                let x5 = fetch(starts.p5, offset);
                let x6 = fetch(starts.p6, offset);
                let x7 = fetch(starts.p7, offset);
                let w_0 = weight_pair(tap, quad, own.channels.x);
                let w_1 = weight_pair(tap, quad, own.channels.y);
                let w_2 = weight_pair(tap, quad, own.channels.z);
                let w_3 = weight_pair(tap, quad, own.channels.w);
                let w = Weights(
                    w_0.first * scale_0.alpha + scale_0.kds_bias,
                    w_1.first * scale_1.alpha + scale_1.kds_bias,
                    w_2.first * scale_2.alpha + scale_2.kds_bias,
                    w_3.first * scale_3.alpha + scale_3.kds_bias,
                    w_0.second * scale_0.alpha + scale_0.kds_bias,
                    w_1.second * scale_1.alpha + scale_1.kds_bias,
                    w_2.second * scale_2.alpha + scale_2.kds_bias,
                    w_3.second * scale_3.alpha + scale_3.kds_bias,
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

// Adds the products of eight channels of four pixels; lane l holds channel l of `x` (tricks 2 to 4).
fn add(sums: ptr<function, Sums>, x: vec4<f32>, w: Weights) {
    let x0 = subgroupBroadcast(x, 0u);
    let x1 = subgroupBroadcast(x, 1u);
    let x2 = subgroupBroadcast(x, 2u);
    let x3 = subgroupBroadcast(x, 3u);
    let x4 = subgroupBroadcast(x, 4u);
    let x5 = subgroupBroadcast(x, 5u);
    let x6 = subgroupBroadcast(x, 6u);
    let x7 = subgroupBroadcast(x, 7u);
    (*sums)[0] += x0 * w.a0.x + x1 * w.a0.y + x2 * w.a0.z + x3 * w.a0.w
        + x4 * w.b0.x + x5 * w.b0.y + x6 * w.b0.z + x7 * w.b0.w;
    (*sums)[1] += x0 * w.a1.x + x1 * w.a1.y + x2 * w.a1.z + x3 * w.a1.w
        + x4 * w.b1.x + x5 * w.b1.y + x6 * w.b1.z + x7 * w.b1.w;
    (*sums)[2] += x0 * w.a2.x + x1 * w.a2.y + x2 * w.a2.z + x3 * w.a2.w
        + x4 * w.b2.x + x5 * w.b2.y + x6 * w.b2.z + x7 * w.b2.w;
    (*sums)[3] += x0 * w.a3.x + x1 * w.a3.y + x2 * w.a3.z + x3 * w.a3.w
        + x4 * w.b3.x + x5 * w.b3.y + x6 * w.b3.z + x7 * w.b3.w;
}

// This lane's channel of four pixels; 0 where there is none.
fn fetch(starts: vec4<u32>, offset: u32) -> vec4<f32> {
    let exists = (starts != vec4<u32>(NONE)) & vec4<bool>(WHOLE_STEPS || offset != NONE);
    let at = select(vec4<u32>(), starts + offset, exists);
    let values = vec4<f32>(input_float(at.x), input_float(at.y), input_float(at.z), input_float(at.w));
    return select(vec4<f32>(), values, exists);
}

// Two neighbouring quads of a row's weights, before alpha and KDS bias.
struct Pair {
    first: vec4<f32>,
    second: vec4<f32>,
}

// The weights of a step (trick 6). Past the row's end the last quad comes again.
fn weight_pair(tap: u32, quad: u32, channel: u32) -> Pair {
    if WHOLE_STEPS && BITS < 8u {
        let bytes = unpack_pair(tap, quad, channel);
        return Pair(byte_floats(bytes.x) * byte_scale(), byte_floats(bytes.y) * byte_scale());
    }
    return Pair(weight_quad(tap, quad, channel), weight_quad(tap, min(quad + 1u, params.row_quads - 1u), channel));
}
