// y[kept] = sum, mean, largest or smallest over the reduced axes of x[kept, reduced]. As many threads as the
// host sees fit share an element of y: each takes a part, and the parts meet in workgroup memory.

// A float, or four of them that go into neighbouring elements of y. Counts and steps are in those.
alias Element = f32;

struct Params {
    // Of the output, then of the elements that meet in one, outermost first: extent, step in x.
    kept: array<vec4<u32>, 6>,
    reduced: array<vec4<u32>, 6>,
    kept_rank: u32,
    reduced_rank: u32,
    count: u32, // outputs
    length: u32, // elements that meet in one
    threads: u32, // per output: a power of two, at most 64
    kind: u32, // 0: sum, 1: largest, 2: smallest, 3: product
    divisor: f32,
    apart: u32, // from one thread of an output to the next; the others' lie between them
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;

var<workgroup> parts: array<Element, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // Threads of one output are neighbours, or those of neighbouring outputs.
    let outputs = 64u / params.threads;
    let one_output = params.apart == 1u;
    let first = select(thread / outputs, thread % params.threads, one_output);
    let output = select(thread % outputs, thread / params.threads, one_output);
    let index = (workgroup.x + workgroup.y * grid.x) * outputs + output;
    var part = Element();
    if index < params.count {
        var start = 0u;
        var rest = index;
        for (var i = params.kept_rank; i > 0u; i--) {
            let axis = params.kept[i - 1u];
            start += rest % axis.x * axis.y;
            rest /= axis.x;
        }
        switch params.kind {
            case 0u: {}
            case 3u: { part = Element(1.0); }
            default: { part = x[start]; }
        }
        for (var element = first; element < params.length; element += params.threads) {
            var at = start;
            rest = element;
            for (var i = params.reduced_rank; i > 0u; i--) {
                let axis = params.reduced[i - 1u];
                at += rest % axis.x * axis.y;
                rest /= axis.x;
            }
            part = join(part, x[at]);
        }
    }
    parts[thread] = part;
    workgroupBarrier();
    for (var half = params.threads / 2u; half > 0u; half /= 2u) {
        if first < half {
            parts[thread] = join(parts[thread], parts[thread + half * params.apart]);
        }
        workgroupBarrier();
    }
    if first == 0u && index < params.count {
        y[index] = parts[thread] / params.divisor;
    }
}

fn join(a: Element, b: Element) -> Element {
    switch params.kind {
        case 0u: { return a + b; }
        case 1u: { return max(a, b); }
        case 2u: { return min(a, b); }
        default: { return a * b; }
    }
}
