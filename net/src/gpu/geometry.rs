//! From operations to dispatches of kernels: which kernel, the words of its `Params`, and how many workgroups.

use super::axes::{Arranged, Axis, axes, axis_words, in_fours, in_order, merge, signed};
use super::gradients;
use super::indexed;
use super::kernels::{Dispatch, OpKernel, WORKGROUP, workgroups};
use crate::ir::op::{Binary, PadMode, PoolKind, Reduction, Unary};
use crate::ir::program::{ConvTranspose, Pool, StepOp, Taps};
use crate::ir::tensor::broadcast_strides;
use dsconv::{Activation, ConvDescriptor, Error, Layout, Result};
use std::ops::Range;

/// The kernels of a step, and the indices of the step's inputs that each reads. None where the output is the input's
/// memory as it is.
pub(crate) fn dispatches(
    op: &StepOp,
    inputs: &[Arranged],
    y: &Arranged,
) -> Result<Vec<(Dispatch, Range<usize>)>> {
    let x = &inputs[0];
    if let StepOp::Concat { axis } = *op {
        let mut start = 0;
        return Ok((0..)
            .zip(inputs)
            .map(|(index, part)| {
                let axes = axes(&part.dims, &y.steps, signed(&part.steps));
                let walk = Walk { axes, start: [0, start * y.steps[axis]], ..Walk::default() };
                start += part.dims[axis];
                (copy(walk, y), index..index + 1)
            })
            .collect());
    }
    let walk = |steps: Vec<i64>| {
        let axes = axes(&y.dims, &y.steps, steps.into_iter());
        Walk { axes, ..Walk::default() }
    };
    let dispatch = match op {
        StepOp::Unary(function) => unary(*function, false, y)?,
        StepOp::UnaryGradient(function) => unary(*function, true, y)?,
        StepOp::Binary(function) => binary(*function, inputs, y),
        StepOp::Pool(window) => pool(window, x, y),
        StepOp::PoolGradient(window) => pool_gradient(window, inputs, y),
        StepOp::Reduce { reduction, axes } => reduce(*reduction, axes, x, y),
        StepOp::Softmax { axis } => softmax(*axis, x),
        StepOp::Slice { start, step } => {
            let first = start.iter().zip(&x.steps).map(|(start, own)| start * own).sum();
            let steps = step.iter().zip(&x.steps).map(|(step, &own)| step * own as i64);
            copy(Walk { start: [first, 0], ..walk(steps.collect()) }, y)
        }
        StepOp::Expand => copy(walk(signed(&x.broadcast(&y.dims)).collect()), y),
        StepOp::Transpose { permutation } => {
            let walk = walk(permutation.iter().map(|&axis| x.steps[axis] as i64).collect());
            if merge(&walk.axes).iter().all(|axis| axis.steps[0] == axis.steps[1]) {
                return Ok(Vec::new());
            }
            copy(walk, y)
        }
        StepOp::Gather { axis, indices } => {
            let mut walk = walk(signed(&x.steps).collect());
            walk.axes[*axis].table = Some(0);
            copy(Walk { table: indices.to_vec(), ..walk }, y)
        }
        StepOp::Pad { before, mode } => {
            copy(pad(walk(signed(&x.steps).collect()), before, *mode, &x.dims), y)
        }
        StepOp::Resize { axes } => resize(axes, x, y),
        StepOp::MatMul => matmul(inputs, &y.dims),
        StepOp::ConvTranspose(conv) => conv_transpose(conv, inputs, y),
        StepOp::Pick { axis } => indexed::pick(*axis, inputs, y),
        StepOp::Scatter { axis, combination } => indexed::scatter(*axis, *combination, inputs),
        StepOp::Suppress { centre, overlap, least } => {
            indexed::suppress([f32::from(u8::from(*centre)), *overlap, *least], inputs, y)
        }
        StepOp::Order { axis, descending } => indexed::order(*axis, *descending, x, y),
        // Convolutions are layers, and their gradients are of several kernels.
        StepOp::Conv { .. }
        | StepOp::Concat { .. }
        | StepOp::ConvInputGradient { .. }
        | StepOp::ConvWeightGradient { .. } => return Err(unknown(&op.name())),
    };
    Ok(vec![(dispatch, 0..inputs.len())])
}

/// A copy from one layout to another.
pub(crate) fn rearrange(dims: &[usize], from: Layout, to: Layout) -> Dispatch {
    let (x, y) = (Arranged::new(dims, from), Arranged::new(dims, to));
    let axes = axes(dims, &y.steps, signed(&x.steps));
    copy(Walk { axes, ..Walk::default() }, &y)
}

/// The gradient of a convolution's output with zeros in between, as `z` has room for.
pub(crate) fn spread(descriptor: &ConvDescriptor, dy: &Arranged, z: &Arranged) -> Dispatch {
    let (axes, table) = gradients::spread(descriptor, dy, z);
    copy(Walk { axes, table, ..Walk::default() }, z)
}

fn unknown(what: &dyn std::fmt::Debug) -> Error {
    Error::Unsupported {
        what: format!("{what:?} on the GPU"),
        remedy: "run this network on the CPU".into(),
    }
}

fn word(value: usize) -> u32 {
    value as u32
}

/// What the copying kernel walks through.
#[derive(Default)]
struct Walk {
    /// The axes of y, with steps in y and in x.
    axes: Vec<Axis>,
    /// The first place in x, and in y.
    start: [usize; 2],
    outside: f32,
    table: Vec<u32>,
}

fn copy(walk: Walk, y: &Arranged) -> Dispatch {
    let Walk { mut axes, mut start, outside, table } = walk;
    axes = in_order(&axes, y);
    let fours = in_fours(&axes).filter(|_| start.iter().all(|start| start % 4 == 0));
    let by_fours = fours.is_some();
    if let Some(fours) = fours {
        (axes, start) = (fours, start.map(|start| start / 4));
    }
    let count = axes.iter().map(|axis| axis.extent).product();
    let (mut params, rank) = axis_words(&axes);
    let [x, y] = start.map(word);
    params.extend([rank, word(count), x, y, outside.to_bits(), 0, 0, 0]);
    let workgroups = workgroups(count);
    Dispatch { kernel: OpKernel::Copy, fours: by_fours, params, table, workgroups }
}

/// The walk with a margin, `x` being the dims inside.
fn pad(mut walk: Walk, before: &[usize], mode: PadMode, x: &[usize]) -> Walk {
    for (i, axis) in walk.axes.iter_mut().enumerate().filter(|(i, axis)| x[*i] != axis.extent) {
        axis.table = Some(walk.table.len());
        let (extent, front) = (x[i] as i64, before[i] as i64);
        walk.table.extend(
            (0..axis.extent as i64)
                .map(|place| mode.inside(place - front, extent).unwrap_or(-1) as i32 as u32),
        );
    }
    walk.outside = if let PadMode::Constant(value) = mode { value } else { 0.0 };
    walk
}

/// A function of every element, or the gradient of its input.
fn unary(function: Unary, gradient: bool, y: &Arranged) -> Result<Dispatch> {
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
        Unary::Atan => (22, 0.0, 0.0),
        Unary::Sign => (23, 0.0, 0.0),
        Unary::Trunc => (24, 0.0, 0.0),
        Unary::Not => (25, 0.0, 0.0),
        Unary::IsNan => (26, 0.0, 0.0),
        Unary::Stepped { step, low, .. } => (28, step, low),
        Unary::IsInf { negative, positive } => {
            (27, f32::from(u8::from(negative)), f32::from(u8::from(positive)))
        }
    };
    let count = y.elements();
    let c = if let Unary::Stepped { high, .. } = function { high } else { 0.0 };
    let params =
        vec![word(count), code, a.to_bits(), b.to_bits(), c.to_bits(), gradient.into(), 0, 0];
    Ok(Dispatch {
        kernel: OpKernel::Unary,
        fours: false,
        params,
        table: Vec::new(),
        workgroups: workgroups(count),
    })
}

fn binary(function: Binary, inputs: &[Arranged], y: &Arranged) -> Dispatch {
    let [a, b] = [0, 1].map(|index: usize| inputs[index].broadcast(&y.dims));
    let one_by_one = in_order(&axes(&y.dims, &a, signed(&b)), y);
    let fours = in_fours(&one_by_one);
    let count = y.elements() / fours.as_ref().map_or(1, |_| 4);
    let (mut params, rank) = axis_words(fours.as_ref().unwrap_or(&one_by_one));
    let code = match function {
        Binary::Add => 0,
        Binary::Sub => 1,
        Binary::Mul => 2,
        Binary::Div => 3,
        Binary::Pow => 4,
        Binary::Min => 5,
        Binary::Max => 6,
        Binary::PRelu => 7,
        Binary::Remainder => 8,
        Binary::Equal => 9,
        Binary::Less => 10,
        Binary::LessOrEqual => 11,
        Binary::Gate => 12,
    };
    params.extend([rank, word(count), code, 0]);
    let (fours, workgroups) = (fours.is_some(), workgroups(count));
    Dispatch { kernel: OpKernel::Binary, fours, params, table: Vec::new(), workgroups }
}

fn pool(window: &Pool, x: &Arranged, y: &Arranged) -> Dispatch {
    let Pool { kind, kernel, stride, dilation, padding } = *window;
    let kind = match kind {
        PoolKind::Max => 0,
        PoolKind::Average { count_padding } => 1 + u32::from(count_padding),
        PoolKind::Sum => 3,
        PoolKind::PlaceOfMax => 4,
    };
    let [channels, last, channel, pixel] = image_words(x, y);
    let fours = last == 1 && channel == 1 && channels % 4 == 0;
    let by = if fours { 4 } else { 1 };
    let count = y.elements() / by;
    let mut params = vec![word(count), kind];
    params.extend([x.dims[2], x.dims[3], y.dims[2], y.dims[3]].map(word));
    for pair in [kernel, stride, dilation] {
        params.extend(pair);
    }
    params.extend(padding);
    params.extend([channels / word(by), last, channel, pixel / word(by)]);
    let workgroups = workgroups(count);
    Dispatch { kernel: OpKernel::Pool, fours, params, table: Vec::new(), workgroups }
}

fn pool_gradient(window: &Pool, inputs: &[Arranged], dx: &Arranged) -> Dispatch {
    let (x, dy) = (&inputs[0], &inputs[1]);
    let mut dispatch = pool(window, x, dy);
    let [channels, last, x_channel, x_pixel] = image_words(x, dx);
    let [_, _, dy_channel, dy_pixel] = image_words(dy, dx);
    let count = dx.elements();
    dispatch.params[0] = word(count);
    dispatch.params.truncate(16);
    dispatch.params.extend([channels, last, x_channel, x_pixel, dy_channel, dy_pixel, 0, 0]);
    let workgroups = workgroups(count);
    Dispatch { kernel: OpKernel::PoolGradient, fours: false, workgroups, ..dispatch }
}

/// Channels of an image y, whether they are neighbours; the steps of an image x between channels and between pixels.
fn image_words(x: &Arranged, y: &Arranged) -> [u32; 4] {
    [y.dims[1], usize::from(y.steps[1] == 1), x.steps[1], x.steps[3]].map(word)
}

/// The number of threads for a row of so many elements: no thread gets less than eight, if it can be.
fn threads(length: usize) -> usize {
    (length / 8).clamp(1, WORKGROUP).next_power_of_two()
}

fn reduce(reduction: Reduction, axes: &[usize], x: &Arranged, y: &Arranged) -> Dispatch {
    let of = |order: &[usize], reduced: bool| -> Vec<Axis> {
        let wanted = order.iter().filter(|axis| axes.contains(axis) == reduced);
        let axis =
            |&i: &usize| Axis { extent: x.dims[i], steps: [x.steps[i] as i64; 2], table: None };
        wanted.map(axis).collect()
    };
    let (mut kept, mut reduced) = (of(&y.order, false), merge(&of(&x.order, true)));
    let whole = |axis: &Axis| axis.steps[0] % 4 == 0;
    let fours = in_fours(&kept).filter(|_| reduced.iter().all(whole));
    let by_fours = fours.is_some();
    if let Some(fours) = fours {
        kept = fours;
        reduced.iter_mut().for_each(|axis| axis.steps = axis.steps.map(|step| step / 4));
    }
    let count: usize = kept.iter().map(|axis| axis.extent).product();
    let length: usize = reduced.iter().map(|axis| axis.extent).product();
    let threads = threads(length);
    // Neighbouring threads read neighbouring elements: of one output, or each of its own.
    let outputs_first = merge(&kept).last().is_some_and(|axis| axis.steps == [1, 1]);
    let apart = if outputs_first { WORKGROUP / threads } else { 1 };
    let (mut params, kept_rank) = axis_words(&kept);
    let (words, reduced_rank) = axis_words(&reduced);
    params.extend(words);
    let (kind, divisor) = match reduction {
        Reduction::Sum => (0, 1.0),
        Reduction::Mean => (0, length as f32),
        Reduction::Max => (1, 1.0),
        Reduction::Min => (2, 1.0),
        Reduction::Product => (3, 1.0),
    };
    params.extend([kept_rank, reduced_rank, word(count), word(length), word(threads), kind]);
    params.extend([divisor.to_bits(), word(apart)]);
    let workgroups = workgroups(count * threads);
    Dispatch { kernel: OpKernel::Reduce, fours: by_fours, params, table: Vec::new(), workgroups }
}

fn softmax(axis: usize, x: &Arranged) -> Dispatch {
    let (length, inner) = (x.dims[axis], x.extents()[x.position(axis) + 1..].iter().product());
    let rows = x.elements() / length;
    let threads = threads(length);
    let params = [rows, length, inner, threads].map(word).to_vec();
    let workgroups = workgroups(rows * threads);
    Dispatch { kernel: OpKernel::Softmax, fours: false, params, table: Vec::new(), workgroups }
}

/// All row-major.
fn matmul(inputs: &[Arranged], dims: &[usize]) -> Dispatch {
    let (batch, matrix) = dims.split_at(dims.len() - 2);
    let (rows, columns) = (matrix[0], matrix[1]);
    let [a, b] = [0, 1].map(|index: usize| inputs[index].dims.as_slice());
    let depth = a[a.len() - 1];
    let [a, b] = [a, b].map(|x| {
        let (leading, matrix) = x.split_at(x.len() - 2);
        let size = matrix[0] * matrix[1];
        broadcast_strides(leading, batch).into_iter().map(|s| s * size).collect::<Vec<_>>()
    });
    let count: usize = batch.iter().product();
    let (mut params, rank) = axis_words(&axes(batch, &a, signed(&b)));
    let tiles = [rows.div_ceil(32), columns.div_ceil(32)];
    params.push(rank);
    params.extend([count, rows, columns, depth, tiles[0], tiles[1], 0].map(word));
    let workgroups = word(count * tiles[0] * tiles[1]);
    Dispatch { kernel: OpKernel::MatMul, fours: false, params, table: Vec::new(), workgroups }
}

fn conv_transpose(conv: &ConvTranspose, inputs: &[Arranged], y: &Arranged) -> Dispatch {
    let (x, groups) = (&inputs[0], conv.groups as usize);
    let count = y.elements();
    let mut params: Vec<u32> = [
        [count, x.dims[1] / groups, y.dims[1] / groups, groups],
        [x.dims[2], x.dims[3], y.dims[2], y.dims[3]],
    ]
    .as_flattened()
    .iter()
    .map(|&value| word(value))
    .collect();
    for pair in [conv.kernel, conv.stride, conv.dilation, conv.padding] {
        params.extend(pair);
    }
    let [_, last, channel, pixel] = image_words(x, y);
    params.extend([u32::from(inputs.len() > 2), last, channel, pixel]);
    let workgroups = workgroups(count);
    let kernel = OpKernel::ConvTranspose;
    Dispatch { kernel, fours: false, params, table: Vec::new(), workgroups }
}

/// Both lie alike.
fn resize(axes: &[Taps], x: &Arranged, y: &Arranged) -> Dispatch {
    let (from, to) = (x.extents(), y.extents());
    let mut axes: Vec<(usize, &Taps)> =
        axes.iter().map(|taps| (x.position(taps.axis), taps)).collect();
    axes.sort_by_key(|(position, _)| *position);
    // One axis is two, the first of one element.
    let same = Taps { axis: 0, count: 1, indices: vec![0], weights: vec![1.0] };
    let product = |extents: &[usize]| extents.iter().product::<usize>();
    let (second_at, second) = axes[axes.len() - 1];
    let (first, extents, middle) = match axes[..] {
        [(first_at, first), _] => {
            (first, [from[first_at], to[first_at]], product(&from[first_at + 1..second_at]))
        }
        _ => (&same, [1, 1], 1),
    };
    let mut table = Vec::new();
    let [first_table, second_table] = [first, second].map(|taps| {
        let at = table.len();
        table.extend(&taps.indices);
        table.extend(taps.weights.iter().map(|weight| weight.to_bits()));
        at
    });
    let inner = product(&from[second_at + 1..]);
    let fours = inner % 4 == 0;
    let by = if fours { 4 } else { 1 };
    let (count, inner) = (y.elements() / by, inner / by);
    let params = [
        [count, inner, from[second_at], to[second_at]],
        [second.count, second_table, middle, extents[0]],
        [extents[1], first.count, first_table, 0],
    ];
    let params = params.as_flattened().iter().map(|&value| word(value)).collect();
    Dispatch { kernel: OpKernel::Resize, fours, params, table, workgroups: workgroups(count) }
}
