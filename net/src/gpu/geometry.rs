//! From operations to dispatches of kernels: which kernel, the words of its `Params`, and how many workgroups.

use super::kernels::{Dispatch, OpKernel};
use crate::ir::op::{Binary, PadMode, PoolKind, Reduction, Unary};
use crate::ir::program::{ConvTranspose, Pool, StepOp, Taps};
use crate::ir::tensor::{MAX_RANK, broadcast_strides, strides};
use dsconv::{Activation, Error, Result};

/// Invocations of a workgroup, in every kernel.
const WORKGROUP: usize = 64;

/// An axis that a kernel counts through: extent, steps in memory, and where a table of places starts.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    extent: usize,
    steps: [i64; 2],
    table: Option<usize>,
}

/// The kernels of a step, and the index of the step's input that each reads first; all others follow it.
pub(crate) fn dispatches(
    op: &StepOp,
    inputs: &[&[usize]],
    dims: &[usize],
) -> Result<Vec<(Dispatch, std::ops::Range<usize>)>> {
    let x = inputs[0];
    if let StepOp::Concat { axis } = *op {
        let mut start = 0;
        return Ok((0..)
            .zip(inputs)
            .map(|(index, part)| {
                let axes = plain_axes(part, [&strides(dims), &strides(part)]);
                let dispatch = copy(&axes, [0, start * strides(dims)[axis]], 0.0, Vec::new());
                start += part[axis];
                (dispatch, index..index + 1)
            })
            .collect());
    }
    let dispatch = match op {
        StepOp::Unary(function) => unary(*function, dims)?,
        StepOp::Binary(function) => binary(*function, inputs, dims),
        StepOp::Pool(window) => pool(window, x, dims),
        StepOp::Reduce { reduction, axes } => reduce(*reduction, axes, x, dims),
        StepOp::Softmax { axis } => softmax(*axis, x),
        StepOp::Slice { start, step } => {
            let own = strides(x);
            let first = start.iter().zip(&own).map(|(start, own)| start * own).sum();
            let steps = step.iter().zip(&own).map(|(step, &own)| step * own as i64);
            copy(&axes(dims, steps), [first, 0], 0.0, Vec::new())
        }
        StepOp::Expand => copy(
            &plain_axes(dims, [&strides(dims), &broadcast_strides(x, dims)]),
            [0, 0],
            0.0,
            Vec::new(),
        ),
        StepOp::Transpose { permutation } => {
            let own = strides(x);
            let steps = permutation.iter().map(|&axis| own[axis] as i64);
            copy(&axes(dims, steps), [0, 0], 0.0, Vec::new())
        }
        StepOp::Gather { axis, indices } => {
            let mut axes = axes(dims, strides(x).into_iter().map(|s| s as i64));
            axes[*axis].table = Some(0);
            copy(&axes, [0, 0], 0.0, indices.to_vec())
        }
        StepOp::Pad { before, mode } => pad(before, *mode, x, dims),
        StepOp::Resize { axes } => resize(axes, x, dims),
        StepOp::MatMul => matmul(inputs, dims),
        StepOp::ConvTranspose(conv) => conv_transpose(conv, inputs, dims),
        StepOp::Conv { .. } | StepOp::Concat { .. } => return Err(unknown(op)),
    };
    Ok(vec![(dispatch, 0..inputs.len())])
}

fn unknown(what: &dyn std::fmt::Debug) -> Error {
    Error::Unsupported {
        what: format!("{what:?} on the GPU"),
        remedy: "run this network on the CPU".into(),
    }
}

/// Workgroups for so many invocations: at most 2^30 elements, times 64 threads over 64.
fn workgroups(invocations: usize) -> u32 {
    invocations.div_ceil(WORKGROUP) as u32
}

fn word(value: usize) -> u32 {
    value as u32
}

/// Axes of y with steps in y and x.
fn plain_axes(extents: &[usize], steps: [&[usize]; 2]) -> Vec<Axis> {
    (0..extents.len())
        .map(|i| Axis {
            extent: extents[i],
            steps: steps.map(|steps| steps[i] as i64),
            table: None,
        })
        .collect()
}

/// Axes that count y in its order, with steps in x.
fn axes(dims: &[usize], steps: impl Iterator<Item = i64>) -> Vec<Axis> {
    let own = strides(dims).into_iter().map(|s| s as i64);
    let pairs = dims.iter().zip(own.zip(steps));
    pairs.map(|(&extent, (y, x))| Axis { extent, steps: [y, x], table: None }).collect()
}

/// The same walk through memory with as few axes as possible: kernels divide for each.
fn merge(axes: &[Axis]) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::new();
    for &axis in axes.iter().filter(|axis| axis.extent != 1 || axis.table.is_some()) {
        match merged.last_mut() {
            Some(outer)
                if outer.table.is_none()
                    && axis.table.is_none()
                    && (0..2).all(|i| outer.steps[i] == axis.steps[i] * axis.extent as i64) =>
            {
                *outer = Axis { extent: outer.extent * axis.extent, ..axis };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// The axes as four words each, padded to the highest rank, and their number.
fn axis_words(axes: &[Axis]) -> (Vec<u32>, u32) {
    let merged = merge(axes);
    let mut words = vec![0; 4 * MAX_RANK];
    for (words, axis) in words.chunks_mut(4).zip(&merged) {
        let table = axis.table.map_or(-1, |at| at as i64);
        let values = [axis.extent as i64, axis.steps[0], axis.steps[1], table];
        // Steps stay inside of a tensor, so they fit 31 bits.
        words.copy_from_slice(&values.map(|value| value as i32 as u32));
    }
    (words, merged.len() as u32)
}

/// `start` is in x, then in y.
fn copy(axes: &[Axis], start: [usize; 2], outside: f32, table: Vec<u32>) -> Dispatch {
    let count = axes.iter().map(|axis| axis.extent).product();
    let (mut params, rank) = axis_words(axes);
    let [x, y] = start.map(word);
    params.extend([rank, word(count), x, y, outside.to_bits(), 0, 0, 0]);
    Dispatch { kernel: OpKernel::Copy, params, table, workgroups: workgroups(count) }
}

fn pad(before: &[usize], mode: PadMode, x: &[usize], dims: &[usize]) -> Dispatch {
    let mut axes = axes(dims, strides(x).into_iter().map(|s| s as i64));
    let mut table = Vec::new();
    for (i, axis) in axes.iter_mut().enumerate().filter(|&(i, _)| x[i] != dims[i]) {
        axis.table = Some(table.len());
        let (extent, front) = (x[i] as i64, before[i] as i64);
        table.extend((0..dims[i] as i64).map(|place| {
            let at = place - front;
            let at = match mode {
                _ if (0..extent).contains(&at) => at,
                PadMode::Constant(_) => -1,
                PadMode::Edge => at.clamp(0, extent - 1),
                PadMode::Reflect if at < 0 => -at,
                PadMode::Reflect => 2 * (extent - 1) - at,
            };
            at as i32 as u32
        }));
    }
    let outside = if let PadMode::Constant(value) = mode { value } else { 0.0 };
    copy(&axes, [0, 0], outside, table)
}

fn unary(function: Unary, dims: &[usize]) -> Result<Dispatch> {
    let (code, a, b) = match function {
        Unary::Activation(activation) => match activation {
            Activation::Identity => (0, 0.0, 0.0),
            Activation::Relu => (1, 0.0, f32::INFINITY),
            Activation::Relu6 => (1, 0.0, 6.0),
            Activation::Clamp { low, high } => (1, low, high),
            Activation::LeakyRelu(slope) => (2, slope, 0.0),
            Activation::Silu => (3, 0.0, 0.0),
            Activation::HardSwish => (4, 0.0, 0.0),
            Activation::Sigmoid => (5, 0.0, 0.0),
            other => return Err(unknown(&other)),
        },
        Unary::HardSigmoid { alpha, beta } => (6, alpha, beta),
        Unary::Elu(alpha) => (7, alpha, 0.0),
        Unary::Softplus => (8, 0.0, 0.0),
        Unary::Exp => (9, 0.0, 0.0),
        Unary::Log => (10, 0.0, 0.0),
        Unary::Sqrt => (11, 0.0, 0.0),
        Unary::Reciprocal => (12, 0.0, 0.0),
        Unary::Neg => (13, 0.0, 0.0),
        Unary::Abs => (14, 0.0, 0.0),
        Unary::Tanh => (15, 0.0, 0.0),
        Unary::Erf => (16, 0.0, 0.0),
        Unary::Floor => (17, 0.0, 0.0),
        Unary::Ceil => (18, 0.0, 0.0),
        Unary::Round => (19, 0.0, 0.0),
        Unary::Sin => (20, 0.0, 0.0),
        Unary::Cos => (21, 0.0, 0.0),
    };
    let count = dims.iter().product();
    let params = vec![word(count), code, a.to_bits(), b.to_bits()];
    Ok(Dispatch {
        kernel: OpKernel::Unary,
        params,
        table: Vec::new(),
        workgroups: workgroups(count),
    })
}

fn binary(function: Binary, inputs: &[&[usize]], dims: &[usize]) -> Dispatch {
    let steps = [broadcast_strides(inputs[0], dims), broadcast_strides(inputs[1], dims)];
    let (mut params, rank) = axis_words(&plain_axes(dims, [&steps[0], &steps[1]]));
    let count = dims.iter().product();
    let code = match function {
        Binary::Add => 0,
        Binary::Sub => 1,
        Binary::Mul => 2,
        Binary::Div => 3,
        Binary::Pow => 4,
        Binary::Min => 5,
        Binary::Max => 6,
        Binary::PRelu => 7,
    };
    params.extend([rank, word(count), code, 0]);
    Dispatch { kernel: OpKernel::Binary, params, table: Vec::new(), workgroups: workgroups(count) }
}

fn pool(window: &Pool, x: &[usize], dims: &[usize]) -> Dispatch {
    let Pool { kind, kernel, stride, dilation, padding } = *window;
    let kind = match kind {
        PoolKind::Max => 0,
        PoolKind::Average { count_padding } => 1 + u32::from(count_padding),
    };
    let count = dims.iter().product();
    let mut params = vec![word(count), kind, word(x[2]), word(x[3]), word(dims[2]), word(dims[3])];
    for pair in [kernel, stride, dilation] {
        params.extend(pair);
    }
    params.extend(padding);
    Dispatch { kernel: OpKernel::Pool, params, table: Vec::new(), workgroups: workgroups(count) }
}

/// The number of threads for a row of so many elements: no thread gets less than eight, if it can be.
fn threads(length: usize) -> usize {
    (length / 8).clamp(1, WORKGROUP).next_power_of_two()
}

fn reduce(reduction: Reduction, axes: &[usize], x: &[usize], dims: &[usize]) -> Dispatch {
    let own = strides(x);
    let of = |reduced: bool| -> Vec<Axis> {
        let wanted = (0..x.len()).filter(|axis| axes.contains(axis) == reduced);
        let axis = |i: usize| Axis { extent: x[i], steps: [own[i] as i64; 2], table: None };
        wanted.map(axis).collect()
    };
    let (kept, reduced) = (of(false), of(true));
    let count: usize = dims.iter().product();
    let length: usize = reduced.iter().map(|axis| axis.extent).product();
    let threads = threads(length);
    let (mut params, kept_rank) = axis_words(&kept);
    let (words, reduced_rank) = axis_words(&reduced);
    params.extend(words);
    let (kind, divisor) = match reduction {
        Reduction::Sum => (0, 1.0),
        Reduction::Mean => (0, length as f32),
        Reduction::Max => (1, 1.0),
        Reduction::Min => (2, 1.0),
    };
    params.extend([kept_rank, reduced_rank, word(count), word(length), word(threads), kind]);
    params.extend([divisor.to_bits(), 0]);
    let workgroups = workgroups(count * threads);
    Dispatch { kernel: OpKernel::Reduce, params, table: Vec::new(), workgroups }
}

fn softmax(axis: usize, x: &[usize]) -> Dispatch {
    let (length, inner) = (x[axis], x[axis + 1..].iter().product());
    let rows = x.iter().product::<usize>() / length;
    let threads = threads(length);
    let params = [rows, length, inner, threads].map(word).to_vec();
    let workgroups = workgroups(rows * threads);
    Dispatch { kernel: OpKernel::Softmax, params, table: Vec::new(), workgroups }
}

fn matmul(inputs: &[&[usize]], dims: &[usize]) -> Dispatch {
    let (batch, matrix) = dims.split_at(dims.len() - 2);
    let (rows, columns) = (matrix[0], matrix[1]);
    let depth = inputs[0][inputs[0].len() - 1];
    let steps = [inputs[0], inputs[1]].map(|x| {
        let (leading, matrix) = x.split_at(x.len() - 2);
        let size = matrix[0] * matrix[1];
        broadcast_strides(leading, batch).into_iter().map(|s| s * size).collect::<Vec<_>>()
    });
    let count: usize = batch.iter().product();
    let (mut params, rank) = axis_words(&plain_axes(batch, [&steps[0], &steps[1]]));
    let tiles = [rows.div_ceil(32), columns.div_ceil(32)];
    params.push(rank);
    params.extend([count, rows, columns, depth, tiles[0], tiles[1], 0].map(word));
    let workgroups = word(count * tiles[0] * tiles[1]);
    Dispatch { kernel: OpKernel::MatMul, params, table: Vec::new(), workgroups }
}

fn conv_transpose(conv: &ConvTranspose, inputs: &[&[usize]], dims: &[usize]) -> Dispatch {
    let (x, groups) = (inputs[0], conv.groups as usize);
    let count = dims.iter().product();
    let mut params: Vec<u32> =
        [[count, x[1] / groups, dims[1] / groups, groups], [x[2], x[3], dims[2], dims[3]]]
            .as_flattened()
            .iter()
            .map(|&value| word(value))
            .collect();
    for pair in [conv.kernel, conv.stride, conv.dilation, conv.padding] {
        params.extend(pair);
    }
    params.extend([u32::from(inputs.len() > 2), 0, 0, 0]);
    let workgroups = workgroups(count);
    Dispatch { kernel: OpKernel::ConvTranspose, params, table: Vec::new(), workgroups }
}

fn resize(axes: &[Taps], x: &[usize], dims: &[usize]) -> Dispatch {
    // One axis is two, the first of one element.
    let same = Taps { axis: 0, count: 1, indices: vec![0], weights: vec![1.0] };
    let product = |dims: &[usize]| dims.iter().product::<usize>();
    let (first, second, extents, middle) = match axes {
        [first, second] => {
            let extents = [x[first.axis], dims[first.axis]];
            (first, second, extents, product(&x[first.axis + 1..second.axis]))
        }
        _ => (&same, &axes[0], [1, 1], 1),
    };
    let mut table = Vec::new();
    let [first_at, second_at] = [first, second].map(|taps| {
        let at = table.len();
        table.extend(&taps.indices);
        table.extend(taps.weights.iter().map(|weight| weight.to_bits()));
        at
    });
    let count = product(dims);
    let inner = product(&x[second.axis + 1..]);
    let params = [
        [count, inner, x[second.axis], dims[second.axis]],
        [second.count, second_at, middle, extents[0]],
        [extents[1], first.count, first_at, 0],
    ];
    let params = params.as_flattened().iter().map(|&value| word(value)).collect();
    Dispatch { kernel: OpKernel::Resize, params, table, workgroups: workgroups(count) }
}
