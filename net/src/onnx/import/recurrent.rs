//! Recurrent networks.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::{Cell, Op, Recurrent, ValueId};
use crate::ir::op::Unary;
use crate::ir::tensor::Tensor;
use dsconv::Activation;

/// The states of a network, its last state and its last cell.
pub(crate) fn recurrent(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let attributes = context.attributes;
    let (cell, gates, functions): (_, usize, &[&str]) = match context.node.op_type.as_str() {
        "LSTM" => {
            let coupled = attributes.flag("input_forget")?;
            (Cell::Lstm { coupled }, 4, &["Sigmoid", "Tanh", "Tanh"])
        }
        "GRU" => {
            let reset_after = attributes.flag("linear_before_reset")?;
            (Cell::Gru { reset_after }, 3, &["Sigmoid", "Tanh"])
        }
        _ => (Cell::Rnn, 1, &["Tanh"]),
    };
    let reverse = match attributes.string("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(Error::invalid("direction", "one of ONNX's", other).into()),
    };
    let hidden = attributes.int("hidden_size")?.and_then(|size| usize::try_from(size).ok());
    let Some(hidden) = hidden.filter(|size| (1..1 << 16).contains(size)) else {
        return Err(Error::invalid("hidden_size", "1 to 65535", "another number").into());
    };
    let batch_first = attributes.flag("layout")?;
    let clip = attributes.float("clip")?;
    let functions = named_functions(context, functions, reverse.len())?;
    let x = sequence(context, 0, batch_first, &[1, 0, 2])?;
    let mut inputs = vec![x, context.input(1)?, context.input(2)?];
    let zeros = |context: &mut NodeContext<'_, '_>, columns: usize| -> Converted<ValueId> {
        let zeros = Tensor::f32([reverse.len(), columns], vec![0.0; reverse.len() * columns])?;
        let name = context.importer.node.clone();
        Ok(context.importer.constant(name, zeros))
    };
    inputs.push(match context.optional(3)? {
        Some(bias) => bias,
        None => zeros(context, 2 * gates * hidden)?,
    });
    let lstm = matches!(cell, Cell::Lstm { .. });
    if lstm {
        inputs.push(match context.optional(7)? {
            Some(peepholes) => peepholes,
            None => zeros(context, 3 * hidden)?,
        });
    }
    let mut given = [false; 3];
    for (place, index) in [4, 5, 6].into_iter().enumerate().take(if lstm { 3 } else { 2 }) {
        if context.optional(index)?.is_some() {
            given[place] = true;
            inputs.push(match place {
                0 => context.input(index)?,
                _ => sequence(context, index, batch_first, &[1, 0, 2])?,
            });
        }
    }
    let op = Op::Recurrent(Recurrent { cell, reverse, hidden, functions, clip, given });
    let all = context.push(op, inputs)?;
    let bounds = [0, -2, 0].map(|bound| context.importer.list([bound]));
    let mut states = context.push(Op::Slice, [&[all][..], &bounds].concat())?;
    let last = |context: &mut NodeContext<'_, '_>, index: i64| -> Converted<ValueId> {
        let index = context.importer.number(index)?;
        let last = context.push(Op::Gather { axis: 0 }, [all, index])?;
        if !batch_first {
            return Ok(last);
        }
        context.push(Op::Transpose { permutation: vec![1, 0, 2] }, [last])
    };
    let (state, cell) = (last(context, -2)?, last(context, -1)?);
    // From (T, D, N, H) to (N, T, D, H).
    if batch_first {
        states = context.push(Op::Transpose { permutation: vec![2, 0, 1, 3] }, [states])?;
    }
    Ok(if lstm { vec![states, state, cell] } else { vec![states, state] })
}

/// An input of three axes, whose first two may be exchanged.
fn sequence(
    context: &mut NodeContext<'_, '_>,
    index: usize,
    batch_first: bool,
    permutation: &[i64],
) -> Converted<ValueId> {
    let x = context.input(index)?;
    if !batch_first {
        return Ok(x);
    }
    context.push(Op::Transpose { permutation: permutation.to_vec() }, [x])
}

/// The functions of every direction: ONNX's own where none are named.
fn named_functions(
    context: &NodeContext<'_, '_>,
    default: &[&'static str],
    directions: usize,
) -> Converted<Vec<Unary>> {
    let attributes = context.attributes;
    let named = attributes.strings("activations")?.filter(|names| !names.is_empty());
    let names = named.unwrap_or_else(|| default.repeat(directions));
    if names.len() != default.len() * directions {
        let expected = format!("{} names", default.len() * directions);
        return Err(Error::invalid("activations", expected, names.len()).into());
    }
    // Each function takes as many of these as it has parameters.
    let mut alphas = attributes.floats("activation_alpha")?.unwrap_or_default().iter();
    let mut betas = attributes.floats("activation_beta")?.unwrap_or_default().iter();
    let mut functions = Vec::new();
    for name in names {
        let mut alpha = |default: f32| alphas.next().copied().unwrap_or(default);
        functions.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => Unary::Activation(Activation::Sigmoid),
            "tanh" => Unary::Tanh,
            "relu" => Unary::Activation(Activation::Relu),
            "softplus" => Unary::Softplus,
            "leakyrelu" => Unary::Activation(Activation::LeakyRelu(alpha(0.01))),
            "elu" => Unary::Elu(alpha(1.0)),
            "hardsigmoid" => {
                Unary::HardSigmoid { alpha: alpha(0.2), beta: betas.next().copied().unwrap_or(0.5) }
            }
            _ => return refuse(format!("activation {name}")),
        });
    }
    Ok(functions)
}
