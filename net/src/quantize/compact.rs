//! What is beside the integers, made small: scales, shifts and biases as halves, depthwise weights as bytes.

use super::layers::{QuantizeOptions, is_kept};
use crate::Result;
use crate::ir::graph::Graph;
use dsconv::{DsConvWeights, FloatWeights, Weights};
use half::f16;

/// Rounds what a network has beside its integers, for a smaller file: scales, KDS biases and biases to 16-bit floats
/// where those have their range, and the weights of depthwise layers to 8 bits with a scale for each channel. The
/// channel distribution shift becomes part of scales and biases. Layers that the options keep in floats stay as they
/// are.
///
/// # Errors
/// Weights that leave the range of f32 when their channel distribution shift is folded in.
pub fn compact(graph: &Graph, options: &QuantizeOptions) -> Result<Graph> {
    let mut compacted = graph.clone();
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

pub(super) fn compact_layer(weights: &DsConvWeights) -> Result<DsConvWeights> {
    let folded = weights.fold_cds()?;
    let q: Vec<i32> = folded.q().iter().map(|&q| q.into()).collect();
    let alpha = halves(folded.alpha(), f16::MIN_POSITIVE);
    let mut compacted =
        DsConvWeights::from_integers(*folded.descriptor(), *folded.format(), &q, alpha)?;
    if let Some(kds_bias) = folded.kds_bias() {
        compacted = compacted.with_kds_bias(halves(kds_bias, f16::ZERO))?;
    }
    Ok(match folded.bias() {
        Some(bias) => compacted.with_bias(halves(bias, f16::ZERO))?,
        None => compacted,
    })
}

fn compact_depthwise(floats: &FloatWeights) -> Result<FloatWeights> {
    let rounded = floats.clone().to_int8_channels();
    Ok(match floats.bias() {
        Some(bias) => rounded.with_bias(halves(bias, f16::ZERO))?,
        None => rounded,
    })
}

/// The values as halves, or as they are where one is too large, or neither 0 nor at least as large as `least`, below
/// which halves lose digits.
fn halves(values: &[f32], least: f16) -> Vec<f32> {
    let fits = |v: &f32| *v == 0.0 || (v.abs() >= least.to_f32() && f16::from_f32(*v).is_finite());
    match values.iter().all(fits) {
        true => values.iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
        false => values.to_vec(),
    }
}
