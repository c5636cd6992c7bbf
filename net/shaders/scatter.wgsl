// y = x, but along one axis elements are replaced by, or combined with, the updates whose index tells their place. One
// thread computes one element of y, and goes through the updates of its row in their order. All are row-major.

struct Params {
    // Of y, outermost first: extent, the updates' extent, and their step.
    axes: array<vec4<u32>, 6>,
    rank: u32,
    count: u32,
    axis: u32,
    combination: u32, // 0: replace, 1: add, 2: multiply, 3: smaller, 4: larger
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> indices: array<f32>;
@group(0) @binding(3) var<storage, read> updates: array<f32>;
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
    var at = 0u;
    var wanted = 0u;
    var inside = true;
    for (var i = params.rank; i > 0u; i--) {
        let axis = params.axes[i - 1u];
        let along = rest % axis.x;
        rest /= axis.x;
        if i - 1u == params.axis {
            wanted = along;
        } else {
            inside = inside && along < axis.y;
            at += along * axis.z;
        }
    }
    var value = x[place];
    let axis = params.axes[params.axis];
    // An index from the end means the same place.
    let from_end = f32(wanted) - f32(axis.x);
    let updates_here = select(0u, axis.y, inside);
    for (var i = 0u; i < updates_here; i++) {
        let here = at + i * axis.z;
        let index = indices[here];
        if index == f32(wanted) || index == from_end {
            value = combine(value, updates[here]);
        }
    }
    y[place] = value;
}

fn combine(a: f32, b: f32) -> f32 {
    switch params.combination {
        case 0u: { return b; }
        case 1u: { return a + b; }
        case 2u: { return a * b; }
        case 3u: { return min(a, b); }
        default: { return max(a, b); }
    }
}
