//! The command's face: its help, and every spelling that the README has shown since the beginning.

mod running;

use running::{command, folder, printed, text};

#[test]
fn the_help_lists_thirteen_subcommands_and_each_has_a_page() {
    let help = printed(&["--help"]);
    let (listed, _) = help.split_once("Options:").unwrap();
    let names: Vec<&str> = listed
        .lines()
        .filter(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names.len(), 13, "{names:?}");
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    let (_, examples) = help.split_once("Examples:").unwrap();
    assert!(examples.lines().filter(|line| line.starts_with("  dsconv ")).count() > 1, "{help}");
    for name in names {
        let page = printed(&[name, "--help"]);
        assert!(page.contains(&format!("Usage: dsconv {name}")), "{page}");
        // Every option has something to say, beside it or on the next line.
        let (_, options) = page.split_once("Options:").unwrap();
        let lines: Vec<&str> = options.lines().map(str::trim).collect();
        for (i, option) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("--")) {
            let next = lines.get(i + 1).unwrap_or(&"");
            let beside = option.contains("  ") || !(next.is_empty() || next.starts_with('-'));
            assert!(beside, "{name}: {option}");
        }
    }
    // The short form is the same page.
    assert_eq!(printed(&["-h"]), help);
}

/// Lines, and what they print in a folder without their files and for a device that there isn't: the first thing that
/// is missing, or what to type. The last one needs nothing, and works.
const LINES: [(&str, &str); 27] = [
    ("demo --device cpu0", "dsconv: "),
    ("bench --conv 64x128k3s1@40x40 --bits 4 --device none", "dsconv: "),
    (
        "bench --conv 64x128k3s1@40x40 --bits 8,4,2 --plot target/bench.svg --device none",
        "dsconv: ",
    ),
    ("bench --layers yolov9-c --size 320 --bits 8,4,2,3 --rounds 3 --device none", "dsconv: "),
    ("bench --layers efficientnet-lite0 --wide --tune --device none", "dsconv: "),
    ("bench-network random.safetensors --size 320 --size 640", "random.safetensors: "),
    ("bench-network yolov9-c-i4.safetensors --size 320 --size 640", "yolov9-c-i4.safetensors: "),
    ("bench-network --size 0 --rounds 0", "--rounds: expected 1 or more"),
    (
        "classify cli/models/m.safetensors cli/pictures/chelsea.jpg cli/pictures/coffee.jpg",
        "cli/models/m.safetensors: ",
    ),
    ("compare network.safetensors network.onnx --input picture.jpg", "network.safetensors: "),
    (
        "inspect network.safetensors --against network.onnx --input picture.jpg",
        "network.safetensors: ",
    ),
    ("detect detector.safetensors captcha.png --draw boxes.png", "detector.safetensors: "),
    ("evaluate e0/i3.safetensors e0/labelled", "e0/i3.safetensors: "),
    (
        "evaluate e0/i4.safetensors e0/labelled --floats e0/efficientnet-lite0.onnx",
        "e0/i4.safetensors: ",
    ),
    (
        "export cli/models/m.safetensors target/efficientnet-lite0-i4.onnx",
        "cli/models/m.safetensors: ",
    ),
    (
        "inspect cli/models/m.safetensors --plot target/layers.svg",
        "target/layers.svg: expected a folder that exists",
    ),
    (
        "quantize net/tests/data/small.onnx target/small.safetensors --bits 3 --block 8",
        "net/tests/data/small.onnx: ",
    ),
    (
        "quantize network.onnx network.safetensors --bits 4 --calibrate some_pictures/",
        "network.onnx: ",
    ),
    ("quantize network.onnx n.safetensors --target-size 2MB --calibrate p/", "network.onnx: "),
    ("quantize network.onnx n.safetensors --target-snr 25 --calibrate p/", "network.onnx: "),
    (
        "quantize network.onnx n.safetensors --bits 3 --method signed-extreme --preset yolov9",
        "network.onnx: ",
    ),
    (
        "run cli/models/m.safetensors --input coffee.jpg rocket.jpg --int8 --half-scales",
        "cli/models/m.safetensors: ",
    ),
    ("verify cli/tests/golden", "golden cases are in its tests/golden"),
    (
        "yolov9 build y.safetensors --weights yolov9-c.safetensors --deploy --bits 4 --block 32",
        "yolov9-c.safetensors: ",
    ),
    (
        "yolov9 build small.safetensors --yaml small.yaml --random 1 --deploy --size 64",
        "small.yaml: ",
    ),
    ("isa --chip none", "dsconv: "),
    ("yolov9 summary --nc 1", "50999590 parameters"),
];

#[test]
fn every_spelling_that_the_readme_showed_is_understood() {
    let folder = folder("spellings");
    for (line, words) in LINES {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = command(&arguments).current_dir(&folder).output().unwrap();
        let told = text(&output);
        assert_ne!(output.status.code(), Some(2), "{line}: {told}");
        assert!(told.contains(words), "{line}: {told}");
        assert_eq!(output.status.success(), line.starts_with("yolov9 summary"), "{line}: {told}");
    }
}
