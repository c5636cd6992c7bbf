//! Convolutions whose fused activation has a slope that does not follow from its output, taken apart.

use crate::ir::op::{Binary, Unary};
use crate::ir::program::{Program, Source, Step, StepOp, TensorId, Value};
use dsconv::{Activation, Residual};

/// Whether the slope at the output is that at the input.
fn is_seen_in_output(activation: Activation) -> bool {
    match activation {
        Activation::Identity | Activation::Relu | Activation::Relu6 => true,
        Activation::Clamp { .. } => true,
        Activation::LeakyRelu(slope) => slope > 0.0,
        _ => false,
    }
}

/// The same program, where each convolution's activation sees only what its output tells.
pub(super) fn unfuse(mut program: Program) -> Program {
    for step in std::mem::take(&mut program.steps) {
        let StepOp::Conv { weights, activation, residual } = &step.op else {
            push(&mut program, step);
            continue;
        };
        let is_added_behind =
            *residual == Residual::AfterActivation && *activation != Activation::Identity;
        if is_seen_in_output(*activation) && !is_added_behind {
            push(&mut program, step);
            continue;
        }
        let conv = StepOp::Conv {
            weights: weights.clone(),
            activation: Activation::Identity,
            residual: Residual::None,
        };
        let act = StepOp::Unary(Unary::Activation(*activation));
        let (x, added) = (step.inputs[0], step.inputs.get(1).copied());
        let add = added.map(|added| (StepOp::Binary(Binary::Add), vec![added]));
        let mut rest = vec![(act, Vec::new())];
        match residual {
            Residual::None => {}
            Residual::BeforeActivation => rest.splice(0..0, add).for_each(drop),
            Residual::AfterActivation => rest.extend(add),
        }
        let last = rest.len() - 1;
        let mut y = inner(&mut program, &step);
        push(&mut program, Step { op: conv, inputs: vec![x], output: y, name: step.name.clone() });
        for (index, (op, others)) in rest.into_iter().enumerate() {
            let output = if index == last { step.output } else { inner(&mut program, &step) };
            let inputs = [vec![y], others].concat();
            push(&mut program, Step { op, inputs, output, name: step.name.clone() });
            y = output;
        }
    }
    program
}

/// A tensor of the dims of a step's output.
fn inner(program: &mut Program, step: &Step) -> TensorId {
    let Value { name, dims, .. } = program.value(step.output).clone();
    let source = Source::Step(0);
    program.values.push(Value {
        name: format!("{name} part {}", program.values.len()),
        dims,
        source,
    });
    TensorId(program.values.len() - 1)
}

fn push(program: &mut Program, step: Step) {
    program.values[step.output.index()].source = Source::Step(program.steps.len());
    program.steps.push(step);
}
