//! The reading of what Apple's compiler prints, on the loop over taps of `conv_depthwise`.

use super::super::listing::{Counts, main_loop};
use super::*;

/// The loop of `conv_depthwise` on M1, its conditions cut short, with a listing of before and the preamble after.
const PRINTED: &str = "\
shader: MESA_SHADER_COMPUTE
workgroup_size: 64, 1, 1
impl main {
    block b0:    // preds:
    32     %90 = ffma %87, %89, %88 (1.000000)
}
block0 {
   90 = ffma 86.neg, 89, #1.000000
}

block0 {
   r16 = device_load u48:u49, #2, x, #0x0, slot 0
} -> block2

block2 {
   $r16 = mov_imm #0x3
} -> block3 block9  from block0 block4

block3 {
   while_icmp $r15, r18, #0x0, n=1
   r0...r3 = local_load ^r0:r1, #0, xyzw, #0x0
   r4h = device_load r20:r21, r19.abs, x, #0x0, slot 0
   local_store r5...r6, r2, #0, xy, #0x0
   wait #0x0, slot 0
   r2 = imad r3, r4, r5
   r2 = fmul r3, r4
   r14 = ffma r19, r18, r14
} -> block4  from block2

block4 {
   threadgroup_barrier
   pop_exec #0x0, n=1
   jmp_exec_any #0x5555798eaaf0
} -> block2  from block3

block9 {
   stop
}
   0: f2050000               mov      $r1, threadgroup_in_grid_x
 41e: 3ab96642265c0200       ffma     r14, r19, r18, r14
block0 {
   7 = ffma 8, 9, 10
}
   0: 0501900d00c4f200       load     r0_r1_r2_r3, du0, 9, lsl 1, i32, xyzw, a
shader: MESA_SHADER_COMPUTE
block0 {
   stop
}
";

#[test]
fn every_shader_has_its_last_listing() {
    let listings = listings(PRINTED.as_bytes());
    assert_eq!(listings.len(), 2);
    assert!(listings[0].starts_with("block0 {\n   r16 = device_load"), "{}", listings[0]);
    assert!(listings[0].ends_with("   stop\n}\n"), "{}", listings[0]);
    assert_eq!(listings[1], "block0 {\n   stop\n}\n");
}

#[test]
fn a_loop_counts_by_kind() {
    let blocks = blocks(&listings(PRINTED.as_bytes())[0]);
    let successors: Vec<_> = blocks.iter().map(|block| block.successors.clone()).collect();
    assert_eq!(successors, [vec![1], vec![2, 4], vec![3], vec![1], vec![]]);
    let expected = Counts {
        fmas: 1,
        // `mov_imm`, `imad` and `fmul`.
        vector: 3,
        scalar: 1,
        shared_memory: [(8, 1), (16, 1)].into(),
        global_memory: [(2, 1)].into(),
        // `while_icmp`, `pop_exec` and `jmp_exec_any`.
        branches: 3,
        waits: 1,
        fused: 1,
        products: 1,
        int_products: 1,
        ..Counts::default()
    };
    assert_eq!(main_loop(&blocks, false, None).unwrap(), expected);
}
