// #import params, coordinates, weight_scales, activation, output_{floats}

// The epilogue: what becomes of a sum before it is stored. Bias and residual are added, and the activation applied.

// Computes an output element from its sum. Compilers drop what the other three would take.
fn finish(place: OutputPlace, sum: f32) -> f32 {
    return finish_columns(place, 1u, vec4<f32>(sum)).x;
}

// Computes up to four elements from their sums: an element and its neighbours in the row.
fn finish_columns(first: OutputPlace, count: u32, sums: vec4<f32>) -> vec4<f32> {
    var values = sums;
    if params.bias_at != NONE {
        values += weight_scales[params.bias_at + first.channel];
    }
    if params.residual == 1u {
        values += residual_columns(first, count);
    }
    values = activate(values);
    if params.residual == 2u {
        values += residual_columns(first, count);
    }
    return values;
}

// The residual's elements at up to four places of a row; past them the last comes again.
fn residual_columns(first: OutputPlace, count: u32) -> vec4<f32> {
    let at = output_index(first) + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u)) * params.output_x;
    return vec4<f32>(residual_float(at.x), residual_float(at.y), residual_float(at.z), residual_float(at.w));
}

// Finishes an output element and stores it as a float.
fn store_output(place: OutputPlace, sum: f32) {
    store_float(output_index(place), finish(place, sum));
}

// Finishes up to four neighbouring elements of a row and stores them as floats.
fn store_columns(first: OutputPlace, count: u32, sums: vec4<f32>) {
    let at = output_index(first);
    let values = finish_columns(first, count, sums);
    store_float(at, values.x);
    if count > 1u {
        store_float(at + params.output_x, values.y);
    }
    if count > 2u {
        store_float(at + 2u * params.output_x, values.z);
    }
    if count > 3u {
        store_float(at + 3u * params.output_x, values.w);
    }
}
