//! The command as a user runs it.

mod running;

use running::{command as dsconv, skip_gpu, text};
use std::path::Path;

fn cases() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"))
}

fn verified_on(device: &[&str]) -> serde_json::Value {
    let folder = cases().display().to_string();
    let output = dsconv(&[&["verify", &folder, "--json"], device].concat()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_golden_case_passes_on_every_variant() {
    if skip_gpu() {
        return;
    }
    let report = verified_on(&[]);
    let files = std::fs::read_dir(cases()).unwrap();
    let count =
        files.filter(|f| f.as_ref().unwrap().path().extension().unwrap() == "safetensors").count();
    assert_eq!(
        (report["passed"].as_u64(), report["failed"].as_u64()),
        (Some(count as u64), Some(0))
    );
    assert!(report["worst"].as_f64().unwrap() < 4e-6);
    let cases = report["cases"].as_array().unwrap();
    let on = |variant: &str| {
        cases.iter().filter(|c| c["variant"].as_str().unwrap().starts_with(variant)).count()
    };
    // Both partitions of each case at least, on each kernel and as floats.
    for variant in [
        "reference",
        "conv_direct i",
        "conv_direct f32",
        "conv_gemm i",
        "conv_gemm f32",
        "conv_gemm_int8 i",
    ] {
        assert!(on(variant) >= 2 * count, "{variant}: {}", on(variant));
    }
    assert!(on("conv_depthwise f32") > 0);
    // Exact cases have a bound of zero, and hold it.
    let exact = |c: &&serde_json::Value| c["bound"] == 0.0;
    assert!(cases.iter().filter(exact).all(|c| c["error"] == 0.0));
    assert!(cases.iter().filter(exact).count() > 0);
}

#[test]
fn the_cpu_reference_verifies_without_a_gpu() {
    let report = verified_on(&["--device", "cpu"]);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["device"], "CPU reference");
}

#[test]
fn verify_fails_on_wrong_outputs_and_on_broken_files() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken");
    std::fs::create_dir_all(&folder).unwrap();
    let mut bytes = std::fs::read(cases().join("tiny_1x1_b2.safetensors")).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // y comes first in the data: its first number changes sign.
    bytes[8 + header + 7] ^= 0x80;
    std::fs::write(folder.join("wrong.safetensors"), &bytes).unwrap();
    bytes.truncate(100);
    std::fs::write(folder.join("cut.safetensors"), &bytes).unwrap();
    let run = |arguments: &[&str]| {
        let folder = folder.display().to_string();
        dsconv(&[&["verify", &folder, "--device", "cpu"], arguments].concat()).output().unwrap()
    };
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("0 of 2 cases passed"), "{}", text(&output));
    assert!(text(&output).contains("FAILED cut on file"), "{}", text(&output));
    let output = run(&["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&0.into(), &2.into()));

    let output = dsconv(&["verify", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/nonexistent"));
}

#[test]
fn the_demo_knows_a_cat_and_a_coffee() {
    if skip_gpu() {
        return;
    }
    let output = dsconv(&[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let text = text(&output);
    let line =
        |picture: &str| text.lines().find(|line| line.contains(picture)).unwrap().to_string();
    assert!(line("chelsea").contains(" cat "), "{text}");
    assert!(line("coffee").contains("espresso"), "{text}");
    assert!(text.contains("Checked against the CPU reference"), "{text}");
}

#[test]
fn the_demo_works_without_a_driver_and_says_how_to_get_one() {
    // A driver list that names no driver is a machine without one.
    let nothing = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-driver.json");
    let without = |arguments: &[&str]| {
        let mut command = dsconv(arguments);
        command.env("VK_DRIVER_FILES", &nothing).env("VK_ICD_FILENAMES", &nothing);
        command.output().unwrap()
    };
    let output = without(&["demo"]);
    assert!(output.status.success(), "{}", text(&output));
    let message = text(&output);
    let why = message.lines().find(|line| line.contains("mesa-vulkan-drivers")).unwrap_or("");
    assert!(why.contains("CPU reference"), "{message}");
    // Asking for a certain device, or for the list, is another matter.
    for arguments in [&["--device", "0"][..], &["devices"], &["verify", "."]] {
        let output = without(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("mesa-vulkan-drivers"), "{}", text(&output));
    }
}

#[test]
fn an_unknown_device_is_refused_with_the_list() {
    if skip_gpu() {
        return;
    }
    for device in ["no such gpu", "99"] {
        let output = dsconv(&["--device", device]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("expected one of 0 ("), "{}", text(&output));
    }
    let output = dsconv(&["devices"]).output().unwrap();
    assert!(output.status.success());
}

#[test]
fn tensor_cores_are_proven_or_refused_by_name() {
    if skip_gpu() {
        return;
    }
    let folder = cases().display().to_string();
    let output = dsconv(&["verify", &folder, "--json", "--tensor-cores"]).output().unwrap();
    let message = text(&output);
    if output.status.success() {
        assert!(message.contains("conv_matrix_"), "{message}");
    } else {
        assert_eq!(output.status.code(), Some(1));
        assert!(message.contains("tensor cores: the device lacks"), "{message}");
        assert!(message.contains("EXPERIMENTAL_COOPERATIVE_MATRIX"), "{message}");
    }
    let listed = text(&dsconv(&["devices"]).output().unwrap());
    assert!(listed.contains("tensor cores"), "{listed}");
    let output = dsconv(&["verify", &folder, "--tensor-cores=maybe"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}
