// #import params, coordinates, weight_scales, activation, output_{floats}

// The epilogue: what becomes of a sum before it is stored. Bias and residual are added, and the activation applied.

// Computes an output element from its sum. Compilers drop what the other three would take.
fn finish(place: OutputPlace, sum: f32) -> f32 {
    return finish_columns(place, 1u, vec4<f32>(sum)).x;
}

// Computes up to four elements from their sums: an element and its neighbours in the row.
fn finish_columns(first: OutputPlace, count: u32, sums: vec4<f32>) -> vec4<f32> {
    return finish_four(neighbours(output_index(first), count, params.output_x), sums + channel_bias(first.channel));
}

// The places of up to four neighbours, `distance` apart; past them the last comes again.
fn neighbours(first: u32, count: u32, distance: u32) -> vec4<u32> {
    return first + min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u)) * distance;
}

// Adds the residual that lies at these places, and applies the activation.
fn finish_four(places: vec4<u32>, sums: vec4<f32>) -> vec4<f32> {
    if has_residual() {
        return activate_and_add(sums, residual_four(places));
    }
    return activate(sums);
}

fn residual_four(at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(residual_float(at.x), residual_float(at.y), residual_float(at.z), residual_float(at.w));
}

// Finishes an output element and stores it as a float.
fn store_output(place: OutputPlace, sum: f32) {
    store_float(output_index(place), finish(place, sum));
}

// Finishes up to four neighbouring elements of a row and stores them as floats.
fn store_columns(first: OutputPlace, count: u32, sums: vec4<f32>) {
    store_four(output_index(first), count, params.output_x, finish_columns(first, count, sums));
}

// Stores up to four floats, `distance` apart.
fn store_four(at: u32, count: u32, distance: u32, values: vec4<f32>) {
    store_float(at, values.x);
    if count > 1u {
        store_float(at + distance, values.y);
    }
    if count > 2u {
        store_float(at + 2u * distance, values.z);
    }
    if count > 3u {
        store_float(at + 3u * distance, values.w);
    }
}
