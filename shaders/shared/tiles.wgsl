// #import params, output_{floats}

// What the kernels that compute tiles of pixels x output channels share: where a workgroup's tile lies, and storing a
// scale.

// Where a tile starts: the output channel in its group, and the pixel over all images.
struct Tile {
    first_output: u32,
    group: u32,
    first_pixel: u32,
}

// The tile of a workgroup. Tiles of the same pixels follow each other, so that caches still hold their input.
fn tile_place(index: u32, pixels: u32, outputs: u32) -> Tile {
    let output_tiles = (params.outputs + outputs - 1u) / outputs;
    let row = index / output_tiles;
    return Tile(index % output_tiles * outputs, row % params.groups, row / params.groups * pixels);
}

// The output channel over all groups of a channel of the tile. Outputs past the group's last are computed as the last
// one again, and are not stored: so nothing in a main loop asks whether they exist.
fn tile_channel(tile: Tile, output: u32) -> u32 {
    return tile.group * params.outputs + min(tile.first_output + output, params.outputs - 1u);
}

// Stores a block's scale and scaled sum; `eight` is the number of its first eight channels in the pixel.
fn store_scale(pixel: u32, eight: u32, scale: f32, sum: i32) {
    let at = params.output_scales_at + 2u * (pixel * params.output_blocks + eight / params.output_eights);
    store_word(at, bitcast<u32>(scale));
    store_word(at + 1u, bitcast<u32>(scale * f32(sum)));
}
