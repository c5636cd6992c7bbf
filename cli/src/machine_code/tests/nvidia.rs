//! The reading of NVIDIA's assembly, on the loops of `conv_depthwise` and on pieces of others.

use super::super::listing::main_loop;
use super::*;

/// The loop over taps of `conv_depthwise` on Ampere, its conditions cut short, within that over rows.
const DEPTHWISE: &str = "\
block.u 0 L10 [] -> {
      ur0..2    = ldc.b64 c[0x1][+0x0]                   // delay=4 wr:0
                  bra pT L46                             // delay=1
} -> [1]
block 1 L11 [0, 4] -> {
      r11       = mov rZ                                 // delay=4
} -> [2]
block 2 L46 [1, 6] -> {
      p1        = isetp.ge.u32 r11 cx[ur0..2][0x24]      // delay=13
@!p1              bra pT L51                             // delay=1
} -> [3, 5]
block 3 L49 [2] -> {
} -> [4]
block 4 L48 [3] -> {
      r7        = iadd3 r7 0x1 rZ                        // delay=3
@p2               bra pT L11                             // delay=1
} -> [1, 7]
block 5 L51 [2] -> {
      b1        = bssy b1 pT L52                         // delay=1
      up1       = isetp.ge.u32 ur0 ur4                   // delay=1
      r14 p1    = iadd3 r13 c[0x1][0x10] rZ              // delay=1
      p1 null   = plop3 pT pF pT LUT[0xcc] LUT[0x0]      // delay=9
@p1   r13       = ld.global.a64.constant.b32 [r14..16]   // delay=2 rd:0 wr:1
      r48..52   = ld.shared.strong.cta.b128 [r11.x16+0x200], pT // delay=1 wr:4
                  st.shared.strong.cta.b32 [r9.x16+0x1000] r10  // delay=2 rd:0
      r8        = ffma.ftz r13 r12 r8                    // delay=1 wt=000011
} -> [6]
block 6 L66 [5] -> {
                  bsync b1 pT                            // delay=1 yld
                  nop L64                                // delay=2
                  bra pT L46                             // delay=1
} -> [2]
block.u 7 L44 [4] -> {
                  exit                                   // delay=1
} -> []
";

#[test]
fn a_loop_counts_predicated_instructions_and_cycles() {
    let counts = main_loop(&blocks(DEPTHWISE), false, None).unwrap();
    let expected = Counts {
        fmas: 1,
        // `isetp`, `iadd3` and `plop3`.
        vector: 3,
        // What sets `up1`.
        scalar: 1,
        shared_memory: [(4, 1), (16, 1)].into(),
        global_memory: [(4, 1)].into(),
        // `bra` twice, `bssy` and `bsync`.
        branches: 4,
        waits: 1,
        cycles: Some(14 + 18 + 4),
        fused: 1,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.instructions(), 13);
}

#[test]
fn the_loop_around_counts_its_inner_loop_as_often_as_it_runs() {
    let counts = main_loop(&blocks(DEPTHWISE), false, Some(3)).unwrap();
    assert_eq!(counts.instructions(), 3 * 13 + 3);
    assert_eq!(counts.cycles, Some(3 * 36 + 8));
    assert_eq!(counts.fused, 3);
}

#[test]
fn dot_products_and_halves_do_several() {
    let text = "\
block 0 L0 [0] -> {
      r88       = idp4.i8.i8 r48 r80 rZ                  // delay=1 wt=000100
      r1        = hfma2 r2 r3 r1                         // delay=1
      r2        = imad r2 r3 r1                          // delay=1
      ur2       = imad ur1 ur5 ur0                       // delay=1
      r3        = ld.global.a64.constant.u8 [r1..3]      // delay=1
      r3        = ld.local.b64 [r1]                      // delay=1
} -> [0]
";
    let counts = main_loop(&blocks(text), true, None).unwrap();
    assert_eq!((counts.dots, counts.fmas, counts.fused, counts.int_products), (1, 1, 2, 1));
    assert_eq!(counts.macs(true), 4);
    assert_eq!((counts.global_memory, counts.other_memory), ([(1, 1)].into(), 1));
}

#[test]
fn products_of_matrices_are_shared_by_a_subgroup() {
    let text = "\
block 0 L0 [0] -> {
      r0..4     = ldsm.16.m8n8.x4 [r148+0x1800]              // delay=1 wr:0
      r4..6     = ldsm.16.m8n8.x2 [r148]                     // delay=1 wr:0
      r8..12    = hmma.m16n8k16.f32 r0..4 r4..6 r8..12       // delay=15 wt=000001 wr:0
      r8..12    = hmma.m16n8k8.f32 r0..2 r4 r8..12           // delay=15 wr:0
      r9        = ffma r10 r11 r9                            // delay=1
} -> [0]
";
    let counts = main_loop(&blocks(text), false, None).unwrap();
    assert_eq!((counts.matrices, counts.fmas, counts.vector), (2, 1, 0));
    // 16 x 8 x 16 and 16 x 8 x 8 of 32 threads.
    assert_eq!(counts.macs(false), 64 + 32 + 1);
    assert_eq!(counts.shared_memory, [(16, 1), (8, 1)].into());
    assert_eq!(counts.instructions(), 5);
}

#[test]
fn text_without_code_is_an_error() {
    assert!(main_loop(&blocks("no assembly"), false, None).is_err());
}
