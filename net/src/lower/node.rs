//! The lowering of one node to steps of a program, with the dims of its inputs known.

use super::builder::{Context, Lowered, integers};
use super::window::{self, Window};
use super::{constant, einsum, indexed, order, rearrange, recurrent, resize, sample};
use crate::ir::Signature;
use crate::ir::graph::{AutoPad, Channels, Kind, Op, Scalar, WeightsId, descriptor};
use crate::ir::op::{Binary, Reduction, Unary};
use crate::ir::program::StepOp;
use crate::ir::tensor::{MAX_RANK, Tensor, axes_of, axis_of, broadcast, elements, usizes};
use crate::{Error, Result, cpu};
use dsconv::{Activation, Residual, Weights};
use std::sync::Arc;

/// Lowers an operator: emits its steps and returns its value.
pub(crate) fn lower(context: &mut Context<'_>, op: &Op, inputs: &[Lowered]) -> Result<Lowered> {
    let Signature { least, most, .. } = op.signature();
    if !(least..=most).contains(&inputs.len()) {
        return Err(Error::invalid("inputs", format!("{least} to {most}"), inputs.len()));
    }
    let x = &inputs[0];
    let dims = context.dims(x);
    let rank = dims.len();
    match op {
        Op::Conv { weights, auto_pad, channels: Channels::First } => {
            conv(context, *weights, *auto_pad, inputs)
        }
        Op::Conv { weights, channels: Channels::Last, .. } => conv_of_rows(context, *weights, x),
        Op::ConvTranspose { .. } => window::conv_transpose(context, op, inputs),
        Op::Pool { .. } => window::pool(context, op, x),
        Op::Unary(unary) => match x {
            Lowered::Integer(tensor) => integer_unary(context, *unary, tensor),
            _ => {
                let kind = op.kind(&[x.kind()]);
                context.compute(StepOp::Unary(*unary), inputs, dims, kind)
            }
        },
        Op::Binary(binary) => {
            let to = broadcast(&dims, &context.dims(&inputs[1]))?;
            let run = inputs.iter().any(|x| matches!(x, Lowered::Whole(_)));
            match binary {
                Binary::Div if run => constant::whole_quotient(context, inputs),
                Binary::Pow if inputs[0].kind() != inputs[1].kind() || run => {
                    constant::power(context, inputs)
                }
                // Whatever is let through, by whatever.
                Binary::Gate => context.compute(StepOp::Binary(*binary), inputs, to, x.kind()),
                _ => context.emit(StepOp::Binary(*binary), inputs, to),
            }
        }
        Op::ChannelAffine => {
            if rank < 2 {
                return Err(Error::invalid("input", "rank 2 or more", rank));
            }
            let mut along = vec![1; rank - 1];
            along[0] = dims[1];
            let scale = context.view(&inputs[1], along.clone())?;
            let shift = context.view(&inputs[2], along)?;
            let y = context.emit(StepOp::Binary(Binary::Mul), &[x.clone(), scale], dims.clone())?;
            context.emit(StepOp::Binary(Binary::Add), &[y, shift], dims)
        }
        Op::GlobalAverage | Op::GlobalMax => {
            if rank < 3 {
                return Err(Error::invalid("input", "rank 3 or more", rank));
            }
            let mean = matches!(op, Op::GlobalAverage);
            let reduction = if mean { Reduction::Mean } else { Reduction::Max };
            let mut to = vec![1; rank];
            to[..2].copy_from_slice(&dims[..2]);
            context.emit(StepOp::Reduce { reduction, axes: (2..rank).collect() }, inputs, to)
        }
        Op::Reduce { reduction, axes, keep } => {
            let axes = if axes.is_empty() { (0..rank).collect() } else { axes_of(axes, rank)? };
            let mut to = dims.clone();
            axes.iter().for_each(|&axis| to[axis] = 1);
            let y = if axes.is_empty() {
                x.clone()
            } else {
                // A mean of integers is a quotient of integers.
                let whole = *reduction == Reduction::Mean && !x.kind().is_float();
                let reduction = if whole { Reduction::Sum } else { *reduction };
                let op = StepOp::Reduce { reduction, axes: axes.clone() };
                let y = context.emit(op, inputs, to.clone())?;
                if whole {
                    let count: usize = axes.iter().map(|&axis| dims[axis]).product();
                    let count = Lowered::Integer(Tensor::i64([], vec![count as i64])?);
                    constant::whole_quotient(context, &[y, count])?
                } else {
                    y
                }
            };
            if *keep {
                return Ok(y);
            }
            let kept = (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| dims[axis]);
            context.view(&y, kept.collect())
        }
        Op::Softmax { axis, flatten } => {
            let axis = axis_of(*axis, rank)?;
            if !flatten {
                return context.emit(StepOp::Softmax { axis }, inputs, dims);
            }
            let flat = vec![elements("input", &dims[..axis])?, elements("input", &dims[axis..])?];
            let y = context.view(x, flat.clone())?;
            let y = context.emit(StepOp::Softmax { axis: 1 }, &[y], flat)?;
            context.view(&y, dims)
        }
        Op::Concat { axis } => rearrange::concat(context, *axis, inputs),
        Op::Slice => rearrange::slice(context, inputs, &dims),
        Op::Part { axis, part } => rearrange::part_of(context, *axis, *part, x),
        Op::Gather { axis } => rearrange::gather(context, *axis, inputs),
        Op::Resize { .. } => resize::resize(context, op, inputs),
        Op::Reshape { allow_zero } => {
            let to = rearrange::reshaped(&dims, integers(&inputs[1], "dims")?, *allow_zero)?;
            context.view(x, to)
        }
        Op::Flatten { axis } => {
            // The axis may be the rank itself.
            let axis = if *axis == rank as i64 { rank } else { axis_of(*axis, rank)? };
            let to = vec![elements("input", &dims[..axis])?, elements("input", &dims[axis..])?];
            context.view(x, to)
        }
        Op::Squeeze { axes } => {
            let axes = if axes.is_empty() {
                (0..rank).filter(|&axis| dims[axis] == 1).collect()
            } else {
                axes_of(axes, rank)?
            };
            if let Some(&axis) = axes.iter().find(|&&axis| dims[axis] != 1) {
                return Err(Error::invalid(format!("dim {axis}"), "1", dims[axis]));
            }
            let kept = (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| dims[axis]);
            context.view(x, kept.collect())
        }
        Op::Unsqueeze { axes } => {
            let whole = rank + axes.len();
            if whole > MAX_RANK {
                return Err(Error::invalid("output", format!("rank 0..={MAX_RANK}"), whole));
            }
            let axes = axes_of(axes, whole)?;
            let mut rest = dims.into_iter();
            let to = (0..whole)
                .map(|axis| if axes.contains(&axis) { 1 } else { rest.next().unwrap_or(1) });
            context.view(x, to.collect())
        }
        Op::Transpose { permutation } => rearrange::transpose(context, permutation, x),
        Op::Pad { mode } => rearrange::pad(context, inputs, &dims, *mode),
        Op::MatMul => matmul(context, inputs, dims),
        Op::Expand => {
            let to = usizes(integers(&inputs[1], "dims")?, "dims")?;
            let to = broadcast(&dims, &to)?;
            if to == dims { Ok(x.clone()) } else { context.emit(StepOp::Expand, &inputs[..1], to) }
        }
        Op::Tile => rearrange::tile(context, inputs),
        Op::Shape { start, end } => {
            let bound = |at: i64| {
                let from = if at < 0 { at.saturating_add(rank as i64) } else { at };
                from.clamp(0, rank as i64) as usize
            };
            let (start, end) = (bound(*start), end.map_or(rank, bound));
            let part = dims.get(start..end).unwrap_or_default();
            Ok(Lowered::Integer(Tensor::list(
                part.iter().map(|&dim| dim as i64).collect::<Vec<_>>(),
            )))
        }
        Op::DepthToSpace { block, blocks_first } => {
            rearrange::depth_to_space(context, *block, *blocks_first, x)
        }
        Op::SpaceToDepth { block } => rearrange::space_to_depth(context, *block, x),
        Op::Size => Tensor::i64([], vec![elements("input", &dims)? as i64]).map(Lowered::Integer),
        Op::Cast { to } => constant::cast(context, x, dims, *to),
        Op::ConstantOfShape { value } => {
            let to = usizes(integers(x, "dims")?, "dims")?;
            let one = vec![1; to.len()];
            let one = match *value {
                Scalar::Float(value) => context.float(one, vec![value])?,
                Scalar::Integer(value) => Lowered::Integer(Tensor::i64(one, vec![value])?),
            };
            if context.dims(&one) == to {
                Ok(one)
            } else {
                context.emit(StepOp::Expand, &[one], to)
            }
        }
        Op::Range => constant::range(context, inputs),
        Op::Compare(comparison) => constant::compare(context, *comparison, inputs),
        Op::Not => {
            let Lowered::Integer(tensor) = x else {
                return context.unary(Unary::Not, x, Kind::Bool);
            };
            integer_unary(context, Unary::Not, tensor)
        }
        Op::Where => constant::select(context, inputs),
        // Before its inputs are asked for: those of the other branch may be missing.
        Op::Choose => Err(Error::invalid("operator", "one with all of its inputs", op.name())),
        Op::ArgMax { .. } => order::arg_max(context, op, x),
        Op::Hardmax { axis, flatten } => order::hardmax(context, *axis, *flatten, x),
        Op::Order { axis, descending } => order::order(context, *axis, *descending, inputs),
        Op::Suppress { centre } => order::suppress(context, *centre, inputs),
        Op::CumulativeSum { exclusive, reverse } => {
            order::cumulative_sum(context, *exclusive, *reverse, inputs)
        }
        Op::Triangle { upper } => order::triangle(context, *upper, inputs),
        Op::GatherElements { axis } => indexed::gather_elements(context, *axis, inputs),
        Op::GatherNd { batch } => indexed::gather_nd(context, *batch, inputs),
        Op::ScatterElements { axis, combination } => {
            indexed::scatter_elements(context, *axis, *combination, inputs)
        }
        Op::ScatterNd { combination } => indexed::scatter_nd(context, *combination, inputs),
        Op::OneHot { axis } => indexed::one_hot(context, *axis, inputs),
        Op::Einsum { equation } => einsum::einsum(context, equation, inputs),
        Op::GridSample { .. } => sample::grid_sample(context, op, inputs),
        Op::RoiAlign(roi) => sample::roi_align(context, roi, inputs),
        Op::Recurrent(recurrent) => recurrent::recurrent(context, recurrent, inputs),
    }
}

/// Lowers a convolution of (N, C, H, W), whose padding may follow from the input's size.
fn conv(
    context: &mut Context<'_>,
    weights: WeightsId,
    auto_pad: AutoPad,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let dims = context.dims(&inputs[0]);
    let shape = cpu::shape(&dims)?;
    let mut geometry = layer(context, weights)?;
    if auto_pad != AutoPad::None {
        let window = Window {
            kernel: geometry.kernel,
            stride: geometry.stride,
            dilation: geometry.dilation,
        };
        geometry.padding = window.same(auto_pad, [shape.height, shape.width])?;
    }
    let output = geometry.output_shape(shape)?;
    let weights = context.padded(weights.0, geometry.padding)?;
    let to = [output.batch, output.channels, output.height, output.width];
    let to: Vec<usize> = to.iter().map(|&dim| dim as usize).collect();
    context.emit(conv_step(weights), inputs, to)
}

/// Lowers a 1x1 convolution of the last axis: all others become the batch.
fn conv_of_rows(context: &mut Context<'_>, weights: WeightsId, x: &Lowered) -> Result<Lowered> {
    let dims = context.dims(x);
    let geometry = layer(context, weights)?;
    let Some((&last, rows)) = dims.split_last() else {
        return Err(Error::invalid("input", "rank 1 or more", "rank 0"));
    };
    let mut to = rows.to_vec();
    to.push(geometry.out_channels as usize);
    let rows = elements("input rows", rows)?;
    let view = vec![rows, last, 1, 1];
    let output = geometry.output_shape(cpu::shape(&view)?)?;
    if [output.height, output.width] != [1, 1] {
        return Err(Error::invalid("weights", "a 1x1 kernel", format!("{geometry:?}")));
    }
    let flat = vec![rows, geometry.out_channels as usize, 1, 1];
    let weights = context.padded(weights.0, geometry.padding)?;
    let y = context.view(x, view)?;
    let y = context.emit(conv_step(weights), &[y], flat)?;
    context.view(&y, to)
}

/// The value of a function of integers, which is known beforehand.
fn integer_unary(context: &mut Context<'_>, unary: Unary, x: &Tensor) -> Result<Lowered> {
    context.make(x.len(), 8)?;
    let values = x.integers("input")?.iter();
    let values: Option<Vec<i64>> = match unary {
        Unary::Neg => values.map(|x| x.checked_neg()).collect(),
        Unary::Abs => values.map(|x| x.checked_abs()).collect(),
        Unary::Activation(Activation::Relu) => values.map(|&x| Some(x.max(0))).collect(),
        Unary::Sign => Some(values.map(|x| x.signum()).collect()),
        Unary::Not => Some(values.map(|&x| i64::from(x == 0)).collect()),
        Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => Some(values.copied().collect()),
        _ => None,
    };
    let values = values.ok_or_else(|| Error::invalid("input", "floats", "integers"))?;
    Tensor::i64(x.dims(), values).map(Lowered::Integer)
}

/// The geometry of a convolution.
fn layer(context: &Context<'_>, id: WeightsId) -> Result<dsconv::ConvDescriptor> {
    let weights = context.graph.weights.get(id.0);
    let count = context.graph.weights.len();
    let weights =
        weights.ok_or_else(|| Error::invalid("weights", format!("below {count}"), id.0))?;
    Ok(descriptor(weights))
}

/// A convolution without activation and residual.
fn conv_step(weights: Arc<Weights>) -> StepOp {
    StepOp::Conv { weights, activation: Activation::Identity, residual: Residual::None }
}

/// Lowers a matrix product: a vector becomes a matrix of one row or one column.
fn matmul(context: &mut Context<'_>, inputs: &[Lowered], mut a: Vec<usize>) -> Result<Lowered> {
    let mut b = context.dims(&inputs[1]);
    if a.is_empty() || b.is_empty() {
        return Err(Error::invalid("input", "rank 1 or more", "rank 0"));
    }
    let (row, column) = (a.len() == 1, b.len() == 1);
    if row {
        a.insert(0, 1);
    }
    if column {
        b.push(1);
    }
    let ([m, k], [inner, n]) = (last_two(&a), last_two(&b));
    if k != inner {
        return Err(Error::invalid("matrices", format!("{k} rows"), inner));
    }
    let operands = [context.view(&inputs[0], a.clone())?, context.view(&inputs[1], b.clone())?];
    let batch = broadcast(&a[..a.len() - 2], &b[..b.len() - 2])?;
    let product = [&batch[..], &[m, n]].concat();
    let y = context.emit(StepOp::MatMul, &operands, product)?;
    let rows = (!row).then_some(m);
    let columns = (!column).then_some(n);
    context.view(&y, batch.into_iter().chain(rows).chain(columns).collect())
}

fn last_two(dims: &[usize]) -> [usize; 2] {
    [dims[dims.len() - 2], dims[dims.len() - 1]]
}
