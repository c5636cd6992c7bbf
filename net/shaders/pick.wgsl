// y[p] = x[p, but along one axis the place that the index for p tells]; x and indices broadcast to y. One thread
// computes one element of y.

struct Params {
    // Of y, outermost first: extent, and steps in elements of x and indices, 0 where it repeats or is picked.
    axes: array<vec4<u32>, 6>,
    rank: u32,
    count: u32,
    extent: i32, // of the axis in x
    step: u32, // along it
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let place = (workgroup.x + workgroup.y * grid.x) * 64u + thread;
    if place >= params.count {
        return;
    }
    var rest = place;
    var at_x = 0u;
    var at_index = 0u;
    for (var i = params.rank; i > 0u; i--) {
        let axis = params.axes[i - 1u];
        let along = rest % axis.x;
        rest /= axis.x;
        at_x += along * axis.y;
        at_index += along * axis.z;
    }
    // Bounded first: WGSL does not promise what a float outside of i32 becomes.
    var index = i32(clamp(indices[at_index], -1073741824.0, 1073741824.0));
    index += select(0, params.extent, index < 0);
    index = clamp(index, 0, params.extent - 1);
    y[place] = x[at_x + u32(index) * params.step];
}
