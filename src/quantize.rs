//! From float weights to DSConv weights.

use crate::blocks::{block_members, scale_count};
use crate::error::check_tensor;
use crate::parallel;
use crate::{BlockFormat, ConvDescriptor, DsConvWeights, Partition, Result};

/// How a block's integers and scale are found. Rounding is half to even.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// The weight of largest magnitude (the first of equals) goes to `-2^(bits-1)`, whatever its sign;
    /// alpha is fitted by least squares. The rule of DSConv's authors.
    #[default]
    SignedExtreme,
    /// Symmetric: the largest magnitude goes to `2^(bits-1) - 1`, alpha is the step. For formats that
    /// know nothing else.
    AbsMax,
    /// The step is searched around both rules and refined, alpha fitted by least squares. The error of
    /// a block is never larger than with `SignedExtreme`.
    MinMse,
}

/// Quantises float weights to [`DsConvWeights`].
///
/// ```
/// use dsconv::{ConvDescriptor, Method, Quantizer};
/// let descriptor = ConvDescriptor::new(64, 2, [1, 1]);
/// let floats: Vec<f32> = (0..128).map(|i| (i as f32).sin()).collect();
/// let weights = Quantizer::new(4, 32)?.method(Method::MinMse).weights(&descriptor, &floats)?;
/// assert_eq!(weights.alpha().len(), 2 * 2);
/// # Ok::<(), dsconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Quantizer {
    format: BlockFormat,
    method: Method,
    kds_bias: bool,
}

impl Quantizer {
    /// A quantiser to integers of `bits` bits that share a scale over `block_size` input channels.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) unless `bits` is 2 to 8 and `block_size` at least 1.
    pub fn new(bits: u8, block_size: u32) -> Result<Self> {
        let format = BlockFormat::new(bits, block_size)?;
        Ok(Self { format, method: Method::default(), kds_bias: false })
    }

    /// Another method; the default is [`Method::SignedExtreme`].
    pub const fn method(self, method: Method) -> Self {
        Self { method, ..self }
    }

    /// Another partition; the default is [`Partition::Fixed`].
    pub const fn partition(self, partition: Partition) -> Self {
        Self { format: self.format.with_partition(partition), ..self }
    }

    /// Whether to fit a KDS bias to each block together with alpha, by linear regression; default off.
    pub const fn kds_bias(self, kds_bias: bool) -> Self {
        Self { kds_bias, ..self }
    }

    /// Quantises weights in OIHW order. Logs a warning where the result is no smaller than floats, as
    /// it is for depthwise layers.
    ///
    /// # Errors
    /// A wrong descriptor, a wrong length, a NaN or an infinity.
    pub fn weights(&self, descriptor: &ConvDescriptor, oihw: &[f32]) -> Result<DsConvWeights> {
        descriptor.validate()?;
        check_tensor("weight", descriptor.weight_count(), oihw)?;
        let blocks = parallel::map(scale_count(descriptor, &self.format), |scale| {
            let members = block_members(descriptor, &self.format, scale);
            let values: Vec<f64> = members.map(|index| f64::from(oihw[index])).collect();
            self.block(&values)
        });
        let mut q = vec![0; oihw.len()];
        for (scale, block) in blocks.iter().enumerate() {
            for (index, &value) in block_members(descriptor, &self.format, scale).zip(&block.q) {
                q[index] = value;
            }
        }
        let alpha = blocks.iter().map(|block| block.alpha as f32).collect();
        let mut weights = DsConvWeights::from_integers(*descriptor, self.format, &q, alpha)?;
        if self.kds_bias {
            weights = weights.with_kds_bias(blocks.iter().map(|b| b.kds_bias as f32).collect())?;
        }
        if weights.bits_per_weight() >= 32.0 {
            log::warn!(
                "{} bits a weight with its scales, no less than f32: keep layers with {} channels per group in floats",
                weights.bits_per_weight(),
                descriptor.channels_per_group(),
            );
        }
        Ok(weights)
    }

    /// Quantises one block alone, for callers that choose the order of the blocks themselves. `values` are its
    /// weights.
    pub fn block(&self, values: &[f64]) -> QuantizedBlock {
        let extreme = values.iter().fold(0.0f64, |m, &v| if v.abs() > m.abs() { v } else { m });
        if extreme == 0.0 {
            return QuantizedBlock { q: vec![0; values.len()], alpha: 0.0, kds_bias: 0.0 };
        }
        let (min, max) = (f64::from(self.format.min()), f64::from(self.format.max()));
        let block = match self.method {
            Method::SignedExtreme => self.fit(values, min / extreme),
            Method::AbsMax => {
                let step = extreme.abs() / max;
                QuantizedBlock {
                    q: self.round(values, 1.0 / step, 0.0),
                    alpha: step,
                    kds_bias: 0.0,
                }
            }
            Method::MinMse => self.search(values, min / extreme, max / extreme),
        };
        if self.kds_bias { self.fit_kds_bias(values, block) } else { block }
    }

    fn round(&self, values: &[f64], scale: f64, offset: f64) -> Vec<i32> {
        let (min, max) = (f64::from(self.format.min()), f64::from(self.format.max()));
        let round = |v: &f64| ((v - offset) * scale).round_ties_even().clamp(min, max) as i32;
        values.iter().map(round).collect()
    }

    /// Integers for a scale (one over the step), and the alpha that fits them best.
    fn fit(&self, values: &[f64], scale: f64) -> QuantizedBlock {
        let q = self.round(values, scale, 0.0);
        let (wq, qq) = products(values, &q);
        let alpha = if qq == 0.0 { 0.0 } else { wq / qq };
        QuantizedBlock { q, alpha, kds_bias: 0.0 }
    }

    /// The best of the fits around both scales, refined until it gains nothing.
    fn search(&self, values: &[f64], low: f64, high: f64) -> QuantizedBlock {
        // Factors above 1 clip the extremes, which pays for few bits and large blocks.
        let factors = std::iter::once(1.0).chain((0..40).map(|i| 0.8 * 1.025f64.powi(i)));
        let scales = factors.flat_map(|factor| [low * factor, high * factor]);
        let fits = scales.map(|scale| self.fit(values, scale));
        // The first scale is SignedExtreme's: only what is better replaces it.
        let best = least_error(values, fits);
        refine(values, best, |block| self.fit(values, 1.0 / block.alpha))
    }

    /// Joint fit of alpha and KDS bias: regression from the given integers and from those of the
    /// block's range, each refined until it gains nothing. Never worse than the block given.
    fn fit_kds_bias(&self, values: &[f64], block: QuantizedBlock) -> QuantizedBlock {
        let (low, high) = values
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let (min, max) = (f64::from(self.format.min()), f64::from(self.format.max()));
        let step = ((high - low) / (max - min)).max(f64::MIN_POSITIVE);
        let ranged = regress(values, self.round(values, 1.0 / step, low - min * step));
        let given = regress(values, block.q.clone());
        let again = |block: &QuantizedBlock| {
            regress(values, self.round(values, 1.0 / block.alpha, block.kds_bias))
        };
        let fits = [ranged, given].map(|start| refine(values, start, again));
        least_error(values, std::iter::once(block).chain(fits))
    }
}

/// A block's integers with their scale and KDS bias: its weights are about `alpha * q + kds_bias`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QuantizedBlock {
    /// The integers, one for each weight.
    pub q: Vec<i32>,
    /// The scale; 0 where all weights are 0.
    pub alpha: f64,
    /// The KDS bias; 0 where the quantiser fits none.
    pub kds_bias: f64,
}

impl QuantizedBlock {
    fn error(&self, values: &[f64]) -> f64 {
        let error = |(w, &q): (&f64, &i32)| w - self.alpha * f64::from(q) - self.kds_bias;
        values.iter().zip(&self.q).map(error).map(|e| e * e).sum()
    }
}

/// The fit of least squared error, the first of equals.
fn least_error(values: &[f64], fits: impl Iterator<Item = QuantizedBlock>) -> QuantizedBlock {
    fits.map(|fit| (fit.error(values), fit))
        .reduce(|best, next| if next.0 < best.0 { next } else { best })
        .map(|(_, fit)| fit)
        .expect("every caller gives at least one fit")
}

/// Repeats `step` while the error falls.
fn refine(
    values: &[f64],
    start: QuantizedBlock,
    step: impl Fn(&QuantizedBlock) -> QuantizedBlock,
) -> QuantizedBlock {
    let mut best = start;
    let mut error = best.error(values);
    for _ in 0..20 {
        if best.alpha == 0.0 {
            break;
        }
        let next = step(&best);
        let next_error = next.error(values);
        if next_error >= error {
            break;
        }
        (best, error) = (next, next_error);
    }
    best
}

/// `<w, q>` and `<q, q>`.
fn products(values: &[f64], q: &[i32]) -> (f64, f64) {
    values.iter().zip(q).fold((0.0, 0.0), |(wq, qq), (w, &q)| {
        let q = f64::from(q);
        (wq + w * q, qq + q * q)
    })
}

/// Alpha and KDS bias of least squared error for given integers.
fn regress(values: &[f64], q: Vec<i32>) -> QuantizedBlock {
    let count = values.len() as f64;
    let mean_w = values.iter().sum::<f64>() / count;
    let mean_q = q.iter().map(|&q| f64::from(q)).sum::<f64>() / count;
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (w, &q) in values.iter().zip(&q) {
        let dq = f64::from(q) - mean_q;
        covariance += (w - mean_w) * dq;
        variance += dq * dq;
    }
    let alpha = if variance == 0.0 { 0.0 } else { covariance / variance };
    QuantizedBlock { q, alpha, kds_bias: mean_w - alpha * mean_q }
}

/// Signal to noise of an approximation, in dB; infinite for an exact one.
///
/// # Panics
/// Never; the shorter slice decides the length.
pub fn signal_to_noise_db(signal: &[f32], approximation: &[f32]) -> f64 {
    let square = |v: f64| v * v;
    let pairs = signal.iter().zip(approximation);
    let noise: f64 = pairs.map(|(&s, &a)| square(f64::from(s) - f64::from(a))).sum();
    10.0 * (signal.iter().map(|&s| square(f64::from(s))).sum::<f64>() / noise).log10()
}
