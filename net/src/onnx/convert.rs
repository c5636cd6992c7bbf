//! The operators of a model as operators of a graph.

use super::data;
use super::import::Importer;
use super::node::{Attributes, Converted, Refusal, refuse};
use super::proto::{NodeProto, data_type};
use super::quantized::{Gathered, Quantized};
use super::{composed, quantized, spatial};
use crate::Error;
use crate::graph::{Comparison, Kind, Op, Parts, Scalar, ValueId};
use crate::op::{Binary, PadMode, Reduction, Unary};
use crate::tensor::{Data, Tensor};
use dsconv::Activation;

/// A node and what is needed to convert it.
pub(crate) struct At<'i, 'a> {
    pub(crate) importer: &'i mut Importer<'a>,
    pub(crate) node: &'a NodeProto,
    pub(crate) attributes: &'i Attributes<'a>,
}

impl At<'_, '_> {
    /// A required input.
    pub(crate) fn input(&mut self, index: usize) -> Converted<ValueId> {
        match self.optional(index)? {
            Some(value) => Ok(value),
            None => {
                let (op, got) = (&self.node.op_type, self.node.input.len());
                Err(Error::invalid(format!("inputs of {op}"), format!("input {index}"), got).into())
            }
        }
    }

    pub(crate) fn optional(&mut self, index: usize) -> Converted<Option<ValueId>> {
        match self.node.input.get(index) {
            Some(name) if !name.is_empty() => Ok(Some(self.importer.value(name)?)),
            _ => Ok(None),
        }
    }

    fn inputs(&mut self) -> Converted<Vec<ValueId>> {
        (0..self.node.input.len()).map(|index| self.input(index)).collect()
    }

    pub(crate) fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.importer.graph.constants.get(&value)
    }

    /// An input that must be known.
    pub(crate) fn known(&mut self, index: usize, what: &str) -> Converted<Option<Tensor>> {
        let Some(value) = self.optional(index)? else { return Ok(None) };
        match self.constant(value) {
            Some(tensor) => Ok(Some(tensor.clone())),
            None => refuse(format!("{what} that the run computes")),
        }
    }

    fn known_ints(&mut self, index: usize, what: &str) -> Converted<Option<Vec<i64>>> {
        match self.known(index, what)? {
            Some(tensor) => Ok(Some(tensor.integers(what)?.to_vec())),
            None => Ok(None),
        }
    }

    fn known_float(&mut self, index: usize, what: &str) -> Converted<Option<f32>> {
        match self.known(index, what)? {
            Some(tensor) => match tensor.floats(what)? {
                &[value] => Ok(Some(value)),
                values => Err(Error::invalid(what, "one number", values.len()).into()),
            },
            None => Ok(None),
        }
    }

    pub(crate) fn push(&mut self, op: Op, inputs: impl Into<Vec<ValueId>>) -> Converted<ValueId> {
        Ok(self.importer.push(op, inputs)?)
    }

    pub(crate) fn binary(&mut self, op: Binary, a: ValueId, b: ValueId) -> Converted<ValueId> {
        self.push(Op::Binary(op), [a, b])
    }

    pub(crate) fn opset(&self) -> i64 {
        self.importer.opset
    }

    /// Axes, as an attribute or (from that operator set on) as an input.
    pub(crate) fn axes(&mut self, input_since: i64) -> Converted<Vec<i64>> {
        if self.opset() < input_since {
            return Ok(self.attributes.ints("axes")?.unwrap_or_default().to_vec());
        }
        Ok(self.known_ints(1, "axes")?.unwrap_or_default())
    }
}

/// The values that a node writes, in its outputs' order.
pub(crate) fn convert<'a>(
    importer: &mut Importer<'a>,
    node: &'a NodeProto,
    attributes: &Attributes<'a>,
) -> Converted<Vec<ValueId>> {
    let mut at = At { importer, node, attributes };
    let op = match node.op_type.as_str() {
        "Constant" => return constant(&mut at),
        "Identity" => return at.input(0).map(|x| vec![x]),
        "Dropout" => {
            attributes.ignore(&["ratio", "seed", "is_test"]);
            return at.input(0).map(|x| vec![x]);
        }
        "Split" => return split(&mut at),
        "Conv" => return spatial::conv(&mut at).map(|y| vec![y]),
        "ConvTranspose" => return spatial::conv_transpose(&mut at).map(|y| vec![y]),
        "MaxPool" | "AveragePool" => return spatial::pool(&mut at).map(|y| vec![y]),
        "Gemm" => return spatial::gemm(&mut at).map(|y| vec![y]),
        "MatMul" => return spatial::matmul(&mut at).map(|y| vec![y]),
        "QuantizeLinear" => return quantized::quantize(&mut at).map(|y| vec![y]),
        "DequantizeLinear" => return quantized::dequantize(&mut at).map(|y| vec![y]),
        "Clip" => clip(&mut at)?,
        "Sum" | "Min" | "Max" | "Mean" => return variadic(&mut at).map(|y| vec![y]),
        "BatchNormalization" => return composed::batch_norm(&mut at).map(|y| vec![y]),
        "InstanceNormalization" => return composed::instance_norm(&mut at).map(|y| vec![y]),
        "LayerNormalization" => return composed::layer_norm(&mut at).map(|y| vec![y]),
        "Gelu" | "Mish" | "Swish" | "LogSoftmax" | "ReduceL2" | "ReduceSumSquare" => {
            return composed::composed(&mut at).map(|y| vec![y]);
        }
        "Slice" => return slice(&mut at).map(|y| vec![y]),
        "Resize" | "Upsample" => return spatial::resize(&mut at).map(|y| vec![y]),
        "Pad" => return pad(&mut at).map(|y| vec![y]),
        _ => simple(&mut at)?,
    };
    // Operators whose inputs are the graph's, in the same order.
    let count = match op {
        Op::Unary(_) | Op::Reduce { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => 1,
        _ => node.input.len(),
    };
    let inputs = (0..count).map(|index| at.input(index)).collect::<Converted<Vec<_>>>()?;
    if inputs.is_empty() {
        return Err(Error::invalid("inputs", "at least one", 0).into());
    }
    let y = at.push(op.clone(), inputs.clone())?;
    let name = node.output.first().map_or("", String::as_str);
    note_quantized(at.importer, name, &op, &inputs, y);
    Ok(vec![y])
}

/// Keeps track of integers and their shifts through the nodes that this crate's export writes.
fn note_quantized(
    importer: &mut Importer<'_>,
    name: &str,
    op: &Op,
    inputs: &[ValueId],
    y: ValueId,
) {
    let quantized = |id: &ValueId| importer.quantized.get(id);
    let gathered = |id: &ValueId| importer.gathered.get(id);
    let found = match (op, inputs) {
        (Op::Transpose { permutation }, [x]) if permutation[..] == [1, 0] => {
            quantized(x).and_then(Quantized::turned)
        }
        (Op::Binary(binary @ (Binary::Add | Binary::Mul)), [a, b]) => {
            let pair = quantized(a).zip(gathered(b));
            pair.and_then(|(q, shifts)| q.with_gathered(shifts, *binary == Binary::Add))
        }
        (Op::Gather { axis }, [x, indices]) => {
            let constants = &importer.graph.constants;
            let pair = constants.get(x).zip(constants.get(indices));
            if let Some(found) = pair.and_then(|(x, of)| Gathered::new(x, of, *axis)) {
                importer.gathered.insert(y, found);
            }
            None
        }
        _ => None,
    };
    if let Some(found) = found {
        importer.note_quantized(y, name, found);
    }
}

fn simple(at: &mut At<'_, '_>) -> Converted<Op> {
    let attributes = at.attributes;
    let activation = |activation| Op::Unary(Unary::Activation(activation));
    let opset = at.opset();
    Ok(match at.node.op_type.as_str() {
        "Relu" => activation(Activation::Relu),
        "Sigmoid" => activation(Activation::Sigmoid),
        "HardSwish" => activation(Activation::HardSwish),
        "LeakyRelu" => {
            activation(Activation::LeakyRelu(attributes.float("alpha")?.unwrap_or(0.01)))
        }
        "HardSigmoid" => Op::Unary(Unary::HardSigmoid {
            alpha: attributes.float("alpha")?.unwrap_or(0.2),
            beta: attributes.float("beta")?.unwrap_or(0.5),
        }),
        "Elu" => Op::Unary(Unary::Elu(attributes.float("alpha")?.unwrap_or(1.0))),
        "Softplus" => Op::Unary(Unary::Softplus),
        "Exp" => Op::Unary(Unary::Exp),
        "Log" => Op::Unary(Unary::Log),
        "Sqrt" => Op::Unary(Unary::Sqrt),
        "Reciprocal" => Op::Unary(Unary::Reciprocal),
        "Neg" => Op::Unary(Unary::Neg),
        "Abs" => Op::Unary(Unary::Abs),
        "Tanh" => Op::Unary(Unary::Tanh),
        "Erf" => Op::Unary(Unary::Erf),
        "Floor" => Op::Unary(Unary::Floor),
        "Ceil" => Op::Unary(Unary::Ceil),
        "Round" => Op::Unary(Unary::Round),
        "Sin" => Op::Unary(Unary::Sin),
        "Cos" => Op::Unary(Unary::Cos),
        "Add" => Op::Binary(Binary::Add),
        "Sub" => Op::Binary(Binary::Sub),
        "Mul" => Op::Binary(Binary::Mul),
        "Div" => Op::Binary(Binary::Div),
        "Pow" => Op::Binary(Binary::Pow),
        "PRelu" => Op::Binary(Binary::PRelu),
        "GlobalAveragePool" => Op::GlobalAverage,
        "GlobalMaxPool" => Op::GlobalMax,
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => {
            let (reduction, since) = match at.node.op_type.as_str() {
                "ReduceMean" => (Reduction::Mean, 18),
                "ReduceSum" => (Reduction::Sum, 13),
                "ReduceMax" => (Reduction::Max, 18),
                _ => (Reduction::Min, 18),
            };
            let axes = at.axes(since)?;
            if axes.is_empty() && at.attributes.flag("noop_with_empty_axes")? {
                return refuse("noop_with_empty_axes without axes");
            }
            Op::Reduce { reduction, axes, keep: attributes.int("keepdims")?.unwrap_or(1) != 0 }
        }
        "Softmax" => {
            let flatten = opset < 13;
            let default = if flatten { 1 } else { -1 };
            Op::Softmax { axis: attributes.int("axis")?.unwrap_or(default), flatten }
        }
        "Concat" => match attributes.int("axis")? {
            Some(axis) => Op::Concat { axis },
            None => return Err(Error::invalid("axis", "an attribute", "none").into()),
        },
        "Gather" => Op::Gather { axis: attributes.int("axis")?.unwrap_or(0) },
        "Reshape" => Op::Reshape { allow_zero: attributes.flag("allowzero")? },
        "Flatten" => Op::Flatten { axis: attributes.int("axis")?.unwrap_or(1) },
        "Squeeze" => Op::Squeeze { axes: at.axes(13)? },
        "Unsqueeze" => Op::Unsqueeze { axes: at.axes(13)? },
        "Transpose" => {
            Op::Transpose { permutation: attributes.ints("perm")?.unwrap_or_default().to_vec() }
        }
        "Expand" => Op::Expand,
        "Tile" => Op::Tile,
        "Shape" => {
            Op::Shape { start: attributes.int("start")?.unwrap_or(0), end: attributes.int("end")? }
        }
        "Size" => Op::Size,
        "Cast" => Op::Cast { to: cast(attributes)? },
        "ConstantOfShape" => Op::ConstantOfShape {
            value: match attributes.tensor("value")? {
                None => Scalar::Float(0.0),
                Some(tensor) => match data::tensor(tensor, at.importer.folder)?.data() {
                    Data::F32(values) if values.len() == 1 => Scalar::Float(values[0]),
                    Data::I64(values) if values.len() == 1 => Scalar::Integer(values[0]),
                    _ => return Err(Error::invalid("value", "one number", "more").into()),
                },
            },
        },
        "Range" => Op::Range,
        "Equal" => Op::Compare(Comparison::Equal),
        "Less" => Op::Compare(Comparison::Less),
        "Greater" => Op::Compare(Comparison::Greater),
        "LessOrEqual" => Op::Compare(Comparison::LessOrEqual),
        "GreaterOrEqual" => Op::Compare(Comparison::GreaterOrEqual),
        "And" => Op::Compare(Comparison::And),
        "Or" => Op::Compare(Comparison::Or),
        "Not" => Op::Not,
        "Where" => Op::Where,
        "DepthToSpace" => Op::DepthToSpace {
            block: block(attributes)?,
            blocks_first: match attributes.string("mode", "DCR")? {
                "DCR" => true,
                "CRD" => false,
                mode => return refuse(format!("mode {mode}")),
            },
        },
        "SpaceToDepth" => Op::SpaceToDepth { block: block(attributes)? },
        _ => return Err(Refusal::Operator),
    })
}

fn block(attributes: &Attributes<'_>) -> Converted<u32> {
    let size = attributes.int("blocksize")?.unwrap_or(0);
    u32::try_from(size).map_err(|_| Error::invalid("blocksize", "a positive number", size).into())
}

fn cast(attributes: &Attributes<'_>) -> Converted<Kind> {
    attributes.ignore(&["saturate"]);
    let to = attributes.int("to")?.and_then(|to| i32::try_from(to).ok()).unwrap_or(0);
    Ok(match to {
        to if data::is_float(to) => Kind::Float,
        data_type::BOOL => Kind::Bool,
        data_type::INT32 | data_type::INT64 => Kind::Integer,
        to => return refuse(format!("to {}", data_type::name(to))),
    })
}

fn constant(at: &mut At<'_, '_>) -> Converted<Vec<ValueId>> {
    let attributes = at.attributes;
    if let Some(tensor) = attributes.tensor("value")? {
        let Some(name) = at.node.output.first() else { return Ok(Vec::new()) };
        at.importer.bind_tensor(name, tensor)?;
        return Ok(Vec::new());
    }
    let tensor = if let Some(value) = attributes.float("value_float")? {
        Tensor::scalar(value)
    } else if let Some(value) = attributes.int("value_int")? {
        Tensor::i64([], vec![value])?
    } else if let Some(values) = attributes.floats("value_floats")? {
        Tensor::f32([values.len()], values.to_vec())?
    } else if let Some(values) = attributes.ints("value_ints")? {
        Tensor::list(values)
    } else {
        return refuse("a value that is no tensor and no number");
    };
    Ok(vec![at.importer.constant(at.importer.node.clone(), tensor)])
}

fn clip(at: &mut At<'_, '_>) -> Converted<Op> {
    let (low, high) = if at.opset() < 11 {
        (at.attributes.float("min")?, at.attributes.float("max")?)
    } else {
        (at.known_float(1, "min")?, at.known_float(2, "max")?)
    };
    // Infinities would not survive JSON, and the ends of the floats do the same.
    let finite = |end: Option<f32>, default: f32| end.unwrap_or(default).clamp(f32::MIN, f32::MAX);
    let (low, high) = (finite(low, f32::MIN), finite(high, f32::MAX));
    Ok(Op::Unary(Unary::Activation(if low == 0.0 && high == 6.0 {
        Activation::Relu6
    } else if low <= high {
        Activation::Clamp { low, high }
    } else {
        // ONNX: the upper end wins.
        Activation::Clamp { low: high, high }
    })))
}

fn variadic(at: &mut At<'_, '_>) -> Converted<ValueId> {
    let op = match at.node.op_type.as_str() {
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => Binary::Add,
    };
    let inputs = at.inputs()?;
    let mut y = at.input(0)?;
    for &x in &inputs[1..] {
        y = at.binary(op, y, x)?;
    }
    if at.node.op_type == "Mean" {
        let count = at.importer.scalar(inputs.len() as f32);
        y = at.binary(Binary::Div, y, count)?;
    }
    Ok(y)
}

fn split(at: &mut At<'_, '_>) -> Converted<Vec<ValueId>> {
    let axis = at.attributes.int("axis")?.unwrap_or(0);
    let lengths = if at.opset() < 13 {
        at.attributes.ints("split")?.map(<[i64]>::to_vec)
    } else {
        at.known_ints(1, "split")?
    };
    let count = at.node.output.len();
    if let Some(outputs) = at.attributes.int("num_outputs")?
        && outputs != count as i64
    {
        return Err(Error::invalid("num_outputs", count.to_string(), outputs).into());
    }
    let parts: Vec<Parts> = match lengths {
        None => (0..count).map(|index| Parts::Equal { index, count }).collect(),
        Some(lengths) => {
            let lengths = crate::lower::usizes(&lengths, "split")?;
            let whole = lengths.iter().try_fold(0usize, |sum, &length| sum.checked_add(length));
            let whole = whole.filter(|_| lengths.len() == count).ok_or_else(|| {
                Error::invalid("split", format!("{count} lengths"), format!("{lengths:?}"))
            })?;
            let mut start = 0;
            let part = |&length: &usize| {
                start += length;
                Parts::Range { start: start - length, length, whole }
            };
            lengths.iter().map(part).collect()
        }
    };
    let x = at.input(0)?;
    parts.into_iter().map(|part| at.push(Op::Part { axis, part }, [x])).collect()
}

fn slice(at: &mut At<'_, '_>) -> Converted<ValueId> {
    let x = at.input(0)?;
    let mut inputs = vec![x];
    if at.opset() < 10 {
        for name in ["starts", "ends", "axes"] {
            match at.attributes.ints(name)? {
                Some(values) => inputs.push(at.importer.list(values)),
                None if name == "axes" => {}
                None => return Err(Error::invalid(name, "an attribute", "none").into()),
            }
        }
        return at.push(Op::Slice, inputs);
    }
    inputs.extend([at.input(1)?, at.input(2)?]);
    let steps = at.optional(4)?;
    match (at.optional(3)?, steps) {
        (Some(axes), steps) => {
            inputs.push(axes);
            inputs.extend(steps);
        }
        (None, None) => {}
        (None, Some(steps)) => {
            let Some(starts) = at.constant(inputs[1]).map(Tensor::len) else {
                return refuse("steps without axes, and starts that are not constant");
            };
            inputs.push(at.importer.list((0..starts as i64).collect::<Vec<_>>()));
            inputs.push(steps);
        }
    }
    at.push(Op::Slice, inputs)
}

fn pad(at: &mut At<'_, '_>) -> Converted<ValueId> {
    let x = at.input(0)?;
    let mode = at.attributes.string("mode", "constant")?;
    let (widths, value) = if at.opset() < 11 {
        let widths = at.attributes.ints("pads")?.unwrap_or_default();
        (at.importer.list(widths), at.attributes.float("value")?)
    } else {
        (at.input(1)?, at.known_float(2, "constant_value")?)
    };
    let mode = match mode {
        "constant" => PadMode::Constant(value.unwrap_or(0.0).clamp(f32::MIN, f32::MAX)),
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        mode => return refuse(format!("mode {mode}")),
    };
    let mut inputs = vec![x, widths];
    inputs.extend(at.optional(3)?);
    at.push(Op::Pad { mode }, inputs)
}
