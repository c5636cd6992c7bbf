// y[n, c, p] = largest or mean over the window's taps of x[n, c, p * stride + tap * dilation - padding].
// x and y are (N, C, H, W), each row-major or channels last. One thread computes one element of y, neighbouring
// threads neighbours in y's memory.

// A float, or those of four neighbouring channels; then `channels` and steps are in fours.
alias Element = f32;

struct Params {
    count: u32,
    kind: u32, // 0: largest, 1: mean of what is inside, 2: mean with padding, 3: sum, 4: place of the largest
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
    bottom: i32,
    right: i32,
    channels: u32,
    channels_last: u32, // whether y's channels are neighbours
    x_channel: u32, // steps in x between channels, and between pixels
    x_pixel: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
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
    var channel = 0u;
    if params.channels_last != 0u {
        channel = rest % params.channels;
        rest /= params.channels;
    }
    let column = i32(rest % params.output_width);
    rest /= params.output_width;
    let row = i32(rest % params.output_height);
    rest /= params.output_height;
    if params.channels_last == 0u {
        channel = rest % params.channels;
        rest /= params.channels;
    }
    let first = rest * params.channels * u32(params.height * params.width) + channel * params.x_channel;
    let first_y = row * params.stride_y - params.top;
    let first_x = column * params.stride_x - params.left;

    var largest = Element(-3.4028234e38);
    var place_of_largest = Element();
    var sum = Element();
    var inside = 0;
    var padded = 0;
    for (var ky = 0; ky < params.kernel_y; ky++) {
        let at_y = first_y + ky * params.dilation_y;
        if at_y >= params.height + params.bottom {
            break;
        }
        for (var kx = 0; kx < params.kernel_x; kx++) {
            let at_x = first_x + kx * params.dilation_x;
            if at_x >= params.width + params.right {
                break;
            }
            padded++;
            if at_y >= 0 && at_y < params.height && at_x >= 0 && at_x < params.width {
                let place = at_y * params.width + at_x;
                let value = x[first + u32(place) * params.x_pixel];
                // The first counts even if it is -infinity.
                if inside == 0 {
                    largest = value;
                    place_of_largest = Element(f32(place));
                }
                place_of_largest = select(place_of_largest, Element(f32(place)), value > largest);
                largest = max(largest, value);
                sum += value;
                inside++;
            }
        }
    }
    switch params.kind {
        case 0u: { y[index] = largest; }
        case 1u: { y[index] = sum / f32(inside); }
        case 2u: { y[index] = sum / f32(padded); }
        case 3u: { y[index] = sum; }
        default: { y[index] = place_of_largest; }
    }
}
