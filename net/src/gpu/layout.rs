//! The memory layout of a schedule: when each tensor is needed, and where it lies.

use super::arena::{Packing, Place, Request, pack};
use super::schedule::{Schedule, Slot, SlotId};
use crate::Result;
use dsconv::gpu::check_buffer;

/// The arenas of a schedule, and the place of every tensor in them.
#[derive(Debug)]
pub(crate) struct MemoryLayout {
    pub(crate) packing: Packing,
    /// The place of each slot; `None` for constants, and for tensors that nothing reads or writes.
    pub(crate) places: Vec<Option<Place>>,
}

impl MemoryLayout {
    /// Places every tensor that a task, the host or an output needs.
    ///
    /// # Errors
    /// A tensor over the device's limits.
    pub(crate) fn new(schedule: &Schedule, limits: &wgpu::Limits) -> Result<Self> {
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

    /// Bytes of all arenas.
    pub(crate) fn bytes(&self) -> u64 {
        self.packing.total()
    }
}
