//! Activation functions and others of every element, and those along an axis.

use super::attributes::{Converted, Refusal, refuse};
use super::context::NodeContext;
use crate::ir::graph::{Comparison, Op, ValueId};
use crate::ir::op::{Binary, Reduction, Unary};
use dsconv::Activation;
use std::f32::consts::FRAC_PI_2;

/// Functions that the graph has, with their attributes.
pub(crate) fn same(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    let flatten = context.opset() < 13;
    let axis = |default| attributes.int("axis").map(|axis| axis.unwrap_or(default));
    let axis = axis(if flatten { 1 } else { -1 });
    Ok(match context.node.op_type.as_str() {
        "LeakyRelu" => {
            let slope = attributes.float("alpha")?.unwrap_or(0.01);
            Op::Unary(Unary::Activation(Activation::LeakyRelu(slope)))
        }
        "HardSigmoid" => Op::Unary(Unary::HardSigmoid {
            alpha: attributes.float("alpha")?.unwrap_or(0.2),
            beta: attributes.float("beta")?.unwrap_or(0.5),
        }),
        "Elu" => Op::Unary(Unary::Elu(attributes.float("alpha")?.unwrap_or(1.0))),
        "IsInf" => Op::Unary(Unary::IsInf {
            negative: attributes.int("detect_negative")?.unwrap_or(1) != 0,
            positive: attributes.int("detect_positive")?.unwrap_or(1) != 0,
        }),
        "Softmax" => Op::Softmax { axis: axis?, flatten },
        "Hardmax" => Op::Hardmax { axis: axis?, flatten },
        _ => return Err(Refusal::Operator),
    })
}

/// Activations that are compositions of others.
pub(crate) fn composed(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let attributes = context.attributes;
    let alpha = |default: f32| attributes.float("alpha").map(|alpha| alpha.unwrap_or(default));
    match context.node.op_type.as_str() {
        "Swish" => gated(context, x, alpha(1.0)?),
        "QuickGelu" => gated(context, x, alpha(1.702)?),
        "Mish" => {
            let y = context.unary(Unary::Softplus, x)?;
            let y = context.unary(Unary::Tanh, y)?;
            context.binary(Binary::Mul, x, y)
        }
        "Gelu" => match attributes.string("approximate", "none")? {
            "none" => gelu(context, x),
            "tanh" => gelu_by_tanh(context, x),
            other => refuse(format!("approximate = {other}")),
        },
        "BiasGelu" => {
            let bias = context.input(1)?;
            let x = context.binary(Binary::Add, x, bias)?;
            gelu(context, x)
        }
        "FastGelu" => {
            let x = match context.optional(1)? {
                Some(bias) => context.binary(Binary::Add, x, bias)?,
                None => x,
            };
            gelu_by_tanh(context, x)
        }
        "Selu" => {
            let alpha = alpha(1.673_263_2)?;
            let gamma = attributes.float("gamma")?.unwrap_or(1.050_701);
            let y = context.unary(Unary::Elu(alpha), x)?;
            context.by(Binary::Mul, y, gamma)
        }
        "Celu" => {
            let alpha = alpha(1.0)?;
            let y = context.by(Binary::Div, x, alpha)?;
            let y = context.unary(Unary::Elu(1.0), y)?;
            context.by(Binary::Mul, y, alpha)
        }
        "Softsign" => {
            let size = context.unary(Unary::Abs, x)?;
            let size = context.by(Binary::Add, size, 1.0)?;
            context.binary(Binary::Div, x, size)
        }
        "ThresholdedRelu" => {
            let bound = context.importer.scalar(alpha(1.0)?);
            let above = context.push(Op::Compare(Comparison::Greater), [x, bound])?;
            context.binary(Binary::Gate, x, above)
        }
        "Shrink" => {
            let bias = attributes.float("bias")?.unwrap_or(0.0);
            let bound = attributes.float("lambd")?.unwrap_or(0.5);
            let (low, high) = (context.importer.scalar(-bound), context.importer.scalar(bound));
            let (less, more) =
                (context.by(Binary::Sub, x, bias)?, context.by(Binary::Add, x, bias)?);
            let above = context.push(Op::Compare(Comparison::Greater), [x, high])?;
            let below = context.push(Op::Compare(Comparison::Less), [x, low])?;
            let above = context.binary(Binary::Gate, less, above)?;
            let below = context.binary(Binary::Gate, more, below)?;
            context.binary(Binary::Add, above, below)
        }
        "LogSoftmax" => log_softmax(context, x),
        _ => Err(Refusal::Operator),
    }
}

/// `x * sigmoid(alpha * x)`.
fn gated(context: &mut NodeContext<'_, '_>, x: ValueId, alpha: f32) -> Converted<ValueId> {
    if alpha == 1.0 {
        return context.unary(Unary::Activation(Activation::Silu), x);
    }
    let scaled = context.by(Binary::Mul, x, alpha)?;
    let gate = context.unary(Unary::Activation(Activation::Sigmoid), scaled)?;
    context.binary(Binary::Mul, x, gate)
}

fn gelu(context: &mut NodeContext<'_, '_>, x: ValueId) -> Converted<ValueId> {
    let y = context.by(Binary::Mul, x, std::f32::consts::FRAC_1_SQRT_2)?;
    let y = context.unary(Unary::Erf, y)?;
    half_of_both(context, x, y)
}

fn gelu_by_tanh(context: &mut NodeContext<'_, '_>, x: ValueId) -> Converted<ValueId> {
    let y = context.binary(Binary::Mul, x, x)?;
    let y = context.binary(Binary::Mul, y, x)?;
    let y = context.by(Binary::Mul, y, 0.044_715)?;
    let y = context.binary(Binary::Add, y, x)?;
    let y = context.by(Binary::Mul, y, 0.797_884_6)?;
    let y = context.unary(Unary::Tanh, y)?;
    half_of_both(context, x, y)
}

/// `x * (1 + y) / 2`.
fn half_of_both(context: &mut NodeContext<'_, '_>, x: ValueId, y: ValueId) -> Converted<ValueId> {
    let y = context.by(Binary::Add, y, 1.0)?;
    let y = context.binary(Binary::Mul, x, y)?;
    context.by(Binary::Mul, y, 0.5)
}

/// The logarithm of a softmax, without that of what became 0.
fn log_softmax(context: &mut NodeContext<'_, '_>, x: ValueId) -> Converted<ValueId> {
    let flatten = context.opset() < 13;
    let axis = context.attributes.int("axis")?.unwrap_or(if flatten { 1 } else { -1 });
    if flatten {
        let flat = context.push(Op::Flatten { axis }, [x])?;
        let y = log_softmax_along(context, flat, 1)?;
        return context.reshape_like(y, x);
    }
    log_softmax_along(context, x, axis)
}

fn log_softmax_along(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    axis: i64,
) -> Converted<ValueId> {
    let largest = context.reduce(Reduction::Max, &[axis], true, x)?;
    let x = context.binary(Binary::Sub, x, largest)?;
    let sum = context.unary(Unary::Exp, x)?;
    let sum = context.reduce(Reduction::Sum, &[axis], true, sum)?;
    let sum = context.unary(Unary::Log, sum)?;
    context.binary(Binary::Sub, x, sum)
}

/// Functions of angles and of hyperbolas.
pub(crate) fn trigonometry(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    match context.node.op_type.as_str() {
        "Tan" => {
            let (sine, cosine) = (context.unary(Unary::Sin, x)?, context.unary(Unary::Cos, x)?);
            context.binary(Binary::Div, sine, cosine)
        }
        "Asin" => arc_sine(context, x),
        "Acos" => {
            let y = arc_sine(context, x)?;
            let y = context.unary(Unary::Neg, y)?;
            context.by(Binary::Add, y, FRAC_PI_2)
        }
        op @ ("Sinh" | "Cosh") => {
            let up = context.unary(Unary::Exp, x)?;
            let down = context.unary(Unary::Neg, x)?;
            let down = context.unary(Unary::Exp, down)?;
            let both = if op == "Sinh" { Binary::Sub } else { Binary::Add };
            let y = context.binary(both, up, down)?;
            context.by(Binary::Mul, y, 0.5)
        }
        op @ ("Asinh" | "Acosh") => {
            // Of |x| for a sine, so that nothing cancels.
            let sine = op == "Asinh";
            let size = if sine { context.unary(Unary::Abs, x)? } else { x };
            let y = context.binary(Binary::Mul, size, size)?;
            let y = context.by(Binary::Add, y, if sine { 1.0 } else { -1.0 })?;
            let y = context.unary(Unary::Sqrt, y)?;
            let y = context.binary(Binary::Add, y, size)?;
            let y = context.unary(Unary::Log, y)?;
            if !sine {
                return Ok(y);
            }
            let sign = context.unary(Unary::Sign, x)?;
            context.binary(Binary::Mul, y, sign)
        }
        // Atanh
        _ => {
            let above = context.by(Binary::Add, x, 1.0)?;
            let below = context.unary(Unary::Neg, x)?;
            let below = context.by(Binary::Add, below, 1.0)?;
            let y = context.binary(Binary::Div, above, below)?;
            let y = context.unary(Unary::Log, y)?;
            context.by(Binary::Mul, y, 0.5)
        }
    }
}

/// By the tangent of the angle.
fn arc_sine(context: &mut NodeContext<'_, '_>, x: ValueId) -> Converted<ValueId> {
    let y = context.binary(Binary::Mul, x, x)?;
    let y = context.unary(Unary::Neg, y)?;
    let y = context.by(Binary::Add, y, 1.0)?;
    let y = context.unary(Unary::Sqrt, y)?;
    let y = context.binary(Binary::Div, x, y)?;
    context.unary(Unary::Atan, y)
}
