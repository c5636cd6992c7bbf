// Chains of one operation in registers, independent of each other: what arithmetic gives a kernel. The host puts
// the type and the operations in. The factors come from memory, so that no compiler knows them.

@group(0) @binding(0) var<storage, read> input: array<TYPE>;
@group(0) @binding(1) var<storage, read_write> output: array<TYPE>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let start = input[0];
    let a = input[1];
    let b = input[2];
    // DECLARE
    for (var i = 0u; i < ITERATIONS; i++) {
        // OPERATE
    }
    output[id.x] = SUM;
}
