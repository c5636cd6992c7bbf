//! Automatic widths: how many bits each layer gets, for a size, a mean width or a signal-to-noise ratio.

use super::calibrate::{DAMPING, Fit};
use super::compact::compact_layer;
use super::gptq::{Errors, Layer, Rounding, Solver};
use super::layers::{QuantizeOptions, candidates, compact, report, with_bits};
use super::walk::{SampleRun, Walk};
use crate::ir::graph::Graph;
use crate::{Error, Result};
use dsconv::{BlockFormat, DsConvWeights, FloatWeights, Weights, stored_bytes};

/// The aim of automatic widths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Bytes of all convolutions' weights together, at most, as [`LayerReport::bytes`](crate::LayerReport) counts them
    /// after [`compact`](crate::compact).
    Bytes(u64),
    /// Bits of a weight, at most in the mean over all that are quantised, without their scales.
    MeanBits(f64),
    /// Signal to noise of every layer's output, in dB, at least (as far as 8 bits go).
    Snr(f64),
}

const WIDTHS: std::ops::RangeInclusive<u8> = 2..=8;

/// The bits at which a layer's error is followed to the network's outputs.
const PROBED: u8 = 3;

/// As many samples are followed.
const FOLLOWED: usize = 8;

/// What a width costs a layer.
#[derive(Clone, Copy)]
struct Cost {
    /// The error of the layer's output, relative to its variance.
    error: f64,
    /// The error that this makes of the network's outputs.
    far: f64,
    /// Bytes of weights and scales.
    bytes: u64,
    /// Bits of all weights.
    bits: u64,
}

/// A layer that gets a width: its name, and what each width costs it.
type Candidate = (String, Vec<Cost>);

/// Chooses a width of 2 to 8 bits for every layer that [`quantize`](crate::quantize()) would quantise, from the error
/// that each width makes at the layer's output when the float network runs on samples and the layer is fitted by `fit`.
/// The result is meant for [`QuantizeOptions::overrides`].
///
/// For a size or a mean width every layer starts at 2 bits, and what is left of the budget goes, bit by bit, where it
/// takes away the most error of the network's outputs for its size. For that each layer alone is quantised to 3 bits,
/// and a few samples are followed to the end.
///
/// # Errors
/// No samples, samples that don't fit the network, a target below 2 bits everywhere, or what the run's
/// `convolve` says.
pub fn allocate(
    graph: &Graph,
    options: &QuantizeOptions,
    (target, fit): (Target, Fit),
    run: SampleRun<'_>,
) -> Result<Vec<(String, u8)>> {
    let layers = costs(graph, options, fit, run)?;
    let total =
        |size: fn(&Cost) -> u64| layers.iter().map(|(_, costs)| size(&costs[0])).sum::<u64>();
    let widths = match target {
        Target::Snr(snr) => {
            let most = 10f64.powf(-snr / 10.0);
            let enough = |(_, costs): &Candidate| {
                costs.iter().position(|cost| cost.error <= most).unwrap_or(costs.len() - 1)
            };
            layers.iter().map(enough).collect()
        }
        Target::Bytes(budget) => {
            let is_chosen = |name: &str| layers.iter().any(|(layer, _)| layer == name);
            let others = report(graph, &compact(graph, options)?);
            let others = others.into_iter().filter(|layer| !is_chosen(&layer.name));
            let kept: u64 = others.map(|layer| layer.bytes).sum();
            let least = kept + total(|cost| cost.bytes);
            if least > budget {
                let expected = format!("at least {least} bytes, what 2 bits take");
                return Err(Error::invalid("target size", expected, budget));
            }
            spend(&layers, budget - least, |cost| cost.bytes)
        }
        Target::MeanBits(mean) => {
            if !(2.0..=8.0).contains(&mean) {
                return Err(Error::invalid("mean bits", "2 to 8", mean));
            }
            let least = total(|cost| cost.bits);
            let budget = (least as f64 * mean / f64::from(*WIDTHS.start())).floor() as u64;
            spend(&layers, budget - least, |cost| cost.bits)
        }
    };
    let chosen = layers.iter().zip(widths);
    Ok(chosen.map(|((name, _), width)| (name.clone(), WIDTHS.start() + width as u8)).collect())
}

/// What each width costs each layer that the samples reach.
fn costs(
    graph: &Graph,
    options: &QuantizeOptions,
    fit: Fit,
    run: SampleRun<'_>,
) -> Result<Vec<Candidate>> {
    let SampleRun { samples, dims, convolve, progress } = run;
    let names: Vec<String> =
        candidates(graph, options)?.into_iter().map(|(name, ..)| name).collect();
    let mut walk = Walk::new(graph, samples, dims)?;
    let thin = samples.len().div_ceil(FOLLOWED);
    let outputs = walk.thinned(thin).finish(convolve)?;
    let mut costs = Vec::new();
    while let Some(step) = walk.next_convolution()? {
        walk.convolve(&step, &step.weights, convolve)?;
        if let Weights::Float(floats) = step.weights.as_ref()
            && names.contains(&step.name)
        {
            progress(costs.len(), names.len(), &step.name);
            let layer = Layer::new(floats, &step, walk.outputs());
            let solver = Solver::new(&layer, DAMPING);
            let width = |bits: u8| width(options, floats, (solver.as_ref(), fit), bits);
            let made = WIDTHS.map(width).collect::<Result<Vec<_>>>()?;
            let probed = &made[usize::from(PROBED - WIDTHS.start())];
            let mut probe = walk.thinned(thin);
            let step = probe.next_convolution()?.unwrap_or(step);
            probe.convolve(&step, &probed.weights.clone().into(), convolve)?;
            probe.finish_convolution(None)?;
            let far = distance(&probe.finish(convolve)?, &outputs);
            // Errors are small enough to grow alike.
            let weight = far / probed.errors.seen.max(f64::MIN_POSITIVE);
            let cost = |width: Width| -> Result<Cost> {
                let bits =
                    u64::from(width.weights.format().bits()) * width.weights.q().len() as u64;
                let stored = match options.full_shifts {
                    true => width.weights,
                    false => compact_layer(&width.weights)?,
                };
                let far = weight * width.errors.expected;
                Ok(Cost {
                    error: width.errors.seen,
                    far,
                    bytes: stored_bytes(&stored.into()),
                    bits,
                })
            };
            costs.push((step.name.clone(), made.into_iter().map(cost).collect::<Result<_>>()?));
        }
        walk.finish_convolution(None)?;
    }
    Ok(costs)
}

/// A layer's weights at some width, and the errors of its output.
struct Width {
    weights: DsConvWeights,
    errors: Errors,
}

fn width(
    options: &QuantizeOptions,
    floats: &FloatWeights,
    (solver, fit): (Option<&Solver>, Fit),
    bits: u8,
) -> Result<Width> {
    if let (Some(solver), Fit::Gptq { method, .. }) = (solver, fit) {
        let format = BlockFormat::new(bits, options.block)?;
        let how = Rounding { format, kds_bias: false, method, sweeps: 0 };
        let (weights, errors) = solver.fit(&how)?;
        return Ok(Width { weights, errors });
    }
    let weights = with_bits(options, floats, bits)?;
    let errors = match solver {
        Some(solver) => solver.errors(&weights.dequantize()?),
        // Too few pixels to say more.
        None => {
            let error = weight_error(floats, &weights)?;
            Errors { seen: error, expected: error }
        }
    };
    Ok(Width { weights, errors })
}

/// The squared difference of outputs, relative to what they are away from their mean, over all samples.
fn distance(got: &[Vec<f32>], wanted: &[Vec<f32>]) -> f64 {
    let (mut noise, mut signal) = (0.0, f64::MIN_POSITIVE);
    for (got, wanted) in got.iter().zip(wanted) {
        let mean = wanted.iter().map(|&w| f64::from(w)).sum::<f64>() / wanted.len().max(1) as f64;
        for (&got, &wanted) in got.iter().zip(wanted) {
            noise += f64::from(got - wanted).powi(2);
            signal += (f64::from(wanted) - mean).powi(2);
        }
    }
    noise / signal
}

/// The squared error of weights, relative to their squares.
fn weight_error(floats: &FloatWeights, weights: &DsConvWeights) -> Result<f64> {
    let approximate = weights.dequantize()?;
    let snr = dsconv::signal_to_noise_db(floats.values(), approximate.values());
    Ok(10f64.powf(-snr / 10.0))
}

/// Spends a budget of what `size` counts on wider layers: for each the number of its width.
fn spend(layers: &[Candidate], mut budget: u64, size: fn(&Cost) -> u64) -> Vec<usize> {
    let mut widths = vec![0; layers.len()];
    loop {
        // The next width may be no better than this one: then look further.
        let steps =
            layers.iter().zip(&widths).enumerate().flat_map(|(layer, ((_, costs), &at))| {
                let now = costs[at];
                costs.iter().enumerate().skip(at + 1).map(move |(to, cost)| {
                    let more = size(cost).saturating_sub(size(&now));
                    (layer, to, more, (now.far - cost.far) / more.max(1) as f64)
                })
            });
        let best = steps.filter(|step| step.2 <= budget).max_by(|a, b| a.3.total_cmp(&b.3));
        let Some((layer, to, more, _)) = best.filter(|best| best.3 > 0.0) else { return widths };
        budget -= more;
        widths[layer] = to;
    }
}
