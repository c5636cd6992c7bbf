//! The answers of networks and of the quantiser, which go to TypeScript as JSON.

use dsconv_net::picture::Class;
use dsconv_net::{LayerReport, Model};
use serde::Serialize;

/// A network's ends, labels and layers, in JSON.
pub fn description(model: &Model) -> String {
    let Model { graph, labels, .. } = model;
    let inputs = graph.inputs().iter().map(|i| Port { name: &i.name, shape: &i.dims });
    let outputs = graph.outputs().iter();
    let outputs = outputs.map(|o| Port { name: &o.name, shape: o.dims.as_deref().unwrap_or(&[]) });
    let layers = dsconv_net::report(graph, graph);
    json(&Description {
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        labels: labels.as_deref(),
        layers: rows(&layers),
    })
}

#[derive(Serialize)]
struct Description<'a> {
    inputs: Vec<Port<'a>>,
    outputs: Vec<Port<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a [String]>,
    layers: Vec<Row<'a>>,
}

/// An input or an output; a size of `None` is free.
#[derive(Serialize)]
struct Port<'a> {
    name: &'a str,
    shape: &'a [Option<usize>],
}

/// What a convolution is, and what its weights take.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    name: &'a str,
    shape: [u32; 4],
    groups: u32,
    bits: Option<u8>,
    float_bytes: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_snr: Option<f64>,
}

/// Bytes of device memory that a network's plan holds.
#[derive(Serialize)]
pub struct Memory {
    /// Of weights of convolutions.
    pub weights: u64,
    /// Of other tensors known beforehand.
    pub constants: u64,
    /// Of inputs, outputs and what is between.
    pub tensors: u64,
    /// Of geometry.
    pub parameters: u64,
    /// Of all.
    pub total: u64,
}

/// The likeliest classes of a picture, and how long the run took.
#[derive(Serialize)]
pub struct Classification {
    /// The likeliest first.
    pub classes: Vec<Class>,
    /// How long the run took.
    pub milliseconds: f64,
}

/// Each step's time, and the clock that measured it: `gpu` or `wall`.
#[derive(Serialize)]
pub struct Profile<'a> {
    /// In the order they ran in.
    pub steps: Vec<Step<'a>>,
    /// `gpu` or `wall`.
    pub clock: &'static str,
}

/// A step of a plan.
#[derive(Serialize)]
pub struct Step<'a> {
    /// Of the network's node.
    pub name: &'a str,
    /// What computes it.
    pub kernel: &'static str,
    /// How long it took.
    pub milliseconds: f64,
}

/// A row per convolution.
pub fn rows(layers: &[LayerReport]) -> Vec<Row<'_>> {
    layers.iter().map(Row::from).collect()
}

impl<'a> From<&'a LayerReport> for Row<'a> {
    fn from(layer: &'a LayerReport) -> Self {
        let LayerReport { name, descriptor: d, bits, float_bytes, bytes, weight_snr } = layer;
        Self {
            name,
            shape: [d.out_channels, d.channels_per_group(), d.kernel[0], d.kernel[1]],
            groups: d.groups,
            bits: *bits,
            float_bytes: *float_bytes,
            bytes: *bytes,
            weight_snr: *weight_snr,
        }
    }
}

/// The text of a value. Serialising these types can't fail: they hold no map whose keys are no strings.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
