//! `dsconv yolov9`: the network of a yaml, counted as YOLO programs count it, and as a model file.

use crate::display::{bytes, table};
use crate::quantize::{MethodName, labels, with_bar};
use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table};
use dsconv::Method;
use dsconv_net::detect::{Detector, Head};
use dsconv_net::yolov9::{Architecture, Description, GraphOutputs, Part};
use dsconv_net::{Graph, LayerReport, Model, QuantizeOptions};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The article's network; see the README beside it.
const YAML: &str = dsconv_net::yolov9::YOLOV9_C_DSCONV;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Print the modules of a network with their parameters, and the sums.
    Summary {
        /// The network's description; without one, yolov9-c with two DSConv layers.
        yaml: Option<PathBuf>,
        /// Number of classes, instead of the description's.
        #[arg(long)]
        nc: Option<usize>,
        /// Side of the picture that operations are counted for.
        #[arg(long, default_value_t = 640)]
        size: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a model file of a network and its weights, with DSConv convolutions.
    Build(Box<Options>),
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct Options {
    /// The model file to write, *.safetensors.
    output: PathBuf,
    /// The network's description; without one, yolov9-c with two DSConv layers.
    #[arg(long, value_name = "FILE")]
    yaml: Option<PathBuf>,
    /// Number of classes, instead of the description's.
    #[arg(long)]
    nc: Option<usize>,
    /// Weights: a PyTorch state dict in safetensors, with tensors as model.1.conv.weight.
    #[arg(long, value_name = "FILE", group = "source")]
    weights: Option<PathBuf>,
    /// Random weights by this seed, scaled as training would leave them: for benchmarks.
    #[arg(long, value_name = "SEED", group = "source")]
    random: Option<u64>,
    /// Which convolutions become DSConv.
    #[arg(long, default_value = "all")]
    dsconv: Choice,
    /// Bits of a weight, 2 to 8.
    #[arg(long, default_value_t = 4)]
    bits: u8,
    /// Input channels that share a scale.
    #[arg(long, default_value_t = 32)]
    block: u32,
    /// How integers and scales are found.
    #[arg(long, default_value = "min-mse")]
    method: MethodName,
    /// Leave out the auxiliary branch, which only training needs.
    #[arg(long)]
    deploy: bool,
    /// Side of the square that pictures are fitted into, in pixels.
    #[arg(long, default_value_t = 640)]
    size: u32,
    /// Names of the classes, one a line, to keep in the model file.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Choice {
    /// Those that the description names DSConv2D.
    Article,
    /// All dense ones.
    All,
    /// None.
    None,
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Summary { yaml, nc, size, json } => summary(yaml.as_deref(), *nc, *size, *json),
        Command::Build(options) => build(options),
    }
}

/// The network of a description, and its name.
fn network(yaml: Option<&Path>, classes: Option<usize>) -> anyhow::Result<(Architecture, String)> {
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

fn check_size(network: &Architecture, size: u32) -> anyhow::Result<()> {
    let stride = network.stride();
    ensure!(
        size > 0 && size.is_multiple_of(stride) && size <= 1 << 14,
        "--size: expected a multiple of {stride} up to 16384, got {size}"
    );
    Ok(())
}

fn summary(
    yaml: Option<&Path>,
    classes: Option<usize>,
    size: u32,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let (network, name) = network(yaml, classes)?;
    check_size(&network, size)?;
    let summary = network.summary([size; 2]);
    let (deployed, deployed_flops) = network.cost(GraphOutputs::Deployable, [size; 2]);
    if json {
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
        println!("{report}");
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
    println!("{out}");
    let giga = |flops: u64| format!("{:.1} GFLOPs", flops as f64 / 1e9);
    println!(
        "{name} summary: {} layers, {} parameters, {} gradients, {}",
        summary.layers,
        summary.parameters,
        summary.gradients,
        giga(summary.counted_flops)
    );
    if summary.flops != summary.counted_flops {
        println!("With its DSConv2D layers, which that count leaves out: {}.", giga(summary.flops));
    }
    println!(
        "Deployed, without the auxiliary branch and with norms folded: {deployed} parameters, {}.",
        giga(deployed_flops)
    );
    Ok(ExitCode::SUCCESS)
}

fn build(options: &Options) -> anyhow::Result<ExitCode> {
    ensure!(
        options.output.extension().is_some_and(|e| e == "safetensors"),
        "{}: expected a name that ends in .safetensors",
        options.output.display()
    );
    let (network, _) = network(options.yaml.as_deref(), options.nc)?;
    check_size(&network, options.size)?;
    let labels = options.labels.as_deref().map(labels).transpose()?;
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
                "{file}: expected a state dict named *.safetensors; the README has the line that makes one of a .pt"
            );
            let bytes = std::fs::read(path).with_context(|| file.clone())?;
            network.load(outputs, &file, &bytes)?
        }
        (None, seed) => with_bar("random", |report| {
            let seed = seed.unwrap_or_default();
            Ok(network.random(outputs, seed, &mut dsconv_net::on_cpu, report)?)
        })?,
    };
    let how = QuantizeOptions {
        bits: options.bits,
        block: options.block,
        method: options.method.into(),
        keep_float,
        overrides: Vec::new(),
    };
    let graph = match options.dsconv {
        Choice::None => floats.clone(),
        _ => with_bar("quantising", |report| Ok(dsconv_net::quantize(&floats, &how, report)?))?,
    };
    let layers = dsconv_net::report(&floats, &graph);
    drop(floats);
    model(graph, options.size, labels).write(&options.output)?;
    let parts = parts(&network, &layers);
    match options.json {
        true => println!("{}", serde_json::to_string(&parts)?),
        false => {
            println!("{}", part_table(&parts));
            let size = std::fs::metadata(&options.output).map_or(0, |file| file.len());
            println!("Wrote {}, {}.", options.output.display(), bytes(size));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The convolutions that stay floats.
fn kept(
    network: &Architecture,
    outputs: GraphOutputs,
    choice: Choice,
) -> anyhow::Result<Vec<String>> {
    if choice != Choice::Article {
        return Ok(Vec::new());
    }
    let wanted = network.dsconv_layers(outputs);
    ensure!(
        !wanted.is_empty(),
        "--dsconv article: the description's DSConv2D layers are none, or in the auxiliary branch that --deploy leaves out"
    );
    let others = network.convolutions(outputs).into_iter().filter(|name| !wanted.contains(name));
    Ok(others.map(String::from).collect())
}

/// A model of the graph, with what its pictures become and how its boxes are read.
fn model(graph: Graph, size: u32, labels: Option<Vec<String>>) -> Model {
    let head = Head::Yolov9;
    let preprocessing = Some(head.preprocessing([size; 2]));
    Model { graph, preprocessing, labels, detection: Some(Detector::new(head)) }
}

/// yolov9-c as it is deployed, with random weights of 4 bits in blocks of 32: for benchmarks.
pub(crate) fn random_model() -> anyhow::Result<Model> {
    let (network, _) = network(None, None)?;
    let floats = with_bar("random", |report| {
        Ok(network.random(GraphOutputs::Deployable, 1, &mut dsconv_net::on_cpu, report)?)
    })?;
    // Which integers does not matter for time: the quickest method.
    let how = QuantizeOptions { method: Method::SignedExtreme, ..QuantizeOptions::default() };
    let graph = with_bar("quantising", |report| Ok(dsconv_net::quantize(&floats, &how, report)?))?;
    Ok(model(graph, 640, None))
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

/// What the parts' weights take, and their sum.
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
