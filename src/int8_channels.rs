//! Float weights that are 8-bit integers times a scale per output channel: what files keep in a byte a weight, and
//! what is left of a depthwise kernel whose blocks of one channel DSConv can't make smaller.

/// The largest integer, and the smallest negated.
const MOST: f32 = 127.0;

/// The bits of a scale's mantissa that are used: products with 7-bit integers are exact in f32, and f16 holds it.
const UNUSED_BITS: u32 = 13;

/// Rounds the weights of each of `channels` rows to integers times a scale.
pub(crate) fn round(values: &mut [f32], channels: usize) {
    for row in values.chunks_mut((values.len() / channels).max(1)) {
        let scale = shortened(largest(row) / MOST);
        for value in row {
            // No minus zero.
            *value =
                if scale == 0.0 { 0.0 } else { scale * (*value / scale).round_ties_even() + 0.0 };
        }
    }
}

/// The integers, and the scale of each of `channels` rows, where [`round`] made the weights. `None` for others.
#[cfg(feature = "storage")]
pub(crate) fn integers(values: &[f32], channels: usize) -> Option<(Vec<i8>, Vec<f32>)> {
    let (mut q, mut scales) = (Vec::new(), Vec::new());
    for row in values.chunks((values.len() / channels).max(1)) {
        let scale = largest(row) / MOST;
        for &value in row {
            let integer = if scale == 0.0 { 0.0 } else { (value / scale).round_ties_even() };
            if integer * scale != value || integer.abs() > MOST {
                return None;
            }
            q.push(integer as i8);
        }
        scales.push(scale);
    }
    Some((q, scales))
}

/// The weights of integers and the scale of each row.
#[cfg(feature = "storage")]
pub(crate) fn weights(q: &[u8], scales: &[f32]) -> Vec<f32> {
    let row = (q.len() / scales.len().max(1)).max(1);
    let scaled = |(row, &scale): (&[u8], &f32)| {
        row.iter().map(move |&q| f32::from(q as i8) * scale).collect()
    };
    q.chunks(row).zip(scales).flat_map(|row| -> Vec<f32> { scaled(row) }).collect()
}

fn largest(row: &[f32]) -> f32 {
    row.iter().fold(0.0, |most, value| value.abs().max(most))
}

/// A scale of 11 bits, not above the given one, so that nothing overflows; 0 for one that is subnormal.
fn shortened(scale: f32) -> f32 {
    if scale.is_normal() {
        f32::from_bits(scale.to_bits() >> UNUSED_BITS << UNUSED_BITS)
    } else {
        0.0
    }
}

#[cfg(all(test, feature = "storage"))]
mod tests {
    use super::*;

    #[test]
    fn rounded_weights_come_back_bit_for_bit_and_others_are_told_apart() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let (channels, row) = (rng.usize(1..5), rng.usize(1..30));
            let magnitude = 10f32.powi(rng.i32(-20..20));
            let floats: Vec<f32> =
                (0..channels * row).map(|_| (rng.f32() - 0.5) * magnitude).collect();
            let mut values = floats.clone();
            round(&mut values, channels);
            for (rounded, floats) in values.chunks(row).zip(floats.chunks(row)) {
                // Half a step: the largest weight is off less.
                let most = largest(floats) / MOST * 0.5001;
                let off = |(a, b): (&f32, &f32)| (a - b).abs() <= most;
                assert!(rounded.iter().zip(floats).all(off), "seed {seed}");
            }
            let (q, scales) = integers(&values, channels).unwrap();
            let bytes: Vec<u8> = q.iter().map(|&q| q as u8).collect();
            assert_eq!(weights(&bytes, &scales), values, "seed {seed}");
            let mut again = values.clone();
            round(&mut again, channels);
            assert_eq!(again, values, "seed {seed}");
            if row > 2 {
                assert_eq!(integers(&floats, channels), None, "seed {seed}");
            }
        }
        let mut zeros = [0.0, -0.0, 1e-44];
        round(&mut zeros, 1);
        assert_eq!(integers(&zeros, 1), Some((vec![0; 3], vec![0.0])));
        let mut large = [f32::MAX, -f32::MAX];
        round(&mut large, 1);
        assert!(large.iter().all(|value| value.is_finite()));
    }
}
