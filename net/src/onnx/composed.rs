//! Operators of a model that become several of a graph.

use super::convert::At;
use super::node::{Converted, refuse};
use crate::Error;
use crate::graph::{Op, ValueId};
use crate::op::{Binary, Reduction, Unary};
use crate::tensor::Tensor;
use dsconv::Activation;

pub(crate) fn batch_norm(at: &mut At<'_, '_>) -> Converted<ValueId> {
    at.attributes.ignore(&["momentum"]);
    at.attributes.unset("training_mode")?;
    if at.attributes.int("spatial")?.unwrap_or(1) != 1 {
        return refuse("spatial = 0");
    }
    let epsilon = f64::from(at.attributes.float("epsilon")?.unwrap_or(1e-5));
    let mut parts = Vec::new();
    for (index, what) in ["scale", "B", "mean", "var"].into_iter().enumerate() {
        at.input(index + 1)?;
        parts.push(at.known(index + 1, what)?.unwrap_or_else(|| Tensor::list([])));
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
    let name = at.importer.node.clone();
    let factors = at.importer.constant(format!("{name} scale"), factors);
    let shifts = at.importer.constant(format!("{name} shift"), shifts);
    let x = at.input(0)?;
    at.push(Op::ChannelAffine, [x, factors, shifts])
}

/// `(x - mean) / sqrt(variance + epsilon)`, the mean being what an operator computes.
pub(crate) fn normalised(
    at: &mut At<'_, '_>,
    x: ValueId,
    mean: &Op,
    epsilon: f32,
) -> Converted<ValueId> {
    let centre = at.push(mean.clone(), [x])?;
    let centred = at.binary(Binary::Sub, x, centre)?;
    let squares = at.binary(Binary::Mul, centred, centred)?;
    let variance = at.push(mean.clone(), [squares])?;
    let epsilon = at.importer.scalar(epsilon);
    let variance = at.binary(Binary::Add, variance, epsilon)?;
    let deviation = at.push(Op::Unary(Unary::Sqrt), [variance])?;
    at.binary(Binary::Div, centred, deviation)
}

pub(crate) fn instance_norm(at: &mut At<'_, '_>) -> Converted<ValueId> {
    let epsilon = at.attributes.float("epsilon")?.unwrap_or(1e-5);
    let (x, scale, shift) = (at.input(0)?, at.input(1)?, at.input(2)?);
    let y = normalised(at, x, &Op::GlobalAverage, epsilon)?;
    at.push(Op::ChannelAffine, [y, scale, shift])
}

pub(crate) fn layer_norm(at: &mut At<'_, '_>) -> Converted<ValueId> {
    at.attributes.ignore(&["stash_type"]);
    let epsilon = at.attributes.float("epsilon")?.unwrap_or(1e-5);
    let axis = at.attributes.int("axis")?.unwrap_or(-1);
    if !(-8..0).contains(&axis) {
        return refuse("an axis counted from the front");
    }
    let (x, scale) = (at.input(0)?, at.input(1)?);
    let mean = Op::Reduce { reduction: Reduction::Mean, axes: (axis..0).collect(), keep: true };
    let y = normalised(at, x, &mean, epsilon)?;
    let y = at.binary(Binary::Mul, y, scale)?;
    match at.optional(2)? {
        Some(shift) => at.binary(Binary::Add, y, shift),
        None => Ok(y),
    }
}

pub(crate) fn composed(at: &mut At<'_, '_>) -> Converted<ValueId> {
    let x = at.input(0)?;
    let activation = |activation| Op::Unary(Unary::Activation(activation));
    match at.node.op_type.as_str() {
        "Swish" => {
            let alpha = at.attributes.float("alpha")?.unwrap_or(1.0);
            if alpha == 1.0 {
                return at.push(activation(Activation::Silu), [x]);
            }
            let alpha = at.importer.scalar(alpha);
            let scaled = at.binary(Binary::Mul, x, alpha)?;
            let gate = at.push(activation(Activation::Sigmoid), [scaled])?;
            at.binary(Binary::Mul, x, gate)
        }
        "Mish" => {
            let y = at.push(Op::Unary(Unary::Softplus), [x])?;
            let y = at.push(Op::Unary(Unary::Tanh), [y])?;
            at.binary(Binary::Mul, x, y)
        }
        "Gelu" => {
            let half = at.importer.scalar(0.5);
            let one = at.importer.scalar(1.0);
            let inner = match at.attributes.string("approximate", "none")? {
                "none" => {
                    let factor = at.importer.scalar(std::f32::consts::FRAC_1_SQRT_2);
                    let y = at.binary(Binary::Mul, x, factor)?;
                    at.push(Op::Unary(Unary::Erf), [y])?
                }
                "tanh" => {
                    let (cubic, factor) =
                        (at.importer.scalar(0.044_715), at.importer.scalar(0.797_884_6));
                    let y = at.binary(Binary::Mul, x, x)?;
                    let y = at.binary(Binary::Mul, y, x)?;
                    let y = at.binary(Binary::Mul, y, cubic)?;
                    let y = at.binary(Binary::Add, y, x)?;
                    let y = at.binary(Binary::Mul, y, factor)?;
                    at.push(Op::Unary(Unary::Tanh), [y])?
                }
                other => return refuse(format!("approximate = {other}")),
            };
            let y = at.binary(Binary::Add, inner, one)?;
            let y = at.binary(Binary::Mul, x, y)?;
            at.binary(Binary::Mul, y, half)
        }
        "LogSoftmax" => {
            let flatten = at.opset() < 13;
            let default = if flatten { 1 } else { -1 };
            let axis = at.attributes.int("axis")?.unwrap_or(default);
            let y = at.push(Op::Softmax { axis, flatten }, [x])?;
            at.push(Op::Unary(Unary::Log), [y])
        }
        // ReduceL2, ReduceSumSquare
        op => {
            let axes = at.axes(18)?;
            at.attributes.unset("noop_with_empty_axes")?;
            let keep = at.attributes.int("keepdims")?.unwrap_or(1) != 0;
            let squares = at.binary(Binary::Mul, x, x)?;
            let reduce = Op::Reduce { reduction: Reduction::Sum, axes, keep };
            let sum = at.push(reduce, [squares])?;
            if op == "ReduceL2" { at.push(Op::Unary(Unary::Sqrt), [sum]) } else { Ok(sum) }
        }
    }
}
