//! A node while it is converted: its inputs, its attributes, and the graph that it becomes a part of.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use super::attributes::{Attributes, Converted, refuse};
use super::importer::Importer;
use crate::Error;
use crate::ir::graph::{Kind, Op, ValueId};
use crate::ir::op::{Binary, Reduction, Unary};
use crate::ir::tensor::{Data, Tensor};
use crate::onnx::proto::NodeProto;

/// A node of the model, and what is needed to convert it.
pub(crate) struct NodeContext<'i, 'a> {
    pub(crate) importer: &'i mut Importer<'a>,
    pub(crate) node: &'a NodeProto,
    pub(crate) attributes: &'i Attributes<'a>,
}

impl NodeContext<'_, '_> {
    /// A required input.
    pub(crate) fn input(&mut self, index: usize) -> Converted<ValueId> {
        match self.optional(index)? {
            Some(value) => Ok(value),
            None => {
                let (op, got) = (&self.node.op_type, self.node.input.len());
                Err(Error::invalid(format!("inputs of {op}"), format!("input {index}"), got).into())
            }
        }
    }

    /// An input that may be missing.
    pub(crate) fn optional(&mut self, index: usize) -> Converted<Option<ValueId>> {
        match self.node.input.get(index) {
            Some(name) if !name.is_empty() && !self.importer.is_absent(name) => {
                Ok(Some(self.importer.value(name)?))
            }
            _ => Ok(None),
        }
    }

    /// All inputs, which are required.
    pub(crate) fn inputs(&mut self) -> Converted<Vec<ValueId>> {
        (0..self.node.input.len()).map(|index| self.input(index)).collect()
    }

    /// The elements of a constant.
    pub(crate) fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.importer.graph.constants.get(&value)
    }

    /// An input that must be known.
    pub(crate) fn known(&mut self, index: usize, what: &str) -> Converted<Option<Tensor>> {
        let Some(value) = self.optional(index)? else { return Ok(None) };
        match self.constant(value) {
            Some(tensor) => Ok(Some(tensor.clone())),
            None => refuse(format!("{what} that the run computes")),
        }
    }

    /// Integers that must be known.
    pub(crate) fn known_ints(&mut self, index: usize, what: &str) -> Converted<Option<Vec<i64>>> {
        match self.known(index, what)? {
            Some(tensor) => Ok(Some(tensor.integers(what)?.to_vec())),
            None => Ok(None),
        }
    }

    /// A float that must be known.
    pub(crate) fn known_float(&mut self, index: usize, what: &str) -> Converted<Option<f32>> {
        match self.known(index, what)? {
            Some(tensor) => match tensor.floats(what)? {
                &[value] => Ok(Some(value)),
                values => Err(Error::invalid(what, "one number", values.len()).into()),
            },
            None => Ok(None),
        }
    }

    /// A number of any kind that must be known.
    pub(crate) fn known_number(&mut self, index: usize, what: &str) -> Converted<Option<f32>> {
        match self.known(index, what)?.as_ref().map(Tensor::data) {
            Some(Data::I64(values)) if values.len() == 1 => {
                Ok(values.first().map(|&value| value as f32))
            }
            _ => self.known_float(index, what),
        }
    }

    /// Adds a node, or its result where that is known.
    pub(crate) fn push(&mut self, op: Op, inputs: impl Into<Vec<ValueId>>) -> Converted<ValueId> {
        Ok(self.importer.push(op, inputs)?)
    }

    /// Adds a function of two tensors.
    pub(crate) fn binary(&mut self, op: Binary, a: ValueId, b: ValueId) -> Converted<ValueId> {
        self.push(Op::Binary(op), [a, b])
    }

    /// The version of the model's operator set.
    pub(crate) fn opset(&self) -> i64 {
        self.importer.opset()
    }

    /// Axes, as an attribute or (from that operator set on) as an input.
    pub(crate) fn axes(&mut self, input_since: i64) -> Converted<Vec<i64>> {
        if self.opset() < input_since {
            return Ok(self.attributes.ints("axes")?.unwrap_or_default().to_vec());
        }
        Ok(self.known_ints(1, "axes")?.unwrap_or_default())
    }

    /// Adds a function of one tensor.
    pub(crate) fn unary(&mut self, op: Unary, x: ValueId) -> Converted<ValueId> {
        self.push(Op::Unary(op), [x])
    }

    /// Adds a function of a tensor and a number.
    pub(crate) fn by(&mut self, op: Binary, x: ValueId, number: f32) -> Converted<ValueId> {
        let number = self.importer.scalar(number);
        self.binary(op, x, number)
    }

    /// Adds a reduction.
    pub(crate) fn reduce(
        &mut self,
        reduction: Reduction,
        axes: &[i64],
        keep: bool,
        x: ValueId,
    ) -> Converted<ValueId> {
        self.push(Op::Reduce { reduction, axes: axes.to_vec(), keep }, [x])
    }

    /// The dims of a value from one axis to before another.
    pub(crate) fn dims(&mut self, x: ValueId, start: i64, end: Option<i64>) -> Converted<ValueId> {
        self.push(Op::Shape { start, end }, [x])
    }

    /// The same elements under dims that lists and other values' dims make up.
    pub(crate) fn reshape(&mut self, x: ValueId, dims: &[ValueId]) -> Converted<ValueId> {
        let dims = match dims {
            [one] => *one,
            parts => self.push(Op::Concat { axis: 0 }, parts)?,
        };
        self.push(Op::Reshape { allow_zero: false }, [x, dims])
    }

    /// The same elements under dims of which 0 stands for the value's own and -1 for the rest.
    pub(crate) fn reshape_to(&mut self, x: ValueId, dims: &[i64]) -> Converted<ValueId> {
        let dims = self.importer.list(dims);
        self.reshape(x, &[dims])
    }

    /// The same elements under the dims of another value.
    pub(crate) fn reshape_like(&mut self, x: ValueId, other: ValueId) -> Converted<ValueId> {
        let dims = self.dims(other, 0, None)?;
        self.reshape(x, &[dims])
    }

    /// The floats of a value.
    pub(crate) fn floats(&mut self, x: ValueId) -> Converted<ValueId> {
        match self.importer.kind(x) {
            Kind::Float => Ok(x),
            _ => self.push(Op::Cast { to: Kind::Float }, [x]),
        }
    }

    /// Whether the model reads that output.
    pub(crate) fn has_output(&self, index: usize) -> bool {
        self.node.output.get(index).is_some_and(|name| !name.is_empty())
    }
}
