//! The graph while it is made: names, constants that are read when they are needed, and what is known of integers.

use super::data::{self, DataFolder};
use super::integers::{GatheredScales, QuantizedConstant};
use crate::ir::graph::{Graph, Input, Node, Op, ValueId, WeightsId};
use crate::ir::tensor::{MAX_RANK, Tensor};
use crate::lower::{self, FoldingBudget};
use crate::onnx::proto::{TensorProto, ValueInfoProto, data_type};
use crate::{Error, Result};
use dsconv::Weights;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A graph while it is made from a model.
pub(crate) struct Importer<'a> {
    pub(crate) graph: Graph,
    pub(crate) folder: DataFolder<'a>,
    pub(crate) opset: i64,
    pub(crate) metadata: HashMap<&'a str, &'a str>,
    /// Constants that nobody has read as floats or integers yet.
    pub(crate) tensors: HashMap<&'a str, &'a TensorProto>,
    pub(crate) names: HashMap<&'a str, ValueId>,
    /// Values that nodes would have written which are not supported.
    pub(crate) refused: HashSet<ValueId>,
    /// Constants that are integers times scales.
    pub(crate) quantized: HashMap<ValueId, QuantizedConstant>,
    /// Constants that are shifts of blocks, spread over channels.
    pub(crate) gathered: HashMap<ValueId, GatheredScales>,
    /// The name of the node being converted.
    pub(crate) node: String,
    pub(crate) folding: FoldingBudget,
}

impl<'a> Importer<'a> {
    /// Whether a name is taken.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.names.contains_key(name)
    }

    /// Adds an input of the graph.
    pub(crate) fn input(&mut self, info: &'a ValueInfoProto) -> Result<()> {
        let field = || format!("input {:?}", info.name);
        let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let tensor = tensor.ok_or_else(|| Error::invalid(field(), "a tensor", "another type"))?;
        if ![data_type::FLOAT, data_type::FLOAT16].contains(&tensor.elem_type) {
            let got = data_type::name(tensor.elem_type);
            return Err(Error::invalid(field(), "floats", got));
        }
        let dims = declared(info);
        let dims = dims.ok_or_else(|| Error::invalid(field(), "a known rank", "no shape"))?;
        if dims.len() > MAX_RANK {
            return Err(Error::invalid(field(), format!("rank 0..={MAX_RANK}"), dims.len()));
        }
        let value = self.fresh(info.name.clone());
        let input = Input { name: info.name.clone(), dims, value };
        self.graph.inputs.push(input);
        self.bind(&info.name, value)
    }

    /// Gives a tensor a name; it is read when it is needed.
    pub(crate) fn bind_tensor(&mut self, name: &'a str, tensor: &'a TensorProto) -> Result<()> {
        if self.defines(name) {
            return Err(duplicate(name));
        }
        self.tensors.insert(name, tensor);
        Ok(())
    }

    /// The tensor of that name, if it is a constant as the model holds it.
    pub(crate) fn raw_tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.tensors.get(name).copied()
    }

    /// Gives a value a name of the model.
    pub(crate) fn bind(&mut self, name: &'a str, value: ValueId) -> Result<()> {
        if self.names.insert(name, value).is_some() {
            return Err(duplicate(name));
        }
        Ok(())
    }

    /// The value of that name.
    pub(crate) fn value(&mut self, name: &str) -> Result<ValueId> {
        if let Some(&value) = self.names.get(name) {
            return Ok(value);
        }
        let (&name, &tensor) = self.tensors.get_key_value(name).ok_or_else(|| {
            Error::invalid(
                format!("value {name:?}"),
                "an input, a constant or a node's output",
                "none",
            )
        })?;
        let tensor = data::tensor(tensor, self.folder)?;
        self.allow(tensor.len());
        let value = self.constant(name, tensor);
        self.names.insert(name, value);
        Ok(value)
    }

    /// Lets folding do more, for a constant of so many elements that the model really holds.
    pub(crate) fn allow(&mut self, elements: usize) {
        let allowed = &mut self.folding.allowed;
        *allowed = allowed.saturating_add(lower::allowance(elements));
    }

    /// A new value.
    pub(crate) fn fresh(&mut self, name: String) -> ValueId {
        self.graph.values.push(name);
        ValueId(self.graph.values.len() - 1)
    }

    /// Adds a constant of this crate's making, or the model's.
    pub(crate) fn constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let value = self.fresh(name.into());
        self.graph.constants.insert(value, tensor);
        value
    }

    /// Adds a list of integers, for an operator.
    pub(crate) fn list(&mut self, values: impl Into<Vec<i64>>) -> ValueId {
        self.constant(self.node.clone(), Tensor::list(values))
    }

    /// Adds a float, for an operator.
    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(self.node.clone(), Tensor::scalar(value))
    }

    /// Adds weights of a convolution.
    pub(crate) fn weights(&mut self, weights: impl Into<Weights>) -> WeightsId {
        self.graph.weights.push(Arc::new(weights.into()));
        WeightsId(self.graph.weights.len() - 1)
    }

    /// Remembers the integers of a constant, by the name it has in the model.
    pub(crate) fn note_quantized(
        &mut self,
        value: ValueId,
        name: &str,
        mut quantized: QuantizedConstant,
    ) {
        let recorded = self.metadata.get(format!("dsconv.{name}").as_str());
        let recorded = recorded.and_then(|text| serde_json::from_str(text).ok());
        quantized.recorded = recorded.or(quantized.recorded);
        self.quantized.insert(value, quantized);
    }

    /// Adds a node, or its result where that is known.
    pub(crate) fn push(&mut self, op: Op, inputs: impl Into<Vec<ValueId>>) -> Result<ValueId> {
        let output = self.fresh(self.node.clone());
        let node = Node { name: self.node.clone(), op, inputs: inputs.into(), output };
        match lower::evaluate_constant(&self.graph, &node, &mut self.folding)? {
            Some(tensor) => {
                self.graph.constants.insert(output, tensor);
            }
            None => self.graph.nodes.push(node),
        }
        Ok(output)
    }
}

/// The dims that a model declares for an input or output.
pub(crate) fn declared(info: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let dim = |value: i64| usize::try_from(value).ok().filter(|&dim| dim > 0);
    Some(shape.dim.iter().map(|dim_proto| dim(dim_proto.dim_value)).collect())
}

/// The error for a name that is given twice.
pub(crate) fn duplicate(name: &str) -> Error {
    Error::invalid(format!("value {name:?}"), "one definition", "another")
}
