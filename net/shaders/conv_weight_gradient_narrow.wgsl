// The gradient of a convolution's weights, as conv_weight_gradient has it, where groups have few outputs, as in
// depthwise layers: a workgroup sums up one weight, its threads over the pixels.

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

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let work = workgroup.x + workgroup.y * grid.x;
    if work >= params.groups * params.rows * params.columns {
        return;
    }
    let output = work / params.columns;
    let column = work % params.columns;
    let taps = params.kernel.x * params.kernel.y;
    let channel = output / params.rows * (params.columns / taps) + column / taps;
    let tap = vec2<u32>(column % taps / params.kernel.y, column % taps % params.kernel.y);
    let offset = vec2<i32>(tap * params.dilation) - vec2<i32>(params.padding);
    let plane = params.y_size.x * params.y_size.y;
    var sum = 0.0;
    for (var k = thread; k < params.depth; k += 64u) {
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
    for (var half = 32u; half > 0u; half /= 2u) {
        if thread < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    if thread == 0u {
        w[work] = parts[0];
    }
}
