//! A network's layers from floats to DSConv: which of them, how many bits each, and what it costs.

use crate::ir::graph::{Graph, WeightsId, descriptor};
use crate::{Error, Result};
use dsconv::{ConvDescriptor, DsConvWeights, FloatWeights, Method, Quantizer, Weights};

/// The options for turning a network's convolutions into DSConv.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// Bits of a weight, 2 to 8, where nothing else says otherwise.
    pub bits: u8,
    /// Input channels that share a scale.
    pub block: u32,
    /// The method that finds integers and scales.
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

/// The outcome for a convolution.
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
    /// Bytes now: integers and scales, or floats.
    pub bytes: u64,
    /// Signal to noise of the weights, in dB; `None` for floats.
    pub weight_snr: Option<f64>,
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

/// The layers to quantise: name, weights' place and floats.
pub(crate) fn candidates<'a>(
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

/// The quantised weights of a layer.
pub(crate) fn with_bits(
    options: &QuantizeOptions,
    floats: &FloatWeights,
    bits: u8,
) -> Result<DsConvWeights> {
    let quantizer = Quantizer::new(bits, options.block)?.method(options.method);
    let weights = quantizer.weights(floats.descriptor(), floats.values())?;
    Ok(match floats.bias() {
        Some(bias) => weights.with_bias(bias.to_vec())?,
        None => weights,
    })
}

/// Bytes of a layer's integers and scales.
pub(crate) fn bytes(weights: &DsConvWeights) -> u64 {
    let count = weights.descriptor().weight_count() as f64;
    (weights.bits_per_weight() * count / 8.0).ceil() as u64
}

fn weight_snr(floats: &FloatWeights, weights: &DsConvWeights) -> Option<f64> {
    let approximate = weights.dequantize().ok()?;
    Some(dsconv::signal_to_noise_db(floats.values(), approximate.values()))
}
