//! Calibration by the channel distribution shift: per output channel a scale and a shift, fitted layer by
//! layer in the network's order, so that mean and standard deviation of the quantised layer's output are
//! those of the float network on unlabelled samples.

use crate::cpu::{Operand, evaluate};
use crate::graph::Graph;
use crate::program::{Program, Source, Step, StepOp, TensorId};
use crate::{Error, Result};
use dsconv::{Activation, Cds, DsConvWeights, FloatWeights, Residual, Shape, Weights, reference};
use std::sync::Arc;

/// Computes one convolution of NCHW floats, without activation and residual: on a GPU, or [`on_cpu`].
pub type Convolve<'a> = dyn FnMut(&Weights, Shape, &[f32]) -> Result<Vec<f32>> + 'a;

/// The reference on the CPU as [`Convolve`].
///
/// # Errors
/// As [`reference::convolve`].
pub fn on_cpu(weights: &Weights, input: Shape, x: &[f32]) -> Result<Vec<f32>> {
    let y = match weights {
        Weights::Float(weights) => reference::convolve(weights, input, x)?,
        Weights::DsConv(weights) => reference::convolve(weights, input, x)?,
    };
    Ok(y.values.into_iter().map(|y| y as f32).collect())
}

/// A channel of fewer values than this has moments that say little; it stays as it is.
const FEWEST: usize = 100;

/// Fits the channel distribution shift of every quantised convolution, and scale and bias of the float ones
/// behind them, on `samples`: each the inputs of a run, of the shapes `dims`.
///
/// `floats` is the network that `quantized` was made from. `progress` hears of every layer: its number, how
/// many there are, its name.
///
/// # Errors
/// No samples, samples that don't fit, networks that don't belong together, or what `convolve` says.
pub fn calibrate(
    floats: &Graph,
    quantized: &Graph,
    samples: &[Vec<Vec<f32>>],
    dims: &[&[usize]],
    convolve: &mut Convolve<'_>,
    mut progress: impl FnMut(usize, usize, &str),
) -> Result<Graph> {
    let mut target = Walk::new(floats, samples, dims)?;
    let mut walk = Walk::new(quantized, samples, dims)?;
    let mut calibrated = quantized.clone();
    let layers = floats.convolutions().count();
    let mut done = 0;
    while let Some(wanted) = target.next_convolution(convolve)? {
        let Some(step) = walk.next_convolution(convolve)? else {
            return Err(Error::invalid(
                "networks",
                "the same convolutions",
                "fewer quantised ones",
            ));
        };
        if step.name != wanted.name || step.output != wanted.output {
            return Err(Error::invalid("networks", &wanted.name, &step.name));
        }
        progress(done, layers, &step.name);
        done += 1;
        let name = step.name.clone();
        let values = step.output.pixels() * step.runs.len();
        let (wanted, got) = (moments(&wanted), moments(&step));
        target.finish_convolution(None)?;
        let fit: Vec<(f32, f32)> =
            wanted.iter().zip(&got).map(|(&w, &g)| scale_and_shift(w, g)).collect();
        // Where nothing was quantised on the way, nothing needs mending.
        let exact = wanted == got || values < FEWEST;
        if !exact {
            let node = quantized.convolutions().find(|(node, _)| node.name == name);
            let (_, id) = node
                .ok_or_else(|| Error::invalid("networks", "a convolution of that name", &name))?;
            calibrated.set_weights(id, shifted(calibrated.weights(id), &fit)?)?;
        }
        walk.finish_convolution((!exact).then_some(&fit))?;
    }
    Ok(calibrated)
}

/// Mean and standard deviation of each output channel over all runs.
fn moments(step: &Convolution<'_>) -> Vec<(f64, f64)> {
    let channels = step.output.channels as usize;
    let plane = (step.output.height * step.output.width) as usize;
    let mut sums = vec![(0.0f64, 0.0f64); channels];
    let count = (step.runs.len() * step.output.batch as usize * plane) as f64;
    for (_, y) in &step.runs {
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

/// What brings a channel of mean and deviation `got` to `wanted`.
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

/// A network run step by step on several samples at once, that stops at every convolution.
pub(crate) struct Walk {
    program: Program,
    /// Of each sample: the tensors alive.
    tensors: Vec<Vec<Option<Arc<Vec<f32>>>>>,
    /// How many readers a tensor has left.
    readers: Vec<usize>,
    /// The next step.
    at: usize,
    /// What the convolution at `at` gave, before its epilogue.
    pending: Vec<Vec<f32>>,
}

/// Dims and elements.
type Tensor<'a> = (&'a [usize], Arc<Vec<f32>>);

/// A convolution that a [`Walk`] stands at.
pub(crate) struct Convolution<'a> {
    pub(crate) name: String,
    pub(crate) weights: &'a Weights,
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    /// Of each sample: the input, and the output without activation and residual.
    pub(crate) runs: Vec<(Arc<Vec<f32>>, &'a [f32])>,
}

impl Walk {
    /// At the start of `graph`, specialised to inputs of the shapes `dims`.
    pub(crate) fn new(graph: &Graph, samples: &[Vec<Vec<f32>>], dims: &[&[usize]]) -> Result<Self> {
        if samples.is_empty() {
            return Err(Error::invalid("samples", "at least one", 0));
        }
        let program = graph.specialise(dims)?;
        let tensors = samples
            .iter()
            .map(|inputs| {
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                program.check_inputs(&inputs)?;
                let tensor = |source: &Source| match source {
                    Source::Input(index) => Some(Arc::new(inputs[*index].to_vec())),
                    Source::Constant(values) => Some(values.clone()),
                    Source::Step(_) | Source::View(_) => None,
                };
                Ok(program.values().iter().map(|value| tensor(&value.source)).collect())
            })
            .collect::<Result<_>>()?;
        let mut readers = vec![0; program.values().len()];
        for &id in program.steps().iter().flat_map(|step| &step.inputs) {
            readers[program.storage(id).index()] += 1;
        }
        Ok(Self { program, tensors, readers, at: 0, pending: Vec::new() })
    }

    /// Runs up to and with the next convolution, without what is fused behind it.
    pub(crate) fn next_convolution(
        &mut self,
        convolve: &mut Convolve<'_>,
    ) -> Result<Option<Convolution<'_>>> {
        while let Some(step) = self.program.steps().get(self.at) {
            if matches!(step.op, StepOp::Conv { .. }) {
                break;
            }
            let dims = &self.program.value(step.output).dims;
            let outputs = (0..self.tensors.len())
                .map(|sample| {
                    let operands = self.operands(step, sample)?;
                    let operands: Vec<Operand<'_, f32>> =
                        operands.iter().map(|(dims, values)| Operand { dims, values }).collect();
                    evaluate(&step.op, &operands, dims)
                })
                .collect::<Result<Vec<_>>>()?;
            self.store(outputs);
        }
        let Some(step) = self.program.steps().get(self.at) else { return Ok(None) };
        let StepOp::Conv { weights, .. } = &step.op else { return Ok(None) };
        let input = crate::cpu::shape(&self.program.value(step.inputs[0]).dims)?;
        let output = crate::cpu::shape(&self.program.value(step.output).dims)?;
        let inputs = (0..self.tensors.len())
            .map(|sample| Ok(self.operands(step, sample)?[0].1.clone()))
            .collect::<Result<Vec<_>>>()?;
        self.pending = inputs.iter().map(|x| convolve(weights, input, x)).collect::<Result<_>>()?;
        let runs = inputs.into_iter().zip(self.pending.iter().map(Vec::as_slice)).collect();
        Ok(Some(Convolution { name: step.name.clone(), weights, input, output, runs }))
    }

    /// Goes past the convolution, with a scale and a shift for each of its output channels.
    pub(crate) fn finish_convolution(&mut self, fit: Option<&[(f32, f32)]>) -> Result<()> {
        let step = &self.program.steps()[self.at];
        let StepOp::Conv { activation, residual, .. } = &step.op else { return Ok(()) };
        let shape = crate::cpu::shape(&self.program.value(step.output).dims)?;
        let (channels, plane) = (shape.channels as usize, (shape.height * shape.width) as usize);
        let mut outputs = std::mem::take(&mut self.pending);
        for (sample, y) in outputs.iter_mut().enumerate() {
            for (index, y) in y.chunks_mut(plane).enumerate() {
                let (scale, shift) = fit.map_or((1.0, 0.0), |fit| fit[index % channels]);
                y.iter_mut().for_each(|y| *y = scale * *y + shift);
            }
            let added = match residual {
                Residual::None => None,
                _ => Some(self.operands(step, sample)?[1].1.clone()),
            };
            epilogue(y, *activation, *residual, added.as_deref().map_or(&[], Vec::as_slice));
        }
        self.store(outputs);
        Ok(())
    }

    /// What a step reads of a sample.
    fn operands(&self, step: &Step, sample: usize) -> Result<Vec<Tensor<'_>>> {
        let operand = |&id: &TensorId| {
            let value = self.program.value(id);
            let values = self.tensors[sample][self.program.storage(id).index()].clone();
            let missing =
                || Error::invalid(&value.name, "a tensor computed before it is read", "none");
            Ok((value.dims.as_slice(), values.ok_or_else(missing)?))
        };
        step.inputs.iter().map(operand).collect()
    }

    /// Keeps what the step at hand gave, drops what nobody reads any more, and goes on.
    fn store(&mut self, outputs: Vec<Vec<f32>>) {
        let step = &self.program.steps()[self.at];
        for &id in &step.inputs {
            self.readers[self.program.storage(id).index()] -= 1;
        }
        let dead = step.inputs.iter().map(|&id| self.program.storage(id).index());
        let dead: Vec<usize> = dead.filter(|&index| self.readers[index] == 0).collect();
        for (tensors, y) in self.tensors.iter_mut().zip(outputs) {
            dead.iter().for_each(|&index| tensors[index] = None);
            tensors[step.output.index()] = Some(Arc::new(y));
        }
        self.at += 1;
    }
}

fn epilogue(y: &mut [f32], activation: Activation, residual: Residual, added: &[f32]) {
    let activate = |y: f64| activation.apply(y);
    for (index, y) in y.iter_mut().enumerate() {
        let sum = f64::from(*y);
        let more = || f64::from(added[index]);
        *y = match residual {
            Residual::None => activate(sum),
            Residual::BeforeActivation => activate(sum + more()),
            Residual::AfterActivation => activate(sum) + more(),
        } as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Input, Node, Op, Output, ValueId, WeightsId};
    use crate::op::{Binary, Unary};
    use crate::quantize::{QuantizeOptions, Target, allocate, quantize, report};
    use dsconv::ConvDescriptor;

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
            auto_pad: crate::graph::AutoPad::None,
            channels: crate::graph::Channels::First,
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
            inputs: vec![Input { name: "x".into(), dims: vec![None; 4], value: ValueId(0) }],
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
        let mut names = Vec::new();
        let progress = |_: usize, count: usize, name: &str| names.push((count, name.to_string()));
        let calibrated =
            calibrate(&floats, &quantized, &samples, &DIMS, &mut on_cpu, progress).unwrap();
        assert_eq!(names, ["conv0", "conv1", "conv2"].map(|name| (3, name.to_string())));
        let of = |graph: &Graph| {
            let mut walk = Walk::new(graph, &samples, &DIMS).unwrap();
            let mut all = Vec::new();
            while let Some(step) = walk.next_convolution(&mut on_cpu).unwrap() {
                all.extend(moments(&step));
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
        assert!(error(&wanted, &of(&calibrated)) < 1e-4, "seed {seed}");
    }

    #[test]
    fn networks_and_samples_that_do_not_belong_together_are_refused() {
        let mut rng = fastrand::Rng::new();
        let floats = network(&mut rng);
        let error = |samples: &[Vec<Vec<f32>>]| {
            let result = calibrate(&floats, &floats, samples, &DIMS, &mut on_cpu, |_, _, _| ());
            result.unwrap_err().to_string()
        };
        assert!(error(&[]).contains("samples"), "{}", error(&[]));
        assert!(error(&[vec![vec![0.0; 3]]]).contains("504 elements"));
    }

    #[test]
    fn widths_keep_to_the_budget_and_reach_the_signal_to_noise() {
        let mut rng = fastrand::Rng::new();
        let (floats, samples) = (network(&mut rng), samples(&mut rng));
        let options = QuantizeOptions { block: 8, ..QuantizeOptions::default() };
        let widths = |target| {
            allocate(&floats, &options, target, &samples, &DIMS, &mut on_cpu, |_, _, _| ())
        };
        let bytes = |overrides| {
            let options = QuantizeOptions { overrides, ..options.clone() };
            let quantized = quantize(&floats, &options, |_, _, _| ()).unwrap();
            report(&floats, &quantized).iter().map(|layer| layer.bytes).sum::<u64>()
        };
        let (least, most) =
            (bytes(widths(Target::Snr(0.0)).unwrap()), bytes(widths(Target::Snr(200.0)).unwrap()));
        assert!(least < most);
        for budget in [least, (least + most) / 2, most] {
            let widths = widths(Target::Bytes(budget)).unwrap();
            assert_eq!(widths.len(), 2, "depthwise layers stay floats");
            let bytes = bytes(widths);
            assert!(bytes <= budget && bytes + 600 > budget, "{bytes} of {budget}");
        }
        let refused = widths(Target::Bytes(100)).unwrap_err().to_string();
        assert!(refused.contains("target size") && refused.contains("got 100"), "{refused}");
        let unknown = QuantizeOptions { keep_float: vec!["head*".into()], ..options.clone() };
        let refused = quantize(&floats, &unknown, |_, _, _| ()).unwrap_err().to_string();
        assert!(refused.contains("head*") && refused.contains("conv0"), "{refused}");
    }
}
