// y = exp(x - max) / sum of exp(x - max) along an axis. x and y lie alike; the elements of a row are `inner`
// apart. As many threads as the host sees fit share a row: each takes a part, and the parts meet in workgroup memory.

struct Params {
    rows: u32,
    length: u32, // elements of a row
    inner: u32, // their distance
    threads: u32, // per row: a power of two, at most 64
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = ((workgroup.x + workgroup.y * grid.x) * 64u + thread) / params.threads;
    let first = thread % params.threads;
    let first_thread = thread - first;
    let start = row / params.inner * params.inner * params.length + row % params.inner;
    // Rows past the end take part in the barriers, with no elements.
    let length = select(0u, params.length, row < params.rows);

    var part = 0.0;
    if length != 0u {
        part = x[start];
    }
    for (var i = first; i < length; i += params.threads) {
        part = max(part, x[start + i * params.inner]);
    }
    parts[thread] = part;
    workgroupBarrier();
    for (var half = params.threads / 2u; half > 0u; half /= 2u) {
        if first < half {
            parts[thread] = max(parts[thread], parts[thread + half]);
        }
        workgroupBarrier();
    }
    let largest = parts[first_thread];
    workgroupBarrier();

    part = 0.0;
    for (var i = first; i < length; i += params.threads) {
        part += exp(x[start + i * params.inner] - largest);
    }
    parts[thread] = part;
    workgroupBarrier();
    for (var half = params.threads / 2u; half > 0u; half /= 2u) {
        if first < half {
            parts[thread] += parts[thread + half];
        }
        workgroupBarrier();
    }
    let sum = parts[first_thread];
    for (var i = first; i < length; i += params.threads) {
        let at = start + i * params.inner;
        y[at] = exp(x[at] - largest) / sum;
    }
}
