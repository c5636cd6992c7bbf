//! `dsconv yolov9`, as a user runs it.

mod running;

use running::{device, dsconv, folder, json, printed, skip_gpu, text};
use serde_json::Value;
use std::path::Path;

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/yolov9-small.yaml");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pictures/coffee.jpg");

#[test]
fn the_summary_is_the_articles() {
    let one = printed(&["yolov9", "summary", "--nc", "1"]);
    let line = "yolov9-c-DSConv summary: 962 layers, 50999590 parameters, 50999558 gradients, 234.7 GFLOPs";
    assert!(one.lines().any(|text| text == line), "{one}");
    let all = printed(&["yolov9", "summary"]);
    let line = "yolov9-c-DSConv summary: 962 layers, 51182080 parameters, 51182048 gradients, 235.7 GFLOPs";
    assert!(all.lines().any(|text| text == line), "{all}");
    assert!(
        all.contains("239.9 GFLOPs") && all.contains("25288752 parameters, 102.1 GFLOPs"),
        "{all}"
    );
    let small = json(&["yolov9", "summary", SMALL, "--size", "96", "--json"]);
    assert_eq!((&small["name"], &small["classes"]), (&"yolov9-small".into(), &5.into()));
    assert_eq!(small["modules"].as_array().unwrap().len(), 39);
    assert_eq!(small["modules"][9]["n"], 2);
    assert_eq!(small["modules"][27]["arguments"], "[8, 16, 3, 2]");
}

#[test]
fn a_network_is_built_and_runs_on_a_picture() {
    let folder = folder("yolov9");
    let path = |name: &str| folder.join(name).display().to_string();
    let [model, output] = [path("small.safetensors"), path("output.safetensors")];
    let build = ["yolov9", "build", &model, "--yaml", SMALL, "--random", "3", "--size", "64"];
    let build = |more: &[&str]| json(&[&build[..], &["--block", "8", "--json"], more].concat());
    let row = |rows: &Value, part: &str| {
        let found = rows.as_array().unwrap().iter().find(|row| row["part"] == part).cloned();
        found.unwrap_or_default()
    };
    let article = build(&["--dsconv", "article"]);
    assert_eq!(row(&article, "total")["dsconv"], 2);
    assert_eq!(row(&article, "auxiliary")["dsconv"], 2);
    let none = build(&["--dsconv", "none"]);
    assert_eq!(row(&none, "total")["bytes"], row(&none, "total")["float_bytes"]);
    let all = build(&["--deploy", "--bits", "5"]);
    assert_eq!(row(&all, "auxiliary"), Value::Null);
    let total = row(&all, "total");
    assert_eq!(total["dsconv"], total["convolutions"]);
    assert!(2 * total["bytes"].as_u64().unwrap() < total["float_bytes"].as_u64().unwrap());
    let run = [&["run", &model, "--input", PICTURE, "--output", &output][..], &device()].concat();
    assert!(printed(&run).contains("[1, 9, 84]"));
    if skip_gpu() {
        return;
    }
    let record = path("record.json");
    // The second is an earlier spelling.
    for bench in [&["bench", &model, "--record", &record][..], &["bench-network", &model]] {
        let report = json(&[bench, &["--rounds", "1", "--json"]].concat());
        if bench[0] == "bench" {
            let file: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
            assert_eq!((&file["record"], &file["report"]), (&"network".into(), &report));
        }
        let rows = report["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 3);
        for row in rows {
            assert_eq!(row["size"], 64);
            let pipelines = row["pipelines"].as_u64().unwrap();
            assert!((1..=40).contains(&pipelines), "{row}");
            assert!(row["ms"].as_f64().unwrap() > 0.0 && row["cold_ms"].as_f64().unwrap() > 0.0);
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let folder = folder("yolov9-refused");
    let out = folder.join("out.safetensors").display().to_string();
    let two = folder.join("two.txt").display().to_string();
    std::fs::write(&two, "one\ntwo\n").unwrap();
    let small = |more: &[&'static str]| {
        let build = ["yolov9", "build", &out, "--yaml", SMALL];
        build
            .iter()
            .copied()
            .map(String::from)
            .chain(more.iter().map(ToString::to_string))
            .collect()
    };
    let cases: Vec<(Vec<String>, &str)> = vec![
        (small(&[]), "--weights"),
        (small(&["--random", "1", "--weights", "x"]), "cannot be used with"),
        (small(&["--weights", "/nonexistent.safetensors"]), "/nonexistent"),
        (small(&["--weights", SMALL]), "yolov9-small.yaml: expected a state dict"),
        (small(&["--random", "1", "--size", "100"]), "a multiple of 32"),
        (small(&["--random", "1", "--dsconv", "article", "--deploy"]), "--dsconv article"),
        (small(&["--random", "1", "--bits", "9"]), "bits"),
        (
            small(&["--random", "1", "--labels"]).into_iter().chain([two]).collect(),
            "expected 5 names, got 2",
        ),
        (vec!["yolov9".into(), "summary".into(), PICTURE.into()], "coffee.jpg"),
        (vec!["yolov9".into(), "summary".into(), "--nc".into(), "0".into()], "nc: expected 1 to"),
        (vec!["bench-network".into(), "/nonexistent.onnx".into()], "/nonexistent.onnx"),
    ];
    for (arguments, words) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = dsconv(&arguments);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
    assert!(!Path::new(&out).exists(), "nothing is left behind");
}
