use crate::device::{Device, DeviceChoice};
use crate::display::{progress, table};
use crate::layers::{LayerSpec, network};
use crate::timing::{has_timestamps, medians, ms};
use anyhow::Context;
use dsconv::gpu::{ActivationFormat, Layer, LayerOptions, MemoryUse, Plan, Tensors, upload};
use dsconv::{ActivationScale, Layout, Quantizer, WeightsRef};
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
    /// Bits of the weights.
    #[arg(long, default_value_t = 8)]
    bits: u8,
    /// Channels of a block.
    #[arg(long, default_value_t = 32)]
    block: u32,
    /// Times each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    device: String,
    /// What times come from: `gpu timestamps` or `wall`.
    clock: &'static str,
    bits: u8,
    block: u32,
    layers: Vec<Row>,
    geomean: Ratios,
}

/// One layer. Ratios are f32 time over DSConv time; bytes are weights with their shifts.
#[derive(serde::Serialize)]
struct Row {
    layer: String,
    f32_ms: f64,
    weight_only_ms: f64,
    /// With integer activations that are there already, as behind another layer.
    int8_ms: f64,
    /// Making them of floats.
    quantize_ms: f64,
    weight_only_ratio: f64,
    int8_ratio: f64,
    f32_gops: f64,
    weight_only_gops: f64,
    int8_gops: f64,
    f32_bytes: u64,
    dsconv_bytes: u64,
}

#[derive(serde::Serialize)]
struct Ratios {
    weight_only: f64,
    int8: f64,
    /// With the time of making integer activations added.
    int8_and_quantize: f64,
}

/// Measures layers: f32, DSConv weights with float activations, and with integer activations.
pub(crate) fn run(choice: &DeviceChoice, options: &Options) -> anyhow::Result<ExitCode> {
    let device = Device::open(choice)?.context("--device cpu: benchmarks need a GPU adapter")?;
    let specs = match options.conv.is_empty() {
        true => network(&options.layers, options.size)?,
        false => options.conv.clone(),
    };
    let progress = progress(specs.len())?;
    let mut rows = Vec::new();
    for spec in &specs {
        progress.set_message(spec.name.clone());
        rows.push(measure(&device, spec, options).with_context(|| spec.name.clone())?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    device.save_cache()?;
    let geomean = |ratio: fn(&Row) -> f64| {
        (rows.iter().map(|row| ratio(row).ln()).sum::<f64>() / rows.len() as f64).exp()
    };
    let geomean = Ratios {
        weight_only: geomean(|row| row.weight_only_ratio),
        int8: geomean(|row| row.int8_ratio),
        int8_and_quantize: geomean(|row| row.f32_ms / (row.int8_ms + row.quantize_ms)),
    };
    let (bits, block) = (options.bits, options.block);
    let clock = if has_timestamps(&device) { "gpu timestamps" } else { "wall" };
    let report = Report { device: device.describe(), clock, bits, block, layers: rows, geomean };
    match options.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => report.print(),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(device: &Device, spec: &LayerSpec, options: &Options) -> anyhow::Result<Row> {
    let LayerSpec { descriptor, input, .. } = spec;
    let mut rng = fastrand::Rng::with_seed(1);
    let values: Vec<f32> = (0..descriptor.weight_count()).map(|_| rng.f32() - 0.5).collect();
    let weights = Quantizer::new(options.bits, options.block)?.weights(descriptor, &values)?;
    let floats = weights.dequantize()?;
    let output = descriptor.output_shape(*input)?;
    let (storage, gpu) = (wgpu::BufferUsages::STORAGE, &device.gpu.device);
    let x: Vec<f32> = (0..input.elements()).map(|_| rng.f32() - 0.5).collect();
    let x = upload(gpu, "input", storage, &x)?;
    let y = upload(gpu, "output", storage, &vec![0.0f32; output.elements()])?;
    let layer = |weights: WeightsRef<'_>, input_format| {
        let (input_layout, output_layout) = (Layout::Nhwc, Layout::Nhwc);
        let options =
            LayerOptions { input_format, input_layout, output_layout, ..LayerOptions::default() };
        Layer::new(&device.pipelines, weights, options)
    };
    let float_layer = layer((&floats).into(), ActivationFormat::Float)?;
    let weight_only_layer = layer((&weights).into(), ActivationFormat::Float)?;
    let int8_layer = layer((&weights).into(), ActivationFormat::Int8)?;
    let int8 = LayerOptions { input_format: ActivationFormat::Int8, ..LayerOptions::default() };
    let words = MemoryUse::of_plan(&weights, *input, &int8)?.input as usize / 4;
    let integers = upload(gpu, "integers", storage, &vec![0u32; words])?;
    let plan = |layer: &Layer, x: &wgpu::Buffer| -> Result<Plan, dsconv::Error> {
        layer.plan(*input, Tensors { input: x.slice(..), residual: None, output: y.slice(..) })
    };
    let scale = ActivationScale::PowerOfTwo;
    let plans = [
        int8_layer.plan_quantization(*input, scale, x.slice(..), integers.slice(..))?,
        plan(&float_layer, &x)?,
        plan(&weight_only_layer, &x)?,
        plan(&int8_layer, &integers)?,
    ];
    let times = medians(device, &plans.each_ref(), options.rounds)?;
    let [quantize_ms, f32_ms, weight_only_ms, int8_ms] = [0, 1, 2, 3].map(|i| ms(times[i]));
    let gops = |ms: f64| 2e-6 * descriptor.multiply_adds(output) as f64 / ms;
    Ok(Row {
        layer: spec.name.clone(),
        f32_ms,
        weight_only_ms,
        int8_ms,
        quantize_ms,
        weight_only_ratio: f32_ms / weight_only_ms,
        int8_ratio: f32_ms / int8_ms,
        f32_gops: gops(f32_ms),
        weight_only_gops: gops(weight_only_ms),
        int8_gops: gops(int8_ms),
        f32_bytes: float_layer.memory_use().total(),
        dsconv_bytes: weight_only_layer.memory_use().total(),
    })
}

impl Report {
    fn print(&self) {
        let Self { bits, block, device, clock, .. } = self;
        println!("{bits}-bit weights in blocks of {block}, on {device}, times by {clock}");
        let mut out = table(&[
            "layer",
            "f32 ms",
            "GOP/s",
            "weight-only ms",
            "GOP/s",
            "faster",
            "int8 ms",
            "GOP/s",
            "faster",
            "quantise ms",
            "smaller",
        ]);
        for row in &self.layers {
            out.add_row([
                row.layer.clone(),
                format!("{:.2}", row.f32_ms),
                format!("{:.1}", row.f32_gops),
                format!("{:.2}", row.weight_only_ms),
                format!("{:.1}", row.weight_only_gops),
                format!("{:.2}x", row.weight_only_ratio),
                format!("{:.2}", row.int8_ms),
                format!("{:.1}", row.int8_gops),
                format!("{:.2}x", row.int8_ratio),
                format!("{:.2}", row.quantize_ms),
                format!("{:.2}x", row.f32_bytes as f64 / row.dsconv_bytes as f64),
            ]);
        }
        println!("{out}");
        let Ratios { weight_only, int8, int8_and_quantize } = &self.geomean;
        println!(
            "Geometric mean over f32: weight-only {weight_only:.2}x, int8 {int8:.2}x, int8 with quantising its input {int8_and_quantize:.2}x"
        );
    }
}
