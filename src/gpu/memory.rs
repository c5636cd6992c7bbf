//! Device memory that layers and plans take, told before anything is made.

use super::choose::ConvProblem;
use super::format::ActivationFormat;
use super::options::LayerOptions;
use super::params::{Params, integer_bytes};
use super::planes::row_words;
use crate::{Blocks, ConvDescriptor, Error, Residual, Result, Shape, WeightsRef};

/// Bytes of device memory, by purpose. What a layer or a plan will take can be asked before it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Packed integers, or float weights, in whole fours of words. Belongs to the layer.
    pub weights: u64,
    /// Alpha, KDS bias and bias, in whole fours of words behind the weights. Belongs to the layer.
    pub scales: u64,
    /// The geometry. Belongs to the plan.
    pub uniform: u64,
    /// The input tensor, which the host brings.
    pub input: u64,
    /// The residual tensor, which the host brings; 0 where it lies in the output's place.
    pub residual: u64,
    /// The output tensor, which the host brings.
    pub output: u64,
}

impl MemoryUse {
    /// What a layer of these weights takes, for as long as it lives.
    pub fn of_layer<'a>(weights: impl Into<WeightsRef<'a>>, options: &LayerOptions) -> Self {
        let weights = weights.into();
        let descriptor = weights.descriptor();
        let (words, scales) = match weights {
            WeightsRef::Float(weights) => {
                (weights.values().len(), weights.bias().map_or(0, <[f32]>::len) as u64)
            }
            WeightsRef::DsConv(weights) => {
                let row = row_words(weights.blocks().quads(), weights.format().bits());
                let rows = descriptor.out_channels as usize * descriptor.taps() as usize;
                let [per_block, per_channel] = weights.folded_scale_counts().map(|n| n as u64);
                let words = (options.scale_format.bytes() * per_block).div_ceil(4);
                (row as usize * rows, words + per_channel)
            }
        };
        let fours = |words: u64| 4 * words.next_multiple_of(4);
        Self { weights: fours(words as u64), scales: fours(scales), ..Self::default() }
    }

    /// What a plan for an input of that shape takes, and the tensors that the host brings to it.
    ///
    /// # Errors
    /// As [`ConvDescriptor::output_shape`](crate::ConvDescriptor::output_shape); [`Error::Overflow`] for
    /// integer activations that can't be addressed with 32 bits.
    pub fn of_plan<'a>(
        weights: impl Into<WeightsRef<'a>>,
        input: Shape,
        options: &LayerOptions,
    ) -> Result<Self> {
        let problem = ConvProblem::new(weights, options.input_format);
        let output = problem.descriptor.output_shape(input)?;
        Self::plan(&problem.descriptor, &problem.row_blocks(), input, output, options)
    }

    pub(crate) fn plan(
        descriptor: &ConvDescriptor,
        blocks: &Blocks,
        input: Shape,
        output: Shape,
        options: &LayerOptions,
    ) -> Result<Self> {
        let integers = |shape: Shape, groups, blocks: &Blocks| {
            integer_bytes(shape, groups, blocks).ok_or_else(|| Error::Overflow {
                what: "integer activations".into(),
                detail: format!("{shape} in blocks of {} pass 32 bits", blocks.size),
            })
        };
        let floats = float_bytes(output, options);
        let input = match options.input_format {
            ActivationFormat::Float => float_bytes(input, options),
            ActivationFormat::Int8 => integers(input, descriptor.groups, blocks)?,
        };
        Ok(Self {
            uniform: size_of::<Params>() as u64,
            input,
            residual: match options.residual {
                Residual::BeforeActivation | Residual::AfterActivation
                    if !options.residual_in_place =>
                {
                    floats
                }
                _ => 0,
            },
            output: match &options.int8_output {
                None => floats,
                Some(int8) => integers(output, 1, &int8.blocks)?,
            },
            ..Self::default()
        })
    }

    /// The sum.
    pub const fn total(&self) -> u64 {
        self.weights + self.scales + self.uniform + self.input + self.residual + self.output
    }
}

/// Bytes of a float tensor: whole words.
pub(crate) fn float_bytes(shape: Shape, options: &LayerOptions) -> u64 {
    (options.float_format.bytes() * shape.elements() as u64).next_multiple_of(4)
}

/// Checks that a storage buffer of that size can be made and bound.
///
/// # Errors
/// [`Error::Limit`] names the limit.
pub fn check_buffer(limits: &wgpu::Limits, what: &str, needed: u64) -> Result<()> {
    let of = [
        ("max_storage_buffer_binding_size", limits.max_storage_buffer_binding_size),
        ("max_buffer_size", limits.max_buffer_size),
    ];
    for (limit_name, limit) in of {
        if needed > limit {
            return Err(Error::Limit { what: what.into(), needed, limit_name, limit });
        }
    }
    Ok(())
}
