//! The backward pass as a program: the steps of a network, followed by those of its gradients.
//!
//! [`differentiate`] walks the steps from the last to the first and writes each one's gradients as steps that exist.
//! [`tape`] holds what has been written, [`step`] knows every operation, and [`unfuse`] takes apart what was fused.

mod step;
mod tape;
#[cfg(test)]
mod tests;
mod unfuse;

use crate::ir::op::{Binary, Unary};
use crate::ir::program::{Program, Step, StepOp, TensorId};
use crate::{Error, Result};
use dsconv::{Residual, Weights};
use std::sync::Arc;
use tape::Tape;

/// What gradients are wanted of.
pub(super) struct Wanted<'a> {
    /// Whether weights learn, and whether their bias does.
    pub(super) layer: &'a dyn Fn(&Arc<Weights>) -> [bool; 2],
    /// Inputs of the program.
    pub(super) inputs: &'a [TensorId],
}

/// The gradients of a convolution.
#[derive(Clone, Debug)]
pub(super) struct LayerGradient {
    /// The name of its step.
    pub(super) name: String,
    pub(super) weights: Arc<Weights>,
    /// That of the weights, and that of the bias, as far as wanted.
    pub(super) parts: [Option<TensorId>; 2],
}

/// A program with its gradients.
pub(super) struct Differentiated {
    /// All steps; the outputs are not chosen yet.
    pub(super) program: Program,
    pub(super) layers: Vec<LayerGradient>,
    /// Those of the wanted inputs; none where nothing depends on it.
    #[cfg(test)]
    pub(super) inputs: Vec<Option<TensorId>>,
}

/// The slope of a loss in the tensor `y`.
pub(super) enum Slope {
    /// That of the mean over rows of the cross entropy of the softmax along an axis. Targets are an input.
    CrossEntropy {
        /// The axis of the classes.
        axis: usize,
    },
    /// That of the mean of the squared difference from targets, which are an input.
    SquaredError,
    /// An input of y's dims.
    #[cfg(test)]
    Given,
}

/// Adds the steps that give the gradients of a loss of the tensor `y`.
///
/// # Errors
/// A step on the way from what learns to `y` that has no gradient, by its name.
pub(super) fn differentiate(
    program: Program,
    y: TensorId,
    slope: &Slope,
    wanted: &Wanted<'_>,
) -> Result<Differentiated> {
    let program = unfuse::unfuse(program);
    let needs = dependents(&program, wanted);
    let count = program.steps.len();
    let mut tape = Tape::new(program, needs);
    if !tape.needs(y) {
        return Err(Error::invalid("what learns", "a part that the output depends on", "none"));
    }
    let gradient = tape.slope(y, slope)?;
    tape.add(y, gradient)?;
    let mut layers = Vec::new();
    for index in (0..count).rev() {
        let step = tape.program.steps[index].clone();
        let Some(dy) = tape.gradient(step.output).filter(|_| tape.needs(step.output)) else {
            continue;
        };
        tape.name.clone_from(&step.name);
        let done = match &step.op {
            StepOp::Conv { weights, .. } => {
                tape.convolution(&step, dy, (wanted.layer)(weights)).map(|parts| {
                    let (name, weights) = (step.name.clone(), weights.clone());
                    layers.push(LayerGradient { name, weights, parts });
                })
            }
            _ => tape.backward(&step, dy),
        };
        done.map_err(|e| e.in_node(&step.name, step.op.name()))?;
    }
    #[cfg(test)]
    let inputs = wanted.inputs.iter().map(|&id| tape.gradient(id)).collect();
    Ok(Differentiated {
        #[cfg(test)]
        inputs,
        program: tape.program,
        layers,
    })
}

/// The storages that depend on what is wanted.
fn dependents(program: &Program, wanted: &Wanted<'_>) -> Vec<bool> {
    let mut needs = vec![false; program.values.len()];
    wanted.inputs.iter().for_each(|id| needs[id.index()] = true);
    for step in &program.steps {
        let learns = match &step.op {
            StepOp::Conv { weights, .. } => (wanted.layer)(weights).contains(&true),
            _ => false,
        };
        let reads = step.inputs.iter().any(|&id| needs[program.storage(id).index()]);
        needs[step.output.index()] = learns || (reads && !decides(&step.op));
    }
    needs
}

/// Whether an operation gives truth values, which are constant but where they jump.
fn decides(op: &StepOp) -> bool {
    matches!(
        op,
        StepOp::Unary(Unary::Not | Unary::IsNan | Unary::IsInf { .. })
            | StepOp::Binary(Binary::Equal | Binary::Less | Binary::LessOrEqual)
    )
}

impl Tape {
    fn slope(&mut self, y: TensorId, slope: &Slope) -> Result<TensorId> {
        self.name = "loss".into();
        let dims = self.dims(y);
        let targets = self.input("targets", &dims)?;
        let elements: usize = dims.iter().product();
        match *slope {
            Slope::CrossEntropy { axis } => {
                let shares = self.alike(StepOp::Softmax { axis }, &[y])?;
                let off = self.binary(Binary::Sub, shares, targets)?;
                self.scaled(off, dims[axis] as f32 / elements as f32)
            }
            Slope::SquaredError => {
                let off = self.binary(Binary::Sub, y, targets)?;
                self.scaled(off, 2.0 / elements as f32)
            }
            #[cfg(test)]
            Slope::Given => Ok(targets),
        }
    }

    /// The gradients of a convolution's inputs, and of its weights and bias as far as they learn.
    fn convolution(
        &mut self,
        step: &Step,
        dy: TensorId,
        learns: [bool; 2],
    ) -> Result<[Option<TensorId>; 2]> {
        let StepOp::Conv { weights, activation, residual } = &step.op else {
            return Ok([None; 2]);
        };
        // Unfused where the output does not tell the slope.
        let dy = match activation {
            dsconv::Activation::Identity => dy,
            _ => {
                let slope = StepOp::UnaryGradient(Unary::Activation(*activation));
                self.alike(slope, &[step.output, dy])?
            }
        };
        if *residual != Residual::None {
            self.add(step.inputs[1], dy)?;
        }
        let x = step.inputs[0];
        if self.needs(x) {
            let (op, dims) = (StepOp::ConvInputGradient { weights: weights.clone() }, self.dims(x));
            let dx = self.step(op, &[dy], &dims)?;
            self.add(x, dx)?;
        }
        let mut parts = [None; 2];
        if learns[0] {
            let count = match weights.as_ref() {
                Weights::Float(weights) => weights.values().len(),
                Weights::DsConv(weights) => {
                    weights.alpha().len() * (1 + usize::from(weights.kds_bias().is_some()))
                }
            };
            let op = StepOp::ConvWeightGradient { weights: weights.clone() };
            parts[0] = Some(self.step(op, &[x, dy], &[count])?);
        }
        if learns[1] {
            let channels = self.dims(dy)[1];
            let sum = self.sum(dy, &[0, 2, 3])?;
            parts[1] = Some(self.view(sum, &[channels])?);
        }
        Ok(parts)
    }
}
