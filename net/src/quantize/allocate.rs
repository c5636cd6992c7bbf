//! Automatic widths: how many bits each layer gets, for a size or for a signal-to-noise ratio.

use super::layers::{QuantizeOptions, bytes, candidates, report, with_bits};
use super::walk::{SampleRun, Walk};
use crate::ir::graph::Graph;
use crate::{Error, Result};
use dsconv::Weights;

/// The aim of automatic widths.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Bytes of all convolutions' weights together, at most.
    Bytes(u64),
    /// Signal to noise of every layer's output, in dB, at least (as far as 8 bits go).
    Snr(f64),
}

/// Chooses a width of 2 to 8 bits for every layer that [`quantize`](crate::quantize()) would quantise, from the error
/// that each width makes at the layer's output when the float network runs on samples. The result is meant for
/// [`QuantizeOptions::overrides`].
///
/// For [`Target::Bytes`] every layer starts at 2 bits, and what is left of the budget goes, bit by bit,
/// where it takes away the most error per byte.
///
/// # Errors
/// No samples, samples that don't fit the network, a target below 2 bits everywhere, or what the run's
/// `convolve` says.
pub fn allocate(
    graph: &Graph,
    options: &QuantizeOptions,
    target: Target,
    run: SampleRun<'_>,
) -> Result<Vec<(String, u8)>> {
    let SampleRun { samples, dims, convolve, progress } = run;
    const WIDTHS: std::ops::RangeInclusive<u8> = 2..=8;
    let layers = candidates(graph, options)?;
    // For each layer and width: the output's error relative to its signal, and bytes.
    let mut costs: Vec<Vec<(f64, u64)>> = vec![Vec::new(); layers.len()];
    let mut walk = Walk::new(graph, samples, dims)?;
    let mut done = 0;
    while let Some(step) = walk.next_convolution(convolve)? {
        let Some(index) = layers.iter().position(|(name, ..)| *name == step.name) else {
            walk.finish_convolution(None)?;
            continue;
        };
        progress(done, layers.len(), &step.name);
        done += 1;
        let Weights::Float(floats) = step.weights else {
            walk.finish_convolution(None)?;
            continue;
        };
        for bits in WIDTHS {
            let weights = with_bits(options, floats, bits)?;
            let bytes = bytes(&weights);
            let weights = Weights::DsConv(weights);
            let (mut noise, mut signal) = (0.0, f64::MIN_POSITIVE);
            for (x, y) in &step.runs {
                let approximate = convolve(&weights, step.input, x)?;
                for (&y, &a) in y.iter().zip(&approximate) {
                    noise += f64::from(y - a).powi(2);
                    signal += f64::from(y).powi(2);
                }
            }
            costs[index].push((noise / signal, bytes));
        }
        walk.finish_convolution(None)?;
    }
    // Layers that the samples never reach cost nothing, and keep the default.
    let reached: Vec<usize> = (0..layers.len()).filter(|&i| !costs[i].is_empty()).collect();
    let mut width = vec![0usize; layers.len()];
    match target {
        Target::Snr(snr) => {
            let most = 10f64.powf(-snr / 10.0);
            for &i in &reached {
                let enough = costs[i].iter().position(|&(error, _)| error <= most);
                width[i] = enough.unwrap_or(costs[i].len() - 1);
            }
        }
        Target::Bytes(budget) => {
            let kept: u64 = report(graph, graph)
                .iter()
                .filter(|layer| !reached.iter().any(|&i| layers[i].0 == layer.name))
                .map(|layer| layer.bytes)
                .sum();
            let mut total = kept + reached.iter().map(|&i| costs[i][0].1).sum::<u64>();
            if total > budget {
                return Err(Error::invalid(
                    "target size",
                    format!("at least {total} bytes, what 2 bits take"),
                    budget,
                ));
            }
            loop {
                // The next width may be no better than this one: then look further.
                let steps = reached.iter().flat_map(|&i| {
                    let (error, bytes) = costs[i][width[i]];
                    let costs = &costs[i];
                    (width[i] + 1..costs.len()).map(move |to| {
                        (i, to, (error - costs[to].0) / (costs[to].1 - bytes).max(1) as f64)
                    })
                });
                let fits = |&(i, to, _): &(usize, usize, f64)| {
                    total - costs[i][width[i]].1 + costs[i][to].1 <= budget
                };
                let best = steps.filter(fits).max_by(|a, b| a.2.total_cmp(&b.2));
                let Some((i, to, _)) = best.filter(|best| best.2 > 0.0) else { break };
                total = total - costs[i][width[i]].1 + costs[i][to].1;
                width[i] = to;
            }
        }
    }
    Ok(reached.iter().map(|&i| (layers[i].0.clone(), WIDTHS.start() + width[i] as u8)).collect())
}
