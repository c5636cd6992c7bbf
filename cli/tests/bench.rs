//! `dsconv bench`, and the pictures that commands draw.

mod running;

use running::{command, dsconv, folder, json, skip_gpu};
use serde_json::Value;
use std::path::Path;

const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/efficientnet-lite0-i4.safetensors");

/// What a picture's file must be: whole, alone in its folder, and not empty.
fn check_picture(path: &Path, texts: &[&str]) {
    if path.extension().unwrap() == "svg" {
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in texts {
            assert!(svg.contains(text), "no {text:?} in {}", path.display());
        }
    } else {
        let picture = image::open(path).unwrap().to_rgb8();
        let ink = picture.pixels().filter(|pixel| pixel.0 != [255; 3]).count();
        let share = ink as f64 / picture.pixels().len() as f64;
        assert!((0.01..0.5).contains(&share), "{share} of {} is drawn", path.display());
    }
}

#[test]
fn measured_kernels_are_kept_for_the_next_time() {
    if skip_gpu() {
        return;
    }
    let cache = folder("tuned");
    let kernels = || {
        let arguments = ["bench", "--conv", "16x8k1s1@4x4", "--tune", "--rounds", "1", "--json"];
        let output = command(&arguments).env("XDG_CACHE_HOME", &cache).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = report["layers"][0].clone();
        ["f32_kernel", "weight_only_kernel", "int8_kernel"].map(|key| row[key].clone())
    };
    let first = kernels();
    assert!(first.iter().all(|kernel| kernel.as_str().unwrap().starts_with("conv_")), "{first:?}");
    let kept = || {
        let files = std::fs::read_dir(cache.join("dsconv")).unwrap();
        let mut files = files.map(|file| file.unwrap().path());
        let path = files.find(|path| path.extension().unwrap() == "kernels").unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    let text = kept();
    // A header, these three and whether packed dot products pay, an end.
    assert_eq!(text.lines().count(), 1 + 4 + 1, "{text}");
    assert_eq!(kernels(), first);
    assert_eq!(kept(), text, "nothing was measured again");
}

#[test]
fn bench_gives_times_bounds_and_pictures() {
    if skip_gpu() {
        return;
    }
    let folder = folder("bench");
    for (name, conv) in [("plot.svg", "16x8k3s1@12x10"), ("plot.png", "32x8k1s1@6x6")] {
        let plot = folder.join(name);
        let file = plot.display().to_string();
        let options = ["--bits", "8,3", "--block", "16", "--rounds", "1", "--json"];
        let report = json(&[&["bench", "--conv", conv, "--plot", &file][..], &options].concat());
        check_picture(&plot, &[conv, "int8, 3 bits", "GB/s", "times faster"]);
        let number = |value: &Value| value.as_f64().unwrap();
        let roofline = &report["roofline"];
        for key in ["gb_per_s", "f32_gops", "int8_gops"] {
            assert!(number(&roofline[key]) > 0.0, "{roofline}");
        }
        let rows = report["layers"].as_array().unwrap();
        let widths = report["widths"].as_array().unwrap();
        assert_eq!((rows.len(), widths.len()), (2, 2), "{report}");
        for (row, bits) in rows.iter().zip([8, 3]) {
            assert_eq!((&row["layer"], &row["bits"]), (&conv.into(), &bits.into()));
            for path in ["f32", "weight_only", "int8"] {
                let of = |field: &str| number(&row[format!("{path}_{field}")]);
                let operations = 2.0 * number(&row["multiply_adds"]);
                let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a} {b} {row}");
                near(of("gops"), operations / of("ms") / 1e6);
                near(of("intensity"), operations / of("moved_bytes"));
                let roof = match path {
                    "int8" => number(&roofline["f32_gops"]).max(number(&roofline["int8_gops"])),
                    _ => number(&roofline["f32_gops"]),
                };
                let roof = roof.min(of("intensity") * number(&roofline["gb_per_s"]));
                near(of("roofline_share"), of("gops") / roof);
                if path != "f32" {
                    near(of("ratio"), number(&row["f32_ms"]) / of("ms"));
                }
            }
        }
        // Weights, input and output, all in floats; padding by one or none keeps the size.
        let (channels, taps, pixels) =
            if conv.starts_with("16") { (16, 9, 120) } else { (32, 1, 36) };
        assert_eq!(rows[0]["multiply_adds"], channels * 8 * taps * pixels);
        assert_eq!(rows[0]["f32_moved_bytes"], 4 * (channels * 8 * taps + (channels + 8) * pixels));
        let ratios: Vec<f64> = rows.iter().map(|row| number(&row["int8_ratio"])).collect();
        let mean = (ratios[0] * ratios[1]).sqrt();
        assert!((number(&report["geomean"]["int8"]) / mean - 1.0).abs() < 1e-9, "{report}");
        assert_eq!(number(&widths[1]["int8"]), ratios[1]);
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "only the pictures");
}

#[test]
fn inspect_draws_bits_memory_and_error() {
    let folder = folder("inspect");
    let path = |name: &str| folder.join(name).display().to_string();
    let (small, [model, svg, png]) = (
        concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx"),
        ["model.safetensors", "layers.svg", "layers.png"].map(path),
    );
    let report = json(&["quantize", small, &model, "--bits", "3", "--block", "8", "--json"]);
    // With the floats it knows what quantize knew; without, no error.
    let inspected = json(&["inspect", &model, "--floats", small, "--plot", &svg, "--json"]);
    assert_eq!(inspected, report);
    let name = report[0]["name"].as_str().unwrap();
    check_picture(Path::new(&svg), &[name, "bits of a weight", "KiB", "signal to noise"]);
    json(&["inspect", MODEL, "--plot", &png, "--json"]);
    check_picture(Path::new(&png), &[]);
    let output = dsconv(&["inspect", MODEL, "--floats", small]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("convolutions differ"));
}

#[test]
fn other_pictures_are_refused_before_the_work() {
    let output = dsconv(&["bench", "--plot", "ratios.pdf"]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains(".svg or .png") && message.contains("ratios.pdf"), "{message}");
}
