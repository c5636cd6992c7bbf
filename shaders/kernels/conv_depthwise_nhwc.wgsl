// #import params, coordinates, weights_{weights}, input_{loads}, weight_scales, activation, output_vectors_{floats}

// Convolution with one channel per group and float weights, for channels-last tensors whose channels are a multiple of
// four, and square windows without dilation whose size and stride are known when this is compiled: a thread computes a
// strip of 7 neighbouring outputs of a row, four neighbouring channels each.
//
//     for each row of the window that lies inside the input:
//         w[0 .. WINDOW] = the row's taps, four channels each             -> registers
//         for each of the 7 outputs:
//             x[..] = the columns that no output before has loaded        -> registers
//             sum[output] += w[tap] * x[column of the tap]                for all taps of the row
//     output = epilogue(sum)
//
// The row of the input that a strip needs, for a window of 3 with a stride of 1, and the taps of one output:
//
//     x x # # # x x x x      Each x is a load of four channels, which serves up to three outputs.
//
// The tricks, and why:
//
// 1. Four channels lie side by side in input, weights, bias, residual and output, so every load and store but the bias'
//    brings 16 bytes, and an address serves four channels. Neighbouring threads have neighbouring channels.
// 2. Columns have names, for an array that a variable indexes would leave the registers. Those that the window does
//    not reach are never loaded: the tests are on overrides.
// 3. A column is loaded just before the first output that needs it. With all of them loaded first, some compilers keep
//    all of them in registers at once, and spill.
// 4. Which columns exist is the same in all rows, so it is worked out once. Columns in the padding are read from the
//    row's first column, and count as 0. Rows in the padding are not passed at all.
// 5. Strips of 7: pictures of 224 x 224 have planes of 112, 56, 28, 14 and 7 columns, and fill them. 8 would take 16 to
//    32 more registers.

// Rows and columns of the window: 3, 5 or 7.
override WINDOW: u32 = 3;
// Input pixels from an output's window to the next one's, in both directions: 1 or 2.
override STRIDE: u32 = 1;

const THREADS = 64u;
const COLUMNS = 7u; // output columns of a thread

// A column of the input: where it lies in its row, and whether it exists.
struct Column {
    at: u32,
    exists: bool,
}

// A row of the window's taps. Those past the window are not used.
struct Taps {
    t0: vec4<f32>,
    t1: vec4<f32>,
    t2: vec4<f32>,
    t3: vec4<f32>,
    t4: vec4<f32>,
    t5: vec4<f32>,
    t6: vec4<f32>,
}

// The columns of the input that these taps meet.
struct Field {
    x0: vec4<f32>,
    x1: vec4<f32>,
    x2: vec4<f32>,
    x3: vec4<f32>,
    x4: vec4<f32>,
    x5: vec4<f32>,
    x6: vec4<f32>,
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // All places and distances count fours of channels.
    let fours = params.all_outputs / 4u;
    let across = (params.output_width + COLUMNS - 1u) / COLUMNS;
    let number = workgroup_index(workgroup, grid) * THREADS + thread;
    let strip = number / fours;
    let four = number - strip * fours;
    let line = strip / across;
    let x = (strip - line * across) * COLUMNS;
    let image = line / params.output_height;
    let y = line - image * params.output_height;
    if image >= params.batch {
        return;
    }
    let origin = field_origin(y, x);
    // For columns in the padding this wraps, and is not used.
    let input_step = params.input_x / 4u;
    let first_at = u32(origin.x) * input_step;
    let c0 = column(origin.x, first_at);
    let c1 = column(origin.x + 1, first_at + 1u * input_step);
    let c2 = column(origin.x + 2, first_at + 2u * input_step);
    let c3 = column(origin.x + 3, first_at + 3u * input_step);
    let c4 = column(origin.x + 4, first_at + 4u * input_step);
    let c5 = column(origin.x + 5, first_at + 5u * input_step);
    let c6 = column(origin.x + 6, first_at + 6u * input_step);
    let c7 = column(origin.x + 7, first_at + 7u * input_step);
    let c8 = column(origin.x + 8, first_at + 8u * input_step);
    let c9 = column(origin.x + 9, first_at + 9u * input_step);
    let c10 = column(origin.x + 10, first_at + 10u * input_step);
    let c11 = column(origin.x + 11, first_at + 11u * input_step);
    let c12 = column(origin.x + 12, first_at + 12u * input_step);
    let c13 = column(origin.x + 13, first_at + 13u * input_step);
    let c14 = column(origin.x + 14, first_at + 14u * input_step);
    let c15 = column(origin.x + 15, first_at + 15u * input_step);
    let c16 = column(origin.x + 16, first_at + 16u * input_step);
    let c17 = column(origin.x + 17, first_at + 17u * input_step);
    let c18 = column(origin.x + 18, first_at + 18u * input_step);

    let first = max(0, -origin.y);
    let end = min(i32(WINDOW), params.input_height - origin.y);
    let row_step = params.input_y / 4u;
    let taps_step = WINDOW * fours;
    var row_at = image * (params.input_n / 4u) + u32(origin.y + first) * row_step + four;
    var taps_at = u32(first) * taps_step + four;
    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    var s4 = vec4<f32>();
    var s5 = vec4<f32>();
    var s6 = vec4<f32>();
    for (var ky = first; ky < end; ky++) {
        let taps = load_taps(taps_at, fours);
        let x0 = load(row_at, c0, 0u);
        let x1 = load(row_at, c1, 1u);
        let x2 = load(row_at, c2, 2u);
        let x3 = load(row_at, c3, 3u);
        let x4 = load(row_at, c4, 4u);
        let x5 = load(row_at, c5, 5u);
        let x6 = load(row_at, c6, 6u);
        s0 = add_taps(s0, taps, Field(x0, x1, x2, x3, x4, x5, x6));
        let x7 = load(row_at, c7, 7u);
        if STRIDE == 1u {
            s1 = add_taps(s1, taps, Field(x1, x2, x3, x4, x5, x6, x7));
            let x8 = load(row_at, c8, 8u);
            s2 = add_taps(s2, taps, Field(x2, x3, x4, x5, x6, x7, x8));
            let x9 = load(row_at, c9, 9u);
            s3 = add_taps(s3, taps, Field(x3, x4, x5, x6, x7, x8, x9));
            let x10 = load(row_at, c10, 10u);
            s4 = add_taps(s4, taps, Field(x4, x5, x6, x7, x8, x9, x10));
            let x11 = load(row_at, c11, 11u);
            s5 = add_taps(s5, taps, Field(x5, x6, x7, x8, x9, x10, x11));
            let x12 = load(row_at, c12, 12u);
            s6 = add_taps(s6, taps, Field(x6, x7, x8, x9, x10, x11, x12));
        } else {
            let x8 = load(row_at, c8, 8u);
            s1 = add_taps(s1, taps, Field(x2, x3, x4, x5, x6, x7, x8));
            let x9 = load(row_at, c9, 9u);
            let x10 = load(row_at, c10, 10u);
            s2 = add_taps(s2, taps, Field(x4, x5, x6, x7, x8, x9, x10));
            let x11 = load(row_at, c11, 11u);
            let x12 = load(row_at, c12, 12u);
            s3 = add_taps(s3, taps, Field(x6, x7, x8, x9, x10, x11, x12));
            let x13 = load(row_at, c13, 13u);
            let x14 = load(row_at, c14, 14u);
            s4 = add_taps(s4, taps, Field(x8, x9, x10, x11, x12, x13, x14));
            let x15 = load(row_at, c15, 15u);
            let x16 = load(row_at, c16, 16u);
            s5 = add_taps(s5, taps, Field(x10, x11, x12, x13, x14, x15, x16));
            let x17 = load(row_at, c17, 17u);
            let x18 = load(row_at, c18, 18u);
            s6 = add_taps(s6, taps, Field(x12, x13, x14, x15, x16, x17, x18));
        }
        row_at += row_step;
        taps_at += taps_step;
    }
    let bias = bias_four(4u * four);
    let count = min(COLUMNS, params.output_width - x);
    let output_step = params.output_x / 4u;
    let at = image * (params.output_n / 4u) + y * (params.output_y / 4u) + x * output_step + four;
    store_four(at, s0 + bias);
    if count > 1u {
        store_four(at + 1u * output_step, s1 + bias);
    }
    if count > 2u {
        store_four(at + 2u * output_step, s2 + bias);
    }
    if count > 3u {
        store_four(at + 3u * output_step, s3 + bias);
    }
    if count > 4u {
        store_four(at + 4u * output_step, s4 + bias);
    }
    if count > 5u {
        store_four(at + 5u * output_step, s5 + bias);
    }
    if count > 6u {
        store_four(at + 6u * output_step, s6 + bias);
    }
}

// A column of the input, which may lie in the padding; `at` is where it lies in its row, if it exists.
fn column(x: i32, at: u32) -> Column {
    // A negative number becomes a large one.
    let exists = u32(x) < u32(params.input_width);
    return Column(select(0u, at, exists), exists);
}

// The `number`th column of a row; 0 where there is none, and where no window reaches.
fn load(row_at: u32, place: Column, number: u32) -> vec4<f32> {
    if number >= WINDOW + (COLUMNS - 1u) * STRIDE {
        return vec4<f32>();
    }
    return select(vec4<f32>(), input_vector(row_at + place.at), place.exists);
}

// The taps of a row of the window. With one channel per group weights lie [tap][output channel].
fn load_taps(first: u32, step: u32) -> Taps {
    var taps = Taps();
    taps.t0 = tap_weights(first);
    taps.t1 = tap_weights(first + step);
    taps.t2 = tap_weights(first + 2u * step);
    if WINDOW >= 5u {
        taps.t3 = tap_weights(first + 3u * step);
        taps.t4 = tap_weights(first + 4u * step);
    }
    if WINDOW >= 7u {
        taps.t5 = tap_weights(first + 5u * step);
        taps.t6 = tap_weights(first + 6u * step);
    }
    return taps;
}

fn tap_weights(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(weight_four(at));
}

// Adds the products of one output with a row of taps.
fn add_taps(sum: vec4<f32>, taps: Taps, field: Field) -> vec4<f32> {
    var total = sum;
    total += taps.t0 * field.x0;
    total += taps.t1 * field.x1;
    total += taps.t2 * field.x2;
    if WINDOW >= 5u {
        total += taps.t3 * field.x3;
        total += taps.t4 * field.x4;
    }
    if WINDOW >= 7u {
        total += taps.t5 * field.x5;
        total += taps.t6 * field.x6;
    }
    return total;
}

// The bias of four channels.
fn bias_four(channel: u32) -> vec4<f32> {
    return vec4<f32>(
        channel_bias(channel), channel_bias(channel + 1u), channel_bias(channel + 2u), channel_bias(channel + 3u),
    );
}

// Finishes four channels of an output and stores them.
fn store_four(at: u32, sums: vec4<f32>) {
    if has_residual() {
        store_vector(at, activate_and_add(sums, residual_vector(at)));
    } else {
        store_vector(at, activate(sums));
    }
}
