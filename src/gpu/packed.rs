//! The words of weights in device memory, with their scales.

use super::format::FloatFormat;
use super::options::LayerOptions;
use super::params::NONE;
use super::planes::{pack_halves, pack_planes, transpose_floats, transpose_scales};
use super::transfer::bits;
use crate::{Result, WeightsRef};

/// Weights with their scales as words of device memory: planes of integers, or floats; what comes per block; the bias.
pub(crate) struct Packed {
    pub(crate) words: Vec<u32>,
    /// The word where the scales begin.
    pub(crate) scales_at: u32,
    /// Where the KDS bias begins, in elements of what comes per block, or `NONE`.
    pub(crate) kds_bias_at: u32,
    /// The word where the bias begins, or `NONE`.
    pub(crate) bias_at: u32,
    /// What scales in halves are multiplied by.
    pub(crate) scale_factor: f32,
    /// No weight is larger.
    pub(crate) largest: f32,
}

impl Packed {
    /// Packs weights; 8-bit integers in fours of words if so `in_fours`.
    ///
    /// # Errors
    /// A channel distribution shift that leaves the range of f32.
    pub(crate) fn new(
        weights: WeightsRef<'_>,
        options: &LayerOptions,
        in_fours: bool,
    ) -> Result<Self> {
        let descriptor = weights.descriptor();
        let most = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let whole_fours = |words: &mut Vec<u32>| words.resize(words.len().next_multiple_of(4), 0);
        let (mut kds_bias_at, mut bias_at, mut scale_factor) = (NONE, NONE, 1.0);
        let mut scales = Vec::new();
        let (mut words, bias, largest) = match weights {
            WeightsRef::Float(weights) => {
                let words = bits(&transpose_floats(weights));
                (words, weights.bias().map(<[f32]>::to_vec), most(weights.values()))
            }
            WeightsRef::DsConv(weights) => {
                let transpose = |scales: &[f32]| {
                    transpose_scales(scales, descriptor.out_channels, descriptor.taps())
                };
                let folded = weights.folded_scales()?;
                let mut per_block = transpose(&folded.alpha);
                let mut largest =
                    most(&folded.alpha) * f32::from(1u8 << (weights.format().bits() - 1));
                if let Some(kds_bias) = &folded.kds_bias {
                    largest += most(kds_bias);
                    kds_bias_at = per_block.len() as u32;
                    per_block.extend(transpose(kds_bias));
                }
                (scales, scale_factor) = match options.scale_format {
                    FloatFormat::F32 => (bits(&per_block), 1.0),
                    FloatFormat::F16 => pack_halves(&per_block),
                };
                (pack_planes(weights, in_fours), folded.bias, largest)
            }
        };
        whole_fours(&mut words);
        let scales_at = words.len() as u32;
        words.extend(scales);
        if let Some(bias) = bias {
            bias_at = words.len() as u32;
            words.extend(bits(&bias));
        }
        whole_fours(&mut words);
        Ok(Self { words, scales_at, kds_bias_at, bias_at, scale_factor, largest })
    }
}
