// The matrices of conv_matrix_8, its tiles in workgroup memory, and where sums are staged. Takes the place of
// matrix_16.wgsl.

// Rows and columns of a matrix.
const SIZE = 8u;
// Pixels of a tile, output channels of a tile, and threads.
const TILE = 64u;

alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;

// Entries of a row: 16 channels and padding.
const ROW = 24u;
// Matrices along the 16 channels of a step, and entries from one to the next.
const MATRICES_OF_A_STEP = 2u;
const MATRIX_STEP = 8u;

// [pixel][channel], then [output channel][channel]. Metal loads matrices from arrays of their own element only.
var<workgroup> tiles: array<f16, 3072>;
// [subgroup][row][column] of a staged matrix.
var<workgroup> staged_sums: array<f32, 256>;

// Stores the sixteen channels of a row as halves.
fn put_row(at: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    put_four(at, a);
    put_four(at + 4u, b);
    put_four(at + 8u, c);
    put_four(at + 12u, d);
}

fn put_four(at: u32, values: vec4<f32>) {
    let halves = vec4<f16>(values);
    tiles[at] = halves.x;
    tiles[at + 1u] = halves.y;
    tiles[at + 2u] = halves.z;
    tiles[at + 3u] = halves.w;
}
