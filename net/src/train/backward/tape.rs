//! A program that grows by the steps of its own gradients.

use crate::ir::op::{Binary, Reduction};
use crate::ir::program::{Program, Source, Step, StepOp, TensorId, Value};
use crate::ir::tensor::{broadcast, elements};
use crate::{Error, Result};
use std::sync::Arc;

/// A program, and the gradients that are known of its tensors.
pub(super) struct Tape {
    pub(super) program: Program,
    /// The gradient of each storage, in its dims, as far as its readers are done.
    gradients: Vec<Option<TensorId>>,
    /// Whether a storage depends on what is learned.
    needs: Vec<bool>,
    /// The name of the steps that are added.
    pub(super) name: String,
}

impl Tape {
    /// Starts with a program, of which these storages depend on what is learned.
    pub(super) fn new(program: Program, needs: Vec<bool>) -> Self {
        let gradients = vec![None; program.values.len()];
        Self { program, gradients, needs, name: String::new() }
    }

    pub(super) fn dims(&self, id: TensorId) -> Vec<usize> {
        self.program.value(id).dims.clone()
    }

    /// Whether a gradient of that tensor is of use.
    pub(super) fn needs(&self, id: TensorId) -> bool {
        self.needs[self.program.storage(id).index()]
    }

    fn value(&mut self, dims: &[usize], source: Source) -> Result<TensorId> {
        elements(&self.name, dims)?;
        let id = TensorId(self.program.values.len());
        self.program.values.push(Value {
            name: format!("{} {}", self.name, id.index()),
            dims: dims.to_vec(),
            source,
        });
        Ok(id)
    }

    /// Adds an input behind those that there are.
    pub(super) fn input(&mut self, name: &str, dims: &[usize]) -> Result<TensorId> {
        let id = self.value(dims, Source::Input(self.program.inputs.len()))?;
        self.program.values[id.index()].name = name.into();
        self.program.inputs.push(id);
        Ok(id)
    }

    pub(super) fn constant(&mut self, dims: &[usize], values: Vec<f32>) -> Result<TensorId> {
        self.value(dims, Source::Constant(Arc::new(values)))
    }

    pub(super) fn step(
        &mut self,
        op: StepOp,
        inputs: &[TensorId],
        dims: &[usize],
    ) -> Result<TensorId> {
        let output = self.value(dims, Source::Step(self.program.steps.len()))?;
        let (name, inputs) = (format!("{} gradient", self.name), inputs.to_vec());
        self.program.steps.push(Step { name, op, inputs, output });
        Ok(output)
    }

    /// A step whose output has the input's dims.
    pub(super) fn alike(&mut self, op: StepOp, inputs: &[TensorId]) -> Result<TensorId> {
        let dims = self.dims(inputs[0]);
        self.step(op, inputs, &dims)
    }

    pub(super) fn view(&mut self, x: TensorId, dims: &[usize]) -> Result<TensorId> {
        if self.program.value(x).dims == dims {
            return Ok(x);
        }
        let storage = self.program.storage(x);
        let source = match &self.program.value(storage).source {
            Source::Constant(values) => Source::Constant(values.clone()),
            _ => Source::View(storage),
        };
        self.value(dims, source)
    }

    pub(super) fn binary(&mut self, op: Binary, a: TensorId, b: TensorId) -> Result<TensorId> {
        let dims = broadcast(&self.program.value(a).dims, &self.program.value(b).dims)?;
        self.step(StepOp::Binary(op), &[a, b], &dims)
    }

    /// The tensor times a number.
    pub(super) fn scaled(&mut self, x: TensorId, by: f32) -> Result<TensorId> {
        let by = self.constant(&[], vec![by])?;
        self.binary(Binary::Mul, x, by)
    }

    /// The sum along axes, which are 1 then.
    pub(super) fn sum(&mut self, x: TensorId, axes: &[usize]) -> Result<TensorId> {
        let mut dims = self.dims(x);
        if axes.is_empty() {
            return Ok(x);
        }
        axes.iter().for_each(|&axis| dims[axis] = 1);
        self.step(StepOp::Reduce { reduction: Reduction::Sum, axes: axes.to_vec() }, &[x], &dims)
    }

    /// The sum over the axes along which these dims were repeated.
    pub(super) fn unbroadcast(&mut self, gradient: TensorId, dims: &[usize]) -> Result<TensorId> {
        let from = self.dims(gradient);
        let leading = from.len() - dims.len();
        let repeated =
            |&axis: &usize| from[axis] != 1 && (axis < leading || dims[axis - leading] == 1);
        let axes: Vec<usize> = (0..from.len()).filter(repeated).collect();
        let sum = self.sum(gradient, &axes)?;
        self.view(sum, dims)
    }

    /// The gradient of a storage whose readers are all done.
    pub(super) fn gradient(&self, id: TensorId) -> Option<TensorId> {
        self.gradients[self.program.storage(id).index()]
    }

    /// Adds to the gradient of a tensor, if it is of use.
    pub(super) fn add(&mut self, x: TensorId, gradient: TensorId) -> Result<()> {
        if !self.needs(x) {
            return Ok(());
        }
        let (got, dims) = (self.dims(gradient), self.dims(x));
        if got != dims {
            return Err(Error::invalid(
                "dims of a gradient",
                format!("{dims:?}"),
                format!("{got:?}"),
            ));
        }
        let storage = self.program.storage(x);
        let dims = self.dims(storage);
        let gradient = self.view(gradient, &dims)?;
        let sum = match self.gradient(x) {
            Some(other) => self.binary(Binary::Add, other, gradient)?,
            None => gradient,
        };
        self.gradients[storage.index()] = Some(sum);
        Ok(())
    }
}
