//! `dsconv quantize`: an ONNX file becomes a model file with DSConv weights.

use crate::device::{Device, OnDevice};
use crate::display::bytes;
use crate::layer_table::{layer_table, rows};
use crate::network;
use crate::overwrite::{Kind, Overwrite};
use crate::preset::PictureOptions;
use crate::progress::with_progress;
use crate::samples::{Folder, Taker};
use crate::weight_options::WeightOptions;
use anyhow::{Context, ensure};
use dsconv::gpu::{Layer, LayerOptions};
use dsconv::{Shape, Weights};
use dsconv_net::{Model, QuantizeOptions, SampleRun, Target};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Quantise this network: ONNX, or a model file with float weights.
    input: PathBuf,
    /// Write this model file, *.safetensors.
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    #[command(flatten)]
    weights: WeightOptions,
    /// Keep the layers of this name in floats, with * and ?; can be repeated.
    #[arg(long, value_name = "PATTERN")]
    keep_float: Vec<String>,
    /// Give the layers of this name so many bits, with * and ?; can be repeated.
    #[arg(long, value_name = "PATTERN=BITS", value_parser = layer_bits)]
    layer: Vec<(String, u8)>,
    /// Quantise the layers that are quantised already too, again from what their weights are now.
    #[arg(long)]
    requantize: bool,
    /// Fit the channel distribution shift on the pictures of this folder, or on its tensors (*.npy, *.safetensors):
    /// 10 do, without labels.
    #[arg(long, value_name = "FOLDER")]
    calibrate: Option<PathBuf>,
    /// Choose each layer's bits so that all weights take at most this, as 2MB or 900KiB; with --calibrate.
    #[arg(long, value_name = "SIZE", requires = "calibrate", value_parser = size)]
    target_size: Option<u64>,
    /// Choose each layer's bits so that its output has this signal to noise, in dB; with --calibrate.
    #[arg(long, value_name = "DB", requires = "calibrate", conflicts_with = "target_size")]
    target_snr: Option<f64>,
    /// Keep the names of the classes of this file, one a line, in the model file.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    pictures: PictureOptions,
    #[command(flatten)]
    device: OnDevice,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Parses a pattern of names and their bits.
fn layer_bits(text: &str) -> Result<(String, u8), String> {
    let wrong = || format!("expected PATTERN=BITS, as head*=8, got {text:?}");
    let (pattern, bits) = text.rsplit_once('=').ok_or_else(wrong)?;
    Ok((pattern.into(), bits.parse().map_err(|_| wrong())?))
}

/// Parses a number of bytes with a unit.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size, as 2MB, 900KiB or 1500000, got {text:?}");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok((number * unit) as u64)
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    ensure!(
        options.output.extension().is_some_and(|e| e == "safetensors"),
        "{}: expected a name that ends in .safetensors",
        options.output.display()
    );
    let folder = options.calibrate.as_deref().map(Folder::list).transpose()?;
    let samples = folder.iter().flat_map(|folder| &folder.paths);
    let inputs = [&options.input].into_iter().chain(&options.labels).chain(samples);
    let inputs = inputs.map(PathBuf::as_path);
    options.overwrite.check(&options.output, Kind::Safetensors, inputs)?;
    let mut model = network::read(&options.input)?;
    if let Some(path) = &options.labels {
        model.labels = Some(network::read_labels(path)?);
    }
    let mut how = QuantizeOptions {
        bits: options.weights.bits,
        block: options.weights.block,
        method: options.weights.method(),
        keep_float: options.keep_float.clone(),
        overrides: options.layer.clone(),
    };
    let name = || options.input.display().to_string();
    options.pictures.apply(&mut model).with_context(name)?;
    check_runs(&model, folder.is_some()).with_context(name)?;
    settle_quantized(&mut model, options.requantize).with_context(name)?;
    let quantized = match &folder {
        None => with_progress("quantising", |report| {
            Ok(dsconv_net::quantize(&model.graph, &how, report)?)
        })
        .with_context(name)?,
        Some(folder) => {
            let samples = folder.read(Taker { model: &model, file: &options.input })?;
            let (dims, samples) = (samples.dims(), &samples.inputs);
            let device = options.device.open_or_cpu()?;
            let mut convolve = |weights: &Weights, shape: Shape, x: &[f32]| match &device {
                None => dsconv_net::on_cpu(weights, shape, x),
                Some(device) => on_gpu(device, weights, shape, x),
            };
            let target = match (options.target_size, options.target_snr) {
                (Some(size), _) => Some(Target::Bytes(size)),
                (_, Some(snr)) => Some(Target::Snr(snr)),
                _ => None,
            };
            if let Some(target) = target {
                // A few pictures tell the widths' errors apart.
                let few = &samples[..samples.len().min(2)];
                let widths = with_progress("choosing bits", |report| {
                    let (convolve, progress) = (&mut convolve, report);
                    let run = SampleRun { samples: few, dims: &dims, convolve, progress };
                    Ok(dsconv_net::allocate(&model.graph, &how, target, run)?)
                })?;
                // What the user named goes first.
                how.overrides.extend(widths);
            }
            let plain = dsconv_net::quantize(&model.graph, &how, |_, _, _| ())?;
            let calibrated = with_progress("calibrating", |report| {
                let (convolve, progress) = (&mut convolve, report);
                let run = SampleRun { samples, dims: &dims, convolve, progress };
                Ok(dsconv_net::calibrate(&model.graph, &plain, run)?)
            })?;
            if let Some(device) = &device {
                device.save_cache();
            }
            calibrated
        }
    };
    let layers = dsconv_net::report(&model.graph, &quantized);
    let written = Model { graph: quantized, ..model };
    written.write(&options.output)?;
    let size = std::fs::metadata(&options.output).map_or(0, |file| file.len());
    match options.json {
        true => println!("{}", serde_json::to_string(&rows(&layers))?),
        false => {
            println!("{}", layer_table(&layers));
            println!("Wrote {}, {}.", options.output.display(), bytes(size));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the layers that are quantised already to be quantised again, or says that they stay.
fn settle_quantized(model: &mut Model, requantize: bool) -> anyhow::Result<()> {
    let graph = &model.graph;
    let packed = |id| matches!(graph.weights(id).as_ref(), Weights::DsConv(_));
    let count = graph.convolutions().filter(|(_, id)| packed(*id)).count();
    if requantize {
        model.graph = network::floats_of(graph)?;
    } else if count > 0 {
        eprintln!(
            "dsconv: {count} of {} layers are quantised already and stay as they are; --requantize quantises them again",
            graph.convolutions().count()
        );
    }
    Ok(())
}

/// Sizes that a network's open dims are tried with: the first is usual for pictures.
const GUESSES: [usize; 8] = [224, 640, 128, 64, 32, 16, 4, 1];

/// Refuses a network that no run would take. Sizes that its inputs leave open, other than the batch's, are guessed,
/// which is said, unless calibration will know them.
fn check_runs(model: &Model, calibrated: bool) -> anyhow::Result<()> {
    let inputs = model.graph.inputs();
    let with = |size: usize| -> Vec<Vec<usize>> {
        let of = |(place, dim): (usize, &Option<usize>)| {
            dim.unwrap_or(if place == 0 { 1 } else { size })
        };
        inputs.iter().map(|input| input.dims.iter().enumerate().map(of).collect()).collect()
    };
    let open = inputs.iter().any(|input| input.dims.iter().skip(1).any(Option::is_none));
    if open && calibrated {
        return Ok(());
    }
    let (tried, remedy) = match (&model.preprocessing, open) {
        (_, false) => (vec![with(1)], ""),
        (Some(pictures), true) => {
            (vec![vec![pictures.dims()]], "; --size HEIGHTxWIDTH sets another")
        }
        (None, true) => (
            GUESSES.map(with).to_vec(),
            "; --calibrate FOLDER with tensors of its sizes tells them",
        ),
    };
    let mut refused = None;
    for dims in tried {
        let sizes: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        match model.graph.specialise(&sizes) {
            Ok(_) if open => {
                eprintln!(
                    "dsconv: the network leaves sizes of its inputs open; it would run with {dims:?}"
                );
                return Ok(());
            }
            Ok(_) => return Ok(()),
            Err(error) => refused = refused.or(Some((error, dims))),
        }
    }
    let Some((error, dims)) = refused else { return Ok(()) };
    Err(error).with_context(|| match open {
        false => "no run would take this network".into(),
        true => format!(
            "no run would take this network with inputs {dims:?}, a guess of its open sizes{remedy}"
        ),
    })
}

/// Runs a convolution on the GPU.
fn on_gpu(
    device: &Device,
    weights: &Weights,
    shape: Shape,
    x: &[f32],
) -> dsconv_net::Result<Vec<f32>> {
    let layer = Layer::new(&device.pipelines, weights, LayerOptions::default())?;
    Ok(pollster::block_on(layer.run(&device.gpu.queue, shape, x, &[]))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("2MB"), Ok(2_000_000));
        assert_eq!(size("1.5 KiB"), Ok(1536));
        assert_eq!(size("77"), Ok(77));
        for wrong in ["", "MB", "2GBit", "-1"] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(layer_bits("a=b=8"), Ok(("a=b".into(), 8)));
        assert!(layer_bits("head").is_err());
    }
}
