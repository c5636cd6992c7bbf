// #import coordinates, tiles

// What the kernels for subgroups of eight lanes share: the tile of a workgroup, which is one subgroup, and how what a
// lane works out reaches the others.

const LANES = 8u;
// Pixels, and output channels, of a workgroup: four per lane, LANES apart.
const TILE = 32u;

// Four sums of a lane for each of its four output channels: those of four pixels.
alias Sums = array<vec4<f32>, 4>;

// The part of a tile that a lane works out for all: its output channels, and four of the pixels.
struct LanePart {
    channels: vec4<u32>, // over all groups, LANES apart
    pixel_0: Pixel,
    pixel_1: Pixel,
    pixel_2: Pixel,
    pixel_3: Pixel,
}

// A number for each of a tile's 32 pixels, by fours.
struct PixelFours {
    p0: vec4<u32>,
    p1: vec4<u32>,
    p2: vec4<u32>,
    p3: vec4<u32>,
    p4: vec4<u32>,
    p5: vec4<u32>,
    p6: vec4<u32>,
    p7: vec4<u32>,
}

// The lane's part of a tile.
fn lane_part(tile: Tile, lane: u32) -> LanePart {
    return LanePart(
        vec4<u32>(
            tile_channel(tile, lane), tile_channel(tile, lane + LANES),
            tile_channel(tile, lane + 2u * LANES), tile_channel(tile, lane + 3u * LANES),
        ),
        output_pixel(tile.first_pixel + lane),
        output_pixel(tile.first_pixel + lane + LANES),
        output_pixel(tile.first_pixel + lane + 2u * LANES),
        output_pixel(tile.first_pixel + lane + 3u * LANES),
    );
}

// Spreads what each lane worked out for its four pixels to all lanes.
fn spread(own: vec4<u32>) -> PixelFours {
    return PixelFours(
        four_lanes(own.x), four_more_lanes(own.x),
        four_lanes(own.y), four_more_lanes(own.y),
        four_lanes(own.z), four_more_lanes(own.z),
        four_lanes(own.w), four_more_lanes(own.w),
    );
}

// The values of lanes 0 to 3.
fn four_lanes(value: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u),
        subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u),
    );
}

// The values of lanes 4 to 7.
fn four_more_lanes(value: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u),
        subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u),
    );
}
