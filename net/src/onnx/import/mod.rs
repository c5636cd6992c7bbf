//! A model as a graph.
//!
//! [`from_bytes`] decodes the model, sorts its nodes and converts one after the other; then [`fold`] moves batch norms
//! and margins into convolutions. Read `importer` first (the graph while it is made) and `context` (one node of it),
//! then `convert` (what each operator becomes), with the larger operators in `spatial`, `composed` and `quantized`.
//! `attributes` and `data` read the parts of ONNX's messages; `integers` keeps track of constants that are integers
//! times scales, so that they become packed weights again.
//!
//! # Adding an operator
//!
//! An operator that is a composition of those that a graph has takes one place here:
//!
//! 1. a row in `convert::convert` (and, if it is more than a few lines, a function in `composed`).
//!
//! A function of one or two floats is a variant of [`Unary`](crate::op::Unary) or [`Binary`](crate::op::Binary) with
//! its value in `apply`, a row in `onnx/plain.rs`, and its code in `gpu/geometry.rs` and `shaders/unary.wgsl` or
//! `shaders/binary.wgsl`.
//!
//! Any other operator takes these places; behind the first two, the compiler asks for 3, 4 and the kernel:
//!
//! 1. a row in `onnx/plain.rs` if it has no attributes and ONNX's inputs, which import and export share, or else a row
//!    in `convert::simple` or `convert::convert`;
//! 2. a variant of [`Op`](crate::graph::Op), with its name and number of inputs in the table below it;
//! 3. its lowering to steps in `lower/node.rs`;
//! 4. its export in `onnx/export/operator.rs`;
//! 5. if no step computes it yet, a variant of [`StepOp`](crate::program::StepOp), with its value in `cpu.rs` and its
//!    kernel in `gpu/geometry.rs`;
//! 6. cases in `tests/python/operators.py`, which compare with ONNX Runtime.

mod attributes;
mod composed;
mod context;
mod convert;
mod data;
mod importer;
mod integers;
mod quantized;
mod spatial;

use super::proto::{GraphProto, ModelProto, NodeProto};
use crate::ir::graph::{Graph, Output};
use crate::lower::{FoldingBudget, fold};
use crate::{Error, Result, Unsupported};
use attributes::{Attributes, Refusal};
use data::DataFolder;
use importer::{Importer, declared, duplicate};
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::path::Path;

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
        folder: DataFolder(folder),
        opset,
        metadata: metadata.collect(),
        tensors: HashMap::new(),
        names: HashMap::new(),
        refused: HashSet::new(),
        quantized: HashMap::new(),
        gathered: HashMap::new(),
        node: String::new(),
        folding: FoldingBudget::default(),
    };
    import(importer, graph)
}

/// Goes through the nodes that the outputs need.
fn import<'a>(mut importer: Importer<'a>, proto: &'a GraphProto) -> Result<Graph> {
    for tensor in &proto.initializer {
        if importer.tensors.insert(&tensor.name, tensor).is_some() {
            return Err(duplicate(&tensor.name));
        }
    }
    for info in &proto.input {
        // Older models list their initialisers among the inputs.
        if !importer.tensors.contains_key(info.name.as_str()) {
            importer.input(info)?;
        }
    }
    let mut unsupported = Vec::new();
    for index in order(proto, |name| importer.defines(name))? {
        convert_node(&mut importer, &proto.node[index], &mut unsupported)?;
    }
    if !unsupported.is_empty() {
        return Err(Error::Unsupported(unsupported));
    }
    for info in &proto.output {
        let value = importer.value(&info.name)?;
        let (name, dims) = (info.name.clone(), declared(info));
        importer.graph.outputs.push(Output { name, dims, value });
    }
    if importer.graph.outputs.is_empty() {
        return Err(Error::format("ONNX model", "the graph has no output"));
    }
    fold::fold(&mut importer.graph)?;
    Ok(importer.graph)
}

/// Converts a node, or notes why not.
fn convert_node<'a>(
    importer: &mut Importer<'a>,
    node: &'a NodeProto,
    unsupported: &mut Vec<Unsupported>,
) -> Result<()> {
    let first = node.output.first().map_or("", String::as_str);
    let name = if node.name.is_empty() { first } else { &node.name };
    importer.node = name.into();
    let poisoned = node.input.iter().any(|input| {
        importer.names.get(input.as_str()).is_some_and(|value| importer.refused.contains(value))
    });
    let attributes = Attributes::new(node);
    let known = ["", "ai.onnx"].contains(&node.domain.as_str());
    let converted =
        if known { convert::convert(importer, node, &attributes) } else { Err(Refusal::Operator) };
    let converted = converted.and_then(|values| match attributes.unread() {
        None => Ok(values),
        Some(attribute) => Err(Refusal::Use(format!("attribute {attribute}"))),
    });
    let reason = match converted {
        Ok(values) => {
            for (output, value) in node.output.iter().zip(values) {
                if !output.is_empty() && !importer.defines(output) {
                    importer.bind(output, value)?;
                }
            }
            let missing = node.output.iter().find(|o| !o.is_empty() && !importer.defines(o));
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
        unsupported.push(Unsupported { node: name.into(), op, opset: importer.opset, reason });
    }
    for output in node.output.iter().filter(|output| !output.is_empty()) {
        if !importer.defines(output) {
            let value = importer.fresh(output.clone());
            importer.refused.insert(value);
            importer.bind(output, value)?;
        }
    }
    Ok(())
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
