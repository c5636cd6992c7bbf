// #import conv, input_{floats}, output_{floats}

// Convolution with one input channel per group and float weights: one thread per output, no blocks.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = work_index(workgroup, grid) * 64u + lane;
    let channels = params.all_outputs;
    if index >= params.batch * channels * params.output_height * params.output_width {
        return;
    }
    let place = output_place(index);
    let group = place.channel / params.outputs;
    let origin = field_origin(place.y, place.x);
    let plane = input_index(place.image, group, vec2<i32>());
    var sum = 0.0;
    var weight = place.channel;
    for (var ky = 0u; ky < params.kernel_height; ky++) {
        let y = origin.x + i32(ky * params.dilation_y);
        for (var kx = 0u; kx < params.kernel_width; kx++) {
            let x = origin.y + i32(kx * params.dilation_x);
            if inside_input(vec2<i32>(y, x)) {
                let at = plane + u32(y) * params.input_y + u32(x) * params.input_x;
                sum += bitcast<f32>(weights[weight]) * input_float(at);
            }
            weight += channels;
        }
    }
    store_output(place, sum);
}
