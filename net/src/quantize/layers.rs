//! A network's layers from floats to DSConv: which of them, how many bits each, and what it costs.

use super::compact::{compact_depthwise, compact_layer};
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
    /// Whether scales and biases stay 32-bit floats, and depthwise weights floats. Else [`compact`](crate::compact)
    /// rounds them.
    pub full_shifts: bool,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            bits: 4,
            block: 32,
            method: Method::MinMse,
            keep_float: Vec::new(),
            overrides: Vec::new(),
            full_shifts: false,
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
    /// Bytes in a file, without bias: integers and scales, or floats.
    pub bytes: u64,
    /// Signal to noise of the weights, in dB; `None` for floats.
    pub weight_snr: Option<f64>,
}

/// Quantises the float convolutions that make the network smaller: not depthwise ones, nor what the options keep, nor
/// the smallest ones, as many of them as add less than 1% to the quantised network together, such as the fixed
/// convolution that a detection head of YOLO reads distances with. Those that `overrides` names are quantised however
/// small they are, with `*` all of them. What is beside the integers is [compacted](crate::compact). `progress` hears of every layer: its number, how many there are, its name.
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
    compact(&quantized, options)
}

/// Rounds what a network has beside its integers, for a smaller file: scales, KDS biases and biases to 16-bit floats
/// where those have their range, and the weights of depthwise layers to 8 bits with a scale for each channel. The
/// channel distribution shift becomes part of scales and biases. Layers that the options keep in floats stay as they
/// are, and all do with [`QuantizeOptions::full_shifts`].
///
/// # Errors
/// Weights that leave the range of f32 when their channel distribution shift is folded in.
pub fn compact(graph: &Graph, options: &QuantizeOptions) -> Result<Graph> {
    let mut compacted = graph.clone();
    if options.full_shifts {
        return Ok(compacted);
    }
    for (node, id) in graph.convolutions() {
        let weights: Weights = match graph.weights(id).as_ref() {
            Weights::DsConv(weights) => compact_layer(weights)?.into(),
            Weights::Float(floats)
                if floats.descriptor().channels_per_group() == 1
                    && !is_kept(options, &node.name) =>
            {
                compact_depthwise(floats)?.into()
            }
            Weights::Float(_) => continue,
        };
        compacted.set_weights(id, weights)?;
    }
    Ok(compacted)
}

/// The network's convolutions as they are now, beside the floats that they came from.
pub fn report(floats: &Graph, graph: &Graph) -> Vec<LayerReport> {
    let layers = floats.convolutions().zip(graph.convolutions());
    layers
        .map(|((node, before), (_, after))| {
            let (before, after) = (floats.weights(before), graph.weights(after));
            let descriptor = descriptor(after);
            let (bits, weight_snr) = match (before.as_ref(), after.as_ref()) {
                (_, Weights::Float(_)) => (None, None),
                (Weights::Float(floats), Weights::DsConv(weights)) => {
                    (Some(weights.format().bits()), weight_snr(floats, weights))
                }
                (_, Weights::DsConv(weights)) => (Some(weights.format().bits()), None),
            };
            LayerReport {
                name: node.name.clone(),
                descriptor,
                bits,
                float_bytes: 4 * descriptor.weight_count() as u64,
                bytes: dsconv::stored_bytes(after),
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
            if floats.descriptor().channels_per_group() > 1 && !is_kept(options, &node.name) =>
        {
            Some((node.name.clone(), id, floats))
        }
        _ => None,
    });
    Ok(without_small(graph, options, layers.collect()))
}

/// Leaves out the smallest layers that the options don't name, as many as add less than 1% to the network together.
/// Packing them gains next to nothing, and a single weight of theirs can matter much: 16 of them turn a head's
/// distributions into distances.
fn without_small<'a>(
    graph: &'a Graph,
    options: &QuantizeOptions,
    layers: Vec<(String, WeightsId, &'a FloatWeights)>,
) -> Vec<(String, WeightsId, &'a FloatWeights)> {
    let mut network: u64 = report(graph, graph).iter().map(|layer| layer.bytes).sum();
    let mut gains = Vec::new();
    for (name, id, floats) in &layers {
        let gain = gain(options, floats, bits_of(options, name));
        network = network.saturating_sub(gain);
        if !named(options, name) {
            gains.push((gain, *id));
        }
    }
    gains.sort_by_key(|&(gain, id)| (gain, id.0));
    let mut added = 0;
    let small = gains.into_iter().take_while(|(gain, _)| {
        added += gain;
        100 * added < network
    });
    let small: Vec<WeightsId> = small.map(|(_, id)| id).collect();
    layers.into_iter().filter(|(_, id, _)| !small.contains(id)).collect()
}

/// The bytes that a layer takes less with so many bits.
fn gain(options: &QuantizeOptions, floats: &FloatWeights, bits: u8) -> u64 {
    let descriptor = floats.descriptor();
    let count = descriptor.weight_count() as u64;
    let [height, width] = descriptor.kernel.map(u64::from);
    let blocks = descriptor.channels_per_group().div_ceil(options.block);
    let scales = u64::from(blocks) * u64::from(descriptor.out_channels) * height * width;
    (4 * count).saturating_sub((count * u64::from(bits)).div_ceil(8) + 4 * scales)
}

/// Says whether the options give a layer bits of its own.
fn named(options: &QuantizeOptions, name: &str) -> bool {
    options.overrides.iter().any(|(pattern, _)| pattern == name || matches(pattern, name))
}

/// Says whether the options keep a layer in floats.
pub(crate) fn is_kept(options: &QuantizeOptions, name: &str) -> bool {
    options.keep_float.iter().any(|pattern| matches(pattern, name))
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

fn weight_snr(floats: &FloatWeights, weights: &DsConvWeights) -> Option<f64> {
    let approximate = weights.dequantize().ok()?;
    Some(dsconv::signal_to_noise_db(floats.values(), approximate.values()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::graph::{AutoPad, Channels, Input, Kind, Node, Op, Output, ValueId};
    use std::sync::Arc;

    /// Convolutions in a row, from so many channels to so many.
    fn network(layers: &[(&str, u32, u32)]) -> Graph {
        let mut rng = fastrand::Rng::new();
        let mut graph = Graph {
            values: (0..=layers.len()).map(|value| format!("v{value}")).collect(),
            inputs: vec![Input {
                name: "v0".into(),
                dims: vec![None; 4],
                kind: Kind::Float,
                value: ValueId(0),
            }],
            outputs: vec![Output { name: "y".into(), dims: None, value: ValueId(layers.len()) }],
            ..Graph::default()
        };
        for (index, &(name, inputs, outputs)) in layers.iter().enumerate() {
            let descriptor = ConvDescriptor::new(inputs, outputs, [1, 1]);
            let values = (0..descriptor.weight_count()).map(|_| rng.f32() - 0.5).collect();
            let weights = FloatWeights::new(descriptor, values).unwrap();
            graph.weights.push(Arc::new(weights.into()));
            graph.nodes.push(Node {
                name: name.into(),
                op: Op::Conv {
                    weights: WeightsId(index),
                    auto_pad: AutoPad::None,
                    channels: Channels::First,
                },
                inputs: vec![ValueId(index)],
                output: ValueId(index + 1),
            });
        }
        graph
    }

    fn bits(graph: &Graph, options: &QuantizeOptions) -> Vec<Option<u8>> {
        let quantized = quantize(graph, options, |_, _, _| ()).unwrap();
        report(graph, &quantized).iter().map(|layer| layer.bits).collect()
    }

    #[test]
    fn the_smallest_layers_stay_floats_unless_named() {
        let graph =
            network(&[("stem", 8, 64), ("body", 64, 256), ("out", 256, 16), ("dfl", 16, 1)]);
        let mut options = QuantizeOptions::default();
        assert_eq!(bits(&graph, &options), [Some(4), Some(4), Some(4), None]);
        for pattern in ["dfl", "*"] {
            options.overrides = vec![(pattern.into(), 5)];
            assert_eq!(bits(&graph, &options)[3], Some(5), "{pattern}");
        }
    }

    #[test]
    fn many_small_layers_add_less_than_a_hundredth() {
        // Each of 200 is far below 1%, all of them are the network.
        let graph = network(&[("layer", 32, 32); 200]);
        let options = QuantizeOptions::default();
        let kept = bits(&graph, &options).iter().filter(|bits| bits.is_none()).count();
        let size = |options: &QuantizeOptions| -> u64 {
            let quantized = quantize(&graph, options, |_, _, _| ()).unwrap();
            report(&graph, &quantized).iter().map(|layer| layer.bytes).sum()
        };
        let all = QuantizeOptions { overrides: vec![("*".into(), 4)], ..options.clone() };
        assert!(kept < 10 && size(&options) < size(&all) * 101 / 100, "{kept}");
    }
}
