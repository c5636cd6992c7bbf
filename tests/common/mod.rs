//! What the GPU tests share: one device, random layers, and running a layer between guarded buffers.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use dsconv::gpu::{
    self, ActivationFormat, FloatFormat, Gpu, Layer, LayerOptions, MemoryUse, Pipelines, Plan,
    Tensors,
};
use dsconv::{
    ActivationScale, BlockFormat, Cds, ConvDescriptor, DsConvWeights, Int8Activations, Layout,
    Reference, Residual, Shape, WeightsRef, reference,
};
use std::sync::OnceLock;

/// The device that tests run on, with its pipelines: opened once, for compiling takes long.
///
/// `None` only if the environment says `DSCONV_GPU=skip`. No adapter is a failure.
pub fn gpu() -> Option<&'static (Gpu, Pipelines)> {
    static GPU: OnceLock<Option<(Gpu, Pipelines)>> = OnceLock::new();
    GPU.get_or_init(|| {
        if std::env::var("DSCONV_GPU").as_deref() == Ok("skip") {
            eprintln!("GPU tests skipped: DSCONV_GPU=skip");
            return None;
        }
        let gpu = open();
        let pipelines = Pipelines::new(&gpu.device).unwrap();
        // Matrix units that kernels can use must prove themselves: no test skips them.
        let found = gpu::tensor_cores(&gpu.adapter, &pipelines, &gpu.queue);
        let pipelines = match pollster::block_on(found) {
            Ok(units) => pipelines.with_tensor_cores(units),
            Err(dsconv::Error::Unsupported { what, .. }) if !what.contains("not proven") => {
                println!("{what}");
                pipelines
            }
            Err(error) => panic!("{error}"),
        };
        Some((gpu, pipelines))
    })
    .as_ref()
}

/// The same adapter with the limits that every adapter of wgpu has: four storage buffers among them.
pub fn lowest_limits() -> Option<&'static (Gpu, Pipelines)> {
    static GPU: OnceLock<Option<(Gpu, Pipelines)>> = OnceLock::new();
    GPU.get_or_init(|| {
        let adapter = &gpu()?.0.adapter;
        let limits = wgpu::Limits::downlevel_defaults();
        assert_eq!(limits.max_storage_buffers_per_shader_stage, 4);
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features() & gpu::WANTED_FEATURES,
            required_limits: limits,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let pipelines = Pipelines::new(&device).unwrap();
        Some((Gpu { adapter: adapter.clone(), device, queue }, pipelines))
    })
    .as_ref()
}

/// A device of its own, for tests that break it. `DSCONV_DEVICE` names another than the best.
pub fn open() -> Gpu {
    let selection = match std::env::var("DSCONV_DEVICE") {
        Ok(name) => gpu::Selection::Name(name),
        Err(_) => gpu::Selection::Best,
    };
    #[expect(unsafe_code, reason = "wgpu has no safe form of it")]
    // SAFETY: tests take the risk of a feature that wgpu calls experimental.
    let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
    pollster::block_on(gpu::open_with(&selection, experimental_features))
        .unwrap_or_else(|e| panic!("{e}; or set DSCONV_GPU=skip to do without GPU tests"))
}

/// How many random cases a test takes: what `DSCONV_CASES` says, for a second or slow device, or else the test's own
/// number. Every run draws new ones.
pub fn cases(own: u32) -> u32 {
    std::env::var("DSCONV_CASES")
        .map_or(own, |cases| cases.parse().expect("DSCONV_CASES is a number"))
}

/// The bound of the float path, as a share of the reference's magnitude.
pub const BOUND: f64 = 4e-6;

/// The bound on matrix units, see docs/kernels.md: input and weight are rounded to halves, 2^-11 each. The steepest
/// activation function, hard swish, multiplies an error by 1.5.
pub const MATRIX_BOUND: f64 = 1.5 * (1.0 / 1024.0 + 1.0 / 4_194_304.0) + BOUND;

pub fn random_f32(rng: &mut fastrand::Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

/// The bound with halves in memory: alpha and outputs are rounded to 11 bits.
pub const HALF_BOUND: f64 = 2e-3;

/// Floats as a format has them.
pub fn rounded(values: &[f32], format: FloatFormat) -> Vec<f32> {
    match format {
        FloatFormat::F32 => values.to_vec(),
        FloatFormat::F16 => values.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect(),
    }
}

/// Floats as words of device memory; behind the last half comes the first of `POISON`.
pub fn words(values: &[f32], format: FloatFormat) -> Vec<u32> {
    match format {
        FloatFormat::F32 => values.iter().map(|value| value.to_bits()).collect(),
        FloatFormat::F16 => {
            let bits = |&value: &f32| u32::from(half::f16::from_f32(value).to_bits());
            let pair = |pair: &[f32]| {
                bits(&pair[0]) | pair.get(1).map_or(POISON & 0xffff_0000, |high| bits(high) << 16)
            };
            values.chunks(2).map(pair).collect()
        }
    }
}

/// A NaN as a float and as a half.
pub const POISON: u32 = 0x7fc0_7ead;

/// What a random layer has besides integers and alpha.
#[derive(Clone, Copy, Debug)]
pub struct Extras {
    pub kds_bias: bool,
    pub bias: bool,
    /// 0: none, 1: output reading, 2: kernel reading.
    pub cds: u8,
}

pub fn random_weights(
    rng: &mut fastrand::Rng,
    descriptor: ConvDescriptor,
    format: BlockFormat,
    extras: Extras,
) -> DsConvWeights {
    let (min, max) = (format.min(), format.max());
    // Extremes often: the sign handling of packed integers is where they hurt.
    let q: Vec<i32> = (0..descriptor.weight_count())
        .map(|_| match rng.u8(0..8) {
            0 => min,
            1 => max,
            _ => rng.i32(min..=max),
        })
        .collect();
    let blocks = format.blocks_of(descriptor.channels_per_group()).count;
    let scales = (descriptor.out_channels * descriptor.taps() * blocks) as usize;
    let alpha = random_f32(rng, scales);
    let mut weights = DsConvWeights::from_integers(descriptor, format, &q, alpha).unwrap();
    let outputs = descriptor.out_channels as usize;
    if extras.kds_bias {
        weights = weights.with_kds_bias(random_f32(rng, scales)).unwrap();
    }
    if extras.bias {
        weights = weights.with_bias(random_f32(rng, outputs)).unwrap();
    }
    let (scale, shift) = (random_f32(rng, outputs), random_f32(rng, outputs));
    match extras.cds {
        0 => weights,
        1 => weights.with_cds(Cds::Output { scale, shift }).unwrap(),
        _ => weights.with_cds(Cds::Kernel { scale, shift }).unwrap(),
    }
}

/// Brings a tensor from NCHW into a layout.
pub fn to_layout<T: Copy>(values: &[T], shape: Shape, layout: Layout) -> Vec<T> {
    match layout {
        Layout::Nchw => values.to_vec(),
        Layout::Nhwc => {
            let (channels, pixels) =
                (shape.channels as usize, (shape.height * shape.width) as usize);
            let at = |image: usize, pixel: usize, channel: usize| {
                values[(image * channels + channel) * pixels + pixel]
            };
            let images = 0..shape.batch as usize;
            images
                .flat_map(|n| (0..pixels).flat_map(move |p| (0..channels).map(move |c| (n, p, c))))
                .map(|(n, p, c)| at(n, p, c))
                .collect()
        }
    }
}

/// Back to NCHW: the same turn with pixels and channels exchanged.
pub fn from_layout<T: Copy>(values: &[T], shape: Shape, layout: Layout) -> Vec<T> {
    let turned =
        Shape { channels: shape.height * shape.width, height: shape.channels, width: 1, ..shape };
    to_layout(values, turned, layout)
}

/// A run of a layer: its options and its tensors, in NCHW. The residual is empty where the options want none.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub options: LayerOptions,
    pub input: Shape,
    pub x: &'a [f32],
    pub residual: &'a [f32],
}

/// Runs a layer between slices at an offset, into an output full of NaN, or of the residual if that is in place, with
/// guard words behind it. The result is NCHW.
pub fn run_guarded<'a>(
    (gpu, pipelines): &(Gpu, Pipelines),
    weights: impl Into<WeightsRef<'a>>,
    run: Run<'_>,
) -> dsconv::Result<Vec<f32>> {
    let Run { options, input, x, residual } = run;
    const GUARD: usize = 40;
    let weights = weights.into();
    let layer = Layer::new(pipelines, weights, options)?;
    let shape = layer.descriptor().output_shape(input)?;
    let offset = 256u64.max(gpu.device.limits().min_storage_buffer_offset_alignment.into());
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    // Before the offset NaN too: a kernel that forgets the offset shows.
    let tensor = |values: &[u32]| {
        let mut words = vec![POISON; offset as usize / 4];
        words.extend(values);
        gpu::upload(&gpu.device, "tensor", usage, &words)
    };
    let format = options.float_format;
    let bits = |values: &[f32], shape: Shape, layout| -> Vec<u32> {
        words(&to_layout(values, shape, layout), format)
    };
    let floats = tensor(&bits(x, input, options.input_layout))?;
    let x = match options.input_format {
        ActivationFormat::Float => floats,
        ActivationFormat::Int8 => {
            let memory = MemoryUse::of_plan(weights, input, &options)?;
            let integers = tensor(&vec![POISON; memory.input as usize / 4 + GUARD])?;
            let scale = ActivationScale::PowerOfTwo;
            let slices = (floats.slice(offset..), integers.slice(offset..));
            let plan = layer.plan_quantization(input, scale, slices.0, slices.1)?;
            submit(gpu, &plan);
            integers
        }
    };
    let float_words = (format.bytes() as usize * shape.elements()).div_ceil(4);
    let poison = vec![POISON; float_words + GUARD];
    let (y, residual) = match options.residual {
        Residual::None => (tensor(&poison)?, None),
        _ => {
            let mut residual = bits(residual, shape, options.output_layout);
            match options.residual_in_place {
                true => {
                    residual.extend(&poison[float_words..]);
                    (tensor(&residual)?, None)
                }
                false => (tensor(&poison)?, Some(tensor(&residual)?)),
            }
        }
    };
    let plan = layer.plan(
        input,
        Tensors::new(x.slice(offset..), y.slice(offset..))
            .with_residual(residual.as_ref().map(|r| r.slice(offset..))),
    )?;
    submit(gpu, &plan);
    let y = pollster::block_on(gpu::download(&gpu.device, &gpu.queue, y.slice(..)))?;
    let (before, rest) = y.split_at(offset as usize / 4);
    let (y, behind) = rest.split_at(float_words);
    let untouched = |words: &[f32]| words.iter().all(|w| w.to_bits() == POISON);
    assert!(untouched(before) && untouched(behind), "a kernel wrote outside its output");
    let y: Vec<f32> = match format {
        FloatFormat::F32 => y.to_vec(),
        FloatFormat::F16 => {
            let halves = y.iter().flat_map(|w| [w.to_bits() as u16, (w.to_bits() >> 16) as u16]);
            let halves: Vec<u16> = halves.collect();
            let (y, behind) = halves.split_at(shape.elements());
            assert!(behind.iter().all(|&half| u32::from(half) == POISON >> 16), "a half behind");
            y.iter().map(|&half| half::f16::from_bits(half).to_f32()).collect()
        }
    };
    Ok(from_layout(&y, shape, options.output_layout))
}

pub fn submit(gpu: &Gpu, plan: &Plan) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    plan.encode(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
}

/// The oracle for the same run.
pub fn expected(weights: &DsConvWeights, run: Run<'_>) -> Reference {
    let Run { options, input, x, residual } = run;
    let (x, residual) =
        (&rounded(x, options.float_format), &rounded(residual, options.float_format));
    let reference = match options.input_format {
        ActivationFormat::Float => reference::convolve(weights, input, x),
        ActivationFormat::Int8 => {
            let scale = ActivationScale::PowerOfTwo;
            Int8Activations::quantize(weights.descriptor(), weights.format(), input, x, scale)
                .and_then(|x| reference::convolve_int8(weights, &x))
        }
    };
    reference.and_then(|r| r.with_epilogue(options.activation, options.residual, residual)).unwrap()
}

/// The worst error as a share of the magnitude; infinite where an output is not finite.
pub fn worst_error(y: &[f32], expected: &Reference) -> f64 {
    assert_eq!(y.len(), expected.values.len());
    let error = |(&y, e): (&f32, &f64)| {
        let error = (f64::from(y) - e).abs();
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let worst = y.iter().zip(&expected.values).map(error).fold(0.0, f64::max);
    if worst == 0.0 { 0.0 } else { worst / expected.magnitude }
}
