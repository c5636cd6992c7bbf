//! The model file: a graph with its weights, and what a program needs to use it.
//!
//! A [`LayerFile`] (safetensors) whose layers are the graph's convolutions, packed as ever. Its metadata has further:
//!
//! | key | what |
//! |---|---|
//! | `model` | the version of these keys, `1` |
//! | `graph` | JSON: names of values, inputs, outputs, nodes, integer constants, and which values are floats |
//! | `preprocessing`, `labels`, `detection` | JSON, where known |
//!
//! Float constants are the file's further tensors, `constant.N` for value N.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use crate::ir::graph::{Graph, Input, Kind, Node, Output, ValueId};
use crate::ir::tensor::{Data, Tensor};
use crate::vision::detect::{Detector, Head};
use crate::{Error, Result};
use dsconv::{FloatTensor, LayerFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use crate::vision::preprocessing::{ChannelOrder, Fit, Preprocessing};

const VERSION: &str = "1";

/// A network with what a program needs to use it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// The way from an image to the input.
    pub preprocessing: Option<Preprocessing>,
    /// Names of the classes, in the output's order.
    pub labels: Option<Vec<String>>,
    /// The way from a detection network's output to detections.
    pub detection: Option<Detector>,
}

/// The JSON of a file's `graph`.
#[derive(Serialize, Deserialize)]
struct StoredGraph {
    values: Vec<String>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    nodes: Vec<Node>,
    /// Value, dims, elements.
    integers: Vec<(ValueId, Vec<usize>, Vec<i64>)>,
    floats: Vec<ValueId>,
}

impl Model {
    /// Writes the file, beside its place and then renamed.
    ///
    /// # Errors
    /// A failure of the file system.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn write(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        Ok(self.file()?.save(path)?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), or a failure of the file system.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(LayerFile::load(path)?, &path.display().to_string())
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// A graph that its own constructors would not have made.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.file()?.to_bytes()?)
    }

    /// Reads a file's bytes, which may come from anybody.
    ///
    /// # Errors
    /// [`Error::Format`], [`Error::Invalid`] or [`Error::Layer`] for anything that is not a model file of a known
    /// version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(LayerFile::from_bytes(bytes)?, "model file")
    }

    /// Reads a model file's bytes, or ONNX as a model without labels and preprocessing, whichever it is.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes) or [`onnx::from_bytes`](crate::onnx::from_bytes).
    pub fn from_any(bytes: &[u8]) -> Result<Self> {
        // Safetensors start with the length of a JSON object, in eight bytes of which the last are 0.
        match bytes {
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Self::from_bytes(bytes),
            _ => Ok(crate::onnx::from_bytes(bytes, None)?.into()),
        }
    }

    fn file(&self) -> Result<LayerFile> {
        let graph = &self.graph;
        graph.validate()?;
        let mut layers: Vec<_> =
            graph.weights.iter().map(|weights| weights.as_ref().clone()).enumerate().collect();
        let names: HashMap<usize, &str> =
            graph.convolutions().map(|(node, id)| (id.0, node.name.as_str())).collect();
        let layers = layers.drain(..).map(|(index, weights)| {
            // The number keeps the names apart, whatever the nodes are called.
            (format!("{index} {}", names.get(&index).unwrap_or(&"")), weights)
        });
        let mut stored = StoredGraph {
            values: graph.values.clone(),
            inputs: graph.inputs.clone(),
            outputs: graph.outputs.clone(),
            nodes: graph.nodes.clone(),
            integers: Vec::new(),
            floats: Vec::new(),
        };
        let mut tensors = BTreeMap::new();
        for (&id, tensor) in &graph.constants {
            match tensor.data() {
                Data::I64(values) => {
                    stored.integers.push((id, tensor.dims().to_vec(), values.to_vec()));
                }
                Data::F32(values) => {
                    stored.floats.push(id);
                    let tensor =
                        FloatTensor { shape: tensor.dims().to_vec(), values: values.to_vec() };
                    tensors.insert(constant_name(id), tensor);
                }
            }
        }
        let mut metadata = HashMap::from([
            ("model".to_owned(), VERSION.to_owned()),
            ("graph".to_owned(), json(&stored)?),
        ]);
        if let Some(preprocessing) = &self.preprocessing {
            preprocessing.validate()?;
            metadata.insert("preprocessing".into(), json(preprocessing)?);
        }
        if let Some(labels) = &self.labels {
            metadata.insert("labels".into(), json(labels)?);
        }
        if let Some(detection) = &self.detection {
            detection.validate()?;
            metadata.insert("detection".into(), json(detection)?);
        }
        Ok(LayerFile { layers: layers.collect(), metadata, tensors })
    }

    fn parse(mut file: LayerFile, name: &str) -> Result<Self> {
        let version = file.metadata.get("model").map_or("none", String::as_str);
        if version != VERSION {
            let message = format!("expected a model of version {VERSION}, got {version}");
            return Err(Error::format(name, message));
        }
        let text = file.metadata.get("graph");
        let text = text.ok_or_else(|| Error::format(name, "metadata has no \"graph\""))?;
        let stored: StoredGraph = parse(text, name, "graph")?;
        let mut constants = BTreeMap::new();
        let mut add = |id: ValueId, tensor: Tensor| match constants.insert(id, tensor) {
            None => Ok(()),
            Some(_) => Err(Error::format(name, format!("two constants for value {}", id.0))),
        };
        for (id, dims, values) in stored.integers {
            add(id, Tensor::i64(dims, values)?)?;
        }
        for id in stored.floats {
            let tensor = file
                .tensors
                .remove(&constant_name(id))
                .ok_or_else(|| Error::format(name, format!("no tensor {:?}", constant_name(id))))?;
            add(id, Tensor::f32(tensor.shape, tensor.values)?)?;
        }
        let graph = Graph {
            values: stored.values,
            inputs: stored.inputs,
            outputs: stored.outputs,
            nodes: stored.nodes,
            constants,
            weights: file.layers.into_iter().map(|(_, weights)| Arc::new(weights)).collect(),
        };
        graph.validate()?;
        let optional = |key: &str| file.metadata.get(key);
        let preprocessing: Option<Preprocessing> =
            optional("preprocessing").map(|text| parse(text, name, "preprocessing")).transpose()?;
        preprocessing.as_ref().map_or(Ok(()), Preprocessing::validate)?;
        let labels = optional("labels").map(|text| parse(text, name, "labels")).transpose()?;
        let detection: Option<Detector> =
            optional("detection").map(|text| parse(text, name, "detection")).transpose()?;
        detection.as_ref().map_or(Ok(()), Detector::validate)?;
        Ok(Self { graph, preprocessing, labels, detection })
    }
}

impl Model {
    /// The model's own preprocessing, or else, for a network of one input that is a picture, that of its
    /// [detector](Self::detector) (640 pixels where its size is open) or ImageNet's usual one (224 pixels). An input of
    /// integers gets pixels from 0 to 255.
    ///
    /// # Errors
    /// A network of another kind.
    pub fn picture_input(&self) -> Result<Preprocessing> {
        if let Some(known) = &self.preprocessing {
            return Ok(known.clone());
        }
        let [input] = self.graph.inputs() else {
            let got = format!("{} inputs", self.graph.inputs().len());
            return Err(Error::invalid("network", "one input, a picture", got));
        };
        let Some((channels, sides, last)) = picture_layout(&input.dims) else {
            let expected = "a picture, (N, C, H, W) or (N, H, W, C) with 1, 3 or 4 channels";
            let got = in_words(&input.dims);
            return Err(Error::invalid(format!("input {:?}", input.name), expected, got));
        };
        let size = |open| sides.map(|side| u32::try_from(side.unwrap_or(open)).unwrap_or(u32::MAX));
        let preprocessing = match self.detector(size(640)) {
            Some(detector) => detector.head.preprocessing(size(640)),
            None => Preprocessing::imagenet(size(224)),
        };
        let mut preprocessing = preprocessing.with_channels(channels, last);
        if input.kind != Kind::Float {
            preprocessing = preprocessing.levels();
        }
        preprocessing.validate().map(|()| preprocessing)
    }

    /// The same network for pictures of another size, `[height, width]` in pixels, also where its file has a fixed one.
    ///
    /// # Errors
    /// A network that takes no pictures, or not of this size.
    pub fn with_picture_size(mut self, size: [u32; 2]) -> Result<Self> {
        let mut preprocessing = self.picture_input()?;
        preprocessing.size = size;
        preprocessing.validate()?;
        let dims = preprocessing.dims();
        for input in &mut self.graph.inputs {
            for (known, dim) in input.dims.iter_mut().zip(&dims).skip(1) {
                *known = known.map(|_| *dim);
            }
        }
        self.graph.specialise(&[&dims])?;
        self.preprocessing = Some(preprocessing);
        Ok(self)
    }

    /// The model's own detector, or one of the usual limits where the dims of its output for an input of `size`
    /// (height, width) tell the head. `None` for other networks.
    pub fn detector(&self, size: [u32; 2]) -> Option<Detector> {
        self.detection.or_else(|| {
            let [height, width] = size.map(|side| side as usize);
            let [input] = self.graph.inputs() else { return None };
            let dims = match picture_layout(&input.dims)? {
                (channels, _, true) => [1, height, width, channels],
                (channels, _, false) => [1, channels, height, width],
            };
            let program = self.graph.specialise(&[&dims]).ok()?;
            let [output] = program.outputs() else { return None };
            Head::of(&program.value(*output).dims, size).map(Detector::new)
        })
    }
}

impl From<Graph> for Model {
    fn from(graph: Graph) -> Self {
        Self { graph, ..Self::default() }
    }
}

/// A picture's channels, its height and width where they are known, and whether channels come last. Where both ends
/// could be channels, or none is known, they come first, as in most ONNX files.
fn picture_layout(dims: &[Option<usize>]) -> Option<(usize, [Option<usize>; 2], bool)> {
    match *dims {
        [_, Some(channels @ (1 | 3 | 4)), height, width] => {
            Some((channels, [height, width], false))
        }
        [_, height, width, Some(channels @ (1 | 3 | 4))] => Some((channels, [height, width], true)),
        [_, None, height, width] => Some((3, [height, width], false)),
        _ => None,
    }
}

/// Dims with a question mark for those that are open.
fn in_words(dims: &[Option<usize>]) -> String {
    let dim = |dim: &Option<usize>| dim.map_or_else(|| "?".to_owned(), |dim| dim.to_string());
    format!("({})", dims.iter().map(dim).collect::<Vec<_>>().join(", "))
}

fn constant_name(id: ValueId) -> String {
    format!("constant.{}", id.0)
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::format("model file", e))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, name: &str, key: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::format(name, format!("metadata {key:?}: {e}")))
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests know what they read"
)]
mod tests {
    use super::{in_words, picture_layout};

    #[test]
    fn layouts_of_pictures_are_told_apart() {
        let (h, w) = (Some(20), Some(30));
        for channels in [1, 3, 4] {
            let c = Some(channels);
            assert_eq!(picture_layout(&[None, c, h, w]), Some((channels, [h, w], false)));
            assert_eq!(picture_layout(&[Some(1), h, w, c]), Some((channels, [h, w], true)));
            assert_eq!(picture_layout(&[None, None, None, c]), Some((channels, [None; 2], true)));
        }
        assert_eq!(picture_layout(&[None; 4]), Some((3, [None; 2], false)));
        for other in [&[None, Some(5), h, w][..], &[Some(1), h, w, Some(2)], &[None, Some(3), h]] {
            assert_eq!(picture_layout(other), None);
        }
        assert_eq!(in_words(&[None, Some(5), h]), "(?, 5, 20)");
    }
}
