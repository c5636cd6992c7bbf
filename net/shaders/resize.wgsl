// y[i, j] = sum over s, t of u[i, s] * v[j, t] * x[row[i, s], column[j, t]] along two axes: nearest, linear or cubic
// resampling, by tables of places and weights. x and y lie alike. One thread computes one element of y.

// A float, or four neighbours behind the second axis, which then has steps of fours.
alias Element = f32;

struct Params {
    count: u32,
    inner: u32, // elements behind the second axis
    second_from: u32, // extent of the second axis in x, and in y
    second_to: u32,
    second_taps: u32, // elements of x per element of y
    second_at: u32, // where its indices start in the table; its weights follow
    middle: u32, // elements between the axes
    first_from: u32,
    first_to: u32,
    first_taps: u32,
    first_at: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
// Per axis: indices [place][tap], then the weights' bits [place][tap].
@group(0) @binding(3) var<storage, read> taps: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

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
    var rest = index;
    let inner = rest % params.inner;
    rest /= params.inner;
    let second = rest % params.second_to;
    rest /= params.second_to;
    let middle = rest % params.middle;
    rest /= params.middle;
    let first = rest % params.first_to;
    let outer = rest / params.first_to;

    let first_at = params.first_at + first * params.first_taps;
    let first_weights = first_at + params.first_to * params.first_taps;
    let second_at = params.second_at + second * params.second_taps;
    let second_weights = second_at + params.second_to * params.second_taps;
    var sum = Element();
    for (var i = 0u; i < params.first_taps; i++) {
        let row = ((outer * params.first_from + taps[first_at + i]) * params.middle + middle) * params.second_from;
        var part = Element();
        for (var j = 0u; j < params.second_taps; j++) {
            let value = x[(row + taps[second_at + j]) * params.inner + inner];
            part += bitcast<f32>(taps[second_weights + j]) * value;
        }
        sum += bitcast<f32>(taps[first_weights + i]) * part;
    }
    y[index] = sum;
}
