// What the kernels that compute tiles of pixels x output channels share. Appended after them.

// Where a tile of pixels x output channels starts: the output channel in its group, and the pixel over
// all images. Tiles of the same pixels follow each other.
struct Tile {
    output: u32,
    group: u32,
    pixel: u32,
}

fn tile_place(work: u32, pixels: u32, outputs: u32) -> Tile {
    let output_tiles = (params.outputs + outputs - 1u) / outputs;
    let row = work / output_tiles;
    return Tile(work % output_tiles * outputs, row % params.groups, row / params.groups * pixels);
}

// Writes a block's scale and scaled sum; `eight` is the number of its first eight channels in the pixel.
fn store_scale(row: u32, eight: u32, scale: f32, sum: i32) {
    let at = params.output_scales_at + 2u * (row * params.output_blocks + eight / params.output_eights);
    store_word(at, bitcast<u32>(scale));
    store_word(at + 1u, bitcast<u32>(scale * f32(sum)));
}
