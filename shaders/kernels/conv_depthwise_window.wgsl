// #import params, coordinates, weights_{weights}, input_{loads}, epilogue

// Convolution with one input channel per group and float weights, for square windows without dilation whose size and
// stride are known when this is compiled: a thread computes 2 rows of 4 neighbouring outputs of one channel.
//
//     for each row of the input that the outputs need:
//         x[0 .. columns] = the row's columns, 0 in the padding                      -> registers
//         for each of the two output rows that the row is a tap of:
//             sum[output row][0 .. 4] += weight[tap] * x[column of the tap ..]          for all taps of a row
//     output = epilogue(sum)
//
// The input that the 8 outputs of a thread need, for a window of 3 with a stride of 1, and the taps of one of them:
//
//     x x x x x x        A load serves up to 6 products here, where one output a thread loads for each.
//     x # # # x x
//     x # # # x x
//     x # # # x x
//
// The tricks, and why:
//
// 1. Columns have names, for an array that a variable indexes would leave the registers. Those that the window does
//    not reach are never loaded: the tests are on overrides.
// 2. Which columns exist is the same in all rows, so it is worked out once; in the loop a load takes an addition and a
//    select. Columns in the padding are read from the row's first column, and count as 0.
// 3. A workgroup has outputs of one channel only, so the weights are the same in all threads, and loads of them cost
//    little. In planar tensors, which this is for, its loads and stores lie side by side, too.
// 4. The epilogue takes four outputs at once: with nine products an output it would be most of the work otherwise.

// Rows and columns of the window: 3, 5 or 7.
override WINDOW: u32 = 3;
// Input pixels from an output's window to the next one's, in both directions: 1 or 2.
override STRIDE: u32 = 1;

const THREADS = 32u;
const ROWS = 2u; // output rows of a thread
const COLUMNS = 4u; // output columns of a thread

// A row of the input, as far as four windows reach.
struct Row {
    x0: f32,
    x1: f32,
    x2: f32,
    x3: f32,
    x4: f32,
    x5: f32,
    x6: f32,
    x7: f32,
    x8: f32,
    x9: f32,
    x10: f32,
    x11: f32,
    x12: f32,
}

// A column of the input: where it lies in its row, and whether it exists.
struct Column {
    at: u32,
    exists: bool,
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = workgroup_index(workgroup, grid);
    if index >= params.workgroups {
        return;
    }
    let channels = params.all_outputs;
    let across = (params.output_width + COLUMNS - 1u) / COLUMNS;
    let patches = (params.output_height + ROWS - 1u) / ROWS * across;
    // Trick 3.
    let workgroups_of_plane = (patches + THREADS - 1u) / THREADS;
    let plane = index / workgroups_of_plane;
    let channel = plane % channels;
    let image = plane / channels;
    let patch_index = index % workgroups_of_plane * THREADS + thread;
    if patch_index >= patches {
        return;
    }
    let y = patch_index / across * ROWS;
    let x = patch_index % across * COLUMNS;
    let origin = field_origin(y, x);
    let plane_at = input_index(image, channel / params.outputs, Position());
    let c0 = column(origin.x);
    let c1 = column(origin.x + 1);
    let c2 = column(origin.x + 2);
    let c3 = column(origin.x + 3);
    let c4 = column(origin.x + 4);
    let c5 = column(origin.x + 5);
    let c6 = column(origin.x + 6);
    let c7 = column(origin.x + 7);
    let c8 = column(origin.x + 8);
    let c9 = column(origin.x + 9);
    let c10 = column(origin.x + 10);
    let c11 = column(origin.x + 11);
    let c12 = column(origin.x + 12);

    var upper = vec4<f32>();
    var lower = vec4<f32>();
    for (var i = 0u; i < WINDOW + STRIDE; i++) {
        let row_y = origin.y + i32(i);
        if row_y < 0 || row_y >= params.input_height {
            continue;
        }
        let row_at = plane_at + u32(row_y) * params.input_y;
        var row = Row();
        row.x0 = load(row_at, c0, 0u);
        row.x1 = load(row_at, c1, 1u);
        row.x2 = load(row_at, c2, 2u);
        row.x3 = load(row_at, c3, 3u);
        row.x4 = load(row_at, c4, 4u);
        row.x5 = load(row_at, c5, 5u);
        row.x6 = load(row_at, c6, 6u);
        row.x7 = load(row_at, c7, 7u);
        row.x8 = load(row_at, c8, 8u);
        row.x9 = load(row_at, c9, 9u);
        row.x10 = load(row_at, c10, 10u);
        row.x11 = load(row_at, c11, 11u);
        row.x12 = load(row_at, c12, 12u);
        if i < WINDOW {
            upper = add_row(upper, row, i, channel);
        }
        if i >= STRIDE {
            lower = add_row(lower, row, i - STRIDE, channel);
        }
    }
    let count = min(COLUMNS, params.output_width - x);
    store_columns(OutputPlace(image, channel, y, x), count, upper);
    if y + 1u < params.output_height {
        store_columns(OutputPlace(image, channel, y + 1u, x), count, lower);
    }
}

// A column of the input, which may lie in the padding.
fn column(x: i32) -> Column {
    let exists = x >= 0 && x < params.input_width;
    return Column(select(0u, u32(x) * params.input_x, exists), exists);
}

// The `number`th column of a row; 0 where there is none, and where no window reaches.
fn load(row_at: u32, place: Column, number: u32) -> f32 {
    if number >= WINDOW + (COLUMNS - 1u) * STRIDE {
        return 0.0;
    }
    return select(0.0, input_float(row_at + place.at), place.exists);
}

// Adds a row's products with one row of taps, for four windows side by side.
fn add_row(sums: vec4<f32>, row: Row, tap_row: u32, channel: u32) -> vec4<f32> {
    // With one channel per group the weights lie [tap][output channel].
    let at = tap_row * WINDOW * params.all_outputs + channel;
    let step = params.all_outputs;
    var total = sums;
    if STRIDE == 1u {
        total += tap_weight(at) * vec4<f32>(row.x0, row.x1, row.x2, row.x3);
        total += tap_weight(at + step) * vec4<f32>(row.x1, row.x2, row.x3, row.x4);
        total += tap_weight(at + 2u * step) * vec4<f32>(row.x2, row.x3, row.x4, row.x5);
        if WINDOW >= 5u {
            total += tap_weight(at + 3u * step) * vec4<f32>(row.x3, row.x4, row.x5, row.x6);
            total += tap_weight(at + 4u * step) * vec4<f32>(row.x4, row.x5, row.x6, row.x7);
        }
        if WINDOW >= 7u {
            total += tap_weight(at + 5u * step) * vec4<f32>(row.x5, row.x6, row.x7, row.x8);
            total += tap_weight(at + 6u * step) * vec4<f32>(row.x6, row.x7, row.x8, row.x9);
        }
        return total;
    }
    total += tap_weight(at) * vec4<f32>(row.x0, row.x2, row.x4, row.x6);
    total += tap_weight(at + step) * vec4<f32>(row.x1, row.x3, row.x5, row.x7);
    total += tap_weight(at + 2u * step) * vec4<f32>(row.x2, row.x4, row.x6, row.x8);
    if WINDOW >= 5u {
        total += tap_weight(at + 3u * step) * vec4<f32>(row.x3, row.x5, row.x7, row.x9);
        total += tap_weight(at + 4u * step) * vec4<f32>(row.x4, row.x6, row.x8, row.x10);
    }
    if WINDOW >= 7u {
        total += tap_weight(at + 5u * step) * vec4<f32>(row.x5, row.x7, row.x9, row.x11);
        total += tap_weight(at + 6u * step) * vec4<f32>(row.x6, row.x8, row.x10, row.x12);
    }
    return total;
}

fn tap_weight(at: u32) -> f32 {
    return bitcast<f32>(weight_word(at));
}
