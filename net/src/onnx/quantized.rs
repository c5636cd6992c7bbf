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
    /// Whether a Transpose exchanged the axes of the matrix since.
    turned: bool,
    /// Factors and summands of blocks that ONNX's own blocks can't express.
    gathered: Gathered,
    /// The format that this crate recorded when it wrote them.
    pub(crate) recorded: Option<BlockFormat>,
}

/// Shifts per block, spread over the channels by a Gather along axis 1 with each channel's block.
#[derive(Clone, Default)]
pub(crate) struct Gathered {
    blocks: Vec<usize>,
    alpha: Option<Vec<f32>>,
    kds_bias: Option<Vec<f32>>,
}

impl Gathered {
    /// What a Gather of these constants spreads, if it can be that.
    pub(crate) fn new(tensor: &Tensor, indices: &Tensor, axis: i64) -> Option<Self> {
        let values = tensor.floats("shifts").ok()?.to_vec();
        let count = *tensor.dims().get(1)?;
        let indices = (axis == 1 && indices.dims().len() == 1).then_some(indices)?;
        let blocks =
            indices.integers("blocks").ok()?.iter().map(|&block| usize::try_from(block).ok());
        let blocks: Vec<usize> = blocks.collect::<Option<_>>()?;
        let whole = blocks.first() == Some(&0) && blocks.last().map(|last| last + 1) == Some(count);
        let rising = blocks.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= pair[0] + 1);
        (whole && rising).then_some(Self { blocks, alpha: Some(values), kds_bias: None })
    }
}

impl Quantized {
    /// A matrix behind a Transpose.
    pub(crate) fn turned(&self) -> Option<Self> {
        (self.dims.len() == 2).then(|| Self { turned: !self.turned, ..self.clone() })
    }

    /// Times (or plus) shifts that a Gather spread over the channels.
    pub(crate) fn with_gathered(&self, shifts: &Gathered, add: bool) -> Option<Self> {
        let mut gathered = self.gathered.clone();
        if self.turned || !(gathered.blocks.is_empty() || gathered.blocks == shifts.blocks) {
            return None;
        }
        gathered.blocks.clone_from(&shifts.blocks);
        let plain = self.scale.len() == 1 && self.zero[0] == 0 && self.scale[0] == 1.0;
        if add && gathered.kds_bias.is_none() && self.zero.iter().all(|&zero| zero == 0) {
            gathered.kds_bias.clone_from(&shifts.alpha);
        } else if !add && plain && gathered.alpha.is_none() && gathered.kds_bias.is_none() {
            gathered.alpha.clone_from(&shifts.alpha);
        } else {
            return None;
        }
        Some(Self { gathered, ..self.clone() })
    }

    /// A matrix with its axes exchanged.
    fn transposed(&self) -> Self {
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
        let (dims, gathered) = (vec![columns, rows], Gathered::default());
        Self {
            dims,
            q,
            axis,
            block: self.block,
            scale,
            zero,
            turned: false,
            gathered,
            recorded: self.recorded,
        }
    }

    /// The same as DSConv weights of an OIHW kernel (or a matrix of outputs and inputs): a scale per output and block
    /// of input channels is alpha, a zero point is a KDS bias. None where the scales are cut otherwise.
    pub(crate) fn weights(&self, descriptor: ConvDescriptor) -> Converted<Option<DsConvWeights>> {
        if self.turned {
            return match self.gathered.blocks.is_empty() {
                true => self.transposed().weights(descriptor),
                false => Ok(None),
            };
        }
        let channels = descriptor.channels_per_group() as usize;
        let taps = descriptor.taps() as usize;
        let block = match self.block {
            Some(block) if self.axis == 1 => block,
            None if self.scale.len() == 1 || self.axis == 0 => channels,
            _ => return Ok(None),
        };
        let Gathered { blocks, alpha: factors, kds_bias: summands } = &self.gathered;
        let of = |channel: usize| blocks.get(channel).map_or(channel / block, |&block| block);
        let Some(format) = self.format(descriptor, of)? else { return Ok(None) };
        let q: Vec<i32> = self.q.iter().map(|&q| i32::from(q)).collect();
        let count = of(channels - 1) + 1;
        let at = |shift: usize| match self.block {
            Some(_) => shift,
            None if self.scale.len() == 1 => 0,
            None => shift / (count * taps),
        };
        let shifts = descriptor.out_channels as usize * count * taps;
        let zeros = (0..shifts).map(|shift| -self.scale[at(shift)] * self.zero[at(shift)] as f32);
        let kds_bias = summands.clone().unwrap_or_else(|| zeros.collect());
        let alpha = factors
            .clone()
            .unwrap_or_else(|| (0..shifts).map(|shift| self.scale[at(shift)]).collect());
        let weights = DsConvWeights::from_integers(descriptor, format, &q, alpha)?;
        let plain = summands.is_none() && self.zero.iter().all(|&zero| zero == 0);
        Ok(Some(if plain { weights } else { weights.with_kds_bias(kds_bias)? }))
    }

    /// The bit format: what this crate recorded, where it fits the integers and the blocks, or else the narrowest.
    fn format(
        &self,
        descriptor: ConvDescriptor,
        of: impl Fn(usize) -> usize,
    ) -> Converted<Option<BlockFormat>> {
        let channels = descriptor.channels_per_group() as usize;
        let width = width(&self.q);
        let recorded = self.recorded.filter(|format| (width..=8).contains(&format.bits()));
        let first = (0..channels).take_while(|&channel| of(channel) == 0).count();
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let bits = recorded.map_or(width, |format| format.bits());
        let narrowest = BlockFormat::new(bits, first.max(1))?;
        let candidates =
            [recorded, Some(narrowest), Some(narrowest.with_partition(Partition::Even))];
        Ok(candidates.into_iter().flatten().find(|format| {
            // A recorded size may be 0: nobody checked it yet.
            format.block_size() > 0 && {
                let blocks = format.blocks_of(descriptor.channels_per_group());
                (0..channels).all(|channel| blocks.of(channel as u32) as usize == of(channel))
            }
        }))
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
            let name = at.node.output.first().map_or("", String::as_str);
            at.importer.note_quantized(value, name, quantized);
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
    at.importer.allow(values.len());
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
    let (turned, gathered) = (false, Gathered::default());
    Ok(Ok(Quantized { dims, q, axis, block, scale, zero, turned, gathered, recorded: None }))
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
