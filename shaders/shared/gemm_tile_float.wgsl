// The tiles of conv_gemm in workgroup memory, in floats; and how sums are staged there, see gemm_output.wgsl.

// Entries of a quad: 64 pixels, or 64 output channels.
const QUAD = 64u;
// Where the weights' tile starts; the input's starts at 0.
const WEIGHTS = 256u;

// Four channels an entry: of the input [quad][pixel], permuted, see `x_place`; from WEIGHTS on [quad][output
// channel]. One array for both, since padding is stored among the weights (trick 4 of conv_gemm).
var<workgroup> tiles: array<vec4<f32>, 512>;

// Stages four floats in one of 256 places: those of the weights.
fn stage(at: u32, value: vec4<f32>) {
    tiles[WEIGHTS + at] = value;
}

// Stages one of the four.
fn stage_one(at: u32, index: u32, value: f32) {
    tiles[WEIGHTS + at][index] = value;
}

// Reads what was staged.
fn staged(at: u32) -> vec4<f32> {
    return tiles[WEIGHTS + at];
}
