//! QuantizeLinear and DequantizeLinear: constants stay integers, values of the run become floats that hold integers.

use super::convert::At;
use super::data;
use super::node::{Converted, refuse};
use super::proto::data_type;
use crate::Error;
use crate::graph::{Op, ValueId};
use crate::lower::axis_of;
use crate::op::{Binary, Unary};
use crate::tensor::Tensor;
use dsconv::{Activation, BlockFormat, ConvDescriptor, DsConvWeights, Partition};

/// A constant as ONNX quantises it: `scale * (q - zero)`, with a scale and a zero point for each block
/// along one axis, for each index of it, or for all.
#[derive(Clone)]
pub(crate) struct Quantized {
    dims: Vec<usize>,
    /// In the range of int8.
    q: Vec<i8>,
    axis: usize,
    /// Elements along the axis that share a scale, where there are blocks.
    block: Option<usize>,
    scale: Vec<f32>,
    /// As the scale.
    zero: Vec<i32>,
}

impl Quantized {
    /// A matrix with its axes exchanged.
    pub(crate) fn transposed(&self) -> Self {
        let &[rows, columns] = self.dims.as_slice() else { return self.clone() };
        fn turn<T: Copy>(values: &[T], rows: usize, columns: usize) -> Vec<T> {
            (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect()
        }
        let (scale, zero) = match self.block {
            Some(block) => {
                let mut cut = [rows, columns];
                cut[self.axis] = cut[self.axis].div_ceil(block);
                (turn(&self.scale, cut[0], cut[1]), turn(&self.zero, cut[0], cut[1]))
            }
            None => (self.scale.clone(), self.zero.clone()),
        };
        let q = turn(&self.q, rows, columns);
        let axis = 1 - self.axis;
        Self { dims: vec![columns, rows], q, axis, block: self.block, scale, zero }
    }

    /// The same as DSConv weights of an OIHW kernel (or a matrix of outputs and inputs): a scale per output and block
    /// of input channels is alpha, a zero point is a KDS bias. None where the scales are cut otherwise.
    pub(crate) fn weights(
        &self,
        descriptor: ConvDescriptor,
        recorded: Option<&str>,
    ) -> Converted<Option<DsConvWeights>> {
        let channels = descriptor.channels_per_group() as usize;
        let (outputs, taps) = (descriptor.out_channels as usize, descriptor.taps() as usize);
        let block = match self.block {
            Some(block) if self.axis == 1 => block,
            None if self.scale.len() == 1 || self.axis == 0 => channels,
            _ => return Ok(None),
        };
        // What this crate wrote says how wide the integers were.
        let bits = recorded.and_then(|bits| bits.parse().ok());
        let bits = bits.filter(|bits| (2..=8).contains(bits)).unwrap_or(2).max(width(&self.q));
        let block = u32::try_from(block).unwrap_or(u32::MAX).min(descriptor.channels_per_group());
        let format = BlockFormat::new(bits, block)?.with_partition(Partition::Fixed);
        let blocks = channels.div_ceil(block as usize);
        let at = |shift: usize| match self.block {
            Some(_) => shift,
            None if self.scale.len() == 1 => 0,
            None => shift / (blocks * taps),
        };
        let shifts = outputs * blocks * taps;
        let alpha: Vec<f32> = (0..shifts).map(|shift| self.scale[at(shift)]).collect();
        let kds_bias: Vec<f32> =
            (0..shifts).map(|shift| -self.scale[at(shift)] * self.zero[at(shift)] as f32).collect();
        let q: Vec<i32> = self.q.iter().map(|&q| i32::from(q)).collect();
        let weights = DsConvWeights::from_integers(descriptor, format, &q, alpha)?;
        let plain = kds_bias.iter().all(|&bias| bias == 0.0);
        Ok(Some(if plain { weights } else { weights.with_kds_bias(kds_bias)? }))
    }

    fn floats(&self) -> Vec<f32> {
        let inner: usize = self.dims[self.axis + 1..].iter().product();
        let length = self.dims[self.axis];
        let value = |(index, &q): (usize, &i8)| {
            let (outer, place) = (index / inner / length, index / inner % length);
            let at = match self.block {
                Some(block) => {
                    (outer * length.div_ceil(block) + place / block) * inner + index % inner
                }
                None if self.scale.len() == 1 => 0,
                None => place,
            };
            ((i32::from(q) - self.zero[at]) as f32) * self.scale[at]
        };
        self.q.iter().enumerate().map(value).collect()
    }
}

/// The fewest bits that hold the integers, at least 2.
fn width(q: &[i8]) -> u8 {
    let need = |q: &i8| 9 - (if *q < 0 { !*q } else { *q }).cast_unsigned().leading_zeros() as u8;
    q.iter().map(need).max().unwrap_or(2).max(2)
}

pub(crate) fn dequantize(at: &mut At<'_, '_>) -> Converted<ValueId> {
    let axis = at.attributes.int("axis")?;
    let block = at.attributes.int("block_size")?.unwrap_or(0);
    at.attributes.ignore(&["output_dtype"]);
    let Some(scale) = at.known(1, "scale")? else { return refuse("no scale") };
    let raw = at.node.input.first().and_then(|name| at.importer.raw_tensor(name));
    if let Some(proto) = raw {
        let quantized = constant(at, proto, axis, block, &scale)?;
        let (dims, floats) = match &quantized {
            Ok(quantized) => (quantized.dims.clone(), quantized.floats()),
            Err(wide) => (wide.dims().to_vec(), wide.floats("x")?.to_vec()),
        };
        let name = at.node.output.first().cloned().unwrap_or_default();
        let value = at.importer.constant(name, Tensor::f32(dims, floats)?);
        if let Ok(quantized) = quantized {
            at.importer.quantized.insert(value, quantized);
        }
        return Ok(value);
    }
    let (x, scale_id) = (at.input(0)?, at.input(1)?);
    let zero = at.known(2, "zero point")?;
    if at.constant(x).is_some() {
        return refuse("integers that other nodes computed");
    }
    if block != 0 || scale.len() != 1 {
        return refuse("a scale per channel or block, of values that the run computes");
    }
    let mut y = x;
    if let Some(zero) = zero
        && let [zero] = zero.integers("zero point")?
    {
        let zero = at.importer.scalar(*zero as f32);
        y = at.push(Op::Binary(Binary::Sub), [y, zero])?;
    }
    let scale = reshaped_scalar(at, scale_id, &scale)?;
    at.push(Op::Binary(Binary::Mul), [y, scale])
}

/// A scale of rank 0: one of rank 1 would give a scalar an axis.
fn reshaped_scalar(at: &mut At<'_, '_>, id: ValueId, scale: &Tensor) -> Converted<ValueId> {
    match scale.floats("scale")? {
        &[value] if !scale.dims().is_empty() => Ok(at.importer.scalar(value)),
        _ => Ok(id),
    }
}

/// A constant's integers with their scales; floats where they are wider than int8.
fn constant(
    at: &mut At<'_, '_>,
    proto: &super::proto::TensorProto,
    axis: Option<i64>,
    block: i64,
    scale: &Tensor,
) -> Converted<Result<Quantized, Tensor>> {
    let dims = data::dims(proto)?;
    let values = data::integers(proto, at.importer.folder)?;
    let zero = match at.node.input.get(2).filter(|name| !name.is_empty()) {
        None => vec![0; scale.len()],
        Some(_) => {
            let zero = at.known(2, "zero point")?.unwrap_or_else(|| Tensor::list([]));
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
    Ok(Ok(Quantized { dims, q, axis, block, scale, zero }))
}

pub(crate) fn quantize(at: &mut At<'_, '_>) -> Converted<ValueId> {
    at.attributes.ignore(&["axis", "saturate"]);
    let block = at.attributes.int("block_size")?.unwrap_or(0);
    let recorded = at.attributes.int("output_dtype")?.unwrap_or(0) as i32;
    let (x, scale_id) = (at.input(0)?, at.input(1)?);
    let Some(scale) = at.known(1, "scale")? else { return refuse("no scale") };
    if block != 0 || scale.len() != 1 {
        return refuse("a scale per channel or block");
    }
    let zero = at.known(2, "zero point")?;
    let kind = match at.node.input.get(2).filter(|name| !name.is_empty()) {
        Some(name) => match at.importer.raw_tensor(name) {
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
    let scale = reshaped_scalar(at, scale_id, &scale)?;
    let y = at.push(Op::Binary(Binary::Div), [x, scale])?;
    let mut y = at.push(Op::Unary(Unary::Round), [y])?;
    if let Some(zero) = zero
        && let [zero] = zero.integers("zero point")?
    {
        let zero = at.importer.scalar(*zero as f32);
        y = at.push(Op::Binary(Binary::Add), [y, zero])?;
    }
    at.push(Op::Unary(Unary::Activation(Activation::Clamp { low, high })), [y])
}
