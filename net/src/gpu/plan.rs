use super::arena::{Packing, Place, Request, pack};
use super::kernels::Bound;
use super::network::{Network, NetworkMemory};
use super::schedule::{SCALE, Schedule, Slot, SlotId, Task, Work, has_residual};
use crate::ir::program::{Program, TensorId};
use crate::{Error, Result};
use dsconv::gpu::{Kernel, Plan, Tensors, check_buffer, checked, download};
use std::ops::Range;

/// Where the tensors of a schedule lie.
#[derive(Debug)]
pub(super) struct Layout {
    packing: Packing,
    /// Per slot; `None` for constants, and for tensors that nothing reads or writes.
    places: Vec<Option<Place>>,
}

impl Layout {
    pub(super) fn new(schedule: &Schedule, limits: &wgpu::Limits) -> Result<Self> {
        let end = schedule.tasks.len();
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; schedule.slots.len()];
        let mut touch = |slot: SlotId, time: usize| {
            let (first, last) = lives[slot].unwrap_or((time, time));
            lives[slot] = Some((first.min(time), last.max(time)));
        };
        // The host writes inputs before the first task and reads outputs behind the last.
        schedule.inputs.iter().for_each(|&slot| touch(slot, 0));
        for (index, task) in schedule.tasks.iter().enumerate() {
            task.reads.iter().chain([&task.write]).for_each(|&slot| touch(slot, index + 1));
        }
        schedule.outputs.iter().for_each(|&slot| touch(slot, end + 1));

        let mut requests = Vec::new();
        let mut indices = vec![None; schedule.slots.len()];
        for (slot, life) in lives.into_iter().enumerate() {
            let Slot { bytes, constant } = &schedule.slots[slot];
            if let (Some((first, last)), None) = (life, constant) {
                check_buffer(limits, "a tensor", *bytes)?;
                indices[slot] = Some(requests.len());
                requests.push(Request { bytes: *bytes, first, last });
            }
        }
        let conflicts: Vec<(usize, usize)> = schedule
            .tasks
            .iter()
            .flat_map(|task| task.reads.iter().map(|&read| (task.write, read)))
            .filter_map(|(write, read)| Some((indices[write]?, indices[read]?)))
            .collect();
        let alignment = u64::from(limits.min_storage_buffer_offset_alignment);
        let packing = pack(&requests, &conflicts, alignment, limits.max_buffer_size)?;
        let places = indices.into_iter().map(|index| Some(packing.places[index?])).collect();
        Ok(Self { packing, places })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.packing.total()
    }
}

/// An input or output of a plan.
#[derive(Debug)]
struct End {
    name: String,
    dims: Vec<usize>,
    buffer: wgpu::Buffer,
    offset: u64,
}

impl End {
    fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    fn slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(self.offset..self.offset + 4 * self.elements() as u64)
    }
}

#[derive(Debug)]
enum Recorded {
    Conv(Kernel, Plan),
    Other(Bound),
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
    inputs: Vec<End>,
    outputs: Vec<End>,
    memory: NetworkMemory,
    arenas: Vec<wgpu::Buffer>,
}

/// Buffers of a plan while it is made.
struct Buffers<'a> {
    layout: &'a Layout,
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
    pub(super) fn new(
        network: &mut Network,
        program: &Program,
        schedule: &Schedule,
        layout: &Layout,
        memory: NetworkMemory,
    ) -> Result<Self> {
        let device = network.pipelines.device().clone();
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
                constants[slot] = Some(network.constant(values)?);
            }
        }
        let buffers = Buffers { layout, schedule, arenas, constants };
        let mut dispatches = Vec::with_capacity(schedule.tasks.len());
        let mut steps = Vec::with_capacity(schedule.tasks.len());
        for task in &schedule.tasks {
            let name = &program.steps()[task.step].name;
            let recorded = record(network, task, &buffers).map_err(|e| e.in_node(name, "step"))?;
            let kernel = match &recorded {
                Recorded::Conv(kernel, _) => kernel.name(),
                Recorded::Other(bound) => bound.kernel.name(),
            };
            steps.push(PlanStep { name: name.clone(), kernel });
            dispatches.push(recorded);
        }
        let ends = |ids: &[TensorId], slots: &[SlotId]| -> Result<Vec<End>> {
            ids.iter()
                .zip(slots)
                .map(|(&id, &slot)| {
                    let value = program.value(id);
                    let (buffer, offset) = buffers.place(slot)?;
                    let (name, dims) = (value.name.clone(), value.dims.clone());
                    Ok(End { name, dims, buffer: buffer.clone(), offset })
                })
                .collect()
        };
        let inputs = ends(program.inputs(), &schedule.inputs)?;
        let outputs = ends(program.outputs(), &schedule.outputs)?;
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

    /// Where the host writes an input, row-major: at most until the plan is submitted, for later tensors take its
    /// place. `None` past the last.
    pub fn input(&self, index: usize) -> Option<wgpu::BufferSlice<'_>> {
        self.inputs.get(index).map(End::slice)
    }

    /// Where an output lies behind a run, row-major. `None` past the last.
    pub fn output(&self, index: usize) -> Option<wgpu::BufferSlice<'_>> {
        self.outputs.get(index).map(End::slice)
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
                Recorded::Conv(_, plan) => plan.record(pass),
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
                Recorded::Conv(_, plan) => plan.destroy(),
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
            self.outputs.iter().map(|end| download(&self.device, queue, end.slice())).collect();
        let mut outputs = Vec::with_capacity(copies.len());
        for copy in copies {
            outputs.push(copy.await?);
        }
        Ok(outputs)
    }

    /// Checks number and lengths.
    pub(super) fn check_inputs(&self, inputs: &[&[f32]]) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::invalid("inputs", self.inputs.len().to_string(), inputs.len()));
        }
        for (end, input) in self.inputs.iter().zip(inputs) {
            if input.len() != end.elements() {
                let expected = format!("{} elements, {:?}", end.elements(), end.dims);
                let field = format!("input {:?}", end.name);
                return Err(Error::invalid(field, expected, input.len()));
            }
        }
        Ok(())
    }

    /// Writes inputs that are checked.
    pub(super) fn write_inputs(&self, queue: &wgpu::Queue, inputs: &[&[f32]]) {
        for (end, input) in self.inputs.iter().zip(inputs) {
            queue.write_buffer(&end.buffer, end.offset, bytemuck::cast_slice(input));
        }
    }
}

/// Binds a task to its tensors.
fn record(network: &mut Network, task: &Task, buffers: &Buffers<'_>) -> Result<Recorded> {
    let reads = task.reads.iter().map(|&slot| buffers.slice(slot)).collect::<Result<Vec<_>>>()?;
    let output = buffers.slice(task.write)?;
    Ok(match &task.work {
        Work::Conv(conv) => {
            let residual = if has_residual(&conv.options) { Some(reads[1]) } else { None };
            let tensors = Tensors { input: reads[0], residual, output };
            let layer = network.layer(conv)?;
            Recorded::Conv(layer.kernel(), layer.plan(conv.input, tensors)?)
        }
        Work::Quantize(conv) => {
            let layer = network.layer(conv)?;
            let plan = layer.plan_quantization(conv.input, SCALE, reads[0], output)?;
            Recorded::Conv(Kernel::QuantizeActivations, plan)
        }
        Work::Other(dispatch) => {
            let Network { pipelines, kernels, .. } = network;
            Recorded::Other(kernels.bind(pipelines, dispatch, &reads, output)?)
        }
    })
}
