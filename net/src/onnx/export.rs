//! A graph as a model.
//!
//! Packed weights stay integers: INT4 up to four bits, INT8 above, behind a blocked DequantizeLinear (axis 1) whose
//! scale is alpha. A KDS bias that is a whole multiple of alpha is a zero point; any other is added, spread over the
//! channels by a Gather. So are the scales of [`Partition::Even`], whose blocks ONNX does not have. `metadata_props`
//! hold the bit formats, so that a model comes back with the weights it was written from (a channel
//! shift folded in).

use super::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto, attribute_type, data_type,
};
use super::write_op;
use crate::graph::{Graph, ValueId};
use crate::tensor::{Data, Tensor};
use crate::{Error, Result};
use dsconv::{DsConvWeights, Partition};
use prost::Message;
use std::collections::{HashMap, HashSet};

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
    };
    exporter.export()?;
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "dsconv".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(exporter.proto),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: exporter.metadata,
    };
    let length = model.encoded_len();
    if i32::try_from(length).is_err() {
        return Err(Error::invalid("model", "at most 2 GiB, as protobuf has it", length));
    }
    Ok(model.encode_to_vec())
}

/// A model while it is made.
pub(crate) struct Exporter<'g> {
    pub(crate) graph: &'g Graph,
    names: HashMap<ValueId, String>,
    used: HashSet<String>,
    proto: GraphProto,
    metadata: Vec<StringStringEntryProto>,
}

impl Exporter<'_> {
    fn export(&mut self) -> Result<()> {
        for input in &self.graph.inputs {
            self.used.insert(input.name.clone());
            self.names.insert(input.value, input.name.clone());
            self.proto.input.push(info(&input.name, &input.dims));
        }
        // Outputs keep their names, where a node writes them.
        let written: HashSet<ValueId> = self.graph.nodes.iter().map(|node| node.output).collect();
        for output in &self.graph.outputs {
            if !self.used.insert(output.name.clone()) {
                return Err(Error::invalid("output name", "a name of its own", &output.name));
            }
            if written.contains(&output.value) {
                self.names.entry(output.value).or_insert_with(|| output.name.clone());
            }
        }
        for (&id, tensor) in &self.graph.constants {
            let name = self.name(id);
            self.proto.initializer.push(constant(&name, tensor));
        }
        for node in &self.graph.nodes {
            write_op::write(self, node).map_err(|e| e.in_node(&node.name, node.op.name()))?;
        }
        for output in &self.graph.outputs {
            let name = self.name(output.value);
            if name != output.name {
                self.node("Identity", &[&name], &output.name, vec![]);
            }
        }
        let ranks = ranks(self.graph)?;
        for (output, dims) in self.graph.outputs.iter().zip(ranks) {
            self.proto.output.push(info(&output.name, &dims));
        }
        Ok(())
    }

    /// The name of a value in the model.
    pub(crate) fn name(&mut self, id: ValueId) -> String {
        if let Some(name) = self.names.get(&id) {
            return name.clone();
        }
        let name = self.unique(&self.graph.values[id.0]);
        self.names.insert(id, name.clone());
        name
    }

    /// A name that nothing else has.
    pub(crate) fn unique(&mut self, wish: &str) -> String {
        let wish = if wish.is_empty() { "value" } else { wish };
        let mut name = wish.to_owned();
        let mut count = self.used.len();
        while !self.used.insert(name.clone()) {
            name = format!("{wish}_{count}");
            count += 1;
        }
        name
    }

    pub(crate) fn node(
        &mut self,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.node_of(op, inputs, vec![output.into()], attribute);
    }

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

    /// A node whose output has a name of its own, which comes back.
    pub(crate) fn step(
        &mut self,
        op: &str,
        inputs: &[&str],
        wish: &str,
        attribute: Vec<AttributeProto>,
    ) -> String {
        let output = self.unique(wish);
        self.node(op, inputs, &output, attribute);
        output
    }

    pub(crate) fn list(&mut self, wish: &str, values: &[i64]) -> String {
        self.tensor(wish, &Tensor::list(values))
    }

    pub(crate) fn tensor(&mut self, wish: &str, tensor: &Tensor) -> String {
        let name = self.unique(wish);
        self.proto.initializer.push(constant(&name, tensor));
        name
    }

    /// Integer weights with these dims (OIHW, or O and I of a matrix), dequantised; the name of the result.
    pub(crate) fn integers(
        &mut self,
        wish: &str,
        weights: &DsConvWeights,
        dims: &[usize],
    ) -> Result<String> {
        let blocks = weights.blocks();
        let mut shift_dims = dims.to_vec();
        shift_dims[1] = blocks.count as usize;
        let narrow = weights.format().bits() <= 4;
        let zeros = zero_points(weights, narrow);
        // A last block that is shorter is ONNX's own; one that is longer is not.
        let fixed = weights.format().partition() == Partition::Fixed || blocks.count == 1;
        let q = self.integer_tensor(&format!("{wish}.q"), dims, weights.q(), narrow);
        let result = self.unique(&format!("{wish}.weight"));
        let summand = if zeros.is_none() { weights.kds_bias() } else { None };
        let spread = |exporter: &mut Self, wish: &str, shifts: &[f32]| -> Result<String> {
            let shifts = exporter.tensor(wish, &Tensor::f32(shift_dims.clone(), shifts.to_vec())?);
            let of: Vec<i64> = (0..blocks.channels).map(|c| i64::from(blocks.of(c))).collect();
            let of = exporter.list(&format!("{wish}.blocks"), &of);
            Ok(exporter.step(
                "Gather",
                &[&shifts, &of],
                &format!("{wish}.channels"),
                vec![int("axis", 1)],
            ))
        };
        let last = |exporter: &mut Self, done: bool, part: &str| {
            if done { result.clone() } else { exporter.unique(&format!("{wish}.{part}")) }
        };
        let mut current = last(self, fixed && summand.is_none(), "scaled");
        if fixed {
            let alpha = Tensor::f32(shift_dims.clone(), weights.alpha().to_vec())?;
            let alpha = self.tensor(&format!("{wish}.alpha"), &alpha);
            let mut inputs = vec![q, alpha];
            if let Some(zeros) = &zeros {
                inputs.push(self.integer_tensor(
                    &format!("{wish}.zero"),
                    &shift_dims,
                    zeros,
                    narrow,
                ));
            }
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let size = i64::from(blocks.size);
            let attributes = vec![int("axis", 1), int("block_size", size)];
            self.node("DequantizeLinear", &inputs, &current, attributes);
        } else {
            let one = self.tensor(&format!("{wish}.one"), &Tensor::scalar(1.0));
            let whole =
                self.step("DequantizeLinear", &[&q, &one], &format!("{wish}.float"), vec![]);
            let alpha = spread(self, &format!("{wish}.alpha"), weights.alpha())?;
            current = last(self, weights.kds_bias().is_none(), "scaled");
            self.node("Mul", &[&whole, &alpha], &current, vec![]);
        }
        if let Some(kds_bias) = if fixed { summand } else { weights.kds_bias() } {
            let kds_bias = spread(self, &format!("{wish}.kds_bias"), kds_bias)?;
            self.node("Add", &[&current, &kds_bias], &result, vec![]);
        }
        let format = serde_json::to_string(weights.format())
            .map_err(|e| Error::format("metadata_props", e))?;
        self.metadata
            .push(StringStringEntryProto { key: format!("dsconv.{result}"), value: format });
        Ok(result)
    }

    fn integer_tensor(&mut self, wish: &str, dims: &[usize], q: &[i8], narrow: bool) -> String {
        let name = self.unique(wish);
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

fn info(name: &str, dims: &[Option<usize>]) -> ValueInfoProto {
    let dim = |(axis, dim): (usize, &Option<usize>)| match dim {
        Some(dim) => DimensionProto { dim_value: *dim as i64, dim_param: String::new() },
        None => DimensionProto { dim_value: 0, dim_param: format!("{name}_{axis}") },
    };
    let shape = TensorShapeProto { dim: dims.iter().enumerate().map(dim).collect() };
    let tensor_type = TensorTypeProto { elem_type: data_type::FLOAT, shape: Some(shape) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

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
