use crate::device::{Device, DeviceChoice};
use crate::display::{bytes, progress, table};
use crate::timing::{medians, ms};
use crate::verify::{FLOAT_BOUND, worst_error};
use anyhow::{Context, ensure};
use dsconv::gpu::{Layer, LayerOptions, MemoryUse, Tensors, download, upload};
use dsconv::{
    ConvDescriptor, DsConvWeights, Error, LayerFile, Reference, Shape, Weights, WeightsRef,
    reference,
};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// EfficientNet-Lite0's convolutions in network order; see the README beside it.
const MODEL: &[u8] = include_bytes!("../models/efficientnet-lite0-i4.safetensors");
/// The size of the pictures that the network was trained on.
const PICTURE: u32 = 224;

/// What one layer gave.
struct Row {
    name: String,
    input: Shape,
    descriptor: ConvDescriptor,
    floats: u64,
    packed: u64,
    measured: Measured,
}

enum Measured {
    /// Error as a share of the magnitude, time of the f32 kernel and of DSConv's.
    Gpu {
        error: f64,
        float_time: Duration,
        time: Duration,
    },
    Cpu(Duration),
}

/// Runs every dense convolution of the network on random activations.
pub(crate) fn run(choice: DeviceChoice) -> anyhow::Result<ExitCode> {
    let device = match Device::open(&choice) {
        // Without a choice of the user's, the demo runs on what there is.
        Err(error @ Error::NoAdapter(_)) if choice == DeviceChoice::Best => {
            println!("{error}. Running on the CPU reference instead.");
            None
        }
        opened => opened?,
    };
    let layers = dense_layers()?;
    println!(
        "EfficientNet-Lite0, {} dense convolutions, 4-bit weights in blocks of 32, on {}",
        layers.len(),
        device.as_ref().map_or("the CPU reference (f64, plain loops)".into(), Device::describe),
    );
    let progress = progress(layers.len())?;
    let mut rows = Vec::new();
    for (name, weights, input) in layers {
        progress.set_message(name.clone());
        let floats = weights.dequantize()?;
        let descriptor = *weights.descriptor();
        let mut rng = fastrand::Rng::with_seed(rows.len() as u64);
        let x: Vec<f32> = (0..input.elements()).map(|_| rng.f32() * 6.0).collect();
        let started = Instant::now();
        let expected = reference::convolve(&weights, input, &x)?;
        let measured = match &device {
            None => Measured::Cpu(started.elapsed()),
            Some(device) => {
                measure(device, (&weights).into(), (&floats).into(), input, &x, &expected)
                    .with_context(|| name.clone())?
            }
        };
        let (floats, packed) = (MemoryUse::of_layer(&floats), MemoryUse::of_layer(&weights));
        rows.push(Row {
            name,
            input,
            descriptor,
            floats: floats.total(),
            packed: packed.total(),
            measured,
        });
        progress.inc(1);
    }
    progress.finish_and_clear();
    if let Some(device) = &device {
        device.save_cache()?;
    }
    print(&rows);
    let within =
        |row: &Row| !matches!(row.measured, Measured::Gpu { error, .. } if error > FLOAT_BOUND);
    let failed = rows.iter().filter(|row| !within(row)).count();
    ensure!(failed == 0, "{failed} layers are out of bounds, {FLOAT_BOUND:.0e} of the magnitude");
    if device.is_some() {
        println!(
            "Every layer within {FLOAT_BOUND:.0e} of the magnitude (sum of |w||x|) of the f64 reference."
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The DSConv layers of the model, each with the shape of its input in the network.
fn dense_layers() -> anyhow::Result<Vec<(String, DsConvWeights, Shape)>> {
    let mut shape = Shape::new(1, 3, PICTURE, PICTURE);
    let mut layers = Vec::new();
    // The network is a chain as far as sizes go: what its residual adds join has one shape.
    for (name, weights) in LayerFile::from_bytes(MODEL)?.layers {
        let output = WeightsRef::from(&weights).descriptor().output_shape(shape)?;
        if let Weights::DsConv(weights) = weights {
            layers.push((name, weights, shape));
        }
        shape = output;
    }
    Ok(layers)
}

/// Runs a layer in both weight formats: error of the packed one, and times, measured in turn.
fn measure(
    device: &Device,
    weights: WeightsRef<'_>,
    floats: WeightsRef<'_>,
    input: Shape,
    x: &[f32],
    expected: &Reference,
) -> anyhow::Result<Measured> {
    let gpu = &device.gpu;
    let layer = Layer::new(&device.pipelines, weights, LayerOptions::default())?;
    let float_layer = Layer::new(&device.pipelines, floats, LayerOptions::default())?;
    let x = upload(&gpu.device, "input", wgpu::BufferUsages::STORAGE, x)?;
    let output = || {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        upload(&gpu.device, "output", usage, &vec![f32::NAN; expected.values.len()])
    };
    let (y, float_y) = (output()?, output()?);
    let tensors = |y| Tensors { input: x.slice(..), residual: None, output: y };
    let plan = layer.plan(input, tensors(y.slice(..)))?;
    let float_plan = float_layer.plan(input, tensors(float_y.slice(..)))?;

    let times = medians(device, &[&float_plan, &plan], 5)?;
    let values = pollster::block_on(download(&gpu.device, &gpu.queue, y.slice(..)))?;
    let error = worst_error(values.iter().map(|&y| f64::from(y)), &expected.values, expected)?;
    Ok(Measured::Gpu { error, float_time: times[0], time: times[1] })
}

fn print(rows: &[Row]) {
    let on_gpu = rows.iter().any(|row| matches!(row.measured, Measured::Gpu { .. }));
    let geometry = |row: &Row| {
        let ConvDescriptor { in_channels, out_channels, kernel, stride, .. } = row.descriptor;
        let (kernel, stride) = (kernel[0], stride[0]);
        format!("{in_channels}x{out_channels} k{kernel} s{stride} @{}", row.input.height)
    };
    let ms = |time: Duration| format!("{:.2}", ms(time));
    let ratio = |a: f64, b: f64| format!("{:.2}x", a / b);
    let mut header = vec!["layer", "geometry", "f32", "DSConv", "smaller"];
    match on_gpu {
        true => header.extend(["error", "f32 ms", "DSConv ms", "faster"]),
        false => header.push("reference ms"),
    }
    let mut out = table(&header);
    let (mut floats, mut packed, mut worst) = (0, 0, 0.0f64);
    let (mut float_total, mut total) = (Duration::ZERO, Duration::ZERO);
    for row in rows {
        floats += row.floats;
        packed += row.packed;
        let mut cells = vec![
            row.name.clone(),
            geometry(row),
            bytes(row.floats),
            bytes(row.packed),
            ratio(row.floats as f64, row.packed as f64),
        ];
        match row.measured {
            Measured::Cpu(time) => {
                total += time;
                cells.push(ms(time));
            }
            Measured::Gpu { error, float_time, time } => {
                worst = worst.max(error);
                float_total += float_time;
                total += time;
                let faster = ratio(float_time.as_secs_f64(), time.as_secs_f64());
                cells.extend([format!("{error:.1e}"), ms(float_time), ms(time), faster]);
            }
        }
        out.add_row(cells);
    }
    let mut cells = vec!["total".into(), String::new(), bytes(floats), bytes(packed)];
    cells.push(ratio(floats as f64, packed as f64));
    match on_gpu {
        true => {
            let faster = ratio(float_total.as_secs_f64(), total.as_secs_f64());
            cells.extend([format!("{worst:.1e}"), ms(float_total), ms(total), faster]);
        }
        false => cells.push(ms(total)),
    }
    out.add_row(cells);
    println!("{out}");
}
