//! The model file: a graph with its weights, and what a program needs to use it.
//!
//! A [`LayerFile`] (safetensors) whose layers are the graph's convolutions, packed as ever. Its metadata has further:
//!
//! | key | what |
//! |---|---|
//! | `model` | the version of these keys, `1` |
//! | `graph` | JSON: names of values, inputs, outputs, nodes, integer constants, and which values are floats |
//! | `preprocessing`, `labels` | JSON, where known |
//!
//! Float constants are the file's further tensors, `constant.N` for value N.

use crate::graph::{Graph, Input, Node, Output, ValueId};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use dsconv::{FloatTensor, LayerFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const VERSION: &str = "1";

/// A network with what a program needs to use it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    /// The network.
    pub graph: Graph,
    /// How an image becomes the input.
    pub preprocessing: Option<Preprocessing>,
    /// Names of the classes, in the output's order.
    pub labels: Option<Vec<String>>,
}

/// How an image becomes an input: resized, cropped, `(pixel / 255 - mean) / std` per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The input's height and width in pixels.
    pub size: [u32; 2],
    /// What to do with an image of another shape.
    pub fit: Fit,
    /// One per channel, of pixels between 0 and 1.
    pub mean: Vec<f32>,
    /// One per channel, of pixels between 0 and 1.
    pub std: Vec<f32>,
    /// The channels' order.
    pub channels: ChannelOrder,
    /// Whether channels are the input's last axis (NHWC) and not its second (NCHW).
    pub channels_last: bool,
}

/// What to do with an image of another shape than the input's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fit {
    /// Resize both sides, whatever their ratio.
    Stretch,
    /// Resize so that this share of the shorter side is the input, and cut the centre.
    Crop(f32),
    /// Resize so that all of it fits, and fill the rest with this value, 0 to 1.
    Pad(f32),
}

/// The order of an image's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel.
    Grey,
}

#[derive(Serialize, Deserialize)]
struct Stored {
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
    /// [`Error::Format`], [`Error::Invalid`] or [`Error::Layer`] for anything that is not a model file of a known version.
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
        let mut stored = Stored {
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
        let stored: Stored = parse(text, name, "graph")?;
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
        Ok(Self { graph, preprocessing, labels })
    }
}

impl Preprocessing {
    /// Checks sizes, and that the numbers can be computed with.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field.
    pub fn validate(&self) -> Result<()> {
        const LONGEST: u32 = 1 << 15;
        if let Some(side) = self.size.into_iter().find(|side| !(1..=LONGEST).contains(side)) {
            return Err(Error::invalid("preprocessing size", format!("1..={LONGEST}"), side));
        }
        let channels = if self.channels == ChannelOrder::Grey { 1 } else { 3 };
        for (field, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            let zero = field == "std" && numbers.contains(&0.0);
            if numbers.len() != channels || zero || !numbers.iter().all(|n| n.is_finite()) {
                let expected = format!("{channels} finite numbers, std not 0");
                return Err(Error::invalid(
                    format!("preprocessing {field}"),
                    expected,
                    format!("{numbers:?}"),
                ));
            }
        }
        match self.fit {
            Fit::Crop(share) if !(share > 0.0 && share <= 1.0) => {
                Err(Error::invalid("preprocessing crop", "above 0, at most 1", share))
            }
            Fit::Pad(value) if !(0.0..=1.0).contains(&value) => {
                Err(Error::invalid("preprocessing pad", "0 to 1", value))
            }
            _ => Ok(()),
        }
    }
}

impl From<Graph> for Model {
    fn from(graph: Graph) -> Self {
        Self { graph, preprocessing: None, labels: None }
    }
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
