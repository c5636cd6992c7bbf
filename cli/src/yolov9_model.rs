//! YOLOv9 networks of a description, and model files made of them.

use crate::progress::with_progress;
use anyhow::Context;
use dsconv::Method;
use dsconv_net::detect::{Detector, Head};
use dsconv_net::yolov9::{Architecture, Description, GraphOutputs};
use dsconv_net::{Graph, Model, QuantizeOptions};
use std::path::Path;

/// The article's network; see the README beside it.
const YAML: &str = dsconv_net::yolov9::YOLOV9_C_DSCONV;

/// The network of a description, and its name.
pub(crate) fn describe(
    yaml: Option<&Path>,
    classes: Option<usize>,
) -> anyhow::Result<(Architecture, String)> {
    let (text, place, name) = match yaml {
        None => (YAML.to_owned(), "yolov9-c-dsconv.yaml".into(), "yolov9-c-DSConv".into()),
        Some(path) => {
            let place = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| place.clone())?;
            let name = path.file_stem().map_or(place.clone(), |stem| stem.display().to_string());
            (text, place, name)
        }
    };
    let network = || {
        let mut description = Description::parse(&text)?;
        if let Some(classes) = classes {
            description = description.with_classes(classes)?;
        }
        Architecture::new(&description)
    };
    Ok((network().with_context(|| place)?, name))
}

/// A model of the graph, with what its pictures become and how its boxes are read.
pub(crate) fn model(graph: Graph, size: u32, labels: Option<Vec<String>>) -> Model {
    let head = Head::Yolov9;
    let preprocessing = Some(head.preprocessing([size; 2]));
    Model { graph, preprocessing, labels, detection: Some(Detector::new(head)) }
}

/// yolov9-c as it is deployed, with random weights of 4 bits in blocks of 32: for benchmarks.
pub(crate) fn random() -> anyhow::Result<Model> {
    let (network, _) = describe(None, None)?;
    let floats = with_progress("random", |report| {
        Ok(network.random(GraphOutputs::Deployable, 1, &mut dsconv_net::on_cpu, report)?)
    })?;
    // Which integers does not matter for time: the quickest method.
    let how = QuantizeOptions { method: Method::SignedExtreme, ..QuantizeOptions::default() };
    let graph =
        with_progress("quantising", |report| Ok(dsconv_net::quantize(&floats, &how, report)?))?;
    Ok(model(graph, 640, None))
}
