// The shape of a workgroup in the matrix products, conv_gemm and conv_gemm_int8.

// A workgroup is SIDE x SIDE threads. Thread (x, y) computes the tile's pixels x, x + SIDE, x + 2 * SIDE, ... times its
// output channels y, y + SIDE, y + 2 * SIDE, ...
const SIDE = 8u;
const THREADS = 64u;
// Output channels of a tile, eight per thread. As many as threads: each thread unpacks weights for one of them.
const TILE_OUTPUTS = 64u;
