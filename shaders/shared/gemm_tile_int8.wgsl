// The tiles of conv_gemm_int8 in workgroup memory, in packed int8; and how sums are staged there, see gemm_output.wgsl.

// Pixels of a tile, four per thread.
const TILE_PIXELS = 32u;
// Entries of half a step in `w_tile`: 64 output channels.
const W_HALF = 64u;

// Floats of a pixel in `x_scale`, and of a thread in either half of `w_scale`.
const SCALES = 4u;

// [half][pixel], four quads an entry; pixels of the second half are permuted (trick 4 of conv_gemm_int8).
var<workgroup> x_tile: array<vec4<u32>, 64>;
// [half][output channel], four quads an entry, in the first 128 entries; sums are staged in all 256.
var<workgroup> w_tile: array<vec4<u32>, 256>;
// [pixel][4], of which the first two hold the scale of the pixel's block, from each of the two threads that load the
// pixel.
var<workgroup> x_scale: array<f32, 128>;
// Alpha of an output channel's block, [half of the channels][y of the thread][4]: a thread's own by fours, side by
// side.
var<workgroup> w_scale: array<f32, 64>;
// Trick 10 of conv_gemm_int8: what a pixel's sums are moved back by, a share from each of the two threads that load the
// pixel, [pixel][2]; and what those of an output channel are, laid out as `w_scale`.
var<workgroup> x_moved: array<i32, 64>;
var<workgroup> w_moved: array<i32, 64>;

// Stages four floats in one of 256 places.
fn stage(at: u32, value: vec4<f32>) {
    w_tile[at] = bitcast<vec4<u32>>(value);
}

// Stages one of the four.
fn stage_one(at: u32, index: u32, value: f32) {
    w_tile[at][index] = bitcast<u32>(value);
}

// Reads what was staged.
fn staged(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(w_tile[at]);
}
