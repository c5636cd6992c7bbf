//! QuantizeLinear and DequantizeLinear: constants stay integers, values of the run become floats that hold integers.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::data;
use super::integers::{GatheredScales, QuantizedConstant, scale_places};
use crate::Error;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::{Binary, Reduction, Unary};
use crate::ir::tensor::{Data, Tensor, axis_of, whole_numbers};
use crate::onnx::proto::data_type;
use dsconv::Activation;

/// Integers of a constant, as the model holds them or as other nodes computed them.
pub(crate) struct Stored {
    dims: Vec<usize>,
    values: Vec<i64>,
    /// What moves them into the range of int8; none where they are wider.
    offset: Option<i64>,
}

/// Known scales of a constant.
pub(crate) struct Scales {
    pub(crate) scale: Tensor,
    pub(crate) zero: Option<Tensor>,
    pub(crate) axis: Option<i64>,
    /// Elements that share a scale; 0 for all along the axis.
    pub(crate) block: i64,
}

/// Scales of a value of the run: one, or one for each place along an axis.
pub(crate) struct Scaling {
    pub(crate) scale: ValueId,
    pub(crate) zero: Option<ValueId>,
    pub(crate) axis: Option<i64>,
}

impl Stored {
    /// An input's integers, if they are known.
    pub(crate) fn of_input(
        context: &mut NodeContext<'_, '_>,
        index: usize,
    ) -> Converted<Option<Self>> {
        let name = context.node.input.get(index).map_or("", String::as_str);
        if let Some(proto) = context.importer.raw_tensor(name) {
            let dims = data::dims(proto)?;
            if data::is_float(proto.data_type) {
                return Ok(None);
            }
            let values = data::integers(proto, &context.importer.folder)?;
            context.importer.allow(values.len());
            // Unsigned integers move down by half of their range, and their zero points too.
            let offset = match proto.data_type {
                data_type::UINT8 => Some(128),
                data_type::UINT4 => Some(8),
                data_type::INT8 | data_type::INT4 => Some(0),
                _ => None,
            };
            return Ok(Some(Self { dims, values, offset }));
        }
        let value = context.input(index)?;
        let Some(tensor) = context.constant(value) else { return Ok(None) };
        let dims = tensor.dims().to_vec();
        let values = match tensor.data() {
            Data::I64(values) => values.to_vec(),
            Data::F32(values) if values.iter().all(|value| value.fract() == 0.0) => {
                whole_numbers(values)?
            }
            Data::F32(_) => return Ok(None),
        };
        let within = |low: i64, high: i64| values.iter().all(|value| (low..=high).contains(value));
        let offset = match (within(-128, 127), within(0, 255)) {
            (true, _) => Some(0),
            (_, true) => Some(128),
            _ => None,
        };
        Ok(Some(Self { dims, values, offset }))
    }

    /// The integers with their scales; floats where they are wider than int8.
    pub(crate) fn scaled(self, scales: &Scales) -> Converted<Result<QuantizedConstant, Tensor>> {
        let Self { dims, values, offset } = self;
        let scale = &scales.scale;
        let zero = match &scales.zero {
            None => vec![0; scale.len()],
            Some(zero) if zero.dims() == scale.dims() || zero.len() == 1 && scale.len() == 1 => {
                integers(zero)?
            }
            Some(zero) => {
                let (expected, got) = (format!("{:?}", scale.dims()), format!("{:?}", zero.dims()));
                return Err(Error::invalid("dims of the zero point", expected, got).into());
            }
        };
        let block = usize::try_from(scales.block)
            .map_err(|_| Error::invalid("block_size", "0 or more", scales.block))?;
        let single = scale.len() == 1 && block == 0;
        let axis = match single || dims.is_empty() {
            true => 0,
            false => axis_of(scales.axis.unwrap_or(1), dims.len())?,
        };
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
        let block = (block > 0).then_some(block);
        let Some(offset) = offset.filter(|_| !dims.is_empty()) else {
            let place = scale_places(&dims, axis, block, scale.len());
            let float = |(index, &q): (usize, &i64)| {
                let at = place(index);
                (q.wrapping_sub(zero[at]) as f64 * f64::from(scale[at])) as f32
            };
            let floats = values.iter().enumerate().map(float).collect();
            return Ok(Err(Tensor::f32(dims, floats)?));
        };
        let narrow = |q: i64| {
            i8::try_from(q - offset).map_err(|_| Error::invalid("x", "integers of its type", q))
        };
        let q = values.into_iter().map(narrow).collect::<Result<_, _>>()?;
        let shifted = |z: i64| {
            let z = z.checked_sub(offset).and_then(|z| i32::try_from(z).ok());
            z.filter(|z| z.abs() < 1 << 20)
                .ok_or_else(|| Error::invalid("zero point", "8 bits", "more"))
        };
        let zero = zero.into_iter().map(shifted).collect::<Result<_, _>>()?;
        Ok(Ok(QuantizedConstant {
            dims,
            q,
            axis,
            block,
            scale,
            zero,
            is_transposed: false,
            gathered: GatheredScales::default(),
            recorded: None,
        }))
    }
}

/// Zero points, which other nodes may have computed as floats.
fn integers(zero: &Tensor) -> Converted<Vec<i64>> {
    Ok(match zero.data() {
        Data::I64(values) => values.to_vec(),
        Data::F32(values) => whole_numbers(values)?,
    })
}

/// Floats from integers and scales.
pub(crate) fn dequantize(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let axis = context.attributes.int("axis")?;
    let block = context.attributes.int("block_size")?.unwrap_or(0);
    context.attributes.ignore(&["output_dtype"]);
    let scale = context.input(1)?;
    let zero = context.optional(2)?;
    let known = context.constant(scale).cloned();
    let known_zero = zero.map(|zero| context.constant(zero).cloned());
    if let (Some(scale), None | Some(Some(_))) = (known, &known_zero)
        && let Some(stored) = Stored::of_input(context, 0)?
    {
        let scales = Scales { scale, zero: known_zero.flatten(), axis, block };
        return constant(context, stored, &scales);
    }
    let x = context.input(0)?;
    if block != 0 {
        return refuse("a scale per block, of values that the run computes");
    }
    dequantized(context, x, &Scaling { scale, zero, axis })
}

/// A constant whose integers are remembered.
fn constant(
    context: &mut NodeContext<'_, '_>,
    stored: Stored,
    scales: &Scales,
) -> Converted<ValueId> {
    let name = context.node.output.first().map_or("", String::as_str);
    match stored.scaled(scales)? {
        Err(wide) => Ok(context.importer.constant(name, wide)),
        Ok(quantized) => {
            let floats = Tensor::f32(quantized.dims.clone(), quantized.floats())?;
            let value = context.importer.constant(name, floats);
            context.importer.note_quantized(value, name, quantized);
            Ok(value)
        }
    }
}

/// Computes with a scale and a zero point that broadcast to x: where there is one for each place along an axis, x is
/// seen as (outer, axis, inner).
fn along(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    scaling: &Scaling,
    body: impl FnOnce(&mut NodeContext<'_, '_>, [ValueId; 2], Option<ValueId>) -> Converted<ValueId>,
) -> Converted<ValueId> {
    let count = context.constant(scaling.scale).map_or(1, Tensor::len);
    let zero = match scaling.zero {
        Some(zero) => Some(context.floats(zero)?),
        None => None,
    };
    // A scale of rank 1 would give a scalar an axis.
    let dims: &[i64] = if count == 1 { &[] } else { &[1, -1, 1] };
    let mut shaped = |value: ValueId| context.reshape_to(value, dims);
    let (scale, zero) = (shaped(scaling.scale)?, zero.map(&mut shaped).transpose()?);
    if count == 1 {
        return body(context, [x, scale], zero);
    }
    let axis = scaling.axis.unwrap_or(1);
    let flat = context.push(Op::Flatten { axis }, [x])?;
    let rows = context.reshape_to(flat, &[0, count as i64, -1])?;
    let y = body(context, [rows, scale], zero)?;
    context.reshape_like(y, x)
}

/// `(x - zero) * scale`.
pub(crate) fn dequantized(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    scaling: &Scaling,
) -> Converted<ValueId> {
    let x = context.floats(x)?;
    along(context, x, scaling, |context, [x, scale], zero| {
        let x = match zero {
            Some(zero) => context.binary(Binary::Sub, x, zero)?,
            None => x,
        };
        context.binary(Binary::Mul, x, scale)
    })
}

/// Floats that hold the integers which ONNX would compute.
pub(crate) fn quantized(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    scaling: &Scaling,
    [low, high]: [f32; 2],
) -> Converted<ValueId> {
    along(context, x, scaling, |context, [x, scale], zero| {
        let y = context.binary(Binary::Div, x, scale)?;
        let y = context.unary(Unary::Round, y)?;
        let y = match zero {
            Some(zero) => context.binary(Binary::Add, y, zero)?,
            None => y,
        };
        context.unary(Unary::Activation(Activation::Clamp { low, high }), y)
    })
}

/// The range of the integers whose zero point is that input.
pub(crate) fn range(
    context: &NodeContext<'_, '_>,
    zero: usize,
    default: i32,
) -> Converted<[f32; 2]> {
    let name = context.node.input.get(zero).map_or("", String::as_str);
    let kind = context.importer.raw_tensor(name).map_or(default, |proto| proto.data_type);
    Ok(match kind {
        data_type::UINT8 => [0.0, 255.0],
        data_type::INT8 => [-128.0, 127.0],
        data_type::UINT16 => [0.0, 65535.0],
        data_type::INT16 => [-32768.0, 32767.0],
        data_type::UINT4 => [0.0, 15.0],
        data_type::INT4 => [-8.0, 7.0],
        kind => return refuse(format!("to {}", data_type::name(kind))),
    })
}

/// Integers from floats and scales.
pub(crate) fn quantize(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["saturate", "precision"]);
    let axis = context.attributes.int("axis")?;
    if context.attributes.int("block_size")?.unwrap_or(0) != 0 {
        return refuse("a scale per block");
    }
    let wanted = context.attributes.int("output_dtype")?.unwrap_or(0);
    let default = match i32::try_from(wanted) {
        Ok(kind) if kind != 0 => kind,
        _ => data_type::UINT8,
    };
    let range = range(context, 2, default)?;
    let (x, scale, zero) = (context.input(0)?, context.input(1)?, context.optional(2)?);
    let x = context.floats(x)?;
    quantized(context, x, &Scaling { scale, zero, axis }, range)
}

/// Integers from floats whose range the run finds, with their scale and zero point.
pub(crate) fn dynamic(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let x = context.input(0)?;
    dynamically_quantized(context, x).map(Vec::from)
}

/// The integers of uint8, their scale and their zero point.
pub(crate) fn dynamically_quantized(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
) -> Converted<[ValueId; 3]> {
    let range = [0.0, 255.0];
    let largest = context.reduce(Reduction::Max, &[], false, x)?;
    let largest = context.by(Binary::Max, largest, 0.0)?;
    let smallest = context.reduce(Reduction::Min, &[], false, x)?;
    let smallest = context.by(Binary::Min, smallest, 0.0)?;
    let scale = context.binary(Binary::Sub, largest, smallest)?;
    let scale = context.by(Binary::Div, scale, 255.0)?;
    // Zeros only: any scale will do but 0.
    let none = context.by(Binary::Equal, scale, 0.0)?;
    let scale = context.binary(Binary::Add, scale, none)?;
    let zero = context.binary(Binary::Div, smallest, scale)?;
    let zero = context.unary(Unary::Neg, zero)?;
    let zero = context.unary(Unary::Round, zero)?;
    let bounds = Activation::Clamp { low: range[0], high: range[1] };
    let zero = context.unary(Unary::Activation(bounds), zero)?;
    let scaling = Scaling { scale, zero: Some(zero), axis: None };
    Ok([quantized(context, x, &scaling, range)?, scale, zero])
}
