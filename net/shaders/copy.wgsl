// y[y_start + sum of i_k * y_step_k] = x[x_start + sum of place_k(i_k) * x_step_k] for all indices i, where place_k
// is i_k itself or the entry i_k of a table: slice, transpose, expand, concatenation, gather, padding, and changes of
// layout. One thread moves one element. Words, not floats: NaN and subnormals pass as they are.

// What moves at a time: a word, or four words that are neighbours on both sides. Steps and starts are in those.
alias Element = u32;

struct Params {
    // Outermost first: extent, step in y, step in x, and where the table of places along the axis of x
    // starts, or -1. A place of -1 is outside of x.
    axes: array<vec4<i32>, 6>,
    rank: u32,
    count: u32,
    x_start: i32,
    y_start: i32,
    outside: u32, // what is written for places outside of x
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read> places: array<i32>;
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
    var at_x = params.x_start;
    var at_y = params.y_start;
    var inside = true;
    for (var i = params.rank; i > 0u; i--) {
        let axis = params.axes[i - 1u];
        var place = i32(rest % u32(axis.x));
        rest /= u32(axis.x);
        at_y += place * axis.y;
        if axis.w >= 0 {
            place = places[axis.w + place];
            inside &= place >= 0;
        }
        at_x += place * axis.z;
    }
    var value = Element(params.outside);
    if inside {
        value = x[at_x];
    }
    y[at_y] = value;
}
