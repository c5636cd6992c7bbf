//! Weights of a convolution: float, or DSConv's integers with their distribution shifts.

use crate::blocks::{for_each_block, scale_count};
use crate::error::{check_length, check_tensor};
use crate::{BlockFormat, Blocks, ConvDescriptor, Error, Result};

/// The channel distribution shift (CDS): a scale and a shift per output channel, in one of its two readings.
#[derive(Clone, Debug, PartialEq)]
pub enum Cds {
    /// `y = scale * convolution + shift`; a following batch norm folds into it exactly.
    Output {
        /// One per output channel.
        scale: Vec<f32>,
        /// One per output channel.
        shift: Vec<f32>,
    },
    /// `w' = scale * w + shift`: the shift meets the sum of the receptive field, without the padding.
    Kernel {
        /// One per output channel.
        scale: Vec<f32>,
        /// One per output channel.
        shift: Vec<f32>,
    },
}

impl Cds {
    /// The scale of each output channel.
    pub fn scale(&self) -> &[f32] {
        let (Self::Output { scale, .. } | Self::Kernel { scale, .. }) = self;
        scale
    }

    /// The shift of each output channel.
    pub fn shift(&self) -> &[f32] {
        let (Self::Output { shift, .. } | Self::Kernel { shift, .. }) = self;
        shift
    }
}

/// Float weights of a convolution, with its bias.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatWeights {
    descriptor: ConvDescriptor,
    values: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl FloatWeights {
    /// Weights in OIHW order, `(out_channels, in_channels / groups, height, width)`.
    ///
    /// # Errors
    /// A wrong descriptor, a wrong length, a NaN or an infinity.
    pub fn new(descriptor: ConvDescriptor, values: Vec<f32>) -> Result<Self> {
        descriptor.validate()?;
        check_tensor("weight", descriptor.weight_count(), &values)?;
        Ok(Self { descriptor, values, bias: None })
    }

    /// The same with a bias, one per output channel.
    ///
    /// # Errors
    /// A wrong length, a NaN or an infinity.
    pub fn with_bias(mut self, bias: Vec<f32>) -> Result<Self> {
        check_tensor("bias", self.descriptor.out_channels as usize, &bias)?;
        self.bias = Some(bias);
        Ok(self)
    }

    /// The same with the weights of each output channel rounded to integers of -127 to 127 times a scale. Files keep
    /// such weights in a byte each. Meant for depthwise layers, which blocks of channels don't make smaller.
    pub fn to_int8_channels(mut self) -> Self {
        crate::int8_channels::round(&mut self.values, self.descriptor.out_channels as usize);
        self
    }

    /// The geometry.
    pub fn descriptor(&self) -> &ConvDescriptor {
        &self.descriptor
    }

    /// The weights, OIHW.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The bias, one per output channel.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }
}

/// DSConv weights: integers (the paper's VQK), a scale `alpha` per block of input channels at one
/// kernel tap (its KDS), and optionally a KDS bias, a channel distribution shift and a bias.
///
/// `w = alpha * q + kds_bias`, see [`Cds`] for the channel shift. Integers are OIHW,
/// `(out_channels, in_channels / groups, height, width)`; alpha and KDS bias
/// `(out_channels, blocks, height, width)`.
#[derive(Clone, Debug, PartialEq)]
pub struct DsConvWeights {
    descriptor: ConvDescriptor,
    format: BlockFormat,
    q: Vec<i8>,
    alpha: Vec<f32>,
    kds_bias: Option<Vec<f32>>,
    cds: Option<Cds>,
    bias: Option<Vec<f32>>,
}

impl DsConvWeights {
    /// Weights from integers and their scales.
    ///
    /// # Errors
    /// A wrong descriptor or format, wrong lengths (so also a wrong number of blocks), an integer outside
    /// the format's range, a scale that is not finite.
    pub fn from_integers(
        descriptor: ConvDescriptor,
        format: BlockFormat,
        q: &[i32],
        alpha: Vec<f32>,
    ) -> Result<Self> {
        Self::check_lengths(&descriptor, &format, q.len(), &alpha)?;
        let (min, max) = (format.min(), format.max());
        if let Some(index) = q.iter().position(|q| !(min..=max).contains(q)) {
            return Err(Error::OutOfRange { tensor: "q".into(), index, value: q[index], min, max });
        }
        let q = q.iter().map(|&q| q as i8).collect();
        Ok(Self { descriptor, format, q, alpha, kds_bias: None, cds: None, bias: None })
    }

    /// Like [`from_integers`](Self::from_integers), but integers outside the format's range (as the
    /// unclamped `+2^(bits-1)` of the authors' code) are clamped, and the scale of such a block is
    /// fitted anew, by least squares, to the weights that the integers meant.
    ///
    /// # Errors
    /// As `from_integers`, without the range.
    pub fn from_integers_clamped(
        descriptor: ConvDescriptor,
        format: BlockFormat,
        q: &[i32],
        mut alpha: Vec<f32>,
    ) -> Result<Self> {
        Self::check_lengths(&descriptor, &format, q.len(), &alpha)?;
        let clamped: Vec<i32> = q.iter().map(|&q| q.clamp(format.min(), format.max())).collect();
        for_each_block(&descriptor, &format, |scale, members| {
            let (mut meant, mut kept) = (0.0, 0.0);
            for index in members {
                meant += f64::from(q[index]) * f64::from(clamped[index]);
                kept += f64::from(clamped[index]) * f64::from(clamped[index]);
            }
            if meant != kept {
                alpha[scale] = (f64::from(alpha[scale]) * meant / kept) as f32;
            }
        });
        Self::from_integers(descriptor, format, &clamped, alpha)
    }

    /// Weights from a folded kernel `alpha * q` and its scales, as checkpoints hold them: `q = round(w / alpha)`.
    ///
    /// # Errors
    /// As [`from_integers`](Self::from_integers); [`Error::Invalid`] where a weight is not an integer
    /// multiple of its scale (off by more than a hundredth of a step).
    pub fn from_folded(
        descriptor: ConvDescriptor,
        format: BlockFormat,
        folded: &[f32],
        alpha: Vec<f32>,
    ) -> Result<Self> {
        Self::check_lengths(&descriptor, &format, folded.len(), &alpha)?;
        check_tensor("weight", folded.len(), folded)?;
        let mut q = vec![0i32; folded.len()];
        let mut off = None;
        for_each_block(&descriptor, &format, |scale, members| {
            let step = f64::from(alpha[scale]);
            for index in members {
                let weight = f64::from(folded[index]);
                let quotient = if step == 0.0 { 0.0 } else { weight / step };
                // A quotient beyond i32 saturates, and is out of the format's range.
                q[index] = quotient.round_ties_even() as i32;
                if (weight - f64::from(q[index]) * step).abs() > 0.01 * step.abs() {
                    off = off.min(Some(index)).or(Some(index));
                }
            }
        });
        // The range first: it says more about a scale that is far too small.
        let weights = Self::from_integers(descriptor, format, &q, alpha)?;
        match off {
            None => Ok(weights),
            Some(index) => Err(Error::invalid(
                format!("weight[{index}]"),
                "an integer multiple of its block's alpha",
                folded[index],
            )),
        }
    }

    fn check_lengths(
        descriptor: &ConvDescriptor,
        format: &BlockFormat,
        q: usize,
        alpha: &[f32],
    ) -> Result<()> {
        descriptor.validate()?;
        format.validate()?;
        check_length("q", descriptor.weight_count(), q)?;
        check_tensor("alpha", scale_count(descriptor, format), alpha)
    }

    /// The same with a KDS bias, of alpha's shape.
    ///
    /// # Errors
    /// A wrong length, a NaN or an infinity.
    pub fn with_kds_bias(mut self, kds_bias: Vec<f32>) -> Result<Self> {
        check_tensor("kds_bias", self.alpha.len(), &kds_bias)?;
        self.kds_bias = Some(kds_bias);
        Ok(self)
    }

    /// The same with a channel distribution shift.
    ///
    /// # Errors
    /// A wrong length, a NaN or an infinity.
    pub fn with_cds(mut self, cds: Cds) -> Result<Self> {
        let channels = self.descriptor.out_channels as usize;
        check_tensor("cds_scale", channels, cds.scale())?;
        check_tensor("cds_shift", channels, cds.shift())?;
        self.cds = Some(cds);
        Ok(self)
    }

    /// The same with a bias, one per output channel, added after the channel distribution shift.
    ///
    /// # Errors
    /// A wrong length, a NaN or an infinity.
    pub fn with_bias(mut self, bias: Vec<f32>) -> Result<Self> {
        check_tensor("bias", self.descriptor.out_channels as usize, &bias)?;
        self.bias = Some(bias);
        Ok(self)
    }

    /// The geometry.
    pub fn descriptor(&self) -> &ConvDescriptor {
        &self.descriptor
    }

    /// Bits, block size and partition.
    pub fn format(&self) -> &BlockFormat {
        &self.format
    }

    /// The blocks of a row of channels.
    pub fn blocks(&self) -> Blocks {
        self.format.blocks(&self.descriptor)
    }

    /// The integers, OIHW.
    pub fn q(&self) -> &[i8] {
        &self.q
    }

    /// The scales, `(out_channels, blocks, height, width)`. Often negative.
    pub fn alpha(&self) -> &[f32] {
        &self.alpha
    }

    /// The KDS bias, of alpha's shape.
    pub fn kds_bias(&self) -> Option<&[f32]> {
        self.kds_bias.as_deref()
    }

    /// The channel distribution shift.
    pub fn cds(&self) -> Option<&Cds> {
        self.cds.as_ref()
    }

    /// The bias, one per output channel.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Bits that one weight takes with its share of alpha and KDS bias, at 32 bits each.
    pub fn bits_per_weight(&self) -> f64 {
        let scales = self.alpha.len() * if self.kds_bias.is_some() { 2 } else { 1 };
        f64::from(self.format.bits()) + 32.0 * scales as f64 / self.q.len() as f64
    }

    /// The float kernel and bias that these weights stand for, with the channel shift folded in.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if folding leaves the range of f32.
    pub fn dequantize(&self) -> Result<FloatWeights> {
        let folded = self.folded_scales()?;
        let mut values = vec![0.0; self.q.len()];
        for_each_block(&self.descriptor, &self.format, |scale, members| {
            let kds_bias = folded.kds_bias.as_ref().map_or(0.0, |kds| f64::from(kds[scale]));
            for index in members {
                let scaled = f64::from(folded.alpha[scale]) * f64::from(self.q[index]);
                values[index] = (scaled + kds_bias) as f32;
            }
        });
        let weights = FloatWeights::new(self.descriptor, values)?;
        match folded.bias {
            Some(bias) => weights.with_bias(bias),
            None => Ok(weights),
        }
    }

    /// The same weights without a channel distribution shift: folded into alpha, KDS bias and bias, for formats and
    /// programs that know none. Exact but for the rounding to f32.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if folding leaves the range of f32.
    pub fn fold_cds(&self) -> Result<Self> {
        let FoldedScales { alpha, kds_bias, bias } = self.folded_scales()?;
        let (descriptor, format, q) = (self.descriptor, self.format, self.q.clone());
        Ok(Self { descriptor, format, q, alpha, kds_bias, cds: None, bias })
    }

    /// Alpha, KDS bias and bias with the channel distribution shift folded in, which is exact but for
    /// the rounding to f32: both readings are linear in them. The kernels know no CDS.
    pub(crate) fn folded_scales(&self) -> Result<FoldedScales> {
        let per_channel = self.alpha.len() / self.descriptor.out_channels as usize;
        let scaled = |scales: &[f32], cds: &Cds, plus: &[f32]| -> Vec<f32> {
            let fold = |(index, &scale): (usize, &f32)| {
                let channel = index / per_channel;
                let plus = plus.get(channel).copied().map_or(0.0, f64::from);
                (f64::from(scale) * f64::from(cds.scale()[channel]) + plus) as f32
            };
            scales.iter().enumerate().map(fold).collect()
        };
        let folded = match &self.cds {
            None => FoldedScales {
                alpha: self.alpha.clone(),
                kds_bias: self.kds_bias.clone(),
                bias: self.bias.clone(),
            },
            Some(cds @ Cds::Output { shift, .. }) => FoldedScales {
                alpha: scaled(&self.alpha, cds, &[]),
                kds_bias: self.kds_bias.as_ref().map(|kds| scaled(kds, cds, &[])),
                bias: Some(match &self.bias {
                    Some(bias) => {
                        bias.iter().zip(shift).map(|(bias, shift)| bias + shift).collect()
                    }
                    None => shift.clone(),
                }),
            },
            Some(cds @ Cds::Kernel { shift, .. }) => FoldedScales {
                alpha: scaled(&self.alpha, cds, &[]),
                kds_bias: Some(match &self.kds_bias {
                    Some(kds) => scaled(kds, cds, shift),
                    None => scaled(&vec![0.0; self.alpha.len()], cds, shift),
                }),
                bias: self.bias.clone(),
            },
        };
        check_tensor("alpha times cds_scale", folded.alpha.len(), &folded.alpha)?;
        for (name, tensor) in
            [("kds_bias with cds", &folded.kds_bias), ("bias with cds", &folded.bias)]
        {
            if let Some(tensor) = tensor {
                check_tensor(name, tensor.len(), tensor)?;
            }
        }
        Ok(folded)
    }

    /// Counts the elements of [`folded_scales`](Self::folded_scales) without folding: `[per block, per channel]`.
    #[cfg(feature = "gpu")]
    pub(crate) fn folded_scale_counts(&self) -> [usize; 2] {
        let kds_bias = self.kds_bias.is_some() || matches!(self.cds, Some(Cds::Kernel { .. }));
        let bias = self.bias.is_some() || matches!(self.cds, Some(Cds::Output { .. }));
        let channels = self.descriptor.out_channels as usize;
        [self.alpha.len() * (1 + usize::from(kds_bias)), channels * usize::from(bias)]
    }
}

/// The result of [`DsConvWeights::folded_scales`].
pub(crate) struct FoldedScales {
    pub(crate) alpha: Vec<f32>,
    pub(crate) kds_bias: Option<Vec<f32>>,
    pub(crate) bias: Option<Vec<f32>>,
}

/// Weights of a layer, of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Integers with their scales.
    DsConv(DsConvWeights),
    /// Floats.
    Float(FloatWeights),
}

impl Weights {
    /// The same with another padding, `[top, left, bottom, right]`: the one part of the geometry that a network
    /// may learn only with the size of its input.
    ///
    /// # Errors
    /// A padding that is too large.
    pub fn with_padding(mut self, padding: [u32; 4]) -> Result<Self> {
        let descriptor = match &mut self {
            Self::DsConv(weights) => &mut weights.descriptor,
            Self::Float(weights) => &mut weights.descriptor,
        };
        descriptor.padding = padding;
        descriptor.validate()?;
        Ok(self)
    }
}

/// A borrowed [`Weights`]: what the GPU layer and the reference take.
#[derive(Clone, Copy, Debug)]
pub enum WeightsRef<'a> {
    /// Integers with their scales.
    DsConv(&'a DsConvWeights),
    /// Floats.
    Float(&'a FloatWeights),
}

impl WeightsRef<'_> {
    /// The geometry.
    pub fn descriptor(&self) -> &ConvDescriptor {
        match self {
            Self::DsConv(weights) => weights.descriptor(),
            Self::Float(weights) => weights.descriptor(),
        }
    }
}

impl<'a> From<&'a Weights> for WeightsRef<'a> {
    fn from(weights: &'a Weights) -> Self {
        match weights {
            Weights::DsConv(weights) => Self::DsConv(weights),
            Weights::Float(weights) => Self::Float(weights),
        }
    }
}

impl<'a> From<&'a DsConvWeights> for WeightsRef<'a> {
    fn from(weights: &'a DsConvWeights) -> Self {
        Self::DsConv(weights)
    }
}

impl<'a> From<&'a FloatWeights> for WeightsRef<'a> {
    fn from(weights: &'a FloatWeights) -> Self {
        Self::Float(weights)
    }
}

impl From<DsConvWeights> for Weights {
    fn from(weights: DsConvWeights) -> Self {
        Self::DsConv(weights)
    }
}

impl From<FloatWeights> for Weights {
    fn from(weights: FloatWeights) -> Self {
        Self::Float(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unclamped_integers_are_refused_or_refitted() {
        let descriptor = ConvDescriptor::new(4, 1, [1, 1]);
        let format = BlockFormat::new(3, 4).unwrap();
        let q = [4, 1, -2, 0];
        let refused = DsConvWeights::from_integers(descriptor, format, &q, vec![0.5]);
        assert!(matches!(refused, Err(Error::OutOfRange { index: 0, value: 4, max: 3, .. })));
        let weights =
            DsConvWeights::from_integers_clamped(descriptor, format, &q, vec![0.5]).unwrap();
        assert_eq!(weights.q(), [3, 1, -2, 0]);
        // <(4,1,-2,0),(3,1,-2,0)> / <(3,1,-2,0),(3,1,-2,0)> = 17/14
        assert_eq!(weights.alpha(), [0.5 * 17.0 / 14.0]);
    }

    #[test]
    fn a_folded_checkpoint_gives_back_its_integers() {
        let descriptor = ConvDescriptor::new(4, 1, [1, 1]);
        let format = BlockFormat::new(4, 2).unwrap();
        let alpha = vec![-0.3, 0.0];
        let weights =
            DsConvWeights::from_folded(descriptor, format, &[2.4, -0.9, 0.0, 0.0], alpha.clone());
        assert_eq!(weights.unwrap().q(), [-8, 3, 0, 0]);
        for folded in [[2.4, -0.8, 0.0, 0.0], [2.4, -0.9, 0.0, 1e-9]] {
            let result = DsConvWeights::from_folded(descriptor, format, &folded, alpha.clone());
            assert!(matches!(result, Err(Error::Invalid { .. })), "{result:?}");
        }
        let result = DsConvWeights::from_folded(descriptor, format, &[3e30, 0.0, 0.0, 0.0], alpha);
        assert!(matches!(result, Err(Error::OutOfRange { .. })), "{result:?}");
    }
}
