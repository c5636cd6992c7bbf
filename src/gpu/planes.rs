//! The layout of weights in device memory.

use crate::{Blocks, DsConvWeights, FloatWeights};

impl Blocks {
    /// Quads (four neighbouring channels) of every block but the last. A quad never crosses a block.
    pub(crate) fn quads_per_block(&self) -> u32 {
        self.size.div_ceil(4)
    }

    /// Quads of a row.
    pub(crate) fn quads(&self) -> u32 {
        let last = self.range(self.count - 1);
        (self.count - 1) * self.quads_per_block() + (last.end - last.start).div_ceil(4)
    }
}

/// Words of a row of `quads` quads: a plane for each power of two in the width, each padded to a word.
pub(crate) fn row_words(quads: u32, bits: u8) -> u32 {
    planes(bits).map(|plane| quads.div_ceil(8 / plane)).sum()
}

/// The powers of two that make up a width, largest first: 7 = 4 + 2 + 1.
fn planes(bits: u8) -> impl Iterator<Item = u32> {
    [8, 4, 2, 1].into_iter().filter(move |plane| u32::from(bits) & plane != 0)
}

/// The GPU's layout: word `((tap * row_words) + word) * out_channels + output`, so that neighbouring
/// output channels lie side by side; the words of 8-bit integers in [`fours`] if so `in_fours`.
///
/// A row holds the quads of one output channel at one tap, as planes. A plane of width p keeps p bits
/// of every value, the highest bits in the first plane; its word holds `8 / p` quads, byte i of the
/// word the quads' i-th channel, the first quad in the highest bits of each byte. So a shift and a
/// mask give four values at once, aligned to the top of their bytes: times `2^(8 - bits)`, sign and all.
pub(crate) fn pack_planes(weights: &DsConvWeights, in_fours: bool) -> Vec<u32> {
    let descriptor = weights.descriptor();
    let blocks = weights.blocks();
    let bits = weights.format().bits();
    let (outputs, taps) = (descriptor.out_channels as usize, descriptor.taps() as usize);
    let quads = blocks.quads();
    let row_words = row_words(quads, bits) as usize;
    let mut words = vec![0u32; taps * row_words * outputs];
    for channel in 0..blocks.channels {
        let block = blocks.of(channel);
        let inside = channel - blocks.range(block).start;
        let quad = block * blocks.quads_per_block() + inside / 4;
        let byte = 8 * (inside % 4);
        for output in 0..outputs {
            for tap in 0..taps {
                let index = (output * blocks.channels as usize + channel as usize) * taps + tap;
                // Aligned to the top of a byte; each plane takes the bits that are now the highest.
                let mut value = u32::from((weights.q()[index] as u8) << (8 - bits));
                let mut word = tap * row_words;
                for plane in planes(bits) {
                    let quads_per_word = 8 / plane;
                    let top = (value >> (8 - plane)) << (8 - plane);
                    let at = (word + (quad / quads_per_word) as usize) * outputs + output;
                    words[at] |= (top >> (plane * (quad % quads_per_word))) << byte;
                    value = (value << plane) & 0xff;
                    word += quads.div_ceil(quads_per_word) as usize;
                }
            }
        }
    }
    match bits {
        8 if in_fours => fours(&words, row_words, outputs),
        _ => words,
    }
}

/// Float weights for the GPU: `[tap][channel][output channel]` in [`fours`].
pub(crate) fn transpose_floats(weights: &FloatWeights) -> Vec<f32> {
    let descriptor = weights.descriptor();
    let taps = descriptor.taps() as usize;
    let row = descriptor.channels_per_group() as usize * taps;
    let at = |channel: usize, tap: usize| {
        let index = channel * taps + tap;
        weights.values()[index..].iter().step_by(row)
    };
    let channels = descriptor.channels_per_group() as usize;
    let values: Vec<f32> =
        (0..taps).flat_map(|tap| (0..channels).flat_map(move |c| at(c, tap))).copied().collect();
    fours(&values, channels, descriptor.out_channels as usize)
}

/// `[row][element][output channel]` to `[row][element / 4][output channel][element % 4]`, so that a load can bring four
/// elements. The last four of a row may be fewer, so nothing is padded.
fn fours<T: Copy>(values: &[T], row: usize, outputs: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(values.len());
    for row in values.chunks(row * outputs) {
        for four in row.chunks(4 * outputs) {
            result.extend((0..outputs).flat_map(|o| four[o..].iter().step_by(outputs)).copied());
        }
    }
    result
}

/// `[output channel][block][tap]` to the GPU's `[tap][block][output channel]`.
pub(crate) fn transpose_scales(scales: &[f32], outputs: u32, taps: u32) -> Vec<f32> {
    let (outputs, taps) = (outputs as usize, taps as usize);
    let row = scales.len() / outputs;
    let mut transposed = Vec::with_capacity(scales.len());
    for tap in 0..taps {
        for block in 0..row / taps {
            transposed.extend((0..outputs).map(|output| scales[output * row + block * taps + tap]));
        }
    }
    transposed
}

/// Floats as halves, two a word, the first in the low half; and the power of two that they are to be multiplied by, which
/// brings the largest near the upper end: the smallest keep their precision.
pub(crate) fn pack_halves(values: &[f32]) -> (Vec<u32>, f32) {
    let largest = values.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    // At most 2^14 and above: half of what a half holds. 2^127 is the largest power that f32 knows.
    let exponent = (largest.log2().floor() as i32 - 14).max(-126);
    let scale = f64::from(exponent).exp2();
    let half = |value: Option<&f32>| {
        let value = value.map_or(0.0, |&v| f64::from(v) / scale);
        u32::from(half::f16::from_f64(value).to_bits())
    };
    let words = values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 16);
    (words.collect(), scale as f32)
}

/// The power of two that brings the largest weight, which is at most `largest`, near a half's upper end: at most to
/// 2^14, for rounding may add to it. So weights of less than 2^-28 of the largest are the first that lose precision.
pub(crate) fn matrix_factor(largest: f32) -> f32 {
    // The inverse must be a float too, and so must sums of products with inputs.
    const MOST: f64 = 96.0;
    let exponent = 14.0 - f64::from(largest.max(f32::MIN_POSITIVE)).log2().ceil();
    exponent.clamp(-MOST, MOST).exp2() as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockFormat, ConvDescriptor, Partition};

    fn random_weights(seed: u64, bits: u8, channels: u32, block: u32) -> DsConvWeights {
        let mut rng = fastrand::Rng::with_seed(seed);
        let descriptor = ConvDescriptor::new(channels, 3, [1, 2]);
        let format = BlockFormat::new(bits, block).unwrap().with_partition(Partition::Even);
        let q: Vec<i32> =
            (0..descriptor.weight_count()).map(|_| rng.i32(format.min()..=format.max())).collect();
        let alpha = vec![1.0; crate::blocks::scale_count(&descriptor, &format)];
        DsConvWeights::from_integers(descriptor, format, &q, alpha).unwrap()
    }

    /// What the shader does, in Rust.
    fn unpack_quad(
        words: &[u32],
        weights: &DsConvWeights,
        tap: u32,
        quad: u32,
        output: u32,
    ) -> u32 {
        let bits = weights.format().bits();
        let quads = weights.blocks().quads();
        let mut word = tap * row_words(quads, bits);
        let (mut quad_value, mut used) = (0, 0);
        for (plane, mask) in [(8, !0u32), (4, 0xf0f0_f0f0), (2, 0xc0c0_c0c0), (1, 0x8080_8080)] {
            if u32::from(bits) & plane != 0 {
                let per_word = 8 / plane;
                let outputs = weights.descriptor().out_channels;
                let at = match bits {
                    8 => {
                        let first = quad / 4 * 4;
                        (word + first) * outputs + output * (quads - first).min(4) + quad % 4
                    }
                    _ => (word + quad / per_word) * outputs + output,
                };
                quad_value |= ((words[at as usize] << (plane * (quad % per_word))) & mask) >> used;
                used += plane;
                word += quads.div_ceil(per_word);
            }
        }
        quad_value
    }

    #[test]
    fn halves_keep_eleven_bits_whatever_the_magnitude() {
        for magnitude in [1e-38f32, 1e-20, 1e-3, 1.0, 1e20, 3e38] {
            let values: Vec<f32> = [1.0, -0.7, 0.001, 0.3, 0.999].map(|v| v * magnitude).to_vec();
            let (words, scale) = pack_halves(&values);
            assert_eq!(words.len(), 3);
            for (index, &value) in values.iter().enumerate() {
                let bits = (words[index / 2] >> (16 * (index % 2))) as u16;
                let got = f64::from(half::f16::from_bits(bits)) * f64::from(scale);
                let error = (got - f64::from(value)).abs() / f64::from(value.abs());
                assert!(error <= 4.9e-4, "{value:e} became {got:e}");
            }
        }
        assert_eq!(pack_halves(&[0.0; 2]).0, [0]);
    }

    #[test]
    fn the_largest_weight_comes_near_the_upper_end_of_a_half() {
        for largest in [1e-20f32, 1e-3, 0.999, 1.0, 1.001, 1e20] {
            let scaled = f64::from(largest) * f64::from(matrix_factor(largest));
            assert!((8192.0..=16384.0).contains(&scaled), "{largest:e} became {scaled:e}");
        }
        for largest in [0.0, f32::MIN_POSITIVE, f32::MAX] {
            let factor = matrix_factor(largest);
            assert!(factor.is_normal() && (1.0 / factor).is_normal(), "{largest:e}: {factor:e}");
            assert_eq!(factor.to_bits() & 0x7f_ffff, 0, "{largest:e}: a power of two");
        }
    }

    #[test]
    fn planes_are_dense_and_give_every_integer_back() {
        for (bits, (channels, block)) in
            (2..=8).flat_map(|b| [(3, 8), (64, 32), (45, 7), (5, 1), (24, 24)].map(|c| (b, c)))
        {
            let weights = random_weights(u64::from(channels), bits, channels, block);
            let words = pack_planes(&weights, true);
            let blocks = weights.blocks();
            for channel in 0..channels {
                let inside = channel - blocks.range(blocks.of(channel)).start;
                let quad = blocks.of(channel) * blocks.quads_per_block() + inside / 4;
                for (tap, output) in [(0, 0), (1, 0), (0, 2), (1, 2)] {
                    let bytes = unpack_quad(&words, &weights, tap, quad, output).to_le_bytes();
                    let q = weights.q()[((output * channels + channel) * 2 + tap) as usize];
                    assert_eq!(bytes[inside as usize % 4] as i8, q << (8 - bits));
                }
            }
        }
        assert_eq!(row_words(16, 3), 6, "64 3-bit integers take 192 bits");
        assert_eq!(row_words(32, 2), 8, "128 2-bit integers take 256 bits");
    }
}
