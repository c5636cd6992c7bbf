//! The files beside a model that hold its tensors.

use crate::onnx::proto::{AttributeProto, GraphProto, ModelProto, TensorProto};
use crate::{Error, Result};
use prost::Message;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Returns the files that an ONNX file's tensors lie in, besides the file itself: paths from the same place as its
/// own. They need not exist.
///
/// # Errors
/// A failure of the file system, or [`Error::Format`] for what is no model.
pub fn external_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    let model = ModelProto::decode(bytes.as_slice());
    let model = model.map_err(|e| Error::format(&path.display().to_string(), e))?;
    let mut locations = BTreeSet::new();
    if let Some(graph) = &model.graph {
        of_graph(graph, &mut locations);
    }
    let nodes = model.functions.iter().flat_map(|function| &function.node);
    for attribute in nodes.flat_map(|node| &node.attribute) {
        of_attribute(attribute, &mut locations);
    }
    for attribute in model.functions.iter().flat_map(|function| &function.attribute_proto) {
        of_attribute(attribute, &mut locations);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(locations.into_iter().map(|location| folder.join(location)).collect())
}

fn of_graph<'a>(graph: &'a GraphProto, locations: &mut BTreeSet<&'a str>) {
    for tensor in &graph.initializer {
        of_tensor(tensor, locations);
    }
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        of_attribute(attribute, locations);
    }
}

fn of_attribute<'a>(attribute: &'a AttributeProto, locations: &mut BTreeSet<&'a str>) {
    if let Some(tensor) = &attribute.t {
        of_tensor(tensor, locations);
    }
    // The decoder takes bodies within bodies down to a depth that the stack bears.
    if let Some(graph) = &attribute.g {
        of_graph(graph, locations);
    }
}

fn of_tensor<'a>(tensor: &'a TensorProto, locations: &mut BTreeSet<&'a str>) {
    if tensor.data_location == 1 {
        let places = tensor.external_data.iter().filter(|entry| entry.key == "location");
        locations.extend(places.map(|entry| entry.value.as_str()));
    }
}
