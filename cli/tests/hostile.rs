//! Strangers' files and unlucky machines: names that would steer a terminal, counts that would fill the memory,
//! outputs that can't be written, and a cache folder in every bad state.
#![cfg(unix)]

mod running;

use dsconv::LayerFile;
use running::{command, device, dsconv, folder, onnx, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx");
const COFFEE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pictures/coffee.jpg");

/// A title, colours, a cleared screen, an old control character, and a turned direction.
const ESCAPES: &str = "\u{1b}]0;title\u{7}\u{1b}[31m\u{1b}[2J\u{9b}1m\r\u{202e}";

/// A small classifier of pictures, as ONNX.
fn classifier() -> Vec<u8> {
    onnx::file(&[
        onnx::node("conv", "Conv", &["x", "w"], "y"),
        onnx::node("mean", "GlobalAveragePool", &["y"], "z"),
        onnx::node("flat", "Flatten", &["z"], "scores"),
        onnx::constant("w", 1, &[8, 3, 3, 3], &[7; 4 * 8 * 27]),
        onnx::input("x", &[None, Some(3), Some(16), Some(16)]),
        onnx::output("scores"),
    ])
}

/// Runs the command, and checks that a terminal would obey nothing of what it prints.
fn harmless(arguments: &[&str]) -> String {
    let told = text(&dsconv(arguments));
    let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!told.contains(steers), "{arguments:?}: {told:?}");
    told
}

#[test]
fn names_of_strangers_steer_no_terminal() {
    let folder = folder("escapes");
    let path = |name: &str| folder.join(name).display().to_string();
    let name = |what: &str| format!("{what}{ESCAPES}");
    let (x, y, conv) = (name("x"), name("y"), name("conv"));
    let network = |op: &str, dims: &[u64], more: &[u8]| {
        let mut node = onnx::node(&conv, op, &[&x, "w"], &y);
        node.extend(more);
        onnx::file(&[
            node,
            onnx::constant("w", 1, dims, &vec![7; 4 * dims.iter().product::<u64>() as usize]),
            onnx::input(&x, &[Some(1), Some(3), Some(8), Some(8)]),
            onnx::output(&y),
        ])
    };
    let [good, wrong, unknown, model, exported] =
        ["good.onnx", "wrong.onnx", "unknown.onnx", "m.safetensors", "exported.onnx"].map(path);
    let strange = path(&format!("dir{}", ESCAPES.replace('\r', "")));
    fs::write(&good, network("Conv", &[64, 3, 3, 3], &[])).unwrap();
    fs::write(&wrong, network("Conv", &[64, 5, 3, 3], &[])).unwrap();
    fs::write(&unknown, network(&name("Frob"), &[1], &[])).unwrap();
    let told = harmless(&["inspect", &good]);
    let plain = told.contains("conv\\u{1b}]0;title\\u{7}") && told.contains("inputs x\\u{1b}");
    assert!(plain, "{told}");
    assert!(harmless(&["quantize", &good, &model]).contains("Wrote"));
    assert!(harmless(&["export", &model, &exported]).contains("Wrote"));
    assert!(harmless(&["inspect", &model, "--floats", &good]).contains("conv\\u{1b}"));
    for compare in [&["compare", &model, &good][..], &["inspect", &model, "--against", &good]] {
        let told = harmless(&[compare, &["--input", COFFEE]].concat());
        assert!(told.contains("conv\\u{1b}"), "{told}");
    }
    let told = harmless(&["run", &model, "--input", COFFEE, "--device", "cpu"]);
    assert!(told.contains("y\\u{1b}"), "{told}");
    harmless(&["quantize", &good, &model, "--keep-float", &name("nothing")]);
    for file in [&wrong, &unknown, &strange] {
        for arguments in [
            &["inspect", file][..],
            &["run", file, "--input", COFFEE],
            &["quantize", file, &model],
            &["classify", file, COFFEE],
            &["compare", file, &good, "--input", COFFEE],
        ] {
            harmless(arguments);
        }
    }
    // The parser of arguments quotes them.
    harmless(&["inspect", &good, &strange]);
    harmless(&["quantize", &good, &model, "--bits", &strange]);
}

#[test]
fn counts_of_strangers_take_no_memory() {
    let folder = folder("counts");
    let path = |name: &str| folder.join(name).display().to_string();
    let [model, hostile, exported] = ["m.safetensors", "hostile.safetensors", "e.onnx"].map(path);
    assert!(dsconv(&["quantize", SMALL, &model, "--block", "2"]).status.success());
    let parts = |axis: i64, index: u64, count: u64| {
        let mut file = LayerFile::load(Path::new(&model)).unwrap();
        let mut graph: serde_json::Value = serde_json::from_str(&file.metadata["graph"]).unwrap();
        let value = graph["values"].as_array().unwrap().len();
        graph["values"].as_array_mut().unwrap().push("part".into());
        let part = serde_json::json!({ "Equal": { "index": index, "count": count } });
        let op = serde_json::json!({ "Part": { "axis": axis, "part": part } });
        let input = graph["inputs"][0]["value"].clone();
        let node = serde_json::json!({
            "name": "part", "op": op, "inputs": [input], "output": value
        });
        graph["nodes"].as_array_mut().unwrap().push(node);
        file.metadata.insert("graph".into(), graph.to_string());
        file.save(&hostile).unwrap();
        // 600 MB of addresses.
        let script = format!("ulimit -v 600000; exec {DSCONV} export {hostile} {exported}");
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    let output = parts(1, 1, 5);
    assert!(output.status.success(), "{}", text(&output));
    for (index, count) in [(0, 1 << 63), (1 << 63, 1 << 63), (3, u64::MAX), (0, 50_000_000), (7, 7)]
    {
        let output = parts(1, index, count);
        assert_eq!(output.status.code(), Some(1), "{index} {count}: {}", text(&output));
        assert!(text(&output).contains("part"), "{index} {count}: {}", text(&output));
    }
}

const DSCONV: &str = env!("CARGO_BIN_EXE_dsconv");

#[test]
fn a_list_with_a_name_twice_is_refused() {
    let folder = folder("twice");
    let path = |name: &str| folder.join(name).display().to_string();
    let [model, hostile] = ["m.safetensors", "hostile.safetensors"].map(path);
    assert!(dsconv(&["quantize", SMALL, &model, "--block", "2"]).status.success());
    let bytes = fs::read(&model).unwrap();
    let (length, rest) = bytes.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    for (key, words) in [("layers", "each layer once"), ("tensors", "each tensor once")] {
        let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
        let listed = &mut header["__metadata__"][key];
        let mut list: Vec<serde_json::Value> =
            serde_json::from_str(listed.as_str().unwrap()).unwrap();
        list.extend(list.clone());
        *listed = serde_json::to_string(&list).unwrap().into();
        let header = serde_json::to_vec(&header).unwrap();
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&hostile, [&length[..], &header, data].concat()).unwrap();
        let told = text(&dsconv(&["inspect", &hostile]));
        assert!(told.contains(words), "{key}: {told}");
    }
}

/// A constant list of integers.
fn integers(name: &str, values: &[i64]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    onnx::constant(name, 7, &[values.len() as u64], &bytes)
}

/// A constant integer of rank 0.
fn integer(name: &str, value: i64) -> Vec<u8> {
    onnx::constant(name, 7, &[], &value.to_le_bytes())
}

#[test]
fn small_files_take_little_memory_before_a_run() {
    let folder = folder("memory");
    let path = |name: &str| folder.join(name).display().to_string();
    let ends = || vec![onnx::input("x", &[Some(1), Some(1)]), onnx::output("y")];
    let count = |limit: i64| {
        vec![
            integer("zero", 0),
            integer("limit", limit),
            integer("one", 1),
            onnx::node("range", "Range", &["zero", "limit", "one"], "r"),
        ]
    };
    // The last of them is added to the input, or else nothing would be computed.
    let used = |last: &str| {
        vec![
            integers("first", &[0]),
            integers("second", &[1]),
            integers("axes", &[0]),
            onnx::node("flat", "Flatten", &[last], "flat"),
            onnx::node("part", "Slice", &["flat", "first", "second", "axes"], "part"),
            onnx::node("rows", "Slice", &["part", "first", "second", "axis"], "rows"),
            integers("axis", &[1]),
            onnx::node("floats", "Identity", &["rows"], "floats"),
            onnx::node("shape", "Shape", &["floats"], "shape"),
            onnx::node("y", "Reshape", &["x", "shape"], "y"),
        ]
    };
    let mut files: Vec<(&str, Vec<Vec<u8>>)> = Vec::new();
    // A comparison of all with all.
    files.push((
        "less",
        [
            count(32_768),
            vec![
                integers("rows_axis", &[1]),
                onnx::node("column", "Unsqueeze", &["r", "rows_axis"], "column"),
                onnx::node("less", "Less", &["column", "r"], "last"),
            ],
            used("last"),
        ]
        .concat(),
    ));
    files.push((
        "zeros",
        [
            vec![
                integers("dims", &[32_768, 1]),
                integers("turned", &[1, 32_768]),
                onnx::node("a", "ConstantOfShape", &["dims"], "a"),
                onnx::node("b", "ConstantOfShape", &["turned"], "b"),
                onnx::node("less", "Less", &["a", "b"], "last"),
            ],
            used("last"),
        ]
        .concat(),
    ));
    // Chains of what makes as much again.
    for op in ["Neg", "Abs", "Not", "Add"] {
        let mut nodes = count(1 << 20);
        nodes.push(integers("four", &[4, 1 << 20]));
        nodes.push(onnx::node("expand", "Expand", &["r", "four"], "v0"));
        for index in 0..250 {
            let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
            let inputs = if op == "Add" { vec![from.as_str(), "r"] } else { vec![from.as_str()] };
            nodes.push(onnx::node(&to, op, &inputs, &to));
        }
        files.push((op, [nodes, used("v250")].concat()));
    }
    // Many nodes that each make weights of one constant.
    let mut nodes = vec![
        integers("dims", &[1024, 1024, 3, 3]),
        onnx::node("w", "ConstantOfShape", &["dims"], "w"),
        onnx::input("x", &[Some(1), Some(1024), Some(2), Some(2)]),
        onnx::output("v200"),
        onnx::node("v0", "Identity", &["x"], "v0"),
    ];
    for index in 0..200 {
        let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
        nodes.push(onnx::node(&to, "Conv", &[&from, "w"], &to));
    }
    for (name, nodes) in &files {
        let file = path(&format!("{name}.onnx"));
        fs::write(&file, onnx::file(&[nodes.clone(), ends()].concat())).unwrap();
        bounded(&file);
    }
    let file = path("shared.onnx");
    fs::write(&file, onnx::file(&nodes)).unwrap();
    bounded(&file);
    // Many tables of places.
    let mut nodes = vec![
        integers("even", &[1, 1, 1, 1 << 20]),
        integers("odd", &[1, 1, 1, (1 << 20) - 1]),
        onnx::input("v0", &[Some(1), Some(1), Some(1), Some(8)]),
        onnx::output("v200"),
    ];
    for index in 0..200 {
        let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
        let sizes = if index % 2 == 0 { "even" } else { "odd" };
        nodes.push(onnx::node(&to, "Resize", &[&from, "", "", sizes], &to));
    }
    let file = path("resize.onnx");
    fs::write(&file, onnx::file(&nodes)).unwrap();
    bounded(&file);
    let mut nodes = count(1 << 20);
    nodes.extend([
        integers("length", &[1 << 20]),
        onnx::input("x", &[Some(1)]),
        onnx::output("v300"),
        onnx::node("v0", "Expand", &["x", "length"], "v0"),
    ]);
    for index in 0..300 {
        let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
        nodes.push(onnx::node(&to, "Gather", &[&from, "r"], &to));
    }
    let file = path("gather.onnx");
    fs::write(&file, onnx::file(&nodes)).unwrap();
    bounded(&file);
}

#[test]
fn pictures_of_too_many_pixels_are_refused_before_they_are_decoded() {
    let folder = folder("pixels");
    let path = |name: &str| folder.join(name).display().to_string();
    let [network, picture] = ["classifier.onnx", "large.png"].map(path);
    fs::write(&network, classifier()).unwrap();
    // A byte a pixel in the file, three bytes a pixel behind it: 550 MB.
    image::GrayImage::new(13_500, 13_500).save(&picture).unwrap();
    for command in
        [format!("classify {network} {picture}"), format!("run {network} --input {picture}")]
    {
        let script = format!("ulimit -v 400000; exec {DSCONV} {command} --device cpu");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let told = text(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("13500x13500 pixels"), "{told}");
    }
}

/// A network whose tensors have so many elements: what x becomes, and behind it a chain of negations, the last of which
/// is added to it.
fn chain(elements: i64, length: usize) -> Vec<u8> {
    let mut nodes = vec![
        integers("dims", &[elements]),
        onnx::input("x", &[Some(1)]),
        onnx::output("y"),
        onnx::node("v0", "Expand", &["x", "dims"], "v0"),
    ];
    for index in 0..length {
        let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
        nodes.push(onnx::node(&to, "Neg", &[&from], &to));
    }
    nodes.push(onnx::node("y", "Add", &[&format!("v{length}"), "v0"], "y"));
    onnx::file(&nodes)
}

#[test]
fn the_memory_of_a_run_is_told_before_it_is_taken() {
    let folder = folder("run-memory");
    let path = |name: &str| folder.join(name).display().to_string();
    let [network, input] = ["chain.onnx", "x.npy"].map(path);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n";
    let length = (header.len() as u16).to_le_bytes();
    let bytes = [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &1f32.to_le_bytes()].concat();
    fs::write(&input, bytes).unwrap();
    let run = |more: &str| {
        let script = format!(
            "ulimit -v 400000; exec {DSCONV} run {network} --input {input} --device cpu {more}"
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        (output.status.code(), text(&output))
    };
    // Two tensors and the sum: 3 times 1.6 GB.
    fs::write(&network, chain(400_000_000, 1)).unwrap();
    let (code, told) = run("");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("needs 4.5 GiB for tensors, and --memory allows 4.0 GiB"), "{told}");
    // Three hundred tensors of 4 MB, of which three are alive at a time.
    fs::write(&network, chain(1_000_000, 300)).unwrap();
    let (code, told) = run("--memory 11999999");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("chain.onnx: this run needs 11.4 MiB"), "{told}");
    let (code, told) = run("--memory 12MB");
    assert_eq!(code, Some(0), "{told}");
    if !running::skip_gpu() {
        let told = text(&dsconv(&["run", &network, "--input", &input, "--memory", "1MB"]));
        assert!(told.contains("--memory allows 976.6 KiB"), "{told}");
    }
}

/// Looks into a network with at most a gigabyte of memory, which must end in words.
fn bounded(file: &str) {
    for command in ["inspect", "quantize"] {
        let more =
            if command == "quantize" { format!("{file}.safetensors") } else { String::new() };
        let script = format!("ulimit -v 1000000; exec {DSCONV} {command} {file} {more}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let told = text(&output);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command} {file}: {told}");
        assert!(!told.contains("memory allocation"), "{command} {file}: {told}");
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let folder = folder("stdout");
    let path = |name: &str| folder.join(name).display().to_string();
    let [model, exported, classifier_file] =
        ["m.safetensors", "e.onnx", "classifier.onnx"].map(path);
    fs::write(&classifier_file, classifier()).unwrap();
    let quantize = ["quantize", SMALL, &model, "--block", "2"];
    assert!(dsconv(&quantize).status.success());
    let yolo = ["yolov9", "summary"];
    let commands: Vec<Vec<&str>> = vec![
        vec!["--help"],
        vec!["--version"],
        vec!["inspect", "--help"],
        vec!["devices"],
        yolo.to_vec(),
        vec!["inspect", SMALL],
        vec!["inspect", SMALL, "--json"],
        vec!["export", SMALL, &exported],
        quantize.to_vec(),
        vec!["compare", &classifier_file, &classifier_file, "--input", COFFEE],
        vec!["run", &classifier_file, "--input", COFFEE, "--device", "cpu"],
        vec!["classify", &classifier_file, COFFEE, "--device", "cpu", "--json"],
    ];
    for arguments in &commands {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        for (stdout, words) in
            [(Stdio::from(full), "No space left"), (writer.into(), "Broken pipe")]
        {
            let output = command(arguments).stdout(stdout).output().unwrap();
            let told = text(&output);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
            assert!(told.contains("standard output: ") && told.contains(words), "{told}");
            assert!(!told.contains("panicked"), "{arguments:?}: {told}");
        }
        // Where nothing can be told, the exit code still tells.
        let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = command(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(1), "{arguments:?}");
    }
}

/// The files that a cache folder holds.
fn cached(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.join("dsconv")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

#[test]
fn no_state_of_the_cache_folder_costs_a_result() {
    if running::skip_gpu() {
        return;
    }
    let folder = folder("cache-states");
    let path = |name: &str| folder.join(name).display().to_string();
    let cache = folder.join("cache");
    let run = |arguments: &[&str], cache: &Path| {
        let arguments = [arguments, &device()].concat();
        let output = command(&arguments).env("XDG_CACHE_HOME", cache).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    let labelled = path("labelled");
    fs::create_dir(&labelled).unwrap();
    fs::copy(COFFEE, folder.join("labelled/coffee_5.jpg")).unwrap();
    let [network, quantized] = ["classifier.onnx", "q.safetensors"].map(path);
    fs::write(&network, classifier()).unwrap();
    let commands: [&[&str]; 5] = [
        &["run", &network, "--input", COFFEE, "--int8"],
        &["classify", &network, COFFEE],
        &["evaluate", &network, &labelled],
        &["quantize", &network, &quantized, "--calibrate", &labelled],
        &["bench", "--conv", "8x8k1s1@8x8", "--bits", "4", "--tune"],
    ];
    // Pipelines, and measured kernels.
    run(commands[0], &cache);
    let names = cached(&cache);
    assert_eq!(names.len(), 2, "{names:?}");
    let pipe: fn(&Path) =
        |path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let large: fn(&Path) = |path| fs::File::create(path).unwrap().set_len(8 << 30).unwrap();
    let states = [
        pipe,
        large,
        |path| fs::create_dir(path).unwrap(),
        |path| {
            std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        },
    ];
    for make in states {
        for name in &names {
            let _ = fs::remove_file(name).or_else(|_| fs::remove_dir(name));
            make(name);
        }
        run(commands[0], &cache);
    }
    for name in &names {
        let _ = fs::remove_file(name).or_else(|_| fs::remove_dir(name));
        pipe(name);
    }
    let nothing = folder.join("file");
    fs::write(&nothing, "").unwrap();
    for arguments in commands {
        run(arguments, &cache);
    }
    // The others write nothing else there.
    for arguments in &commands[..4] {
        run(arguments, &nothing);
    }
}
