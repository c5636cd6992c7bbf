// #import params, coordinates, unpack_weights, weight_scales, input_quad, epilogue

// Convolution, one thread per output element: any geometry, any weight format. The fallback, and the paper's formula
// as it stands:
//
//     sum = 0
//     for each tap inside the input, block of input channels:
//         products = the sum of q * x, and inputs = the sum of x, over the block's channels
//         sum += alpha * products + kds_bias * inputs
//     output = epilogue(sum)
//
// The other float kernels with blocks multiply each q by alpha first. So this one sums in another order than they do,
// and checks them.
// No memory is shared, and neighbouring threads write neighbouring elements of the output.

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
    var sum = 0.0;
    for (var tap = 0u; tap < params.taps; tap++) {
        let position = tap_position(origin, tap);
        if !inside_input(position) {
            continue;
        }
        let pixel = input_index(place.image, group, position);
        var quad = 0u;
        for (var block = 0u; block < params.block_count; block++) {
            let end = block_end(quad, block);
            var products = 0.0;
            var inputs = 0.0;
            for (; quad < end; quad++) {
                let at = quad_place(quad, block);
                let x = input_quad(pixel + at.channel * params.input_c, at.count);
                products += dot(weight_quad(tap, quad, place.channel), x);
                inputs += dot(x, vec4<f32>(1.0));
            }
            let scale = weight_scale(tap, block, place.channel);
            sum += scale.alpha * products + scale.kds_bias * inputs;
        }
    }
    store_output(place, sum);
}
