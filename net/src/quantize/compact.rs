//! What is beside a layer's integers, made small: scales, shifts and biases as halves, depthwise weights as bytes.

use crate::Result;
use dsconv::{DsConvWeights, FloatWeights};
use half::f16;

/// Scales, KDS biases and biases as halves where those have their range; the channel distribution shift becomes part of
/// them.
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

/// Weights of 8 bits with a scale for each channel, and the bias as halves.
pub(super) fn compact_depthwise(floats: &FloatWeights) -> Result<FloatWeights> {
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
