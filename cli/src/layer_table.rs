//! The convolutions of a network with their bits, bytes and errors: as a table, and as rows of JSON.

use crate::display::{bytes, table};
use comfy_table::Table;
use dsconv::shown;
use dsconv_net::LayerReport;

/// A layer, as `--json` has it.
#[derive(serde::Serialize)]
pub(crate) struct Row<'a> {
    name: &'a str,
    shape: [u32; 4],
    groups: u32,
    bits: Option<u8>,
    float_bytes: u64,
    bytes: u64,
    weight_snr_db: Option<f64>,
}

/// The layers, as `--json` has them.
pub(crate) fn rows(layers: &[LayerReport]) -> Vec<Row<'_>> {
    let row = |layer: &'_ LayerReport| {
        let d = layer.descriptor;
        ([d.out_channels, d.channels_per_group(), d.kernel[0], d.kernel[1]], d.groups)
    };
    layers
        .iter()
        .map(|layer| {
            let (shape, groups) = row(layer);
            Row {
                name: &layer.name,
                shape,
                groups,
                bits: layer.bits,
                float_bytes: layer.float_bytes,
                bytes: layer.bytes,
                weight_snr_db: layer.weight_snr,
            }
        })
        .collect()
}

/// The layers with their totals.
pub(crate) fn layer_table(layers: &[LayerReport]) -> Table {
    let mut out = table(&["layer", "weights", "bits", "f32", "now", "smaller", "SNR dB"]);
    let smaller = |floats: u64, now: u64| format!("{:.2}x", floats as f64 / now.max(1) as f64);
    for layer in layers {
        let d = layer.descriptor;
        let [height, width] = d.kernel;
        out.add_row([
            shown(&layer.name),
            format!("{}x{}x{height}x{width}", d.out_channels, d.channels_per_group()),
            layer.bits.map_or("f32".into(), |bits| bits.to_string()),
            bytes(layer.float_bytes),
            bytes(layer.bytes),
            smaller(layer.float_bytes, layer.bytes),
            layer.weight_snr.map_or(String::new(), |snr| format!("{snr:.1}")),
        ]);
    }
    let floats = layers.iter().map(|layer| layer.float_bytes).sum();
    let now = layers.iter().map(|layer| layer.bytes).sum();
    out.add_row([
        "total".into(),
        String::new(),
        String::new(),
        bytes(floats),
        bytes(now),
        smaller(floats, now),
        String::new(),
    ]);
    out
}
