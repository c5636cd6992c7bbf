//! A node while it is converted: its inputs, its attributes, and the graph that it becomes a part of.

use super::attributes::{Attributes, Converted, refuse};
use super::importer::Importer;
use crate::Error;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::Binary;
use crate::ir::tensor::Tensor;
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
            Some(name) if !name.is_empty() => Ok(Some(self.importer.value(name)?)),
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
        self.importer.opset
    }

    /// Axes, as an attribute or (from that operator set on) as an input.
    pub(crate) fn axes(&mut self, input_since: i64) -> Converted<Vec<i64>> {
        if self.opset() < input_since {
            return Ok(self.attributes.ints("axes")?.unwrap_or_default().to_vec());
        }
        Ok(self.known_ints(1, "axes")?.unwrap_or_default())
    }
}
