//! Commands for whole networks, as a user runs them.

mod running;

use running::{device, dsconv, folder, json, text};
use serde_json::Value;
use std::path::Path;

const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/efficientnet-lite0-i4.safetensors");
const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pictures");
const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx");

fn refused(arguments: &[&str]) -> String {
    let output = dsconv(arguments);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", text(&output));
    text(&output)
}

#[test]
fn classify_gives_five_classes_a_picture() {
    let [chelsea, coffee] = ["chelsea", "coffee"].map(|name| format!("{PICTURES}/{name}.jpg"));
    for int8 in [&[][..], &["--int8"]] {
        let arguments = [&["classify", MODEL, &chelsea, &coffee, "--json"][..], int8, &device()];
        let answers = json(&arguments.concat());
        let top = |picture: usize| answers[picture]["top"].as_array().unwrap().clone();
        assert_eq!((answers.as_array().unwrap().len(), top(0).len()), (2, 5));
        assert_eq!(answers[1]["picture"], coffee);
        assert!((281..=285).contains(&top(0)[0]["index"].as_u64().unwrap()), "a cat: {answers}");
        assert!(top(0)[0]["label"].as_str().unwrap().contains("cat"));
        assert_eq!(top(1)[0]["label"], "espresso");
        let scores: Vec<f64> = top(1).iter().map(|c| c["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|a, b| a >= b) && scores.iter().sum::<f64>() <= 1.0);
    }
}

#[test]
fn run_shows_each_step() {
    let coffee = format!("{PICTURES}/coffee.jpg");
    let arguments = [&["run", MODEL, "--input", &coffee, "--profile"][..], &device()].concat();
    let output = dsconv(&arguments);
    if device().contains(&"cpu") {
        assert!(text(&output).contains("--profile: expected a GPU"), "{}", text(&output));
        return;
    }
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    let time = |line: &str| line.split_whitespace().last().and_then(|word| word.parse().ok());
    let times: Vec<f64> = told
        .lines()
        .filter(|line| line.contains(" conv_"))
        .map(|line| time(line).unwrap_or_else(|| panic!("no time: {line}")))
        .collect();
    // Its convolutions and its classifier.
    assert_eq!(times.len(), 50, "{told}");
    let total = told.lines().find(|line| line.trim_start().starts_with("total"));
    let total: f64 = total.and_then(time).unwrap_or_else(|| panic!("no total: {told}"));
    assert!(times.iter().all(|&time| time > 0.0), "{told}");
    assert!(times.iter().sum::<f64>() <= total + 0.1, "{told}");
}

#[test]
fn pictures_become_a_batch() {
    let folder = folder("batch");
    let run = |pictures: &[&str]| {
        let output = folder.join("scores.safetensors").display().to_string();
        let pictures: Vec<String> = pictures.iter().map(|p| format!("{PICTURES}/{p}")).collect();
        let inputs = ["run", MODEL, "--output", &output, "--input"].into_iter();
        let arguments: Vec<&str> = inputs.chain(pictures.iter().map(String::as_str)).collect();
        let printed = dsconv(&[&arguments[..], &device()].concat());
        assert!(printed.status.success(), "{}", text(&printed));
        let file = dsconv::LayerFile::load(Path::new(&output)).unwrap();
        let (_, scores) = file.tensors.into_iter().next().expect("an output");
        (scores.shape, scores.values)
    };
    let (coffee, chelsea) = (run(&["coffee.jpg"]), run(&["chelsea.jpg"]));
    let (shape, both) = run(&["coffee.jpg", "chelsea.jpg"]);
    assert_eq!(shape, [2, 1000]);
    let singly = [coffee.1, chelsea.1].concat();
    let worst = both.iter().zip(&singly).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let largest = singly.iter().fold(0.0f32, |largest, score| largest.max(score.abs()));
    assert!(worst < 1e-5 * largest, "{worst:e} of {largest}");
    assert_ne!(both[..1000], both[1000..]);
}

#[test]
fn networks_are_quantised_inspected_exported_and_come_back() {
    let folder = folder("networks");
    let path = |name: &str| folder.join(name).display().to_string();
    let [model, exported, again] =
        ["small.safetensors", "small.onnx", "again.safetensors"].map(path);
    let options = ["--bits", "3", "--block", "2", "--json"];
    let report = json(&[&["quantize", SMALL, &model][..], &options].concat());
    let layers = report.as_array().unwrap();
    assert!(layers.iter().any(|layer| layer["bits"] == 3), "{report}");
    for layer in layers {
        let smaller = layer["bytes"].as_u64() < layer["float_bytes"].as_u64();
        assert_eq!(layer["bits"].is_null(), !smaller, "{layer}");
    }
    assert!(dsconv(&["export", &model, &exported]).status.success());
    let bits = |report: &Value| -> Vec<Value> {
        report.as_array().unwrap().iter().map(|layer| layer["bits"].clone()).collect()
    };
    assert_eq!(bits(&json(&["inspect", &exported, "--json"])), bits(&report));
    // Integers stay what they are.
    assert_eq!(bits(&json(&["quantize", &exported, &again, "--json"])), bits(&report));
    let mut names: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["again.safetensors", "small.onnx", "small.safetensors"]);
}

#[test]
fn calibration_and_widths_by_error_work_on_pictures() {
    let folder = folder("calibrated");
    let exported = folder.join("network.onnx").display().to_string();
    let model = folder.join("model.safetensors").display().to_string();
    assert!(dsconv(&["export", MODEL, &exported]).status.success());
    // Its integers stay; what is float is calibrated with them, and nothing is out of step.
    let arguments =
        ["quantize", &exported, &model, "--calibrate", PICTURES, "--full-shifts", "--json"];
    let report = json(&[&arguments[..], &device()].concat());
    assert_eq!(report.as_array().unwrap().len(), 50);
    let compared = json(&[
        "compare",
        &model,
        &exported,
        "--input",
        &format!("{PICTURES}/rocket.jpg"),
        "--json",
    ]);
    let snr = |row: &Value| row["snr_db"].as_f64().unwrap_or(f64::INFINITY);
    assert!(compared.as_array().unwrap().iter().all(|row| snr(row) > 60.0), "{compared}");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let folder = folder("refused");
    let path = |name: &str| folder.join(name).display().to_string();
    let out = path("out.safetensors");
    let picture = format!("{PICTURES}/coffee.jpg");
    let empty = path("empty");
    std::fs::create_dir(&empty).unwrap();
    let broken = path("broken.safetensors");
    std::fs::write(&broken, &std::fs::read(MODEL).unwrap()[..100_000]).unwrap();
    let no_picture = path("text.png");
    std::fs::write(&no_picture, "no picture").unwrap();
    // What people have instead of the file they mean.
    let files = [
        ("net.pt", &b"PK\x03\x04archive"[..], "PyTorch"),
        ("renamed.onnx", b"PK\x03\x04archive/data.pkl", "torch.onnx.export"),
        ("zip.onnx", b"PK\x03\x04net.onnx", "a zip archive"),
        ("gzip.onnx", b"\x1f\x8b\x08", "unpack it first"),
        ("net.gguf", b"GGUF\x03\0\0\0", "llama.cpp"),
        ("net.ort", b"\x20\0\0\0ORTM", "ONNX Runtime"),
        ("net.xml", b"<?xml version=\"1.0\"?><net>", "OpenVINO"),
        ("net.engine", b"ftrt", "TensorRT"),
        ("exported", b"", "--saved-model"),
        ("photo.avif.jpg", b"\0\0\0\x1cftypavif\0\0\0\0", "got Avif; convert it first"),
        ("tensors.npz.jpg", b"PK\x03\x04x.npy", "got a zip archive"),
        ("cut.bmp.jpg", b"BM\0\0", "the picture can't be read"),
        ("folder.jpg", b"", "got a folder; name the files in it"),
        ("net.tflite", b"\x1c\0\0\0TFL3", "--tflite"),
        ("net.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
        ("net.pb", b"\n\x10", "--graphdef"),
        ("lfs.onnx", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("page.onnx", b"\n<!DOCTYPE html><html>", "an HTML page"),
        ("empty.onnx", b"", "the file is empty"),
        ("empty.jpg", b"", "the file is empty"),
        ("lfs.jpg", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("garbage.onnx", b"garbage", "garbage.onnx"),
    ];
    for (name, bytes, words) in files {
        let file = path(name);
        match name {
            "exported" | "folder.jpg" => {
                std::fs::create_dir(&file).unwrap();
                std::fs::write(Path::new(&file).join("saved_model.pb"), bytes).unwrap();
            }
            _ => std::fs::write(&file, bytes).unwrap(),
        }
        let message = match name.ends_with(".jpg") {
            true => refused(&["classify", MODEL, &file, "--device", "cpu"]),
            false => refused(&["inspect", &file]),
        };
        assert!(message.contains(words), "{name}: {message}");
        assert_eq!(message.matches(name).count(), 1, "named once: {message}");
    }
    let message = refused(&["inspect", &path("nothing.onnx")]);
    assert_eq!(message.matches("No such file").count(), 1, "{message}");
    let [text, nothing, pointer, stranger] =
        ["labels.txt", "nothing.txt", "lfs.npy", "tensors.safetensors"].map(path);
    std::fs::write(&text, "one\ntwo\n").unwrap();
    std::fs::write(&nothing, "\u{feff}\n").unwrap();
    std::fs::write(&pointer, "version https://git-lfs.github.com/spec/v1\noid").unwrap();
    std::fs::write(&stranger, b"\x02\0\0\0\0\0\0\0{}").unwrap();
    for (arguments, words) in [
        (vec!["classify", "/nonexistent.onnx", &picture], "/nonexistent.onnx"),
        (vec!["classify", "model.txt", &picture], "*.safetensors or *.onnx"),
        (vec!["classify", &broken, &picture], "broken.safetensors"),
        (vec!["classify", MODEL, &no_picture], "text.png: expected a picture"),
        (vec!["classify", SMALL, &picture], "expected a picture"),
        (vec!["quantize", SMALL, "out.bin"], "ends in .safetensors"),
        (vec!["quantize", SMALL, &empty], "got a folder"),
        (vec!["quantize", SMALL, &path("gone/out.safetensors")], "folder that exists"),
        (vec!["export", SMALL, &path("out.txt")], "ends in .onnx"),
        (vec!["run", MODEL, "--input", &picture, "--output", &path("y.npy")], "in .safetensors"),
        (vec!["quantize", MODEL, &out, "--labels", &text], "names of 1000 classes, got 2"),
        (vec!["quantize", MODEL, &out, "--labels", &picture], "as text in UTF-8"),
        (vec!["quantize", MODEL, &out, "--labels", &nothing], "one a line, got none"),
        (vec!["bench", "--rounds", "0"], "--rounds"),
        (vec!["bench", "--conv", "8x8k0s1@8x8"], "expected"),
        (vec!["run", MODEL, "--input", &pointer], "git lfs pull"),
        (vec!["inspect", &stranger], "no file of dsconv"),
        (vec!["quantize", SMALL, &out, "--bits", "9"], "bits"),
        (vec!["quantize", SMALL, &out, "--keep-float", "nothing*"], "nothing*"),
        (vec!["quantize", SMALL, &out, "--target-size", "2MB"], "--calibrate"),
        (vec!["quantize", SMALL, &out, "--target-size", "much", "--calibrate", "."], "as 2MB"),
        (vec!["quantize", MODEL, &out, "--calibrate", &empty], "no *.png"),
        (vec!["compare", MODEL, SMALL, "--input", &picture], "input"),
        (vec!["run", MODEL, "--input", MODEL], "no tensor \"input\""),
        (vec!["run", MODEL, "--input", &picture, MODEL], "one file of tensors"),
    ] {
        let message = refused(&arguments);
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    assert!(!Path::new(&out).exists(), "nothing is left behind");
}
