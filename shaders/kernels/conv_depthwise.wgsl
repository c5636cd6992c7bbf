// #import params, coordinates, weights_{weights}, input_{loads}, epilogue

// Convolution with one input channel per group and float weights, one thread per output element: there are no blocks
// to scale, and no inputs that other outputs of a pixel would share.
//
//     sum = 0
//     for each tap inside the input:
//         sum += weight[tap][output] * x[group]
//     output = epilogue(sum)
//
// The weights move on by additions: with one channel per group they lie [tap][output channel].

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = workgroup_index(workgroup, grid) * THREADS + thread;
    let channels = params.all_outputs;
    if index >= params.batch * channels * params.output_height * params.output_width {
        return;
    }
    let place = output_place(index);
    let group = place.channel / params.outputs;
    let origin = field_origin(place.y, place.x);
    let channel_at = input_index(place.image, group, Position());
    var sum = 0.0;
    var weight_at = place.channel;
    for (var ky = 0u; ky < params.kernel_height; ky++) {
        let y = origin.y + i32(ky * params.dilation_y);
        for (var kx = 0u; kx < params.kernel_width; kx++) {
            let x = origin.x + i32(kx * params.dilation_x);
            if inside_input(Position(y, x)) {
                let at = channel_at + u32(y) * params.input_y + u32(x) * params.input_x;
                sum += bitcast<f32>(weight_word(weight_at)) * input_float(at);
            }
            weight_at += channels;
        }
    }
    store_output(place, sum);
}
