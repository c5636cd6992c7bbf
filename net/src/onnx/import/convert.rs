//! The conversion of every operator: which operators of a graph it becomes.

use super::attributes::{Attributes, Converted, Refusal, refuse};
use super::context::NodeContext;
use super::importer::Importer;
use super::integers::{GatheredScales, QuantizedConstant};
use super::{composed, data, quantized, spatial};
use crate::Error;
use crate::ir::graph::{Kind, Op, Parts, Scalar, ValueId};
use crate::ir::op::{Binary, PadMode, Reduction, Unary};
use crate::ir::tensor::{Data, Tensor, usizes};
use crate::onnx::plain;
use crate::onnx::proto::{NodeProto, data_type};
use dsconv::Activation;

/// The values that a node writes, in its outputs' order.
pub(crate) fn convert<'a>(
    importer: &mut Importer<'a>,
    node: &'a NodeProto,
    attributes: &Attributes<'a>,
) -> Converted<Vec<ValueId>> {
    let mut context = NodeContext { importer, node, attributes };
    let context = &mut context;
    let y = match node.op_type.as_str() {
        "Constant" => return constant(context),
        "Split" => return split(context),
        "Identity" => context.input(0)?,
        "Dropout" => {
            attributes.ignore(&["ratio", "seed", "is_test"]);
            context.input(0)?
        }
        "Conv" => spatial::conv(context)?,
        "ConvTranspose" => spatial::conv_transpose(context)?,
        "MaxPool" | "AveragePool" => spatial::pool(context)?,
        "Gemm" => spatial::gemm(context)?,
        "MatMul" => spatial::matmul(context)?,
        "Resize" | "Upsample" => spatial::resize(context)?,
        "QuantizeLinear" => quantized::quantize(context)?,
        "DequantizeLinear" => quantized::dequantize(context)?,
        "Sum" | "Min" | "Max" | "Mean" => variadic(context)?,
        "BatchNormalization" => composed::batch_norm(context)?,
        "InstanceNormalization" => composed::instance_norm(context)?,
        "LayerNormalization" => composed::layer_norm(context)?,
        "Gelu" | "Mish" | "Swish" | "LogSoftmax" | "ReduceL2" | "ReduceSumSquare" => {
            composed::composed(context)?
        }
        "Slice" => slice(context)?,
        "Pad" => pad(context)?,
        "Clip" => {
            let op = clip(context)?;
            one_node(context, op)?
        }
        _ => {
            let op = simple(context)?;
            one_node(context, op)?
        }
    };
    Ok(vec![y])
}

/// Adds the one node that a node of the model becomes, with the same inputs in the same order.
fn one_node(context: &mut NodeContext<'_, '_>, op: Op) -> Converted<ValueId> {
    let node = context.node;
    // Further inputs of these are fields of the operator.
    let count = match op {
        Op::Unary(_) | Op::Reduce { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => 1,
        _ => node.input.len(),
    };
    let inputs = (0..count).map(|index| context.input(index)).collect::<Converted<Vec<_>>>()?;
    if inputs.is_empty() {
        return Err(Error::invalid("inputs", "at least one", 0).into());
    }
    let y = context.push(op.clone(), inputs.clone())?;
    let name = node.output.first().map_or("", String::as_str);
    note_quantized(context.importer, name, &op, &inputs, y);
    Ok(y)
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
            quantized(x).and_then(QuantizedConstant::transposed)
        }
        (Op::Binary(binary @ (Binary::Add | Binary::Mul)), [a, b]) => {
            let pair = quantized(a).zip(gathered(b));
            pair.and_then(|(q, shifts)| q.with_gathered(shifts, *binary == Binary::Add))
        }
        (Op::Gather { axis }, [x, indices]) => {
            let constants = &importer.graph.constants;
            let pair = constants.get(x).zip(constants.get(indices));
            if let Some(found) = pair.and_then(|(x, of)| GatheredScales::new(x, of, *axis)) {
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

/// The one operator that a node becomes whose inputs are the same.
fn simple(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    let activation = |activation| Op::Unary(Unary::Activation(activation));
    let opset = context.opset();
    Ok(match context.node.op_type.as_str() {
        "LeakyRelu" => {
            activation(Activation::LeakyRelu(attributes.float("alpha")?.unwrap_or(0.01)))
        }
        "HardSigmoid" => Op::Unary(Unary::HardSigmoid {
            alpha: attributes.float("alpha")?.unwrap_or(0.2),
            beta: attributes.float("beta")?.unwrap_or(0.5),
        }),
        "Elu" => Op::Unary(Unary::Elu(attributes.float("alpha")?.unwrap_or(1.0))),
        "ReduceMean" | "ReduceSum" | "ReduceMax" | "ReduceMin" => {
            let (reduction, since) = match context.node.op_type.as_str() {
                "ReduceMean" => (Reduction::Mean, 18),
                "ReduceSum" => (Reduction::Sum, 13),
                "ReduceMax" => (Reduction::Max, 18),
                _ => (Reduction::Min, 18),
            };
            let axes = context.axes(since)?;
            if axes.is_empty() && context.attributes.flag("noop_with_empty_axes")? {
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
        "Squeeze" => Op::Squeeze { axes: context.axes(13)? },
        "Unsqueeze" => Op::Unsqueeze { axes: context.axes(13)? },
        "Transpose" => {
            Op::Transpose { permutation: attributes.ints("perm")?.unwrap_or_default().to_vec() }
        }
        "Shape" => {
            Op::Shape { start: attributes.int("start")?.unwrap_or(0), end: attributes.int("end")? }
        }
        "Cast" => Op::Cast { to: cast(attributes)? },
        "ConstantOfShape" => Op::ConstantOfShape {
            value: match attributes.tensor("value")? {
                None => Scalar::Float(0.0),
                Some(tensor) => match data::tensor(tensor, context.importer.folder)?.data() {
                    Data::F32(values) if values.len() == 1 => Scalar::Float(values[0]),
                    Data::I64(values) if values.len() == 1 => Scalar::Integer(values[0]),
                    _ => return Err(Error::invalid("value", "one number", "more").into()),
                },
            },
        },
        "DepthToSpace" => Op::DepthToSpace {
            block: block(attributes)?,
            blocks_first: match attributes.string("mode", "DCR")? {
                "DCR" => true,
                "CRD" => false,
                mode => return refuse(format!("mode {mode}")),
            },
        },
        "SpaceToDepth" => Op::SpaceToDepth { block: block(attributes)? },
        name => plain::operator(name).cloned().ok_or(Refusal::Operator)?,
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

fn constant(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let attributes = context.attributes;
    if let Some(tensor) = attributes.tensor("value")? {
        let Some(name) = context.node.output.first() else { return Ok(Vec::new()) };
        context.importer.bind_tensor(name, tensor)?;
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
    Ok(vec![context.importer.constant(context.importer.node.clone(), tensor)])
}

fn clip(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let (low, high) = if context.opset() < 11 {
        (context.attributes.float("min")?, context.attributes.float("max")?)
    } else {
        (context.known_float(1, "min")?, context.known_float(2, "max")?)
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

fn variadic(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let op = match context.node.op_type.as_str() {
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => Binary::Add,
    };
    let inputs = context.inputs()?;
    let mut y = context.input(0)?;
    for &x in &inputs[1..] {
        y = context.binary(op, y, x)?;
    }
    if context.node.op_type == "Mean" {
        let count = context.importer.scalar(inputs.len() as f32);
        y = context.binary(Binary::Div, y, count)?;
    }
    Ok(y)
}

fn split(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let axis = context.attributes.int("axis")?.unwrap_or(0);
    let lengths = if context.opset() < 13 {
        context.attributes.ints("split")?.map(<[i64]>::to_vec)
    } else {
        context.known_ints(1, "split")?
    };
    let count = context.node.output.len();
    if let Some(outputs) = context.attributes.int("num_outputs")?
        && outputs != count as i64
    {
        return Err(Error::invalid("num_outputs", count.to_string(), outputs).into());
    }
    let parts: Vec<Parts> = match lengths {
        None => (0..count).map(|index| Parts::Equal { index, count }).collect(),
        Some(lengths) => {
            let lengths = usizes(&lengths, "split")?;
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
    let x = context.input(0)?;
    parts.into_iter().map(|part| context.push(Op::Part { axis, part }, [x])).collect()
}

fn slice(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let mut inputs = vec![x];
    if context.opset() < 10 {
        for name in ["starts", "ends", "axes"] {
            match context.attributes.ints(name)? {
                Some(values) => inputs.push(context.importer.list(values)),
                None if name == "axes" => {}
                None => return Err(Error::invalid(name, "an attribute", "none").into()),
            }
        }
        return context.push(Op::Slice, inputs);
    }
    inputs.extend([context.input(1)?, context.input(2)?]);
    let steps = context.optional(4)?;
    match (context.optional(3)?, steps) {
        (Some(axes), steps) => {
            inputs.push(axes);
            inputs.extend(steps);
        }
        (None, None) => {}
        (None, Some(steps)) => {
            let Some(starts) = context.constant(inputs[1]).map(Tensor::len) else {
                return refuse("steps without axes, and starts that are not constant");
            };
            inputs.push(context.importer.list((0..starts as i64).collect::<Vec<_>>()));
            inputs.push(steps);
        }
    }
    context.push(Op::Slice, inputs)
}

fn pad(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let mode = context.attributes.string("mode", "constant")?;
    let (widths, value) = if context.opset() < 11 {
        let widths = context.attributes.ints("pads")?.unwrap_or_default();
        (context.importer.list(widths), context.attributes.float("value")?)
    } else {
        (context.input(1)?, context.known_float(2, "constant_value")?)
    };
    let mode = match mode {
        "constant" => PadMode::Constant(value.unwrap_or(0.0).clamp(f32::MIN, f32::MAX)),
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        mode => return refuse(format!("mode {mode}")),
    };
    let mut inputs = vec![x, widths];
    inputs.extend(context.optional(3)?);
    context.push(Op::Pad { mode }, inputs)
}
