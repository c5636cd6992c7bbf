//! A graph as a model.
//!
//! Packed weights stay integers: INT4 up to four bits, INT8 above, behind a blocked DequantizeLinear (axis 1) whose
//! scale is alpha. A KDS bias that is a whole multiple of alpha is a zero point; any other is added, spread over the
//! channels by a Gather. So are the scales of [`Partition::Even`](dsconv::Partition::Even), whose blocks ONNX does not
//! have. `metadata_props` hold the bit formats, so that a model comes back with the weights it was written from (a
//! channel shift folded in).
//!
//! [`writer`] makes names, nodes and tensors; [`operator`] says what each operator of a graph becomes, with those that
//! lowering composes of several steps in [`composed`].

mod composed;
mod operator;
mod writer;

use super::proto::{GraphProto, ModelProto, OperatorSetIdProto};
use crate::ir::graph::{Graph, Kind, ValueId};
use crate::ir::tensor::Data;
use crate::{Error, Result};
use prost::Message;
use std::collections::{HashMap, HashSet};
use writer::{Exporter, constant, info};

/// The operator set that is written: the first with blocks and four-bit integers.
const OPSET: i64 = 21;
const IR_VERSION: i64 = 10;

/// Writes a model, beside its place and then renamed.
///
/// # Errors
/// As [`to_bytes`], or a failure of the file system.
#[cfg(not(target_arch = "wasm32"))]
pub fn write(graph: &Graph, path: impl AsRef<std::path::Path>) -> Result<()> {
    Ok(dsconv::file::write(path.as_ref(), &to_bytes(graph)?)?)
}

/// A model's bytes.
///
/// # Errors
/// A graph that its own constructors would not have made, or a model over protobuf's 2 GiB.
pub fn to_bytes(graph: &Graph) -> Result<Vec<u8>> {
    graph.validate()?;
    let mut exporter = Exporter {
        graph,
        names: HashMap::new(),
        used: HashSet::new(),
        proto: GraphProto { name: "network".into(), ..GraphProto::default() },
        metadata: Vec::new(),
        kinds: kinds(graph),
    };
    export(&mut exporter)?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "dsconv".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(exporter.proto),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: exporter.metadata,
        functions: Vec::new(),
    };
    let length = model.encoded_len();
    if i32::try_from(length).is_err() {
        return Err(Error::invalid("model", "at most 2 GiB, as protobuf has it", length));
    }
    Ok(model.encode_to_vec())
}

/// Writes inputs, constants, nodes and outputs.
fn export(exporter: &mut Exporter<'_>) -> Result<()> {
    for input in &exporter.graph.inputs {
        exporter.used.insert(input.name.clone());
        exporter.names.insert(input.value, input.name.clone());
        exporter.proto.input.push(info(&input.name, &input.dims, input.kind));
    }
    // Outputs keep their names, where a node writes them.
    let written: HashSet<ValueId> = exporter.graph.nodes.iter().map(|node| node.output).collect();
    for output in &exporter.graph.outputs {
        if !exporter.used.insert(output.name.clone()) {
            return Err(Error::invalid("output name", "a name of its own", &output.name));
        }
        if written.contains(&output.value) {
            exporter.names.entry(output.value).or_insert_with(|| output.name.clone());
        }
    }
    for (&id, tensor) in &exporter.graph.constants {
        let name = exporter.name(id);
        exporter.proto.initializer.push(constant(&name, tensor));
    }
    for node in &exporter.graph.nodes {
        operator::write(exporter, node).map_err(|e| e.in_node(&node.name, node.op.name()))?;
    }
    for output in &exporter.graph.outputs {
        let name = exporter.name(output.value);
        if name != output.name {
            exporter.node("Identity", &[&name], &output.name, vec![]);
        }
    }
    let ranks = ranks(exporter.graph)?;
    for (output, dims) in exporter.graph.outputs.iter().zip(ranks) {
        let kind = exporter.kind(output.value);
        exporter.proto.output.push(info(&output.name, &dims, kind));
    }
    Ok(())
}

/// The kinds of the values that are no floats.
fn kinds(graph: &Graph) -> HashMap<ValueId, Kind> {
    let inputs = graph.inputs.iter().map(|input| (input.value, input.kind));
    let constants = graph.constants.iter().map(|(&id, tensor)| match tensor.data() {
        Data::I64(_) => (id, Kind::Integer),
        Data::F32(_) => (id, Kind::Float),
    });
    let mut kinds: HashMap<ValueId, Kind> = inputs.chain(constants).collect();
    for node in &graph.nodes {
        let inputs = node.inputs.iter().map(|id| kinds.get(id).copied().unwrap_or_default());
        let inputs: Vec<Kind> = inputs.collect();
        kinds.insert(node.output, node.op.kind(&inputs));
    }
    kinds
}

/// The dims of the outputs: declared, or of the rank that a program has.
fn ranks(graph: &Graph) -> Result<Vec<Vec<Option<usize>>>> {
    let declared: Option<Vec<_>> = graph.outputs.iter().map(|output| output.dims.clone()).collect();
    if let Some(declared) = declared {
        return Ok(declared);
    }
    let mut refusal = Error::invalid("outputs", "declared dims", "none");
    for size in [224, 64, 48, 32, 8, 1] {
        let dims: Vec<Vec<usize>> = graph
            .inputs
            .iter()
            .map(|input| {
                let dim = |(axis, dim): (usize, &Option<usize>)| {
                    dim.unwrap_or(if axis == 0 { 1 } else { size })
                };
                input.dims.iter().enumerate().map(dim).collect()
            })
            .collect();
        let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        match graph.specialise(&dims) {
            Ok(program) => {
                let rank = |&id| vec![None; program.value(id).dims.len()];
                return Ok(program.outputs().iter().map(rank).collect());
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
