//! The reading of Adreno's assembly, on a loop of `conv_depthwise` and on pieces of others.

use super::super::listing::{Counts, main_loop};
use super::*;

/// The loop over taps of `conv_depthwise` on Adreno 740, its addresses cut short.
const DEPTHWISE: &str = "\
Native code for unnamed CL shader (null) with blake3 99ff5be1:
; num_ubos:           0
@in(r48.x)	in0 (wrmask=0x7)
@const(c32.x)	0x4f7ffffe, 0x0000ffff, 0xffffffff, 0x00000000
shps #l3
getone #l3
(rpt1)mad.f32 r1.x, r2.x, r3.x, r4.x
shpe
l3:
add.u r5.z, (last)r5.z, (last)r10.z
l4:
cmps.u.ge up0.x, r52.z, c10.y
(ss)br p0.x, #l20
(nop3) add.u r53.y, r53.y, r52.w
nop
cmps.s.ge hr0.x, r11.w, 0
(rpt1)nop
brao !p0.y, !p0.x, #l18
isam.v.base0 (u32)(x)r1.y, r11.z, s#0, t#1
mull.u r0.w, r11.w, c12.z
isam.v.base0 (u32)(xyzw)r1.w, r0.w, s#0, t#5
(sy)mad.f32 r11.y, (last)r1.y, r1.w, (last)r11.y
l18:
(jp)add.u r52.z, r52.z, 1
jump #l4
l20:
end
nop
nop
; CL prog 20/1: 8999 instr, 1065 nops, 7934 non-nops
";

#[test]
fn a_loop_counts_repeats_and_empty_slots() {
    let blocks = blocks(DEPTHWISE);
    let counts = main_loop(&blocks, false, None).unwrap();
    let expected = Counts {
        fmas: 1,
        // `cmps.s.ge` and `mull`.
        vector: 2,
        // What sets `up0.x`, `r53.y` and `r52.z`.
        scalar: 3,
        global_memory: [(4, 1), (16, 1)].into(),
        branches: 3,
        // Three after an instruction, one alone, two at once.
        waits: 6,
        fused: 1,
        int_products: 1,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.instructions(), 17);
}

#[test]
fn the_preamble_and_what_follows_the_end_are_left_out() {
    let all: u32 = blocks(DEPTHWISE).iter().map(|block| block.counts.instructions()).sum();
    assert_eq!(all, 17 + 2);
}

#[test]
fn blocks_lead_to_what_may_come_next() {
    let successors: Vec<_> = blocks(DEPTHWISE).into_iter().map(|b| b.successors).collect();
    // Before l3; l3; l4; after `br`; after `brao`; l18; after `jump`; l20; after the end.
    let expected =
        [vec![1], vec![2], vec![3, 7], vec![4, 5], vec![5], vec![2], vec![7], vec![], vec![]];
    assert_eq!(successors, expected);
}

#[test]
fn a_repeated_instruction_is_several() {
    let text = "l0:\n(rpt2)mull.u r26.y, (r)r9.y, (r)r22.x\n(sy)(rpt1)mad.f32 r1.x, (r)r2.x, (r)r3.x, r1.x\njump #l0\n";
    let counts = main_loop(&blocks(text), true, None).unwrap();
    assert_eq!((counts.vector, counts.int_products, counts.fmas, counts.fused), (3, 3, 2, 2));
    assert_eq!(counts.macs(true), 3);
}

#[test]
fn dot_products_and_the_memories_are_told_apart() {
    let text = "\
dp4acc.unsigned r1.x, r2.x, r3.x, r1.x
ldl.u32 r1.x, l[r2.x], 4
stl.u32 l[r2.x], r1.x, 1
ldp.u32 r1.x, p[r2.x], 1
stp.u16 p[r2.x], hr1.x, 1
stib.b.untyped.1d.u32.2.imm.base0 r3.y, r17.x, 9
ldib.b.untyped.1d.u16.1.imm.base0 hr3.y, r17.x, 9
bar.g
end
";
    let counts = main_loop(&blocks(text), true, None).unwrap();
    assert_eq!((counts.dots, counts.scalar, counts.other_memory), (1, 1, 2));
    assert_eq!(counts.shared_memory, [(4, 1), (16, 1)].into());
    assert_eq!(counts.global_memory, [(2, 1), (8, 1)].into());
}
