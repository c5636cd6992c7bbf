// y = rows (image, class, box) of the boxes that do not overlap better ones of their class too much; -1 where there are
// fewer than may be. One thread goes through one class of one image, the best score first, and compares each box with
// those that it has kept. All are row-major.

struct Params {
    groups: u32, // classes of all images
    classes: u32,
    count: u32, // boxes of an image
    most: u32, // rows of a class
    centre: f32, // not 0 where boxes have a centre and a size, and not two corners
    overlap: f32,
    least: f32, // what every score exceeds
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> boxes: array<f32>;
@group(0) @binding(2) var<storage, read> scores: array<f32>;
@group(0) @binding(3) var<storage, read> order: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = (workgroup.x + workgroup.y * grid.x) * 64u + thread;
    if group >= params.groups {
        return;
    }
    let image = group / params.classes;
    let rows = group * params.most;
    var kept = 0u;
    for (var i = 0u; i < params.count && kept < params.most; i++) {
        let index = u32(order[group * params.count + i]);
        if scores[group * params.count + index] <= params.least {
            break;
        }
        let own = sides(image, index);
        var dropped = false;
        for (var other = 0u; other < kept && !dropped; other++) {
            dropped = overlaps(own, sides(image, u32(y[(rows + other) * 3u + 2u])));
        }
        if !dropped {
            let row = (rows + kept) * 3u;
            y[row] = f32(image);
            y[row + 1u] = f32(group % params.classes);
            y[row + 2u] = f32(index);
            kept++;
        }
    }
    for (var place = (rows + kept) * 3u; place < (rows + params.most) * 3u; place++) {
        y[place] = -1.0;
    }
}

// The lower ends of a box along both axes, then the upper ones.
fn sides(image: u32, index: u32) -> vec4<f32> {
    let at = (image * params.count + index) * 4u;
    let a = vec2<f32>(boxes[at], boxes[at + 1u]);
    let b = vec2<f32>(boxes[at + 2u], boxes[at + 3u]);
    if params.centre != 0.0 {
        return vec4<f32>(a - b * 0.5, a + b * 0.5);
    }
    return vec4<f32>(min(a, b), max(a, b));
}

fn area(extent: vec2<f32>) -> f32 {
    return extent.x * extent.y;
}

fn overlaps(a: vec4<f32>, b: vec4<f32>) -> bool {
    let shared_part = min(a.zw, b.zw) - max(a.xy, b.xy);
    if any(shared_part <= vec2<f32>()) {
        return false;
    }
    let first = area(a.zw - a.xy);
    let second = area(b.zw - b.xy);
    let both = area(shared_part);
    return first > 0.0 && second > 0.0 && both / (first + second - both) > params.overlap;
}
