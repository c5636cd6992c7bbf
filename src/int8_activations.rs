//! Integer activations: the paper's block floating point.

use crate::error::check_length;
use crate::{BlockFormat, Blocks, ConvDescriptor, Error, Result, Shape};

/// Below this, the largest magnitude of a block counts as zero: GPUs may flush smaller numbers on the way.
pub(crate) const SMALLEST: f32 = 1.0 / (1u128 << 100) as f32;

/// How the scale of a block of activations is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ActivationScale {
    /// The smallest power of two that brings the block into -127..=127: a shared exponent, as in the paper.
    #[default]
    PowerOfTwo,
    /// The largest magnitude over 127.
    Float,
}

/// A tensor as int8 mantissas with a scale for each (image, pixel, block of channels): the blocks are
/// those of the weights that it will meet.
///
/// NaN becomes 0 and infinities the largest float. A block whose largest magnitude is below 2^-100 is zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Activations {
    shape: Shape,
    groups: u32,
    blocks: Blocks,
    mantissas: Vec<i8>,
    scales: Vec<f32>,
}

impl Int8Activations {
    /// Quantises `x`, of that shape in NCHW order, for a convolution's weights.
    ///
    /// # Errors
    /// A shape that does not fit the convolution, or a wrong length of `x`.
    pub fn quantize(
        descriptor: &ConvDescriptor,
        format: &BlockFormat,
        shape: Shape,
        x: &[f32],
        scale: ActivationScale,
    ) -> Result<Self> {
        descriptor.output_shape(shape)?;
        check_length("input", shape.elements(), x.len())?;
        let blocks = format.blocks(descriptor);
        let groups = descriptor.groups;
        let plane = (shape.height * shape.width) as usize;
        let mut mantissas = vec![0; x.len()];
        let mut scales = Vec::with_capacity(shape.pixels() * (groups * blocks.count) as usize);
        for pixel in 0..shape.pixels() {
            let (image, at) = (pixel / plane, pixel % plane);
            for group in 0..groups {
                for block in 0..blocks.count {
                    let index = |channel: u32| {
                        let channel = (group * blocks.channels + channel) as usize;
                        (image * shape.channels as usize + channel) * plane + at
                    };
                    let values = blocks.range(block).map(|channel| finite(x[index(channel)]));
                    let largest = values.fold(0.0f32, |m, v| m.max(v.abs()));
                    let (scale, inverse) = scale.of(largest);
                    for channel in blocks.range(block) {
                        let value = (finite(x[index(channel)]) * inverse).round_ties_even();
                        mantissas[index(channel)] = value.clamp(-127.0, 127.0) as i8;
                    }
                    scales.push(scale);
                }
            }
        }
        Ok(Self { shape, groups, blocks, mantissas, scales })
    }

    /// A tensor from its parts: mantissas in NCHW order, scales in the order image, pixel, group, block.
    ///
    /// # Errors
    /// A shape that does not fit the convolution, wrong lengths, a scale that is not finite.
    pub fn from_parts(
        descriptor: &ConvDescriptor,
        format: &BlockFormat,
        shape: Shape,
        mantissas: Vec<i8>,
        scales: Vec<f32>,
    ) -> Result<Self> {
        descriptor.output_shape(shape)?;
        let (groups, blocks) = (descriptor.groups, format.blocks(descriptor));
        check_length("mantissas", shape.elements(), mantissas.len())?;
        let count = shape.pixels() * (groups * blocks.count) as usize;
        crate::error::check_tensor("scales", count, &scales)?;
        Ok(Self { shape, groups, blocks, mantissas, scales })
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The mantissas, NCHW.
    pub fn mantissas(&self) -> &[i8] {
        &self.mantissas
    }

    /// The scales, in the order image, pixel, group, block.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The numbers that these stand for, exactly: mantissa times scale, NCHW.
    pub fn dequantize(&self) -> Vec<f64> {
        let plane = (self.shape.height * self.shape.width) as usize;
        let value = |(index, &mantissa): (usize, &i8)| {
            let channel = (index / plane % self.shape.channels as usize) as u32;
            let pixel = index / plane / self.shape.channels as usize * plane + index % plane;
            let (group, inside) = (channel / self.blocks.channels, channel % self.blocks.channels);
            let row = pixel * self.groups as usize + group as usize;
            let scale =
                self.scales[row * self.blocks.count as usize + self.blocks.of(inside) as usize];
            f64::from(mantissa) * f64::from(scale)
        };
        self.mantissas.iter().enumerate().map(value).collect()
    }

    pub(crate) fn check_blocks(&self, blocks: Blocks) -> Result<()> {
        if self.blocks == blocks {
            return Ok(());
        }
        Err(Error::invalid(
            "activation blocks",
            format!("{blocks:?}"),
            format!("{:?}", self.blocks),
        ))
    }
}

impl ActivationScale {
    /// Scale and its inverse for a block's largest magnitude.
    fn of(self, largest: f32) -> (f32, f32) {
        if largest < SMALLEST {
            return (0.0, 0.0);
        }
        match self {
            Self::PowerOfTwo => {
                // 127 * 2^E has the exponent E + 6 and the leading fraction bits 111111.
                let bits = largest.to_bits();
                let exponent = (bits >> 23) - 6 + u32::from(bits & 0x7f_ffff > 0x7e_0000);
                (f32::from_bits(exponent << 23), f32::from_bits((254 - exponent) << 23))
            }
            Self::Float => (largest / 127.0, 127.0 / largest),
        }
    }
}

fn finite(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(f32::MIN, f32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_exponent_is_the_smallest_that_fits() {
        let mut rng = fastrand::Rng::new();
        let random = (0..1000).map(|_| f32::from_bits(rng.u32(0x0e00_0000..0x7f80_0000)));
        for largest in
            [127.0, 127.00001, 128.0, 1.0, 254.0, f32::MAX, SMALLEST].into_iter().chain(random)
        {
            let (scale, inverse) = ActivationScale::PowerOfTwo.of(largest);
            let ratio = f64::from(largest) / f64::from(scale);
            assert!(ratio <= 127.0 && ratio > 63.5, "{largest:e}: {ratio}");
            assert_eq!(scale * inverse, 1.0);
        }
    }

    #[test]
    fn what_is_not_a_number_saturates_as_documented() {
        let descriptor = ConvDescriptor::new(4, 1, [1, 1]);
        let format = BlockFormat::new(8, 4).unwrap();
        let quantize = |x: [f32; 4], scale| {
            let shape = Shape::new(1, 4, 1, 1);
            Int8Activations::quantize(&descriptor, &format, shape, &x, scale).unwrap()
        };
        for scale in [ActivationScale::PowerOfTwo, ActivationScale::Float] {
            let a = quantize([f32::NAN, 1.0, -0.5, 0.0], scale);
            assert_eq!((a.mantissas()[0], a.mantissas()[3]), (0, 0));
            let a = quantize([f32::INFINITY, f32::NEG_INFINITY, 1e38, 0.0], scale);
            assert!(a.mantissas()[0] >= 64 && a.mantissas()[1] == -a.mantissas()[0]);
            assert!(a.scales()[0].is_finite());
            let a = quantize([1e-40, -1e-38, 0.0, f32::NAN], scale);
            assert_eq!((a.mantissas(), a.scales()), ([0i8; 4].as_slice(), [0.0f32].as_slice()));
        }
    }
}
