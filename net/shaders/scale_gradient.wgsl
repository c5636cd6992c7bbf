// From the gradient of every weight `alpha * q + kds_bias` to that of alpha, and to that of the KDS bias behind it: sums
// over the channels of a block, of the gradient times q, and of the gradient. One thread for each element of alpha,
// which lies (output, block, tap).

struct Params {
    count: u32, // elements of alpha
    channels: u32, // of a group
    taps: u32,
    blocks: u32, // of a row of channels
    size: u32, // channels of a block; the last one has what is left
    kds_bias: u32, // whether its gradient is wanted
    unused_0: u32,
    unused_1: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> weights: array<f32>; // (output, channel, tap)
@group(0) @binding(3) var<storage, read> q: array<u32>; // int8, four a word, as the weights lie
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
    let tap = index % params.taps;
    let block = index / params.taps % params.blocks;
    let output = index / params.taps / params.blocks;
    let first = block * params.size;
    let end = select(first + params.size, params.channels, block + 1u == params.blocks);
    var of_alpha = 0.0;
    var of_kds_bias = 0.0;
    for (var channel = first; channel < end; channel++) {
        let at = (output * params.channels + channel) * params.taps + tap;
        let gradient = weights[at];
        // The byte to the top, and down again with its sign.
        let integer = bitcast<i32>(q[at / 4u] << (24u - at % 4u * 8u)) >> 24u;
        of_alpha += gradient * f32(integer);
        of_kds_bias += gradient;
    }
    y[index] = of_alpha;
    if params.kds_bias != 0u {
        y[params.count + index] = of_kds_bias;
    }
}
