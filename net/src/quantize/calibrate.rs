//! Calibration on unlabelled samples, layer by layer in the network's order, while the float network runs beside the
//! quantised one: integers by [GPTQ](super::gptq), and the channel distribution shift, per output channel a scale and a
//! shift, so that mean and standard deviation of every layer's output are those of the float network.

use super::gptq::{Errors, Layer, Rounding, Solver};
use super::walk::{SampleRun, Walk};
use crate::cpu::memory_of_samples;
use crate::ir::graph::{Graph, WeightsId, descriptor};
use crate::ir::program::{Step, StepOp};
use crate::{Error, Result};
use dsconv::{Cds, ConvDescriptor, DsConvWeights, FloatWeights, Method, Shape, Weights};

/// A channel of fewer values than this has moments that say little; it stays as it is.
const FEWEST: usize = 100;

/// How strongly GPTQ pulls towards the float weights, relative to the mean variance of what they read.
pub(super) const DAMPING: f64 = 1.0;

/// What is fitted on samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The channel distribution shift: mean and deviation of each output channel.
    Moments,
    /// The integers too, by GPTQ, towards what the float network gives.
    Gptq {
        /// The method that finds the scale of a block.
        method: Method,
        /// Sweeps of coordinate descent over the integers that GPTQ found, 0 for none. Each takes about as long as GPTQ.
        sweeps: u32,
    },
}

/// A network fitted on samples, or, made from a graph, one that was not.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Calibrated {
    /// The network.
    pub graph: Graph,
    /// What became of its quantised layers, in their order.
    pub layers: Vec<FittedLayer>,
}

impl From<Graph> for Calibrated {
    fn from(graph: Graph) -> Self {
        Self { graph, layers: Vec::new() }
    }
}

/// What [`calibrate`] made of a quantised layer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FittedLayer {
    /// The node's name.
    pub name: String,
    /// The mean squared error of its output before and after GPTQ, relative to the output's variance; the same where
    /// GPTQ found nothing better, and `None` where only the moments were fitted.
    pub error: Option<[f64; 2]>,
}

/// Fits every quantised convolution, and scale and bias of the float ones behind them, on samples. `floats` is the
/// network that `quantized` was made from. Layers keep their integers where [`Fit::Gptq`] saw fewer than 16 output
/// pixels, or finds nothing better.
///
/// # Errors
/// No samples, samples that don't fit, networks that don't belong together, or what the run's `convolve` says.
pub fn calibrate(
    floats: &Graph,
    quantized: &Graph,
    fit: Fit,
    run: SampleRun<'_>,
) -> Result<Calibrated> {
    let SampleRun { samples, dims, convolve, progress } = run;
    let mut target = Walk::new(floats, samples, dims)?;
    let mut walk = Walk::new(quantized, samples, dims)?;
    let mut calibrated = Calibrated::from(quantized.clone());
    let count = floats.convolutions().count();
    let mut done = 0;
    while let Some(wanted) = target.next_convolution()? {
        let Some(step) = walk.next_convolution()? else {
            let expected = "the same convolutions";
            return Err(Error::invalid("networks", expected, "fewer quantised ones"));
        };
        if step.name != wanted.name || step.output != wanted.output {
            return Err(Error::invalid("networks", &wanted.name, &step.name));
        }
        progress(done, count, &step.name);
        done += 1;
        target.convolve(&wanted, &wanted.weights, convolve)?;
        // Products that the graph has no weights for stay as they are.
        let id = weights_of(quantized, &step.name);
        let mut weights = step.weights.as_ref().clone();
        if let (Some(id), Weights::DsConv(plain)) = (id, &weights) {
            let solver = match (fit, wanted.weights.as_ref()) {
                (Fit::Gptq { .. }, Weights::Float(floats)) => {
                    let layer = Layer::new(floats, &step, target.outputs());
                    Solver::new(&layer, DAMPING)
                }
                _ => None,
            };
            let mut error = None;
            if let (Some(solver), Fit::Gptq { method, sweeps }) = (solver, fit) {
                let before = solver.errors(&plain.dequantize()?).seen;
                let (format, kds_bias) = (*plain.format(), plain.kds_bias().is_some());
                let how = Rounding { format, kds_bias, method, sweeps };
                let (fitted, Errors { seen: after, .. }) = solver.fit(&how)?;
                // It has no warrant to be better.
                if after < before {
                    weights = fitted.into();
                    let padding = descriptor(quantized.weights(id)).padding;
                    calibrated.graph.set_weights(id, weights.clone().with_padding(padding)?)?;
                }
                error = Some([before, after.min(before)]);
            }
            calibrated.layers.push(FittedLayer { name: step.name.clone(), error });
        }
        walk.convolve(&step, &weights, convolve)?;
        let wanted = moments(target.outputs(), wanted.output);
        let got = moments(walk.outputs(), step.output);
        target.finish_convolution(None)?;
        let fit: Vec<(f32, f32)> =
            wanted.iter().zip(&got).map(|(&w, &g)| scale_and_shift(w, g)).collect();
        // Where nothing was quantised on the way, nothing needs mending.
        let exact = wanted == got || step.output.pixels() * samples.len() < FEWEST;
        let id = id.filter(|_| !exact);
        if let Some(id) = id {
            calibrated.graph.set_weights(id, shifted(calibrated.graph.weights(id), &fit)?)?;
        }
        walk.finish_convolution(id.map(|_| &fit[..]))?;
    }
    Ok(calibrated)
}

/// About the most bytes that [`calibrate`] takes for so many samples, whose inputs have the shapes `dims`: their tensors
/// in both networks and, for [`Fit::Gptq`], what is gathered of the largest layer.
///
/// # Errors
/// Dims that the network does not take.
pub fn calibration_memory(graph: &Graph, fit: Fit, samples: u64, dims: &[&[usize]]) -> Result<u64> {
    let program = graph.specialise(dims)?;
    let tensors = memory_of_samples(&program, samples.saturating_mul(2));
    // Three matrices of what an output reads, in doubles.
    let gathered = |step: &Step| match (&step.op, fit) {
        (StepOp::Conv { weights, .. }, Fit::Gptq { .. }) => {
            let ConvDescriptor { groups, kernel: [height, width], .. } = descriptor(weights);
            let reads = u64::from(descriptor(weights).channels_per_group());
            let reads = reads.saturating_mul(u64::from(height)).saturating_mul(u64::from(width));
            reads.saturating_mul(reads).saturating_mul(u64::from(groups)).saturating_mul(3 * 8)
        }
        _ => 0,
    };
    let gathered = program.steps().iter().map(gathered).max().unwrap_or(0);
    Ok(tensors.saturating_add(gathered))
}

/// The weights of the convolution of that name.
fn weights_of(graph: &Graph, name: &str) -> Option<WeightsId> {
    graph.convolutions().find(|(node, _)| node.name == name).map(|(_, id)| id)
}

/// Mean and standard deviation of each output channel over all samples.
fn moments(outputs: &[Vec<f32>], shape: Shape) -> Vec<(f64, f64)> {
    let channels = shape.channels as usize;
    let plane = (shape.height * shape.width) as usize;
    let mut sums = vec![(0.0f64, 0.0f64); channels];
    let count = (outputs.len() * shape.batch as usize * plane) as f64;
    for y in outputs {
        for (index, plane) in y.chunks(plane).enumerate() {
            let sum = &mut sums[index % channels];
            for &y in plane {
                sum.0 += f64::from(y);
                sum.1 += f64::from(y) * f64::from(y);
            }
        }
    }
    let moment = |(sum, squares): (f64, f64)| {
        let mean = sum / count;
        (mean, (squares / count - mean * mean).max(0.0).sqrt())
    };
    sums.into_iter().map(moment).collect()
}

/// The scale and the shift that bring a channel of mean and deviation `got` to `wanted`.
fn scale_and_shift(wanted: (f64, f64), got: (f64, f64)) -> (f32, f32) {
    // A channel that hardly moves, or whose deviation is off by orders, says nothing about its scale.
    let ratio = wanted.1 / got.1;
    let scale = if ratio.is_finite() && (0.05..20.0).contains(&ratio) { ratio } else { 1.0 };
    (scale as f32, (wanted.0 - scale * got.0) as f32)
}

/// Weights whose convolution is `scale * y + shift` of what it was, per output channel.
pub(crate) fn shifted(weights: &Weights, fit: &[(f32, f32)]) -> Result<Weights> {
    let scales = || fit.iter().map(|f| f.0);
    let bias_of = |bias: Option<&[f32]>| bias.map_or_else(|| vec![0.0; fit.len()], <[f32]>::to_vec);
    Ok(match weights {
        Weights::Float(floats) => {
            let row = floats.values().len() / fit.len();
            let rows = floats.values().chunks(row).zip(scales());
            let values = rows.flat_map(|(row, scale)| row.iter().map(move |w| w * scale)).collect();
            let bias = bias_of(floats.bias()).iter().zip(fit).map(|(b, f)| f.0 * b + f.1).collect();
            FloatWeights::new(*floats.descriptor(), values)?.with_bias(bias)?.into()
        }
        Weights::DsConv(weights) => {
            let (old_scale, old_shift) = match weights.cds() {
                Some(Cds::Output { scale, shift }) => (scale.clone(), shift.clone()),
                Some(Cds::Kernel { .. }) => {
                    return Err(Error::invalid("CDS", "none, or of the output", "of the kernel"));
                }
                None => (vec![1.0; fit.len()], vec![0.0; fit.len()]),
            };
            // scale * (c + bias) + shift, where the bias stays outside: y = cds_scale * c + cds_shift + bias.
            let bias = bias_of(weights.bias());
            let scale = old_scale.iter().zip(fit).map(|(old, f)| old * f.0).collect();
            let moved = old_shift.iter().zip(&bias).zip(fit);
            let shift = moved.map(|((old, b), f)| f.0 * (old + b) + f.1 - b).collect();
            with_cds(weights, Cds::Output { scale, shift })?.into()
        }
    })
}

fn with_cds(weights: &DsConvWeights, cds: Cds) -> Result<DsConvWeights> {
    Ok(weights.clone().with_cds(cds)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::graph::{Input, Kind, Node, Op, Output, ValueId, WeightsId};
    use crate::ir::op::{Binary, Unary};
    use crate::quantize::{QuantizeOptions, Target, allocate, on_cpu, quantize, report};
    use dsconv::{Activation, ConvDescriptor};
    use std::sync::Arc;

    /// Three convolutions in a row, the second depthwise, the last with the first's output added.
    fn network(rng: &mut fastrand::Rng) -> Graph {
        let mut random = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect() };
        let conv = |inputs, outputs, groups| {
            ConvDescriptor::new(inputs, outputs, [3, 3]).with_padding([1; 4]).with_groups(groups)
        };
        let mut weights = |d: ConvDescriptor| {
            let bias = random(d.out_channels as usize);
            let floats = FloatWeights::new(d, random(d.weight_count())).unwrap();
            Arc::new(Weights::from(floats.with_bias(bias).unwrap()))
        };
        let conv_op = |index| Op::Conv {
            weights: WeightsId(index),
            auto_pad: crate::ir::graph::AutoPad::None,
            channels: crate::ir::graph::Channels::First,
        };
        let relu = || Op::Unary(Unary::Activation(Activation::Relu));
        let steps: [(&str, Op, &[usize]); 7] = [
            ("conv0", conv_op(0), &[0]),
            ("relu0", relu(), &[1]),
            ("conv1", conv_op(1), &[2]),
            ("relu1", relu(), &[3]),
            ("conv2", conv_op(2), &[4]),
            ("add", Op::Binary(Binary::Add), &[5, 2]),
            ("relu2", relu(), &[6]),
        ];
        let nodes = steps.into_iter().enumerate().map(|(index, (name, op, inputs))| Node {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|&i| ValueId(i)).collect(),
            output: ValueId(index + 1),
        });
        Graph {
            values: (0..8).map(|i| format!("v{i}")).collect(),
            inputs: vec![Input {
                name: "x".into(),
                dims: vec![None; 4],
                kind: Kind::Float,
                value: ValueId(0),
            }],
            outputs: vec![Output { name: "y".into(), dims: None, value: ValueId(7) }],
            nodes: nodes.collect(),
            weights: [conv(8, 16, 1), conv(16, 16, 16), conv(16, 16, 1)].map(&mut weights).to_vec(),
            ..Graph::default()
        }
    }

    fn samples(rng: &mut fastrand::Rng) -> Vec<Vec<Vec<f32>>> {
        (0..3).map(|_| vec![(0..8 * 9 * 7).map(|_| rng.f32() - 0.3).collect()]).collect()
    }

    const DIMS: [&[usize]; 1] = [&[1, 8, 9, 7]];

    #[test]
    fn calibration_brings_the_moments_of_every_layer_to_those_of_the_floats() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let (floats, samples) = (network(&mut rng), samples(&mut rng));
        let options = QuantizeOptions { bits: 2, block: 8, ..QuantizeOptions::default() };
        let quantized = quantize(&floats, &options, |_, _, _| ()).unwrap();
        let fitted = |fit| {
            let mut names = Vec::new();
            let mut progress =
                |_: usize, count: usize, name: &str| names.push((count, name.to_string()));
            let (convolve, progress) = (&mut on_cpu, &mut progress);
            let run = SampleRun { samples: &samples, dims: &DIMS, convolve, progress };
            let fitted = calibrate(&floats, &quantized, fit, run).unwrap();
            assert_eq!(names, ["conv0", "conv1", "conv2"].map(|name| (3, name.to_string())));
            fitted
        };
        let of = |graph: &Graph| {
            let mut walk = Walk::new(graph, &samples, &DIMS).unwrap();
            let mut all = Vec::new();
            while let Some(step) = walk.next_convolution().unwrap() {
                let outputs = walk.convolve(&step, &step.weights, &mut on_cpu).unwrap();
                all.extend(moments(outputs, step.output));
                walk.finish_convolution(None).unwrap();
            }
            all
        };
        let error = |a: &[(f64, f64)], b: &[(f64, f64)]| {
            let errors = a.iter().zip(b).map(|(a, b)| (a.0 - b.0).abs().max((a.1 - b.1).abs()));
            errors.fold(0.0, f64::max)
        };
        let wanted = of(&floats);
        assert_eq!(wanted.len(), 48);
        assert!(error(&wanted, &of(&quantized)) > 0.05, "2 bits leave something to mend, {seed}");
        for sweeps in [None, Some(0), Some(1)] {
            let fit =
                sweeps.map_or(Fit::Moments, |sweeps| Fit::Gptq { method: Method::MinMse, sweeps });
            let Calibrated { graph, layers } = fitted(fit);
            assert!(error(&wanted, &of(&graph)) < 1e-4, "{fit:?}, seed {seed}");
            assert_eq!(
                layers.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(),
                ["conv0", "conv2"]
            );
            for FittedLayer { name, error } in layers {
                let better = error.map(|[before, after]| after <= before);
                assert_eq!(better, sweeps.map(|_| true), "{name}, {error:?}, {fit:?}, seed {seed}");
            }
        }
    }

    #[test]
    fn memory_is_told_by_samples_and_by_what_the_largest_layer_reads() {
        let mut rng = fastrand::Rng::new();
        let floats = network(&mut rng);
        let memory = |fit, samples| calibration_memory(&floats, fit, samples, &DIMS).unwrap();
        let gptq = Fit::Gptq { method: Method::MinMse, sweeps: 0 };
        let reads = floats.convolutions().map(|(_, id)| {
            let descriptor = descriptor(floats.weights(id));
            let taps = descriptor.kernel[0] * descriptor.kernel[1];
            let reads = u64::from(descriptor.channels_per_group() * taps);
            reads * reads * u64::from(descriptor.groups)
        });
        let gathered = 24 * reads.max().unwrap();
        for samples in [1, 7] {
            assert_eq!(memory(gptq, samples), memory(Fit::Moments, samples) + gathered);
        }
        // A sample more takes its tensors twice: its input at least, and at most all of them.
        let more = memory(gptq, 8) - memory(gptq, 7);
        assert_eq!(more, memory(gptq, 2) - memory(gptq, 1));
        assert!(more >= 2 * 4 * 504, "{more}");
        assert!(memory(gptq, u64::MAX) == u64::MAX, "nothing wraps around");
    }

    #[test]
    fn networks_and_samples_that_do_not_belong_together_are_refused() {
        let mut rng = fastrand::Rng::new();
        let floats = network(&mut rng);
        let error = |samples: &[Vec<Vec<f32>>]| {
            let (convolve, progress) = (&mut on_cpu, &mut |_, _, _: &str| ());
            let run = SampleRun { samples, dims: &DIMS, convolve, progress };
            calibrate(&floats, &floats, Fit::Moments, run).unwrap_err().to_string()
        };
        assert!(error(&[]).contains("samples"), "{}", error(&[]));
        assert!(error(&[vec![vec![0.0; 3]]]).contains("504 elements"));
    }

    #[test]
    fn widths_keep_to_the_budget_and_reach_the_signal_to_noise() {
        let mut rng = fastrand::Rng::new();
        let (floats, samples) = (network(&mut rng), samples(&mut rng));
        let options = QuantizeOptions { block: 8, ..QuantizeOptions::default() };
        let gptq = Fit::Gptq { method: Method::MinMse, sweeps: 0 };
        let fitted = |target, fit| {
            let (convolve, progress) = (&mut on_cpu, &mut |_, _, _: &str| ());
            let run = SampleRun { samples: &samples, dims: &DIMS, convolve, progress };
            allocate(&floats, &options, (target, fit), run)
        };
        let widths = |target| fitted(target, Fit::Moments);
        let bytes = |overrides| {
            let options = QuantizeOptions { overrides, ..options.clone() };
            let quantized = quantize(&floats, &options, |_, _, _| ()).unwrap();
            report(&floats, &quantized).iter().map(|layer| layer.bytes).sum::<u64>()
        };
        let (least, most) =
            (bytes(widths(Target::Snr(0.0)).unwrap()), bytes(widths(Target::Snr(200.0)).unwrap()));
        assert!(least < most);
        for (budget, fit) in [least, (least + most) / 2, most]
            .into_iter()
            .flat_map(|b| [(b, gptq), (b, Fit::Moments)])
        {
            let widths = fitted(Target::Bytes(budget), fit).unwrap();
            assert_eq!(widths.len(), 2, "depthwise layers stay floats");
            let bytes = bytes(widths);
            assert!(bytes <= budget && bytes + 600 > budget, "{bytes} of {budget}, {fit:?}");
        }
        for mean in [2.0, 2.3, 4.5, 8.0] {
            let widths = fitted(Target::MeanBits(mean), gptq).unwrap();
            // 1152 and 2304 weights.
            let [(_, first), (_, second)] = &widths[..] else { panic!("{widths:?}") };
            let got = (f64::from(*first) + 2.0 * f64::from(*second)) / 3.0;
            assert!(got <= mean && got + 1.0 > mean, "{got} of {mean}");
        }
        for mean in [1.9, 8.1, f64::NAN] {
            let refused = widths(Target::MeanBits(mean)).unwrap_err().to_string();
            assert!(refused.contains("mean bits"), "{refused}");
        }
        let refused = widths(Target::Bytes(100)).unwrap_err().to_string();
        assert!(refused.contains("target size") && refused.contains("got 100"), "{refused}");
        let unknown = QuantizeOptions { keep_float: vec!["head*".into()], ..options.clone() };
        let refused = quantize(&floats, &unknown, |_, _, _| ()).unwrap_err().to_string();
        assert!(refused.contains("head*") && refused.contains("conv0"), "{refused}");
    }
}
