//! Model files, good and hostile.

mod common;

use dsconv::{ConvDescriptor, Quantizer};
use dsconv_net::detect::{Detector, Head};
use dsconv_net::model::{ChannelOrder, Fit, Preprocessing};
use dsconv_net::{Error, Graph, Model};

/// A small ONNX model, written by hand: Conv (quantised afterwards), Relu, Mul by a constant, Reshape.
fn graph() -> Graph {
    dsconv_net::onnx::from_bytes(include_bytes!("data/small.onnx"), None).unwrap()
}

fn model() -> Model {
    let mut graph = graph();
    let (_, id) = graph.convolutions().next().unwrap();
    let descriptor = ConvDescriptor::new(5, 6, [3, 3]).with_padding([1; 4]);
    let floats: Vec<f32> = (0..descriptor.weight_count()).map(|i| (i as f32).sin()).collect();
    graph
        .set_weights(id, Quantizer::new(3, 2).unwrap().weights(&descriptor, &floats).unwrap())
        .unwrap();
    let preprocessing = Preprocessing {
        size: [224, 192],
        fit: Fit::Crop(0.875),
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        channels: ChannelOrder::Rgb,
        channels_last: false,
    };
    let labels = Some(vec!["cat".into(), "dog \"x\"".into()]);
    let detection = Some(Detector { confidence: 0.1, ..Detector::new(Head::Yolox) });
    Model { graph, preprocessing: Some(preprocessing), labels, detection }
}

#[test]
fn bytes_of_either_kind_are_known() {
    let model = model();
    let bytes = model.to_bytes().unwrap();
    assert_eq!(Model::from_any(&bytes).unwrap(), model);
    assert_eq!(Model::from_any(include_bytes!("data/small.onnx")).unwrap(), graph().into());
    for length in [0, 1, 8, 9, 100, bytes.len() - 1] {
        let error = Model::from_any(&bytes[..length]).unwrap_err();
        assert!(!error.to_string().is_empty(), "{length}");
    }
}

#[test]
fn a_model_comes_back_and_runs() {
    let model = model();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("model.safetensors");
    model.write(&path).unwrap();
    let back = Model::read(&path).unwrap();
    assert_eq!(back, model);
    // Tools that know layers can read it too.
    assert_eq!(dsconv::LayerFile::load(&path).unwrap().layers.len(), 1);
    let program = back.graph.specialise(&[&[1, 5, 4, 4]]).unwrap();
    let x: Vec<f32> = (0..80).map(|i| (i as f32).cos()).collect();
    let y = dsconv_net::cpu::run(&program, &[&x]).unwrap();
    assert_eq!(program.value(program.outputs()[0]).dims, [6, 16]);
    assert!(y[0].iter().all(|y| y.is_finite()));
    assert!(dsconv_net::cpu::run(&program, &[&x[1..]]).is_err());
    assert!(back.graph.specialise(&[&[1, 4, 4, 4]]).is_err());
    assert!(back.graph.specialise(&[]).is_err());
}

#[test]
fn weights_of_another_geometry_are_refused() {
    let mut graph = graph();
    let (_, id) = graph.convolutions().next().unwrap();
    let descriptor = ConvDescriptor::new(5, 6, [3, 3]);
    let weights = Quantizer::new(3, 2).unwrap().weights(&descriptor, &[1.0; 270]).unwrap();
    assert!(matches!(graph.set_weights(id, weights), Err(Error::Invalid { .. })));
}

#[test]
fn limits_out_of_range_are_refused() {
    let mut bytes = model().to_bytes().unwrap();
    let field = br#"confidence\":0.1"#;
    let at = bytes.windows(field.len()).position(|part| part == field).unwrap();
    bytes[at + field.len() - 3] = b'7';
    let message = Model::from_bytes(&bytes).unwrap_err().to_string();
    assert_eq!(message, "detection confidence: expected 0 to 1, got 7.1");
    let detection = Some(Detector { iou: f32::INFINITY, ..Detector::new(Head::Yolov9) });
    assert!(Model { detection, ..model() }.to_bytes().is_err());
}

#[test]
fn damaged_files_end_in_errors() {
    let good = model().to_bytes().unwrap();
    let mut rng = fastrand::Rng::with_seed(common::seed());
    for length in (0..good.len()).step_by(37) {
        assert!(Model::from_bytes(&good[..length]).is_err());
    }
    let run = |model: Model| {
        let Ok(program) = model.graph.specialise(&[&[1, 5, 4, 4]]) else { return };
        common::run_if_small(&program);
    };
    for _ in 0..4000 {
        let mut bytes = good.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            // Digits for digits reach further than what breaks the JSON.
            bytes[at] = match bytes[at] {
                digit if digit.is_ascii_digit() => rng.u8(b'0'..=b'9'),
                other => other ^ (1 << rng.u8(..8)),
            };
        }
        if let Ok(model) = Model::from_bytes(&bytes) {
            run(model);
        }
    }
}

#[test]
fn a_network_of_one_picture_needs_no_preprocessing_of_its_own() {
    let model = Model::from(graph());
    let message = model.picture_input().unwrap_err().to_string();
    assert!(message.contains("a picture, (N, C, H, W) or (N, H, W, C)"), "{message}");
    let preprocessing = Preprocessing {
        size: [4, 8],
        fit: Fit::Stretch,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        channels: ChannelOrder::Bgr,
        channels_last: true,
    };
    let model = Model { preprocessing: Some(preprocessing.clone()), ..model };
    assert_eq!(model.picture_input().unwrap(), preprocessing);
    assert_eq!(preprocessing.dims(), [1, 4, 8, 3]);
    assert_eq!(Preprocessing::imagenet([4, 8]).dims(), [1, 3, 4, 8]);
    let none = image::RgbImage::new(0, 4);
    let message = dsconv_net::picture::input(&none, &preprocessing).unwrap_err().to_string();
    assert!(message.contains("0x4"), "{message}");
}
