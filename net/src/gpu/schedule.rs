//! What a program becomes on a GPU: tasks, each a dispatch, over slots of memory. Nothing here touches the device.

use super::geometry;
use super::kernels::Dispatch;
use super::network::{Activations, NetworkOptions};
use crate::ir::program::{Program, Source, Step, StepOp, TensorId};
use crate::{Result, cpu};
use dsconv::gpu::{
    ActivationFormat, Capabilities, ConvProblem, Int8Output, Kernel, LayerOptions, MemoryUse,
};
use dsconv::{ActivationScale, Blocks, Residual, Shape, Weights};
use std::collections::HashMap;
use std::sync::Arc;

/// How integer activations get their scales.
pub(crate) const SCALE: ActivationScale = ActivationScale::PowerOfTwo;

/// An index into [`Schedule::slots`].
pub(crate) type SlotId = usize;

/// A tensor in device memory: floats, or integer activations.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) bytes: u64,
    /// Of a constant, which lies in a buffer of its own.
    pub(crate) constant: Option<Arc<Vec<f32>>>,
}

/// A dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The step that it belongs to.
    pub(crate) step: usize,
    pub(crate) work: Work,
    pub(crate) reads: Vec<SlotId>,
    pub(crate) write: SlotId,
}

/// What a task does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A convolution. Reads the input, and the residual.
    Conv(Conv),
    /// The quantisation of the input of that convolution. Reads the floats.
    Quantize(Conv),
    /// Any other operation.
    Other(Dispatch),
}

/// A layer and its input's shape.
#[derive(Clone, Debug)]
pub(crate) struct Conv {
    pub(crate) weights: Arc<Weights>,
    pub(crate) options: LayerOptions,
    pub(crate) input: Shape,
}

/// Tasks in the order they run in.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub(crate) slots: Vec<Slot>,
    pub(crate) tasks: Vec<Task>,
    /// The program's inputs and outputs.
    pub(crate) inputs: Vec<SlotId>,
    pub(crate) outputs: Vec<SlotId>,
}

/// Integer activations that convolutions can share: of that tensor, as that shape, in those blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Quantized {
    tensor: TensorId,
    shape: Shape,
    groups: u32,
    blocks: Blocks,
}

impl Schedule {
    pub(crate) fn new(
        program: &Program,
        options: NetworkOptions,
        capabilities: &Capabilities,
    ) -> Result<Self> {
        let slots = program
            .values()
            .iter()
            .map(|value| Slot {
                bytes: 4 * value.elements() as u64,
                constant: match &value.source {
                    Source::Constant(values) => Some(values.clone()),
                    _ => None,
                },
            })
            .collect();
        let slot = |&id: &TensorId| program.storage(id).index();
        let mut schedule = Self {
            slots,
            tasks: Vec::new(),
            inputs: program.inputs().iter().map(slot).collect(),
            outputs: program.outputs().iter().map(slot).collect(),
        };
        let quantized: Vec<Option<Quantized>> = program
            .steps()
            .iter()
            .map(|step| match options.activations {
                Activations::F32 => Ok(None),
                Activations::Int8 => quantized(program, step),
            })
            .collect::<Result<_>>()?;
        let mut integers = HashMap::new();
        for (index, step) in program.steps().iter().enumerate() {
            schedule
                .step(program, index, options, &quantized, &mut integers, capabilities)
                .map_err(|e| e.in_node(&step.name, "step"))?;
        }
        Ok(schedule)
    }

    fn step(
        &mut self,
        program: &Program,
        index: usize,
        options: NetworkOptions,
        quantized: &[Option<Quantized>],
        integers: &mut HashMap<Quantized, SlotId>,
        capabilities: &Capabilities,
    ) -> Result<()> {
        let step = &program.steps()[index];
        let slot = |id: TensorId| program.storage(id).index();
        let StepOp::Conv { weights, activation, residual } = &step.op else {
            let dims: Vec<_> =
                step.inputs.iter().map(|&id| program.value(id).dims.as_slice()).collect();
            let output = &program.value(step.output).dims;
            for (dispatch, inputs) in geometry::dispatches(&step.op, &dims, output)? {
                self.tasks.push(Task {
                    step: index,
                    work: Work::Other(dispatch),
                    reads: step.inputs[inputs].iter().map(|&id| slot(id)).collect(),
                    write: slot(step.output),
                });
            }
            return Ok(());
        };
        let mut conv = Conv {
            weights: weights.clone(),
            options: LayerOptions {
                activation: *activation,
                residual: *residual,
                scale_format: options.scale_format,
                ..LayerOptions::default()
            },
            input: cpu::shape(&program.value(step.inputs[0]).dims)?,
        };
        if quantized[index].is_some() {
            conv.options.input_format = ActivationFormat::Int8;
        }
        let mut write = slot(step.output);
        if let Some(key) = successor(program, index, quantized) {
            let int8_output = Some(Int8Output { blocks: key.blocks, scale: SCALE });
            let floats = ConvProblem::new(&*conv.weights, conv.options.input_format);
            let problem = ConvProblem { int8_output, ..floats };
            let kernel = Kernel::choose(&problem, capabilities);
            // Not at the price of a slower kernel.
            if kernel == Kernel::choose(&floats, capabilities)
                && kernel.supports(&problem, capabilities).is_ok()
            {
                conv.options.int8_output = int8_output;
                let memory = MemoryUse::of_plan(&*conv.weights, conv.input, &conv.options)?;
                write = self.slot(memory.output);
                integers.insert(key, write);
            }
        }
        let mut reads: Vec<SlotId> = step.inputs.iter().map(|&id| slot(id)).collect();
        if let Some(key) = quantized[index] {
            reads[0] = match integers.get(&key) {
                Some(&made) => made,
                None => {
                    let memory = MemoryUse::of_plan(&*conv.weights, conv.input, &conv.options)?;
                    let made = self.slot(memory.input);
                    integers.insert(key, made);
                    self.tasks.push(Task {
                        step: index,
                        work: Work::Quantize(conv.clone()),
                        reads: vec![reads[0]],
                        write: made,
                    });
                    made
                }
            };
        }
        self.tasks.push(Task { step: index, work: Work::Conv(conv), reads, write });
        Ok(())
    }

    fn slot(&mut self, bytes: u64) -> SlotId {
        self.slots.push(Slot { bytes, constant: None });
        self.slots.len() - 1
    }
}

/// What a convolution reads if its input is integer activations.
fn quantized(program: &Program, step: &Step) -> Result<Option<Quantized>> {
    let StepOp::Conv { weights, .. } = &step.op else { return Ok(None) };
    let Weights::DsConv(packed) = weights.as_ref() else { return Ok(None) };
    let descriptor = packed.descriptor();
    // Fewer channels than the bytes of a word would grow and not shrink.
    if descriptor.channels_per_group() < 4 {
        return Ok(None);
    }
    let shape = cpu::shape(&program.value(step.inputs[0]).dims)?;
    Ok(Some(Quantized {
        tensor: program.storage(step.inputs[0]),
        shape,
        groups: descriptor.groups,
        blocks: packed.blocks(),
    }))
}

/// The integer activations that are all that is ever read of a convolution's output, if so.
fn successor(
    program: &Program,
    index: usize,
    quantized: &[Option<Quantized>],
) -> Option<Quantized> {
    let output = program.steps()[index].output;
    if program.outputs().iter().any(|&id| program.storage(id) == output) {
        return None;
    }
    let mut wanted = None;
    for (reader, key) in program.steps().iter().zip(quantized).skip(index + 1) {
        let reads = |id: &&TensorId| program.storage(**id) == output;
        match reader.inputs.iter().filter(reads).count() {
            0 => continue,
            // As its input, and not as its residual.
            1 if program.storage(reader.inputs[0]) == output => {}
            _ => return None,
        }
        if key.is_none() || wanted.is_some_and(|wanted| Some(wanted) != *key) {
            return None;
        }
        wanted = *key;
    }
    let shape = cpu::shape(&program.value(output).dims).ok()?;
    wanted.filter(|key| key.groups == 1 && key.shape == shape)
}

/// Whether a layer adds a second tensor.
pub(crate) const fn has_residual(options: &LayerOptions) -> bool {
    !matches!(options.residual, Residual::None)
}
