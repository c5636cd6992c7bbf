//! `dsconv inspect`: the layers of a network, their bits, bytes and errors.

mod against;
mod chart;

use crate::layer_table::{layer_table, rows};
use crate::network;
use crate::output::say;
use crate::overwrite::Overwrite;
use crate::plot::PlotFile;
use against::compare_outputs;
use anyhow::ensure;
use chart::LayerChart;
use dsconv::{Weights, WeightsRef, shown};
use dsconv_net::{Graph, Model};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Inspect this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Show the error of its weights against the network it was quantised from: ONNX or a model file.
    #[arg(long, value_name = "FILE")]
    floats: Option<PathBuf>,
    /// Run it and this network of floats on --input, and show the error of each layer's output (on the CPU reference).
    #[arg(long, value_name = "FLOATS", requires = "input", conflicts_with_all = ["floats", "plot"])]
    against: Option<PathBuf>,
    /// Run --against on these pictures, whose errors are those of all together, or on one file of tensors, as of `run`.
    #[arg(long, num_args = 1.., value_name = "PICTURE|TENSORS", requires = "against")]
    input: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Draw bits, memory and error by layer: *.svg or *.png.
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotFile>,
    #[command(flatten)]
    overwrite: Overwrite,
}

/// `dsconv compare`, an earlier spelling of `dsconv inspect --against`.
#[derive(clap::Args)]
pub(crate) struct CompareOptions {
    /// Inspect this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Compare it with this network of floats.
    floats: PathBuf,
    /// Run both on these pictures, whose errors are those of all together, or on one file of tensors, as of `run`.
    #[arg(long, required = true, num_args = 1.., value_name = "PICTURE|TENSORS")]
    input: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl From<CompareOptions> for Options {
    fn from(CompareOptions { model, floats, input, json }: CompareOptions) -> Self {
        Self {
            model,
            floats: None,
            against: Some(floats),
            input,
            json,
            plot: None,
            overwrite: Overwrite::default(),
        }
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.against {
        Some(floats) => {
            compare_outputs(&options.model, floats, &options.input)?.print(options.json)?;
        }
        None => inspect(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists the layers.
fn inspect(options: &Options) -> anyhow::Result<()> {
    if let Some(file) = &options.plot {
        let inputs = [&options.model].into_iter().chain(&options.floats).map(PathBuf::as_path);
        file.check(&options.overwrite, inputs)?;
    }
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
        true => say!("{}", serde_json::to_string(&rows(&layers, &[]))?),
        false => {
            say!("{}", summary(&model));
            say!("{}", layer_table(&layers, &[]));
            if let Some(file) = &options.plot {
                say!("Drawn in {file}.");
            }
        }
    }
    Ok(())
}

/// Names and shapes of the convolutions, which two networks have in common if one is the other quantised.
fn shapes(graph: &Graph) -> Vec<(&str, [u32; 4])> {
    let shape = |weights: &Weights| {
        let d = *WeightsRef::from(weights).descriptor();
        [d.out_channels, d.in_channels, d.kernel[0], d.kernel[1]]
    };
    graph.convolutions().map(|(node, id)| (node.name.as_str(), shape(graph.weights(id)))).collect()
}

/// The network in a line.
fn summary(model: &Model) -> String {
    let dims = |dims: &[Option<usize>]| {
        let dims = dims.iter().map(|dim| dim.map_or("?".into(), |dim| dim.to_string()));
        dims.collect::<Vec<_>>().join("x")
    };
    let inputs: Vec<_> = model
        .graph
        .inputs()
        .iter()
        .map(|i| format!("{} ({})", shown(&i.name), dims(&i.dims)))
        .collect();
    let outputs: Vec<_> = model.graph.outputs().iter().map(|o| shown(&o.name)).collect();
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
