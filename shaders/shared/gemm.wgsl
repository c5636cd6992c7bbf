// The shape of a workgroup in the matrix products, conv_gemm and conv_gemm_int8.
//
// Their main loops stay apart on purpose. One adds products of floats, and keeps its sums by pixels; the other adds
// products of packed words, and keeps them by output channels. A common form would hold them in arrays, which leave the
// registers.

// A workgroup is SIDE x SIDE threads. Thread (x, y) computes the tile's pixels x, x + SIDE, x + 2 * SIDE, ... times its
// output channels y, y + SIDE, y + 2 * SIDE, ...
const SIDE = 8u;
const THREADS = 64u;
// Output channels of a tile, eight per thread. As many as threads: each thread unpacks weights for one of them.
const TILE_OUTPUTS = 64u;
