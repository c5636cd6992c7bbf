//! A program with its tensors in device memory, as dispatches that are bound and ready to be recorded.

use super::kernels::{BoundKernel, OpKernels};
use super::layout::MemoryLayout;
use super::memory::NetworkMemory;
use super::schedule::{SCALE, Schedule, SlotId, Task, TaskKind, has_residual};
use super::uploads::Uploads;
use crate::ir::program::{Program, TensorId};
use crate::{Error, Result};
use dsconv::gpu::{Plan, Tensors, checked, download};
use std::ops::Range;

/// An input or output of a plan.
#[derive(Debug)]
struct Port {
    name: String,
    dims: Vec<usize>,
    buffer: wgpu::Buffer,
    offset: u64,
}

impl Port {
    fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    fn slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + 4 * self.elements() as u64)
    }
}

#[derive(Debug)]
enum Recorded {
    Conv(Plan),
    Other(BoundKernel),
}

/// A dispatch of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// The name of the program's step, which may take several dispatches.
    pub name: String,
    /// The name of the kernel.
    pub kernel: &'static str,
}

/// A program with its tensors in device memory, ready to be recorded any number of times.
#[derive(Debug)]
pub struct NetworkPlan {
    pub(super) device: wgpu::Device,
    dispatches: Vec<Recorded>,
    steps: Vec<PlanStep>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    memory: NetworkMemory,
    arenas: Vec<wgpu::Buffer>,
}

/// Buffers of a plan while it is made.
struct Buffers<'a> {
    layout: &'a MemoryLayout,
    schedule: &'a Schedule,
    arenas: Vec<wgpu::Buffer>,
    constants: Vec<Option<wgpu::Buffer>>,
}

impl Buffers<'_> {
    /// A tensor's buffer and the offset in it.
    fn place(&self, slot: SlotId) -> Result<(&wgpu::Buffer, u64)> {
        let constant = self.constants[slot].as_ref().map(|buffer| (buffer, 0));
        let arena = || self.layout.places[slot].map(|at| (&self.arenas[at.arena], at.offset));
        let missing = || Error::invalid("tensor", "one with a place in memory", slot);
        constant.or_else(arena).ok_or_else(missing)
    }

    fn slice(&self, slot: SlotId) -> Result<wgpu::BufferSlice<'_>> {
        let (buffer, offset) = self.place(slot)?;
        Ok(buffer.slice(offset..offset + self.schedule.slots[slot].bytes))
    }
}

impl NetworkPlan {
    /// Allocates the tensors and binds every task; weights and constants are uploaded where they are not yet.
    pub(super) fn new(
        uploads: &mut Uploads,
        kernels: &mut OpKernels,
        program: &Program,
        schedule: &Schedule,
        layout: &MemoryLayout,
    ) -> Result<Self> {
        let memory = NetworkMemory::of(schedule, layout);
        let device = uploads.device().clone();
        let arena = |&size: &u64| {
            checked(&device, "the tensors of a network", || {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("dsconv-net tensors"),
                    size,
                    usage: wgpu::BufferUsages::STORAGE
                        | wgpu::BufferUsages::COPY_SRC
                        | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            })
        };
        let arenas = layout.packing.arenas.iter().map(arena).collect::<Result<_, _>>()?;
        let mut constants = vec![None; schedule.slots.len()];
        let reads = schedule.tasks.iter().flat_map(|task| &task.reads);
        for &slot in reads.chain(&schedule.outputs) {
            if let Some(values) = &schedule.slots[slot].constant {
                constants[slot] = Some(uploads.constant(values)?);
            }
        }
        let buffers = Buffers { layout, schedule, arenas, constants };
        let mut dispatches = Vec::with_capacity(schedule.tasks.len());
        let mut steps = Vec::with_capacity(schedule.tasks.len());
        for task in &schedule.tasks {
            let name = &program.steps()[task.step].name;
            let recorded = record(uploads, kernels, task, &buffers);
            let recorded = recorded.map_err(|e| e.in_node(name, "step"))?;
            let kernel = match &recorded {
                Recorded::Conv(plan) => plan.kernel().name(),
                Recorded::Other(bound) => bound.kernel.name(),
            };
            steps.push(PlanStep { name: name.clone(), kernel });
            dispatches.push(recorded);
        }
        let ports = |ids: &[TensorId], slots: &[SlotId]| -> Result<Vec<Port>> {
            ids.iter()
                .zip(slots)
                .map(|(&id, &slot)| {
                    let value = program.value(id);
                    let (buffer, offset) = buffers.place(slot)?;
                    let (name, dims) = (value.name.clone(), value.dims.clone());
                    Ok(Port { name, dims, buffer: buffer.clone(), offset })
                })
                .collect()
        };
        let inputs = ports(program.inputs(), &schedule.inputs)?;
        let outputs = ports(program.outputs(), &schedule.outputs)?;
        Ok(Self { device, dispatches, steps, inputs, outputs, memory, arenas: buffers.arenas })
    }

    /// Fills all tensors with NaN: what a kernel forgets to write shows.
    #[cfg(test)]
    pub(super) fn poison(&self, queue: &wgpu::Queue) {
        for arena in &self.arenas {
            let words = vec![0x7fc0_dead_u32; arena.size() as usize / 4];
            queue.write_buffer(arena, 0, bytemuck::cast_slice(&words));
        }
    }

    /// The place where the host writes an input, row-major, until the plan is submitted: later tensors take that place.
    /// `None` past the last input.
    pub fn input(&self, index: usize) -> Option<wgpu::BufferSlice<'_>> {
        self.inputs.get(index).map(Port::slice)
    }

    /// The place of an output after a run, row-major. `None` past the last output.
    pub fn output(&self, index: usize) -> Option<wgpu::BufferSlice<'_>> {
        self.outputs.get(index).map(Port::slice)
    }

    /// The device memory that the plan holds, and that of the weights and constants that it uses.
    pub fn memory_use(&self) -> NetworkMemory {
        self.memory
    }

    /// The dispatches of a run, in their order.
    pub fn steps(&self) -> &[PlanStep] {
        &self.steps
    }

    /// Records the whole program into a compute pass of its own. Allocates nothing, submits nothing.
    ///
    /// The host has every input written anew before each submission.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("dsconv-net"),
            timestamp_writes: None,
        });
        self.record(0..self.dispatches.len(), &mut pass);
    }

    /// Records a range of the [`steps`](Self::steps) into the host's pass, for instance to time them. All of them must
    /// run once, in order. Allocates nothing, submits nothing.
    ///
    /// # Panics
    /// For a range past the last step.
    pub fn record(&self, steps: Range<usize>, pass: &mut wgpu::ComputePass<'_>) {
        for dispatch in &self.dispatches[steps] {
            match dispatch {
                Recorded::Conv(plan) => plan.record(pass),
                Recorded::Other(bound) => bound.record(pass),
            }
        }
    }

    /// Frees the plan's own memory when what was submitted is done. Commands that are recorded but not submitted
    /// become invalid. A browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.arenas.iter().for_each(wgpu::Buffer::destroy);
        for dispatch in self.dispatches {
            match dispatch {
                Recorded::Conv(plan) => plan.destroy(),
                Recorded::Other(bound) => bound.destroy(),
            }
        }
    }

    /// Uploads inputs, runs the program, downloads its outputs: for first steps and tests. Natively this blocks
    /// while the GPU works; in a browser it does not.
    ///
    /// # Errors
    /// Inputs of another number or length than the program's, or a lost device.
    pub async fn run(&self, queue: &wgpu::Queue, inputs: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
        self.check_inputs(inputs)?;
        checked(&self.device, "the submission", || {
            self.write_inputs(queue, inputs);
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor {
                label: Some("dsconv-net run"),
            });
            self.encode(&mut encoder);
            queue.submit([encoder.finish()]);
        })?;
        // All copies before the first wait: what is submitted then may be the next run.
        let copies: Vec<_> =
            self.outputs.iter().map(|port| download(&self.device, queue, port.slice())).collect();
        let mut outputs = Vec::with_capacity(copies.len());
        for copy in copies {
            outputs.push(copy.await?);
        }
        Ok(outputs)
    }

    /// Checks number and lengths of the inputs.
    pub(super) fn check_inputs(&self, inputs: &[&[f32]]) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::invalid("inputs", self.inputs.len().to_string(), inputs.len()));
        }
        for (port, input) in self.inputs.iter().zip(inputs) {
            if input.len() != port.elements() {
                let expected = format!("{} elements, {:?}", port.elements(), port.dims);
                let field = format!("input {:?}", port.name);
                return Err(Error::invalid(field, expected, input.len()));
            }
        }
        Ok(())
    }

    /// Writes inputs that are checked.
    pub(super) fn write_inputs(&self, queue: &wgpu::Queue, inputs: &[&[f32]]) {
        for (port, input) in self.inputs.iter().zip(inputs) {
            queue.write_buffer(&port.buffer, port.offset, bytemuck::cast_slice(input));
        }
    }
}

/// Binds a task to its tensors.
fn record(
    uploads: &mut Uploads,
    kernels: &mut OpKernels,
    task: &Task,
    buffers: &Buffers<'_>,
) -> Result<Recorded> {
    let reads = task.reads.iter().map(|&slot| buffers.slice(slot)).collect::<Result<Vec<_>>>()?;
    let output = buffers.slice(task.write)?;
    Ok(match &task.kind {
        TaskKind::Conv(conv) => {
            let residual = if has_residual(&conv.options) { Some(reads[1]) } else { None };
            let tensors = Tensors::new(reads[0], output).with_residual(residual);
            Recorded::Conv(uploads.layer(conv)?.plan(conv.input, tensors)?)
        }
        TaskKind::Quantize(conv) => {
            let layer = uploads.layer(conv)?;
            Recorded::Conv(layer.plan_quantization(conv.input, SCALE, reads[0], output)?)
        }
        TaskKind::Other(dispatch) => Recorded::Other(kernels.bind(dispatch, &reads, output)?),
    })
}
