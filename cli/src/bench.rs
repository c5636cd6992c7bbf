mod chart;
mod measure;
mod roofline;

use crate::device::{self, Device, DeviceChoice};
use crate::display::{progress, table};
use crate::layers::{LayerSpec, network};
use crate::plot::PlotFile;
use crate::timing::has_timestamps;
use anyhow::Context;
use dsconv_net::gpu::Activations;
use measure::{Measured, Row};
use roofline::Roofline;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The layers of a network: yolov9-c or efficientnet-lite0.
    #[arg(long, value_name = "NETWORK", default_value = "yolov9-c")]
    layers: String,
    /// A layer, as 64x128k3s1@80x80 (input and output channels, kernel, stride, input); can be repeated.
    #[arg(long, value_name = "LAYER", conflicts_with = "layers")]
    conv: Vec<LayerSpec>,
    /// Side of the picture that the network's layers are scaled to.
    #[arg(long)]
    size: Option<u32>,
    /// Bits of the weights; several, as 8,4,2, are measured in turn.
    #[arg(long, default_value = "8", value_delimiter = ',')]
    bits: Vec<u8>,
    /// Channels of a block.
    #[arg(long, default_value_t = 32)]
    block: u32,
    /// Times each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure which kernel is the fastest for each layer, instead of choosing by rule. Kept for the next time.
    #[arg(long)]
    tune: bool,
    /// Print a second table: operations, bytes, arithmetic intensity and GOP/s of each layer.
    #[arg(long)]
    wide: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Draw ratios by layer, and the layers below the roofline: *.svg or *.png.
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotFile>,
}

#[derive(serde::Serialize)]
struct Report {
    device: String,
    /// What times come from: `gpu timestamps` or `wall`.
    clock: &'static str,
    roofline: Roofline,
    block: u32,
    /// A layer with weights of one width each.
    layers: Vec<Row>,
    /// Over all of `layers`.
    geomean: Ratios,
    /// For each width.
    widths: Vec<Width>,
}

/// Geometric means of f32 time over DSConv time.
#[derive(serde::Serialize)]
struct Ratios {
    weight_only: f64,
    int8: f64,
    /// With the time of making integer activations added.
    int8_and_quantize: f64,
}

#[derive(serde::Serialize)]
struct Width {
    bits: u8,
    #[serde(flatten)]
    ratios: Ratios,
    /// Bytes of all weights in f32 over those of DSConv.
    smaller: f64,
}

/// Measures layers: f32, DSConv weights with float activations, and with integer activations.
pub(crate) fn run(choice: &DeviceChoice, options: &Options) -> anyhow::Result<ExitCode> {
    let mut device =
        Device::open(choice)?.context("--device cpu: benchmarks need a GPU adapter")?;
    device.pipelines = device.pipelines_for(Activations::Int8)?;
    let specs = match options.conv.is_empty() {
        true => network(&options.layers, options.size)?,
        false => options.conv.clone(),
    };
    let progress = progress(specs.len() + 1)?;
    progress.set_message("the device's roofline");
    let roofline = Roofline::measure(&device, options.rounds)?;
    progress.inc(1);
    let mut tuner = options.tune.then(|| device::tuner(&device.gpu));
    let mut layers = Vec::new();
    for spec in &specs {
        progress.set_message(spec.name.clone());
        let rows = measure::layer(&device, spec, options, &roofline, &mut tuner);
        layers.extend(rows.with_context(|| spec.name.clone())?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    device.save_cache()?;
    if let Some(tuner) = &tuner {
        device::save_tuner(&device.gpu, tuner)?;
    }
    let width = |&bits: &u8| {
        let rows: Vec<&Row> = layers.iter().filter(|row| row.bits == bits).collect();
        let total = |bytes: fn(&Row) -> u64| rows.iter().map(|row| bytes(row)).sum::<u64>() as f64;
        let smaller = total(|row| row.f32_bytes) / total(|row| row.dsconv_bytes);
        Width { bits, ratios: Ratios::of(&rows), smaller }
    };
    let report = Report {
        device: device.describe(),
        clock: if has_timestamps(&device) { "gpu timestamps" } else { "wall" },
        roofline,
        block: options.block,
        geomean: Ratios::of(&layers.iter().collect::<Vec<_>>()),
        widths: options.bits.iter().map(width).collect(),
        layers,
    };
    if let Some(file) = &options.plot {
        file.write(&report)?;
    }
    match options.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => report.print(options),
    }
    Ok(ExitCode::SUCCESS)
}

impl Ratios {
    fn of(rows: &[&Row]) -> Self {
        let mean = |ratio: fn(&Row) -> f64| {
            (rows.iter().map(|row| ratio(row).ln()).sum::<f64>() / rows.len() as f64).exp()
        };
        Self {
            weight_only: mean(|row| row.ratio(&row.weight_only)),
            int8: mean(|row| row.ratio(&row.int8)),
            int8_and_quantize: mean(|row| row.f32.ms / (row.int8.ms + row.quantize_ms)),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2}x")
}

impl Report {
    fn print(&self, options: &Options) {
        let Self { block, device, clock, roofline, .. } = self;
        println!("Blocks of {block}, on {device}, times by {clock}");
        println!(
            "Roofline: copies {:.1} GB/s; multiply-adds {:.1} GOP/s in f32, {:.1} GOP/s by dot4I8Packed",
            roofline.gb_per_s, roofline.f32_gops, roofline.int8_gops
        );
        println!("{}", self.speed());
        if options.wide {
            println!("{}", self.work());
        }
        println!("{}", self.means());
        if let Some(file) = &options.plot {
            println!("Drawn in {file}.");
        }
    }

    /// The rows, with whether the row before was the same layer with other bits.
    fn rows(&self) -> impl Iterator<Item = (&Row, bool)> {
        let repeated = |i: usize| i > 0 && self.layers[i - 1].layer == self.layers[i].layer;
        self.layers.iter().enumerate().map(move |(i, row)| (row, repeated(i)))
    }

    fn speed(&self) -> comfy_table::Table {
        let mut out = table(&[
            "layer",
            "f32 ms",
            "of roof",
            "bits",
            "weight-only ms",
            "faster",
            "of roof",
            "int8 ms",
            "faster",
            "of roof",
            "quantise ms",
            "smaller",
        ]);
        for (row, repeated) in self.rows() {
            let once = |cell: String| if repeated { String::new() } else { cell };
            let ms = |path: &Measured| format!("{:.2}", path.ms);
            let Row { f32, weight_only, int8, .. } = row;
            out.add_row([
                once(row.layer.clone()),
                once(ms(f32)),
                once(percent(f32.roofline_share)),
                row.bits.to_string(),
                ms(weight_only),
                times(row.ratio(weight_only)),
                percent(weight_only.roofline_share),
                ms(int8),
                times(row.ratio(int8)),
                percent(int8.roofline_share),
                once(format!("{:.2}", row.quantize_ms)),
                times(row.f32_bytes as f64 / row.dsconv_bytes as f64),
            ]);
        }
        out
    }

    fn work(&self) -> comfy_table::Table {
        let mut out = table(&[
            "layer",
            "MOP",
            "f32 MB",
            "OP/B",
            "GOP/s",
            "bits",
            "weight-only MB",
            "OP/B",
            "GOP/s",
            "int8 MB",
            "OP/B",
            "GOP/s",
        ]);
        for (row, repeated) in self.rows() {
            let once = |cell: String| if repeated { String::new() } else { cell };
            let of = |path: &Measured| {
                let mb = format!("{:.2}", path.moved_bytes as f64 / 1e6);
                [mb, format!("{:.0}", path.intensity), format!("{:.1}", path.gops)]
            };
            let first = [row.layer.clone(), format!("{:.1}", 2e-6 * row.multiply_adds as f64)];
            let cells = first.into_iter().chain(of(&row.f32)).map(once);
            let cells = cells.chain([row.bits.to_string()]).chain(of(&row.weight_only));
            out.add_row(cells.chain(of(&row.int8)));
        }
        out
    }

    fn means(&self) -> comfy_table::Table {
        let mut out = table(&[
            "geometric mean over f32",
            "weight-only",
            "int8",
            "int8 with quantising its input",
            "smaller",
        ]);
        for Width { bits, ratios, smaller } in &self.widths {
            out.add_row([
                format!("{bits} bits"),
                times(ratios.weight_only),
                times(ratios.int8),
                times(ratios.int8_and_quantize),
                times(*smaller),
            ]);
        }
        out
    }
}
