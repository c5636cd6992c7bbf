//! Tests of GPTQ on single layers of every geometry, against what convolutions and the textbook give.

use super::gptq::{Errors, Layer, Rounding, Solver};
use super::on_cpu;
use super::walk::Convolution;
use dsconv::{BlockFormat, ConvDescriptor, FloatWeights, Method, Partition, Shape, Weights};
use nalgebra::DMatrix;
use std::sync::Arc;

/// A layer with what it reads and what it should give, which is not quite what it does give.
struct Case {
    floats: FloatWeights,
    step: Convolution,
    wanted: Vec<Vec<f32>>,
}

impl Case {
    fn random(rng: &mut fastrand::Rng, descriptor: ConvDescriptor, input: Shape) -> Self {
        let mut random =
            |count: usize| -> Vec<f32> { (0..count).map(|_| rng.f32() - 0.4).collect() };
        let floats = FloatWeights::new(descriptor, random(descriptor.weight_count())).unwrap();
        let floats = floats.with_bias(random(descriptor.out_channels as usize)).unwrap();
        let output = descriptor.output_shape(input).unwrap();
        let inputs: Vec<_> = (0..3).map(|_| Arc::new(random(input.elements()))).collect();
        let weights = Weights::from(floats.clone());
        let wanted = inputs
            .iter()
            .map(|x| {
                let y = on_cpu(&weights, input, x).unwrap();
                y.into_iter().zip(random(output.elements())).map(|(y, r)| y + 0.1 * r).collect()
            })
            .collect();
        let weights = Arc::new(weights);
        let step = Convolution { name: "layer".into(), weights, input, output, inputs };
        Self { floats, step, wanted }
    }

    fn layer(&self) -> Layer<'_> {
        Layer::new(&self.floats, &self.step, &self.wanted)
    }

    /// The squared error of weights at the output without its mean, relative to the output's variance.
    fn error(&self, weights: &FloatWeights) -> f64 {
        let channels = self.step.output.channels as usize;
        let plane = (self.step.output.height * self.step.output.width) as usize;
        let mut values = vec![(Vec::new(), Vec::new()); channels];
        for (x, wanted) in self.step.inputs.iter().zip(&self.wanted) {
            let got = on_cpu(&weights.clone().into(), self.step.input, x).unwrap();
            for (index, (got, wanted)) in got.chunks(plane).zip(wanted.chunks(plane)).enumerate() {
                let (errors, signal) = &mut values[index % channels];
                errors.extend(got.iter().zip(wanted).map(|(g, w)| f64::from(g - w)));
                signal.extend(wanted.iter().copied().map(f64::from));
            }
        }
        let variance = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        let noise: f64 = values.iter().map(|(errors, _)| variance(errors)).sum();
        noise / values.iter().map(|(_, signal)| variance(signal)).sum::<f64>()
    }
}

fn geometries() -> Vec<(ConvDescriptor, Shape)> {
    let conv = ConvDescriptor::new;
    vec![
        (conv(19, 7, [1, 1]), Shape::new(1, 19, 9, 8)),
        (conv(6, 5, [3, 3]).with_padding([1; 4]), Shape::new(2, 6, 7, 9)),
        (
            conv(8, 6, [3, 2]).with_groups(2).with_stride([2, 1]).with_padding([0, 1, 2, 0]),
            Shape::new(1, 8, 12, 10),
        ),
        (
            conv(10, 4, [1, 5]).with_dilation([1, 2]).with_padding([0, 4, 0, 4]),
            Shape::new(1, 10, 1, 60),
        ),
        // A matrix product of 24 rows.
        (conv(140, 9, [1, 1]), Shape::new(8, 140, 1, 1)),
    ]
}

fn rounding(bits: u8, block: u32) -> Rounding {
    let format = BlockFormat::new(bits, block).unwrap();
    Rounding { format, kds_bias: false, method: Method::MinMse, sweeps: 0 }
}

#[test]
fn errors_are_those_of_the_convolution_and_gptq_makes_them_smaller() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    // Single layers may become worse, if hardly ever.
    let (mut fitting, mut sweeping) = (0.0, 0.0);
    for (descriptor, input) in geometries() {
        let case = Case::random(&mut rng, descriptor, input);
        let solver = Solver::new(&case.layer(), 0.01).unwrap();
        for (bits, block, kds_bias) in [(2, 8, false), (3, 32, false), (4, 5, true)] {
            let context = format!("{descriptor:?}, {bits} bits, seed {seed}");
            let format = BlockFormat::new(bits, block).unwrap().with_partition(Partition::Even);
            let how = Rounding { format, kds_bias, ..rounding(bits, block) };
            let quantizer = dsconv::Quantizer::new(bits, block).unwrap().method(Method::MinMse);
            let quantizer = quantizer.partition(Partition::Even).kds_bias(kds_bias);
            let plain = quantizer.weights(&descriptor, case.floats.values()).unwrap();
            let plain = plain.dequantize().unwrap();
            let (fitted, Errors { seen: told, .. }) = solver.fit(&how).unwrap();
            let dequantized = fitted.dequantize().unwrap();
            for (weights, told) in [(&plain, solver.errors(&plain).seen), (&dequantized, told)] {
                let measured = case.error(weights);
                assert!(
                    (told - measured).abs() < 1e-4 * measured + 1e-7,
                    "{context}: {told}, {measured}"
                );
            }
            fitting += (told / solver.errors(&plain).seen).ln();
            assert_eq!(fitted.kds_bias().is_some(), kds_bias);
            // Sweeps go on from there.
            let (swept, Errors { seen: after, .. }) =
                solver.fit(&Rounding { sweeps: 2, ..how }).unwrap();
            let measured = case.error(&swept.dequantize().unwrap());
            assert!(
                (after - measured).abs() < 1e-4 * measured + 1e-7,
                "{context}: {after}, {measured}"
            );
            sweeping += (after / told).ln();
        }
    }
    assert!(fitting < -1.0 && sweeping < -0.1, "{fitting}, {sweeping}, seed {seed}");
}

#[test]
fn the_mean_of_the_output_is_kept() {
    let mut rng = fastrand::Rng::new();
    let (descriptor, input) = geometries()[1];
    let case = Case::random(&mut rng, descriptor, input);
    let solver = Solver::new(&case.layer(), 1.0).unwrap();
    let (fitted, _) = solver.fit(&rounding(2, 8)).unwrap();
    let mean = |outputs: &[Vec<f32>]| -> f64 {
        let all: Vec<f64> = outputs.iter().flatten().copied().map(f64::from).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    let outputs: Vec<_> = case
        .step
        .inputs
        .iter()
        .map(|x| on_cpu(&fitted.clone().into(), case.step.input, x).unwrap())
        .collect();
    assert!((mean(&outputs) - mean(&case.wanted)).abs() < 1e-5);
}

/// GPTQ as its authors write it: with the inverse, and with all weights behind a column updated after each. Columns go
/// from the last to the first, and each is a block of its own.
#[test]
fn integers_are_those_of_the_textbook() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let descriptor = ConvDescriptor::new(14, 3, [1, 1]);
    let case = Case::random(&mut rng, descriptor, Shape::new(1, 14, 10, 10));
    let (size, outputs) = (14, 3);
    let mut x = DMatrix::zeros(300, size);
    let mut y = DMatrix::zeros(300, outputs);
    for sample in 0..3 {
        for at in 0..100 {
            for channel in 0..size {
                x[(100 * sample + at, channel)] =
                    f64::from(case.step.inputs[sample][100 * channel + at]);
            }
            for channel in 0..outputs {
                y[(100 * sample + at, channel)] =
                    f64::from(case.wanted[sample][100 * channel + at]);
            }
        }
    }
    let centred = |m: DMatrix<f64>| {
        let mean = m.row_mean();
        DMatrix::from_fn(m.nrows(), m.ncols(), |i, j| m[(i, j)] - mean[j])
    };
    let (x, y) = (centred(x), centred(y));
    let w = DMatrix::from_fn(size, outputs, |i, o| f64::from(case.floats.values()[o * size + i]));
    let h = x.transpose() * &x / 300.0;
    let damping = 0.5 * h.trace() / size as f64;
    let damped = &h + DMatrix::identity(size, size) * damping;
    let inverse = damped.clone().try_inverse().unwrap();
    let wanted = &inverse * (x.transpose() * &y / 300.0 + w * damping);
    let how = rounding(3, 1);
    let quantizer = dsconv::Quantizer::new(3, 1).unwrap().method(Method::MinMse);
    let (fitted, _) = Solver::new(&case.layer(), 0.5).unwrap().fit(&how).unwrap();
    for output in 0..outputs {
        let mut left = wanted.column(output).into_owned();
        for at in (0..size).rev() {
            // The inverse of what is left: the columns behind are fixed.
            let free = damped.view((0, 0), (at + 1, at + 1)).into_owned().try_inverse().unwrap();
            let block = quantizer.block(&[left[at]]);
            let weight = f64::from(block.alpha as f32) * f64::from(block.q[0]);
            let error = (left[at] - weight) / free[(at, at)];
            for before in 0..at {
                left[before] -= error * free[(before, at)];
            }
            let index = output * size + at;
            let got = f64::from(fitted.alpha()[index]) * f64::from(fitted.q()[index]);
            assert!((got - weight).abs() < 1e-6, "column {at}: {got}, not {weight}, seed {seed}");
        }
    }
}

#[test]
fn layers_that_saw_too_little_are_left_alone() {
    let mut rng = fastrand::Rng::new();
    let descriptor = ConvDescriptor::new(8, 4, [1, 1]);
    let few = Case::random(&mut rng, descriptor, Shape::new(1, 8, 1, 5));
    assert!(Solver::new(&few.layer(), 1.0).is_none(), "15 pixels");
    let mut dead = Case::random(&mut rng, descriptor, Shape::new(1, 8, 4, 5));
    dead.step.inputs = [0.25; 3].map(|x| Arc::new(vec![x; 160])).to_vec();
    assert!(Solver::new(&dead.layer(), 1.0).is_none(), "the same everywhere");
    dead.step.inputs = [f32::NAN; 3].map(|x| Arc::new(vec![x; 160])).to_vec();
    assert!(Solver::new(&dead.layer(), 1.0).is_none(), "not numbers");
}
