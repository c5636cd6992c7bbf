//! The device memory of a network, told before anything is allocated.

use super::kernels::NOTHING;
use super::layout::MemoryLayout;
use super::schedule::{Form, Schedule, TaskKind};
use dsconv::Weights;
use dsconv::gpu::{LayerOptions, MemoryUse};
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of device memory, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkMemory {
    /// Weights of convolutions. They belong to the network.
    pub weights: u64,
    /// Constant tensors. They belong to the network.
    pub constants: u64,
    /// Inputs, outputs and all tensors between them. They belong to the plan.
    pub tensors: u64,
    /// Geometry. It belongs to the plan.
    pub parameters: u64,
}

impl NetworkMemory {
    /// The sum.
    pub const fn total(&self) -> u64 {
        self.weights + self.constants + self.tensors + self.parameters
    }

    /// The memory of a plan of this schedule, and of the weights and constants that it uses.
    pub(crate) fn of(schedule: &Schedule, layout: &MemoryLayout) -> Self {
        let mut memory = Self { parameters: NOTHING, tensors: layout.bytes(), ..Self::default() };
        let mut layers: Vec<(*const Weights, Form, LayerOptions)> = Vec::new();
        for task in &schedule.tasks {
            match &task.kind {
                TaskKind::Other(dispatch) => memory.parameters += dispatch.bytes(),
                TaskKind::Conv(conv) | TaskKind::Quantize(conv) => {
                    let Ok(weights) = conv.form.of(&conv.weights) else { continue };
                    let of_layer = MemoryUse::of_layer(&*weights, &conv.options);
                    let layer = (Arc::as_ptr(&conv.weights), conv.form, conv.options);
                    if !layers.contains(&layer) {
                        memory.weights += of_layer.total();
                        layers.push(layer);
                    }
                    let plan = MemoryUse::of_plan(&*weights, conv.input, &conv.options);
                    memory.parameters += plan.map_or(0, |plan| plan.uniform);
                }
            }
        }
        let used = schedule.tasks.iter().flat_map(|task| &task.reads).chain(&schedule.outputs);
        let mut constants = HashSet::new();
        for values in used.filter_map(|&slot| schedule.slots[slot].constant.as_ref()) {
            if constants.insert(Arc::as_ptr(values)) {
                memory.constants += 4 * values.len() as u64;
            }
        }
        memory
    }
}
