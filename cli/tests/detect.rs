//! `dsconv detect` as a user runs it.

#[path = "../../net/tests/common/mod.rs"]
mod common;
mod running;

use dsconv_net::Model;
use dsconv_net::detect::{Detector, Head};
use dsconv_net::model::{ChannelOrder, Fit};
use image::{Rgb, RgbImage};
use running::{device, dsconv, folder, printed, text};
use serde_json::Value;
use std::path::Path;

/// Finds cells of 8, 16 and 32 pixels of an input of 96 x 64 that are red (class 0) or blue (class 1): the larger,
/// the surer.
const SQUARES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/squares.onnx");
const CLASSIFIER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/efficientnet-lite0-i4.safetensors");
const RED: Rgb<u8> = Rgb([255, 0, 0]);
const BLUE: Rgb<u8> = Rgb([0, 0, 255]);

struct Found {
    class: u64,
    label: String,
    score: f64,
    bbox: [f64; 4],
}

/// What is found on each picture.
fn detect(model: &str, pictures: &[String], options: &[&str]) -> Vec<Vec<Found>> {
    let mut arguments = vec!["detect", model, "--json"];
    arguments.extend(pictures.iter().map(String::as_str));
    arguments.extend(options);
    arguments.extend(device());
    let answers: Vec<Value> = serde_json::from_str(&printed(&arguments)).unwrap();
    let found = |d: &Value| Found {
        class: d["class"].as_u64().unwrap(),
        label: d["label"].as_str().unwrap().into(),
        score: d["score"].as_f64().unwrap(),
        bbox: serde_json::from_value(d["box"].clone()).unwrap(),
    };
    assert_eq!(answers.len(), pictures.len());
    let one = |(answer, picture): (&Value, &String)| {
        assert_eq!(answer["picture"], *picture);
        answer["detections"].as_array().unwrap().iter().map(found).collect()
    };
    answers.iter().zip(pictures).map(one).collect()
}

/// Writes a picture with squares on grey: left, top, side.
fn picture(folder: &Path, name: &str, size: [u32; 2], squares: &[(Rgb<u8>, [u32; 3])]) -> String {
    let mut picture = RgbImage::from_pixel(size[0], size[1], Rgb([100; 3]));
    for &(colour, [x, y, side]) in squares {
        for (dx, dy) in (0..side).flat_map(|dy| (0..side).map(move |dx| (dx, dy))) {
            picture.put_pixel(x + dx, y + dy, colour);
        }
    }
    let path = folder.join(name);
    picture.save(&path).unwrap();
    path.display().to_string()
}

#[test]
fn known_squares_are_found_named_and_drawn() {
    let folder = folder("squares");
    let pictures = [
        // Of the input's size, and twice as large but lower: the input's bottom is padding.
        picture(&folder, "same.png", [96, 64], &[(RED, [32, 16, 16]), (BLUE, [64, 32, 32])]),
        picture(&folder, "large.png", [192, 96], &[(RED, [64, 32, 32])]),
        picture(&folder, "none.png", [96, 64], &[]),
    ];
    let drawn = folder.join("drawn");
    let labels = folder.join("labels.txt");
    std::fs::write(&labels, "a red square\na blue square\n").unwrap();
    let [labels, to] = [&labels, &drawn].map(|path| path.display().to_string());
    let found = detect(SQUARES, &pictures, &["--iou", "0.05", "--labels", &labels, "--draw", &to]);
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 0]);
    let close = |a: [f64; 4], b: [f64; 4]| a.into_iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
    let [blue, red] = &found[0][..] else { unreachable!() };
    assert!(
        close(blue.bbox, [64.0, 32.0, 96.0, 64.0]) && close(red.bbox, [32.0, 16.0, 48.0, 32.0])
    );
    assert_eq!((blue.class, blue.label.as_str()), (1, "a blue square"));
    assert_eq!((red.class, red.label.as_str()), (0, "a red square"));
    for (found, logit) in [(blue, 8.0f64), (red, 7.0)] {
        assert!((found.score - 1.0 / (1.0 + (-logit).exp())).abs() < 1e-5, "{}", found.score);
    }
    assert!(close(found[1][0].bbox, [64.0, 32.0, 96.0, 64.0]), "{:?}", found[1][0].bbox);
    assert_eq!(found[1][0].class, 0);

    let changed = |name: &str| {
        let [before, after] =
            [&folder, &drawn].map(|folder| image::open(folder.join(name)).unwrap().to_rgb8());
        assert_eq!(before.dimensions(), after.dimensions());
        before.enumerate_pixels().filter(|(x, y, p)| after.get_pixel(*x, *y) != *p).count()
    };
    // Frames and labels, and nothing where there is nothing.
    assert!(changed("same.png") > 500 && changed("large.png") > 500);
    assert_eq!(changed("none.png"), 0);
}

#[test]
fn limits_are_the_users() {
    let folder = folder("limits");
    let pictures = [picture(&folder, "a.png", [96, 64], &[(BLUE, [64, 32, 32])])];
    // The square as one, four and sixteen cells, none of which covers 45% of another.
    let count = |options: &[&str]| detect(SQUARES, &pictures, options)[0].len();
    assert_eq!(count(&[]), 21);
    assert_eq!(count(&["--iou", "0.2"]), 17);
    assert_eq!(count(&["--max-detections", "3"]), 3);
    assert_eq!(count(&["--conf", "0.999"]), 5);
    assert_eq!(count(&["--conf", "0.9995"]), 1);
    let arguments = ["detect", SQUARES, &pictures[0], "--conf", "0.9995"];
    let table = printed(&[&arguments[..], &device()].concat());
    let row = table.lines().find(|line| line.contains("a.png")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().skip(1).collect();
    assert_eq!(cells, ["class", "1", "1.00", "64.0", "32.0", "96.0", "64.0"]);
}

#[test]
fn a_model_file_knows_its_pictures_and_its_head() {
    let folder = folder("presets");
    let path = |name: &str| folder.join(name).display().to_string();
    let quantized = |name: &str, options: &[&str]| {
        printed(&[&["quantize", SQUARES, &path(name), "--block", "2"][..], options].concat());
        Model::read(path(name)).unwrap()
    };
    // The output tells.
    let model = quantized("told.safetensors", &[]);
    assert_eq!(model.detection, Some(Detector::new(Head::Yolox)));
    assert_eq!(model.preprocessing, Some(Head::Yolox.preprocessing([64, 96])));
    let named = quantized("named.safetensors", &["--preset", "yolox"]);
    assert_eq!((named.detection, named.preprocessing), (model.detection, model.preprocessing));
    assert!(printed(&["inspect", &path("named.safetensors")]).contains("detections of Yolox"));

    let options = ["--preset", "yolov9", "--picture-fit", "crop", "--mean", "0.1,0,-0.2", "--bgr"];
    let model = quantized("other.safetensors", &options);
    let how = model.preprocessing.unwrap();
    assert_eq!((how.fit, how.channels), (Fit::Crop(0.875), ChannelOrder::Bgr));
    assert_eq!((how.mean, how.std), (vec![0.1, 0.0, -0.2], vec![1.0; 3]));
    assert_eq!(model.detection.unwrap().head, Head::Yolov9);
    let how = quantized("imagenet.safetensors", &["--preset", "imagenet"]).preprocessing.unwrap();
    assert_eq!(how.std, [0.229, 0.224, 0.225]);

    // Four bits hold weights of 0, 64 and -64 exactly.
    let pictures = [picture(&folder, "a.png", [96, 64], &[(RED, [32, 32, 32])])];
    let found = detect(&path("told.safetensors"), &pictures, &["--conf", "0.9995"]);
    assert_eq!((found[0].len(), found[0][0].bbox), (1, [32.0, 32.0, 64.0, 64.0]));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let folder = folder("detect-refused");
    let path = |name: &str| folder.join(name).display().to_string();
    let a = picture(&folder, "a.png", [96, 64], &[]);
    std::fs::create_dir(folder.join("sub")).unwrap();
    let same_name = picture(&folder.join("sub"), "a.png", [96, 64], &[]);
    let labels = path("labels.txt");
    std::fs::write(&labels, "one\n").unwrap();
    let out = path("out.safetensors");
    for (arguments, words) in [
        (vec!["detect", CLASSIFIER, &a], "tells no detection head"),
        (vec!["detect", CLASSIFIER, &a, "--head", "yolox"], "(N, anchors, 5 + classes)"),
        (vec!["detect", SQUARES, &a, "--conf", "2"], "detection confidence: expected 0 to 1"),
        (vec!["detect", SQUARES, &a, "--iou", "NaN"], "detection IoU"),
        (
            vec!["detect", SQUARES, &a, "--labels", &labels],
            "expected the names of 2 classes, got 1",
        ),
        (vec!["detect", SQUARES, &a, "--draw", "out.jpg"], "ends in .png"),
        (vec!["detect", SQUARES, &a, &same_name, "--draw", &path("to")], "two pictures"),
        (vec!["quantize", SQUARES, &out, "--size", "96x96"], "input"),
        (vec!["quantize", SQUARES, &out, "--size", "96"], "as 416x416"),
        (vec!["quantize", SQUARES, &out, "--mean", "0.5"], "preprocessing mean: expected 3"),
        (vec!["quantize", SQUARES, &out, "--std", "1,0,1"], "preprocessing std"),
    ] {
        let output = dsconv(&[&arguments[..], &["--device", "cpu"]].concat());
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
    assert!(!Path::new(&out).exists(), "nothing is left behind");
}

/// A picture, and what is on it.
#[derive(serde::Deserialize)]
struct Expected {
    picture: String,
    /// ddddocr's own answer, whole pixels.
    theirs: Vec<[f64; 4]>,
    /// Left, top, right, bottom, score: in f64 of ONNX Runtime's output, where the picture needs no resizing.
    boxes: Option<Vec<[f64; 5]>>,
}

fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let side = |axis: usize| (a[axis + 2].min(b[axis + 2]) - a[axis].max(b[axis])).max(0.0);
    let area = |c: [f64; 4]| (c[2] - c[0]) * (c[3] - c[1]);
    let common = side(0) * side(1);
    common / (area(a) + area(b) - common)
}

#[test]
fn characters_are_found_where_ddddocr_finds_them_at_four_and_five_bits_too() {
    if common::skipped() {
        return;
    }
    let folder = common::run_script("detector.py", &["6"]);
    let path = |name: &str| folder.join(name).display().to_string();
    let expected: Vec<Expected> =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let pictures: Vec<String> = expected.iter().map(|e| e.picture.clone()).collect();
    let characters: usize = expected.iter().map(|e| e.theirs.len()).sum();

    let floats = detect(&path("detector.onnx"), &pictures, &["--conf", "0.1"]);
    for (found, expected) in floats.iter().zip(&expected) {
        let name = &expected.picture;
        if let Some(boxes) = &expected.boxes {
            assert_eq!(found.len(), boxes.len(), "{name}");
            for &[x0, y0, x1, y1, score] in boxes {
                let bbox = [x0, y0, x1, y1];
                let same = |found: &&Found| {
                    let close = found.bbox.into_iter().zip(bbox).all(|(a, b)| (a - b).abs() < 0.01);
                    close && (found.score - score).abs() < 1e-4
                };
                assert_eq!(found.iter().filter(same).count(), 1, "{name}: {bbox:?} {score}");
            }
            // Theirs are cut to whole pixels.
            for theirs in &expected.theirs {
                let cut = |(a, b): (f64, &f64)| (-0.01..1.01).contains(&(a - b));
                let same = |found: &&Found| found.bbox.into_iter().zip(theirs).all(cut);
                assert_eq!(found.iter().filter(same).count(), 1, "{name}: {theirs:?}");
            }
        }
    }
    let least_and_mean = |answers: &[Vec<Found>]| {
        let mut shares = Vec::new();
        for (found, expected) in answers.iter().zip(&expected) {
            assert_eq!(found.len(), expected.theirs.len(), "{}", expected.picture);
            shares.extend(expected.theirs.iter().map(|&theirs| {
                found.iter().map(|found| iou(found.bbox, theirs)).fold(0.0, f64::max)
            }));
        }
        let least = shares.iter().copied().fold(1.0, f64::min);
        (least, shares.iter().sum::<f64>() / shares.len() as f64)
    };
    let (least, mean) = least_and_mean(&floats);
    println!("{characters} characters; IoU in f32: least {least:.2}, mean {mean:.2}");
    // Larger pictures are resized by another filter than theirs. Half is what counts as found where detectors are
    // compared.
    assert!(least > 0.5 && mean > 0.9, "{least} {mean}");
    for bits in ["5", "4"] {
        let model = path(&format!("detector-i{bits}.safetensors"));
        let calibration = path("calibration");
        let arguments = [
            "quantize",
            &path("detector.onnx"),
            &model,
            "--bits",
            bits,
            "--calibrate",
            &calibration,
            "--views",
            "1",
        ];
        printed(&[&arguments[..], &device()].concat());
        let drawn = path(&format!("drawn-i{bits}"));
        let answers = detect(&model, &pictures, &["--draw", &drawn]);
        // Fewer bits may lose a character now and then, which says nothing about this program: nine of ten must be
        // found, where they are, and as few things that are none.
        let boxes: usize = answers.iter().map(Vec::len).sum();
        let mut shares = Vec::new();
        for (found, expected) in answers.iter().zip(&expected) {
            shares.extend(expected.theirs.iter().map(|&theirs| {
                found.iter().map(|found| iou(found.bbox, theirs)).fold(0.0, f64::max)
            }));
        }
        shares.retain(|&share| share > 0.5);
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        println!("at {bits} bits: {} of {characters} found, mean IoU {mean:.2}", shares.len());
        let most = |part: usize, of: usize| 10 * part >= 9 * of;
        assert!(most(shares.len(), characters), "{bits} bits: {} found", shares.len());
        assert!(most(characters, boxes), "{bits} bits: {boxes} boxes for {characters} characters");
        assert!(mean > 0.8, "{bits} bits: {mean}");
    }
}
