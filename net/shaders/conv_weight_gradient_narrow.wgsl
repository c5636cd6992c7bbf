// The gradient of a convolution's weights, as conv_weight_gradient has it, where groups have few outputs, as in
// depthwise layers: as many threads as the host sees fit share a weight, each takes a part of the pixels, and the parts
// meet in workgroup memory.

struct Params {
    rows: u32, // outputs of a group
    columns: u32, // channels of a group, times taps
    depth: u32, // images times pixels of y
    groups: u32,
    unused: u32,
    threads: u32, // per weight: a power of two, at most 64
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

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first = thread % params.threads;
    let weight = (workgroup.x + workgroup.y * grid.x) * (64u / params.threads) + thread / params.threads;
    let exists = weight < params.groups * params.rows * params.columns;
    let output = weight / params.columns;
    let column = weight % params.columns;
    let taps = params.kernel.x * params.kernel.y;
    let channel = output / params.rows * (params.columns / taps) + column / taps;
    let tap = vec2<u32>(column % taps / params.kernel.y, column % taps % params.kernel.y);
    let offset = vec2<i32>(tap * params.dilation) - vec2<i32>(params.padding);
    let plane = params.y_size.x * params.y_size.y;
    var sum = 0.0;
    for (var k = first; k < select(0u, params.depth, exists); k += params.threads) {
        let image = k / plane;
        let pixel = k % plane;
        let origin = vec2<u32>(pixel / params.y_size.y, pixel % params.y_size.y) * params.stride;
        let place = vec2<i32>(origin) + offset;
        if all(place >= vec2<i32>()) && all(place < vec2<i32>(params.x_size)) {
            let at = u32(place.x) * params.x_size.y + u32(place.y);
            sum += x[image * params.x_steps.x + channel * params.x_steps.y + at * params.x_steps.z]
                * dy[image * params.y_steps.x + output * params.y_steps.y + pixel * params.y_steps.z];
        }
    }
    parts[thread] = sum;
    workgroupBarrier();
    for (var half = params.threads / 2u; half > 0u; half /= 2u) {
        if first < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    if first == 0u && exists {
        w[weight] = parts[thread];
    }
}
