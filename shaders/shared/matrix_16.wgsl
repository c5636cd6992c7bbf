// The matrices of conv_matrix_16, its tiles in workgroup memory, and where sums are staged.

// Rows and columns of a matrix.
const SIZE = 16u;
// Pixels of a tile, output channels of a tile, and threads.
const TILE = 128u;

alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;

// Entries of a row: 16 channels and padding.
const ROW = 6u;
// Matrices along the 16 channels of a step, and entries from one to the next.
const MATRICES_OF_A_STEP = 1u;
const MATRIX_STEP = 4u;
// Four halves an entry: [pixel][channel], then [output channel][channel].
var<workgroup> tiles: array<vec4<f16>, 1536>;
// [subgroup][row][column] of a staged matrix.
var<workgroup> staged_sums: array<f32, 1024>;

// Stores the sixteen channels of a row as halves.
fn put_row(at: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    tiles[at] = vec4<f16>(a);
    tiles[at + 1u] = vec4<f16>(b);
    tiles[at + 2u] = vec4<f16>(c);
    tiles[at + 3u] = vec4<f16>(d);
}
