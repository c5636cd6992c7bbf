//! The conversion of operators that take a few lines: those that move elements, compute shapes, or hold constants.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use super::attributes::{Attributes, Converted, Refusal, refuse};
use super::context::NodeContext;
use super::data;
use super::importer::Importer;
use super::integers::{GatheredScales, QuantizedConstant};
use crate::Error;
use crate::ir::graph::{Comparison, Kind, Op, Parts, Scalar, ValueId};
use crate::ir::op::{Binary, PadMode, Unary};
use crate::ir::tensor::{Data, Tensor, usizes};
use crate::onnx::proto::data_type;
use dsconv::Activation;

/// The value itself.
pub(crate) fn identity(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.input(0)
}

/// The value itself, as this is no training; the mask is not read.
pub(crate) fn dropout(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["ratio", "seed", "is_test"]);
    context.input(0)
}

/// Adds the one node that a node of the model becomes, with the same inputs in the same order.
pub(crate) fn one_node(context: &mut NodeContext<'_, '_>, op: Op) -> Converted<ValueId> {
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

/// Operators that move elements, or make tensors of dims.
pub(crate) fn dims(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    Ok(match context.node.op_type.as_str() {
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
                Some(tensor) => {
                    let tensor = data::tensor(tensor, &context.importer.folder)?;
                    let one = match tensor.data() {
                        Data::F32(values) => values.first().copied().map(Scalar::Float),
                        Data::I64(values) => values.first().copied().map(Scalar::Integer),
                    };
                    one.filter(|_| tensor.len() == 1)
                        .ok_or_else(|| Error::invalid("value", "one number", tensor.len()))?
                }
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
        "Trilu" => Op::Triangle { upper: attributes.int("upper")?.unwrap_or(1) != 0 },
        _ => return Err(Refusal::Operator),
    })
}

/// Ones on a diagonal: the triangle above it, and of that the one below it.
pub(crate) fn eye_like(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let kind = match context.attributes.int("dtype")? {
        None => context.importer.kind(x),
        Some(code) => kind_of(code)?,
    };
    let diagonal = context.attributes.int("k")?.unwrap_or(0);
    let diagonal = context.importer.number(diagonal)?;
    let dims = context.dims(x, 0, None)?;
    let mut y = context.push(Op::ConstantOfShape { value: Scalar::Float(1.0) }, [dims])?;
    for upper in [true, false] {
        y = context.push(Op::Triangle { upper }, [y, diagonal])?;
    }
    match kind {
        Kind::Float => Ok(y),
        to => context.push(Op::Cast { to }, [y]),
    }
}

/// Operators that are a few others.
pub(crate) fn arithmetic(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    match context.node.op_type.as_str() {
        "CastLike" => {
            context.attributes.ignore(&["saturate", "round_mode"]);
            let to = context.importer.kind(b);
            context.push(Op::Cast { to }, [a])
        }
        "Xor" => {
            let same = context.push(Op::Compare(Comparison::Equal), [a, b])?;
            context.push(Op::Not, [same])
        }
        // Mod: the rest has the sign of b, unless it is that of C's function.
        _ => {
            let rest = context.binary(Binary::Remainder, a, b)?;
            if context.attributes.flag("fmod")? {
                return Ok(rest);
            }
            let rest = context.binary(Binary::Add, rest, b)?;
            context.binary(Binary::Remainder, rest, b)
        }
    }
}

fn block(attributes: &Attributes<'_>) -> Converted<u32> {
    let size = attributes.int("blocksize")?.unwrap_or(0);
    u32::try_from(size).map_err(|_| Error::invalid("blocksize", "a positive number", size).into())
}

fn cast(attributes: &Attributes<'_>) -> Converted<Kind> {
    attributes.ignore(&["saturate", "round_mode"]);
    kind_of(attributes.int("to")?.unwrap_or(0))
}

/// The kind that a type's number stands for.
fn kind_of(code: i64) -> Converted<Kind> {
    let code = i32::try_from(code).unwrap_or(0);
    match data::kind(code) {
        Some(kind) => Ok(kind),
        None => refuse(format!("to {}", data_type::name(code))),
    }
}

/// A constant.
pub(crate) fn constant(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
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

/// Bounds, which the run may compute.
pub(crate) fn clip(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    if context.opset() >= 11 {
        let (low, high) = (context.optional(1)?, context.optional(2)?);
        let known = |bound: Option<ValueId>| {
            bound.is_none_or(|bound| {
                context.importer.kind(x).is_float() && context.constant(bound).is_some()
            })
        };
        if !known(low) || !known(high) {
            let mut y = x;
            if let Some(low) = low {
                y = context.binary(Binary::Max, y, low)?;
            }
            return match high {
                Some(high) => context.binary(Binary::Min, y, high),
                None => Ok(y),
            };
        }
    }
    let op = bounds(context)?;
    context.push(op, [x])
}

fn bounds(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
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

/// A function of any number of tensors.
pub(crate) fn variadic(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let op = match context.node.op_type.as_str() {
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        _ => Binary::Add,
    };
    let inputs = context.inputs()?;
    let mut y = context.input(0)?;
    for &x in inputs.iter().skip(1) {
        y = context.binary(op, y, x)?;
    }
    if context.node.op_type == "Mean" {
        let count = context.importer.scalar(inputs.len() as f32);
        y = context.binary(Binary::Div, y, count)?;
    }
    Ok(y)
}

/// Parts of a tensor.
pub(crate) fn split(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
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
            let mut next = 0usize;
            let part = |&length: &usize| {
                let start = next;
                next = next.saturating_add(length);
                Parts::Range { start, length, whole }
            };
            lengths.iter().map(part).collect()
        }
    };
    let x = context.input(0)?;
    parts.into_iter().map(|part| context.push(Op::Part { axis, part }, [x])).collect()
}

/// A part of a tensor.
pub(crate) fn slice(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
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
    let from = context.input(1)?;
    inputs.extend([from, context.input(2)?]);
    let steps = context.optional(4)?;
    match (context.optional(3)?, steps) {
        (Some(axes), steps) => {
            inputs.push(axes);
            inputs.extend(steps);
        }
        (None, None) => {}
        (None, Some(steps)) => {
            let Some(starts) = context.constant(from).map(Tensor::len) else {
                return refuse("steps without axes, and starts that are not constant");
            };
            inputs.push(context.importer.list((0..starts as i64).collect::<Vec<_>>()));
            inputs.push(steps);
        }
    }
    context.push(Op::Slice, inputs)
}

/// A margin.
pub(crate) fn pad(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let mode = context.attributes.string("mode", "constant")?;
    let (widths, value) = if context.opset() < 11 {
        let widths = context.attributes.ints("pads")?.unwrap_or_default();
        (context.importer.list(widths), context.attributes.float("value")?)
    } else {
        (context.input(1)?, context.known_number(2, "constant_value")?)
    };
    let mode = match mode {
        "constant" => PadMode::Constant(value.unwrap_or(0.0).clamp(f32::MIN, f32::MAX)),
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" => PadMode::Wrap,
        mode => return refuse(format!("mode {mode}")),
    };
    let mut inputs = vec![x, widths];
    inputs.extend(context.optional(3)?);
    context.push(Op::Pad { mode }, inputs)
}
