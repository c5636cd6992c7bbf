//! `dsconv isa`: what the kernels become on chips of four makers. It needs Mesa's drivers, and no GPU.
#![cfg(target_os = "linux")]

mod running;

use running::{command as dsconv, text};
use serde_json::Value;

/// The rows of a call, or `None` where no driver of the chip's maker is found.
fn rows(arguments: &[&str]) -> Option<Vec<Value>> {
    let output = dsconv(&[&["isa", "--json"], arguments].concat()).output().unwrap();
    if text(&output).contains("no driver of") {
        return None;
    }
    assert!(output.status.success(), "{}", text(&output));
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    Some(rows.as_array().unwrap().clone())
}

/// A driver of AMD's chips is in every Mesa that tests run with.
#[test]
fn kernels_for_gpus_stay_in_registers_and_near_their_arithmetic() {
    let rows = rows(&["--chip", "navi21"]).unwrap();
    assert!(rows.len() > 20);
    let mut held = 0;
    for row in rows {
        let name = &row["variant"];
        // Mesa 26 reads memory of workgroups by 8 bytes at most, Mesa 22 by 16.
        let old = row["device"].as_str().unwrap().contains("Null hardware");
        assert_eq!((&row["spills"], &row["scratch_bytes"]), (&0.into(), &0.into()), "{name}");
        assert!(row["waves"].as_u64().unwrap() >= if old { 8 } else { 6 }, "{name}");
        let dots = name.as_str().unwrap().starts_with("conv_gemm_int8");
        assert_eq!(row["dot_share"].as_f64().unwrap() > 0.99, dots, "{name}");
        let per_mac = row["instructions_per_mac"].as_f64();
        // A multiply-add is one instruction, a dot product of four a quarter, scaling a block's sums three per output;
        // the rest is loads and unpacking.
        let (before, now) = match (name.as_str().unwrap(), row["block"].as_u64()) {
            ("conv_gemm_wide f32 nhwc", None) => (1.10, 1.20),
            ("conv_gemm_wide i8 nhwc" | "conv_gemm_wide i4 nhwc", Some(32)) => (1.15, 1.25),
            ("conv_gemm_wide i7 nhwc", Some(32)) => (1.18, 1.28),
            ("conv_gemm_wide i8 nhwc int8 input", Some(32)) => (1.18, 1.28),
            // Six of it are for scales in fours of words, as the weights lie that share their buffer.
            ("conv_gemm_int8 i8 one step", Some(32)) => (0.42, 0.432),
            ("conv_gemm_int8 i4 one step", Some(32)) => (0.43, 0.45),
            ("conv_gemm_int8 i8", Some(128)) => (0.34, 0.36),
            ("conv_gemm_int8 i4", Some(128)) => (0.36, 0.38),
            _ => continue,
        };
        assert!(per_mac.unwrap() <= if old { before } else { now }, "{row}");
        held += 1;
    }
    assert_eq!(held, 9);
}

/// The form that computes most of a network, in floats and in integers, on a chip of each maker.
#[test]
fn the_chosen_forms_are_lean_on_chips_of_every_maker() {
    const FLOATS: &str = "conv_gemm_wide f32 nhwc";
    const PACKED: &str = "conv_gemm_wide i4 nhwc";
    const INTEGERS: &str = "conv_gemm_int8 i4 one step";
    const UNSIGNED: &str = "conv_gemm_int8_unsigned i4 one step";
    const UNSIGNED_STEPS: &str = "conv_gemm_int8_unsigned i4";
    const DEPTHWISE: &str = "conv_depthwise_nhwc f32 3x3 stride 2";
    const MATRIX: &str = "conv_matrix_16 i4 nhwc";
    const MATRIX_WIDE: &str = "conv_matrix_16 i4 nhwc wide subgroups";
    // Registers, waves, and instructions over multiply-adds of Mesa 26.1.
    type Limits<'a> = (&'a str, u64, u64, f64);
    let chips: [(&str, &[Limits<'_>]); 4] = [
        (
            "navi31",
            &[
                (FLOATS, 160, 8, 1.16),
                (PACKED, 160, 8, 1.23),
                (INTEGERS, 144, 10, 0.45),
                (DEPTHWISE, 96, 16, 2.26),
                (MATRIX_WIDE, 192, 8, 0.089),
            ],
        ),
        // NVK loads a vector by four words, each with its own bounds, because wgpu asks for robust access.
        (
            "ampere",
            &[
                (FLOATS, 128, 16, 1.28),
                (PACKED, 128, 16, 1.28),
                (INTEGERS, 128, 16, 0.49),
                (DEPTHWISE, 120, 16, 8.66),
                (MATRIX, 176, 8, 0.132),
            ],
        ),
        (
            "adreno740",
            &[
                (FLOATS, 48, 4, 1.16),
                (PACKED, 48, 4, 1.25),
                (UNSIGNED, 48, 4, 0.50),
                (UNSIGNED_STEPS, 48, 4, 0.58),
                (DEPTHWISE, 24, 8, 2.59),
            ],
        ),
        // It has no instruction for packed dot products: such layers are for `conv_gemm`.
        ("m1", &[(FLOATS, 255, 12, 1.70), (PACKED, 255, 12, 2.01), (DEPTHWISE, 228, 14, 8.65)]),
    ];
    for (chip, limits) in chips {
        let mut arguments = vec!["--chip", chip];
        for (variant, ..) in limits {
            arguments.extend(["--variant", variant]);
        }
        let Some(rows) = rows(&arguments) else {
            println!("skipped {chip}: its driver is not found, tools/gpu-drivers unpacks it");
            continue;
        };
        if rows[0]["device"].as_str().unwrap().contains("Null hardware") {
            println!("skipped {chip}: an old driver; tools/gpu-drivers unpacks a newer one");
            continue;
        }
        for (variant, registers, waves, per_mac) in limits {
            let row = rows.iter().find(|row| row["variant"] == *variant).unwrap();
            assert!(row["vgprs"].as_u64().unwrap() <= *registers, "{row}");
            assert!(row["waves"].as_u64().unwrap() >= *waves, "{row}");
            assert!(row["spills"].as_u64().unwrap() <= if chip == "m1" { 20 } else { 0 }, "{row}");
            assert!(row["instructions_per_mac"].as_f64().unwrap() <= *per_mac, "{row}");
            assert_eq!(row["cycles_per_mac"].is_null(), chip != "ampere", "{row}");
            // What a driver does not tell is null.
            assert_eq!(row["lds_bytes"].is_null(), chip != "navi31", "{row}");
            let counts = &row["main_loop"]["counts"];
            // A block of 32 is two steps, with 32 products of matrices each.
            let matrices = if variant.starts_with("conv_matrix") { 64 } else { 0 };
            assert_eq!(counts["matrices"], matrices, "{row}");
            let shared = counts["shared_memory"].as_object().unwrap();
            assert_eq!(shared.is_empty(), *variant == DEPTHWISE, "{row}");
        }
    }
}

#[test]
fn what_cannot_be_compiled_is_refused_by_name() {
    for (arguments, words) in [
        (["--chip", "no-such-chip"], "no-such-chip"),
        (["--kernel", "conv_nothing"], "there is no kernel \"conv_nothing\""),
        (["--variant", "conv_gemm i9"], "there is no variant \"conv_gemm i9\""),
    ] {
        let output = dsconv(&[&["isa"], &arguments[..]].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
    let folder = running::folder("no-drivers");
    let mut command = dsconv(&["isa", "--chip", "ampere"]);
    let output = command.env("DSCONV_GPU_DRIVERS", &folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("run tools/gpu-drivers"), "{}", text(&output));
}
