//! `dsconv inspect`: the layers of a network, their bits and bytes; and `dsconv export`.

mod chart;

use crate::display::{bytes, table};
use crate::network;
use crate::plot::PlotFile;
use anyhow::ensure;
use chart::LayerChart;
use comfy_table::Table;
use dsconv::{Weights, WeightsRef};
use dsconv_net::{Graph, LayerReport, Model, onnx};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// The network it was quantised from, for the error of its weights: ONNX or a model file.
    #[arg(long, value_name = "FILE")]
    floats: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Draw bits, memory and error by layer: *.svg or *.png.
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotFile>,
}

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

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let model = network::read(&options.model)?;
    let floats = options.floats.as_deref().map(network::read).transpose()?;
    if let (Some(floats), Some(path)) = (&floats, &options.floats) {
        let [ours, theirs] = [&model, floats].map(|model| shapes(&model.graph));
        ensure!(
            ours == theirs,
            "--floats {}: not the network of {}, its convolutions differ",
            path.display(),
            options.model.display()
        );
    }
    let floats = floats.as_ref().unwrap_or(&model);
    let layers = dsconv_net::report(&floats.graph, &model.graph);
    if let Some(file) = &options.plot {
        ensure!(!layers.is_empty(), "{}: no convolutions to draw", options.model.display());
        file.write(&LayerChart { model: &options.model, layers: &layers })?;
    }
    match options.json {
        true => println!("{}", serde_json::to_string(&rows(&layers))?),
        false => {
            println!("{}", summary(&model));
            println!("{}", layer_table(&layers));
            if let Some(file) = &options.plot {
                println!("Drawn in {file}.");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What two networks have in common if one is the other quantised.
fn shapes(graph: &Graph) -> Vec<(&str, [u32; 4])> {
    let shape = |weights: &Weights| {
        let d = *WeightsRef::from(weights).descriptor();
        [d.out_channels, d.in_channels, d.kernel[0], d.kernel[1]]
    };
    graph.convolutions().map(|(node, id)| (node.name.as_str(), shape(graph.weights(id)))).collect()
}

/// `dsconv export`.
pub(crate) fn export(model: &Path, output: &Path) -> anyhow::Result<ExitCode> {
    let model = network::read(model)?;
    onnx::write(&model.graph, output)?;
    println!("Wrote {}.", output.display());
    Ok(ExitCode::SUCCESS)
}

fn summary(model: &Model) -> String {
    let dims = |dims: &[Option<usize>]| {
        let dims = dims.iter().map(|dim| dim.map_or("?".into(), |dim| dim.to_string()));
        dims.collect::<Vec<_>>().join("x")
    };
    let inputs: Vec<_> =
        model.graph.inputs().iter().map(|i| format!("{} ({})", i.name, dims(&i.dims))).collect();
    let outputs: Vec<_> = model.graph.outputs().iter().map(|o| o.name.as_str()).collect();
    format!(
        "{} nodes, {} convolutions; inputs {}; outputs {}; {}{}",
        model.graph.nodes().len(),
        model.graph.convolutions().count(),
        inputs.join(", "),
        outputs.join(", "),
        model.labels.as_ref().map_or("no labels".into(), |l| format!("{} labels", l.len())),
        model.detection.map_or(String::new(), |d| format!("; detections of {:?}", d.head)),
    )
}

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
            layer.name.clone(),
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
