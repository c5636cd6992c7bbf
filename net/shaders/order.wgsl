// y[rank of x[i] along an axis] = i, where that rank is below the wanted number. x and y are row-major. One thread
// counts the elements of its row that come before its own: equals keep their order, so every rank is taken once.

struct Params {
    count: u32, // elements of x
    length: u32, // of a row of x
    wanted: u32, // of a row of y
    inner: u32, // the distance of a row's elements
    descending: u32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
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
    let inner = place % params.inner;
    let own = place / params.inner % params.length;
    let outer = place / params.inner / params.length;
    let start = outer * params.length * params.inner + inner;
    let value = key(x[place]);
    var rank = 0u;
    for (var i = 0u; i < params.length; i++) {
        let other = key(x[start + i * params.inner]);
        let before = select((other < value), (other > value), params.descending != 0u);
        rank += u32(before || (other == value && i < own));
    }
    if rank < params.wanted {
        y[(outer * params.wanted + rank) * params.inner + inner] = f32(own);
    }
}

// An integer that orders as the float does, NaN above all: -0 and 0 are one.
fn key(x: f32) -> i32 {
    let bits = bitcast<i32>(x);
    let size = bits & 0x7fffffff;
    return select(size, select(-size, 0x7fffffff, size > 0x7f800000), bits < 0);
}
