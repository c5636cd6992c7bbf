// What the kernels for subgroups of eight lanes share. Appended after them.

const LANES = 8u;
const TILE = 32u; // pixels, and output channels, of a workgroup: four per lane, LANES apart

// Sums of four pixels for this lane's four output channels.
alias Sums = array<vec4<f32>, 4>;

fn four_lanes(value: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(value, 0u), subgroupBroadcast(value, 1u), subgroupBroadcast(value, 2u), subgroupBroadcast(value, 3u),
    );
}

fn four_more_lanes(value: u32) -> vec4<u32> {
    return vec4<u32>(
        subgroupBroadcast(value, 4u), subgroupBroadcast(value, 5u), subgroupBroadcast(value, 6u), subgroupBroadcast(value, 7u),
    );
}

// Stores four pixels from `at.x`, for output channels from `at.y`, LANES apart.
fn store(at: vec2<u32>, group: u32, sums: Sums) {
    for (var i = 0u; i < 4u; i++) {
        let pixel = pixel_place(at.x + i);
        if pixel.valid {
            store_pixel(pixel, group, at.y, LANES, vec4<f32>(sums[0][i], sums[1][i], sums[2][i], sums[3][i]));
        }
    }
}
