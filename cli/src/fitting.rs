//! The options for fitting a quantised network on samples, and the fit.

use crate::device::Device;
use crate::display::{bytes, size};
use crate::output::tell;
use crate::progress::with_progress;
use crate::samples::{Folder, Samples};
use anyhow::ensure;
use dsconv::gpu::{Layer, LayerOptions};
use dsconv::{Shape, Weights};
use dsconv_net::picture::VIEWS;
use dsconv_net::{Calibrated, Fit, Model, QuantizeOptions, SampleRun, Target};
use std::path::PathBuf;

/// Fewer pictures than this make a worse network.
const ENOUGH: usize = 8;

/// What to fit on which samples, and the aim of automatic widths.
#[derive(clap::Args)]
pub(crate) struct Fitting {
    /// Fit on the pictures of this folder, or on its tensors (*.npy, *.safetensors): 16 do, without labels.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) calibrate: Option<PathBuf>,
    /// Fit the integers to the layers' outputs by GPTQ, or the mean and deviation of each channel alone.
    #[arg(long, value_name = "WHAT", requires = "calibrate", default_value = "gptq")]
    fit: FitName,
    /// Make so many views of each picture: as it is run, whole, and parts of it at random.
    #[arg(long, value_name = "COUNT", requires = "calibrate", default_value_t = usize::from(VIEWS),
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=64))]
    pub(crate) views: usize,
    /// Sweep so many times over the integers that GPTQ found; with few pictures it seldom makes a better network.
    #[arg(long, value_name = "COUNT", requires = "calibrate", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=100))]
    sweeps: u32,
    /// Choose each layer's bits so that the file takes at most this, as 2MB or 900KiB; with --calibrate.
    #[arg(long, value_name = "SIZE", requires = "calibrate", value_parser = size)]
    target_size: Option<u64>,
    /// Choose each layer's bits so that a weight has at most so many in the mean, as 2.5; with --calibrate.
    #[arg(long, value_name = "BITS", requires = "calibrate", conflicts_with = "target_size")]
    mean_bits: Option<f64>,
    /// Choose each layer's bits so that its output has this signal to noise, in dB; with --calibrate.
    #[arg(long, value_name = "DB", requires = "calibrate", conflicts_with_all = ["target_size", "mean_bits"],
          value_parser = decibels)]
    target_snr: Option<f64>,
}

/// What is fitted.
#[derive(Clone, Copy, clap::ValueEnum)]
enum FitName {
    Moments,
    Gptq,
}

/// Parses a signal-to-noise ratio.
fn decibels(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|ratio| (0.0..=200.0).contains(ratio));
    number.ok_or_else(|| format!("expected a ratio from 0 to 200 dB, got {text:?}"))
}

impl Fitting {
    /// Says what few pictures do.
    pub(crate) fn warn(&self, folder: &Folder) {
        let count = folder.paths.len();
        if count < ENOUGH && !folder.tensors {
            tell!(
                "dsconv: {count} pictures to fit on: 16 make a clearly better network, and 4 about double its error"
            );
        }
    }

    /// Quantises a network and fits it on samples.
    pub(crate) fn run(
        &self,
        model: &Model,
        mut how: QuantizeOptions,
        samples: &Samples,
        device: Option<&Device>,
    ) -> anyhow::Result<Calibrated> {
        let graph = &model.graph;
        let (dims, samples) = (samples.dims(), &samples.inputs[..]);
        let mut convolve = |weights: &Weights, shape: Shape, x: &[f32]| match device {
            None => dsconv_net::on_cpu(weights, shape, x),
            Some(device) => on_gpu(device, weights, shape, x),
        };
        let fit = match self.fit {
            FitName::Moments => Fit::Moments,
            FitName::Gptq => Fit::Gptq { method: how.method, sweeps: self.sweeps },
        };
        let memory = dsconv_net::calibration_memory(graph, fit, samples.len() as u64, &dims)?;
        tell!(
            "dsconv: fitting on {} samples takes about {} of memory",
            samples.len(),
            bytes(memory)
        );
        if let Some(target) = self.target(model, &how)? {
            let widths = with_progress("choosing bits", |report| {
                let (convolve, progress) = (&mut convolve, report);
                let run = SampleRun { samples, dims: &dims, convolve, progress };
                Ok(dsconv_net::allocate(graph, &how, (target, fit), run)?)
            })?;
            // What the user named goes first.
            how.overrides.extend(widths);
        }
        let plain = dsconv_net::quantize(graph, &how, |_, _, _| ())?;
        let mut fitted = with_progress("fitting", |report| {
            let (convolve, progress) = (&mut convolve, report);
            let run = SampleRun { samples, dims: &dims, convolve, progress };
            Ok(dsconv_net::calibrate(graph, &plain, fit, run)?)
        })?;
        fitted.graph = dsconv_net::compact(&fitted.graph, &how)?;
        if let Some(size) = self.target_size {
            let got =
                Model { graph: fitted.graph.clone(), ..model.clone() }.to_bytes()?.len() as u64;
            ensure!(got <= size, "target size: expected at most {size} bytes, got {got}");
        }
        Ok(fitted)
    }

    /// The aim of automatic widths, where there is one. A file's size is what the weights may take and the rest.
    fn target(&self, model: &Model, how: &QuantizeOptions) -> anyhow::Result<Option<Target>> {
        Ok(match (self.target_size, self.mean_bits, self.target_snr) {
            (Some(size), ..) => {
                let graph = dsconv_net::quantize(&model.graph, how, |_, _, _| ())?;
                let weights: u64 =
                    dsconv_net::report(&graph, &graph).iter().map(|layer| layer.bytes).sum();
                let layers = graph.convolutions().count() as u64;
                // Fitting gives a bias to layers that have none.
                let without_bias =
                    graph.convolutions().map(|(_, id)| match graph.weights(id).as_ref() {
                        Weights::Float(weights) if weights.bias().is_none() => {
                            weights.descriptor().out_channels
                        }
                        Weights::DsConv(weights) if weights.bias().is_none() => {
                            weights.descriptor().out_channels
                        }
                        _ => 0,
                    });
                let biases: u64 = without_bias.map(|channels| 4 * u64::from(channels)).sum();
                let file = Model { graph, ..model.clone() }.to_bytes()?.len() as u64;
                // Numbers in the header may become longer.
                let rest = file - weights + biases + 128 * layers;
                ensure!(
                    size > rest,
                    "target size: expected more than the {rest} bytes of names, biases and labels, got {size}"
                );
                Some(Target::Bytes(size - rest))
            }
            (_, Some(mean), _) => Some(Target::MeanBits(mean)),
            (.., Some(snr)) => Some(Target::Snr(snr)),
            _ => None,
        })
    }
}

/// Runs a convolution on the GPU.
fn on_gpu(
    device: &Device,
    weights: &Weights,
    shape: Shape,
    x: &[f32],
) -> dsconv_net::Result<Vec<f32>> {
    // What weights are fitted to is no place for halves.
    let device = device.in_floats();
    let layer = Layer::new(&device.pipelines, weights, LayerOptions::default())?;
    Ok(pollster::block_on(layer.run(&device.gpu.queue, shape, x, &[]))?)
}
