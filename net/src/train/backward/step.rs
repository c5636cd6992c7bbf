//! The gradients of each operation but convolutions, as compositions of steps.

use super::tape::Tape;
use crate::ir::op::{Binary, PoolKind, Reduction, Unary};
use crate::ir::program::{ConvTranspose, Source, Step, StepOp, Taps, TensorId};
use crate::{Error, Result};
use dsconv::{Activation, ConvDescriptor, FloatWeights, Residual};
use std::sync::Arc;

/// A linear map of one axis: for each element of y the elements of x that it sums, and their weights.
type Rows = Vec<Vec<(usize, f32)>>;

fn no_gradient(what: &dyn std::fmt::Debug) -> Error {
    let expected = "an operation that gradients go through; freeze the layers before it";
    Error::invalid("training", expected, format!("{what:?}"))
}

impl Tape {
    /// Adds the gradients of what a step reads, `dy` being that of its output.
    pub(super) fn backward(&mut self, step: &Step, dy: TensorId) -> Result<()> {
        let (x, y) = (step.inputs[0], step.output);
        let x_dims = self.dims(x);
        let dx = match &step.op {
            StepOp::Unary(function) => {
                if function.derivative(1.0).is_none() {
                    return Err(no_gradient(function));
                }
                self.alike(StepOp::UnaryGradient(*function), &[x, dy])?
            }
            StepOp::Binary(function) => return self.of_binary(*function, step, dy),
            StepOp::Pool(window) if window.kind != PoolKind::PlaceOfMax => {
                self.alike(StepOp::PoolGradient(*window), &[x, dy])?
            }
            StepOp::Reduce { reduction, axes } => self.of_reduction(*reduction, axes, step, dy)?,
            StepOp::Softmax { axis } => {
                let product = self.binary(Binary::Mul, dy, y)?;
                let sum = self.sum(product, &[*axis])?;
                let off = self.binary(Binary::Sub, dy, sum)?;
                self.binary(Binary::Mul, off, y)?
            }
            StepOp::Concat { axis } => return self.of_concat(*axis, step, dy),
            StepOp::Expand => self.unbroadcast(dy, &x_dims)?,
            StepOp::Transpose { permutation } => {
                let mut inverse = vec![0; permutation.len()];
                permutation.iter().enumerate().for_each(|(to, &from)| inverse[from] = to);
                self.step(StepOp::Transpose { permutation: inverse }, &[dy], &x_dims)?
            }
            StepOp::MatMul => return self.of_product(step, dy),
            StepOp::ConvTranspose(conv) => self.of_transposed(conv, step, dy)?,
            StepOp::Slice { .. }
            | StepOp::Gather { .. }
            | StepOp::Pad { .. }
            | StepOp::Resize { .. } => self.of_linear(step, dy)?,
            op => return Err(no_gradient(&op.name())),
        };
        self.add(x, dx)
    }

    fn of_binary(&mut self, function: Binary, step: &Step, dy: TensorId) -> Result<()> {
        let (a, b, y) = (step.inputs[0], step.inputs[1], step.output);
        let (of_a, of_b) = (self.needs(a), self.needs(b));
        let [da, db] = match function {
            Binary::Add => [Some(dy); 2],
            Binary::Sub => [Some(dy), Some(self.scaled(dy, -1.0)?)],
            Binary::Mul => {
                [Some(self.binary(Binary::Mul, dy, b)?), Some(self.binary(Binary::Mul, dy, a)?)]
            }
            Binary::Div => {
                let quotient = self.binary(Binary::Div, dy, b)?;
                let product = self.binary(Binary::Mul, quotient, y)?;
                [Some(quotient), Some(self.scaled(product, -1.0)?)]
            }
            Binary::Pow if !of_b => {
                let one = self.constant(&[], vec![1.0])?;
                let exponent = self.binary(Binary::Sub, b, one)?;
                let power = self.binary(Binary::Pow, a, exponent)?;
                let slope = self.binary(Binary::Mul, power, b)?;
                [Some(self.binary(Binary::Mul, slope, dy)?), None]
            }
            Binary::Min | Binary::Max => {
                // Of equals the first has it.
                let [less, more] = if function == Binary::Min { [a, b] } else { [b, a] };
                let first = self.binary(Binary::LessOrEqual, less, more)?;
                let second = self.alike(StepOp::Unary(Unary::Not), &[first])?;
                let of = [first, second].map(|chosen| self.binary(Binary::Gate, dy, chosen));
                let [first, second] = of;
                [Some(first?), Some(second?)]
            }
            Binary::PRelu => {
                let zero = self.constant(&[], vec![0.0])?;
                let above = self.binary(Binary::Less, zero, a)?;
                let below = self.alike(StepOp::Unary(Unary::Not), &[above])?;
                let kept = self.binary(Binary::Gate, dy, above)?;
                let rest = self.binary(Binary::Gate, dy, below)?;
                let sloped = self.binary(Binary::Mul, rest, b)?;
                let of_a = self.binary(Binary::Add, kept, sloped)?;
                [Some(of_a), Some(self.binary(Binary::Mul, rest, a)?)]
            }
            Binary::Gate if !of_b => [Some(self.binary(Binary::Gate, dy, b)?), None],
            Binary::Pow
            | Binary::Remainder
            | Binary::Equal
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::Gate => return Err(no_gradient(&function)),
        };
        for (id, gradient, needed) in [(a, da, of_a), (b, db, of_b)] {
            if let Some(gradient) = gradient.filter(|_| needed) {
                let dims = self.dims(id);
                let gradient = self.unbroadcast(gradient, &dims)?;
                self.add(id, gradient)?;
            }
        }
        Ok(())
    }

    fn of_reduction(
        &mut self,
        reduction: Reduction,
        axes: &[usize],
        step: &Step,
        dy: TensorId,
    ) -> Result<TensorId> {
        let (x, y) = (step.inputs[0], step.output);
        let dims = self.dims(x);
        let count: usize = axes.iter().map(|&axis| dims[axis]).product();
        match reduction {
            Reduction::Sum => self.step(StepOp::Expand, &[dy], &dims),
            Reduction::Mean => {
                let share = self.scaled(dy, 1.0 / count as f32)?;
                self.step(StepOp::Expand, &[share], &dims)
            }
            // Equals share it.
            Reduction::Max | Reduction::Min => {
                let chosen = self.binary(Binary::Equal, x, y)?;
                let number = self.sum(chosen, axes)?;
                let share = self.binary(Binary::Div, dy, number)?;
                self.binary(Binary::Mul, chosen, share)
            }
            Reduction::Product => Err(no_gradient(&reduction)),
        }
    }

    fn of_concat(&mut self, axis: usize, step: &Step, dy: TensorId) -> Result<()> {
        let mut from = 0;
        for &part in &step.inputs {
            let dims = self.dims(part);
            let mut start = vec![0; dims.len()];
            start[axis] = from;
            from += dims[axis];
            if self.needs(part) {
                let step = vec![1; dims.len()];
                let dx = self.step(StepOp::Slice { start, step }, &[dy], &dims)?;
                self.add(part, dx)?;
            }
        }
        Ok(())
    }

    /// The tensor with its last two axes exchanged.
    fn flipped(&mut self, x: TensorId) -> Result<TensorId> {
        let mut dims = self.dims(x);
        let last = dims.len() - 1;
        let mut permutation: Vec<usize> = (0..=last).collect();
        permutation.swap(last - 1, last);
        dims.swap(last - 1, last);
        self.step(StepOp::Transpose { permutation }, &[x], &dims)
    }

    /// The matrix product, whose leading axes are those of `like`.
    fn product(&mut self, a: TensorId, b: TensorId, like: TensorId) -> Result<TensorId> {
        let mut dims = self.dims(like);
        let matrix = dims.len() - 2;
        let (rows, columns) = (self.dims(a), self.dims(b));
        dims[matrix] = rows[rows.len() - 2];
        dims[matrix + 1] = columns[columns.len() - 1];
        self.step(StepOp::MatMul, &[a, b], &dims)
    }

    fn of_product(&mut self, step: &Step, dy: TensorId) -> Result<()> {
        let (a, b) = (step.inputs[0], step.inputs[1]);
        for (id, other, is_first) in [(a, b, true), (b, a, false)] {
            if self.needs(id) {
                let other = self.flipped(other)?;
                let product = match is_first {
                    true => self.product(dy, other, dy)?,
                    false => self.product(other, dy, dy)?,
                };
                let dims = self.dims(id);
                let gradient = self.unbroadcast(product, &dims)?;
                self.add(id, gradient)?;
            }
        }
        Ok(())
    }

    /// The gradient of a transposed convolution is a convolution with the same weights.
    fn of_transposed(
        &mut self,
        conv: &ConvTranspose,
        step: &Step,
        dy: TensorId,
    ) -> Result<TensorId> {
        let (x, y) = (self.dims(step.inputs[0]), self.dims(dy));
        let constant = &self.program.value(self.program.storage(step.inputs[1])).source;
        let Source::Constant(values) = constant else { return Err(no_gradient(&step.op.name())) };
        let mut descriptor = ConvDescriptor::new(y[1] as u32, x[1] as u32, conv.kernel);
        (descriptor.groups, descriptor.stride) = (conv.groups, conv.stride);
        descriptor.dilation = conv.dilation;
        let [top, left] = conv.padding;
        let behind = |axis: usize, front: u32| {
            let reach = conv.dilation[axis] * (conv.kernel[axis] - 1) + 1;
            let padded = (x[2 + axis] as u32 - 1) * conv.stride[axis] + reach;
            padded.saturating_sub(y[2 + axis] as u32 + front)
        };
        descriptor.padding = [top, left, behind(0, top), behind(1, left)];
        let weights = Arc::new(FloatWeights::new(descriptor, values.to_vec())?.into());
        let shape = descriptor.output_shape(crate::cpu::shape(&y)?)?;
        // What an output padding of a stride or more adds, the last rows and columns, reads nothing.
        let dims = [shape.batch, shape.channels, shape.height, shape.width].map(|d| d as usize);
        let (activation, residual) = (Activation::Identity, Residual::None);
        let dx = self.step(StepOp::Conv { weights, activation, residual }, &[dy], &dims)?;
        if dims[..] == x[..] {
            return Ok(dx);
        }
        let (start, step) = (vec![0; 4], vec![1; 4]);
        self.step(StepOp::Slice { start, step }, &[dx], &x)
    }

    /// The gradient of a map that is linear along each axis: the transposed map.
    fn of_linear(&mut self, step: &Step, mut dy: TensorId) -> Result<TensorId> {
        let (x, y) = (self.dims(step.inputs[0]), self.dims(step.output));
        for axis in 0..x.len() {
            let rows = rows(&step.op, axis, (x[axis], y[axis]));
            let same = |(at, row): (usize, &Vec<(usize, f32)>)| row[..] == [(at, 1.0)];
            if x[axis] == y[axis] && rows.iter().enumerate().all(same) {
                continue;
            }
            let mut dims = self.dims(dy);
            dims[axis] = x[axis];
            let axes = vec![transposed(axis, x[axis], &rows)];
            dy = self.step(StepOp::Resize { axes }, &[dy], &dims)?;
        }
        Ok(dy)
    }
}

/// The map of one axis from `from` elements to `to`.
fn rows(op: &StepOp, axis: usize, (from, to): (usize, usize)) -> Rows {
    let one = |at: usize| vec![(at, 1.0)];
    let own = |to: usize| (0..to).map(one).collect();
    match op {
        StepOp::Slice { start, step } => {
            let place = |i: usize| start[axis] as i64 + i as i64 * step[axis];
            (0..to).map(|i| one(place(i) as usize)).collect()
        }
        StepOp::Gather { axis: at, indices } if *at == axis => {
            indices.iter().map(|&index| one(index as usize)).collect()
        }
        StepOp::Pad { before, mode } => {
            let place = |i: usize| mode.inside(i as i64 - before[axis] as i64, from as i64);
            (0..to).map(|i| place(i).map(|at| (at as usize, 1.0)).into_iter().collect()).collect()
        }
        StepOp::Resize { axes } => match axes.iter().find(|taps| taps.axis == axis) {
            Some(taps) => {
                let tap = |t: usize| (taps.indices[t] as usize, taps.weights[t]);
                (0..to).map(|i| (i * taps.count..(i + 1) * taps.count).map(tap).collect()).collect()
            }
            None => own(to),
        },
        _ => own(to),
    }
}

/// The transposed map: for each of x's elements those of y that read it.
fn transposed(axis: usize, length: usize, rows: &Rows) -> Taps {
    let mut readers = vec![Vec::new(); length];
    for (i, row) in rows.iter().enumerate() {
        for &(at, weight) in row {
            readers[at].push((i as u32, weight));
        }
    }
    let count = readers.iter().map(Vec::len).max().unwrap_or(0).max(1);
    readers.iter_mut().for_each(|readers| readers.resize(count, (0, 0.0)));
    let (indices, weights) = readers.into_iter().flatten().unzip();
    Taps { axis, count, indices, weights }
}
