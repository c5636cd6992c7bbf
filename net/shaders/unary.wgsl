// y[i] = f(x[i]) for a function f of one float, or the gradient of its input, y[i] = f'(x[i]) * dy[i]. All lie alike.
// One thread computes one element of y.

struct Params {
    count: u32,
    function: u32, // the code that `unary` in net/src/gpu/geometry.rs gives it
    a: f32,
    b: f32,
    c: f32,
    gradient: u32, // whether it is that
    unused_0: u32,
    unused_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (workgroup.x + workgroup.y * grid.x) * 64u + thread;
    if index >= params.count {
        return;
    }
    if params.gradient != 0u {
        y[index] = slope(x[index]) * dy[index];
    } else {
        y[index] = apply(x[index]);
    }
}

fn apply(x: f32) -> f32 {
    switch params.function {
        case 1u: { return clamp(x, params.a, params.b); }
        case 2u: { return select(params.a * x, x, x > 0.0); }
        case 3u: { return x * sigmoid(x); }
        case 4u: { return x * clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0); }
        case 5u: { return sigmoid(x); }
        case 6u: { return clamp(params.a * x + params.b, 0.0, 1.0); }
        case 7u: { return select(params.a * exp_minus_1(min(x, 0.0)), x, x > 0.0); }
        case 8u: { return max(x, 0.0) + log_1_plus(exp(-abs(x))); }
        case 9u: { return exp(x); }
        case 10u: { return log(x); }
        case 11u: { return sqrt(x); }
        case 12u: { return 1.0 / x; }
        case 13u: { return -x; }
        case 14u: { return abs(x); }
        case 15u: { return hyperbolic_tangent(x); }
        case 16u: { return error_function(x); }
        case 17u: { return floor(x); }
        case 18u: { return ceil(x); }
        case 19u: { return round(x); }
        case 20u: { return sine(x, 0); }
        case 21u: { return sine(x, 1); }
        case 22u: { return arc_tangent(x); }
        case 23u: { return sign(x); }
        case 24u: { return trunc(x); }
        case 25u: { return f32(x == 0.0); }
        case 26u: { return f32(magnitude_bits(x) > INFINITY); }
        case 27u: { return select(0.0, select(params.a, params.b, x > 0.0), magnitude_bits(x) == INFINITY); }
        case 28u: { return clamp(round(x / params.a), params.b, params.c) * params.a; }
        default: { return x; }
    }
}

// The derivative, of what has one: 0 at the ends of a clamp, that of the left side at other kinks.
fn slope(x: f32) -> f32 {
    switch params.function {
        case 1u: { return f32(x > params.a && x < params.b); }
        case 2u: { return select(params.a, 1.0, x > 0.0); }
        case 3u: { return sigmoid(x) * (1.0 + x * sigmoid(-x)); }
        case 4u: { return select(select((2.0 * x + 3.0) * (1.0 / 6.0), 1.0, x >= 3.0), 0.0, x <= -3.0); }
        case 5u: { return sigmoid(x) * sigmoid(-x); }
        case 6u: {
            let value = params.a * x + params.b;
            return select(0.0, params.a, value > 0.0 && value < 1.0);
        }
        case 7u: { return select(params.a * exp(min(x, 0.0)), 1.0, x > 0.0); }
        case 8u: { return sigmoid(x); }
        case 9u: { return exp(x); }
        case 10u: { return 1.0 / x; }
        case 11u: { return 0.5 / sqrt(x); }
        case 12u: { return -1.0 / (x * x); }
        case 13u: { return -1.0; }
        case 14u: { return sign(x); }
        case 15u: {
            let decay = exp(-2.0 * abs(x));
            return 4.0 * decay / ((1.0 + decay) * (1.0 + decay));
        }
        case 16u: { return 1.1283791671 * exp(-min(x * x, 80.0)); }
        case 20u: { return sine(x, 1); }
        case 21u: { return -sine(x, 0); }
        case 22u: { return 1.0 / (1.0 + x * x); }
        default: { return 1.0; }
    }
}

const INFINITY = 0x7f800000u;

// By its bits: compilers may take it that floats are finite.
fn magnitude_bits(x: f32) -> u32 {
    return bitcast<u32>(x) & 0x7fffffffu;
}

// The angle whose tangent is x: beyond tan(pi / 8) by the angle that is left of pi / 4 or of pi / 2, then by a series.
fn arc_tangent(x: f32) -> f32 {
    let size = abs(x);
    var start = 0.0;
    var rest = size;
    if size > 2.41421356 {
        start = 1.57079633;
        rest = -1.0 / size;
    } else if size > 0.414213562 {
        start = 0.785398163;
        rest = (size - 1.0) / (size + 1.0);
    }
    let q = rest * rest;
    let series = rest + rest * q * (-3.33329491539e-1 + q * (1.99777106478e-1 + q * (-1.38776856032e-1 + q * 8.05374449538e-2)));
    return sign(x) * (start + series);
}

// The exponent is bounded: WGSL does not promise what an infinite quotient gives.
fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(min(-x, 80.0)));
}

// exp(x) - 1 without cancellation: near 0 the series.
fn exp_minus_1(x: f32) -> f32 {
    let series = x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + x * (1.0 / 120.0 + x * (1.0 / 720.0))))));
    return select(exp(x) - 1.0, series, abs(x) < 0.3);
}

// ln(1 + x) for x in 0..=1: by 2 atanh(x / (2 + x)), whose series converges within 1/3.
fn log_1_plus(x: f32) -> f32 {
    let s = x / (2.0 + x);
    let q = s * s;
    return 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0)))))));
}

// By exp(-2|x|), which can't overflow.
fn hyperbolic_tangent(x: f32) -> f32 {
    let less_1 = exp_minus_1(-2.0 * abs(x));
    return sign(x) * (-less_1 / (2.0 + less_1));
}

// Near 0 the Taylor series, else Abramowitz and Stegun 7.1.26 (within 1.5e-7).
fn error_function(x: f32) -> f32 {
    let q = x * x;
    let series = 1.1283791671 * x * (1.0 + q * (-1.0 / 3.0 + q * (1.0 / 10.0 + q * (-1.0 / 42.0
        + q * (1.0 / 216.0 + q * (-1.0 / 1320.0 + q * (1.0 / 9360.0 + q * (-1.0 / 75600.0))))))));
    let t = 1.0 / (1.0 + 0.3275911 * min(abs(x), 10.0));
    let tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return select(sign(x) * (1.0 - tail * exp(-min(q, 80.0))), series, abs(x) < 0.75);
}

// sin(x + turns * pi / 2): WGSL's own is bound to 2^-11 only. The argument is brought into +-pi/4 in three parts of pi/2
// whose products with some thousands of quarter turns are exact.
fn sine(x: f32, turns: i32) -> f32 {
    let quarters = round(x * 0.63661977);
    var r = fma(quarters, -1.5703125, x);
    r = fma(quarters, -4.8351288e-4, r);
    r = fma(quarters, -3.1385570e-7, r);
    let q = r * r;
    let sin_r = r + r * q * (-1.6666655e-1 + q * (8.3321609e-3 + q * -1.9515296e-4));
    let cos_r = 1.0 - 0.5 * q + q * q * (4.1666646e-2 + q * (-1.3887316e-3 + q * 2.4433157e-5));
    let quarter = (i32(clamp(quarters, -1e9, 1e9)) + turns) & 3;
    let value = select(sin_r, cos_r, (quarter & 1) == 1);
    return select(value, -value, quarter >= 2);
}
