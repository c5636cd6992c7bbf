//! The answers of networks and of the quantiser, which go to TypeScript as JSON.

use dsconv_net::LayerReport;
use dsconv_net::picture::Class;
use serde::Serialize;

/// A network's ends, labels and layers.
#[derive(Serialize)]
pub(crate) struct Description<'a> {
    pub(crate) inputs: Vec<Port<'a>>,
    pub(crate) outputs: Vec<Port<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<&'a [String]>,
    pub(crate) layers: Vec<Row<'a>>,
}

/// An input or an output; a size of `None` is free.
#[derive(Serialize)]
pub(crate) struct Port<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a [Option<usize>],
}

/// What a convolution is, and what its weights take.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: [u32; 4],
    pub(crate) groups: u32,
    pub(crate) bits: Option<u8>,
    pub(crate) float_bytes: u64,
    pub(crate) bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight_snr: Option<f64>,
}

/// Bytes of device memory that a network's plan holds.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) weights: u64,
    pub(crate) constants: u64,
    pub(crate) tensors: u64,
    pub(crate) parameters: u64,
    pub(crate) total: u64,
}

/// The likeliest classes of a picture, and how long the run took.
#[derive(Serialize)]
pub(crate) struct Classification {
    pub(crate) classes: Vec<Class>,
    pub(crate) milliseconds: f64,
}

/// Each step's time, and the clock that measured it: `gpu` or `wall`.
#[derive(Serialize)]
pub(crate) struct Profile<'a> {
    pub(crate) steps: Vec<Step<'a>>,
    pub(crate) clock: &'static str,
}

/// A step of a plan.
#[derive(Serialize)]
pub(crate) struct Step<'a> {
    pub(crate) name: &'a str,
    pub(crate) kernel: &'static str,
    pub(crate) milliseconds: f64,
}

/// A row per convolution.
pub(crate) fn rows(layers: &[LayerReport]) -> Vec<Row<'_>> {
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
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
