//! What `quantize` refuses, and what it says of networks that are quantised already.

mod running;

use running::{dsconv, folder, json, onnx, text};
use serde_json::Value;
use std::fs;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx");

fn bits(report: &Value) -> Vec<Option<u64>> {
    report.as_array().unwrap().iter().map(|layer| layer["bits"].as_u64()).collect()
}

#[test]
fn what_no_run_takes_is_not_quantised() {
    let folder = folder("refused-by-run");
    let path = |name: &str| folder.join(name).display().to_string();
    let floats = |count: usize| vec![0u8; 4 * count];
    // An Add of 5 values to a last dim of that size.
    let network = |dims: &[Option<u64>]| {
        onnx::file(&[
            onnx::node("conv", "Conv", &["x", "w"], "y"),
            onnx::node("add", "Add", &["y", "five"], "z"),
            onnx::constant("w", 1, &[64, 3, 3, 3], &floats(64 * 27)),
            onnx::constant("five", 1, &[5], &floats(5)),
            onnx::input("x", dims),
            onnx::output("z"),
        ])
    };
    let [closed, open, fits, model] =
        ["closed.onnx", "open.onnx", "fits.onnx", "m.safetensors"].map(path);
    fs::write(&closed, network(&[None, Some(3), Some(20), Some(20)])).unwrap();
    fs::write(&open, network(&[None, Some(3), None, None])).unwrap();
    fs::write(&fits, network(&[None, Some(3), Some(20), Some(7)])).unwrap();
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = dsconv(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
        for words in words {
            assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
        }
    };
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/pictures/coffee.jpg");
    let cause = "node \"add\" (Binary): dims: expected dims that broadcast";
    for network in [&closed, &open] {
        refused(&["run", network, "--input", picture, "--device", "cpu"], &[cause]);
    }
    refused(&["quantize", &closed, &model], &["no run would take this network: ", cause]);
    let guess = "with inputs [[1, 3, 224, 224]], a guess of its open sizes; --size HEIGHTxWIDTH sets another";
    refused(&["quantize", &open, &model], &[guess, cause]);
    assert!(!folder.join("m.safetensors").exists());
    for arguments in
        [vec!["quantize", &fits, &model], vec!["quantize", &open, &model, "--size", "9x7"]]
    {
        let output = dsconv(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
    let output = dsconv(&["quantize", SMALL, &model]);
    let words = "leaves sizes of its inputs open; it would run with [[1, 5, 4, 4]]";
    assert!(output.status.success() && text(&output).contains(words), "{}", text(&output));
}

#[test]
fn quantised_layers_stay_unless_they_are_to_be_quantised_again() {
    let folder = folder("requantize");
    let path = |name: &str| folder.join(name).display().to_string();
    let [first, again] = ["first.safetensors", "again.safetensors"].map(path);
    let options = ["--block", "2", "--json", "--bits"];
    let report = json(&[&["quantize", SMALL, &first][..], &options, &["8"]].concat());
    assert_eq!(bits(&report), [Some(8)]);
    let quantize = |more: &[&str]| {
        let output = dsconv(&[&["quantize", &first, &again][..], &options, &["3"], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (bits(&serde_json::from_slice(&output.stdout).unwrap()), told)
    };
    let (kept, told) = quantize(&[]);
    assert_eq!(kept, [Some(8)]);
    assert!(
        told.contains("1 of 1 layers are quantised already and stay as they are; --requantize"),
        "{told}"
    );
    let (changed, told) = quantize(&["--requantize"]);
    assert_eq!(changed, [Some(3)]);
    assert!(!told.contains("already"), "{told}");
    let rows = json(&["inspect", &again, "--floats", &first, "--json"]);
    assert_eq!(bits(&rows), [Some(3)]);
}
