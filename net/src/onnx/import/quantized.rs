//! QuantizeLinear and DequantizeLinear: constants stay integers, values of the run become floats that hold integers.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::data;
use super::integers::{GatheredScales, QuantizedConstant};
use crate::Error;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::{Binary, Unary};
use crate::ir::tensor::{Tensor, axis_of};
use crate::onnx::proto::{TensorProto, data_type};
use dsconv::Activation;

/// Floats from integers and scales.
pub(crate) fn dequantize(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let axis = context.attributes.int("axis")?;
    let block = context.attributes.int("block_size")?.unwrap_or(0);
    context.attributes.ignore(&["output_dtype"]);
    let Some(scale) = context.known(1, "scale")? else { return refuse("no scale") };
    let raw = context.node.input.first().and_then(|name| context.importer.raw_tensor(name));
    if let Some(proto) = raw {
        let quantized = constant(context, proto, axis, block, &scale)?;
        let (dims, floats) = match &quantized {
            Ok(quantized) => (quantized.dims.clone(), quantized.floats()),
            Err(wide) => (wide.dims().to_vec(), wide.floats("x")?.to_vec()),
        };
        let name = context.node.output.first().cloned().unwrap_or_default();
        let value = context.importer.constant(name, Tensor::f32(dims, floats)?);
        if let Ok(quantized) = quantized {
            let name = context.node.output.first().map_or("", String::as_str);
            context.importer.note_quantized(value, name, quantized);
        }
        return Ok(value);
    }
    let (x, scale_id) = (context.input(0)?, context.input(1)?);
    let zero = context.known(2, "zero point")?;
    if context.constant(x).is_some() {
        return refuse("integers that other nodes computed");
    }
    if block != 0 || scale.len() != 1 {
        return refuse("a scale per channel or block, of values that the run computes");
    }
    let mut y = x;
    if let Some(zero) = zero
        && let [zero] = zero.integers("zero point")?
    {
        let zero = context.importer.scalar(*zero as f32);
        y = context.push(Op::Binary(Binary::Sub), [y, zero])?;
    }
    let scale = reshaped_scalar(context, scale_id, &scale)?;
    context.push(Op::Binary(Binary::Mul), [y, scale])
}

/// A scale of rank 0: one of rank 1 would give a scalar an axis.
fn reshaped_scalar(
    context: &mut NodeContext<'_, '_>,
    id: ValueId,
    scale: &Tensor,
) -> Converted<ValueId> {
    match scale.floats("scale")? {
        &[value] if !scale.dims().is_empty() => Ok(context.importer.scalar(value)),
        _ => Ok(id),
    }
}

/// A constant's integers with their scales; floats where they are wider than int8.
fn constant(
    context: &mut NodeContext<'_, '_>,
    proto: &TensorProto,
    axis: Option<i64>,
    block: i64,
    scale: &Tensor,
) -> Converted<Result<QuantizedConstant, Tensor>> {
    let dims = data::dims(proto)?;
    let values = data::integers(proto, context.importer.folder)?;
    context.importer.allow(values.len());
    let zero = match context.node.input.get(2).filter(|name| !name.is_empty()) {
        None => vec![0; scale.len()],
        Some(_) => {
            let zero = context.known(2, "zero point")?.unwrap_or_else(|| Tensor::list([]));
            if zero.dims() != scale.dims() {
                let (expected, got) = (format!("{:?}", scale.dims()), format!("{:?}", zero.dims()));
                return Err(Error::invalid("dims of the zero point", expected, got).into());
            }
            zero.integers("zero point")?.to_vec()
        }
    };
    let block =
        usize::try_from(block).map_err(|_| Error::invalid("block_size", "0 or more", block))?;
    let single = scale.len() == 1 && block == 0;
    let axis = if single || dims.is_empty() { 0 } else { axis_of(axis.unwrap_or(1), dims.len())? };
    let mut expected = dims.clone();
    if block > 0 && !dims.is_empty() {
        expected[axis] = dims[axis].div_ceil(block);
    } else if !single {
        expected = dims.get(axis).copied().into_iter().collect();
    }
    if !single && scale.dims() != expected {
        let got = format!("{:?}", scale.dims());
        return Err(Error::invalid("dims of the scale", format!("{expected:?}"), got).into());
    }
    let scale = scale.floats("scale")?.to_vec();
    // Unsigned integers move down by half of their range, and their zero points too.
    let (offset, bits) = match proto.data_type {
        data_type::UINT8 => (128, 8),
        data_type::INT8 => (0, 8),
        data_type::UINT4 => (8, 4),
        data_type::INT4 => (0, 4),
        _ => (0, 32),
    };
    if dims.is_empty() || bits == 32 {
        let (factor, less) = (scale.first().copied(), zero.first().copied());
        let (Some(factor), Some(less), true) = (factor, less, single) else {
            return refuse("a scale per channel or block, of wide integers");
        };
        let float = |&q: &i64| (q.wrapping_sub(less) as f64 * f64::from(factor)) as f32;
        return Ok(Err(Tensor::f32(dims, values.iter().map(float).collect())?));
    }
    let narrow = |q: i64| {
        i8::try_from(q - offset).map_err(|_| Error::invalid("x", format!("{bits} bits"), q))
    };
    let q = values.into_iter().map(narrow).collect::<Result<_, _>>()?;
    let shifted = |z: i64| {
        let z = z.checked_sub(offset).and_then(|z| i32::try_from(z).ok());
        z.filter(|z| z.abs() < 1 << 20)
            .ok_or_else(|| Error::invalid("zero point", "8 bits", "more"))
    };
    let zero = zero.into_iter().map(shifted).collect::<Result<_, _>>()?;
    let block = (block > 0).then_some(block);
    let (is_transposed, gathered) = (false, GatheredScales::default());
    Ok(Ok(QuantizedConstant {
        dims,
        q,
        axis,
        block,
        scale,
        zero,
        is_transposed,
        gathered,
        recorded: None,
    }))
}

/// Floats that hold the integers which ONNX would compute.
pub(crate) fn quantize(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["axis", "saturate"]);
    let block = context.attributes.int("block_size")?.unwrap_or(0);
    let recorded = context.attributes.int("output_dtype")?.unwrap_or(0) as i32;
    let (x, scale_id) = (context.input(0)?, context.input(1)?);
    let Some(scale) = context.known(1, "scale")? else { return refuse("no scale") };
    if block != 0 || scale.len() != 1 {
        return refuse("a scale per channel or block");
    }
    let zero = context.known(2, "zero point")?;
    let kind = match context.node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => match context.importer.raw_tensor(name) {
            Some(proto) => proto.data_type,
            None => return refuse("a zero point that other nodes computed"),
        },
        None if recorded != 0 => recorded,
        None => data_type::UINT8,
    };
    let (low, high) = match kind {
        data_type::UINT8 => (0.0, 255.0),
        data_type::INT8 => (-128.0, 127.0),
        data_type::UINT16 => (0.0, 65535.0),
        data_type::INT16 => (-32768.0, 32767.0),
        kind => return refuse(format!("to {}", data_type::name(kind))),
    };
    let scale = reshaped_scalar(context, scale_id, &scale)?;
    let y = context.push(Op::Binary(Binary::Div), [x, scale])?;
    let mut y = context.push(Op::Unary(Unary::Round), [y])?;
    if let Some(zero) = zero
        && let [zero] = zero.integers("zero point")?
    {
        let zero = context.importer.scalar(*zero as f32);
        y = context.push(Op::Binary(Binary::Add), [y, zero])?;
    }
    context.push(Op::Unary(Unary::Activation(Activation::Clamp { low, high })), [y])
}
