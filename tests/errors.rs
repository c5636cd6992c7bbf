//! Bad input of every kind: a clear error each, and never a panic.

mod common;

use common::{gpu, open};
use dsconv::gpu::{
    ActivationFormat, Capabilities, ConvProblem, Int8Output, Kernel, Layer, LayerOptions,
    PackedDotProduct, Pipelines, Tensors, download, upload,
};
use dsconv::{
    Activation, ActivationScale, BlockFormat, Cds, ConvDescriptor, DsConvWeights, Error,
    FloatWeights, Partition, Quantizer, Residual, Result, Shape, reference,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// One kind of bad input: a name, what does it, and words that its message must hold.
type Case<'a> = (&'a str, Box<dyn Fn() -> Result<()> + 'a>, &'a str);

fn check(cases: Vec<Case<'_>>) {
    for (name, run, words) in cases {
        let result = catch_unwind(AssertUnwindSafe(run));
        let error = match result {
            Err(_) => panic!("{name}: panicked"),
            Ok(Ok(())) => panic!("{name}: was accepted"),
            Ok(Err(error)) => error.to_string(),
        };
        for word in words.split('|') {
            assert!(error.contains(word), "{name}: {error:?} does not name {word:?}");
        }
    }
}

/// A case, with its result thrown away.
fn case<'a, T>(name: &'a str, words: &'a str, run: impl Fn() -> Result<T> + 'a) -> Case<'a> {
    (name, Box::new(move || run().map(|_| ())), words)
}

const CONV: ConvDescriptor = ConvDescriptor::new(8, 4, [3, 3]);

fn integers(bits: u8, q: i32, alpha: f32) -> Result<DsConvWeights> {
    let format = BlockFormat::new(bits, 8)?;
    DsConvWeights::from_integers(CONV, format, &[q; 288], vec![alpha; 36])
}

#[test]
fn bad_weights_and_shapes_are_refused() {
    let zero = |edit: fn(&mut ConvDescriptor)| {
        move || {
            let mut descriptor = CONV;
            edit(&mut descriptor);
            FloatWeights::new(descriptor, vec![0.0; 288])
        }
    };
    let output = |input: Shape| move || CONV.output_shape(input);
    check(vec![
        case("bits 1", "bits|2..=8|1", || BlockFormat::new(1, 8)),
        case("bits 9", "bits|2..=8|9", || Quantizer::new(9, 8)),
        case("block 0", "block_size|at least 1|0", || Quantizer::new(4, 0)),
        case("no input channels", "in_channels|0", zero(|d| d.in_channels = 0)),
        case("no output channels", "out_channels|0", zero(|d| d.out_channels = 0)),
        case("no kernel", "kernel height|0", zero(|d| d.kernel[0] = 0)),
        case("no stride", "horizontal stride|0", zero(|d| d.stride[1] = 0)),
        case("no dilation", "vertical dilation|0", zero(|d| d.dilation[0] = 0)),
        case("no groups", "groups|0", zero(|d| d.groups = 0)),
        case("odd groups", "in_channels|multiple of groups = 3", zero(|d| d.groups = 3)),
        case("odd output groups", "out_channels|multiple", zero(|d| d.groups = 8)),
        case("huge padding", "left padding", zero(|d| d.padding[1] = u32::MAX)),
        case("huge kernel", "kernel width", zero(|d| d.kernel[1] = u32::MAX)),
        case(
            "huge weights",
            "weight count overflows|32 bits",
            zero(|d| {
                d.in_channels = 1 << 24;
                d.out_channels = 1 << 24;
            }),
        ),
        case("too few floats", "weight|288|287", || FloatWeights::new(CONV, vec![0.0; 287])),
        case("NaN weight", "weight[3]|finite|NaN", || {
            let mut values = vec![0.0; 288];
            values[3] = f32::NAN;
            FloatWeights::new(CONV, values)
        }),
        case("infinite weight to quantise", "weight[5]|inf", || {
            let mut values = vec![0.0; 288];
            values[5] = f32::INFINITY;
            Quantizer::new(4, 8)?.weights(&CONV, &values)
        }),
        case("too many weights to quantise", "weight|288|289", || {
            Quantizer::new(4, 8)?.weights(&CONV, &[0.0; 289])
        }),
        case("NaN alpha", "alpha[0]|NaN", || integers(4, 1, f32::NAN)),
        case("infinite alpha", "alpha[0]|-inf", || integers(4, 1, f32::NEG_INFINITY)),
        case("integer above", "q[0]|-8..=7|8", || integers(4, 8, 1.0)),
        case("integer below", "q[0]|-128..=127|-129", || integers(8, -129, 1.0)),
        case("wrong block count", "alpha|72|36", || {
            let format = BlockFormat::new(4, 4)?;
            DsConvWeights::from_integers(CONV, format, &[0; 288], vec![1.0; 36])
        }),
        case("KDS bias length", "kds_bias|36|35", || {
            integers(4, 1, 1.0)?.with_kds_bias(vec![0.0; 35])
        }),
        case("infinite KDS bias", "kds_bias[0]|inf", || {
            integers(4, 1, 1.0)?.with_kds_bias(vec![f32::INFINITY; 36])
        }),
        case("bias length", "bias|4|5", || integers(4, 1, 1.0)?.with_bias(vec![0.0; 5])),
        case("NaN CDS scale", "cds_scale[0]|NaN", || {
            let (scale, shift) = (vec![f32::NAN; 4], vec![0.0; 4]);
            integers(4, 1, 1.0)?.with_cds(Cds::Output { scale, shift })
        }),
        case("CDS shift length", "cds_shift|4|0", || {
            let (scale, shift) = (vec![1.0; 4], vec![]);
            integers(4, 1, 1.0)?.with_cds(Cds::Kernel { scale, shift })
        }),
        case("CDS that overflows", "alpha times cds_scale[0]|inf", || {
            let (scale, shift) = (vec![1e30; 4], vec![0.0; 4]);
            integers(4, 1, 1e30)?.with_cds(Cds::Output { scale, shift })?.dequantize()
        }),
        case("zero batch", "input batch|0", output(Shape::new(0, 8, 4, 4))),
        case("zero height", "input height|0", output(Shape::new(1, 8, 0, 4))),
        case("wrong channels", "input channels|8|7", output(Shape::new(1, 7, 4, 4))),
        case("small input", "input width|at least 3|2", output(Shape::new(1, 8, 4, 2))),
        case("huge input", "input elements overflows", output(Shape::new(4096, 8, 4096, 4096))),
        case("huge output", "output elements overflows", || {
            let descriptor = ConvDescriptor::new(1, 1 << 20, [1, 1]);
            descriptor.output_shape(Shape::new(1, 1, 1 << 10, 1 << 10))
        }),
        case("reference input length", "input|128|127", || {
            let weights = integers(4, 1, 1.0)?;
            reference::convolve(&weights, Shape::new(1, 8, 4, 4), &[0.0; 127])
        }),
        case("reference residual length", "residual|16|0", || {
            let weights = integers(4, 1, 1.0)?;
            reference::convolve(&weights, Shape::new(1, 8, 4, 4), &[0.0; 128])?.with_epilogue(
                Activation::Relu,
                Residual::BeforeActivation,
                &[],
            )
        }),
    ]);
}

/// Kernels can be asked about descriptors that nobody validated.
#[test]
fn kernels_judge_invalid_descriptors_without_a_panic() {
    let capabilities =
        Capabilities::default().with_packed_dot_product(PackedDotProduct::Signed).with_shader_f16();
    for groups in [0, 3, u32::MAX] {
        for format in [BlockFormat::new(2, 1), BlockFormat::new(8, u32::MAX)] {
            for partition in [Partition::Fixed, Partition::Even] {
                let blocks = format.as_ref().ok().map(|f| f.with_partition(partition));
                let problem = ConvProblem::of_format(CONV.with_groups(groups), blocks)
                    .with_activations(ActivationFormat::Int8);
                let kernel = Kernel::choose(&problem, &capabilities);
                assert!(kernel.supports(&problem, &capabilities).is_ok(), "{problem}");
            }
        }
    }
}

#[test]
fn bad_layers_plans_and_buffers_are_refused() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let weights = integers(4, 1, 1.0).unwrap();
    let shape = Shape::new(1, 8, 4, 4);
    let layer = Layer::new(pipelines, &weights, LayerOptions::default()).unwrap();
    let adding = LayerOptions::default().with_residual(Residual::BeforeActivation);
    let in_place = adding.with_residual_in_place(true);
    let adding = Layer::new(pipelines, &weights, adding).unwrap();
    let storage = wgpu::BufferUsages::STORAGE;
    let buffer =
        |floats: usize, usage| upload(&gpu.device, "test", usage, &vec![0.0f32; floats]).unwrap();
    let (x, y, big) = (buffer(128, storage), buffer(16, storage), buffer(1024, storage));
    let plain = buffer(128, wgpu::BufferUsages::VERTEX);
    let with =
        |options: LayerOptions| move || Layer::new(pipelines, &integers(4, 1, 1.0)?, options);
    let default = LayerOptions::default();
    let tensors = |input, residual, output| Tensors::new(input, output).with_residual(residual);
    let run = |shape: Shape, x: usize, residual: usize| {
        let layer = &layer;
        move || {
            pollster::block_on(layer.run(&gpu.queue, shape, &vec![0.0; x], &vec![0.0; residual]))
        }
    };
    check(vec![
        case(
            "depthwise kernel",
            "unsupported|conv_depthwise|conv_gemm takes any",
            with(default.with_kernel(Kernel::ConvDepthwise)),
        ),
        case(
            "NaN slope",
            "activation slope|NaN",
            with(default.with_activation(Activation::LeakyRelu(f32::NAN))),
        ),
        case(
            "inverted clamp",
            "activation range|low <= high",
            with(default.with_activation(Activation::Clamp { low: 1.0, high: 0.0 })),
        ),
        case("CDS that overflows", "kds_bias with cds", || {
            let (scale, shift) = (vec![1e30; 4], vec![0.0; 4]);
            let weights = integers(4, 1, 1e-9)?.with_kds_bias(vec![1e30; 36])?;
            Layer::new(pipelines, &weights.with_cds(Cds::Kernel { scale, shift })?, default)
        }),
        case("wrong channels", "input channels|8|9", || {
            layer.plan(Shape::new(1, 9, 4, 4), tensors(x.slice(..), None, y.slice(..)))
        }),
        case("small input", "input buffer|512 bytes|508", || {
            layer.plan(shape, tensors(x.slice(..508), None, y.slice(..)))
        }),
        case("small output", "output buffer|64 bytes|60", || {
            layer
                .plan(shape, tensors(x.slice(..), None, y.slice(4..)))
                .or_else(|_| layer.plan(shape, tensors(x.slice(..), None, y.slice(..60))))
        }),
        case("misaligned", "input offset|multiple of|4", || {
            layer.plan(shape, tensors(big.slice(4..), None, y.slice(..)))
        }),
        case("not a storage buffer", "input buffer usage|STORAGE|VERTEX", || {
            layer.plan(shape, tensors(plain.slice(..), None, y.slice(..)))
        }),
        case("one buffer for both", "input buffer|output|the same", || {
            layer.plan(shape, tensors(big.slice(..512), None, big.slice(1024..)))
        }),
        case("a residual too many", "residual|none", || {
            layer.plan(shape, tensors(x.slice(..), Some(big.slice(..)), y.slice(..)))
        }),
        case("a residual missing", "residual|a tensor|none", || {
            adding.plan(shape, tensors(x.slice(..), None, y.slice(..)))
        }),
        case("small residual", "residual buffer|64 bytes|32", || {
            adding.plan(shape, tensors(x.slice(..), Some(big.slice(..32)), y.slice(..)))
        }),
        case("residual in the output", "residual buffer|residual_in_place|the same", || {
            adding.plan(shape, tensors(x.slice(..), Some(big.slice(..64)), big.slice(1024..)))
        }),
        case("in place without a residual", "residual_in_place|without a residual", || {
            Layer::new(pipelines, &weights, default.with_residual_in_place(true))
        }),
        case("integers in the residual's place", "residual_in_place|int8 output", || {
            let blocks = BlockFormat::new(4, 4).unwrap().blocks_of(4);
            let int8 = Int8Output::new(blocks, ActivationScale::Float);
            Layer::new(pipelines, &weights, in_place.with_int8_output(int8))
        }),
        case("a residual besides that in place", "residual|none|in the output", || {
            let layer = Layer::new(pipelines, &weights, in_place)?;
            layer.plan(shape, tensors(x.slice(..), Some(big.slice(..)), y.slice(..)))
        }),
        case("over the binding limit", "input|max_storage_buffer_binding_size|limit", || {
            layer.plan(Shape::new(1, 8, 8192, 8192), tensors(x.slice(..), None, y.slice(..)))
        }),
        case("run: wrong input", "input|128|127", run(shape, 127, 0)),
        case("run: unwanted residual", "residual|0|16", run(shape, 128, 16)),
        case("run: huge", "limit", run(Shape::new(1, 8, 8192, 8192), 8 << 26, 0)),
    ]);
}

#[test]
fn weights_over_the_limits_are_refused_before_anything_is_made() {
    let Some((gpu, _)) = gpu() else { return };
    let limits = wgpu::Limits {
        max_storage_buffer_binding_size: 1 << 12,
        ..dsconv::gpu::wanted_limits(&gpu.adapter)
    };
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, _queue) = pollster::block_on(gpu.adapter.request_device(&descriptor)).unwrap();
    let pipelines = Pipelines::new(&device).unwrap();
    let conv = ConvDescriptor::new(64, 64, [1, 1]);
    let floats = FloatWeights::new(conv, vec![1.0; 4096]).unwrap();
    let packed = Quantizer::new(4, 32).unwrap().weights(&conv, floats.values()).unwrap();
    let default = LayerOptions::default();
    check(vec![case("weights", "weights|16384|max_storage_buffer_binding_size|4096", || {
        Layer::new(&pipelines, &floats, default)
    })]);
    // A few bits a weight fit where floats do not.
    Layer::new(&pipelines, &packed, default).unwrap();

    // Limits that no kernel can live with are named when the device comes in.
    let limits = wgpu::Limits {
        max_compute_workgroup_storage_size: 64,
        ..dsconv::gpu::wanted_limits(&gpu.adapter)
    };
    let descriptor = wgpu::DeviceDescriptor { required_limits: limits, ..Default::default() };
    let (device, _queue) = pollster::block_on(gpu.adapter.request_device(&descriptor)).unwrap();
    check(vec![case("device", "max_compute_workgroup_storage_size|64", || {
        Pipelines::new(&device)
    })]);
}

#[test]
fn a_lost_device_is_an_error_and_not_a_hang() {
    if gpu().is_none() {
        return;
    }
    let gpu = open();
    let pipelines = Pipelines::new(&gpu.device).unwrap();
    let weights = integers(4, 1, 1.0).unwrap();
    let default = LayerOptions::default();
    let shape = Shape::new(1, 8, 4, 4);
    let layer = Layer::new(&pipelines, &weights, default).unwrap();
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let x = upload(&gpu.device, "x", usage, &[0.0f32; 128]).unwrap();
    let y = upload(&gpu.device, "y", usage, &[0.0f32; 16]).unwrap();
    gpu.device.destroy();
    let lost = |result: Result<()>, what: &str| {
        assert!(matches!(result, Err(Error::DeviceLost(_))), "{what}: {result:?}");
    };
    let tensors = Tensors::new(x.slice(..), y.slice(..));
    let run = || pollster::block_on(layer.run(&gpu.queue, shape, &[0.0; 128], &[])).map(|_| ());
    let fetch = || pollster::block_on(download(&gpu.device, &gpu.queue, y.slice(..))).map(|_| ());
    let results = catch_unwind(AssertUnwindSafe(|| {
        [
            ("pipelines", Pipelines::new(&gpu.device).map(|_| ())),
            ("layer", Layer::new(&pipelines, &weights, default).map(|_| ())),
            ("plan", layer.plan(shape, tensors).map(|_| ())),
            ("run", run()),
            ("download", fetch()),
        ]
    }));
    for (what, result) in results.expect("no panic on a lost device") {
        lost(result, what);
    }
}
