//! `dsconv quantize`: an ONNX file becomes a model file with DSConv weights.

use crate::device::OnDevice;
use crate::display::bytes;
use crate::fitting::Fitting;
use crate::layer_table::{layer_table, rows};
use crate::network;
use crate::output::{say, tell};
use crate::overwrite::{Kind, Overwrite};
use crate::preset::PictureOptions;
use crate::progress::with_progress;
use crate::samples::{Folder, Taker};
use crate::weight_options::WeightOptions;
use anyhow::{Context, ensure};
use dsconv::Weights;
use dsconv_net::{Calibrated, Model, QuantizeOptions};
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
    #[command(flatten)]
    fitting: Fitting,
    /// Keep scales and biases as 32-bit floats and depthwise weights as floats, for a larger file.
    #[arg(long)]
    full_shifts: bool,
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

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let mut model = network::read(&options.input)?;
    let folder = options.fitting.calibrate.as_deref().map(Folder::list).transpose()?;
    let samples = folder.iter().flat_map(|folder| &folder.paths);
    let inputs = [&options.input].into_iter().chain(&options.labels).chain(samples);
    let inputs = inputs.map(PathBuf::as_path);
    options.overwrite.check(&options.output, Kind::Safetensors, inputs)?;
    if let Some(path) = &options.labels {
        model.labels = Some(network::read_labels(path)?);
    }
    let how = QuantizeOptions {
        full_shifts: options.full_shifts,
        bits: options.weights.bits,
        block: options.weights.block,
        method: options.weights.method(),
        keep_float: options.keep_float.clone(),
        overrides: options.layer.clone(),
    };
    let name = || options.input.display().to_string();
    options.pictures.apply(&mut model).with_context(name)?;
    if let Some(path) = &options.labels {
        check_labels(&model).with_context(|| path.display().to_string())?;
    }
    check_runs(&model, folder.is_some()).with_context(name)?;
    settle_quantized(&mut model, options.requantize).with_context(name)?;
    let Calibrated { graph, layers: fitted, .. } = match &folder {
        None => with_progress("quantising", |report| {
            Ok(dsconv_net::quantize(&model.graph, &how, report)?.into())
        })
        .with_context(name)?,
        Some(folder) => {
            let samples = folder
                .read(Taker { model: &model, file: &options.input }, options.fitting.views)?;
            options.fitting.warn(folder);
            let device = options.device.open_or_cpu()?;
            let fitted = options.fitting.run(&model, how.clone(), &samples, device.as_ref())?;
            if let Some(device) = &device {
                device.save_cache();
            }
            fitted
        }
    };
    let layers = dsconv_net::report(&model.graph, &graph);
    let written = Model { graph, ..model };
    written.write(&options.output)?;
    let size = std::fs::metadata(&options.output).map_or(0, |file| file.len());
    match options.json {
        true => say!("{}", serde_json::to_string(&rows(&layers, &fitted))?),
        false => {
            say!("{}", layer_table(&layers, &fitted));
            say!("Wrote {}, {}.", options.output.display(), bytes(size));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses names of classes that are more or fewer than the scores that a classifier gives: each would name another
/// class.
fn check_labels(model: &Model) -> anyhow::Result<()> {
    let (Some(labels), Some(pictures), None) =
        (&model.labels, &model.preprocessing, &model.detection)
    else {
        return Ok(());
    };
    // Where it can't be run, another check says so.
    let Ok(program) = model.graph.specialise(&[&pictures.dims()]) else { return Ok(()) };
    let [output] = program.outputs() else { return Ok(()) };
    let (classes, got) = (program.value(*output).elements(), labels.len());
    let scores = program.value(*output).dims.iter().filter(|&&dim| dim != 1).count() <= 1;
    ensure!(!scores || got == classes, "expected the names of {classes} classes, got {got}");
    Ok(())
}

/// Opens the layers that are quantised already to be quantised again, or says that they stay.
fn settle_quantized(model: &mut Model, requantize: bool) -> anyhow::Result<()> {
    let graph = &model.graph;
    let packed = |id| matches!(graph.weights(id).as_ref(), Weights::DsConv(_));
    let count = graph.convolutions().filter(|(_, id)| packed(*id)).count();
    if requantize {
        model.graph = network::floats_of(graph)?;
    } else if count > 0 {
        tell!(
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
                tell!(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_bits() {
        assert_eq!(layer_bits("a=b=8"), Ok(("a=b".into(), 8)));
        assert!(layer_bits("head").is_err());
    }
}
