// #import params

// The activation function of a layer, and the residual on the side of it where it belongs.

// Adds the residual before or behind the activation, which it applies.
fn activate_and_add(sums: vec4<f32>, added: vec4<f32>) -> vec4<f32> {
    let before = select(vec4<f32>(), added, params.residual == 1u);
    let after = select(vec4<f32>(), added, params.residual == 2u);
    return activate(sums + before) + after;
}

// Applies the layer's activation. The numbers are those of `Params::new` in src/gpu/params.rs.
fn activate(values: vec4<f32>) -> vec4<f32> {
    switch params.activation {
        // ReLU, ReLU6, Clamp
        case 1u: { return clamp(values, vec4<f32>(params.activation_a), vec4<f32>(params.activation_b)); }
        // leaky ReLU
        case 2u: { return select(params.activation_a * values, values, values > vec4<f32>()); }
        // SiLU, sigmoid: one exponential for both
        case 3u, 5u: {
            if EXPONENTIAL {
                return select(values, vec4<f32>(1.0), params.activation == 5u) * sigmoid(values);
            }
            return values;
        }
        // hard swish
        case 4u: { return values * clamp(values + 3.0, vec4<f32>(), vec4<f32>(6.0)) * (1.0 / 6.0); }
        default: { return values; }
    }
}

// The exponent is bounded: WGSL does not promise what an infinite quotient gives.
fn sigmoid(values: vec4<f32>) -> vec4<f32> {
    return 1.0 / (1.0 + exp(min(-values, vec4<f32>(80.0))));
}
