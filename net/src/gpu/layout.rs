//! The memory layout of a schedule: when each tensor is needed, and where it lies.

use super::arena::{Packing, Place, Request, pack};
use super::schedule::{Schedule, Slot, SlotId};
use crate::ir::program::Program;
use crate::{Error, Result};
use dsconv::gpu::check_buffer;

/// The arenas of a schedule, and the place of every tensor in them.
#[derive(Debug)]
pub(crate) struct MemoryLayout {
    pub(crate) packing: Packing,
    /// The place of each slot; `None` for constants, and for tensors that nothing reads or writes.
    pub(crate) places: Vec<Option<Place>>,
}

impl MemoryLayout {
    /// Places every tensor that a task, the host or an output needs, of a program's schedule.
    ///
    /// # Errors
    /// A tensor over the device's limits, with the step that makes it.
    pub(crate) fn new(
        program: &Program,
        schedule: &Schedule,
        limits: &wgpu::Limits,
    ) -> Result<Self> {
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
                check_buffer(limits, "a tensor", *bytes)
                    .map_err(|error| with_maker(error.into(), program, schedule, slot))?;
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

    /// Bytes of all arenas.
    pub(crate) fn bytes(&self) -> u64 {
        self.packing.total()
    }
}

/// The error about a tensor, with what makes it: a step or an input of the program.
fn with_maker(error: Error, program: &Program, schedule: &Schedule, slot: SlotId) -> Error {
    if let Some(task) = schedule.tasks.iter().find(|task| task.write == slot) {
        return error.in_node(&program.steps()[task.step].name, "step");
    }
    match schedule.inputs.iter().position(|&input| input == slot) {
        Some(input) => error.in_node(&program.value(program.inputs()[input]).name, "input"),
        None => error,
    }
}
