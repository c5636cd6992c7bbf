//! Every kernel and weight format against the f64 oracle, over random layers.

mod common;

use common::{BOUND, Extras, expected, gpu, random_f32, random_weights, run_guarded, worst_error};
use dsconv::gpu::{Kernel, LayerOptions, WeightFormat};
use dsconv::{Activation, ConvDescriptor, Error, Layout, Partition, Residual, Shape, WeightsRef};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Case {
    descriptor: ConvDescriptor,
    input: Shape,
    bits: u8,
    block_size: u32,
    partition: Partition,
    extras: Extras,
    options: LayerOptions,
    seed: u64,
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::Nchw), Just(Layout::Nhwc)]
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![
        Just(Activation::Identity),
        Just(Activation::Relu),
        Just(Activation::Relu6),
        Just(Activation::Silu),
        Just(Activation::HardSwish),
        Just(Activation::Sigmoid),
        (-0.5f32..1.0).prop_map(Activation::LeakyRelu),
        (-3.0f32..0.0, 0.0f32..3.0).prop_map(|(low, high)| Activation::Clamp { low, high }),
        Just(Activation::Clamp { low: f32::NEG_INFINITY, high: 1.0 }),
    ]
}

fn descriptor() -> impl Strategy<Value = ConvDescriptor> {
    let pair = |low: u32, high: u32| [low..=high, low..=high];
    let channels = prop_oneof![3 => 1u32..=6, 2 => 7u32..=70];
    let outputs = prop_oneof![3 => 1u32..=6, 2 => 7u32..=70];
    let geometry = (pair(1, 4), pair(1, 3), pair(1, 3), [0u32..=3, 0..=3, 0..=3, 0..=3]);
    (channels, outputs, 1u32..=3, geometry).prop_map(
        |(channels, outputs, groups, (kernel, stride, dilation, padding))| {
            ConvDescriptor::new(channels * groups, outputs * groups, kernel)
                .with_stride(stride)
                .with_dilation(dilation)
                .with_padding(padding)
                .with_groups(groups)
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let residual = prop_oneof![
        Just(Residual::None),
        Just(Residual::BeforeActivation),
        Just(Residual::AfterActivation),
    ];
    let options = (activation(), residual, layout(), layout()).prop_map(
        |(activation, residual, input_layout, output_layout)| LayerOptions {
            activation,
            residual,
            input_layout,
            output_layout,
            kernel: None,
        },
    );
    let partition = prop_oneof![Just(Partition::Fixed), Just(Partition::Even)];
    let extras = (any::<bool>(), any::<bool>(), 0u8..=2).prop_map(|(kds_bias, bias, cds)| Extras {
        kds_bias,
        bias,
        cds,
    });
    let blocks = prop_oneof![1u32..=9, Just(16), Just(32), Just(128)];
    let extents = (1u32..=2, 0u32..=9, 0u32..=9);
    (descriptor(), extents, 2u8..=8, blocks, partition, extras, options, any::<u64>()).prop_map(
        |(descriptor, (batch, dh, dw), bits, block_size, partition, extras, options, seed)| {
            // At least as large as the dilated kernel, padding or not.
            let reach = |axis: usize| descriptor.dilation[axis] * (descriptor.kernel[axis] - 1) + 1;
            let input = Shape::new(batch, descriptor.in_channels, reach(0) + dh, reach(1) + dw);
            Case { descriptor, input, bits, block_size, partition, extras, options, seed }
        },
    )
}

/// Runs one case on every kernel, in its integer format and as floats.
fn check(case: &Case) {
    let Some(gpu) = gpu() else { return };
    let Case { descriptor, input, bits, options, .. } = case.clone();
    let mut rng = fastrand::Rng::with_seed(case.seed);
    let weights =
        random_weights(&mut rng, descriptor, bits, case.block_size, case.partition, case.extras);
    let x = random_f32(&mut rng, input.elements());
    let outputs = descriptor.output_shape(&input).unwrap().elements();
    let residual = random_f32(&mut rng, outputs);
    let floats = weights.dequantize().unwrap();
    let expected = expected(&weights, options, &input, &x, &residual);
    for kernel in Kernel::ALL {
        let options = LayerOptions { kernel: Some(kernel), ..options };
        for weights in [WeightsRef::from(&weights), WeightsRef::from(&floats)] {
            let result = run_guarded(gpu, weights, options, &input, &x, &residual);
            if kernel.supports(&descriptor, WeightFormat::from(weights)).is_err() {
                assert!(matches!(result, Err(Error::Unsupported { .. })));
                continue;
            }
            let error = worst_error(&result.unwrap(), &expected);
            assert!(error <= BOUND, "{kernel:?}, {}: {error:e}", WeightFormat::from(weights));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn kernels_agree_with_the_oracle(case in case()) {
        check(&case);
    }
}
