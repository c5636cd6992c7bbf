//! The reading of AMD's assembly, and the counting of a main loop, on pieces of what RADV writes.

use super::super::listing::Counts;
use super::*;

fn main_loop(text: &str, dot_products: bool, trips: Option<u32>) -> anyhow::Result<Counts> {
    super::super::listing::main_loop(&blocks(text), dot_products, trips)
}

const NESTED: &str = "
BB0:
\ts_mov_b32 s0, s3                                            ; be800303
BB1:
\tv_mul_lo_u32 v1, v2, v3                                     ; d5690001
\tv_fma_f32 v1, v2, v3, v4                                    ; d5690001
BB2:
\ts_clause 0x1                                                ; bfa10006
\tds_read_b128 v[4:7], v0                                     ; dbfc0000 04000000
\tglobal_load_dword v8, v[0:1], off
\ts_waitcnt vmcnt(0) lgkmcnt(0)                               ; bf8c0070
\tv_mul_f32_e32 v9, v4, v8
\tv_fmac_f32_e32 v9, v5, v8                                   ; 2b000000
\tv_pk_fma_f32 v[10:11], v[4:5], v[6:7], v[10:11]
\ts_cbranch_scc1 BB4                                          ; bf850001
BB3:
\tv_add_nc_u32_e32 v0, 16, v0                                 ; 4a000000
\t(then repeated 2 times)
\ts_add_u32 s0, s0, -1                                        ; 8000c100
\ts_cbranch_scc0 BB2                                          ; bf84fff0
BB4:
\ts_branch BB1                                                ; bf82ffe0
BB5:
\tv_fma_f32 v1, v2, v3, v4
\ts_endpgm                                                    ; bf810000
";

#[test]
fn counts_the_innermost_loop() {
    let counts = main_loop(NESTED, false, None).unwrap();
    let expected = Counts {
        dots: 0,
        matrices: 0,
        fmas: 2,
        vector: 4,
        scalar: 1,
        shared_memory: [(16, 1)].into(),
        global_memory: [(4, 1)].into(),
        other_memory: 0,
        branches: 2,
        waits: 2,
        cycles: None,
        fused: 3,
        products: 1,
        int_products: 0,
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.instructions(), 13);
    assert_eq!(counts.macs(false), 3);
    // Two iterations of two: the product that starts the sum counts.
    assert_eq!(counts.macs_of(false, 2), 4);
    assert_eq!(counts.macs_of(false, 100), 100);
}

#[test]
fn a_step_counts_its_inner_loops_as_often_as_they_run() {
    let step = main_loop(NESTED, false, Some(4)).unwrap();
    // Four times the inner loop, and what stands around it: two products and a branch.
    assert_eq!(step.instructions(), 4 * 13 + 3);
    assert_eq!((step.fused, step.int_products), (4 * 3 + 1, 1));
    // Nothing around: the loop itself.
    let flat = "BB0:\n\tv_fma_f32 v1, v2, v3, v4\n\ts_cbranch_scc1 BB0\n";
    assert_eq!(main_loop(flat, false, Some(4)).unwrap(), main_loop(flat, false, None).unwrap());
}

#[test]
fn dot_products_come_first() {
    let text = "
BB0:
\tv_fma_f32 v1, v2, v3, v4
\tv_fma_f32 v1, v2, v3, v4
\ts_cbranch_scc1 BB0
BB1:
\tv_dot4c_i32_i8_e32 v0, v1, v2
\tv_dot4_i32_iu8 v0, v1, v2, v0 neg_lo:[1,1,0]
\tv_fma_f32 v1, v2, v3, v4
\ts_cbranch_scc1 BB1
";
    let counts = main_loop(text, true, None).unwrap();
    assert_eq!((counts.dots, counts.fmas, counts.branches), (2, 1, 1));
    assert_eq!(counts.macs(true), 8);
    assert_eq!(counts.macs_of(true, 4), 8);
}

#[test]
fn products_of_matrices_are_shared_by_a_subgroup() {
    let text = "
BB0:
\tv_wmma_f32_16x16x16_f16 v[0:3], v[4:5], v[6:7], v[0:3]
\tv_wmma_f32_16x16x16_f16 v[8:11], v[4:5], v[6:7], v[8:11]
\tv_fma_mixlo_f16 v1, v2, v3, v4
\ts_cbranch_scc1 BB0
BB1:
\tv_fma_f32 v1, v2, v3, v4
\ts_cbranch_scc1 BB1
";
    let counts = main_loop(text, false, None).unwrap();
    assert_eq!((counts.matrices, counts.fmas, counts.branches), (2, 1, 1));
    assert_eq!((counts.macs(false), counts.instructions()), (2 * 64 + 1, 4));
}

#[test]
fn integer_products_stand_for_dot_products() {
    let text = "BB0:\n\tv_mul_lo_u32 v0, v1, v2\n\tv_mul_lo_u32 v3, v1, v2\n\ts_branch BB0\n";
    let counts = main_loop(text, true, None).unwrap();
    assert_eq!((counts.macs(true), counts.macs(false), counts.vector), (2, 0, 2));
}

#[test]
fn dual_instructions_are_one_instruction() {
    let text = "
BB0:
\tv_dual_fmac_f32 v0, v1, v2 :: v_dual_fmac_f32 v3, v4, v5
\tv_dual_mul_f32 v0, v1, v2 :: v_dual_mov_b32 v3, v4
\ts_delay_alu instid0(VALU_DEP_1)
\ts_cbranch_vccnz BB0
";
    let counts = main_loop(text, false, None).unwrap();
    assert_eq!((counts.fmas, counts.fused, counts.vector), (1, 2, 1));
    assert_eq!((counts.products, counts.waits, counts.branches), (1, 1, 1));
}

#[test]
fn without_loops_the_whole_program_counts() {
    let counts = main_loop("BB0:\n\tv_fma_f32 v1, v2, v3, v4\n\ts_endpgm\n", false, None).unwrap();
    assert_eq!((counts.fmas, counts.branches), (1, 1));
}

#[test]
fn text_without_code_is_an_error() {
    let text = "Shader disassembly is not supported in the current configuration.";
    let error = main_loop(text, false, None).unwrap_err().to_string();
    assert!(error.contains("no instructions"), "{error}");
    assert!(main_loop("", false, None).is_err());
}

#[test]
fn the_end_of_the_program_leads_nowhere() {
    let text = "\tv_fma_f32 v1, v2, v3, v4\nBB1:\n\tv_fma_f32 v1, v2, v3, v4\n\ts_cbranch_scc1 BB1\n\ts_endpgm\n";
    assert_eq!(main_loop(text, false, None).unwrap().instructions(), 2);
}

#[test]
fn loads_and_stores_have_their_widths() {
    let text = "
\tds_read2_b32 v[0:1], v2 offset1:1
\tds_load_b64 v[24:25], v22 offset:4096
\tds_write_b8 v0, v1
\tbuffer_load_dwordx4 v[0:3], v8, s[4:7], 0 offen
\tbuffer_load_ubyte v0, v8, s[4:7], 0 offen
\tglobal_store_b128 v0, v[1:4], s[0:1]
\tscratch_load_b32 v0, off, s0
\ts_buffer_load_dword s4, s[8:11], 0xac
";
    let counts = main_loop(text, false, None).unwrap();
    assert_eq!(counts.shared_memory, [(1, 1), (8, 2)].into());
    assert_eq!(counts.global_memory, [(1, 1), (16, 2)].into());
    assert_eq!(counts.other_memory, 2);
}
