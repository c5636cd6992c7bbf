//! The model while it is made: names, nodes, tensors and attributes of ONNX's protobuf schema.

use crate::ir::graph::{Graph, Kind, ValueId};
use crate::ir::tensor::{Data, Tensor};
use crate::onnx::proto::{
    AttributeProto, DimensionProto, GraphProto, NodeProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_type, data_type,
};
use crate::{Error, Result};
use dsconv::{DsConvWeights, Partition};
use std::collections::{HashMap, HashSet};

/// A model while it is made.
pub(crate) struct Exporter<'g> {
    pub(crate) graph: &'g Graph,
    pub(crate) names: HashMap<ValueId, String>,
    pub(crate) used: HashSet<String>,
    pub(crate) proto: GraphProto,
    pub(crate) metadata: Vec<StringStringEntryProto>,
    /// The kinds of values that are no floats.
    pub(crate) kinds: HashMap<ValueId, Kind>,
}

impl Exporter<'_> {
    /// The name of a value in the model.
    pub(crate) fn name(&mut self, id: ValueId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let name = self.unique(&self.graph.values[id.0]);
        self.names.insert(id, name.clone());
        name
    }

    /// The kind of a value.
    pub(crate) fn kind(&self, id: ValueId) -> Kind {
        self.kinds.get(&id).copied().unwrap_or_default()
    }

    /// A name that nothing else has: the preferred one, or that and a number.
    pub(crate) fn unique(&mut self, preferred_name: &str) -> String {
        let preferred_name = if preferred_name.is_empty() { "value" } else { preferred_name };
        let mut name = preferred_name.to_owned();
        let mut count = self.used.len();
        while !self.used.insert(name.clone()) {
            name = format!("{preferred_name}_{count}");
            count += 1;
        }
        name
    }

    /// Adds a node of one output.
    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.node_of(op, inputs, vec![output.into()], attribute);
    }

    /// Adds a node of any number of outputs.
    pub(crate) fn node_of(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: Vec<String>,
        attribute: Vec<AttributeProto>,
    ) {
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|&name| name.into()).collect(),
            name: output.first().cloned().unwrap_or_default(),
            output,
            op_type: op.into(),
            attribute,
            domain: String::new(),
        });
    }

    /// Adds a node whose output gets a name of its own; returns that name.
    pub(crate) fn step(
        &mut self,
        op: &str,
        inputs: &[&str],
        preferred_name: &str,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.unique(preferred_name);
        self.node(op, inputs, &output, attribute);
        output
    }

    /// An operator over an axis and all behind it together: of the node's name, x and y.
    pub(crate) fn flattened(&mut self, (op, axis): (&str, i64), [name, x, y]: [&str; 3]) {
        let dims = self.step("Shape", &[x], &format!("{name}.dims"), vec![]);
        let flat = self.step("Flatten", &[x], &format!("{name}.flat"), vec![int("axis", axis)]);
        let flat = self.step(op, &[&flat], name, vec![int("axis", -1)]);
        self.node("Reshape", &[&flat, &dims], y, vec![]);
    }

    /// Adds a constant list of integers; returns its name.
    pub(crate) fn list(&mut self, preferred_name: &str, values: &[i64]) -> String {
        self.tensor(preferred_name, &Tensor::list(values))
    }

    /// Adds a constant; returns its name.
    pub(crate) fn tensor(&mut self, preferred_name: &str, tensor: &Tensor) -> String {
        let name = self.unique(preferred_name);
        self.proto.initializer.push(constant(&name, tensor));
        name
    }

    /// Adds integer weights with these dims (OIHW, or O and I of a matrix), dequantised; returns the result's name.
    pub(crate) fn integers(
        &mut self,
        preferred_name: &str,
        weights: &DsConvWeights,
        dims: &[usize],
    ) -> Result<String> {
        let blocks = weights.blocks();
        let mut scale_dims = dims.to_vec();
        scale_dims[1] = blocks.count as usize;
        let narrow = weights.format().bits() <= 4;
        let zeros = zero_points(weights, narrow);
        // A last block that is shorter is ONNX's own; one that is longer is not.
        let fixed = weights.format().partition() == Partition::Fixed || blocks.count == 1;
        let q = self.integer_tensor(&format!("{preferred_name}.q"), dims, weights.q(), narrow);
        let result = self.unique(&format!("{preferred_name}.weight"));
        let summand = if zeros.is_none() { weights.kds_bias() } else { None };
        let spread =
            |exporter: &mut Self, preferred_name: &str, scales: &[f32]| -> Result<String> {
                let scales = Tensor::f32(scale_dims.clone(), scales.to_vec())?;
                let scales = exporter.tensor(preferred_name, &scales);
                let block_of: Vec<i64> =
                    (0..blocks.channels).map(|c| i64::from(blocks.of(c))).collect();
                let block_of = exporter.list(&format!("{preferred_name}.blocks"), &block_of);
                Ok(exporter.step(
                    "Gather",
                    &[&scales, &block_of],
                    &format!("{preferred_name}.channels"),
                    vec![int("axis", 1)],
                ))
            };
        let last = |exporter: &mut Self, done: bool, part: &str| {
            if done { result.clone() } else { exporter.unique(&format!("{preferred_name}.{part}")) }
        };
        let mut current = last(self, fixed && summand.is_none(), "scaled");
        if fixed {
            let alpha = Tensor::f32(scale_dims.clone(), weights.alpha().to_vec())?;
            let alpha = self.tensor(&format!("{preferred_name}.alpha"), &alpha);
            let mut inputs = vec![q, alpha];
            if let Some(zeros) = &zeros {
                inputs.push(self.integer_tensor(
                    &format!("{preferred_name}.zero"),
                    &scale_dims,
                    zeros,
                    narrow,
                ));
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let size = i64::from(blocks.size);
            let attributes = vec![int("axis", 1), int("block_size", size)];
            self.node("DequantizeLinear", &inputs, &current, attributes);
        } else {
            let one = self.tensor(&format!("{preferred_name}.one"), &Tensor::scalar(1.0));
            let whole = self.step(
                "DequantizeLinear",
                &[&q, &one],
                &format!("{preferred_name}.float"),
                vec![],
            );
            let alpha = spread(self, &format!("{preferred_name}.alpha"), weights.alpha())?;
            current = last(self, weights.kds_bias().is_none(), "scaled");
            self.node("Mul", &[&whole, &alpha], &current, vec![]);
        }
        if let Some(kds_bias) = if fixed { summand } else { weights.kds_bias() } {
            let kds_bias = spread(self, &format!("{preferred_name}.kds_bias"), kds_bias)?;
            self.node("Add", &[&current, &kds_bias], &result, vec![]);
        }
        let format = serde_json::to_string(weights.format())
            .map_err(|e| Error::format("metadata_props", e))?;
        self.metadata
            .push(StringStringEntryProto { key: format!("dsconv.{result}"), value: format });
        Ok(result)
    }

    /// Adds a constant of INT8, or of INT4 where it is `narrow`; returns its name.
    fn integer_tensor(
        &mut self,
        preferred_name: &str,
        dims: &[usize],
        q: &[i8],
        narrow: bool,
    ) -> String {
        let name = self.unique(preferred_name);
        let nibble = |q: i8| q.cast_unsigned() & 15;
        let raw = if narrow {
            let pair = |pair: &[i8]| nibble(pair[0]) | nibble(*pair.get(1).unwrap_or(&0)) << 4;
            q.chunks(2).map(pair).collect()
        } else {
            q.iter().map(|q| q.cast_unsigned()).collect()
        };
        let data_type = if narrow { data_type::INT4 } else { data_type::INT8 };
        self.proto.initializer.push(TensorProto {
            dims: dims.iter().map(|&dim| dim as i64).collect(),
            data_type,
            name: name.clone(),
            raw_data: Some(raw),
            ..TensorProto::default()
        });
        name
    }
}

/// The KDS bias as zero points, `-kds_bias / alpha`, if they are that exactly and ONNX has them for the blocks.
fn zero_points(weights: &DsConvWeights, narrow: bool) -> Option<Vec<i8>> {
    if weights.format().partition() != Partition::Fixed && weights.blocks().count > 1 {
        return None;
    }
    let range = if narrow { -8..=7 } else { -128..=127 };
    let zero = |(&alpha, &kds_bias): (&f32, &f32)| {
        let zero = if alpha == 0.0 { 0.0 } else { (-kds_bias / alpha).round_ties_even() };
        // As the import multiplies, so that the same float comes back.
        let exact = -alpha * zero == kds_bias && range.contains(&(zero as i32));
        exact.then_some(zero as i8)
    };
    weights.alpha().iter().zip(weights.kds_bias()?).map(zero).collect()
}

/// An input or output of the model.
pub(crate) fn info(name: &str, dims: &[Option<usize>], kind: Kind) -> ValueInfoProto {
    let dim = |(axis, dim): (usize, &Option<usize>)| match dim {
        Some(dim) => DimensionProto { dim_value: *dim as i64, dim_param: String::new() },
        None => DimensionProto { dim_value: 0, dim_param: format!("{name}_{axis}") },
    };
    let shape = TensorShapeProto { dim: dims.iter().enumerate().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: data_type_of(kind), shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// The type that elements of a kind are written as.
pub(crate) fn data_type_of(kind: Kind) -> i32 {
    match kind {
        Kind::Float => data_type::FLOAT,
        Kind::Integer => data_type::INT64,
        Kind::Bool => data_type::BOOL,
    }
}

/// A tensor of the model.
pub(crate) fn constant(name: &str, tensor: &Tensor) -> TensorProto {
    let (data_type, raw): (i32, Vec<u8>) = match tensor.data() {
        Data::F32(values) => {
            (data_type::FLOAT, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        Data::I64(values) => {
            (data_type::INT64, values.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
    };
    TensorProto {
        dims: tensor.dims().iter().map(|&dim| dim as i64).collect(),
        data_type,
        name: name.into(),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..AttributeProto::default() }
}

/// The attribute of a Cast.
pub(crate) fn cast(to: Kind) -> AttributeProto {
    int("to", data_type_of(to))
}

pub(crate) fn int(name: &str, i: impl Into<i64>) -> AttributeProto {
    AttributeProto { i: i.into(), ..attribute(name, attribute_type::INT) }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, attribute_type::FLOAT) }
}

pub(crate) fn string(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: text.into(), ..attribute(name, attribute_type::STRING) }
}

pub(crate) fn ints<T: Copy + Into<i64>>(name: &str, values: &[T]) -> AttributeProto {
    let ints = values.iter().map(|&value| value.into()).collect();
    AttributeProto { ints, ..attribute(name, attribute_type::INTS) }
}

pub(crate) fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(t), ..attribute(name, attribute_type::TENSOR) }
}

pub(crate) fn floats(name: &str, values: &[f32]) -> AttributeProto {
    AttributeProto { floats: values.to_vec(), ..attribute(name, attribute_type::FLOATS) }
}

pub(crate) fn strings(name: &str, texts: &[&str]) -> AttributeProto {
    let strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { strings, ..attribute(name, attribute_type::STRINGS) }
}
