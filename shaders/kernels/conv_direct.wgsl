// #import conv, input_quad, output_{floats}

// Convolution, one thread per output: any geometry, any weight format. The paper's formula as it
// stands: the products of a block are summed first and meet their shifts once.

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
    var sum = 0.0;
    for (var tap = 0u; tap < params.taps; tap++) {
        let position = tap_position(origin, tap);
        if !inside_input(position) {
            continue;
        }
        let pixel = input_index(place.image, group, position);
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = select(quad + params.block_quads, params.row_quads, block + 1u == params.block_count);
            var products = 0.0;
            var inputs = 0.0;
            for (; quad < end; quad++) {
                let at = quad_place(quad, block);
                let x = input_quad(pixel + at.channel * params.input_c, at.count);
                products += dot(weight_quad(tap, quad, place.channel), x);
                inputs += dot(x, vec4<f32>(1.0));
            }
            let shift = block_shift(tap, block, place.channel);
            sum += shift.x * products + shift.y * inputs;
        }
    }
    store_output(place, sum);
}
