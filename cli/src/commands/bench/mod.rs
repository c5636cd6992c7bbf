//! `dsconv bench`: layers or a whole network, measured in f32, with DSConv weights, and with int8 activations.

mod chart;
mod layer;
mod layers;
mod layers_report;
mod network;
mod network_report;
mod numbers;
mod record;
mod roofline;

use crate::device::OnDevice;
use crate::display::markdown;
use crate::layer_spec::{LayerSpec, layers_of};
use crate::output::say;
use crate::overwrite::Overwrite;
use crate::plot::PlotFile;
use anyhow::{Context, ensure};
use dsconv_net::gpu::Activations;
use layers::LayersBench;
use network::{NetworkBench, Subject};
use record::{Provenance, Record, RecordPath, Report};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Measure this whole network instead of layers: a model file (*.safetensors) or an ONNX file with DSConv weights,
    /// or one by name, yolov9-c (random weights of 4 bits in blocks of 32) or efficientnet-lite0.
    #[arg(value_name = "NETWORK")]
    model: Option<PathBuf>,
    /// Measure a whole network; without NETWORK it is yolov9-c.
    #[arg(long)]
    network: bool,
    /// Measure the layers of this network: yolov9-c or efficientnet-lite0.
    #[arg(long, value_name = "NAME", default_value = "yolov9-c", conflicts_with_all = WHOLE)]
    layers: String,
    /// Measure this layer, as 64x128k3s1@80x80 (input and output channels, kernel, stride, input); can be repeated.
    #[arg(long, value_name = "LAYER", conflicts_with = "layers", conflicts_with_all = WHOLE)]
    conv: Vec<LayerSpec>,
    /// Scale to pictures with sides of so many pixels; for a whole network it can be repeated.
    #[arg(long)]
    size: Vec<u32>,
    /// Give the weights so many bits; several widths, as 8,4,2, are measured in turn.
    #[arg(long, default_value = "8", value_delimiter = ',', conflicts_with_all = WHOLE)]
    bits: Vec<u8>,
    /// Let so many channels share a scale.
    #[arg(long, default_value_t = 32, conflicts_with_all = WHOLE)]
    block: u32,
    /// Run a whole network on so many pictures at a time [default: 1].
    #[arg(long)]
    batch: Option<u32>,
    /// Repeat each measurement so many times; the median counts [default: 5, for a whole network 3].
    #[arg(long)]
    rounds: Option<usize>,
    /// Measure which kernel is the fastest for each layer, instead of choosing by rule. It is kept for the next time.
    #[arg(long, conflicts_with_all = WHOLE)]
    tune: bool,
    /// Print a second table: operations, bytes, arithmetic intensity and GOP/s of each layer.
    #[arg(long, conflicts_with_all = WHOLE)]
    wide: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print the table for a document: the means of layers (all tables with --wide), or the network's rows.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// Draw the ratios by layer, and the layers below the roofline: *.svg or *.png.
    #[arg(long, value_name = "FILE", conflicts_with_all = WHOLE)]
    plot: Option<PlotFile>,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Keep the measurement in this file, *.json, with date, device, driver, commit and command.
    #[arg(long, value_name = "FILE")]
    record: Option<RecordPath>,
    /// Show the measurement that this file keeps, instead of measuring.
    #[arg(long, value_name = "FILE", conflicts_with_all = MEASURING)]
    show: Option<RecordPath>,
    #[command(flatten)]
    device: OnDevice,
}

/// The arguments that ask for a whole network.
const WHOLE: [&str; 2] = ["model", "network"];
/// The arguments that say what and how to measure.
const MEASURING: [&str; 11] = [
    "model", "network", "layers", "conv", "size", "bits", "block", "batch", "rounds", "tune",
    "record",
];

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(file) = &options.plot {
        file.check(&options.overwrite, None)?;
    }
    let record = match &options.show {
        Some(path) => path.read()?,
        None => {
            if let Some(path) = &options.record {
                path.check_place()?;
            }
            measure(options)?
        }
    };
    // First what was measured, which no failing file may lose.
    match (options.json, options.markdown) {
        (true, _) => print_json(&record.report)?,
        (_, true) => print_markdown(&record, options.wide),
        _ => print(&record, options),
    }
    if let Some(path) = &options.record {
        path.write(&record)?;
    }
    if let Some(file) = &options.plot {
        match &record.report {
            Report::Layers(report) => file.write(report)?,
            Report::Network(_) => anyhow::bail!("--plot: expected layers, got a whole network"),
        }
    }
    if !options.json && !options.markdown {
        print_files(options);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(options: &Options) -> anyhow::Result<Record> {
    if options.network || options.model.is_some() {
        measure_network(options)
    } else {
        measure_layers(options)
    }
}

fn measure_layers(options: &Options) -> anyhow::Result<Record> {
    ensure!(
        options.batch.is_none(),
        "--batch: expected a whole network, as by --network; layers are measured on one picture"
    );
    ensure!(
        options.size.len() <= 1,
        "--size: expected one for layers, got {}; a whole network takes several",
        options.size.len()
    );
    let layers = match options.conv.is_empty() {
        true => layers_of(&options.layers, options.size.first().copied())?,
        false => options.conv.clone(),
    };
    let mut device =
        options.device.open()?.context("--device cpu: benchmarks need a GPU adapter")?;
    device.pipelines = device.pipelines_for(Activations::Int8)?;
    let bench = LayersBench {
        layers: &layers,
        bits: &options.bits,
        block: options.block,
        rounds: rounds(options, 5)?,
        tune: options.tune,
    };
    let report = Report::Layers(bench.measure(&device)?);
    Ok(Record { provenance: Provenance::now(&device.gpu.adapter.get_info()), report })
}

/// How often each measurement is repeated.
fn rounds(options: &Options, default: usize) -> anyhow::Result<usize> {
    let rounds = options.rounds.unwrap_or(default);
    ensure!(rounds > 0, "--rounds: expected 1 or more, got 0");
    Ok(rounds)
}

fn measure_network(options: &Options) -> anyhow::Result<Record> {
    let (rounds, batch) = (rounds(options, 3)?, options.batch.unwrap_or(1));
    ensure!(batch > 0, "--batch: expected 1 or more, got 0");
    let selection = options.device.selection();
    let selection =
        selection.context("--device cpu: expected a GPU; the CPU reference is no measure")?;
    let subject = Subject::find(options.model.as_deref())?;
    let bench = NetworkBench {
        selection: &selection,
        tensor_cores: options.device.tensor_cores,
        sizes: &options.size,
        batch,
        rounds,
    };
    let (report, adapter) = bench.measure(subject)?;
    Ok(Record { provenance: Provenance::now(&adapter), report: Report::Network(report) })
}

fn print_json(report: &Report) -> anyhow::Result<()> {
    match report {
        Report::Layers(report) => say!("{}", serde_json::to_string(report)?),
        Report::Network(report) => say!("{}", serde_json::to_string(report)?),
    }
    Ok(())
}

fn print_markdown(record: &Record, wide: bool) {
    say!("{}", record.provenance.in_markdown());
    let tables = match &record.report {
        Report::Layers(report) if wide => report.tables(true),
        Report::Layers(report) => vec![report.means()],
        Report::Network(report) => vec![report.table()],
    };
    for table in tables {
        say!("\n{}", markdown(table));
    }
}

fn print(record: &Record, options: &Options) {
    if options.show.is_some() {
        say!("{}", record.provenance.in_words());
    }
    match &record.report {
        Report::Layers(report) => {
            say!("{}", report.heading());
            for table in report.tables(options.wide) {
                say!("{table}");
            }
        }
        Report::Network(report) => {
            say!("{}\n{}\n{}", report.heading(), report.table(), report.note());
        }
    }
}

/// Names the files that were written.
fn print_files(options: &Options) {
    if let Some(file) = &options.plot {
        say!("Drawn in {file}.");
    }
    if let Some(file) = &options.record {
        say!("Recorded in {file}.");
    }
}
