// #import params, coordinates, weight_scales, output_{floats}

// The epilogue: what becomes of a sum before it is stored. Bias and residual are added, and the activation applied.

// Computes an output element from its sum.
fn finish(place: OutputPlace, sum: f32) -> f32 {
    let at = output_index(place);
    var value = sum;
    if params.bias_at != NONE {
        value += weight_scales[params.bias_at + place.channel];
    }
    if params.residual == 1u {
        value += residual_float(at);
    }
    value = activate(value);
    if params.residual == 2u {
        value += residual_float(at);
    }
    return value;
}

// Finishes an output element and stores it as a float.
fn store_output(place: OutputPlace, sum: f32) {
    store_float(output_index(place), finish(place, sum));
}

// Applies the layer's activation. The numbers are those of `Params::new` in src/gpu/params.rs.
fn activate(value: f32) -> f32 {
    switch params.activation {
        case 1u: { return clamp(value, params.activation_a, params.activation_b); } // ReLU, ReLU6, Clamp
        case 2u: { return select(params.activation_a * value, value, value > 0.0); } // leaky ReLU
        case 3u: { return value * sigmoid(value); } // SiLU
        case 4u: { return value * clamp(value + 3.0, 0.0, 6.0) * (1.0 / 6.0); } // hard swish
        case 5u: { return sigmoid(value); }
        default: { return value; }
    }
}

// The exponent is bounded: WGSL does not promise what an infinite quotient gives.
fn sigmoid(value: f32) -> f32 {
    return 1.0 / (1.0 + exp(min(-value, 80.0)));
}
