//! YOLOv9 from its description: what it counts, what it takes and refuses, and that it computes what PyTorch does.

mod common;

use common::seed;
use dsconv_net::yolov9::{Architecture, Description, GraphOutputs, Part, YOLOV9_C_DSCONV};
use dsconv_net::{Graph, QuantizeOptions, cpu, on_cpu};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::Path;

const SMALL: &str = include_str!("data/yolov9-small.yaml");

fn network(classes: usize) -> Architecture {
    let description = Description::parse(YOLOV9_C_DSCONV).unwrap().with_classes(classes).unwrap();
    Architecture::new(&description).unwrap()
}

fn small() -> Architecture {
    Architecture::new(&Description::parse(SMALL).unwrap()).unwrap()
}

fn random(network: &Architecture, outputs: GraphOutputs, seed: u64) -> Graph {
    network.random(outputs, seed, &mut on_cpu, |_, _, _| ()).unwrap()
}

#[test]
fn the_articles_network_counts_as_the_article_says() {
    let giga = |flops: u64| format!("{:.1}", flops as f64 / 1e9);
    for (classes, parameters, counted, flops) in
        [(1, 50_999_590, "234.7", "238.9"), (80, 51_182_080, "235.7", "239.9")]
    {
        let summary = network(classes).summary([640, 640]);
        println!("{classes} classes: {summary:?}");
        assert_eq!(summary.layers, 962);
        assert_eq!(summary.parameters, parameters);
        assert_eq!(summary.gradients, parameters - 32);
        assert_eq!(giga(summary.counted_flops), counted);
        assert_eq!(giga(summary.flops), flops);
        // What the two DSConv layers do.
        assert_eq!(summary.flops - summary.counted_flops, 4_128_768_000);
        assert_eq!(network(classes).stride(), 32);
    }
}

#[test]
fn modules_have_the_parameters_that_a_rebuild_in_pytorch_has() {
    let expected = BTreeMap::from([
        (1, 1_856),
        (2, 73_984),
        (3, 212_864),
        (4, 164_352),
        (5, 847_616),
        (6, 656_384),
        (7, 2_857_472),
        (8, 656_384),
        (9, 2_857_472),
        (10, 656_896),
        (13, 3_119_616),
        (16, 912_640),
        (17, 164_352),
        (19, 2_988_544),
        (20, 656_384),
        (22, 3_119_616),
        (23, 131_328),
        (24, 393_984),
        (25, 656_640),
        (26, 1_856),
        (27, 73_984),
        (28, 212_864),
        (29, 164_352),
        (31, 847_616),
        (32, 656_384),
        (34, 2_857_472),
        (35, 656_384),
        (37, 2_857_472),
    ]);
    for (classes, detection) in [(1, 21_542_822), (80, 21_725_312)] {
        let network = network(classes);
        assert_eq!(network.layers().len(), 39);
        for (index, layer) in network.layers().iter().enumerate() {
            let other = if index == 38 { detection } else { 0 };
            let parameters = expected.get(&index).copied().unwrap_or(other);
            assert_eq!(layer.parameters, parameters, "layer {index}: {layer:?}");
        }
    }
}

#[test]
fn deployment_leaves_the_auxiliary_branch_out() {
    let network = network(80);
    let (parameters, flops) = network.cost(GraphOutputs::Deployable, [640, 640]);
    assert_eq!((parameters / 100_000, flops / 100_000_000), (252, 1021));
    assert_eq!(network.dsconv_layers(GraphOutputs::Training), ["model.26", "model.27"]);
    assert!(network.dsconv_layers(GraphOutputs::Deployable).is_empty());
    for (name, part) in [
        ("model.9.cv4", Part::Backbone),
        ("model.10.cv1", Part::Neck),
        ("model.23.conv", Part::Auxiliary),
        ("model.37.cv4", Part::Auxiliary),
        ("model.38.cv2.0.0", Part::Auxiliary),
        ("model.38.cv5.2.2", Part::Detection),
    ] {
        assert_eq!(network.part(name), Some(part), "{name}");
    }
    assert_eq!(network.part("model.9"), None);
    // A graph has what was counted.
    let small = small();
    let (graph, (parameters, _)) = (
        random(&small, GraphOutputs::Deployable, 1),
        small.cost(GraphOutputs::Deployable, [64, 64]),
    );
    let layers = dsconv_net::report(&graph, &graph);
    let of = |layer: &dsconv_net::LayerReport| {
        layer.descriptor.weight_count() + layer.descriptor.out_channels as usize
    };
    assert_eq!(layers.iter().map(of).sum::<usize>() as u64, parameters);
}

#[test]
fn predictions_have_an_anchor_for_every_cell() {
    let seed = seed();
    let network = small();
    let graph = random(&network, GraphOutputs::Training, seed);
    for [batch, height, width] in [[1, 32, 32], [2, 64, 96]] {
        let program = graph.specialise(&[&[batch, 3, height, width]]).unwrap();
        common::check(&program);
        let cells: usize =
            [8, 16, 32].map(|stride| height / stride * (width / stride)).iter().sum();
        let picture = vec![0.5; batch * 3 * height * width];
        let outputs = cpu::run(&program, &[&picture]).unwrap();
        for (&id, values) in program.outputs().iter().zip(&outputs) {
            assert_eq!(program.value(id).dims, [batch, 9, cells]);
            for (index, &value) in values.iter().enumerate() {
                let row = index / cells % 9;
                assert!(value.is_finite() && (row < 4 || (0.0..=1.0).contains(&value)));
                // The boxes' sides, up to 2 * 15 cells.
                assert!(!(2..4).contains(&row) || (0.0..=30.0 * 32.0).contains(&value));
            }
        }
    }
    assert!(graph.specialise(&[&[1, 3, 48, 64]]).is_err(), "48 is no multiple of 32");
}

#[test]
fn random_weights_keep_activations_near_one() {
    let seed = seed();
    let network = small();
    let graph = random(&network, GraphOutputs::Layers, seed);
    assert_eq!(
        graph,
        random(&network, GraphOutputs::Layers, seed),
        "the same seed, the same weights"
    );
    let mut rng = fastrand::Rng::with_seed(seed);
    // The larger picture has a smaller share of padding than what the weights were scaled on.
    for side in [64, 256] {
        let program = graph.specialise(&[&[1, 3, side, side]]).unwrap();
        let picture: Vec<f32> = (0..3 * side * side).map(|_| rng.f32()).collect();
        let outputs = cpu::run(&program, &[&picture]).unwrap();
        for (output, values) in graph.outputs().iter().zip(&outputs).skip(2) {
            let squares: f64 = values.iter().map(|&y| f64::from(y).powi(2)).sum();
            let rms = (squares / values.len() as f64).sqrt();
            println!("{side}: {} {rms:.3}", output.name);
            assert!((0.1..10.0).contains(&rms), "{}: {rms}", output.name);
        }
    }
}

/// The tensors of a file, as floats.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| -> Vec<f32> {
        data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    let tensors = file.iter();
    tensors.map(|(name, t)| (name.into(), (t.shape().to_vec(), values(t.data())))).collect()
}

#[test]
fn modules_compute_what_pytorch_computes() {
    if common::skipped() {
        return;
    }
    let seed = seed().to_string();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("yolov9");
    std::fs::create_dir_all(&folder).unwrap();
    let yaml = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/yolov9-small.yaml");
    common::run_torch_script("yolov9.py", &folder, &[yaml, &seed, "2", "64", "96"]);
    let network = small();
    let state = std::fs::read(folder.join("state.safetensors")).unwrap();
    let counts: BTreeMap<String, u64> =
        serde_json::from_slice(&std::fs::read(folder.join("counts.json")).unwrap()).unwrap();
    let summary = network.summary([64, 96]);
    assert_eq!(
        [counts["parameters"], counts["gradients"]],
        [summary.parameters, summary.gradients]
    );

    let graph = network.load(GraphOutputs::Layers, "state", &state).unwrap();
    let expected = tensors(&folder.join("outputs.safetensors"));
    let (dims, picture) = &expected["images"];
    let program = graph.specialise(&[dims]).unwrap();
    common::check(&program);
    let outputs = cpu::run(&program, &[picture]).unwrap();
    // The maps of the 36 layers that have a single one, and both predictions.
    assert_eq!((outputs.len(), expected.len()), (38, 39));
    for ((output, values), &id) in graph.outputs().iter().zip(&outputs).zip(program.outputs()) {
        let (dims, expected) = &expected[&output.name];
        assert_eq!(&program.value(id).dims, dims, "{}", output.name);
        let error = common::relative_error(values, expected);
        println!("{}: {dims:?}, {error:.1e}", output.name);
        assert!(error < 1e-5, "{}: {error:e}", output.name);
    }

    // The deployed form takes the same file, and gives the same predictions.
    let graph = network.load(GraphOutputs::Deployable, "state", &state).unwrap();
    let program = graph.specialise(&[dims]).unwrap();
    let outputs = cpu::run(&program, &[picture]).unwrap();
    assert_eq!(outputs.len(), 1);
    assert!(common::relative_error(&outputs[0], &expected["output0"].1) < 1e-5);

    // What PyTorch exports is the same network too.
    let graph = dsconv_net::onnx::read(folder.join("network.onnx")).unwrap();
    let outputs = cpu::run(&graph.specialise(&[dims]).unwrap(), &[picture]).unwrap();
    let error = common::relative_error(&outputs[0], &expected["output0"].1);
    println!("exported: {error:.1e}");
    assert!(error < 1e-5, "{error:e}");

    // Layers that the description calls DSConv2D hold a float weight in a checkpoint, and are quantised.
    let graph = network.load(GraphOutputs::Training, "state", &state).unwrap();
    let wanted = network.dsconv_layers(GraphOutputs::Training);
    let keep_float = network.convolutions(GraphOutputs::Training).into_iter();
    let keep_float = keep_float.filter(|name| !wanted.contains(name)).map(String::from).collect();
    // Small as they are.
    let overrides = vec![("*".into(), 8)];
    let options = QuantizeOptions { keep_float, overrides, ..QuantizeOptions::default() };
    let quantized = dsconv_net::quantize(&graph, &options, |_, _, _| ()).unwrap();
    let packed: Vec<_> = dsconv_net::report(&graph, &quantized)
        .into_iter()
        .filter(|layer| layer.bits.is_some())
        .map(|layer| layer.name)
        .collect();
    assert_eq!(packed, ["model.26", "model.27"]);
    let outputs = cpu::run(&quantized.specialise(&[dims]).unwrap(), &[picture]).unwrap();
    // Only the auxiliary branch reads them.
    assert!(common::relative_error(&outputs[0], &expected["output0"].1) < 1e-5);
    let error = common::relative_error(&outputs[1], &expected["auxiliary"].1);
    println!("8-bit layers 26 and 27: {error:.1e}");
    assert!(error > 1e-6 && error < 0.1, "{error:e}");
}

/// A state dict for the small network, of ones, but for the projections, which hold 0, 1, 2, … if they are to be
/// right; `change` may rename, reshape or drop.
fn state(
    right: bool,
    change: impl Fn(&str, Vec<usize>) -> Option<(String, Vec<usize>)>,
) -> Vec<u8> {
    let all = small().state_dict().into_iter();
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = all
        .filter_map(|(name, shape)| change(&name, shape))
        .map(|(name, shape)| {
            let ramp = right && name.contains("dfl");
            let value = |i: usize| if ramp { i as f32 } else { 1.0f32 };
            let count = shape.iter().product();
            let data = (0..count).flat_map(|i| value(i).to_le_bytes()).collect();
            (name, shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize(views, None).unwrap()
}

#[test]
fn a_state_dict_that_is_not_the_networks_is_refused_with_all_that_is_wrong() {
    let network = small();
    let same = state(true, |name, shape| Some((name.into(), shape)));
    network.load(GraphOutputs::Training, "same", &same).unwrap();
    let message =
        |bytes: &[u8]| network.load(GraphOutputs::Training, "file", bytes).unwrap_err().to_string();
    let changed = state(true, |name, mut shape| match name {
        "model.1.conv.weight" => None,
        "model.2.bn.bias" => {
            shape[0] += 1;
            Some((name.into(), shape))
        }
        "model.38.cv3.1.2.bias" => Some(("model.39.bias".into(), shape)),
        _ => Some((name.into(), shape)),
    });
    assert_eq!(
        message(&changed),
        "file: not this network's tensors; missing: model.1.conv.weight, model.38.cv3.1.2.bias; unknown: model.39.bias; \
         wrong: model.2.bn.bias (expected [16], got [17])"
    );
    // What the deployed form does not need may be missing.
    let trimmed =
        state(true, |name, shape| (!name.starts_with("model.28.")).then(|| (name.into(), shape)));
    assert!(message(&trimmed).contains("missing: model.28.cv1.bn.bias, "), "{}", message(&trimmed));
    assert!(message(&trimmed).ends_with(" more"), "{}", message(&trimmed));
    network.load(GraphOutputs::Deployable, "trimmed", &trimmed).unwrap();
    let frozen = message(&state(false, |name, shape| Some((name.into(), shape))));
    assert!(frozen.starts_with("model.38.dfl.conv.weight: expected 0 to 15"), "{frozen}");
    let mut infinite = same;
    let last = infinite.len() - 4;
    infinite[last..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(message(&infinite).starts_with("node \"model."), "{}", message(&infinite));
    assert!(message(b"no safetensors").starts_with("file: "));
}

#[test]
fn descriptions_that_make_no_sense_are_refused_by_name() {
    let head = "head: [[[1, 1, 1], 1, DDetect, [nc]]]";
    let with = |backbone: &str| {
        format!("nc: 2\nbackbone:\n  - [-1, 1, Conv, [64, 3, 2]]\n{backbone}\n{head}")
    };
    let error = |yaml: &str| match Description::parse(yaml).and_then(|d| Architecture::new(&d)) {
        Ok(_) => panic!("taken: {yaml}"),
        Err(error) => error.to_string(),
    };
    Architecture::new(&Description::parse(&with("  - [-1, 1, Conv, [64, 3, 2]]")).unwrap())
        .unwrap();
    for (row, words) in [
        ("[-1, 1, Conv, [64, 4, 2]]", "model.1\" (Conv): arguments: expected an odd kernel"),
        ("[-1, 1, Conv, []]", "expected 1 to 3 of channels, kernel, stride, got []"),
        ("[-1, 1, Conv, [64, 3, 2, 1]]", "expected 1 to 3 of channels, kernel, stride"),
        ("[-1, 1, Conv, [-64, 3, 2]]", "whole numbers from 1 to 65536"),
        ("[-1, 1, Conv, [1e3, 3]]", "whole numbers"),
        ("[-1, 1, Conv, [x, 3]]", "whole numbers"),
        ("[-1, 0, Conv, [64]]", "number of layer 1 (Conv): expected 1 to 100"),
        ("[-1, 1000000, Conv, [64]]", "number of layer 1 (Conv)"),
        ("[5, 1, Conv, [64]]", "from: expected layers before 1, got 5"),
        ("[-3, 1, Conv, [64]]", "from: expected layers before 1, got -3"),
        ("[[0, 0], 1, Conv, [64]]", "from: expected one layer, got 2"),
        ("[-1, 1, C3, [64]]", "expected Silence, Conv,"),
        ("[-1, 1, DDetect, [nc]]", "a detection as the last layer only"),
        ("[0, 1, CBLinear, [64]]", "one list"),
        ("[0, 1, CBLinear, [[0]]]", "a list of numbers"),
        (
            "[0, 1, CBLinear, [[64, 64]]]",
            "(DDetect): from: expected a layer of one map, got one of 2",
        ),
        ("[[0, 0], 1, CBFuse, [[0, 0]]]", "an index for each layer but the last"),
        ("[[0, 0], 1, CBFuse, [[1]]]", "indices of maps"),
        ("[-1, 1, nn.Upsample, [None, 3, nearest]]", "[None, 2, nearest]"),
        ("[-1, 1, RepNCSPELAN4, [64, 33, 16]]", "channels: expected an even number, got 33"),
        (
            "[-1, 1, RepNCSPELAN4, [64, 32, 16, 60000]]",
            "convolutions of the network: expected at most 10000",
        ),
        ("[-1, 1, Conv, [65536, 15]]\n  - [-1, 1, Conv, [65536, 15]]", "weight count"),
        ("[-1, 3, Conv, [8192, 3]]", "parameters of the network: expected at most 1073741824"),
    ] {
        let message = error(&with(&format!("  - {row}")));
        assert!(message.contains(words), "{row}: {message}");
    }
    for (yaml, words) in [
        ("nc: 0\nbackbone: []\nhead: []".to_owned(), "nc: expected 1 to 10000 classes, got 0"),
        ("nc: 1\nbackbone: []\nhead: []".into(), "expected 1 to 1000 layers, got 0"),
        ("nc: 1\nwidth_multiple: .nan\nbackbone: []\nhead: []".into(), "width_multiple"),
        ("nc: 1\nbackbone: [[-1, 1, Silence, []]]\nhead: []".into(), "DualDDetect"),
        ("nc: many\nbackbone: []\nhead: []".into(), "network description"),
        ("backbone: []\nhead: []".into(), "nc"),
        ("[".repeat(10_000), "network description"),
        ("&a [*a, *a]".into(), "network description"),
        ("a".repeat(2 << 20), "at most 1048576 bytes"),
    ] {
        let message = error(&yaml);
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn damaged_descriptions_end_in_errors_or_networks() {
    let mut rng = fastrand::Rng::with_seed(seed());
    for _ in 0..2000 {
        let mut bytes = SMALL.as_bytes().to_vec();
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(..bytes.len());
            bytes[at] = match bytes[at] {
                digit if digit.is_ascii_digit() => rng.u8(b'0'..=b'9'),
                other if rng.bool() => other ^ (1 << rng.u8(..7)),
                _ => b"[]-, #&*:"[rng.usize(..9)],
            };
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(network) = Description::parse(&text).and_then(|d| Architecture::new(&d)) {
            let _ = network.summary([64, 64]);
        }
    }
}
