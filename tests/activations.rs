//! Integer activations: what the GPU makes of floats, bit for bit, and block products at their extremes.

mod common;

use common::{Run, expected, gpu, run_guarded, submit, worst_error};
use dsconv::gpu::{
    ActivationFormat, ConvProblem, Int8Output, Kernel, Layer, LayerOptions, MemoryUse, Tensors,
    download, upload,
};
use dsconv::{
    ActivationScale, BlockFormat, ConvDescriptor, DsConvWeights, Int8Activations, Layout,
    Partition, Residual, Shape, WeightsRef, reference,
};
use proptest::prelude::*;

/// What tensors hold before a kernel writes them.
const POISON: u32 = 0x7fc0_dead;

/// A layer's words of integer activations: quads with their padding, then scales and scaled sums.
fn words(format: &BlockFormat, weights: &DsConvWeights, x: &Int8Activations) -> Vec<u32> {
    let (blocks, shape) = (weights.blocks(), x.shape());
    let groups = weights.descriptor().groups;
    assert_eq!(format, weights.format());
    let plane = (shape.height * shape.width) as usize;
    let (mut mantissas, mut scales) = (Vec::new(), Vec::new());
    for pixel in 0..shape.pixels() {
        for group in 0..groups {
            for block in 0..blocks.count {
                let start = pixel / plane * shape.channels as usize;
                let bytes: Vec<i8> = blocks
                    .range(block)
                    .map(|c| start + (group * blocks.channels + c) as usize)
                    .map(|channel| x.mantissas()[channel * plane + pixel % plane])
                    .collect();
                for quad in bytes.chunks(4) {
                    let byte = |i: usize| quad.get(i).copied().unwrap_or(0) as u8;
                    mantissas.push(u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]));
                }
                let scale = x.scales()[scales.len() / 2];
                let sum: i32 = bytes.iter().map(|&b| i32::from(b)).sum();
                scales.extend([scale.to_bits(), (scale * sum as f32).to_bits()]);
            }
        }
    }
    mantissas.extend(scales);
    // Whole fours; what fills them is nobody's.
    mantissas.resize(mantissas.len().next_multiple_of(4), POISON);
    mantissas
}

fn weights(descriptor: ConvDescriptor, format: BlockFormat, q: i32) -> DsConvWeights {
    let q = vec![q; descriptor.weight_count()];
    let blocks = descriptor.channels_per_group().div_ceil(format.block_size());
    let shifts = descriptor.out_channels * descriptor.taps() * blocks;
    DsConvWeights::from_integers(descriptor, format, &q, vec![1.0; shifts as usize]).unwrap()
}

/// Quantises on the GPU, and downloads the words.
fn quantize(
    weights: &DsConvWeights,
    shape: Shape,
    x: &[f32],
    layout: Layout,
    scale: ActivationScale,
) -> Option<Vec<u32>> {
    quantize_in(weights, shape, &common::to_layout(x, shape, layout), layout, scale)
}

/// The same with floats that are in that layout already.
fn quantize_in(
    weights: &DsConvWeights,
    shape: Shape,
    x: &[f32],
    layout: Layout,
    scale: ActivationScale,
) -> Option<Vec<u32>> {
    let (gpu, pipelines) = gpu()?;
    let options =
        LayerOptions::default().with_input_format(ActivationFormat::Int8).with_input_layout(layout);
    let layer = Layer::new(pipelines, weights, options).unwrap();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let floats = upload(&gpu.device, "x", usage, x).unwrap();
    let words = MemoryUse::of_plan(weights, shape, &options).unwrap().input / 4;
    let integers = upload(&gpu.device, "q", usage, &vec![POISON; words as usize]).unwrap();
    let plan = layer.plan_quantization(shape, scale, floats.slice(..), integers.slice(..)).unwrap();
    submit(gpu, &plan);
    let result = pollster::block_on(download(&gpu.device, &gpu.queue, integers.slice(..))).unwrap();
    Some(result.into_iter().map(f32::to_bits).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: common::cases(50), ..ProptestConfig::default() })]
    #[test]
    fn the_gpu_quantises_bit_for_bit(
        channels in 1u32..80,
        groups in 1u32..3,
        block in prop_oneof![1u32..40, Just(64)],
        even in any::<bool>(),
        nhwc in any::<bool>(),
        extent in (1u32..3, 1u32..5, 1u32..5),
        seed in any::<u64>(),
    ) {
        let partition = if even { Partition::Even } else { Partition::Fixed };
        let format = BlockFormat::new(4, block).unwrap().with_partition(partition);
        let descriptor = ConvDescriptor::new(channels * groups, groups, [1, 1]).with_groups(groups);
        let weights = weights(descriptor, format, 1);
        let shape = Shape::new(extent.0, descriptor.in_channels, extent.1, extent.2);
        let mut rng = fastrand::Rng::with_seed(seed);
        // Any float at all now and then: NaN, infinities, subnormals.
        let x: Vec<f32> = (0..shape.elements())
            .map(|_| match rng.u8(0..30) {
                0 => f32::from_bits(rng.u32(..)),
                1 => f32::INFINITY,
                2 => f32::NAN,
                3 => 0.0,
                _ => (rng.f32() - 0.5) * 8.0,
            })
            .collect();
        let layout = if nhwc { Layout::Nhwc } else { Layout::Nchw };
        let scale = ActivationScale::PowerOfTwo;
        let expected = Int8Activations::quantize(&descriptor, &format, shape, &x, scale).unwrap();
        let Some(words_of_gpu) = quantize(&weights, shape, &x, layout, scale) else { return Ok(()) };
        prop_assert_eq!(words_of_gpu, words(&format, &weights, &expected));
    }
}

#[test]
fn float_scales_are_as_good_as_division_on_the_device() {
    let descriptor = ConvDescriptor::new(32, 1, [1, 1]);
    let format = BlockFormat::new(8, 32).unwrap();
    let weights = weights(descriptor, format, 1);
    let shape = Shape::new(1, 32, 8, 8);
    let mut rng = fastrand::Rng::new();
    let x: Vec<f32> = (0..shape.elements()).map(|_| (rng.f32() - 0.5) * 100.0).collect();
    let scale = ActivationScale::Float;
    let Some(on_gpu) = quantize(&weights, shape, &x, Layout::Nchw, scale) else { return };
    let expected = Int8Activations::quantize(&descriptor, &format, shape, &x, scale).unwrap();
    let expected = words(&format, &weights, &expected);
    // WGSL allows a division 2.5 units in the last place: a mantissa at a half may round the other way.
    let (mantissas, scales) = (64 * 8, 64 * 2);
    assert_eq!(on_gpu.len(), mantissas + scales);
    let bytes = |words: &[u32]| -> Vec<i8> {
        words[..mantissas].iter().flat_map(|w| w.to_le_bytes().map(|b| b as i8)).collect()
    };
    let pairs = bytes(&on_gpu).into_iter().zip(bytes(&expected));
    let off = pairs.map(|(a, b)| (i32::from(a) - i32::from(b)).abs()).collect::<Vec<_>>();
    assert!(off.iter().all(|&o| o <= 1) && off.iter().sum::<i32>() < 20, "{off:?}");
    for i in (mantissas..on_gpu.len()).step_by(2) {
        let (a, b) = (f32::from_bits(on_gpu[i]), f32::from_bits(expected[i]));
        assert!((a - b).abs() <= 3e-7 * b.abs(), "{a} {b}");
    }
}

/// The words of a layer's output, after which the guard words are untouched.
fn output_words<'a>(
    weights: impl Into<WeightsRef<'a>>,
    options: LayerOptions,
    shape: Shape,
    [x, residual]: [&[f32]; 2],
) -> Vec<u32> {
    const GUARD: usize = 33;
    let (gpu, pipelines) = gpu().expect("asked before");
    let weights = weights.into();
    let layer = Layer::new(pipelines, weights, options).unwrap();
    let memory = MemoryUse::of_plan(weights, shape, &options).unwrap();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let floats = upload(&gpu.device, "x", usage, x).unwrap();
    let residual = upload(&gpu.device, "residual", usage, residual).unwrap();
    let x = match options.input_format {
        ActivationFormat::Float => floats,
        ActivationFormat::Int8 => {
            let words = vec![POISON; memory.input as usize / 4];
            let integers = upload(&gpu.device, "q", usage, &words).unwrap();
            let scale = ActivationScale::PowerOfTwo;
            let slices = (floats.slice(..), integers.slice(..));
            submit(gpu, &layer.plan_quantization(shape, scale, slices.0, slices.1).unwrap());
            integers
        }
    };
    let words = memory.output as usize / 4;
    let y = upload(&gpu.device, "y", usage, &vec![POISON; words + GUARD]).unwrap();
    let residual = (options.residual != Residual::None).then(|| residual.slice(..));
    let tensors = Tensors::new(x.slice(..), y.slice(..)).with_residual(residual);
    submit(gpu, &layer.plan(shape, tensors).unwrap());
    let y = pollster::block_on(download(&gpu.device, &gpu.queue, y.slice(..))).unwrap();
    let mut y: Vec<u32> = y.into_iter().map(f32::to_bits).collect();
    assert!(y[words..].iter().all(|&word| word == POISON), "guard words");
    y.truncate(words);
    y
}

proptest! {
    // Software devices compile for most of this test's time.
    #![proptest_config(ProptestConfig { cases: common::cases(20), ..ProptestConfig::default() })]
    /// A layer that emits integer activations emits what quantising its floats gives, bit for bit.
    #[test]
    fn int8_output_is_the_float_output_quantised(
        (channels, outputs, groups) in (1u32..40, 1u32..140, 1u32..3),
        block in prop_oneof![Just(8u32), Just(16), Just(32), Just(64)],
        (bits, kernel_size, nhwc) in (2u8..=8, 1u32..4, any::<bool>()),
        (residual, float_scale) in (0usize..3, any::<bool>()),
        extent in (1u32..3, 1u32..7, 1u32..9),
        seed in any::<u64>(),
    ) {
        let Some((_, pipelines)) = gpu() else { return Ok(()) };
        let outputs = if groups == 1 { outputs } else { outputs.div_ceil(block) * block };
        let descriptor = ConvDescriptor::new(channels * groups, outputs * groups, [kernel_size; 2])
            .with_padding([kernel_size / 2; 4])
            .with_groups(groups);
        let mut rng = fastrand::Rng::with_seed(seed);
        let extras = common::Extras { kds_bias: true, bias: true, cds: 0 };
        let format = BlockFormat::new(bits, 32).unwrap();
        let weights = common::random_weights(&mut rng, descriptor, format, extras);
        let next = ConvDescriptor::new(descriptor.out_channels, 1, [1, 1]);
        let format = BlockFormat::new(4, block).unwrap();
        let next = self::weights(next, format, 1);
        let shape = Shape::new(extent.0, descriptor.in_channels, extent.1, extent.2);
        let output = descriptor.output_shape(shape).unwrap();
        let x = common::random_f32(&mut rng, shape.elements());
        // What can't be quantised saturates, on either way.
        let added: Vec<f32> = (0..output.elements())
            .map(|_| match rng.u8(0..40) {
                0 => f32::NAN,
                1 => f32::NEG_INFINITY,
                _ => rng.f32() - 0.5,
            })
            .collect();
        let scale = if float_scale { ActivationScale::Float } else { ActivationScale::PowerOfTwo };
        let layout = if nhwc { Layout::Nhwc } else { Layout::Nchw };
        let mut kernels = 0;
        for (kernel, input_format) in Kernel::convolutions() {
            let residuals =
                [Residual::None, Residual::BeforeActivation, Residual::AfterActivation];
            let options = LayerOptions::default()
                .with_kernel(kernel)
                .with_input_format(input_format)
                .with_output_layout(layout)
                .with_residual(residuals[residual]);
            let int8_output = Int8Output::new(next.blocks(), scale);
            let problem = ConvProblem::new(&weights, input_format).with_int8_output(int8_output);
            if kernel.supports(&problem, pipelines.capabilities()).is_err() {
                continue;
            }
            kernels += 1;
            let floats: Vec<f32> = output_words(&weights, options, shape, [&x, &added])
                .into_iter()
                .map(f32::from_bits)
                .collect();
            let expected = quantize_in(&next, output, &floats, layout, scale).unwrap();
            let options = options.with_int8_output(int8_output);
            let emitted = output_words(&weights, options, shape, [&x, &added]);
            prop_assert_eq!(emitted, expected, "{}", kernel.name());
        }
        prop_assert!(kernels >= 2, "both matrix products take every block");
    }
}

#[test]
fn int8_outputs_that_a_tile_cannot_hold_are_refused() {
    let Some((_, pipelines)) = gpu() else { return };
    let descriptor = ConvDescriptor::new(8, 256, [1, 1]);
    let weights = weights(descriptor, BlockFormat::new(4, 8).unwrap(), 1);
    let scale = ActivationScale::PowerOfTwo;
    let layer = |channels, size, count| {
        let mut blocks = weights.blocks();
        (blocks.channels, blocks.size, blocks.count) = (channels, size, count);
        let int8_output = Int8Output::new(blocks, scale);
        Layer::new(pipelines, &weights, LayerOptions::default().with_int8_output(int8_output))
    };
    let message = layer(256, 128, 2).unwrap_err().to_string();
    assert!(
        message.contains("2 blocks of 128") && message.contains("plan_quantization"),
        "{message}"
    );
    let message = layer(255, 32, 8).unwrap_err().to_string();
    assert!(
        message.contains("int8_output.blocks.channels") && message.contains("256"),
        "{message}"
    );
    for (size, count) in [(0, 4), (32, 0), (64, 5)] {
        let message = layer(256, size, count).unwrap_err().to_string();
        assert!(message.contains("int8_output.blocks"), "{message}");
    }
}

/// What takes integer activations.
const INTEGER_KERNELS: [Kernel; 5] = [
    Kernel::ConvGemmInt8,
    Kernel::ConvGemmInt8Unsigned,
    Kernel::ConvSubgroupInt8,
    Kernel::ConvGemm,
    Kernel::ConvGemmWide,
];

/// Block products are exact at the ends of the range, whatever the width: -128 * -127 (mantissas are
/// symmetric) over 256 channels, in every arithmetic.
#[test]
fn block_products_are_exact_at_their_extremes() {
    let Some(gpu) = gpu() else { return };
    let descriptor = ConvDescriptor::new(256, 3, [1, 1]);
    let shape = Shape::new(1, 256, 1, 3);
    for bits in 2..=8u8 {
        for block in [32, 256] {
            let format = BlockFormat::new(bits, block).unwrap();
            for (q, x) in [(format.min(), -127.0), (format.min(), 127.0), (format.max(), -127.0)] {
                let weights = weights(descriptor, format, q);
                let x = vec![x; shape.elements()];
                for kernel in INTEGER_KERNELS {
                    let problem = ConvProblem::new(&weights, ActivationFormat::Int8);
                    if kernel.supports(&problem, gpu.1.capabilities()).is_err() {
                        continue;
                    }
                    let options = LayerOptions::default()
                        .with_kernel(kernel)
                        .with_input_format(ActivationFormat::Int8);
                    let run = Run { options, input: shape, x: &x, residual: &[] };
                    let expected = expected(&weights, run);
                    assert_eq!(expected.values[0], 256.0 * f64::from(q) * f64::from(x[0]));
                    let y = run_guarded(gpu, &weights, run).unwrap();
                    assert_eq!(worst_error(&y, &expected), 0.0, "{} {bits} bits", kernel.name());
                }
            }
        }
    }
}

/// Mantissas of -128, which a host may bring, meet the most negative weights: what two's complement makes hard, in the
/// longest blocks that share a register, and longer ones.
#[test]
fn mantissas_of_the_hosts_own_may_be_minus_128() {
    let Some((gpu, pipelines)) = gpu() else { return };
    for (bits, block) in [(8, 256), (4, 32), (4, 33), (3, 64), (2, 128)] {
        let descriptor = ConvDescriptor::new(block, 4, [1, 1]);
        let format = BlockFormat::new(bits, block).unwrap();
        let weights = weights(descriptor, format, format.min());
        let shape = Shape::new(1, block, 1, 1);
        let mantissas = vec![-128; block as usize];
        let x =
            Int8Activations::from_parts(&descriptor, &format, shape, mantissas, vec![0.5]).unwrap();
        let expected = reference::convolve_int8(&weights, &x).unwrap();
        assert_eq!(expected.values, [-64.0 * f64::from(format.min()) * f64::from(block); 4]);
        for kernel in INTEGER_KERNELS {
            let problem = ConvProblem::new(&weights, ActivationFormat::Int8);
            if kernel.supports(&problem, pipelines.capabilities()).is_err() {
                continue;
            }
            let options = LayerOptions::default()
                .with_kernel(kernel)
                .with_input_format(ActivationFormat::Int8);
            let layer = Layer::new(pipelines, &weights, options).unwrap();
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            let x = upload(&gpu.device, "x", usage, &words(&format, &weights, &x)).unwrap();
            let y = upload(&gpu.device, "y", usage, &[f32::NAN; 4]).unwrap();
            let tensors = Tensors::new(x.slice(..), y.slice(..));
            submit(gpu, &layer.plan(shape, tensors).unwrap());
            let y = pollster::block_on(download(&gpu.device, &gpu.queue, y.slice(..))).unwrap();
            assert_eq!(worst_error(&y, &expected), 0.0, "{} {bits} bits", kernel.name());
        }
    }
}
