//! A program as tasks for a GPU, each a dispatch over slots of memory. Nothing here touches the device.

use super::axes::Arranged;
use super::channels_last::Layouts;
use super::geometry;
use super::gradients::{self, Spread};
use super::kernels::Dispatch;
use super::options::{Activations, NetworkOptions};
use crate::ir::graph::descriptor;
use crate::ir::program::{Program, Source, Step, StepOp, TensorId};
use crate::{Result, cpu, tensor};
use dsconv::gpu::{
    ActivationFormat, Capabilities, ConvProblem, Int8Output, Kernel, LayerOptions, MemoryUse,
};
use dsconv::{ActivationScale, Blocks, Layout, Residual, Shape, Weights};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// The way that integer activations get their scales.
pub(crate) const SCALE: ActivationScale = ActivationScale::PowerOfTwo;

/// An index into [`Schedule::slots`].
pub(crate) type SlotId = usize;

/// A tensor in device memory: floats, or integer activations.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) bytes: u64,
    /// The elements of a constant, which lies in a buffer of its own.
    pub(crate) constant: Option<Arc<Vec<f32>>>,
}

/// A dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// The step that it belongs to.
    pub(crate) step: usize,
    pub(crate) kind: TaskKind,
    pub(crate) reads: Vec<SlotId>,
    pub(crate) write: SlotId,
}

/// The work of a task.
#[derive(Clone, Debug)]
pub(crate) enum TaskKind {
    /// A convolution. Reads the input, and the residual.
    Conv(ConvTask),
    /// The quantisation of the input of that convolution. Reads the floats.
    Quantize(ConvTask),
    /// Any other operation.
    Other(Dispatch),
}

/// A layer and its input's shape.
#[derive(Clone, Debug)]
pub(crate) struct ConvTask {
    pub(crate) weights: Arc<Weights>,
    pub(crate) form: Form,
    pub(crate) options: LayerOptions,
    pub(crate) input: Shape,
}

/// The form of weights that a layer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Given,
    /// Transposed, for the gradient of the input, with the padding of that convolution.
    Transposed { padding: [u32; 4] },
}

impl Form {
    /// Weights in this form.
    ///
    /// # Errors
    /// A scale that leaves the range of f32.
    pub(crate) fn of(self, weights: &Weights) -> Result<Cow<'_, Weights>> {
        Ok(match self {
            Self::Given => Cow::Borrowed(weights),
            Self::Transposed { padding } => {
                Cow::Owned(gradients::transposed(weights, padding)?.into())
            }
        })
    }
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

/// Integer activations that convolutions can share: the same tensor, as the same shape, in the same blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Int8Input {
    tensor: TensorId,
    shape: Shape,
    groups: u32,
    blocks: Blocks,
}

impl Schedule {
    /// The tasks of a program whose tensors lie in these layouts.
    ///
    /// # Errors
    /// An operation that no kernel does.
    pub(crate) fn new(
        layouts: Layouts<'_>,
        options: NetworkOptions,
        capabilities: &Capabilities,
    ) -> Result<Self> {
        let program = layouts.program();
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
        let schedule = Self { slots, tasks: Vec::new(), inputs: Vec::new(), outputs: Vec::new() };
        let int8_inputs: Vec<Option<Int8Input>> = program
            .steps()
            .iter()
            .map(|step| match options.activations {
                Activations::F32 => Ok(None),
                Activations::Int8 => int8_input(program, step),
            })
            .collect::<Result<_>>()?;
        let mut scheduler = Scheduler {
            program,
            options,
            capabilities,
            layouts,
            places: (0..program.values().len()).collect(),
            copies: HashMap::new(),
            int8_inputs,
            made: HashMap::new(),
            schedule,
        };
        for (index, step) in program.steps().iter().enumerate() {
            scheduler.step(index).map_err(|e| e.in_node(&step.name, "step"))?;
        }
        let slots = |ids: &[TensorId]| ids.iter().map(|&id| scheduler.slot_of(id)).collect();
        let (inputs, outputs) = (slots(program.inputs()), slots(program.outputs()));
        Ok(Self { inputs, outputs, ..scheduler.schedule })
    }

    fn slot(&mut self, bytes: u64) -> SlotId {
        self.slots.push(Slot { bytes, constant: None });
        self.slots.len() - 1
    }
}

/// A schedule while it is made.
struct Scheduler<'a> {
    program: &'a Program,
    options: NetworkOptions,
    capabilities: &'a Capabilities,
    layouts: Layouts<'a>,
    /// The slot of each storage: its own, or that of a tensor that lies in memory just so.
    places: Vec<SlotId>,
    /// The slots of tensors in another layout than they were made in.
    copies: HashMap<(TensorId, Layout), SlotId>,
    /// The integer activations that each step reads, if it does.
    int8_inputs: Vec<Option<Int8Input>>,
    /// The slots of the integer activations that tasks have made so far.
    made: HashMap<Int8Input, SlotId>,
    schedule: Schedule,
}

impl Scheduler<'_> {
    fn slot_of(&self, id: TensorId) -> SlotId {
        self.places[self.program.storage(id).index()]
    }

    /// The slot of a tensor in a layout, copied for that step if it lies in another.
    fn slot_in(&mut self, step: usize, id: TensorId, layout: Layout) -> SlotId {
        let program = self.program;
        let storage = program.storage(id);
        // A reshape reads its storage row-major.
        let (slot, id, lies) = match self.layouts.is_whole(id) {
            true => (self.slot_of(id), storage, self.layouts.of(id)),
            false => (self.slot_in(step, storage, Layout::Nchw), id, Layout::Nchw),
        };
        if lies == layout || self.layouts.is_either(id) {
            return slot;
        }
        if let Some(&copy) = self.copies.get(&(id, layout)) {
            return copy;
        }
        let value = program.value(id);
        let copy = self.schedule.slot(4 * value.elements() as u64);
        let kind = TaskKind::Other(geometry::rearrange(&value.dims, lies, layout));
        self.schedule.tasks.push(Task { step, kind, reads: vec![slot], write: copy });
        self.copies.insert((id, layout), copy);
        copy
    }

    /// The slots that a step reads its inputs from.
    fn reads(&mut self, index: usize) -> Vec<SlotId> {
        let step = &self.program.steps()[index];
        let input = |(at, &id)| {
            let layout = self.layouts.of_input(step, at);
            self.slot_in(index, id, layout)
        };
        step.inputs.iter().enumerate().map(input).collect()
    }

    /// Adds the tasks of a step that is no convolution.
    fn other(&mut self, index: usize) -> Result<()> {
        let program = self.program;
        let step = &program.steps()[index];
        let reads = self.reads(index);
        let arranged = |id: TensorId, layout| Arranged::new(&program.value(id).dims, layout);
        let inputs: Vec<_> = (0..)
            .zip(&step.inputs)
            .map(|(at, &id)| arranged(id, self.layouts.of_input(step, at)))
            .collect();
        let output = arranged(step.output, self.layouts.of_output(step));
        let dispatches = geometry::dispatches(&step.op, &inputs, &output)?;
        if dispatches.is_empty() {
            self.places[step.output.index()] = reads[0];
        }
        for (dispatch, inputs) in dispatches {
            let (reads, write) = (reads[inputs].to_vec(), self.slot_of(step.output));
            let kind = TaskKind::Other(dispatch);
            self.schedule.tasks.push(Task { step: index, kind, reads, write });
        }
        Ok(())
    }

    /// Adds the tasks of the gradient of a convolution's input.
    fn input_gradient(&mut self, index: usize, weights: &Arc<Weights>) -> Result<()> {
        let step = &self.program.steps()[index];
        let descriptor = descriptor(weights);
        let dims = |id: TensorId| self.program.value(id).dims.clone();
        let (mut dims, output) = (dims(step.inputs[0]), dims(step.output));
        let layout = self.layouts.of_input(step, 0);
        let spread = Spread::new(&descriptor, [output[2], output[3]]);
        let mut read = self.slot_in(index, step.inputs[0], layout);
        if let Spread::Zeros(size) = spread {
            let dy = Arranged::new(&dims, layout);
            dims[2..].copy_from_slice(&size);
            let elements = tensor::elements("gradient with zeros in between", &dims)?;
            let z = self.schedule.slot(4 * elements as u64);
            let dispatch = geometry::spread(&descriptor, &dy, &Arranged::new(&dims, layout));
            let kind = TaskKind::Other(dispatch);
            self.schedule.tasks.push(Task { step: index, kind, reads: vec![read], write: z });
            read = z;
        }
        let kind = TaskKind::Conv(ConvTask {
            weights: weights.clone(),
            form: Form::Transposed { padding: spread.padding() },
            options: LayerOptions::default()
                .with_input_layout(layout)
                .with_output_layout(self.layouts.of_output(step)),
            input: cpu::shape(&dims)?,
        });
        let write = self.slot_of(step.output);
        self.schedule.tasks.push(Task { step: index, kind, reads: vec![read], write });
        Ok(())
    }

    /// Adds the tasks of the gradient of a convolution's weights.
    fn weight_gradient(&mut self, index: usize, weights: &Arc<Weights>) -> Result<()> {
        let step = &self.program.steps()[index];
        let descriptor = descriptor(weights);
        let reads = self.reads(index);
        let arranged = |at: usize| {
            let dims = &self.program.value(step.inputs[at]).dims;
            Arranged::new(dims, self.layouts.of_input(step, at))
        };
        let dispatch = gradients::weights(&descriptor, &arranged(0), &arranged(1));
        let output = self.slot_of(step.output);
        let every = match **weights {
            Weights::Float(_) => output,
            Weights::DsConv(_) => self.schedule.slot(4 * descriptor.weight_count() as u64),
        };
        let kind = TaskKind::Other(dispatch);
        self.schedule.tasks.push(Task { step: index, kind, reads, write: every });
        if let Weights::DsConv(weights) = &**weights {
            let kind = TaskKind::Other(gradients::scales(weights));
            let reads = vec![every];
            self.schedule.tasks.push(Task { step: index, kind, reads, write: output });
        }
        Ok(())
    }

    /// Adds the tasks of a step.
    fn step(&mut self, index: usize) -> Result<()> {
        let program = self.program;
        let step = &program.steps()[index];
        let (weights, activation, residual) = match &step.op {
            StepOp::Conv { weights, activation, residual } => (weights, activation, residual),
            StepOp::ConvInputGradient { weights } => return self.input_gradient(index, weights),
            StepOp::ConvWeightGradient { weights } => return self.weight_gradient(index, weights),
            _ => return self.other(index),
        };
        let mut conv = ConvTask {
            weights: weights.clone(),
            form: Form::Given,
            options: LayerOptions::default()
                .with_activation(*activation)
                .with_residual(*residual)
                .with_input_layout(self.layouts.of_input(step, 0))
                .with_output_layout(self.layouts.of_output(step))
                .with_scale_format(self.options.scale_format),
            input: cpu::shape(&program.value(step.inputs[0]).dims)?,
        };
        if self.int8_inputs[index].is_some() {
            conv.options.input_format = ActivationFormat::Int8;
        }
        let mut write = self.slot_of(step.output);
        if let Some(key) = successor(program, index, &self.int8_inputs) {
            let int8_output = Int8Output::new(key.blocks, SCALE);
            let floats = ConvProblem::of_layer(&*conv.weights, &conv.options);
            let problem = floats.with_int8_output(int8_output);
            let kernel = Kernel::choose(&problem, self.capabilities);
            // Not at the price of a slower kernel.
            if kernel == Kernel::choose(&floats, self.capabilities)
                && kernel.supports(&problem, self.capabilities).is_ok()
            {
                conv.options.int8_output = Some(int8_output);
                let memory = MemoryUse::of_plan(&*conv.weights, conv.input, &conv.options)?;
                write = self.schedule.slot(memory.output);
                self.made.insert(key, write);
            }
        }
        let mut reads = self.reads(index);
        if let Some(key) = self.int8_inputs[index] {
            reads[0] = match self.made.get(&key) {
                Some(&made) => made,
                None => {
                    let memory = MemoryUse::of_plan(&*conv.weights, conv.input, &conv.options)?;
                    let made = self.schedule.slot(memory.input);
                    self.made.insert(key, made);
                    self.schedule.tasks.push(Task {
                        step: index,
                        kind: TaskKind::Quantize(conv.clone()),
                        reads: vec![reads[0]],
                        write: made,
                    });
                    made
                }
            };
        }
        let kind = TaskKind::Conv(conv);
        self.schedule.tasks.push(Task { step: index, kind, reads, write });
        Ok(())
    }
}

/// The integer activations that a convolution reads, if it does.
fn int8_input(program: &Program, step: &Step) -> Result<Option<Int8Input>> {
    let StepOp::Conv { weights, .. } = &step.op else { return Ok(None) };
    let Weights::DsConv(packed) = weights.as_ref() else { return Ok(None) };
    let descriptor = packed.descriptor();
    // Fewer channels than the bytes of a word would grow and not shrink.
    if descriptor.channels_per_group() < 4 {
        return Ok(None);
    }
    let shape = cpu::shape(&program.value(step.inputs[0]).dims)?;
    Ok(Some(Int8Input {
        tensor: program.storage(step.inputs[0]),
        shape,
        groups: descriptor.groups,
        blocks: packed.blocks(),
    }))
}

/// The integer activations that a convolution can write straight away, because nothing else of its output is read.
fn successor(
    program: &Program,
    index: usize,
    int8_inputs: &[Option<Int8Input>],
) -> Option<Int8Input> {
    let output = program.steps()[index].output;
    if program.outputs().iter().any(|&id| program.storage(id) == output) {
        return None;
    }
    let mut wanted = None;
    for (reader, key) in program.steps().iter().zip(int8_inputs).skip(index + 1) {
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
