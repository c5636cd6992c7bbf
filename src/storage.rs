//! Layer files in the safetensors format.
//!
//! Tensors of a layer `NAME`:
//!
//! | tensor | type and shape | what |
//! |---|---|---|
//! | `NAME.q` | U8, (bytes) | the integers, OIHW, as a dense little-endian bit stream: integer `i` in bits `i * bits ..` |
//! | `NAME.alpha`, `NAME.kds_bias` | F32, (O, blocks, kh, kw) | scale and KDS bias of each block |
//! | `NAME.cds_scale`, `NAME.cds_shift` | F32, (O) | channel distribution shift |
//! | `NAME.weight` | F32 or I8, (O, I/groups, kh, kw) | the weights of a float layer |
//! | `NAME.weight_scale` | F32, (O) | where the weights are I8: the scale of each output channel |
//! | `NAME.bias` | F32, (O) | bias |
//!
//! Tensors that are F32 here are F16 in the file where that loses nothing.
//!
//! The metadata holds `format` = `dsconv`, `version` = `1` (`2` where F16 or I8 are in the file) and `layers`: a JSON list, in the layers'
//! order, of their names, geometry and bit format; and where the writer has further tensors, floats under names of
//! its own, `tensors`: a JSON list of those names. Other keys are the writer's own.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use crate::{
    BlockFormat, Cds, ConvDescriptor, DsConvWeights, Error, FloatWeights, Result, Weights,
    bitstream, int8_channels,
};
use half::f16;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};

/// What is written, and what has F16 or I8 tensors.
const VERSIONS: [&str; 2] = ["1", "2"];

/// Layers in their order, with the writer's own metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerFile {
    /// Names and weights.
    pub layers: Vec<(String, Weights)>,
    /// Further metadata; the keys `format`, `version`, `layers` and `tensors` are taken.
    pub metadata: HashMap<String, String>,
    /// Further tensors of the writer's, by name.
    pub tensors: BTreeMap<String, FloatTensor>,
}

/// A tensor of floats in a [`LayerFile`], row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatTensor {
    /// The dims, outermost first.
    pub shape: Vec<usize>,
    /// As many as the dims say.
    pub values: Vec<f32>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Entry {
    name: String,
    conv: ConvDescriptor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    format: Option<BlockFormat>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cds: Option<CdsReading>,
}

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum CdsReading {
    Output,
    Kernel,
}

impl LayerFile {
    /// Writes the file, beside its place and then renamed.
    ///
    /// # Errors
    /// Two layers of one name, a reserved metadata key, or a failure of the file system.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        crate::file::write(path.as_ref(), &self.to_bytes()?)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), or a failure of the file system.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn load(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(&crate::file::read(path)?, &path.display().to_string())
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// Two layers of one name, or a reserved metadata key.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        for (name, weights) in &self.layers {
            if !names.insert(name) {
                return Err(Error::invalid("layer name", "one layer of each name", name));
            }
            entries.push(entry(name, weights));
            tensors.extend(
                layer_tensors(weights).into_iter().map(|(part, t)| (format!("{name}.{part}"), t)),
            );
        }
        for (name, FloatTensor { shape, values }) in &self.tensors {
            if tensors.iter().any(|(other, _)| other == name) {
                return Err(Error::invalid("tensor name", "a name that no layer uses", name));
            }
            tensors.push((name.clone(), float_tensor(shape.clone(), values)));
        }
        let broken = |e: &dyn std::fmt::Display| format_error("layer file", e);
        let mut metadata = self.metadata.clone();
        let layers = serde_json::to_string(&entries).map_err(|e| broken(&e))?;
        let names: Vec<_> = self.tensors.keys().collect();
        let names = serde_json::to_string(&names).map_err(|e| broken(&e))?;
        let plain = |(_, tensor): &(String, Tensor)| matches!(tensor.dtype, Dtype::F32 | Dtype::U8);
        let [first, compact] = VERSIONS;
        let version = if tensors.iter().all(plain) { first } else { compact };
        let keys =
            [("format", "dsconv"), ("version", version), ("layers", &layers), ("tensors", &names)];
        for (key, value) in keys {
            if metadata.contains_key(key) {
                let expected = "keys other than format, version, layers, tensors";
                return Err(Error::invalid("metadata", expected, key));
            }
            if key != "tensors" || !self.tensors.is_empty() {
                metadata.insert(key.into(), value.into());
            }
        }
        let views = tensors.iter().map(|(name, tensor)| {
            Ok((name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes)?))
        });
        let views: Vec<_> =
            views.collect::<Result<_, safetensors::SafeTensorError>>().map_err(|e| broken(&e))?;
        safetensors::serialize(views, Some(metadata)).map_err(|e| broken(&e))
    }

    /// Reads a file's bytes. They may come from anybody: sizes are checked before memory is taken.
    ///
    /// # Errors
    /// [`Error::Format`] for anything that is not a layer file of a known version, and whatever the
    /// weights' own checks find.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes, "layer file")
    }

    fn parse(bytes: &[u8], file: &str) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| format_error(file, e))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| format_error(file, e))?;
        let mut metadata = header.metadata().clone().unwrap_or_default();
        let mut take = |key: &str| {
            metadata
                .remove(key)
                .ok_or_else(|| format_error(file, format!("metadata has no {key:?}")))
        };
        let format = take("format").map_err(|_| {
            let message = "tensors, but no file of dsconv: it has no metadata \"format\"";
            format_error(file, message)
        })?;
        let (version, layers) = (take("version")?, take("layers")?);
        let names = take("tensors").unwrap_or_else(|_| "[]".into());
        if format != "dsconv" || !VERSIONS.contains(&version.as_str()) {
            let known = VERSIONS.join(" or ");
            let message =
                format!("expected format dsconv, version {known}, got {format}, version {version}");
            return Err(format_error(file, message));
        }
        let entries: Vec<Entry> = serde_json::from_str(&layers)
            .map_err(|e| format_error(file, format!("metadata \"layers\": {e}")))?;
        listed_once(file, "layer", entries.iter().map(|entry| entry.name.as_str()))?;
        let layer = |entry: Entry| {
            let reader = Reader { tensors: &tensors, layer: &entry.name };
            let weights = reader.weights(&entry);
            let weights =
                weights.map_err(|e| format_error(file, format!("layer {:?}: {e}", entry.name)))?;
            Ok((entry.name, weights))
        };
        let layers = entries.into_iter().map(layer).collect::<Result<_>>()?;
        let names: Vec<String> = serde_json::from_str(&names)
            .map_err(|e| format_error(file, format!("metadata \"tensors\": {e}")))?;
        listed_once(file, "tensor", names.iter().map(String::as_str))?;
        let further = |name: String| {
            let tensor = tensors.tensor(&name);
            let tensor = tensor.map_err(|e| format_error(file, format!("tensor {name:?}: {e}")))?;
            let values = float_values(&tensor).ok_or_else(|| {
                Error::invalid(&name, "F32 or F16", format!("{:?}", tensor.dtype()))
            })?;
            Ok((name, FloatTensor { shape: tensor.shape().to_vec(), values }))
        };
        let tensors = names.into_iter().map(further).collect::<Result<_>>()?;
        Ok(Self { layers, metadata, tensors })
    }
}

/// Refuses a list with a name in it twice: each would be unpacked again, and a list is smaller than what it lists.
fn listed_once<'a>(file: &str, what: &str, mut names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match names.find(|&name| !seen.insert(name)) {
        None => Ok(()),
        Some(name) => {
            Err(format_error(file, format!("expected each {what} once, got {name:?} twice")))
        }
    }
}

/// Bytes that a layer's weights take in a file, without bias and channel distribution shift.
pub fn stored_bytes(weights: &Weights) -> u64 {
    let floats = |values: &[f32]| -> u64 {
        let each = if all_halves(values) { 2 } else { 4 };
        (values.len() as u64).saturating_mul(each)
    };
    match weights {
        Weights::Float(weights) => {
            let channels = weights.descriptor().out_channels as usize;
            match int8_channels::integers(weights.values(), channels) {
                Some((q, scales)) => floats(&scales).saturating_add(q.len() as u64),
                None => floats(weights.values()),
            }
        }
        Weights::DsConv(weights) => {
            let integers = bitstream::dense_len(weights.q().len(), weights.format().bits());
            [floats(weights.alpha()), weights.kds_bias().map_or(0, floats)]
                .into_iter()
                .fold(integers as u64, u64::saturating_add)
        }
    }
}

fn format_error(file: &str, message: impl std::fmt::Display) -> Error {
    Error::Format { file: file.into(), message: message.to_string() }
}

struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Floats, as halves where that loses nothing.
fn float_tensor(shape: Vec<usize>, values: &[f32]) -> Tensor {
    let (dtype, bytes) = match all_halves(values) {
        true => (Dtype::F16, values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()),
        false => (Dtype::F32, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
    };
    Tensor { dtype, shape, bytes }
}

/// Says whether halves hold all of the values.
fn all_halves(values: &[f32]) -> bool {
    values.iter().all(|v| f16::from_f32(*v).to_f32().to_bits() == v.to_bits())
}

/// The floats of a tensor of either width; `None` for other types.
fn float_values(tensor: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = tensor.data();
    let half = |&bytes: &[u8; 2]| f16::from_le_bytes(bytes).to_f32();
    match tensor.dtype() {
        Dtype::F32 => Some(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::F16 => Some(bytes.as_chunks().0.iter().map(half).collect()),
        _ => None,
    }
}

fn entry(name: &str, weights: &Weights) -> Entry {
    let (conv, format, cds) = match weights {
        Weights::Float(weights) => (*weights.descriptor(), None, None),
        Weights::DsConv(weights) => {
            let cds = weights.cds().map(|cds| match cds {
                Cds::Output { .. } => CdsReading::Output,
                Cds::Kernel { .. } => CdsReading::Kernel,
            });
            (*weights.descriptor(), Some(*weights.format()), cds)
        }
    };
    Entry { name: name.into(), conv, format, cds }
}

/// Shapes of the weights, of alpha, and of a tensor with one element per output channel.
fn shapes(conv: &ConvDescriptor, format: Option<&BlockFormat>) -> [Vec<usize>; 3] {
    let [height, width] = conv.kernel.map(|k| k as usize);
    let outputs = conv.out_channels as usize;
    let blocks = format.map_or(0, |format| format.blocks(conv).count as usize);
    [
        vec![outputs, conv.channels_per_group() as usize, height, width],
        vec![outputs, blocks, height, width],
        vec![outputs],
    ]
}

fn layer_tensors(weights: &Weights) -> Vec<(&'static str, Tensor)> {
    let mut tensors = Vec::new();
    let bias = match weights {
        Weights::Float(weights) => {
            let [oihw, _, channels] = shapes(weights.descriptor(), None);
            let count = weights.descriptor().out_channels as usize;
            match int8_channels::integers(weights.values(), count) {
                Some((q, scales)) => {
                    let bytes = q.iter().map(|&q| q.cast_unsigned()).collect();
                    tensors.push(("weight", Tensor { dtype: Dtype::I8, shape: oihw, bytes }));
                    tensors.push(("weight_scale", float_tensor(channels, &scales)));
                }
                None => tensors.push(("weight", float_tensor(oihw, weights.values()))),
            }
            weights.bias()
        }
        Weights::DsConv(weights) => {
            let [_, scales, channels] = shapes(weights.descriptor(), Some(weights.format()));
            let bytes = bitstream::pack_dense(weights.q(), weights.format().bits());
            tensors.push(("q", Tensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes }));
            tensors.push(("alpha", float_tensor(scales.clone(), weights.alpha())));
            if let Some(kds_bias) = weights.kds_bias() {
                tensors.push(("kds_bias", float_tensor(scales, kds_bias)));
            }
            if let Some(cds) = weights.cds() {
                tensors.push(("cds_scale", float_tensor(channels.clone(), cds.scale())));
                tensors.push(("cds_shift", float_tensor(channels, cds.shift())));
            }
            weights.bias()
        }
    };
    if let Some(bias) = bias {
        tensors.push(("bias", float_tensor(vec![bias.len()], bias)));
    }
    tensors
}

struct Reader<'a> {
    tensors: &'a SafeTensors<'a>,
    layer: &'a str,
}

impl Reader<'_> {
    fn weights(&self, entry: &Entry) -> Result<Weights> {
        entry.conv.validate()?;
        let Some(format) = entry.format else {
            let [oihw, _, channels] = shapes(&entry.conv, None);
            let values = match self.tensor("weight")?.dtype() {
                Dtype::I8 => {
                    let q = self.checked("weight", &[Dtype::I8], Some(&oihw))?.data();
                    int8_channels::weights(q, &self.floats("weight_scale", &channels)?)
                }
                _ => self.floats("weight", &oihw)?,
            };
            let weights = FloatWeights::new(entry.conv, values)?;
            return Ok(match self.optional("bias", &channels)? {
                Some(bias) => weights.with_bias(bias)?.into(),
                None => weights.into(),
            });
        };
        format.validate()?;
        let [_, scales, channels] = shapes(&entry.conv, Some(&format));
        // The packed length is checked against the file before anything of that size is made.
        let q = bitstream::unpack_dense(
            self.checked("q", &[Dtype::U8], None)?.data(),
            format.bits(),
            entry.conv.weight_count(),
        )?;
        let alpha = self.floats("alpha", &scales)?;
        let mut weights = DsConvWeights::from_integers(entry.conv, format, &q, alpha)?;
        if let Some(kds_bias) = self.optional("kds_bias", &scales)? {
            weights = weights.with_kds_bias(kds_bias)?;
        }
        if let Some(reading) = entry.cds {
            let (scale, shift) =
                (self.floats("cds_scale", &channels)?, self.floats("cds_shift", &channels)?);
            weights = weights.with_cds(match reading {
                CdsReading::Output => Cds::Output { scale, shift },
                CdsReading::Kernel => Cds::Kernel { scale, shift },
            })?;
        }
        if let Some(bias) = self.optional("bias", &channels)? {
            weights = weights.with_bias(bias)?;
        }
        Ok(weights.into())
    }

    fn tensor(&self, part: &str) -> Result<TensorView<'_>> {
        let name = format!("{}.{part}", self.layer);
        self.tensors.tensor(&name).map_err(|e| format_error(&name, e))
    }

    /// Checks a tensor's shape, and that its type is one of those.
    fn checked(
        &self,
        part: &str,
        types: &[Dtype],
        shape: Option<&[usize]>,
    ) -> Result<TensorView<'_>> {
        let tensor = self.tensor(part)?;
        let wrong = |expected: String, got: String| {
            Err(Error::invalid(format!("{}.{part}", self.layer), expected, got))
        };
        if !types.contains(&tensor.dtype()) {
            let names: Vec<String> = types.iter().map(|dtype| format!("{dtype:?}")).collect();
            return wrong(names.join(" or "), format!("{:?}", tensor.dtype()));
        }
        match shape {
            Some(shape) if shape != tensor.shape() => {
                wrong(format!("shape {shape:?}"), format!("{:?}", tensor.shape()))
            }
            _ => Ok(tensor),
        }
    }

    fn floats(&self, part: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = self.checked(part, &[Dtype::F32, Dtype::F16], Some(shape))?;
        Ok(float_values(&tensor).unwrap_or_default())
    }

    fn optional(&self, part: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        match self.tensors.tensor(&format!("{}.{part}", self.layer)) {
            Ok(_) => self.floats(part, shape).map(Some),
            Err(_) => Ok(None),
        }
    }
}
