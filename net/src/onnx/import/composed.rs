//! Operators of a model that become several operators of a graph.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::{Binary, Reduction, Unary};
use crate::ir::tensor::Tensor;
use dsconv::Activation;

/// A batch norm becomes a scale and a shift per channel.
pub(crate) fn batch_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["momentum"]);
    context.attributes.unset("training_mode")?;
    if context.attributes.int("spatial")?.unwrap_or(1) != 1 {
        return refuse("spatial = 0");
    }
    let epsilon = f64::from(context.attributes.float("epsilon")?.unwrap_or(1e-5));
    let mut parts = Vec::new();
    for (index, what) in ["scale", "B", "mean", "var"].into_iter().enumerate() {
        context.input(index + 1)?;
        parts.push(context.known(index + 1, what)?.unwrap_or_else(|| Tensor::list([])));
    }
    let [scale, shift, mean, variance] =
        [0, 1, 2, 3].map(|index| parts[index].floats("batch norm").map(<[f32]>::to_vec));
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    let count = scale.len();
    if [shift.len(), mean.len(), variance.len()] != [count; 3] {
        let got = format!("{}, {}, {}", shift.len(), mean.len(), variance.len());
        return Err(Error::invalid("B, mean and var", format!("{count} numbers each"), got).into());
    }
    let factors: Vec<f64> = scale
        .iter()
        .zip(&variance)
        .map(|(&scale, &variance)| f64::from(scale) / (f64::from(variance) + epsilon).sqrt())
        .collect();
    let shifts = factors.iter().zip(shift.iter().zip(&mean));
    let shifts = shifts.map(|(f, (&b, &mean))| (f64::from(b) - f64::from(mean) * f) as f32);
    let shifts = Tensor::f32([count], shifts.collect())?;
    let factors = Tensor::f32([count], factors.iter().map(|&f| f as f32).collect())?;
    let name = context.importer.node.clone();
    let factors = context.importer.constant(format!("{name} scale"), factors);
    let shifts = context.importer.constant(format!("{name} shift"), shifts);
    let x = context.input(0)?;
    context.push(Op::ChannelAffine, [x, factors, shifts])
}

/// `(x - mean) / sqrt(variance + epsilon)`, the mean being what an operator computes.
pub(crate) fn normalised(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    mean: &Op,
    epsilon: f32,
) -> Converted<ValueId> {
    let centre = context.push(mean.clone(), [x])?;
    let centred = context.binary(Binary::Sub, x, centre)?;
    let squares = context.binary(Binary::Mul, centred, centred)?;
    let variance = context.push(mean.clone(), [squares])?;
    let epsilon = context.importer.scalar(epsilon);
    let variance = context.binary(Binary::Add, variance, epsilon)?;
    let deviation = context.push(Op::Unary(Unary::Sqrt), [variance])?;
    context.binary(Binary::Div, centred, deviation)
}

/// A norm over the pixels of each channel.
pub(crate) fn instance_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    let (x, scale, shift) = (context.input(0)?, context.input(1)?, context.input(2)?);
    let y = normalised(context, x, &Op::GlobalAverage, epsilon)?;
    context.push(Op::ChannelAffine, [y, scale, shift])
}

/// A norm over the last axes.
pub(crate) fn layer_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["stash_type"]);
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    let axis = context.attributes.int("axis")?.unwrap_or(-1);
    if !(-8..0).contains(&axis) {
        return refuse("an axis counted from the front");
    }
    let (x, scale) = (context.input(0)?, context.input(1)?);
    let mean = Op::Reduce { reduction: Reduction::Mean, axes: (axis..0).collect(), keep: true };
    let y = normalised(context, x, &mean, epsilon)?;
    let y = context.binary(Binary::Mul, y, scale)?;
    match context.optional(2)? {
        Some(shift) => context.binary(Binary::Add, y, shift),
        None => Ok(y),
    }
}

/// Activations and reductions that are compositions of others.
pub(crate) fn composed(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let activation = |activation| Op::Unary(Unary::Activation(activation));
    match context.node.op_type.as_str() {
        "Swish" => {
            let alpha = context.attributes.float("alpha")?.unwrap_or(1.0);
            if alpha == 1.0 {
                return context.push(activation(Activation::Silu), [x]);
            }
            let alpha = context.importer.scalar(alpha);
            let scaled = context.binary(Binary::Mul, x, alpha)?;
            let gate = context.push(activation(Activation::Sigmoid), [scaled])?;
            context.binary(Binary::Mul, x, gate)
        }
        "Mish" => {
            let y = context.push(Op::Unary(Unary::Softplus), [x])?;
            let y = context.push(Op::Unary(Unary::Tanh), [y])?;
            context.binary(Binary::Mul, x, y)
        }
        "Gelu" => {
            let half = context.importer.scalar(0.5);
            let one = context.importer.scalar(1.0);
            let inner = match context.attributes.string("approximate", "none")? {
                "none" => {
                    let factor = context.importer.scalar(std::f32::consts::FRAC_1_SQRT_2);
                    let y = context.binary(Binary::Mul, x, factor)?;
                    context.push(Op::Unary(Unary::Erf), [y])?
                }
                "tanh" => {
                    let (cubic, factor) =
                        (context.importer.scalar(0.044_715), context.importer.scalar(0.797_884_6));
                    let y = context.binary(Binary::Mul, x, x)?;
                    let y = context.binary(Binary::Mul, y, x)?;
                    let y = context.binary(Binary::Mul, y, cubic)?;
                    let y = context.binary(Binary::Add, y, x)?;
                    let y = context.binary(Binary::Mul, y, factor)?;
                    context.push(Op::Unary(Unary::Tanh), [y])?
                }
                other => return refuse(format!("approximate = {other}")),
            };
            let y = context.binary(Binary::Add, inner, one)?;
            let y = context.binary(Binary::Mul, x, y)?;
            context.binary(Binary::Mul, y, half)
        }
        "LogSoftmax" => {
            let flatten = context.opset() < 13;
            let default = if flatten { 1 } else { -1 };
            let axis = context.attributes.int("axis")?.unwrap_or(default);
            let y = context.push(Op::Softmax { axis, flatten }, [x])?;
            context.push(Op::Unary(Unary::Log), [y])
        }
        // ReduceL2, ReduceSumSquare
        op => {
            let axes = context.axes(18)?;
            context.attributes.unset("noop_with_empty_axes")?;
            let keep = context.attributes.int("keepdims")?.unwrap_or(1) != 0;
            let squares = context.binary(Binary::Mul, x, x)?;
            let reduce = Op::Reduce { reduction: Reduction::Sum, axes, keep };
            let sum = context.push(reduce, [squares])?;
            if op == "ReduceL2" { context.push(Op::Unary(Unary::Sqrt), [sum]) } else { Ok(sum) }
        }
    }
}
