// exp(x - max) / sum of exp(x - max) along an axis. As many lanes as the host sees fit share a row: their parts meet
// in workgroup memory.

struct Params {
    rows: u32,
    length: u32, // elements of a row
    inner: u32, // their distance
    lanes: u32, // per row: a power of two, at most 64
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

var<workgroup> parts: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = ((workgroup.x + workgroup.y * grid.x) * 64u + lane) / params.lanes;
    let first = lane % params.lanes;
    let leader = lane - first;
    let start = row / params.inner * params.inner * params.length + row % params.inner;
    // Rows past the end take part in the barriers, with no elements.
    let length = select(0u, params.length, row < params.rows);

    var part = 0.0;
    if length != 0u {
        part = x[start];
    }
    for (var i = first; i < length; i += params.lanes) {
        part = max(part, x[start + i * params.inner]);
    }
    parts[lane] = part;
    workgroupBarrier();
    for (var half = params.lanes / 2u; half > 0u; half /= 2u) {
        if first < half {
            parts[lane] = max(parts[lane], parts[lane + half]);
        }
        workgroupBarrier();
    }
    let largest = parts[leader];
    workgroupBarrier();

    part = 0.0;
    for (var i = first; i < length; i += params.lanes) {
        part += exp(x[start + i * params.inner] - largest);
    }
    parts[lane] = part;
    workgroupBarrier();
    for (var half = params.lanes / 2u; half > 0u; half /= 2u) {
        if first < half {
            parts[lane] += parts[lane + half];
        }
        workgroupBarrier();
    }
    let sum = parts[leader];
    for (var i = first; i < length; i += params.lanes) {
        let at = start + i * params.inner;
        y[at] = exp(x[at] - largest) / sum;
    }
}
