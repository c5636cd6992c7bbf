// #import tiles

// What the kernels for subgroups of eight lanes share: the tile of a workgroup, which is one subgroup, how weights
// reach all lanes, and the sums of products.

const LANES = 8u;
// Pixels, and output channels, of a workgroup. A lane has four of the pixels, LANES apart, and all output channels.
const TILE = 32u;

// Something of each of a lane's four pixels, as a vector: four channels of the input, or of the output.
alias PixelFours = array<vec4<f32>, 4>;

// The sums of a lane: s0 of output channels 0 to 3 of the tile, s1 of 4 to 7, and so on.
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

// A number of each of the lane's output channels: those whose weights it loads, LANES apart.
fn lane_channels(tile: Tile, lane: u32) -> vec4<u32> {
    return vec4<u32>(
        tile_channel(tile, lane), tile_channel(tile, lane + LANES),
        tile_channel(tile, lane + 2u * LANES), tile_channel(tile, lane + 3u * LANES),
    );
}

// The values of lanes 0 to 3.
fn four_lanes(value: f32) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u),
        subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u),
    );
}

// The values of lanes 4 to 7.
fn four_more_lanes(value: f32) -> vec4<f32> {
    return vec4<f32>(
        subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u),
        subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u),
    );
}

// Adds the products of a quad: x holds its four input channels of each of the lane's pixels, w_0 those of the weights
// of this lane's first output channel, w_1 of its second, and so on.
fn add_quad(sums: ptr<function, Sums>, x: PixelFours, w_0: vec4<f32>, w_1: vec4<f32>, w_2: vec4<f32>, w_3: vec4<f32>) {
    (*sums).s0 = add_four((*sums).s0, x, four_outputs(w_0));
    (*sums).s1 = add_four((*sums).s1, x, four_more_outputs(w_0));
    (*sums).s2 = add_four((*sums).s2, x, four_outputs(w_1));
    (*sums).s3 = add_four((*sums).s3, x, four_more_outputs(w_1));
    (*sums).s4 = add_four((*sums).s4, x, four_outputs(w_2));
    (*sums).s5 = add_four((*sums).s5, x, four_more_outputs(w_2));
    (*sums).s6 = add_four((*sums).s6, x, four_outputs(w_3));
    (*sums).s7 = add_four((*sums).s7, x, four_more_outputs(w_3));
}

// A quad's weights for four output channels, those of lanes 0 to 3: a column for each input channel.
fn four_outputs(w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(four_lanes(w.x), four_lanes(w.y), four_lanes(w.z), four_lanes(w.w));
}

// The same for those of lanes 4 to 7.
fn four_more_outputs(w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(four_more_lanes(w.x), four_more_lanes(w.y), four_more_lanes(w.z), four_more_lanes(w.w));
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
