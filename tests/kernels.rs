//! Every kernel and weight format against the f64 oracle, over random layers.

mod common;

use common::{
    BOUND, Extras, HALF_BOUND, MATRIX_BOUND, Run, expected, gpu, lowest_limits, random_f32,
    random_weights, run_guarded, worst_error,
};
use dsconv::gpu::{
    ActivationFormat, ConvProblem, FloatFormat, Gpu, Kernel, LayerOptions, PackedDotProduct,
    Pipelines,
};
use dsconv::{
    Activation, BlockFormat, ConvDescriptor, Error, Layout, Partition, Residual, Shape, WeightsRef,
};
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
    // Sixteens and thirty-twos are whole steps of some kernels, which have forms of their own for those.
    let steps = (1u32..=6).prop_map(|n| 16 * n);
    let channels = prop_oneof![3 => 1u32..=6, 2 => 7u32..=70, 2 => steps];
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
    let options = (activation(), residual, any::<bool>(), layout(), layout()).prop_map(
        |(activation, residual, in_place, input_layout, output_layout)| {
            LayerOptions::default()
                .with_activation(activation)
                .with_residual(residual)
                .with_residual_in_place(in_place && residual != Residual::None)
                .with_input_layout(input_layout)
                .with_output_layout(output_layout)
        },
    );
    let partition = prop_oneof![Just(Partition::Fixed), Just(Partition::Even)];
    let extras = (any::<bool>(), any::<bool>(), 0u8..=2).prop_map(|(kds_bias, bias, cds)| Extras {
        kds_bias,
        bias,
        cds,
    });
    let blocks =
        prop_oneof![3 => 1u32..=9, 1 => Just(16), 2 => Just(32), 1 => Just(64), 1 => Just(128)];
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
    check_on(case, Kernel::convolutions());
}

fn check_on(case: &Case, kernels: impl IntoIterator<Item = (Kernel, ActivationFormat)>) {
    if let Some(gpu) = gpu() {
        check_with(gpu, case, kernels);
    }
}

fn check_with(
    gpu: &(Gpu, Pipelines),
    case: &Case,
    kernels: impl IntoIterator<Item = (Kernel, ActivationFormat)>,
) {
    let Case { descriptor, input, bits, options, .. } = case.clone();
    let mut rng = fastrand::Rng::with_seed(case.seed);
    let format = BlockFormat::new(bits, case.block_size).unwrap().with_partition(case.partition);
    let weights = random_weights(&mut rng, descriptor, format, case.extras);
    let x = random_f32(&mut rng, input.elements());
    let outputs = descriptor.output_shape(input).unwrap().elements();
    let residual = random_f32(&mut rng, outputs);
    let floats = weights.dequantize().unwrap();
    let with = |input_format| options.with_input_format(input_format);
    let run = |options| Run { options, input, x: &x, residual: &residual };
    let [of_floats, of_integers] = [ActivationFormat::Float, ActivationFormat::Int8]
        .map(|activations| expected(&weights, run(with(activations))));
    for (kernel, input_format) in kernels {
        let options = with(input_format).with_kernel(kernel);
        let expected = match input_format {
            ActivationFormat::Float => &of_floats,
            ActivationFormat::Int8 => &of_integers,
        };
        for weights in [WeightsRef::from(&weights), WeightsRef::from(&floats)] {
            let result = run_guarded(gpu, weights, run(options));
            let problem = ConvProblem::of_layer(weights, &options);
            if kernel.supports(&problem, gpu.1.capabilities()).is_err() {
                assert!(matches!(result, Err(Error::Unsupported { .. })));
                continue;
            }
            let error = worst_error(&result.unwrap(), expected);
            let all_f32 = [options.float_format, options.scale_format] == [FloatFormat::F32; 2];
            let memory = if all_f32 { BOUND } else { HALF_BOUND };
            let matrix = if kernel.spec().matrix.is_some() { MATRIX_BOUND - BOUND } else { 0.0 };
            let bound = memory + matrix;
            assert!(error <= bound, "{} for {problem}: {error:e}", kernel.name());
        }
    }
}

/// The kernels whose pipelines are compiled for the parts of a layer, or those whose pipelines serve all layers. Of the
/// first, nearly every random layer is another pipeline to compile, for a second or more.
fn kernels_compiled_for_parts(yes: bool) -> impl Iterator<Item = (Kernel, ActivationFormat)> {
    Kernel::convolutions().filter(move |(kernel, _)| kernel.spec().compiled_parts == yes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: common::cases(120), ..ProptestConfig::default() })]
    #[test]
    fn kernels_agree_with_the_oracle(case in case()) {
        check_on(&case, kernels_compiled_for_parts(false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: common::cases(32), ..ProptestConfig::default() })]
    #[test]
    fn kernels_compiled_for_a_layer_agree_with_the_oracle(case in case()) {
        check_on(&case, kernels_compiled_for_parts(true));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: common::cases(16), ..ProptestConfig::default() })]
    #[test]
    fn the_lowest_limits_of_wgpu_suffice_for_every_kernel(case in case()) {
        if let Some(gpu) = lowest_limits() {
            check_with(gpu, &case, Kernel::convolutions());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: common::cases(20), ..ProptestConfig::default() })]
    #[test]
    fn halves_in_memory_agree_with_the_oracle(mut case in case(), tensors in any::<bool>(), shifts in any::<bool>()) {
        let format = |half: bool| if half { FloatFormat::F16 } else { FloatFormat::F32 };
        // Few widths: every one of these is another pipeline to compile.
        case.bits = if case.bits < 5 { 3 } else { 8 };
        case.options.float_format = format(tensors || !shifts);
        case.options.scale_format = format(shifts);
        check(&case);
    }
}

#[test]
fn halves_saturate_and_want_their_feature() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let descriptor = ConvDescriptor::new(1, 2, [1, 1]);
    let weights = dsconv::FloatWeights::new(descriptor, vec![60_000.0, -60_000.0]).unwrap();
    let options = LayerOptions::default().with_float_format(FloatFormat::F16);
    let layer = dsconv::gpu::Layer::new(pipelines, &weights, options);
    if !gpu.device.features().contains(wgpu::Features::SHADER_F16) {
        let message = layer.unwrap_err().to_string();
        assert!(message.contains("SHADER_F16") && message.contains("f32 tensors"), "{message}");
        return;
    }
    let shape = Shape::new(1, 1, 1, 3);
    let y = pollster::block_on(layer.unwrap().run(&gpu.queue, shape, &[1.0, 2.0, f32::MAX], &[]));
    let most = 65_504.0;
    // 60,000 is a half: 2^15 * 1.8310546875.
    assert_eq!(y.unwrap(), [60_000.0, most, most, -60_000.0, -most, -most]);
}

/// A case with plain options, for the ones below.
fn plain(descriptor: ConvDescriptor, input: Shape, bits: u8, block_size: u32) -> Case {
    Case {
        descriptor,
        input,
        bits,
        block_size,
        partition: Partition::Fixed,
        extras: Extras { kds_bias: false, bias: true, cds: 0 },
        options: LayerOptions::default(),
        seed: fastrand::u64(..),
    }
}

#[test]
fn grids_past_one_dimension_of_workgroups() {
    // 4.3 million outputs in workgroups of 64; and 67,000 groups with a tile each.
    let outputs = plain(ConvDescriptor::new(1, 3, [1, 1]), Shape::new(1, 1, 1200, 1201), 4, 32);
    check_on(&outputs, [(Kernel::ConvDirect, ActivationFormat::Float)]);
    let groups = ConvDescriptor::new(67_000, 67_000, [1, 1]).with_groups(67_000);
    let tiles = [
        (Kernel::ConvGemm, ActivationFormat::Float),
        (Kernel::ConvSubgroup, ActivationFormat::Float),
        (Kernel::ConvGemmInt8, ActivationFormat::Int8),
    ];
    check_on(&plain(groups, Shape::new(1, 67_000, 1, 1), 3, 32), tiles);
}

#[test]
fn extents_that_fill_tiles_exactly_and_miss_them_by_one() {
    for (channels, outputs, width) in [(16, 32, 32), (15, 31, 31), (17, 33, 33), (64, 64, 64)] {
        for (bits, input_layout) in [(2, Layout::Nchw), (5, Layout::Nhwc), (8, Layout::Nhwc)] {
            let case = plain(
                ConvDescriptor::new(channels, outputs, [1, 1]),
                Shape::new(1, channels, 1, width),
                bits,
                16,
            );
            check(&Case { options: case.options.with_input_layout(input_layout), ..case });
        }
    }
}

#[test]
fn layers_as_small_as_a_step() {
    // At 2 bits and 16 channels all weights are one word, as they are at 8 bits and 4 channels.
    for (channels, bits) in [4, 16, 32].into_iter().flat_map(|c| (2..=8).map(move |bits| (c, bits)))
    {
        let case = plain(
            ConvDescriptor::new(channels, 1, [1, 1]),
            Shape::new(1, channels, 1, 1),
            bits,
            channels,
        );
        for input_layout in [Layout::Nchw, Layout::Nhwc] {
            check(&Case { options: case.options.with_input_layout(input_layout), ..case.clone() });
        }
    }
}

#[test]
fn windows_of_depthwise_layers_at_every_edge() {
    let mut rng = fastrand::Rng::new();
    let layouts = [Layout::Nchw, Layout::Nhwc];
    for (size, stride) in [3, 5, 7].into_iter().flat_map(|size| [(size, 1), (size, 2)]) {
        // Extents around the patch and the strip of a thread, and past a workgroup of them; paddings that differ from
        // side to side.
        for (height, width) in [(1, 1), (2, 4), (3, 5), (1, 7), (2, 8), (4, 9), (17, 33)] {
            let padding = [0; 4].map(|_| rng.u32(0..size));
            // All forms take one output a group of fours of channels; else two outputs of a group may share its input.
            for (groups, multiple, layouts) in [
                (4 * rng.u32(1..=5), 1, [Layout::Nhwc; 2]),
                (
                    rng.u32(1..=5),
                    rng.u32(1..=2),
                    [layouts[rng.usize(..2)], layouts[rng.usize(..2)]],
                ),
            ] {
                let descriptor = ConvDescriptor::new(groups, groups * multiple, [size; 2])
                    .with_stride([stride; 2])
                    .with_padding(padding)
                    .with_groups(groups);
                let rows = (size + (height - 1) * stride).saturating_sub(padding[0] + padding[2]);
                let columns = (size + (width - 1) * stride).saturating_sub(padding[1] + padding[3]);
                let input = Shape::new(rng.u32(1..=2), groups, rows.max(1), columns.max(1));
                if descriptor.output_shape(input).is_err() {
                    continue;
                }
                let case = plain(descriptor, input, 8, 1);
                let options = case
                    .options
                    .with_input_layout(layouts[0])
                    .with_output_layout(layouts[1])
                    .with_residual(
                        [Residual::None, Residual::BeforeActivation, Residual::AfterActivation]
                            [rng.usize(..3)],
                    )
                    .with_activation(Activation::Silu);
                let extras = Extras { bias: rng.bool(), ..case.extras };
                let case = Case { options, extras, ..case };
                check_on(&case, DEPTHWISE);
            }
        }
    }
}

/// The kernels for depthwise layers.
const DEPTHWISE: [(Kernel, ActivationFormat); 3] = [
    (Kernel::ConvDepthwise, ActivationFormat::Float),
    (Kernel::ConvDepthwiseWindow, ActivationFormat::Float),
    (Kernel::ConvDepthwiseNhwc, ActivationFormat::Float),
];

#[test]
fn every_width_at_its_extremes_is_exact() {
    let Some(gpu) = gpu() else { return };
    let descriptor = ConvDescriptor::new(37, 6, [3, 1]).with_padding([1, 0, 1, 0]);
    let shape = Shape::new(1, 37, 5, 4);
    for bits in 2..=8u8 {
        let format = dsconv::BlockFormat::new(bits, 8).unwrap();
        let q: Vec<i32> = (0..descriptor.weight_count())
            .map(|i| if i % 3 == 0 { format.max() } else { format.min() })
            .collect();
        // Powers of two and small integers: f32 in any order is exact.
        let alpha = (0..6 * 5 * 3).map(|i| if i % 2 == 0 { 0.25 } else { -2.0 }).collect();
        let weights = dsconv::DsConvWeights::from_integers(descriptor, format, &q, alpha).unwrap();
        let x: Vec<f32> = (0..shape.elements()).map(|i| (i % 7) as f32 - 3.0).collect();
        for (kernel, activations) in Kernel::convolutions() {
            let problem = ConvProblem::new(&weights, activations);
            if kernel.supports(&problem, gpu.1.capabilities()).is_err() {
                continue;
            }
            let options =
                LayerOptions::default().with_kernel(kernel).with_input_format(activations);
            let run = Run { options, input: shape, x: &x, residual: &[] };
            let expected = expected(&weights, run);
            let y = run_guarded(gpu, &weights, run).unwrap();
            assert_eq!(worst_error(&y, &expected), 0.0, "{kernel:?}, {bits} bits");
        }
    }
}

#[test]
fn integers_take_the_packed_dot_product_that_there_is_or_become_floats() {
    let format = dsconv::BlockFormat::new(4, 32).unwrap();
    let problem = |activations| {
        ConvProblem::of_format(ConvDescriptor::new(64, 64, [3, 3]), Some(format))
            .with_activations(activations)
    };
    let chosen = |packed_dot_product| {
        let capabilities =
            dsconv::gpu::Capabilities::default().with_packed_dot_product(packed_dot_product);
        [ActivationFormat::Float, ActivationFormat::Int8]
            .map(|input| Kernel::choose(&problem(input), &capabilities))
    };
    for (has, kernel) in [
        (PackedDotProduct::Signed, Kernel::ConvGemmInt8),
        (PackedDotProduct::Unsigned, Kernel::ConvGemmInt8Unsigned),
        (PackedDotProduct::None, Kernel::ConvGemm),
    ] {
        assert_eq!(chosen(has), [Kernel::ConvGemm, kernel]);
    }
}

#[test]
fn layers_that_differ_in_geometry_share_pipelines() {
    let Some((gpu, _)) = gpu() else { return };
    let pipelines = dsconv::gpu::Pipelines::new(&gpu.device).unwrap();
    let mut rng = fastrand::Rng::new();
    let run = |descriptor: ConvDescriptor, bits, block, options, rng: &mut fastrand::Rng| {
        let extras = Extras { kds_bias: rng.bool(), bias: rng.bool(), cds: 0 };
        let format = BlockFormat::new(bits, block).unwrap().with_partition(Partition::Even);
        let weights = random_weights(rng, descriptor, format, extras);
        let layer = dsconv::gpu::Layer::new(&pipelines, &weights, options).unwrap();
        let shape = Shape::new(1, descriptor.in_channels, 6, 6);
        let x = random_f32(rng, shape.elements());
        pollster::block_on(layer.run(&gpu.queue, shape, &x, &[])).unwrap();
    };
    // Kernels for software devices are compiled for more of a layer.
    let plain = LayerOptions::default().with_kernel(Kernel::ConvGemm);
    let nhwc = plain.with_input_layout(Layout::Nhwc).with_activation(Activation::Silu);
    assert_eq!(pipelines.compiled(), 0);
    run(ConvDescriptor::new(8, 16, [3, 3]), 4, 3, plain, &mut rng);
    assert_eq!(pipelines.compiled(), 1);
    run(ConvDescriptor::new(24, 40, [1, 5]).with_stride([2, 1]), 4, 3, nhwc, &mut rng);
    assert_eq!(pipelines.compiled(), 1, "geometry, block size, activation and layout are data");
    run(ConvDescriptor::new(8, 16, [3, 3]), 5, 3, plain, &mut rng);
    assert_eq!(pipelines.compiled(), 2, "another width is another pipeline");
}

#[test]
fn memory_is_announced_and_as_small_as_promised() {
    let Some((_, pipelines)) = gpu() else { return };
    let descriptor = ConvDescriptor::new(128, 128, [3, 3]).with_padding([1; 4]);
    let floats = vec![0.5f32; descriptor.weight_count()];
    let floats = dsconv::FloatWeights::new(descriptor, floats).unwrap();
    let options = LayerOptions::default();
    let float_use = dsconv::gpu::Layer::new(pipelines, &floats, options).unwrap().memory_use();
    assert_eq!(float_use.total(), 4 * descriptor.weight_count() as u64);
    let mut rng = fastrand::Rng::new();
    for (bits, block, at_least) in [(2, 128, 14.0), (4, 32, 6.3), (3, 32, 7.9), (8, 32, 3.5)] {
        let extras = Extras { kds_bias: false, bias: false, cds: 0 };
        let format = BlockFormat::new(bits, block).unwrap();
        let weights = random_weights(&mut rng, descriptor, format, extras);
        let announced = dsconv::gpu::MemoryUse::of_layer(&weights, &options);
        let layer = dsconv::gpu::Layer::new(pipelines, &weights, options).unwrap();
        // What the layer tells are the sizes of its buffers.
        assert_eq!(layer.memory_use(), announced);
        let ratio = float_use.total() as f64 / announced.total() as f64;
        assert!(ratio >= at_least, "{bits} bits, B = {block}: {ratio}");
        let halves = options.with_scale_format(FloatFormat::F16);
        let layer = dsconv::gpu::Layer::new(pipelines, &weights, halves).unwrap();
        let announced_halves = dsconv::gpu::MemoryUse::of_layer(&weights, &halves);
        assert_eq!(layer.memory_use(), announced_halves);
        assert_eq!(2 * announced_halves.scales, announced.scales);
    }
    for extras in [(true, true, 0), (false, false, 1), (false, true, 2)] {
        let (kds_bias, bias, cds) = extras;
        let extras = Extras { kds_bias, bias, cds };
        let format = BlockFormat::new(7, 9).unwrap().with_partition(Partition::Even);
        let weights = random_weights(&mut rng, descriptor, format, extras);
        let layer = dsconv::gpu::Layer::new(pipelines, &weights, options).unwrap();
        assert_eq!(layer.memory_use(), dsconv::gpu::MemoryUse::of_layer(&weights, &options));
    }
}
