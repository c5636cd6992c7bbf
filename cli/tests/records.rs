//! Records of measurements: written by `dsconv bench --record`, shown by `--show`.

mod running;

use running::{dsconv, folder, json, printed, skip_gpu, text};
use serde_json::{Value, json as value};
use std::path::Path;

const LAYERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/records/layers.json");
const NETWORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/records/network.json");

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn what_is_measured_is_recorded_and_shown_as_it_was_printed() {
    if skip_gpu() {
        return;
    }
    let folder = folder("recorded");
    let file = folder.join("layers.json").display().to_string();
    let measure = |more: &[&str]| {
        let bench = ["bench", "--conv", "16x8k3s1@5x4", "--bits", "8,3", "--rounds", "1"];
        printed(&[&bench[..], &["--record", &file], more].concat())
    };
    let told = measure(&["--wide"]);
    let record = read(&file);
    let text = |name: &str| record[name].as_str().unwrap_or_default();
    assert!(text("date").starts_with("20") && text("date").ends_with('Z'), "{record}");
    assert_eq!(text("version"), env!("CARGO_PKG_VERSION"));
    assert!(text("command").starts_with("dsconv bench --conv 16x8k3s1@5x4 --bits 8,3"), "{record}");
    for name in ["device", "backend", "driver", "driver_version"] {
        assert!(!text(name).is_empty(), "{name}: {record}");
    }
    assert!(record["commit"].is_null() || text("commit").len() >= 40, "{record}");

    // Below the line that says when and how, and above the one that says where it is kept.
    let shown = printed(&["bench", "--show", &file, "--wide"]);
    let (provenance, tables) = shown.split_once('\n').unwrap();
    assert!(provenance.contains(text("date")) && provenance.contains(text("command")), "{shown}");
    assert_eq!(format!("{tables}Recorded in {file}.\n"), told);

    // A second measurement takes the record's place.
    let report: Value = serde_json::from_str(&measure(&["--json"])).unwrap();
    assert_eq!(read(&file)["report"], report);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "only the record");
}

#[test]
fn records_are_shown_as_tables_for_people_documents_and_programs() {
    let layers = printed(&["bench", "--show", LAYERS]);
    for words in ["2026-", "64x64k3s1@20x20", "Roofline: copies", "4 bits", "7.90x", "6.40x"] {
        assert!(layers.contains(words), "no {words:?} in {layers}");
    }
    let markdown = printed(&["bench", "--show", LAYERS, "--markdown"]);
    assert!(markdown.contains("\n| 4 bits "), "{markdown}");
    let separators = markdown.lines().filter(|line| line.starts_with("|--")).count();
    assert_eq!((separators, markdown.contains("64x64k3s1@20x20 |")), (1, false), "{markdown}");
    assert!(markdown.starts_with("`dsconv bench --conv"), "{markdown}");
    let wide = printed(&["bench", "--show", LAYERS, "--markdown", "--wide"]);
    assert!(wide.contains("| 64x64k3s1@20x20 |"), "{wide}");

    let network = printed(&["bench", "--show", NETWORK]);
    for words in ["small.safetensors, batch 1", "weight-only", "2.01x", "First: "] {
        assert!(network.contains(words), "no {words:?} in {network}");
    }
    let markdown = printed(&["bench", "--show", NETWORK, "--markdown"]);
    assert_eq!(
        markdown.lines().filter(|line| line.starts_with("| 64x64 ")).count(),
        3,
        "{markdown}"
    );
    assert!(markdown.contains("|---------|"), "{markdown}");

    assert_eq!(json(&["bench", "--show", NETWORK, "--json"])["rows"][1]["form"], "weight-only");
    let plot = folder("record-drawn").join("layers.svg");
    printed(&["bench", "--show", LAYERS, "--plot", &plot.display().to_string()]);
    assert!(std::fs::read_to_string(plot).unwrap().contains("64x64k3s1@20x20"));
}

#[test]
fn damaged_and_foreign_files_are_refused_by_the_field() {
    let folder = folder("damaged-records");
    let file = folder.join("record.json");
    let refused = |bytes: &[u8], words: &str| {
        std::fs::write(&file, bytes).unwrap();
        let output = dsconv(&["bench", "--show", &file.display().to_string()]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let message = text(&output);
        assert!(message.contains(words) && message.contains("record.json"), "{words:?}: {message}");
    };
    // Where a field is, what it becomes (nothing is its absence), and what the error says.
    let cases: [(&str, &str, Option<Value>, &str); 19] = [
        (LAYERS, "/record", Some(value!("layer")), "record: expected \"layers\" or \"network\""),
        (LAYERS, "/record", None, "record: missing field"),
        (LAYERS, "/date", Some(value!("yesterday")), "date: expected a date"),
        (LAYERS, "/driver", None, "missing field `driver`"),
        (LAYERS, "/commit", Some(value!(7)), "commit: invalid type"),
        (LAYERS, "/report", None, "report: missing field"),
        (LAYERS, "/report/clock", Some(value!("sun")), "report.clock: unknown variant `sun`"),
        (
            LAYERS,
            "/report/roofline/f32_gops",
            Some(value!(0)),
            "report.roofline.f32_gops: expected a number",
        ),
        (LAYERS, "/report/layers", Some(value!([])), "report: layers: expected one row"),
        (LAYERS, "/report/layers/0/int8_ms", None, "report.layers[0]: missing field `int8_ms`"),
        (
            LAYERS,
            "/report/layers/0/f32_ms",
            Some(value!("1")),
            "report.layers[0]: f32_ms: invalid type",
        ),
        (
            LAYERS,
            "/report/layers/0/f32_gops",
            Some(value!(-1)),
            "f32_gops: expected a number from 1e-9 to 1e15, got -1e0",
        ),
        // Finite, but no picture of it would end.
        (
            LAYERS,
            "/report/layers/0/f32_intensity",
            Some(value!(1e308)),
            "report.layers[0]: f32_intensity: expected a number from 1e-9 to 1e15",
        ),
        (
            LAYERS,
            "/report/layers/0/bits",
            Some(value!(300)),
            "report.layers[0]: bits: invalid value",
        ),
        (
            LAYERS,
            "/report/widths/0/int8",
            Some(value!(null)),
            "report.widths[0].int8: invalid type",
        ),
        (NETWORK, "/report/rows", Some(value!([])), "report: rows: expected one"),
        (NETWORK, "/report/rows/2/ms", None, "report.rows[2]: missing field `ms`"),
        (NETWORK, "/report/rows/2/total", Some(value!(1.5)), "report.rows[2].total: invalid type"),
        (NETWORK, "/record", Some(value!("layers")), "missing field `clock`"),
    ];
    for (record, pointer, becomes, words) in cases {
        let mut damaged = read(record);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = damaged.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match becomes {
            Some(becomes) => parent.insert(name.into(), becomes),
            None => parent.remove(name),
        };
        refused(damaged.to_string().as_bytes(), words);
    }
    let whole = std::fs::read(LAYERS).unwrap();
    refused(&whole[..whole.len() / 2], "expected JSON");
    refused(b"", "expected JSON");
    refused(&[0x80, 0xff, 0], "expected JSON");
    refused(b"[1, 2]", "expected an object of JSON");
    // What --json prints is no record.
    refused(read(LAYERS)["report"].to_string().as_bytes(), "record: missing field");
}

#[test]
fn nothing_but_a_record_is_replaced() {
    let folder = folder("records-places");
    let file = folder.join("package.json");
    std::fs::write(&file, "{}").unwrap();
    let file = file.display().to_string();
    let beyond = folder.join("no/such.json").display().to_string();
    for (arguments, code, words) in [
        (vec!["bench", "--record", &file], 1, "there is a file that is no record"),
        (vec!["bench", "--record", &beyond], 1, "there is no folder"),
        (vec!["bench", "--record", "record.txt"], 2, "ends in .json"),
        (vec!["bench", "--show", LAYERS, "--record", &file], 2, "cannot be used with"),
        (vec!["bench", "--show", LAYERS, "--bits", "3"], 2, "cannot be used with"),
        (vec!["bench", "--show", NETWORK, "--plot", "x.svg"], 1, "--plot: expected layers"),
        (vec!["bench", "--show", "/nonexistent.json"], 1, "/nonexistent.json"),
        (vec!["bench", "--network", "--bits", "3"], 2, "cannot be used with"),
        (vec!["bench", "--batch", "2"], 1, "--batch: expected a whole network"),
        (vec!["bench", "--size", "64", "--size", "32"], 1, "--size: expected one"),
        (vec!["bench", "yolov8"], 1, "yolov8: expected a model file"),
    ] {
        let output = dsconv(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "{}");
}
