//! The gradients of a convolution as plain loops in f64, for training: what the kernels for them are checked against.

use super::weight;
use crate::blocks::for_each_block;
use crate::error::check_length;
use crate::parallel;
use crate::{ConvDescriptor, DsConvWeights, Error, Result, Shape, WeightsRef};

/// The gradient of a convolution's input, `(N, C, H, W)`, from that of its output.
///
/// `output_gradient` has the output's shape, NCHW. The convolution has neither activation nor residual.
///
/// # Errors
/// A shape that does not fit the weights, a wrong length, or weights with a channel distribution shift, which
/// [`DsConvWeights::fold_cds`] folds into those that this function takes.
pub fn input_gradient<'a>(
    weights: impl Into<WeightsRef<'a>>,
    input: Shape,
    output_gradient: &[f32],
) -> Result<Vec<f64>> {
    let weights = weights.into();
    let descriptor = check(&weights, input)?;
    let output = descriptor.output_shape(input)?;
    check_length("gradient of the output", output.elements(), output_gradient.len())?;
    let (channels, outputs) = (descriptor.channels_per_group(), descriptor.outputs_per_group());
    let plane = (input.height * input.width) as usize;
    let planes = parallel::map((input.batch * input.channels) as usize, |index| {
        let (image, channel) = (index as u32 / input.channels, index as u32 % input.channels);
        let first = channel / channels * outputs;
        let mut dx = vec![0.0; plane];
        for o in first..first + outputs {
            let dy = plane_of(output, image, o);
            for tap in 0..descriptor.taps() {
                let w = weight(&weights, o, channel % channels, tap);
                for_each_pair(&descriptor, (input, output), tap, |x, y| {
                    dx[x] += w * f64::from(output_gradient[dy + y]);
                });
            }
        }
        dx
    });
    Ok(planes.concat())
}

/// The gradient of a convolution's weights, from its input `x` and the gradient of its output, both NCHW: that of alpha
/// in alpha's order, followed by that of the KDS bias if there is one; or that of float weights in theirs.
///
/// The gradient of a bias is the sum of the output's over images and pixels, and is not part of it.
///
/// # Errors
/// As [`input_gradient`].
pub fn weight_gradient<'a>(
    weights: impl Into<WeightsRef<'a>>,
    input: Shape,
    x: &[f32],
    output_gradient: &[f32],
) -> Result<Vec<f64>> {
    let weights = weights.into();
    let descriptor = check(&weights, input)?;
    let output = descriptor.output_shape(input)?;
    check_length("input", input.elements(), x.len())?;
    check_length("gradient of the output", output.elements(), output_gradient.len())?;
    let (channels, taps) = (descriptor.channels_per_group(), descriptor.taps());
    let dense = parallel::map(descriptor.weight_count(), |index| {
        let (row, tap) = (index as u32 / taps, index as u32 % taps);
        let (o, c) = (row / channels, row % channels);
        let channel = o / descriptor.outputs_per_group() * channels + c;
        let mut sum = 0.0;
        for image in 0..input.batch {
            let (from, to) = (plane_of(input, image, channel), plane_of(output, image, o));
            for_each_pair(&descriptor, (input, output), tap, |i, j| {
                sum += f64::from(x[from + i]) * f64::from(output_gradient[to + j]);
            });
        }
        sum
    });
    Ok(match weights {
        WeightsRef::Float(_) => dense,
        WeightsRef::DsConv(weights) => of_scales(weights, &dense),
    })
}

/// From the gradient of every weight `alpha * q + kds_bias` to those of alpha and KDS bias.
fn of_scales(weights: &DsConvWeights, dense: &[f64]) -> Vec<f64> {
    let count = weights.alpha().len();
    let parts = 1 + usize::from(weights.kds_bias().is_some());
    let mut gradient = vec![0.0; parts * count];
    for_each_block(weights.descriptor(), weights.format(), |scale, members| {
        for index in members {
            gradient[scale] += dense[index] * f64::from(weights.q()[index]);
            if parts == 2 {
                gradient[count + scale] += dense[index];
            }
        }
    });
    gradient
}

/// The weights' geometry, if their gradients are defined.
fn check(weights: &WeightsRef<'_>, input: Shape) -> Result<ConvDescriptor> {
    if let WeightsRef::DsConv(weights) = weights
        && weights.cds().is_some()
    {
        return Err(Error::Unsupported {
            what: "the gradient of weights with a channel distribution shift".into(),
            remedy: "fold it into alpha and bias first: DsConvWeights::fold_cds".into(),
        });
    }
    weights.descriptor().output_shape(input)?;
    Ok(*weights.descriptor())
}

/// The index of the first element of a channel.
fn plane_of(shape: Shape, image: u32, channel: u32) -> usize {
    (image * shape.channels + channel) as usize * (shape.height * shape.width) as usize
}

/// Calls `f` with the places in a plane of the input and in one of the output that meet at a tap.
fn for_each_pair(
    descriptor: &ConvDescriptor,
    (input, output): (Shape, Shape),
    tap: u32,
    mut f: impl FnMut(usize, usize),
) {
    let tap = [tap / descriptor.kernel[1], tap % descriptor.kernel[1]];
    let place = |at: u32, axis: usize, extent: u32| {
        let padded = at * descriptor.stride[axis] + tap[axis] * descriptor.dilation[axis];
        padded.checked_sub(descriptor.padding[axis]).filter(|&at| at < extent)
    };
    for oy in 0..output.height {
        let Some(iy) = place(oy, 0, input.height) else { continue };
        for ox in 0..output.width {
            if let Some(ix) = place(ox, 1, input.width) {
                f((iy * input.width + ix) as usize, (oy * output.width + ox) as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::convolve;
    use crate::{FloatWeights, Partition, Quantizer, Weights};

    fn random(rng: &mut fastrand::Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    fn geometry(rng: &mut fastrand::Rng) -> (ConvDescriptor, Shape) {
        let groups = rng.u32(1..=3);
        let (channels, outputs) = (groups * rng.u32(1..=7), groups * rng.u32(1..=3));
        let kernel = [rng.u32(1..=3), rng.u32(1..=4)];
        let mut descriptor = ConvDescriptor::new(channels, outputs, kernel);
        descriptor.groups = groups;
        descriptor.stride = [rng.u32(1..=3), rng.u32(1..=2)];
        descriptor.dilation = [rng.u32(1..=2), rng.u32(1..=3)];
        descriptor.padding = [0; 4].map(|_| rng.u32(0..=2));
        (descriptor, Shape::new(rng.u32(1..=2), channels, rng.u32(6..=9), rng.u32(10..=13)))
    }

    fn draw(rng: &mut fastrand::Rng, descriptor: ConvDescriptor) -> Weights {
        let values = random(rng, descriptor.weight_count());
        let float = FloatWeights::new(descriptor, values).unwrap();
        if rng.u32(0..4) == 0 {
            return float.into();
        }
        let partition = if rng.bool() { Partition::Even } else { Partition::Fixed };
        let quantizer = Quantizer::new(rng.u8(2..=8), rng.u32(1..=5)).unwrap();
        let weights = quantizer.partition(partition).weights(&descriptor, float.values()).unwrap();
        let count = weights.alpha().len();
        match rng.bool() {
            true => weights.with_kds_bias(random(rng, count)).unwrap().into(),
            false => weights.into(),
        }
    }

    /// The weights with another value at an index of the gradient.
    fn moved(weights: &Weights, index: usize, by: f32) -> Weights {
        match weights {
            Weights::Float(weights) => {
                let mut values = weights.values().to_vec();
                values[index] += by;
                FloatWeights::new(*weights.descriptor(), values).unwrap().into()
            }
            Weights::DsConv(weights) => {
                let (mut alpha, count) = (weights.alpha().to_vec(), weights.alpha().len());
                let mut kds_bias = weights.kds_bias().map(<[f32]>::to_vec);
                match kds_bias.as_mut().filter(|_| index >= count) {
                    Some(kds_bias) => kds_bias[index - count] += by,
                    None => alpha[index] += by,
                }
                let q: Vec<i32> = weights.q().iter().map(|&q| q.into()).collect();
                let (descriptor, format) = (*weights.descriptor(), *weights.format());
                let moved = DsConvWeights::from_integers(descriptor, format, &q, alpha).unwrap();
                match kds_bias {
                    Some(kds_bias) => moved.with_kds_bias(kds_bias).unwrap().into(),
                    None => moved.into(),
                }
            }
        }
    }

    fn dot(a: &[f64], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * f64::from(*b)).sum()
    }

    /// The convolution is linear in its input and in its weights, so that differences of any size are exact but for
    /// rounding.
    #[test]
    fn gradients_are_what_differences_say() {
        for seed in 0..60 {
            let rng = &mut fastrand::Rng::with_seed(seed);
            let (descriptor, input) = geometry(rng);
            let weights = draw(rng, descriptor);
            let output = descriptor.output_shape(input).unwrap();
            let (x, dy) = (random(rng, input.elements()), random(rng, output.elements()));
            let loss = |weights: &Weights, x: &[f32]| {
                dot(&convolve(weights, input, x).unwrap().values, &dy)
            };

            let dx = input_gradient(&weights, input, &dy).unwrap();
            for _ in 0..8 {
                let at = rng.usize(..x.len());
                let [up, down] = [0.5, -0.5].map(|by| {
                    let mut x = x.clone();
                    x[at] += by;
                    (loss(&weights, &x), f64::from(x[at]))
                });
                let difference = (up.0 - down.0) / (up.1 - down.1);
                assert!((dx[at] - difference).abs() < 1e-9, "seed {seed}: {} {difference}", dx[at]);
            }

            let dw = weight_gradient(&weights, input, &x, &dy).unwrap();
            for _ in 0..8 {
                let at = rng.usize(..dw.len());
                let value = |weights: &Weights| match weights {
                    Weights::Float(weights) => f64::from(weights.values()[at]),
                    Weights::DsConv(weights) => {
                        let all = [weights.alpha(), weights.kds_bias().unwrap_or(&[])].concat();
                        f64::from(all[at])
                    }
                };
                let [up, down] = [0.5, -0.5].map(|by| {
                    let weights = moved(&weights, at, by);
                    (loss(&weights, &x), value(&weights))
                });
                let difference = (up.0 - down.0) / (up.1 - down.1);
                assert!((dw[at] - difference).abs() < 1e-9, "seed {seed}: {} {difference}", dw[at]);
            }
        }
    }

    #[test]
    fn a_channel_shift_and_wrong_lengths_are_refused() {
        let descriptor = ConvDescriptor::new(4, 2, [1, 1]);
        let input = Shape::new(1, 4, 2, 2);
        let weights = Quantizer::new(4, 4).unwrap().weights(&descriptor, &[0.5; 8]).unwrap();
        let cds = crate::Cds::Output { scale: vec![1.0; 2], shift: vec![0.0; 2] };
        let shifted = weights.clone().with_cds(cds).unwrap();
        let error = input_gradient(&shifted, input, &[0.0; 8]).unwrap_err().to_string();
        assert!(error.contains("fold_cds"), "{error}");
        assert!(input_gradient(&weights, input, &[0.0; 7]).is_err());
        assert!(weight_gradient(&weights, input, &[0.0; 15], &[0.0; 8]).is_err());
        assert!(weight_gradient(&weights, Shape::new(1, 3, 2, 2), &[0.0; 12], &[]).is_err());
    }
}
