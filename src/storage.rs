//! Layer files in the safetensors format.
//!
//! Tensors of a layer `NAME`:
//!
//! | tensor | type and shape | what |
//! |---|---|---|
//! | `NAME.q` | U8, (bytes) | the integers, OIHW, as a dense little-endian bit stream: integer `i` in bits `i * bits ..` |
//! | `NAME.alpha`, `NAME.kds_bias` | F32, (O, blocks, kh, kw) | scale and KDS bias of each block |
//! | `NAME.cds_scale`, `NAME.cds_shift` | F32, (O) | channel distribution shift |
//! | `NAME.weight` | F32, (O, I/groups, kh, kw) | the weights of a float layer |
//! | `NAME.bias` | F32, (O) | bias |
//!
//! The metadata holds `format` = `dsconv`, `version` = `1` and `layers`: a JSON list, in the layers'
//! order, of their names, geometry and bit format; and where the writer has further tensors, F32 under names of
//! its own, `tensors`: a JSON list of those names. Other keys are the writer's own.

use crate::{
    BlockFormat, Cds, ConvDescriptor, DsConvWeights, Error, FloatWeights, Result, Weights,
    bitstream,
};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};

const VERSION: &str = "1";

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
            tensors.push((name.clone(), f32_tensor(shape.clone(), values)));
        }
        let broken = |e: &dyn std::fmt::Display| format_error("layer file", e);
        let mut metadata = self.metadata.clone();
        let layers = serde_json::to_string(&entries).map_err(|e| broken(&e))?;
        let names: Vec<_> = self.tensors.keys().collect();
        let names = serde_json::to_string(&names).map_err(|e| broken(&e))?;
        let keys =
            [("format", "dsconv"), ("version", VERSION), ("layers", &layers), ("tensors", &names)];
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
        let (format, version, layers) = (take("format")?, take("version")?, take("layers")?);
        let names = take("tensors").unwrap_or_else(|_| "[]".into());
        if format != "dsconv" || version != VERSION {
            let message = format!(
                "expected format dsconv, version {VERSION}, got {format}, version {version}"
            );
            return Err(format_error(file, message));
        }
        let entries: Vec<Entry> = serde_json::from_str(&layers)
            .map_err(|e| format_error(file, format!("metadata \"layers\": {e}")))?;
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
        let further = |name: String| {
            let tensor = tensors.tensor(&name);
            let tensor = tensor.map_err(|e| format_error(file, format!("tensor {name:?}: {e}")))?;
            if tensor.dtype() != Dtype::F32 {
                return Err(Error::invalid(name, "F32", format!("{:?}", tensor.dtype())));
            }
            let values = f32_values(tensor.data());
            Ok((name, FloatTensor { shape: tensor.shape().to_vec(), values }))
        };
        let tensors = names.into_iter().map(further).collect::<Result<_>>()?;
        Ok(Self { layers, metadata, tensors })
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

fn f32_tensor(shape: Vec<usize>, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { dtype: Dtype::F32, shape, bytes }
}

fn f32_values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
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
            let [oihw, ..] = shapes(weights.descriptor(), None);
            tensors.push(("weight", f32_tensor(oihw, weights.values())));
            weights.bias()
        }
        Weights::DsConv(weights) => {
            let [_, scales, channels] = shapes(weights.descriptor(), Some(weights.format()));
            let bytes = bitstream::pack_dense(weights.q(), weights.format().bits());
            tensors.push(("q", Tensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes }));
            tensors.push(("alpha", f32_tensor(scales.clone(), weights.alpha())));
            if let Some(kds_bias) = weights.kds_bias() {
                tensors.push(("kds_bias", f32_tensor(scales, kds_bias)));
            }
            if let Some(cds) = weights.cds() {
                tensors.push(("cds_scale", f32_tensor(channels.clone(), cds.scale())));
                tensors.push(("cds_shift", f32_tensor(channels, cds.shift())));
            }
            weights.bias()
        }
    };
    if let Some(bias) = bias {
        tensors.push(("bias", f32_tensor(vec![bias.len()], bias)));
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
            let weights = FloatWeights::new(entry.conv, self.f32("weight", &oihw)?)?;
            return Ok(match self.optional("bias", &channels)? {
                Some(bias) => weights.with_bias(bias)?.into(),
                None => weights.into(),
            });
        };
        format.validate()?;
        let [_, scales, channels] = shapes(&entry.conv, Some(&format));
        // The packed length is checked against the file before anything of that size is made.
        let q = bitstream::unpack_dense(
            self.bytes("q", Dtype::U8, None)?,
            format.bits(),
            entry.conv.weight_count(),
        )?;
        let alpha = self.f32("alpha", &scales)?;
        let mut weights = DsConvWeights::from_integers(entry.conv, format, &q, alpha)?;
        if let Some(kds_bias) = self.optional("kds_bias", &scales)? {
            weights = weights.with_kds_bias(kds_bias)?;
        }
        if let Some(reading) = entry.cds {
            let (scale, shift) =
                (self.f32("cds_scale", &channels)?, self.f32("cds_shift", &channels)?);
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

    fn bytes(&self, part: &str, dtype: Dtype, shape: Option<&[usize]>) -> Result<&[u8]> {
        let name = format!("{}.{part}", self.layer);
        let tensor = self.tensors.tensor(&name).map_err(|e| format_error(&name, e))?;
        if tensor.dtype() != dtype {
            return Err(Error::invalid(
                name,
                format!("{dtype:?}"),
                format!("{:?}", tensor.dtype()),
            ));
        }
        match shape {
            Some(shape) if shape != tensor.shape() => Err(Error::invalid(
                name,
                format!("shape {shape:?}"),
                format!("{:?}", tensor.shape()),
            )),
            _ => Ok(tensor.data()),
        }
    }

    fn f32(&self, part: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let bytes = self.bytes(part, Dtype::F32, Some(shape))?;
        Ok(f32_values(bytes))
    }

    fn optional(&self, part: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        match self.tensors.tensor(&format!("{}.{part}", self.layer)) {
            Ok(_) => self.f32(part, shape).map(Some),
            Err(_) => Ok(None),
        }
    }
}
