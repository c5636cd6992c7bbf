//! Constants that are integers times scales: how ONNX quantises them, and the DSConv weights that they are.

use super::attributes::Converted;
use crate::ir::tensor::Tensor;
use dsconv::{BlockFormat, ConvDescriptor, DsConvWeights, Partition};

/// A constant as ONNX quantises it: `scale * (q - zero)`, with a scale and a zero point for each block
/// along one axis, for each index of it, or for all.
#[derive(Clone)]
pub(crate) struct QuantizedConstant {
    pub(crate) dims: Vec<usize>,
    /// The integers, in the range of int8.
    pub(crate) q: Vec<i8>,
    pub(crate) axis: usize,
    /// Elements along the axis that share a scale, where there are blocks.
    pub(crate) block: Option<usize>,
    pub(crate) scale: Vec<f32>,
    /// The zero points, as many as scales.
    pub(crate) zero: Vec<i32>,
    /// Whether a Transpose exchanged the axes of the matrix since.
    pub(crate) is_transposed: bool,
    /// Factors and summands per block that ONNX's own blocks can't express.
    pub(crate) gathered: GatheredScales,
    /// The format that this crate recorded when it wrote them.
    pub(crate) recorded: Option<BlockFormat>,
}

/// Numbers per block of channels, spread over the channels by a Gather along axis 1. ONNX's own blocks can't express
/// these: blocks of different sizes, and KDS biases that are no zero points.
#[derive(Clone, Default)]
pub(crate) struct GatheredScales {
    /// The block of each channel.
    blocks: Vec<usize>,
    /// The factors of the integers; straight behind the Gather, its numbers, whatever they turn out to be.
    alpha: Option<Vec<f32>>,
    /// The summands.
    kds_bias: Option<Vec<f32>>,
}

impl GatheredScales {
    /// The numbers that a Gather of these constants spreads over channels, if it does that.
    pub(crate) fn new(tensor: &Tensor, indices: &Tensor, axis: i64) -> Option<Self> {
        let values = tensor.floats("scales").ok()?.to_vec();
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

impl QuantizedConstant {
    /// The constant behind a Transpose, if it is a matrix.
    pub(crate) fn transposed(&self) -> Option<Self> {
        (self.dims.len() == 2).then(|| Self { is_transposed: !self.is_transposed, ..self.clone() })
    }

    /// The constant times (or plus) numbers that a Gather spread over the channels.
    pub(crate) fn with_gathered(&self, more: &GatheredScales, add: bool) -> Option<Self> {
        let mut gathered = self.gathered.clone();
        if self.is_transposed || !(gathered.blocks.is_empty() || gathered.blocks == more.blocks) {
            return None;
        }
        gathered.blocks.clone_from(&more.blocks);
        let plain = self.scale.len() == 1 && self.zero[0] == 0 && self.scale[0] == 1.0;
        if add && gathered.kds_bias.is_none() && self.zero.iter().all(|&zero| zero == 0) {
            gathered.kds_bias.clone_from(&more.alpha);
        } else if !add && plain && gathered.alpha.is_none() && gathered.kds_bias.is_none() {
            gathered.alpha.clone_from(&more.alpha);
        } else {
            return None;
        }
        Some(Self { gathered, ..self.clone() })
    }

    /// The constant with its numbers in the order that a Transpose gave them.
    pub(crate) fn stored_so(&self) -> Self {
        if self.is_transposed { self.with_axes_exchanged() } else { self.clone() }
    }

    /// The same numbers with the axes of the matrix exchanged.
    fn with_axes_exchanged(&self) -> Self {
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
        let (dims, gathered) = (vec![columns, rows], GatheredScales::default());
        Self {
            dims,
            q,
            axis,
            block: self.block,
            scale,
            zero,
            is_transposed: false,
            gathered,
            recorded: self.recorded,
        }
    }

    /// The DSConv weights that the constant is, as an OIHW kernel or a matrix of outputs and inputs: a scale per output
    /// and block of input channels is alpha, a zero point is a KDS bias. `None` where the scales are cut otherwise.
    pub(crate) fn weights(&self, descriptor: ConvDescriptor) -> Converted<Option<DsConvWeights>> {
        if self.is_transposed {
            return match self.gathered.blocks.is_empty() {
                true => self.with_axes_exchanged().weights(descriptor),
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
        let GatheredScales { blocks, alpha: gathered_alpha, kds_bias: gathered_bias } =
            &self.gathered;
        let block_of = |channel: usize| blocks.get(channel).map_or(channel / block, |&block| block);
        let Some(format) = self.format(descriptor, block_of)? else { return Ok(None) };
        let q: Vec<i32> = self.q.iter().map(|&q| i32::from(q)).collect();
        let block_count = block_of(channels - 1) + 1;
        let scale_of = |index: usize| match self.block {
            Some(_) => index,
            None if self.scale.len() == 1 => 0,
            None => index / (block_count * taps),
        };
        let scale_count = descriptor.out_channels as usize * block_count * taps;
        let zeros = (0..scale_count)
            .map(|index| -self.scale[scale_of(index)] * self.zero[scale_of(index)] as f32);
        let kds_bias = gathered_bias.clone().unwrap_or_else(|| zeros.collect());
        let alpha = gathered_alpha
            .clone()
            .unwrap_or_else(|| (0..scale_count).map(|index| self.scale[scale_of(index)]).collect());
        let weights = DsConvWeights::from_integers(descriptor, format, &q, alpha)?;
        let plain = gathered_bias.is_none() && self.zero.iter().all(|&zero| zero == 0);
        Ok(Some(if plain { weights } else { weights.with_kds_bias(kds_bias)? }))
    }

    /// The bit format: the one that this crate recorded, where it fits the integers and the blocks, or else the
    /// narrowest.
    fn format(
        &self,
        descriptor: ConvDescriptor,
        block_of: impl Fn(usize) -> usize,
    ) -> Converted<Option<BlockFormat>> {
        let channels = descriptor.channels_per_group() as usize;
        let width = width(&self.q);
        let recorded = self.recorded.filter(|format| (width..=8).contains(&format.bits()));
        let first = (0..channels).take_while(|&channel| block_of(channel) == 0).count();
        let first = u32::try_from(first).unwrap_or(u32::MAX);
        let bits = recorded.map_or(width, |format| format.bits());
        let narrowest = BlockFormat::new(bits, first.max(1))?;
        let candidates =
            [recorded, Some(narrowest), Some(narrowest.with_partition(Partition::Even))];
        Ok(candidates.into_iter().flatten().find(|format| {
            // A recorded size may be 0: nobody checked it yet.
            format.block_size() > 0 && {
                let blocks = format.blocks_of(descriptor.channels_per_group());
                (0..channels).all(|channel| blocks.of(channel as u32) as usize == block_of(channel))
            }
        }))
    }

    /// The floats that ONNX computes from it.
    pub(crate) fn floats(&self) -> Vec<f32> {
        let place = scale_places(&self.dims, self.axis, self.block, self.scale.len());
        let value = |(index, &q): (usize, &i8)| {
            let at = place(index);
            ((i32::from(q) - self.zero[at]) as f32) * self.scale[at]
        };
        self.q.iter().enumerate().map(value).collect()
    }
}

/// Which scale an element has: the only one, that of its place along the axis, or that of its block.
pub(crate) fn scale_places(
    dims: &[usize],
    axis: usize,
    block: Option<usize>,
    scales: usize,
) -> impl Fn(usize) -> usize + use<> {
    let inner: usize = dims.get(axis + 1..).unwrap_or_default().iter().product();
    let length = dims.get(axis).copied().unwrap_or(1);
    move |index| {
        let (outer, place) = (index / inner / length, index / inner % length);
        match block {
            Some(block) => (outer * length.div_ceil(block) + place / block) * inner + index % inner,
            None if scales == 1 => 0,
            None => place,
        }
    }
}

/// The fewest bits that hold the integers, at least 2.
fn width(q: &[i8]) -> u8 {
    let need = |q: &i8| 9 - (if *q < 0 { !*q } else { *q }).cast_unsigned().leading_zeros() as u8;
    q.iter().map(need).max().unwrap_or(2).max(2)
}
