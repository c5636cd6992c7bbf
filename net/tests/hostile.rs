//! Models from strangers: damaged, wrong and oversized ones end in errors that say what is wrong.

mod common;

use dsconv_net::{Error, Result, onnx};
use prost::Message;
use std::path::Path;

/// A part of ONNX's schema, to write wrong models with.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Model {
        #[prost(int64, tag = "1")]
        pub(crate) ir_version: i64,
        #[prost(message, optional, tag = "7")]
        pub(crate) graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub(crate) opset_import: Vec<Opset>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Opset {
        #[prost(int64, tag = "2")]
        pub(crate) version: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub(crate) node: Vec<Node>,
        #[prost(message, repeated, tag = "5")]
        pub(crate) initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub(crate) input: Vec<Value>,
        #[prost(message, repeated, tag = "12")]
        pub(crate) output: Vec<Value>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Node {
        #[prost(string, repeated, tag = "1")]
        pub(crate) input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub(crate) output: Vec<String>,
        #[prost(string, tag = "3")]
        pub(crate) name: String,
        #[prost(string, tag = "4")]
        pub(crate) op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub(crate) attribute: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Attribute {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(int64, tag = "3")]
        pub(crate) i: i64,
        #[prost(int64, repeated, tag = "8")]
        pub(crate) ints: Vec<i64>,
        #[prost(int32, tag = "20")]
        pub(crate) kind: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Tensor {
        #[prost(int64, repeated, tag = "1")]
        pub(crate) dims: Vec<i64>,
        #[prost(int32, tag = "2")]
        pub(crate) data_type: i32,
        #[prost(float, repeated, tag = "4")]
        pub(crate) float_data: Vec<f32>,
        #[prost(int64, repeated, tag = "7")]
        pub(crate) int64_data: Vec<i64>,
        #[prost(string, tag = "8")]
        pub(crate) name: String,
        #[prost(message, repeated, tag = "13")]
        pub(crate) external_data: Vec<Entry>,
        #[prost(int32, tag = "14")]
        pub(crate) data_location: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Entry {
        #[prost(string, tag = "1")]
        pub(crate) key: String,
        #[prost(string, tag = "2")]
        pub(crate) value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Value {
        #[prost(string, tag = "1")]
        pub(crate) name: String,
        #[prost(message, optional, tag = "2")]
        pub(crate) kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Kind {
        #[prost(message, optional, tag = "1")]
        pub(crate) tensor: Option<TensorKind>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct TensorKind {
        #[prost(int32, tag = "1")]
        pub(crate) elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub(crate) shape: Option<ShapeOf>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct ShapeOf {
        #[prost(message, repeated, tag = "1")]
        pub(crate) dim: Vec<Dim>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Dim {
        #[prost(int64, tag = "1")]
        pub(crate) value: i64,
    }
}

use proto::{
    Attribute, Dim, Entry, Graph, Kind, Model, Node, Opset, ShapeOf, Tensor, TensorKind, Value,
};

fn value(name: &str, dims: &[i64]) -> Value {
    let dim = dims.iter().map(|&value| Dim { value }).collect();
    let tensor = TensorKind { elem_type: 1, shape: Some(ShapeOf { dim }) };
    Value { name: name.into(), kind: Some(Kind { tensor: Some(tensor) }) }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Node {
        input: names(inputs),
        output: names(outputs),
        name: format!("{op} node"),
        op_type: op.into(),
        attribute: vec![],
    }
}

fn with_ints(mut node: Node, name: &str, ints: &[i64]) -> Node {
    node.attribute.push(Attribute { name: name.into(), i: 0, ints: ints.to_vec(), kind: 7 });
    node
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    let (name, dims, float_data) = (name.into(), dims.to_vec(), values.to_vec());
    Tensor { dims, data_type: 1, float_data, name, ..Tensor::default() }
}

fn integers(name: &str, values: &[i64]) -> Tensor {
    let (name, dims, int64_data) = (name.into(), vec![values.len() as i64], values.to_vec());
    Tensor { dims, data_type: 7, int64_data, name, ..Tensor::default() }
}

fn model(node: Vec<Node>, initializer: Vec<Tensor>) -> Vec<u8> {
    let (input, output) = (vec![value("x", &[1, 2, -1, 5])], vec![value("y", &[])]);
    let graph = Some(Graph { node, initializer, input, output });
    Model { ir_version: 8, graph, opset_import: vec![Opset { version: 17 }] }.encode_to_vec()
}

/// Reads and specialises a model.
fn take(node: Vec<Node>, initializer: Vec<Tensor>) -> Result<()> {
    let graph = onnx::from_bytes(&model(node, initializer), None)?;
    graph.specialise(&[&[1, 2, 4, 5]]).map(|_| ())
}

#[track_caller]
fn refused(result: Result<()>, says: &[&str]) {
    let message = result.expect_err("this must be refused").to_string();
    for part in says {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn wrong_graphs_are_refused() {
    take(vec![node("Relu", &["x"], &["y"])], vec![]).unwrap();
    let cycle = vec![
        node("Add", &["x", "b"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("Relu", &["b"], &["y"]),
    ];
    refused(take(cycle, vec![]), &["cycle", "node"]);
    refused(take(vec![node("Relu", &["y"], &["y"])], vec![]), &["cycle"]);
    refused(take(vec![node("Relu", &["gone"], &["y"])], vec![]), &["gone"]);
    refused(take(vec![], vec![]), &["\"y\""]);
    refused(
        take(vec![node("Relu", &["x"], &["y"]), node("Neg", &["x"], &["y"])], vec![]),
        &["\"y\"", "one definition"],
    );
    refused(
        take(vec![node("Relu", &["x"], &["x"]), node("Relu", &["x"], &["y"])], vec![]),
        &["\"x\""],
    );
    let twice = vec![floats("c", &[1], &[1.0]), floats("c", &[1], &[2.0])];
    refused(take(vec![node("Add", &["x", "c"], &["y"])], twice), &["\"c\""]);
    refused(take(vec![node("Add", &["x"], &["y"])], vec![]), &["Add"]);
    refused(take(vec![node("Relu", &[], &["y"])], vec![]), &["Relu"]);
}

#[test]
fn all_that_is_not_supported_is_listed_at_once() {
    let nodes = vec![
        node("Frobnicate", &["x"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("Unique", &["b", "c"], &["d", "e"]),
        node("Conv", &["x", "d"], &["f"]),
        with_ints(node("Relu", &["x"], &["g"]), "surprise", &[1]),
        node("Sum", &["f", "g"], &["y"]),
        node("Unused", &["x"], &["nobody reads this"]),
    ];
    let bytes = model(nodes, vec![integers("c", &[1])]);
    let Err(Error::Unsupported(list)) = onnx::from_bytes(&bytes, None) else {
        panic!("not refused")
    };
    let ops: Vec<_> = list.iter().map(|entry| (entry.op.as_str(), entry.opset)).collect();
    assert_eq!(ops, [("Frobnicate", 17), ("Unique", 17), ("Relu", 17)], "{list:#?}");
    assert!(list[2].reason.contains("surprise"));
    assert_eq!(list[0].node, "Frobnicate node");
    // A reason is told once for an operator, however many nodes there are.
    let mut twice = list.clone();
    twice.push(list[0].clone());
    let text = Error::Unsupported(twice).to_string();
    assert!(text.contains("2 nodes, first \"Frobnicate node\""), "{text}");
    assert_eq!(text.matches("Frobnicate (").count(), 1, "{text}");
}

#[test]
fn sizes_are_checked_before_memory_is_taken() {
    for dims in
        [&[1 << 40][..], &[-1], &[1 << 20, 1 << 20, 1 << 20], &[i64::MIN, 2], &[1; 9], &[2, 2]]
    {
        let nodes = vec![node("Add", &["x", "c"], &["y"])];
        refused(take(nodes, vec![floats("c", dims, &[1.0])]), &["\"c\""]);
    }
    let big = [1, 1 << 14, 1 << 14, 4];
    for (op, list) in [
        ("Expand", &big[..]),
        ("ConstantOfShape", &big),
        ("Expand", &[1 << 40]),
        ("Reshape", &[1 << 40]),
    ] {
        let inputs: &[&str] = if op == "ConstantOfShape" { &["dims"] } else { &["x", "dims"] };
        refused(take(vec![node(op, inputs, &["y"])], vec![integers("dims", list)]), &[]);
    }
    // As large as a tensor may be: nothing of that size is made until it runs.
    let grown = vec![node("ConstantOfShape", &["dims"], &["c"]), node("Add", &["c", "x"], &["y"])];
    take(grown, vec![integers("dims", &[1 << 24, 2, 4, 5])]).unwrap();
    let kernel = vec![1 << 24, 1 << 24];
    for op in ["MaxPool", "AveragePool"] {
        let nodes = vec![with_ints(node(op, &["x"], &["y"]), "kernel_shape", &kernel)];
        refused(take(nodes, vec![]), &[op]);
        let nodes = vec![with_ints(node(op, &["x"], &["y"]), "kernel_shape", &[0, -1])];
        refused(take(nodes, vec![]), &["kernel_shape"]);
    }
    let pads = [0, 0, i64::MAX, i64::MIN, 0, 0, i64::MAX, 1];
    refused(take(vec![node("Pad", &["x", "p"], &["y"])], vec![integers("p", &pads)]), &["pads"]);
    let tile = vec![node("Tile", &["x", "r"], &["y"])];
    refused(take(tile, vec![integers("r", &[1, i64::MAX, i64::MAX, 2])]), &["Tile"]);
    let conv = with_ints(node("Conv", &["x", "w"], &["y"]), "strides", &[0, 0]);
    refused(take(vec![conv], vec![floats("w", &[1, 2, 1, 1], &[1.0, 2.0])]), &["stride"]);
    let conv = node("Conv", &["x", "w"], &["y"]);
    refused(take(vec![conv.clone()], vec![floats("w", &[1, 2, 0, 1], &[])]), &["kernel"]);
    refused(take(vec![conv], vec![floats("w", &[1, 2, 1, 1], &[f32::NAN, 2.0])]), &["weight[0]"]);
    let range = vec![node("Range", &["a", "b", "s"], &["c"]), node("Add", &["x", "c"], &["y"])];
    let scalar = |name: &str, value| Tensor { dims: vec![], ..integers(name, &[value]) };
    let numbers = vec![scalar("a", i64::MIN), scalar("b", i64::MAX), scalar("s", 1)];
    refused(take(range, numbers), &["range"]);
}

#[test]
fn external_data_stays_in_the_models_folder() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("external");
    let folder = root.join("model");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(root.join("secret.bin"), [0; 64]).unwrap();
    std::fs::write(folder.join("data.bin"), 1.5f32.to_le_bytes().repeat(16)).unwrap();
    let read = |entries: &[(&str, &str)], folder: Option<&Path>| {
        let external_data = entries
            .iter()
            .map(|&(key, value)| Entry { key: key.into(), value: value.into() })
            .collect();
        let data = Tensor {
            float_data: vec![],
            external_data,
            data_location: 1,
            ..floats("c", &[1, 2, 1, 5], &[])
        };
        onnx::from_bytes(&model(vec![node("Add", &["x", "c"], &["y"])], vec![data]), folder)
            .map(|_| ())
    };
    let inside = Some(folder.as_path());
    read(&[("location", "data.bin"), ("offset", "24"), ("length", "40")], inside).unwrap();
    refused(
        read(&[("location", "data.bin"), ("offset", "28"), ("length", "40")], inside),
        &["inside of 64 bytes"],
    );
    refused(
        read(
            &[("location", "data.bin"), ("offset", "18446744073709551615"), ("length", "40")],
            inside,
        ),
        &["64"],
    );
    refused(read(&[("location", "data.bin")], inside), &["length", "40 bytes"]);
    refused(read(&[("location", "data.bin"), ("offset", "x")], inside), &["offset", "x"]);
    refused(
        read(&[("location", "../secret.bin"), ("length", "40")], inside),
        &["inside of the model's folder"],
    );
    let absolute = root.join("secret.bin");
    refused(
        read(&[("location", absolute.to_str().unwrap())], inside),
        &["inside of the model's folder"],
    );
    refused(read(&[("location", "gone.bin"), ("length", "40")], inside), &["gone.bin"]);
    refused(read(&[("location", ".")], inside), &["folder"]);
    refused(read(&[], inside), &["location"]);
    refused(read(&[("location", "data.bin")], None), &["without a folder"]);
    #[cfg(unix)]
    {
        let link = folder.join("link.bin");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink("../secret.bin", &link).unwrap();
        refused(
            read(&[("location", "link.bin"), ("length", "40")], inside),
            &["inside of the model's folder"],
        );
    }
}

#[test]
fn many_tensors_on_one_file_are_counted_together() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("external-shared");
    std::fs::create_dir_all(&folder).unwrap();
    // A megabyte that takes no place on the disk.
    std::fs::File::create(folder.join("data.bin")).unwrap().set_len(1 << 20).unwrap();
    let read = |count: usize| {
        let tensor = |index: usize| Tensor {
            float_data: vec![],
            external_data: vec![Entry { key: "location".into(), value: "data.bin".into() }],
            data_location: 1,
            ..floats(&format!("c{index}"), &[1 << 18], &[])
        };
        let mut nodes = vec![node("Relu", &["x"], &["v0"])];
        for index in 0..count {
            let (from, to) = (format!("v{index}"), format!("v{}", index + 1));
            nodes.push(node("Add", &[&from, &format!("c{index}")], &[&to]));
        }
        nodes.push(node("Relu", &[&format!("v{count}")], &["y"]));
        let bytes = model(nodes, (0..count).map(tensor).collect());
        onnx::from_bytes(&bytes, Some(&folder)).map(|_| ())
    };
    read(257).unwrap();
    refused(read(258), &["data.bin", "in all"]);
}

#[test]
fn what_no_static_size_has_is_refused_with_the_reason() {
    for (op, words) in [
        ("NonZero", "needs sizes before the run"),
        ("Bernoulli", "for inference"),
        ("SequenceConstruct", "sequences of tensors"),
    ] {
        refused(take(vec![node(op, &["x"], &["y"])], vec![]), &[op, words]);
    }
    let mut training = node("BatchNormalization", &["x", "c", "c", "c", "c"], &["y"]);
    training.attribute.push(Attribute {
        name: "training_mode".into(),
        i: 1,
        ints: vec![],
        kind: 2,
    });
    refused(take(vec![training], vec![floats("c", &[2], &[1.0; 2])]), &["model.eval()"]);
    let mut old =
        Model::decode(model(vec![node("Relu", &["x"], &["y"])], vec![]).as_slice()).unwrap();
    old.opset_import = vec![Opset { version: 5 }];
    refused(
        onnx::from_bytes(&old.encode_to_vec(), None).map(|_| ()),
        &["opset_import", "7 to 25", "opset_version"],
    );
    refused(onnx::from_bytes(b"garbage", None).map(|_| ()), &["not an ONNX file"]);
}

/// Reads bytes as a model, and runs and exports what they still are.
fn use_bytes(bytes: &[u8]) {
    let Ok(graph) = onnx::from_bytes(bytes, None) else { return };
    let dims: Vec<Vec<usize>> = graph
        .inputs()
        .iter()
        .map(|input| input.dims.iter().map(|dim| dim.unwrap_or(4).min(64)).collect())
        .collect();
    let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
    let Ok(program) = graph.specialise(&dims) else { return };
    common::run_if_small(&program);
    let _ = onnx::to_bytes(&graph);
}

/// A model with a few bytes changed.
fn damaged(good: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..rng.usize(1..5) {
        let at = rng.usize(..bytes.len());
        bytes[at] = if rng.bool() { rng.u8(..) } else { bytes[at] ^ (1 << rng.u8(..8)) };
    }
    bytes
}

#[test]
fn damaged_models_never_panic() {
    let good = include_bytes!("data/small.onnx");
    onnx::from_bytes(good, None).unwrap();
    let mut rng = fastrand::Rng::with_seed(common::seed());
    for length in 0..good.len() {
        use_bytes(&good[..length]);
    }
    // Half of the file is weights: damage hits the rest more often.
    for _ in 0..20_000 {
        use_bytes(&damaged(good, &mut rng));
    }
}

#[test]
fn damaged_models_of_strangers_never_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/strangers");
    let mut rng = fastrand::Rng::with_seed(common::seed());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            let good = std::fs::read(&path).unwrap();
            for _ in 0..500 {
                use_bytes(&damaged(&good, &mut rng));
            }
        }
    }
}
