// y[i] = f(a[i], b[i]) for a function f of two floats; a and b broadcast to y. One thread computes one element of
// y, in the order of its memory, and finds its places in a and b by dividing its index by the extents of y's axes.

// A float, or four of them that are neighbours in a, b and y. Steps are in those.
alias Element = f32;

struct Params {
    // Outermost first: extent, and steps in elements of a and b, 0 where it repeats.
    axes: array<vec4<u32>, 6>,
    rank: u32,
    count: u32,
    function: u32, // the code that `binary` in net/src/gpu/geometry.rs gives it
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<Element>;
@group(0) @binding(2) var<storage, read> b: array<Element>;
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
    var at_a = 0u;
    var at_b = 0u;
    for (var i = params.rank; i > 0u; i--) {
        let axis = params.axes[i - 1u];
        let place = rest % axis.x;
        rest /= axis.x;
        at_a += place * axis.y;
        at_b += place * axis.z;
    }
    y[index] = apply(a[at_a], b[at_b]);
}

fn apply(a: Element, b: Element) -> Element {
    switch params.function {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 3u: { return a / b; }
        case 4u: { return power(a, b); }
        case 5u: { return min(a, b); }
        case 6u: { return max(a, b); }
        case 7u: { return select(b * a, a, a > Element()); }
        case 8u: { return remainder(a, b); }
        case 9u: { return select(Element(), Element(1.0), a == b); }
        case 10u: { return select(Element(), Element(1.0), a < b); }
        case 11u: { return select(Element(), Element(1.0), a <= b); }
        default: { return select(a, Element(), b == Element()); }
    }
}

// The quotient is rounded, so it may be one too large or too small.
fn remainder(a: Element, b: Element) -> Element {
    let size = abs(b);
    var rest = abs(a) - size * floor(abs(a) / size);
    rest = select(rest, rest + size, rest < Element());
    rest = select(rest, rest - size, rest >= size);
    return select(rest, -rest, a < Element());
}

// WGSL's pow takes no negative base, and is not exact. So small whole exponents are products, which are exact as far as
// floats are. What is not selected may be anything.
fn power(a: Element, b: Element) -> Element {
    let negative = a < Element();
    let whole = round(b) == b;
    let odd = floor(b * 0.5) * 2.0 != b;
    let magnitude = pow(abs(a), b);
    var y = select(magnitude, -magnitude, negative & odd);
    // NaN; not a constant, which WGSL refuses.
    y = select(y, Element(bitcast<f32>(0x7fc00000u + params.unused)), negative & !whole);
    y = select(y, select(1.0 / abs(a), Element(), b > Element()), a == Element());
    return select(y, product(a, b), whole & (b >= Element()) & (b < Element(32.0)));
}

// A power whose exponent is whole and has five bits at most.
fn product(a: Element, b: Element) -> Element {
    var y = Element(1.0);
    var square = a;
    var rest = b;
    for (var bit = 0u; bit < 5u; bit++) {
        let half = floor(rest * 0.5);
        y = select(y, y * square, half * 2.0 != rest);
        square *= square;
        rest = half;
    }
    return y;
}
