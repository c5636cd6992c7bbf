// dx[n, c, p] = sum over the windows that hold p of dy's share for p: of the largest, all for the first of equals; of a
// sum, all; of a mean, what comes on one element. Tensors are (N, C, H, W), each row-major or channels last. One thread
// computes one element of dx, neighbouring threads neighbours in its memory.

struct Params {
    count: u32,
    kind: u32, // 0: largest, 1: mean of what is inside, 2: mean with padding, 3: sum
    height: i32,
    width: i32,
    output_height: i32,
    output_width: i32,
    kernel_y: i32,
    kernel_x: i32,
    stride_y: i32,
    stride_x: i32,
    dilation_y: i32,
    dilation_x: i32,
    top: i32,
    left: i32,
    bottom: i32,
    right: i32,
    channels: u32,
    channels_last: u32, // whether dx's channels are neighbours
    x_channel: u32, // steps in x between channels, and between pixels
    x_pixel: u32,
    dy_channel: u32,
    dy_pixel: u32,
    unused_0: u32,
    unused_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

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
    var channel = 0u;
    if params.channels_last != 0u {
        channel = rest % params.channels;
        rest /= params.channels;
    }
    let column = i32(rest % u32(params.width));
    rest /= u32(params.width);
    let row = i32(rest % u32(params.height));
    rest /= u32(params.height);
    if params.channels_last == 0u {
        channel = rest % params.channels;
        rest /= params.channels;
    }
    let image_x = rest * params.channels * u32(params.height * params.width) + channel * params.x_channel;
    let outputs = u32(params.output_height * params.output_width);
    let image_y = rest * params.channels * outputs + channel * params.dy_channel;
    let own = row * params.width + column;

    var sum = 0.0;
    for (var ky = 0; ky < params.kernel_y; ky++) {
        let from_y = row + params.top - ky * params.dilation_y;
        if from_y < 0 || from_y % params.stride_y != 0 || from_y / params.stride_y >= params.output_height {
            continue;
        }
        for (var kx = 0; kx < params.kernel_x; kx++) {
            let from_x = column + params.left - kx * params.dilation_x;
            if from_x < 0 || from_x % params.stride_x != 0 || from_x / params.stride_x >= params.output_width {
                continue;
            }
            let window = from_y / params.stride_y * params.output_width + from_x / params.stride_x;
            let share = share_of(image_x, own, from_y - params.top, from_x - params.left);
            if share != 0.0 {
                sum += share * dy[image_y + u32(window) * params.dy_pixel];
            }
        }
    }
    dx[index] = sum;
}

// What a place gets of the window that begins there.
fn share_of(image: u32, own: i32, first_y: i32, first_x: i32) -> f32 {
    if params.kind == 3u {
        return 1.0;
    }
    var largest = 0.0;
    var place_of_largest = -1;
    var inside = 0;
    var padded = 0;
    for (var ky = 0; ky < params.kernel_y; ky++) {
        let at_y = first_y + ky * params.dilation_y;
        for (var kx = 0; kx < params.kernel_x; kx++) {
            let at_x = first_x + kx * params.dilation_x;
            if at_y < params.height + params.bottom && at_x < params.width + params.right {
                padded++;
            }
            if at_y >= 0 && at_y < params.height && at_x >= 0 && at_x < params.width {
                let place = at_y * params.width + at_x;
                inside++;
                if params.kind == 0u {
                    let value = x[image + u32(place) * params.x_pixel];
                    if inside == 1 || value > largest {
                        largest = value;
                        place_of_largest = place;
                    }
                }
            }
        }
    }
    switch params.kind {
        case 0u: { return f32(place_of_largest == own); }
        case 1u: { return 1.0 / f32(inside); }
        default: { return 1.0 / f32(padded); }
    }
}
