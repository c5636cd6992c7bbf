//! A network run on samples step by step, with a stop at every convolution: there its output can be measured, and
//! changed before the steps behind it read it.

use crate::cpu::{self, Operand, evaluate};
use crate::ir::graph::Graph;
use crate::ir::program::{Program, Source, Step, StepOp, TensorId};
use crate::{Error, Result};
use dsconv::{Activation, Residual, Shape, Weights, reference};
use std::sync::Arc;

/// Computes one convolution of NCHW floats, without activation and residual: on a GPU, or [`on_cpu`].
pub type Convolve<'a> = dyn FnMut(&Weights, Shape, &[f32]) -> Result<Vec<f32>> + 'a;

/// The reference on the CPU, as a [`Convolve`].
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

/// Samples to run a network on, and how to do it: what [`calibrate`](crate::calibrate) and
/// [`allocate`](crate::allocate) need besides the networks.
pub struct SampleRun<'a> {
    /// The samples: for each the elements of the network's inputs.
    pub samples: &'a [Vec<Vec<f32>>],
    /// The dims of the network's inputs.
    pub dims: &'a [&'a [usize]],
    /// Computes a convolution.
    pub convolve: &'a mut Convolve<'a>,
    /// Hears of every layer: its number, how many there are, its name.
    pub progress: &'a mut dyn FnMut(usize, usize, &str),
}

/// A network run step by step on several samples at once, that stops at every convolution.
pub(crate) struct Walk {
    program: Arc<Program>,
    /// The tensors alive, per sample.
    tensors: Vec<Vec<Option<Arc<Vec<f32>>>>>,
    /// The number of readers that each tensor has left.
    readers: Vec<usize>,
    /// The next step.
    at: usize,
    /// The outputs of the convolution at `at`, per sample, before its epilogue.
    pending: Vec<Vec<f32>>,
}

/// Dims and elements of what a step reads.
type SharedOperand<'a> = (&'a [usize], Arc<Vec<f32>>);

/// A convolution that a [`Walk`] stands at, with what it reads.
pub(crate) struct Convolution {
    pub(crate) name: String,
    /// As the program has them: with the padding for this input.
    pub(crate) weights: Arc<Weights>,
    pub(crate) input: Shape,
    pub(crate) output: Shape,
    /// Per sample.
    pub(crate) inputs: Vec<Arc<Vec<f32>>>,
}

impl Walk {
    /// Starts a walk through `graph`, specialised to inputs of the shapes `dims`.
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
        let readers = cpu::readers(&program);
        Ok(Self { program: Arc::new(program), tensors, readers, at: 0, pending: Vec::new() })
    }

    /// A walk that goes on from here with every `step`th sample only.
    pub(crate) fn thinned(&self, step: usize) -> Self {
        let tensors = self.tensors.iter().step_by(step).cloned().collect();
        let (program, readers) = (self.program.clone(), self.readers.clone());
        Self { program, tensors, readers, at: self.at, pending: Vec::new() }
    }

    /// Goes on to the end, and returns the network's outputs, one after the other, for each sample.
    pub(crate) fn finish(mut self, convolve: &mut Convolve<'_>) -> Result<Vec<Vec<f32>>> {
        while let Some(step) = self.next_convolution()? {
            self.convolve(&step, &step.weights, convolve)?;
            self.finish_convolution(None)?;
        }
        let output = |tensors: &Vec<Option<Arc<Vec<f32>>>>, id: TensorId| {
            let value = tensors[self.program.storage(id).index()].as_ref();
            let missing = || Error::invalid("output", "a tensor that a step computes", "none");
            Ok(value.ok_or_else(missing)?.to_vec())
        };
        let outputs = |tensors| {
            let all = self.program.outputs().iter().map(|&id| output(tensors, id));
            Ok(all.collect::<Result<Vec<_>>>()?.concat())
        };
        self.tensors.iter().map(outputs).collect()
    }

    /// Runs up to the next convolution.
    pub(crate) fn next_convolution(&mut self) -> Result<Option<Convolution>> {
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
        let inputs = (0..self.tensors.len())
            .map(|sample| Ok(self.operands(step, sample)?[0].1.clone()))
            .collect::<Result<Vec<_>>>()?;
        Ok(Some(Convolution {
            name: step.name.clone(),
            weights: weights.clone(),
            input: cpu::shape(&self.program.value(step.inputs[0]).dims)?,
            output: cpu::shape(&self.program.value(step.output).dims)?,
            inputs,
        }))
    }

    /// The outputs of the convolution that the walk stands at, per sample, without activation and residual, with its own
    /// weights or others of their geometry.
    pub(crate) fn convolve(
        &mut self,
        at: &Convolution,
        weights: &Weights,
        convolve: &mut Convolve<'_>,
    ) -> Result<&[Vec<f32>]> {
        let outputs = at.inputs.iter().map(|x| convolve(weights, at.input, x));
        self.pending = outputs.collect::<Result<_>>()?;
        Ok(&self.pending)
    }

    /// The outputs that [`convolve`](Self::convolve) left.
    pub(crate) fn outputs(&self) -> &[Vec<f32>] {
        &self.pending
    }

    /// Goes past the convolution, whose outputs are there, with a scale and a shift for each of its output channels.
    pub(crate) fn finish_convolution(&mut self, fit: Option<&[(f32, f32)]>) -> Result<()> {
        let program = self.program.clone();
        let step = &program.steps()[self.at];
        let StepOp::Conv { activation, residual, .. } = &step.op else { return Ok(()) };
        let shape = cpu::shape(&self.program.value(step.output).dims)?;
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

    /// The tensors of a sample that a step reads.
    fn operands(&self, step: &Step, sample: usize) -> Result<Vec<SharedOperand<'_>>> {
        let operand = |&id: &TensorId| {
            let value = self.program.value(id);
            let values = self.tensors[sample][self.program.storage(id).index()].clone();
            let missing =
                || Error::invalid(&value.name, "a tensor computed before it is read", "none");
            Ok((value.dims.as_slice(), values.ok_or_else(missing)?))
        };
        step.inputs.iter().map(operand).collect()
    }

    /// Keeps the outputs of the step at hand, drops what nobody reads any more, and goes on.
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

/// Applies activation and residual to a convolution's sums.
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
