//! The quantiser against the quality that the literature's rule reaches, and against its own promises.

use dsconv::{
    BlockFormat, ConvDescriptor, DsConvWeights, Method, Partition, Quantizer, signal_to_noise_db,
};
use proptest::prelude::*;

/// Normally distributed numbers, by the Box-Muller transform.
fn gaussian(rng: &mut fastrand::Rng, count: usize) -> Vec<f32> {
    let pair = |rng: &mut fastrand::Rng| {
        let (radius, angle) =
            ((-2.0 * (1.0 - rng.f64()).ln()).sqrt(), std::f64::consts::TAU * rng.f64());
        [radius * angle.cos(), radius * angle.sin()]
    };
    (0..count.div_ceil(2)).flat_map(|_| pair(rng)).take(count).map(|v| v as f32).collect()
}

fn quality(
    method: Method,
    bits: u8,
    block: u32,
    weights: &[f32],
    descriptor: &ConvDescriptor,
) -> f64 {
    let quantizer = Quantizer::new(bits, block).unwrap().method(method);
    let quantized = quantizer.weights(descriptor, weights).unwrap().dequantize().unwrap();
    signal_to_noise_db(weights, quantized.values())
}

/// Signal to noise in dB of 20,000 Gaussian blocks: the published rule, and symmetric abs-max.
#[test]
fn gaussian_weights_reach_the_known_signal_to_noise() {
    let table = [
        (32, 2, 9.16, 3.64),
        (32, 3, 15.38, 12.93),
        (32, 4, 21.47, 20.26),
        (32, 5, 27.50, 26.86),
        (32, 8, 45.62, 45.44),
        (128, 2, 7.94, 2.31),
        (128, 3, 13.83, 11.26),
        (128, 4, 19.81, 18.63),
        (128, 8, 43.89, 43.79),
    ];
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for block in [32, 128] {
        let descriptor = ConvDescriptor::new(block, 20_000, [1, 1]);
        let weights = gaussian(&mut rng, descriptor.weight_count());
        for (_, bits, extreme, abs_max) in table.into_iter().filter(|row| row.0 == block) {
            for (method, expected) in [(Method::SignedExtreme, extreme), (Method::AbsMax, abs_max)]
            {
                let db = quality(method, bits, block, &weights, &descriptor);
                assert!(
                    (db - expected).abs() <= 0.1,
                    "{method:?}, {bits} bits, B = {block}, seed {seed}: {db:.2} dB, expected {expected}"
                );
            }
        }
    }
}

fn descriptor() -> impl Strategy<Value = ConvDescriptor> {
    (1u32..40, 1u32..6, 1u32..4, 1u32..4, 1u32..4).prop_map(|(channels, outputs, groups, h, w)| {
        ConvDescriptor::new(channels * groups, outputs * groups, [h, w]).with_groups(groups)
    })
}

fn squared_error(weights: &DsConvWeights, floats: &[f32], range: std::ops::Range<usize>) -> f64 {
    let values = weights.dequantize().unwrap();
    let pairs = floats[range.clone()].iter().zip(&values.values()[range]);
    pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

proptest! {
    #[test]
    fn better_methods_are_never_worse(
        descriptor in descriptor(),
        bits in 2u8..=8,
        block in 1u32..40,
        even in any::<bool>(),
        scale in -30i32..30,
        seed in any::<u64>(),
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let scale = 2f32.powi(scale);
        let weights: Vec<f32> =
            gaussian(&mut rng, descriptor.weight_count()).iter().map(|w| w * scale).collect();
        let partition = if even { Partition::Even } else { Partition::Fixed };
        let quantizer = Quantizer::new(bits, block).unwrap().partition(partition);
        let all = 0..weights.len();
        let plain = quantizer.weights(&descriptor, &weights).unwrap();
        let plain_error = squared_error(&plain, &weights, all.clone());
        // f32 rounding of alpha and KDS bias is the slack.
        let power: f64 = weights.iter().map(|w| f64::from(*w).powi(2)).sum();
        let slack = 1e-6 * plain_error + 1e-12 * power;
        for better in [
            quantizer.method(Method::MinMse),
            quantizer.kds_bias(true),
            quantizer.method(Method::MinMse).kds_bias(true),
        ] {
            let error = squared_error(&better.weights(&descriptor, &weights).unwrap(), &weights, all.clone());
            prop_assert!(error <= plain_error + slack, "{better:?}: {error:e} > {plain_error:e}");
        }
    }
}

#[test]
fn the_signed_extreme_rule_is_followed_to_the_letter() {
    let descriptor = ConvDescriptor::new(4, 1, [1, 1]);
    let quantize =
        |weights: [f32; 4]| Quantizer::new(3, 4).unwrap().weights(&descriptor, &weights).unwrap();
    // The extreme 2 goes to -4, so the step is -0.5; -0.75 / -0.5 = 1.5 rounds to 2, half to even.
    assert_eq!(quantize([0.25, 2.0, -0.75, 0.0]).q(), [0, -4, 2, 0]);
    // The first of equal extremes wins; the other would be +4 and is clamped before alpha is fitted.
    let weights = quantize([1.0, -1.0, 0.0, 0.0]);
    assert_eq!(weights.q(), [-4, 3, 0, 0]);
    assert_eq!(weights.alpha(), [-7.0 / 25.0]);
    // A block of zeros is zeros, not NaN.
    let weights = quantize([0.0; 4]);
    assert_eq!((weights.q(), weights.alpha()), ([0i8; 4].as_slice(), [0.0f32].as_slice()));
}

#[test]
fn extreme_magnitudes_stay_finite() {
    let descriptor = ConvDescriptor::new(8, 1, [1, 1]);
    for scale in [f32::MAX, f32::MIN_POSITIVE, 1e-45] {
        for method in [Method::SignedExtreme, Method::AbsMax, Method::MinMse] {
            for kds_bias in [false, true] {
                let weights: Vec<f32> = (0..8).map(|i| scale * (i as f32 / 8.0 - 0.5)).collect();
                let quantizer = Quantizer::new(4, 4).unwrap().method(method).kds_bias(kds_bias);
                quantizer.weights(&descriptor, &weights).unwrap().dequantize().unwrap();
            }
        }
    }
}

#[test]
fn a_format_tells_its_range() {
    let ranges: Vec<_> = (2..=8)
        .map(|bits| BlockFormat::new(bits, 1).unwrap())
        .map(|f| (f.min(), f.max()))
        .collect();
    assert_eq!(ranges[0], (-2, 1));
    assert_eq!(ranges[6], (-128, 127));
}
