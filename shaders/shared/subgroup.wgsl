// #import coordinates, weight_scales, tiles

// What the kernels for subgroups of eight lanes share: the tile of a workgroup, which is one subgroup, how weights
// reach all lanes, and the sums of products.
//
// Broadcasts are written out, for WGSL wants constants as the number of a lane.

const LANES = 8u;
// Pixels, and output channels, of a workgroup. A lane has four of the pixels, LANES apart, and all output channels.
const TILE = 32u;

// Something of each of a lane's four pixels, as a vector: four channels of the input, or of the output.
alias PixelFours = array<vec4<f32>, 4>;

// The sums of a lane: s0 of output channels 0 to 3 of the tile, whose weights lane 0 loads, s1 of those of lane 1, and
// so on.
struct Sums {
    s0: PixelFours,
    s1: PixelFours,
    s2: PixelFours,
    s3: PixelFours,
    s4: PixelFours,
    s5: PixelFours,
    s6: PixelFours,
    s7: PixelFours,
}

// The lane's pixels.
fn lane_pixels(tile: Tile, lane: u32) -> array<Pixel, 4> {
    let first = tile.first_pixel + lane;
    return array<Pixel, 4>(
        output_pixel(first), output_pixel(first + LANES),
        output_pixel(first + 2u * LANES), output_pixel(first + 3u * LANES),
    );
}

// The lane's output channels: the four neighbours whose weights it loads.
fn lane_channels(tile: Tile, lane: u32) -> vec4<u32> {
    return vec4<u32>(
        tile_channel(tile, 4u * lane), tile_channel(tile, 4u * lane + 1u),
        tile_channel(tile, 4u * lane + 2u), tile_channel(tile, 4u * lane + 3u),
    );
}

// The scales of a block of weights, for the lane's output channels.
struct LaneScales {
    alpha: vec4<f32>,
    kds_bias: vec4<f32>,
}

// Those of a block, alpha times a factor.
fn lane_scales(tap: u32, block: u32, channels: vec4<u32>, factor: f32) -> LaneScales {
    let scale_0 = weight_scale(tap, block, channels.x);
    let scale_1 = weight_scale(tap, block, channels.y);
    let scale_2 = weight_scale(tap, block, channels.z);
    let scale_3 = weight_scale(tap, block, channels.w);
    return LaneScales(
        vec4<f32>(scale_0.alpha, scale_1.alpha, scale_2.alpha, scale_3.alpha) * factor,
        vec4<f32>(scale_0.kds_bias, scale_1.kds_bias, scale_2.kds_bias, scale_3.kds_bias),
    );
}

// Adds the products of a quad: x holds its four input channels of each of the lane's pixels, w the weights of this
// lane's output channels, a column for each input channel.
fn add_quad(sums: ptr<function, Sums>, x: PixelFours, w: mat4x4<f32>) {
    (*sums).s0 = add_four((*sums).s0, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 0u), subgroupBroadcast(w[1], 0u),
        subgroupBroadcast(w[2], 0u), subgroupBroadcast(w[3], 0u),
    ));
    (*sums).s1 = add_four((*sums).s1, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 1u), subgroupBroadcast(w[1], 1u),
        subgroupBroadcast(w[2], 1u), subgroupBroadcast(w[3], 1u),
    ));
    (*sums).s2 = add_four((*sums).s2, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 2u), subgroupBroadcast(w[1], 2u),
        subgroupBroadcast(w[2], 2u), subgroupBroadcast(w[3], 2u),
    ));
    (*sums).s3 = add_four((*sums).s3, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 3u), subgroupBroadcast(w[1], 3u),
        subgroupBroadcast(w[2], 3u), subgroupBroadcast(w[3], 3u),
    ));
    (*sums).s4 = add_four((*sums).s4, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 4u), subgroupBroadcast(w[1], 4u),
        subgroupBroadcast(w[2], 4u), subgroupBroadcast(w[3], 4u),
    ));
    (*sums).s5 = add_four((*sums).s5, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 5u), subgroupBroadcast(w[1], 5u),
        subgroupBroadcast(w[2], 5u), subgroupBroadcast(w[3], 5u),
    ));
    (*sums).s6 = add_four((*sums).s6, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 6u), subgroupBroadcast(w[1], 6u),
        subgroupBroadcast(w[2], 6u), subgroupBroadcast(w[3], 6u),
    ));
    (*sums).s7 = add_four((*sums).s7, x, mat4x4<f32>(
        subgroupBroadcast(w[0], 7u), subgroupBroadcast(w[1], 7u),
        subgroupBroadcast(w[2], 7u), subgroupBroadcast(w[3], 7u),
    ));
}

// The sums of four output channels, with the products of a quad.
fn add_four(sums: PixelFours, x: PixelFours, w: mat4x4<f32>) -> PixelFours {
    return PixelFours(
        sums[0] + (x[0].x * w[0] + x[0].y * w[1] + x[0].z * w[2] + x[0].w * w[3]),
        sums[1] + (x[1].x * w[0] + x[1].y * w[1] + x[1].z * w[2] + x[1].w * w[3]),
        sums[2] + (x[2].x * w[0] + x[2].y * w[1] + x[2].z * w[2] + x[2].w * w[3]),
        sums[3] + (x[3].x * w[0] + x[3].y * w[1] + x[3].z * w[2] + x[3].w * w[3]),
    );
}
