//! What the command writes over, and what it refuses to.

mod running;

use running::{command, device, dsconv, folder, onnx, text};
use std::fs;
use std::path::Path;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx");
const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/efficientnet-lite0-i4.safetensors");
const COFFEE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pictures/coffee.jpg");

/// Runs what must be refused with these words, and leave the file as it is.
fn refused(arguments: &[&str], words: &str, file: &str) {
    let before = fs::read(file).unwrap();
    let output = dsconv(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
    assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    assert!(fs::read(file).unwrap() == before, "{arguments:?}");
}

#[test]
fn no_command_writes_over_what_it_reads() {
    let folder = folder("overwrite-inputs");
    let path = |name: &str| folder.join(name).display().to_string();
    let [onnx, model, link, picture] =
        ["small.onnx", "small.safetensors", "link.safetensors", "photo.png"].map(path);
    fs::copy(SMALL, &onnx).unwrap();
    assert!(dsconv(&["quantize", &onnx, &model]).status.success());
    image::RgbImage::new(8, 8).save(&picture).unwrap();
    // Another name of the same file.
    fs::hard_link(&model, &link).unwrap();
    for forced in [&[][..], &["--force"]] {
        let words = "which the command reads";
        for (arguments, file) in [
            (vec!["quantize", &model, &model], &model),
            (vec!["quantize", &model, &link], &model),
            (vec!["quantize", &onnx, &model, "--labels", &link], &model),
            (vec!["export", &onnx, &onnx], &onnx),
            (vec!["run", &onnx, "--input", &link, "--output", &model], &model),
            (vec!["detect", MODEL, &picture, "--draw", &picture], &picture),
            (vec!["detect", MODEL, &picture, &onnx, "--draw", &path("")], &picture),
        ] {
            refused(&[&arguments[..], forced].concat(), words, file);
        }
    }
}

#[test]
fn the_files_of_a_networks_weights_are_inputs_too() {
    let folder = folder("overwrite-external");
    let path = |name: &str| folder.join(name).display().to_string();
    let [network, weights, model] = ["net.onnx", "weights.safetensors", "m.safetensors"].map(path);
    let file = onnx::file(&[
        onnx::node("conv", "Conv", &["x", "w"], "y"),
        onnx::external("w", &[8, 4, 3, 3], "weights.safetensors"),
        onnx::input("x", &[None, Some(4), Some(9), Some(9)]),
        onnx::output("y"),
    ]);
    fs::write(&network, file).unwrap();
    fs::write(&weights, vec![1; 4 * 8 * 4 * 9]).unwrap();
    for forced in [&[][..], &["--force"]] {
        for command in ["quantize", "export"] {
            let arguments = [&[command, &network, &weights], forced].concat();
            refused(&arguments, "which the command reads", &weights);
        }
    }
    let output = dsconv(&["quantize", &network, &model]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn files_of_another_kind_stay_unless_forced() {
    let folder = folder("overwrite-kinds");
    let path = |name: &str| folder.join(name).display().to_string();
    let [notes, model] = ["notes.safetensors", "model.onnx"].map(path);
    fs::write(&notes, "three years of notes").unwrap();
    fs::copy(COFFEE, &model).unwrap();
    refused(&["quantize", SMALL, &notes], "not a safetensors file", &notes);
    refused(&["run", MODEL, "--input", COFFEE, "--output", &notes], "not a safetensors", &notes);
    refused(&["export", SMALL, &model], "not an ONNX file", &model);
    let plot = path("plot.svg");
    fs::copy(COFFEE, &plot).unwrap();
    refused(&["inspect", SMALL, "--plot", &plot], "not an SVG", &plot);
    let output = dsconv(&["export", SMALL, &path("")]);
    assert!(text(&output).contains("got a folder"), "{}", text(&output));
    // With the option, over one's own earlier output, and over an empty file they are written.
    let empty = path("empty.safetensors");
    fs::write(&empty, "").unwrap();
    for arguments in [
        vec!["quantize", SMALL, &notes, "--force"],
        vec!["quantize", SMALL, &notes],
        vec!["quantize", SMALL, &empty],
        vec!["export", SMALL, &model, "--force"],
        vec!["export", SMALL, &model],
    ] {
        let output = dsconv(&arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
}

#[cfg(unix)]
#[test]
fn devices_are_written_to_and_stay_devices() {
    use std::os::unix::fs::FileTypeExt;
    let output = dsconv(&["export", SMALL, "/dev/null"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let output = dsconv(&["export", SMALL, "/dev/full"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("/dev/full: "), "{}", text(&output));
}

#[test]
fn a_cache_folder_that_cannot_be_written_costs_a_warning() {
    let folder = folder("no-cache");
    let file = folder.join("file");
    fs::write(&file, "").unwrap();
    // A file where the folder should be: not even root can write there.
    for arguments in [
        &["run", MODEL, "--input", COFFEE][..],
        &["run", MODEL, "--input", COFFEE, "--int8"],
        &["classify", MODEL, COFFEE],
    ] {
        let arguments = [arguments, &device()].concat();
        let output = command(&arguments).env("XDG_CACHE_HOME", &file).output().unwrap();
        let told = text(&output);
        assert!(output.status.success(), "{told}");
        assert!(told.contains("1000") || told.contains("espresso"), "{told}");
        if !running::skip_gpu() {
            assert!(told.contains("not kept for the next run"), "{told}");
        }
    }
    assert!(Path::new(&file).is_file());
}
