//! The CPU reference: the convolution's formula as plain loops in f64. Slow on purpose; every kernel is
//! checked against it.

mod gradients;

pub use gradients::{input_gradient, weight_gradient};

use crate::error::check_length;
use crate::parallel;
use crate::{Activation, Cds, DsConvWeights, Int8Activations, Residual, Result, Shape, WeightsRef};

/// An output computed in f64, NCHW, and the magnitude that rounding errors are measured against.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reference {
    /// The output's shape.
    pub shape: Shape,
    /// The output, NCHW.
    pub values: Vec<f64>,
    /// The largest sum of `|w| |x|` over the outputs, for the kernel really used, plus the largest
    /// `|bias|` and `|CDS shift|`.
    pub magnitude: f64,
}

/// Convolves `x`, of that shape in NCHW order, without activation or residual.
///
/// # Errors
/// A shape that does not fit the weights, or a wrong length of `x`.
pub fn convolve<'a>(
    weights: impl Into<WeightsRef<'a>>,
    input: Shape,
    x: &[f32],
) -> Result<Reference> {
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    convolve_f64(weights.into(), input, &x)
}

/// Convolves integer activations. Mantissa times scale and alpha times integer are exact in f64; only
/// their products and sums round, at 2^-53.
///
/// # Errors
/// Activations whose shape or blocks are not the weights'.
pub fn convolve_int8(weights: &DsConvWeights, x: &Int8Activations) -> Result<Reference> {
    x.check_blocks(weights.blocks())?;
    convolve_f64(weights.into(), x.shape(), &x.dequantize())
}

fn convolve_f64(weights: WeightsRef<'_>, input: Shape, x: &[f64]) -> Result<Reference> {
    let shape = weights.descriptor().output_shape(input)?;
    check_length("input", input.elements(), x.len())?;
    let planes = parallel::map((shape.batch * shape.channels) as usize, |index| {
        let (image, output) = (index as u32 / shape.channels, index as u32 % shape.channels);
        output_plane(&weights, (input, x), (image, output), shape)
    });
    let magnitude = planes.iter().map(|(_, magnitude)| *magnitude).fold(0.0, f64::max);
    let values = planes.into_iter().flat_map(|(y, _)| y).collect();
    Ok(Reference { shape, values, magnitude })
}

impl Reference {
    /// Applies what a layer fuses: the residual (NCHW, of the output's shape) and the activation.
    ///
    /// # Errors
    /// A residual of the wrong length.
    pub fn with_epilogue(
        mut self,
        activation: Activation,
        order: Residual,
        residual: &[f32],
    ) -> Result<Self> {
        if order != Residual::None {
            check_length("residual", self.values.len(), residual.len())?;
            let largest = residual.iter().fold(0.0f64, |m, r| m.max(f64::from(r.abs())));
            self.magnitude += largest;
        }
        for (index, y) in self.values.iter_mut().enumerate() {
            *y = match order {
                Residual::None => activation.apply(*y),
                Residual::BeforeActivation => activation.apply(*y + f64::from(residual[index])),
                Residual::AfterActivation => activation.apply(*y) + f64::from(residual[index]),
            };
        }
        Ok(self)
    }
}

/// Computes one output channel of one image, and its magnitude.
fn output_plane(
    weights: &WeightsRef<'_>,
    (input, x): (Shape, &[f64]),
    (image, output): (u32, u32),
    shape: Shape,
) -> (Vec<f64>, f64) {
    let descriptor = weights.descriptor();
    let [kernel_height, kernel_width] = descriptor.kernel;
    let [top, left, ..] = descriptor.padding.map(i64::from);
    let channels = descriptor.channels_per_group();
    let first_channel = output / descriptor.outputs_per_group() * channels;
    let kernel: Vec<f64> = (0..channels * descriptor.taps())
        .map(|index| weight(weights, output, index / descriptor.taps(), index % descriptor.taps()))
        .collect();
    let (scale, shift, bias) = channel_terms(weights, output);
    let mut y = Vec::with_capacity((shape.height * shape.width) as usize);
    let mut largest: f64 = 0.0;
    for oy in 0..shape.height {
        for ox in 0..shape.width {
            let (mut sum, mut magnitude) = (0.0, 0.0);
            for channel in 0..channels {
                for ky in 0..kernel_height {
                    for kx in 0..kernel_width {
                        let iy = i64::from(oy * descriptor.stride[0] + ky * descriptor.dilation[0])
                            - top;
                        let ix = i64::from(ox * descriptor.stride[1] + kx * descriptor.dilation[1])
                            - left;
                        let inside = (0..i64::from(input.height)).contains(&iy)
                            && (0..i64::from(input.width)).contains(&ix);
                        if !inside {
                            continue;
                        }
                        let row = (image * input.channels + first_channel + channel) as usize;
                        let at = (row * input.height as usize + iy as usize) * input.width as usize;
                        let value = x[at + ix as usize];
                        let tap = ky * kernel_width + kx;
                        let weight = kernel[(channel * descriptor.taps() + tap) as usize];
                        sum += weight * value;
                        magnitude += (weight * value).abs();
                    }
                }
            }
            y.push(scale * sum + shift + bias);
            largest = largest.max(magnitude);
        }
    }
    (y, largest * scale.abs() + shift.abs() + bias.abs())
}

/// One weight of the formula, with the kernel reading of the channel shift but not the output one.
fn weight(weights: &WeightsRef<'_>, output: u32, channel: u32, tap: u32) -> f64 {
    let descriptor = weights.descriptor();
    let (channels, taps) = (descriptor.channels_per_group(), descriptor.taps());
    let index = ((output * channels + channel) * taps + tap) as usize;
    match weights {
        WeightsRef::Float(weights) => f64::from(weights.values()[index]),
        WeightsRef::DsConv(weights) => {
            let blocks = weights.blocks();
            let at = ((output * blocks.count + blocks.of(channel)) * taps + tap) as usize;
            let kds_bias = weights.kds_bias().map_or(0.0, |kds| f64::from(kds[at]));
            let value = f64::from(weights.alpha()[at]) * f64::from(weights.q()[index]) + kds_bias;
            match weights.cds() {
                Some(Cds::Kernel { scale, shift }) => {
                    f64::from(scale[output as usize]) * value + f64::from(shift[output as usize])
                }
                _ => value,
            }
        }
    }
}

/// Scale and shift of the output reading of the channel shift, and the bias.
fn channel_terms(weights: &WeightsRef<'_>, output: u32) -> (f64, f64, f64) {
    let output = output as usize;
    let (cds, bias) = match weights {
        WeightsRef::Float(weights) => (None, weights.bias()),
        WeightsRef::DsConv(weights) => (weights.cds(), weights.bias()),
    };
    let bias = bias.map_or(0.0, |bias| f64::from(bias[output]));
    match cds {
        Some(Cds::Output { scale, shift }) => {
            (f64::from(scale[output]), f64::from(shift[output]), bias)
        }
        _ => (1.0, 0.0, bias),
    }
}
