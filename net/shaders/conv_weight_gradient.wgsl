// The gradient of a convolution's weights, as an implicit matrix product: w[output][channel][tap] = sum over images and
// pixels of dy[image][output][pixel] * x[image][channel][the place that the tap reads for the pixel]. Rows are outputs
// of a group, columns are channels of it with their taps. A workgroup computes 32 x 32 elements and a thread 4 x 4,
// through tiles of 16 pixels.

struct Params {
    rows: u32, // outputs of a group
    columns: u32, // channels of a group, times taps
    depth: u32, // images times pixels of y
    groups: u32,
    row_tiles: u32,
    column_tiles: u32,
    kernel: vec2<u32>, // height, width; pairs are all so
    stride: vec2<u32>,
    dilation: vec2<u32>,
    padding: vec2<u32>, // top, left
    x_size: vec2<u32>,
    y_size: vec2<u32>,
    // Distances in memory between images, channels and pixels.
    x_steps: vec3<u32>,
    y_steps: vec3<u32>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> w: array<f32>;

const DEPTH = 16u;

var<workgroup> tile_y: array<vec4<f32>, 128>; // [depth][4 rows]
var<workgroup> tile_x: array<vec4<f32>, 128>; // [depth][4 columns]

// What a column reads: the channel's place in memory, and the tap's offset.
struct Column {
    at: u32,
    tap: vec2<i32>,
    exists: bool,
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let work = workgroup.x + workgroup.y * grid.x;
    let column_tile = work % params.column_tiles * 32u;
    let row_tile = work / params.column_tiles % params.row_tiles * 32u;
    let group = work / params.column_tiles / params.row_tiles;
    if group >= params.groups {
        return;
    }
    let first_row = row_tile + thread % 8u * 4u;
    let first_column = column_tile + thread % 8u * 4u;
    let column_0 = column_of(group, first_column);
    let column_1 = column_of(group, first_column + 1u);
    let column_2 = column_of(group, first_column + 2u);
    let column_3 = column_of(group, first_column + 3u);
    let four_row = thread / 8u;
    let four_column = thread % 8u;
    var sum_0 = vec4<f32>();
    var sum_1 = vec4<f32>();
    var sum_2 = vec4<f32>();
    var sum_3 = vec4<f32>();
    let plane = params.y_size.x * params.y_size.y;
    for (var start = 0u; start < params.depth; start += DEPTH) {
        for (var i = thread; i < 128u; i += 64u) {
            let k = start + i / 8u;
            var from_y = vec4<f32>();
            var from_x = vec4<f32>();
            if k < params.depth {
                let image = k / plane;
                let pixel = k % plane;
                let at = image * params.y_steps.x + pixel * params.y_steps.z;
                from_y = vec4<f32>(
                    gradient(at, group, first_row),
                    gradient(at, group, first_row + 1u),
                    gradient(at, group, first_row + 2u),
                    gradient(at, group, first_row + 3u),
                );
                let place = vec2<u32>(pixel / params.y_size.y, pixel % params.y_size.y);
                let origin = vec2<i32>(place * params.stride) - vec2<i32>(params.padding);
                let first = image * params.x_steps.x;
                from_x = vec4<f32>(
                    input(first, origin, column_0),
                    input(first, origin, column_1),
                    input(first, origin, column_2),
                    input(first, origin, column_3),
                );
            }
            tile_y[i] = from_y;
            tile_x[i] = from_x;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let rows = tile_y[k * 8u + four_row];
            let columns = tile_x[k * 8u + four_column];
            sum_0 += rows.x * columns;
            sum_1 += rows.y * columns;
            sum_2 += rows.z * columns;
            sum_3 += rows.w * columns;
        }
        workgroupBarrier();
    }
    let row = row_tile + four_row * 4u;
    store(group, row, first_column, sum_0);
    store(group, row + 1u, first_column, sum_1);
    store(group, row + 2u, first_column, sum_2);
    store(group, row + 3u, first_column, sum_3);
}

fn column_of(group: u32, column: u32) -> Column {
    let taps = params.kernel.x * params.kernel.y;
    let channel = group * (params.columns / taps) + column / taps;
    let tap = column % taps;
    let offset = vec2<u32>(tap / params.kernel.y, tap % params.kernel.y) * params.dilation;
    return Column(channel * params.x_steps.y, vec2<i32>(offset), column < params.columns);
}

// Elements past the ends are 0. Those of rows and columns past the end go into weights that nobody stores.
fn gradient(at: u32, group: u32, row: u32) -> f32 {
    if row < params.rows {
        return dy[at + (group * params.rows + row) * params.y_steps.y];
    }
    return 0.0;
}

fn input(first: u32, origin: vec2<i32>, column: Column) -> f32 {
    let place = origin + column.tap;
    if column.exists && all(place >= vec2<i32>()) && all(place < vec2<i32>(params.x_size)) {
        let pixel = u32(place.x) * params.x_size.y + u32(place.y);
        return x[first + column.at + pixel * params.x_steps.z];
    }
    return 0.0;
}

fn store(group: u32, row: u32, column: u32, sums: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    let at = (group * params.rows + row) * params.columns + column;
    for (var i = 0u; i < min(4u, max(params.columns, column) - column); i++) {
        w[at + i] = sums[i];
    }
}
