//! A network for inputs of any shape: nodes over named values, with constants and weights.

use crate::ir::tensor::{MAX_RANK, Tensor};
use crate::{Error, Result};
use dsconv::Weights;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub use super::fields::{
    Aspect, AutoPad, Cell, Channels, Comparison, Coordinates, GridInterpolation, GridPadding,
    Interpolation, Kind, Parts, Recurrent, ResizeOptions, RoiAlign, Rounding, Scalar,
};
pub use super::graph_op::{Op, WeightsId};
/// Nodes in an order they can run in, with what they learned.
///
/// Activations and additions stay nodes of their own: a program fuses them into the convolutions, where it knows
/// that shapes are equal.
///
/// [`specialise`](Self::specialise) turns it into a [`Program`](crate::Program) for given input shapes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Names of the values; a [`ValueId`] is an index.
    pub(crate) values: Vec<String>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) constants: BTreeMap<ValueId, Tensor>,
    pub(crate) weights: Vec<Arc<Weights>>,
}

/// A value of a [`Graph`]: an input, a constant or a node's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub(crate) usize);

/// An input of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The name.
    pub name: String,
    /// The dims; one that is `None` is chosen when the graph is specialised.
    pub dims: Vec<Option<usize>>,
    /// The kind of the elements, which are given as floats: integers and bools as floats that hold them.
    #[serde(default, skip_serializing_if = "Kind::is_float")]
    pub kind: Kind,
    pub(crate) value: ValueId,
}

/// An output of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The name.
    pub name: String,
    /// The dims that the model declares, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dims: Option<Vec<Option<usize>>>,
    pub(crate) value: ValueId,
}

/// An operator with what it reads and writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The name, for messages.
    pub name: String,
    /// The operator.
    pub op: Op,
    /// The values that it reads, in the operator's order.
    pub inputs: Vec<ValueId>,
    /// The value that it writes.
    pub output: ValueId,
}

impl Graph {
    /// The inputs.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The nodes, in an order they can run in.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The name of a value.
    pub fn value_name(&self, value: ValueId) -> &str {
        &self.values[value.0]
    }

    /// The tensor of a constant.
    pub fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.constants.get(&value)
    }

    /// The weights of a convolution.
    pub fn weights(&self, id: WeightsId) -> &Arc<Weights> {
        &self.weights[id.0]
    }

    /// The convolutions, in the nodes' order: their node and weights.
    pub fn convolutions(&self) -> impl Iterator<Item = (&Node, WeightsId)> {
        self.nodes.iter().filter_map(|node| match node.op {
            Op::Conv { weights, .. } => Some((node, weights)),
            _ => None,
        })
    }

    /// Replaces the weights of a convolution, for instance by quantised ones.
    ///
    /// # Errors
    /// Weights of another geometry.
    pub fn set_weights(&mut self, id: WeightsId, weights: impl Into<Weights>) -> Result<()> {
        let weights = weights.into();
        let (old, new) = (descriptor(&self.weights[id.0]), descriptor(&weights));
        if old != new {
            return Err(Error::invalid("weights", format!("{old:?}"), format!("{new:?}")));
        }
        self.weights[id.0] = Arc::new(weights);
        Ok(())
    }
}

impl Graph {
    /// Checks that every value has one origin, which comes before its readers, and that all ids exist.
    pub(crate) fn validate(&self) -> Result<()> {
        let mut origin = vec![false; self.values.len()];
        let mut define = |id: ValueId| match origin.get_mut(id.0) {
            Some(defined) if !*defined => {
                *defined = true;
                Ok(())
            }
            Some(_) => Err(Error::invalid(format!("value {}", id.0), "one origin", "two")),
            None => Err(Error::invalid("value", format!("below {}", self.values.len()), id.0)),
        };
        for input in &self.inputs {
            if input.dims.len() > MAX_RANK {
                let expected = format!("rank 0..={MAX_RANK}");
                return Err(Error::invalid(
                    format!("input {:?}", input.name),
                    expected,
                    input.dims.len(),
                ));
            }
            define(input.value)?;
        }
        self.constants.keys().try_for_each(|&id| define(id))?;
        let mut defined: HashSet<ValueId> = self.constants.keys().copied().collect();
        defined.extend(self.inputs.iter().map(|input| input.value));
        let known = |defined: &HashSet<ValueId>, what: &str, id: ValueId| {
            if defined.contains(&id) {
                return Ok(());
            }
            Err(Error::invalid(what, "a value with an origin before it", format!("value {}", id.0)))
        };
        for node in &self.nodes {
            let name = format!("input of node {:?}", node.name);
            node.inputs.iter().try_for_each(|&id| known(&defined, &name, id))?;
            if let Op::Conv { weights, .. } = node.op
                && weights.0 >= self.weights.len()
            {
                let field = format!("weights of node {:?}", node.name);
                return Err(Error::invalid(
                    field,
                    format!("below {}", self.weights.len()),
                    weights.0,
                ));
            }
            define(node.output)?;
            defined.insert(node.output);
        }
        self.outputs.iter().try_for_each(|output| {
            known(&defined, &format!("output {:?}", output.name), output.value)
        })
    }
}

/// The geometry of either kind of weights.
pub(crate) fn descriptor(weights: &Weights) -> dsconv::ConvDescriptor {
    *dsconv::WeightsRef::from(weights).descriptor()
}
