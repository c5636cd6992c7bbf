// #import params, coordinates, unpack_weights, weights_{weights}, tiles
// #import subgroup, subgroup_output, input_{loads}, input_quad

// Convolution in floats for software devices with subgroups of eight lanes.
//
//     for each tap, block of input channels, quad (four neighbouring channels) of the block:
//         lane l loads the quad of its 4 pixels, and unpacks the weights of its 4 output channels
//         for each output channel o, own pixel p, channel c of the quad:
//             sum[p][o] += x[p][c] * broadcast(alpha[o] * q[o][c] + kds_bias[o], from the lane of o)
//     output[p][o] = epilogue(sum[p][o])
//
// A workgroup is one subgroup, and computes 32 pixels x 32 output channels of one group. Nothing lies in workgroup
// memory:
//
//                        output channels   0 to 3   4 to 7   8 to 11   ...   28 to 31
//     lane 0   pixels 0,  8, 16, 24            s0       s1       s2      ...      s7
//     lane 1   pixels 1,  9, 17, 25            s0       s1       s2      ...      s7
//     ...
//     lane 7   pixels 7, 15, 23, 31            s0       s1       s2      ...      s7
//
// Each of s0 to s7 is the sums of four output channels for a lane's four pixels, a vector per pixel: 128 sums a lane.
//
// The tricks, and why:
//
// 1. Lanes are pixels. On such devices lanes load one after another, and a load of all lanes costs as much as some
//    twenty multiply-adds. So nothing is loaded twice: a lane loads the input of its own pixels for all 32 output
//    channels, and an eighth of the weights for all 32 pixels. Broadcasts, which are cheap, spread the weights.
// 2. Each output channel's weights are unpacked and scaled once, by one lane, before they are spread.
// 3. Nothing is indexed by a variable: sums that a loop variable indexes leave the registers, and took eight times as
//    long. So sums have names, here and in subgroup.wgsl.
// 4. Four output channels are done with before the next come, so that their weights stay in registers.
// 5. Outputs past the last compute the last one again, see `tile_channel`, and are not stored.

// Whether blocks are whole quads.
override WHOLE_STEPS: bool = false;
// Whether also channels of the input are neighbours, so that a load brings a quad.
override CHANNELS_LAST: bool = false;

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
    let channels = lane_channels(tile, lane);
    let pixels = lane_pixels(tile, lane);

    var sums = Sums();
    for (var tap = 0u; tap < params.taps; tap++) {
        let starts = vec4<u32>(
            tap_index(pixels[0], tile.group, tap), tap_index(pixels[1], tile.group, tap),
            tap_index(pixels[2], tile.group, tap), tap_index(pixels[3], tile.group, tap),
        );
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(quad, block);
            let scale = lane_scales(tap, block, channels, byte_scale());
            for (; quad < end; quad++) {
                let place = quad_place(quad, block);
                let x = PixelFours(
                    fetch(starts.x, place), fetch(starts.y, place), fetch(starts.z, place), fetch(starts.w, place),
                );
                // Trick 2.
                let w = scaled_quads(tap, quad, channels, scale);
                add_quad(&sums, x, w);
            }
        }
    }
    store(tile, lane, sums);
}

// A quad of a pixel; 0 where there is none.
fn fetch(start: u32, place: QuadPlace) -> vec4<f32> {
    let exists = start != NONE;
    let at = select(0u, start + place.channel * params.input_c, exists);
    if CHANNELS_LAST {
        return select(vec4<f32>(), input_vector(at / 4u), exists);
    }
    return select(vec4<f32>(), input_quad(at, place.count), exists);
}

// The weights of a quad for the lane's output channels: a column for each input channel.
fn scaled_quads(tap: u32, quad: u32, channels: vec4<u32>, scale: LaneScales) -> mat4x4<f32> {
    if BITS == 32u {
        return transpose(mat4x4<f32>(
            float_quad(tap, quad, channels.x), float_quad(tap, quad, channels.y),
            float_quad(tap, quad, channels.z), float_quad(tap, quad, channels.w),
        ));
    }
    let bytes = bitcast<vec4<i32>>(unpack_quads(tap, quad, channels));
    return mat4x4<f32>(
        vec4<f32>(extractBits(bytes, 0u, 8u)) * scale.alpha + scale.kds_bias,
        vec4<f32>(extractBits(bytes, 8u, 8u)) * scale.alpha + scale.kds_bias,
        vec4<f32>(extractBits(bytes, 16u, 8u)) * scale.alpha + scale.kds_bias,
        vec4<f32>(extractBits(bytes, 24u, 8u)) * scale.alpha + scale.kds_bias,
    );
}

// Float weights of a quad for one output channel.
fn float_quad(tap: u32, quad: u32, channel: u32) -> vec4<f32> {
    if WHOLE_STEPS {
        return bitcast<vec4<f32>>(weight_four((tap * params.row_quads + quad) * params.all_outputs + channel));
    }
    return weight_quad(tap, quad, channel);
}
