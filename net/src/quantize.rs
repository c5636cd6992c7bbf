//! Whole networks from floats to DSConv: which convolutions, how many bits each, and what it costs.

use crate::calibrate::{Convolve, Walk};
use crate::graph::{Graph, WeightsId, descriptor};
use crate::{Error, Result};
use dsconv::{ConvDescriptor, DsConvWeights, FloatWeights, Method, Quantizer, Weights};

/// How a network's convolutions become DSConv.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// Bits of a weight, 2 to 8, where nothing else says otherwise.
    pub bits: u8,
    /// Input channels that share a scale.
    pub block: u32,
    /// How integers and scales are found.
    pub method: Method,
    /// Names of layers that stay floats, with `*` and `?`.
    pub keep_float: Vec<String>,
    /// Bits of the layers whose name matches, the first pattern that does.
    pub overrides: Vec<(String, u8)>,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            bits: 4,
            block: 32,
            method: Method::MinMse,
            keep_float: Vec::new(),
            overrides: Vec::new(),
        }
    }
}

/// What a convolution became.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerReport {
    /// The node's name.
    pub name: String,
    /// The geometry.
    pub descriptor: ConvDescriptor,
    /// Bits of a weight; `None` for one that stayed float.
    pub bits: Option<u8>,
    /// Bytes as floats, without bias.
    pub float_bytes: u64,
    /// Bytes now: integers and shifts, or floats.
    pub bytes: u64,
    /// Signal to noise of the weights, in dB; `None` for floats.
    pub weight_snr: Option<f64>,
}

/// What automatic widths aim at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Bytes of all convolutions' weights together, at most.
    Bytes(u64),
    /// Signal to noise of every layer's output, in dB, at least (as far as 8 bits go).
    Snr(f64),
}

/// Quantises every float convolution that gets smaller by it: not depthwise ones, nor what the options
/// keep. `progress` hears of every layer: its number, how many there are, its name.
///
/// # Errors
/// Options out of range, or a pattern that matches no layer.
pub fn quantize(
    graph: &Graph,
    options: &QuantizeOptions,
    mut progress: impl FnMut(usize, usize, &str),
) -> Result<Graph> {
    let mut quantized = graph.clone();
    let layers = candidates(graph, options)?;
    for (number, (name, id, floats)) in layers.iter().enumerate() {
        progress(number, layers.len(), name);
        quantized.set_weights(*id, with_bits(options, floats, bits_of(options, name))?)?;
    }
    Ok(quantized)
}

/// The network's convolutions as they are now, beside the floats that they came from.
pub fn report(floats: &Graph, graph: &Graph) -> Vec<LayerReport> {
    let layers = floats.convolutions().zip(graph.convolutions());
    layers
        .map(|((node, before), (_, after))| {
            let (before, after) = (floats.weights(before), graph.weights(after));
            let descriptor = descriptor(after);
            let float_bytes = 4 * descriptor.weight_count() as u64;
            let (bits, bytes, weight_snr) = match (before.as_ref(), after.as_ref()) {
                (_, Weights::Float(_)) => (None, float_bytes, None),
                (before, Weights::DsConv(weights)) => {
                    let snr = match before {
                        Weights::Float(floats) => weight_snr(floats, weights),
                        Weights::DsConv(_) => None,
                    };
                    (Some(weights.format().bits()), bytes(weights), snr)
                }
            };
            LayerReport {
                name: node.name.clone(),
                descriptor,
                bits,
                float_bytes,
                bytes,
                weight_snr,
            }
        })
        .collect()
}

/// Widths 2 to 8 for every layer that [`quantize`] would quantise, as overrides, from the error that each
/// width makes at the layer's output when the float network runs on `samples` (each the inputs of a run).
///
/// For [`Target::Bytes`] every layer starts at 2 bits, and what is left of the budget goes, bit by bit,
/// where it takes away the most error per byte.
///
/// # Errors
/// No samples, samples that don't fit the network, a target below 2 bits everywhere, or what
/// `convolve` says.
pub fn allocate(
    graph: &Graph,
    options: &QuantizeOptions,
    target: Target,
    samples: &[Vec<Vec<f32>>],
    dims: &[&[usize]],
    convolve: &mut Convolve<'_>,
    mut progress: impl FnMut(usize, usize, &str),
) -> Result<Vec<(String, u8)>> {
    const WIDTHS: std::ops::RangeInclusive<u8> = 2..=8;
    let layers = candidates(graph, options)?;
    // Of each layer: per width, the output's error relative to its signal, and bytes.
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

/// The layers to quantise: name, place and floats.
fn candidates<'a>(
    graph: &'a Graph,
    options: &QuantizeOptions,
) -> Result<Vec<(String, WeightsId, &'a FloatWeights)>> {
    let names: Vec<&str> = graph.convolutions().map(|(node, _)| node.name.as_str()).collect();
    for pattern in options.keep_float.iter().chain(options.overrides.iter().map(|(name, _)| name)) {
        if !names.iter().any(|name| matches(pattern, name)) {
            let some = names.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let expected = format!("the name of a convolution, as {some}");
            return Err(Error::invalid("pattern", expected, pattern));
        }
    }
    let quantizer = |bits| Quantizer::new(bits, options.block);
    quantizer(options.bits)?;
    for &(_, bits) in &options.overrides {
        quantizer(bits)?;
    }
    let layers = graph.convolutions().filter_map(|(node, id)| match graph.weights(id).as_ref() {
        Weights::Float(floats)
            if floats.descriptor().channels_per_group() > 1
                && !options.keep_float.iter().any(|pattern| matches(pattern, &node.name)) =>
        {
            Some((node.name.clone(), id, floats))
        }
        _ => None,
    });
    Ok(layers.collect())
}

fn matches(pattern: &str, name: &str) -> bool {
    wildmatch::WildMatch::new(pattern).matches(name)
}

fn bits_of(options: &QuantizeOptions, name: &str) -> u8 {
    // A name that is a pattern's text means that very layer, whatever signs are in it.
    let found =
        options.overrides.iter().find(|(pattern, _)| pattern == name || matches(pattern, name));
    found.map_or(options.bits, |&(_, bits)| bits)
}

fn with_bits(options: &QuantizeOptions, floats: &FloatWeights, bits: u8) -> Result<DsConvWeights> {
    let quantizer = Quantizer::new(bits, options.block)?.method(options.method);
    let weights = quantizer.weights(floats.descriptor(), floats.values())?;
    Ok(match floats.bias() {
        Some(bias) => weights.with_bias(bias.to_vec())?,
        None => weights,
    })
}

fn bytes(weights: &DsConvWeights) -> u64 {
    let count = weights.descriptor().weight_count() as f64;
    (weights.bits_per_weight() * count / 8.0).ceil() as u64
}

fn weight_snr(floats: &FloatWeights, weights: &DsConvWeights) -> Option<f64> {
    let approximate = weights.dequantize().ok()?;
    Some(dsconv::signal_to_noise_db(floats.values(), approximate.values()))
}
