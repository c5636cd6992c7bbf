// y[.., m, n] = sum over k of a[.., m, k] * b[.., k, n]: the matrix product of the last two axes, the leading ones
// broadcast. All are row-major. A workgroup computes 32 x 32 elements of y and a thread 4 x 4, through tiles of 16 in
// k.

struct Params {
    // Of the matrices, outermost first: extent, and steps in elements of a and b, 0 where it repeats.
    axes: array<vec4<u32>, 6>,
    rank: u32,
    count: u32, // matrices
    rows: u32,
    columns: u32,
    depth: u32,
    row_tiles: u32,
    column_tiles: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

const DEPTH = 16u;

var<workgroup> tile_a: array<vec4<f32>, 128>; // [depth][4 rows]
var<workgroup> tile_b: array<vec4<f32>, 128>; // [depth][4 columns]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let work = workgroup.x + workgroup.y * grid.x;
    let column_tile = work % params.column_tiles * 32u;
    let row_tile = work / params.column_tiles % params.row_tiles * 32u;
    let matrix = work / params.column_tiles / params.row_tiles;
    if matrix >= params.count {
        return;
    }
    var at_a = 0u;
    var at_b = 0u;
    var rest = matrix;
    for (var i = params.rank; i > 0u; i--) {
        let axis = params.axes[i - 1u];
        let place = rest % axis.x;
        rest /= axis.x;
        at_a += place * axis.y;
        at_b += place * axis.z;
    }
    let four_row = thread / 8u;
    let four_column = thread % 8u;
    var sum_0 = vec4<f32>();
    var sum_1 = vec4<f32>();
    var sum_2 = vec4<f32>();
    var sum_3 = vec4<f32>();
    for (var start = 0u; start < params.depth; start += DEPTH) {
        for (var i = thread; i < 128u; i += 64u) {
            let k = start + i / 8u;
            let row = row_tile + i % 8u * 4u;
            let column = column_tile + i % 8u * 4u;
            tile_a[i] = vec4<f32>(
                element_a(at_a, row, k),
                element_a(at_a, row + 1u, k),
                element_a(at_a, row + 2u, k),
                element_a(at_a, row + 3u, k),
            );
            tile_b[i] = vec4<f32>(
                element_b(at_b, k, column),
                element_b(at_b, k, column + 1u),
                element_b(at_b, k, column + 2u),
                element_b(at_b, k, column + 3u),
            );
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let rows = tile_a[k * 8u + four_row];
            let columns = tile_b[k * 8u + four_column];
            sum_0 += rows.x * columns;
            sum_1 += rows.y * columns;
            sum_2 += rows.z * columns;
            sum_3 += rows.w * columns;
        }
        workgroupBarrier();
    }
    let row = row_tile + four_row * 4u;
    let column = column_tile + four_column * 4u;
    store(matrix, row, column, sum_0);
    store(matrix, row + 1u, column, sum_1);
    store(matrix, row + 2u, column, sum_2);
    store(matrix, row + 3u, column, sum_3);
}

// Elements past the ends are 0. Those of a's rows and b's columns past the end go into outputs that nobody stores.
fn element_a(start: u32, row: u32, k: u32) -> f32 {
    if row < params.rows && k < params.depth {
        return a[start + row * params.depth + k];
    }
    return 0.0;
}

fn element_b(start: u32, k: u32, column: u32) -> f32 {
    if k < params.depth && column < params.columns {
        return b[start + k * params.columns + column];
    }
    return 0.0;
}

fn store(matrix: u32, row: u32, column: u32, sums: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    let at = (matrix * params.rows + row) * params.columns + column;
    for (var i = 0u; i < min(4u, max(params.columns, column) - column); i++) {
        y[at + i] = sums[i];
    }
}
