// y[n, o, p * stride + tap * dilation - padding] += w[c, o, tap] * x[n, c, p], plus bias[o]: a transposed
// convolution. x and y are (N, C, H, W), each row-major or channels last; w is (C, outputs per group, kernel height,
// kernel width), row-major. One thread computes one element of y: it gathers what the formula scatters, so that no two
// threads write to one place. Neighbouring threads have neighbours in y's memory.

struct Params {
    count: u32,
    channels: u32, // input channels per group
    outputs: u32, // output channels per group
    groups: u32,
    height: i32,
    width: i32,
    output_height: u32,
    output_width: u32,
    kernel_y: i32,
    kernel_x: i32,
    stride_y: i32,
    stride_x: i32,
    dilation_y: i32,
    dilation_x: i32,
    top: i32,
    left: i32,
    bias: u32, // whether there is one
    channels_last: u32, // whether y's channels are neighbours
    x_channel: u32, // steps in x between channels, and between pixels
    x_pixel: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
// (channels * groups, outputs, kernel_y, kernel_x)
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
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
    let all_outputs = params.outputs * params.groups;
    var rest = index;
    var output = 0u;
    if params.channels_last != 0u {
        output = rest % all_outputs;
        rest /= all_outputs;
    }
    let column = i32(rest % params.output_width);
    rest /= params.output_width;
    let row = i32(rest % params.output_height);
    rest /= params.output_height;
    if params.channels_last == 0u {
        output = rest % all_outputs;
        rest /= all_outputs;
    }
    let image = rest;
    let first_channel = output / params.outputs * params.channels;
    let taps = u32(params.kernel_y * params.kernel_x);
    let image_size = params.channels * params.groups * u32(params.height * params.width);

    var sum = 0.0;
    for (var ky = 0; ky < params.kernel_y; ky++) {
        let far_y = row + params.top - ky * params.dilation_y;
        let at_y = far_y / params.stride_y;
        if far_y < 0 || at_y * params.stride_y != far_y || at_y >= params.height {
            continue;
        }
        for (var kx = 0; kx < params.kernel_x; kx++) {
            let far_x = column + params.left - kx * params.dilation_x;
            let at_x = far_x / params.stride_x;
            if far_x < 0 || at_x * params.stride_x != far_x || at_x >= params.width {
                continue;
            }
            var at = image * image_size + first_channel * params.x_channel
                + u32(at_y * params.width + at_x) * params.x_pixel;
            var weight = (first_channel * params.outputs + output % params.outputs) * taps
                + u32(ky * params.kernel_x + kx);
            for (var c = 0u; c < params.channels; c++) {
                sum = fma(x[at], weights[weight], sum);
                at += params.x_channel;
                weight += params.outputs * taps;
            }
        }
    }
    if params.bias != 0u {
        sum += bias[output];
    }
    y[index] = sum;
}
