//! A model as a graph.

use super::convert;
use super::data::{self, Folder};
use super::node::{Attributes, Refusal};
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use super::quantized::{Gathered, Quantized};
use crate::graph::{Graph, Input, Node, Op, Output, ValueId, WeightsId};
use crate::specialise::{self, Folding};
use crate::tensor::{MAX_RANK, Tensor};
use crate::{Error, Result, Unsupported, fold};
use dsconv::Weights;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// The operator sets that are read. Newer ones may have changed an operator.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=25;

/// Reads a model; external data is looked for in its folder.
///
/// # Errors
/// As [`from_bytes`], or a failure of the file system.
pub fn read(path: impl AsRef<Path>) -> Result<Graph> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    from_bytes(&bytes, Some(folder))
}

/// Reads a model's bytes, which may come from anybody. Batch norms, activations and residual additions are folded
/// into the convolutions where that leaves the result as it is.
///
/// # Errors
/// [`Error::Unsupported`] with every node that this crate does not take; [`Error::Format`] for what is no
/// model; [`Error::Node`] and [`Error::Invalid`] for a model that is wrong.
pub fn from_bytes(bytes: &[u8], folder: Option<&Path>) -> Result<Graph> {
    let refused = |message: String| Error::format("ONNX model", message);
    let model = ModelProto::decode(bytes).map_err(|e| refused(e.to_string()))?;
    let opset = model
        .opset_import
        .iter()
        .filter(|set| set.domain.is_empty() || set.domain == "ai.onnx")
        .map(|set| set.version)
        .max()
        .ok_or_else(|| refused("no operator set".into()))?;
    if !OPSETS.contains(&opset) {
        let expected = format!("{} to {}", OPSETS.start(), OPSETS.end());
        return Err(Error::invalid("opset_import", expected, opset));
    }
    let graph = model.graph.as_ref().ok_or_else(|| refused("no graph".into()))?;
    let metadata =
        model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let importer = Importer {
        graph: Graph::default(),
        folder: Folder(folder),
        opset,
        metadata: metadata.collect(),
        tensors: HashMap::new(),
        names: HashMap::new(),
        refused: HashSet::new(),
        quantized: HashMap::new(),
        gathered: HashMap::new(),
        node: String::new(),
        folding: Folding::default(),
    };
    importer.import(graph)
}

/// A graph while it is made.
pub(crate) struct Importer<'a> {
    pub(crate) graph: Graph,
    pub(crate) folder: Folder<'a>,
    pub(crate) opset: i64,
    metadata: HashMap<&'a str, &'a str>,
    /// Constants that nobody has read as floats or integers yet.
    tensors: HashMap<&'a str, &'a TensorProto>,
    names: HashMap<&'a str, ValueId>,
    /// What nodes that are not supported would have written.
    refused: HashSet<ValueId>,
    /// Constants that are integers times scales.
    pub(crate) quantized: HashMap<ValueId, Quantized>,
    /// Constants that are shifts of blocks, spread over channels.
    pub(crate) gathered: HashMap<ValueId, Gathered>,
    /// The name of the node being converted.
    pub(crate) node: String,
    folding: Folding,
}

impl<'a> Importer<'a> {
    fn import(mut self, proto: &'a GraphProto) -> Result<Graph> {
        for tensor in &proto.initializer {
            if self.tensors.insert(&tensor.name, tensor).is_some() {
                return Err(duplicate(&tensor.name));
            }
        }
        for info in &proto.input {
            // Older models list their initialisers among the inputs.
            if !self.tensors.contains_key(info.name.as_str()) {
                self.input(info)?;
            }
        }
        let mut unsupported = Vec::new();
        for index in order(proto, |name| self.defines(name))? {
            self.convert(&proto.node[index], &mut unsupported)?;
        }
        if !unsupported.is_empty() {
            return Err(Error::Unsupported(unsupported));
        }
        for info in &proto.output {
            let value = self.value(&info.name)?;
            let (name, dims) = (info.name.clone(), declared(info));
            self.graph.outputs.push(Output { name, dims, value });
        }
        if self.graph.outputs.is_empty() {
            return Err(Error::format("ONNX model", "the graph has no output"));
        }
        fold::fold(&mut self.graph)?;
        Ok(self.graph)
    }

    fn defines(&self, name: &str) -> bool {
        self.tensors.contains_key(name) || self.names.contains_key(name)
    }

    fn input(&mut self, info: &'a ValueInfoProto) -> Result<()> {
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

    fn convert(&mut self, node: &'a NodeProto, unsupported: &mut Vec<Unsupported>) -> Result<()> {
        let first = node.output.first().map_or("", String::as_str);
        let name = if node.name.is_empty() { first } else { &node.name };
        self.node = name.into();
        let poisoned = node.input.iter().any(|input| {
            self.names.get(input.as_str()).is_some_and(|value| self.refused.contains(value))
        });
        let attributes = Attributes::new(node);
        let known = ["", "ai.onnx"].contains(&node.domain.as_str());
        let converted =
            if known { convert::convert(self, node, &attributes) } else { Err(Refusal::Operator) };
        let converted = converted.and_then(|values| match attributes.unread() {
            None => Ok(values),
            Some(attribute) => Err(Refusal::Use(format!("attribute {attribute}"))),
        });
        let reason = match converted {
            Ok(values) => {
                for (output, value) in node.output.iter().zip(values) {
                    if !output.is_empty() && !self.defines(output) {
                        self.bind(output, value)?;
                    }
                }
                let missing = node.output.iter().find(|o| !o.is_empty() && !self.defines(o));
                match missing {
                    None => return Ok(()),
                    Some(output) => format!("output {output:?}"),
                }
            }
            Err(Refusal::Operator) => "the operator".into(),
            // What a refused node would have computed may be at fault.
            Err(_) if poisoned => String::new(),
            Err(Refusal::Use(reason)) => reason,
            Err(Refusal::Wrong(error)) => return Err(error.in_node(name, &node.op_type)),
        };
        if !reason.is_empty() {
            let domain = if known { String::new() } else { format!("{}::", node.domain) };
            let op = format!("{domain}{}", node.op_type);
            unsupported.push(Unsupported { node: name.into(), op, opset: self.opset, reason });
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if !self.defines(output) {
                let value = self.fresh(output.clone());
                self.refused.insert(value);
                self.bind(output, value)?;
            }
        }
        Ok(())
    }

    /// A tensor under a name, to be read when it is needed.
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

    fn bind(&mut self, name: &'a str, value: ValueId) -> Result<()> {
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
        *allowed = allowed.saturating_add(specialise::allowance(elements));
    }

    fn fresh(&mut self, name: String) -> ValueId {
        self.graph.values.push(name);
        ValueId(self.graph.values.len() - 1)
    }

    /// A constant of this crate's making, or the model's.
    pub(crate) fn constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let value = self.fresh(name.into());
        self.graph.constants.insert(value, tensor);
        value
    }

    /// A list of integers, for an operator.
    pub(crate) fn list(&mut self, values: impl Into<Vec<i64>>) -> ValueId {
        self.constant(self.node.clone(), Tensor::list(values))
    }

    /// A float, for an operator.
    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(self.node.clone(), Tensor::scalar(value))
    }

    pub(crate) fn weights(&mut self, weights: impl Into<Weights>) -> WeightsId {
        self.graph.weights.push(Arc::new(weights.into()));
        WeightsId(self.graph.weights.len() - 1)
    }

    /// Remembers the integers of a constant, by the name it has in the model.
    pub(crate) fn note_quantized(&mut self, value: ValueId, name: &str, mut quantized: Quantized) {
        let recorded = self.metadata.get(format!("dsconv.{name}").as_str());
        let recorded = recorded.and_then(|text| serde_json::from_str(text).ok());
        quantized.recorded = recorded.or(quantized.recorded);
        self.quantized.insert(value, quantized);
    }

    /// A node, or its result where that is known.
    pub(crate) fn push(&mut self, op: Op, inputs: impl Into<Vec<ValueId>>) -> Result<ValueId> {
        let output = self.fresh(self.node.clone());
        let node = Node { name: self.node.clone(), op, inputs: inputs.into(), output };
        match specialise::constant(&self.graph, &node, &mut self.folding)? {
            Some(tensor) => {
                self.graph.constants.insert(output, tensor);
            }
            None => self.graph.nodes.push(node),
        }
        Ok(output)
    }
}

/// The dims that a model declares for an input or output.
fn declared(info: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let dim = |value: i64| usize::try_from(value).ok().filter(|&dim| dim > 0);
    Some(shape.dim.iter().map(|dim_proto| dim(dim_proto.dim_value)).collect())
}

fn duplicate(name: &str) -> Error {
    Error::invalid(format!("value {name:?}"), "one definition", "another")
}

/// The nodes that an output needs, each behind those that it reads.
fn order(proto: &GraphProto, defined: impl Fn(&str) -> bool) -> Result<Vec<usize>> {
    let mut writers = HashMap::new();
    for (index, node) in proto.node.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if defined(output) || writers.insert(output.as_str(), index).is_some() {
                return Err(duplicate(output));
            }
        }
    }
    // Depth first, with a list instead of recursion: a model may be deeper than the stack.
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; proto.node.len()];
    let mut order = Vec::new();
    let needed = |name: &str| match writers.get(name) {
        Some(&index) => Ok(Some(index)),
        None if name.is_empty() || defined(name) => Ok(None),
        None => Err(Error::invalid(
            format!("value {name:?}"),
            "an input, a constant or a node's output",
            "none",
        )),
    };
    for output in &proto.output {
        let mut stack: Vec<(usize, usize)> = Vec::new();
        if let Some(index) = needed(&output.name)?.filter(|&i| states[i] == State::New) {
            states[index] = State::Open;
            stack.push((index, 0));
        }
        while let Some((index, input)) = stack.pop() {
            let node = &proto.node[index];
            let Some(name) = node.input.get(input) else {
                states[index] = State::Done;
                order.push(index);
                continue;
            };
            stack.push((index, input + 1));
            match needed(name)? {
                Some(next) if states[next] == State::New => {
                    states[next] = State::Open;
                    stack.push((next, 0));
                }
                Some(next) if states[next] == State::Open => {
                    let field = format!("node {:?} ({})", node.name, node.op_type);
                    return Err(Error::invalid(
                        field,
                        "no cycle",
                        format!("itself through {name:?}"),
                    ));
                }
                _ => {}
            }
        }
    }
    Ok(order)
}
