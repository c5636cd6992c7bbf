//! The dispatches of operations whose places the run computes. All tensors are row-major.

use super::axes::{Arranged, axes, axis_words, signed};
use super::kernels::{Dispatch, OpKernel, workgroups};
use crate::ir::op::Combination;
use crate::ir::tensor::MAX_RANK;

fn dispatch(kernel: OpKernel, params: Vec<u32>, invocations: usize) -> Dispatch {
    let workgroups = workgroups(invocations);
    Dispatch { kernel, fours: false, params, table: Vec::new(), workgroups }
}

/// Elements picked along an axis.
pub(crate) fn pick(axis: usize, inputs: &[Arranged], y: &Arranged) -> Dispatch {
    let (x, indices) = (&inputs[0], &inputs[1]);
    // The index tells the place along the axis, the output's place does not.
    let mut steps = x.broadcast(&y.dims);
    steps[axis] = 0;
    let walk = axes(&y.dims, &steps, signed(&indices.broadcast(&y.dims)));
    let (mut params, rank) = axis_words(&walk);
    let extent = x.dims[axis];
    params.extend([rank, y.elements() as u32, extent as u32, x.steps[axis] as u32]);
    dispatch(OpKernel::Pick, params, y.elements())
}

/// Elements changed along an axis.
pub(crate) fn scatter(axis: usize, combination: Combination, inputs: &[Arranged]) -> Dispatch {
    let (x, updates) = (&inputs[0], &inputs[2]);
    let mut params = vec![0; 4 * MAX_RANK];
    for (i, words) in params.chunks_mut(4).take(x.dims.len()).enumerate() {
        words.copy_from_slice(&[x.dims[i], updates.dims[i], updates.steps[i], 0].map(|v| v as u32));
    }
    let combination = match combination {
        Combination::Replace => 0,
        Combination::Add => 1,
        Combination::Mul => 2,
        Combination::Min => 3,
        Combination::Max => 4,
    };
    params.extend([x.dims.len() as u32, x.elements() as u32, axis as u32, combination]);
    dispatch(OpKernel::Scatter, params, x.elements())
}

/// The places of elements in order.
pub(crate) fn order(axis: usize, descending: bool, x: &Arranged, y: &Arranged) -> Dispatch {
    let words = [x.elements(), x.dims[axis], y.dims[axis], x.steps[axis]];
    let mut params: Vec<u32> = words.map(|value| value as u32).to_vec();
    params.extend([u32::from(descending), 0, 0, 0]);
    dispatch(OpKernel::Order, params, x.elements())
}

/// Boxes that do not overlap better ones. The rule is whether boxes have centres, the overlap, and the least score.
pub(crate) fn suppress(rule: [f32; 3], inputs: &[Arranged], y: &Arranged) -> Dispatch {
    let scores = &inputs[1].dims;
    let groups = scores[0] * scores[1];
    let words = [groups, scores[1], scores[2], y.dims[0] / groups];
    let mut params: Vec<u32> = words.map(|value| value as u32).to_vec();
    params.extend(rule.map(f32::to_bits));
    params.push(0);
    dispatch(OpKernel::Suppress, params, groups)
}
