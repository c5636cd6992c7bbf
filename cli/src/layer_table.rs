//! The convolutions of a network with their bits, bytes and errors: as a table, and as rows of JSON.

use crate::display::{bytes, table};
use comfy_table::Table;
use dsconv::shown;
use dsconv_net::{FittedLayer, LayerReport};

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
    /// The error of the output before and after it was fitted, relative to the output's variance.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_error: Option<[f64; 2]>,
}

/// What fitting made of the layer of that name.
fn output_error(fitted: &[FittedLayer], name: &str) -> Option<[f64; 2]> {
    fitted.iter().find(|layer| layer.name == name)?.error
}

/// The layers, as `--json` has them, with what fitting made of them.
pub(crate) fn rows<'a>(layers: &'a [LayerReport], fitted: &[FittedLayer]) -> Vec<Row<'a>> {
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
                output_error: output_error(fitted, &layer.name),
            }
        })
        .collect()
}

/// The layers with their totals, and, where they were fitted, the error of each output before and after.
pub(crate) fn layer_table(layers: &[LayerReport], fitted: &[FittedLayer]) -> Table {
    let columns = ["layer", "weights", "bits", "f32", "now", "smaller", "SNR dB", "output error"];
    let shown_columns =
        columns.len() - usize::from(fitted.iter().all(|layer| layer.error.is_none()));
    let mut out = table(&columns[..shown_columns]);
    let smaller = |floats: u64, now: u64| format!("{:.2}x", floats as f64 / now.max(1) as f64);
    let percent =
        |[before, after]: [f64; 2]| format!("{:.2}% to {:.2}%", 100.0 * before, 100.0 * after);
    for layer in layers {
        let d = layer.descriptor;
        let [height, width] = d.kernel;
        let row = [
            shown(&layer.name),
            format!("{}x{}x{height}x{width}", d.out_channels, d.channels_per_group()),
            layer.bits.map_or("f32".into(), |bits| bits.to_string()),
            bytes(layer.float_bytes),
            bytes(layer.bytes),
            smaller(layer.float_bytes, layer.bytes),
            layer.weight_snr.map_or(String::new(), |snr| format!("{snr:.1}")),
            output_error(fitted, &layer.name).map_or(String::new(), percent),
        ];
        out.add_row(row.into_iter().take(shown_columns));
    }
    let floats = layers.iter().map(|layer| layer.float_bytes).sum();
    let now = layers.iter().map(|layer| layer.bytes).sum();
    let empty = String::new;
    out.add_row([
        "total".into(),
        empty(),
        empty(),
        bytes(floats),
        bytes(now),
        smaller(floats, now),
    ]);
    out
}
