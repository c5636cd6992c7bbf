//! A model as a graph.
//!
//! [`from_bytes`] decodes the model, sorts its nodes and converts one after the other; then [`fold`] moves batch norms
//! and margins into convolutions. Read `importer` first (the graph while it is made) and `context` (one node of it),
//! then `operators` (the table of what is converted), `convert` (what takes a few lines), and a module for each family
//! of operators. `control_flow` has the nodes that hold graphs, and functions. `attributes` and `data` read the parts
//! of ONNX's messages; `integers` keeps track of constants that are integers times scales, so that they become packed
//! weights again.
//!
//! # Adding an operator
//!
//! CONTRIBUTING.md of the repository lists the places that an operator takes, under "An ONNX operator". A composition
//! of operators that a graph has takes a row in the table of `operators`, and a function in the module of its family.

mod activation;
mod attributes;
mod context;
mod control_flow;
mod conv;
mod convert;
mod data;
#[cfg(not(target_arch = "wasm32"))]
mod external;
mod importer;
mod indexed;
mod integers;
mod normalization;
mod operators;
mod packed;
mod pool;
mod product;
mod qoperator;
mod quantized;
mod rank;
mod recurrent;
mod reduce;
mod resize;
mod sample;
mod volume;

#[cfg(not(target_arch = "wasm32"))]
pub use external::external_files;
pub use operators::operators;

use super::proto::{GraphProto, ModelProto, NodeProto};
use crate::ir::graph::{Graph, Output};
use crate::lower::{check_folding, fold};
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
    let model = ModelProto::decode(bytes).map_err(|e| {
        refused(format!("not an ONNX file, or a damaged one, as a cut download leaves ({e})"))
    })?;
    let opset = model
        .opset_import
        .iter()
        .filter(|set| set.domain.is_empty() || set.domain == "ai.onnx")
        .map(|set| set.version)
        .max()
        .ok_or_else(|| refused("no operator set".into()))?;
    if !OPSETS.contains(&opset) {
        let expected = format!(
            "an operator set of {} to {}, as the exporter's option opset_version=17 makes",
            OPSETS.start(),
            OPSETS.end()
        );
        return Err(Error::invalid("opset_import", expected, opset));
    }
    let graph = model.graph.as_ref().ok_or_else(|| refused("no graph".into()))?;
    let mut importer = Importer::new(DataFolder::new(folder), opset, convert_nodes);
    let entries = model.metadata_props.iter();
    importer.metadata = entries.map(|e| (e.key.as_str(), e.value.as_str())).collect();
    let functions = model.functions.iter();
    importer.functions = functions.map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect();
    import(importer, graph)
}

/// Goes through the nodes that the outputs need.
fn import<'a>(mut importer: Importer<'a>, proto: &'a GraphProto) -> Result<Graph> {
    for tensor in &proto.initializer {
        importer.bind_tensor(&tensor.name, tensor)?;
    }
    for info in &proto.input {
        // Older models list their initialisers among the inputs.
        if importer.raw_tensor(&info.name).is_none() {
            importer.input(info, rank::guess(proto, &info.name))?;
        }
    }
    let outputs: Vec<&str> = proto.output.iter().map(|info| info.name.as_str()).collect();
    convert_nodes(&mut importer, &proto.node, &outputs)?;
    if !importer.unsupported.is_empty() {
        return Err(Error::Unsupported(importer.unsupported));
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

/// Converts the nodes that these outputs need.
fn convert_nodes<'a>(
    importer: &mut Importer<'a>,
    nodes: &'a [NodeProto],
    outputs: &[&str],
) -> Result<()> {
    for index in order(nodes, outputs, |name| importer.defines(name))? {
        convert_node(importer, &nodes[index])?;
    }
    Ok(())
}

/// Converts a node, or notes why not.
fn convert_node<'a>(importer: &mut Importer<'a>, node: &'a NodeProto) -> Result<()> {
    let first = node.output.first().map_or("", String::as_str);
    let name = if node.name.is_empty() { first } else { &node.name };
    importer.node = name.into();
    let poisoned = node
        .input
        .iter()
        .any(|input| importer.named(input).is_some_and(|value| importer.refused.contains(&value)));
    let attributes = Attributes::new(node, &importer.given_attributes());
    let converted = operators::convert(importer, node, &attributes);
    let converted = converted.and_then(|values| match attributes.unread() {
        None => Ok(values),
        Some(attribute) => Err(Refusal::Use(format!("attribute {attribute}"))),
    });
    let reason = match converted {
        Ok(values) => {
            check_folding(&importer.folding).map_err(|e| e.in_node(name, &node.op_type))?;
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
        let op = operators::full_name(&node.domain, &node.op_type);
        let opset = importer.opset();
        importer.unsupported.push(Unsupported { node: name.into(), op, opset, reason });
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
fn order(
    nodes: &[NodeProto],
    outputs: &[&str],
    defined: impl Fn(&str) -> bool,
) -> Result<Vec<usize>> {
    let mut writers = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if defined(output) || writers.insert(output.as_str(), index).is_some() {
                return Err(duplicate(output));
            }
        }
    }
    let reads: Vec<Vec<&str>> = nodes.iter().map(names_read).collect();
    // Depth first, with a list instead of recursion: a model may be deeper than the stack.
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; nodes.len()];
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
    for output in outputs {
        let mut stack: Vec<(usize, usize)> = Vec::new();
        if let Some(index) = needed(output)?.filter(|&i| states[i] == State::New) {
            states[index] = State::Open;
            stack.push((index, 0));
        }
        while let Some((index, input)) = stack.pop() {
            let node = &nodes[index];
            let Some(name) = reads[index].get(input) else {
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

/// The names that a node reads: its inputs, and what the bodies that it has read from outside.
fn names_read(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).collect();
    for body in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
        let inputs = body.input.iter().map(|info| info.name.as_str());
        let tensors = body.initializer.iter().map(|tensor| tensor.name.as_str());
        let written = body.node.iter().flat_map(|node| &node.output).map(String::as_str);
        let own: HashSet<&str> = inputs.chain(tensors).chain(written).collect();
        let outputs = body.output.iter().map(|info| info.name.as_str());
        let read = body.node.iter().flat_map(names_read).chain(outputs);
        names.extend(read.filter(|name| !own.contains(name)));
    }
    names
}
