//! `dsconv yolov9`: the network of a description in yaml, counted as YOLO programs count it, and as a model file.

use crate::display::{bytes, table};
use crate::network::read_labels;
use crate::output::say;
use crate::overwrite::{Kind, Overwrite};
use crate::progress::with_progress;
use crate::weight_options::WeightOptions;
use crate::yolov9_model::{describe, model};
use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table};
use dsconv_net::yolov9::{Architecture, GraphOutputs, Part};
use dsconv_net::{LayerReport, QuantizeOptions};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Print the modules of a network with their parameters, and the sums.
    Summary(SummaryOptions),
    /// Make a model file of a network and its weights, with DSConv convolutions.
    Build(Box<BuildOptions>),
}

#[derive(clap::Args)]
pub(crate) struct SummaryOptions {
    /// Count the network of this description; without one, yolov9-c with two DSConv layers.
    yaml: Option<PathBuf>,
    /// Count so many classes, instead of the description's.
    #[arg(long)]
    nc: Option<usize>,
    /// Count the operations for a picture with sides of so many pixels.
    #[arg(long, default_value_t = 640)]
    size: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct BuildOptions {
    /// Write this model file, *.safetensors.
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Build the network of this description; without one, yolov9-c with two DSConv layers.
    #[arg(long, value_name = "FILE")]
    yaml: Option<PathBuf>,
    /// Build it for so many classes, instead of the description's.
    #[arg(long)]
    nc: Option<usize>,
    /// Take the weights of this file: a PyTorch state dict in safetensors, with tensors as model.1.conv.weight.
    #[arg(long, value_name = "FILE", group = "source")]
    weights: Option<PathBuf>,
    /// Take random weights by this seed, scaled as training would leave them: for benchmarks.
    #[arg(long, value_name = "SEED", group = "source")]
    random: Option<u64>,
    /// Make these convolutions DSConv.
    #[arg(long, default_value = "all")]
    dsconv: DsconvLayers,
    #[command(flatten)]
    quantization: WeightOptions,
    /// Leave out the auxiliary branch, which only training needs.
    #[arg(long)]
    deploy: bool,
    /// Fit pictures into a square with sides of so many pixels.
    #[arg(long, default_value_t = 640)]
    size: u32,
    /// Keep the names of the classes of this file, one a line, in the model file.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum DsconvLayers {
    /// The layers that the description names DSConv2D, as in the article.
    Article,
    /// All dense convolutions.
    All,
    /// No convolution.
    None,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Summary(options) => summary(options),
        Command::Build(options) => build(options),
    }
}

fn check_size(network: &Architecture, size: u32) -> anyhow::Result<()> {
    let stride = network.stride();
    ensure!(
        size > 0 && size.is_multiple_of(stride) && size <= 1 << 14,
        "--size: expected a multiple of {stride} up to 16384, got {size}"
    );
    Ok(())
}

fn summary(options: &SummaryOptions) -> anyhow::Result<ExitCode> {
    let size = options.size;
    let (network, name) = describe(options.yaml.as_deref(), options.nc)?;
    check_size(&network, size)?;
    let summary = network.summary([size; 2]);
    let (deployed, deployed_flops) = network.cost(GraphOutputs::Deployable, [size; 2]);
    if options.json {
        let module = |(index, layer): (usize, &dsconv_net::yolov9::ResolvedLayer)| {
            serde_json::json!({
                "index": index, "from": layer.from, "n": layer.copies, "params": layer.parameters,
                "module": layer.module, "arguments": layer.arguments,
            })
        };
        let report = serde_json::json!({
            "name": name, "classes": network.classes(), "size": size,
            "layers": summary.layers, "parameters": summary.parameters, "gradients": summary.gradients,
            "counted_flops": summary.counted_flops, "flops": summary.flops,
            "deployed_parameters": deployed, "deployed_flops": deployed_flops,
            "modules": network.layers().iter().enumerate().map(module).collect::<Vec<_>>(),
        });
        say!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = table(&["", "from", "n", "params", "module", "arguments"]);
    for column in out.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    for (index, layer) in network.layers().iter().enumerate() {
        out.add_row([
            index.to_string(),
            layer.from.clone(),
            layer.copies.to_string(),
            layer.parameters.to_string(),
            layer.module.clone(),
            layer.arguments.clone(),
        ]);
    }
    say!("{out}");
    let giga = |flops: u64| format!("{:.1} GFLOPs", flops as f64 / 1e9);
    say!(
        "{name} summary: {} layers, {} parameters, {} gradients, {}",
        summary.layers,
        summary.parameters,
        summary.gradients,
        giga(summary.counted_flops)
    );
    if summary.flops != summary.counted_flops {
        say!("With its DSConv2D layers, which that count leaves out: {}.", giga(summary.flops));
    }
    say!(
        "Deployed, without the auxiliary branch and with norms folded: {deployed} parameters, {}.",
        giga(deployed_flops)
    );
    Ok(ExitCode::SUCCESS)
}

fn build(options: &BuildOptions) -> anyhow::Result<ExitCode> {
    let inputs = [&options.yaml, &options.weights, &options.labels];
    let inputs = inputs.into_iter().flatten().map(PathBuf::as_path);
    options.overwrite.check(&options.output, Kind::Safetensors, inputs)?;
    let (network, _) = describe(options.yaml.as_deref(), options.nc)?;
    check_size(&network, options.size)?;
    let labels = options.labels.as_deref().map(read_labels).transpose()?;
    if let Some(labels) = &labels {
        ensure!(
            labels.len() == network.classes(),
            "--labels: expected {} names, got {}",
            network.classes(),
            labels.len()
        );
    }
    let outputs = if options.deploy { GraphOutputs::Deployable } else { GraphOutputs::Training };
    let keep_float = kept(&network, outputs, options.dsconv)?;
    let floats = match (&options.weights, options.random) {
        (Some(path), _) => {
            let file = path.display().to_string();
            ensure!(
                path.extension().is_some_and(|e| e == "safetensors"),
                "{file}: expected a state dict named *.safetensors; docs/yolov9.md has the line that makes one of a .pt"
            );
            let bytes = std::fs::read(path).with_context(|| file.clone())?;
            network.load(outputs, &file, &bytes)?
        }
        (None, seed) => with_progress("random", |report| {
            let seed = seed.unwrap_or_default();
            Ok(network.random(outputs, seed, &mut dsconv_net::on_cpu, report)?)
        })?,
    };
    let how = QuantizeOptions {
        full_shifts: false,
        bits: options.quantization.bits,
        block: options.quantization.block,
        method: options.quantization.method(),
        keep_float,
        // Small ones too: these layers were asked for.
        overrides: vec![("*".into(), options.quantization.bits)],
    };
    let graph = match options.dsconv {
        DsconvLayers::None => floats.clone(),
        _ => {
            with_progress("quantising", |report| Ok(dsconv_net::quantize(&floats, &how, report)?))?
        }
    };
    let layers = dsconv_net::report(&floats, &graph);
    drop(floats);
    model(graph, options.size, labels).write(&options.output)?;
    let parts = parts(&network, &layers);
    match options.json {
        true => say!("{}", serde_json::to_string(&parts)?),
        false => {
            say!("{}", part_table(&parts));
            let size = std::fs::metadata(&options.output).map_or(0, |file| file.len());
            say!("Wrote {}, {}.", options.output.display(), bytes(size));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The convolutions that stay floats.
fn kept(
    network: &Architecture,
    outputs: GraphOutputs,
    choice: DsconvLayers,
) -> anyhow::Result<Vec<String>> {
    if choice != DsconvLayers::Article {
        return Ok(Vec::new());
    }
    let wanted = network.dsconv_layers(outputs);
    ensure!(
        !wanted.is_empty(),
        "--dsconv article: the description's DSConv2D layers are none, or in the auxiliary branch \
         that --deploy leaves out"
    );
    let others = network.convolutions(outputs).into_iter().filter(|name| !wanted.contains(name));
    Ok(others.map(String::from).collect())
}

/// The convolutions of a part of the network.
#[derive(serde::Serialize)]
struct Row {
    part: &'static str,
    convolutions: usize,
    dsconv: usize,
    float_bytes: u64,
    bytes: u64,
}

/// The memory that the parts' weights take, and their sum.
fn parts(network: &Architecture, layers: &[LayerReport]) -> Vec<Row> {
    let of: Vec<Option<Part>> = layers.iter().map(|layer| network.part(&layer.name)).collect();
    let row = |name, part: Option<Part>| {
        let layers = || {
            let all = layers.iter().zip(&of);
            all.filter(|(_, of)| part.is_none() || **of == part).map(|(layer, _)| layer)
        };
        Row {
            part: name,
            convolutions: layers().count(),
            dsconv: layers().filter(|layer| layer.bits.is_some()).count(),
            float_bytes: layers().map(|layer| layer.float_bytes).sum(),
            bytes: layers().map(|layer| layer.bytes).sum(),
        }
    };
    let parts = [
        ("backbone", Part::Backbone),
        ("neck", Part::Neck),
        ("detection", Part::Detection),
        ("auxiliary", Part::Auxiliary),
    ];
    let mut rows: Vec<Row> = parts
        .into_iter()
        .map(|(name, part)| row(name, Some(part)))
        .filter(|row| row.convolutions > 0)
        .collect();
    rows.push(row("total", None));
    rows
}

fn part_table(rows: &[Row]) -> Table {
    let mut out = table(&["part", "convolutions", "DSConv", "f32", "now", "smaller"]);
    for row in rows {
        out.add_row([
            row.part.to_owned(),
            row.convolutions.to_string(),
            row.dsconv.to_string(),
            bytes(row.float_bytes),
            bytes(row.bytes),
            format!("{:.2}x", row.float_bytes as f64 / row.bytes.max(1) as f64),
        ]);
    }
    out
}
