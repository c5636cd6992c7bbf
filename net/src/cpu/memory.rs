//! The memory that a run on the CPU takes, told before any of it is.

use crate::ir::graph::descriptor;
use crate::ir::program::{Program, Source, StepOp, TensorId, Value};

/// How often the memory of each tensor is read: by steps, and as an output.
pub(crate) fn readers(program: &Program) -> Vec<usize> {
    let mut readers = vec![0usize; program.values().len()];
    let reads = program.steps().iter().flat_map(|step| &step.inputs).chain(program.outputs());
    for &id in reads {
        readers[program.storage(id).index()] += 1;
    }
    readers
}

/// The most bytes that the tensors of a [`run`](super::run) take at once, with what its steps need beside them. The
/// constants are a part of the program already.
pub fn memory(program: &Program) -> u64 {
    memory_of_samples(program, 1)
}

/// The same for so many samples whose tensors are alive together, while their steps run one after the other.
pub(crate) fn memory_of_samples(program: &Program, samples: u64) -> u64 {
    let bytes = |&id: &TensorId| {
        let elements = program.value(id).elements() as u64;
        elements.saturating_mul(4).saturating_mul(samples)
    };
    let mut readers = readers(program);
    let mut alive = program.inputs().iter().map(bytes).fold(0, u64::saturating_add);
    let mut most = alive;
    for step in program.steps() {
        alive = alive.saturating_add(bytes(&step.output));
        let x = step.inputs.first().map(|&id| program.value(id));
        let beside = x.map_or(0, |x| beside(&step.op, x, program.value(step.output)));
        most = most.max(alive.saturating_add(beside));
        for &id in &step.inputs {
            let storage = program.storage(id);
            readers[storage.index()] -= 1;
            let is_constant = matches!(program.value(storage).source, Source::Constant(_));
            if readers[storage.index()] == 0 && !is_constant {
                alive = alive.saturating_sub(bytes(&storage));
            }
        }
    }
    // The outputs are copied for the caller.
    program.outputs().iter().map(bytes).fold(alive, u64::saturating_add).max(most)
}

/// The bytes that a step takes beside what it reads and writes.
fn beside(op: &StepOp, x: &Value, y: &Value) -> u64 {
    let count = |dims: &[usize]| dims.iter().fold(1u64, |n, &dim| n.saturating_mul(dim as u64));
    let output = count(&y.dims);
    let (size, elements) = match op {
        // Doubles of what it reads and of its sums.
        StepOp::Conv { .. } => (8, count(&x.dims).saturating_add(output)),
        StepOp::ConvInputGradient { .. } => (8, output),
        // The gradient of every weight, before that of the scales.
        StepOp::ConvWeightGradient { weights } => {
            (8, output.saturating_add(descriptor(weights).weight_count() as u64))
        }
        // One axis after the other, in doubles.
        StepOp::Resize { axes } => {
            let mut dims = x.dims.clone();
            let pairs = axes.iter().map(|taps| {
                let before = count(&dims);
                dims[taps.axis] = y.dims[taps.axis];
                before.saturating_add(count(&dims))
            });
            (8, pairs.max().unwrap_or(0).max(count(&x.dims)))
        }
        StepOp::Reduce { .. } | StepOp::PoolGradient(_) => (8, output),
        // The place of each element.
        StepOp::Pad { .. } => (16, output),
        // Parts of the output, which are joined.
        StepOp::ConvTranspose(_) | StepOp::Pool(_) | StepOp::MatMul => (4, output),
        _ => (0, 0),
    };
    elements.saturating_mul(size)
}
