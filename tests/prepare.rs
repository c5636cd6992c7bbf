//! Layers prepared once and bound many times, pipelines compiled ahead, labels.

mod common;

use common::{
    BOUND, Extras, Run, expected, from_layout, gpu, open, random_f32, random_weights, submit,
    to_layout, worst_error,
};
use dsconv::gpu::{
    ActivationFormat, FloatFormat, Int8Output, Kernel, Layer, LayerOptions, MemoryUse,
    PackedDotProduct, Pipelines, Plan, Prepared, Tensors, Timestamps, WarmUp, WeightFormat,
    download, upload,
};
use dsconv::{
    Activation, ActivationScale, BlockFormat, ConvDescriptor, DsConvWeights, Error, Layout,
    Residual, Shape, Weights,
};

const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC);

fn weights(rng: &mut fastrand::Rng) -> DsConvWeights {
    let descriptor = ConvDescriptor::new(16, 24, [3, 3]).with_padding([1; 4]);
    let extras = Extras { kds_bias: false, bias: true, cds: 0 };
    random_weights(rng, descriptor, BlockFormat::new(4, 16).unwrap(), extras)
}

#[test]
fn one_preparation_serves_any_buffers() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let weights = weights(&mut rng);
    let options = LayerOptions::default()
        .with_activation(Activation::Relu)
        .with_residual(Residual::BeforeActivation);
    let layer = Layer::new(pipelines, &weights, options).unwrap();
    let input = Shape::new(1, 16, 9, 7);
    let output = layer.descriptor().output_shape(input).unwrap();
    let prepared = layer.prepare(input).unwrap();
    assert_eq!(prepared.output_shape(), output);
    assert_eq!(prepared.variant(), layer.variant(input).unwrap());
    assert_eq!(prepared.memory_use(), layer.plan_memory_use(input).unwrap());
    assert_eq!(prepared.memory_use(), MemoryUse::of_plan(&weights, input, &options).unwrap());
    // The layer may go; what was prepared holds its weights.
    drop(layer);
    let upload = |values: &[f32]| upload(&gpu.device, "tensor", STORAGE, values).unwrap();
    let mut rounds = Vec::new();
    for _ in 0..3 {
        let x = random_f32(&mut rng, input.elements());
        let residual = random_f32(&mut rng, output.elements());
        let (x_buffer, residual_buffer) = (upload(&x), upload(&residual));
        let y = upload(&vec![f32::NAN; output.elements()]);
        let tensors =
            Tensors::new(x_buffer.slice(..), y.slice(..)).with_residual(residual_buffer.slice(..));
        let plan = prepared.bind(tensors).unwrap();
        assert_eq!(plan.workgroups(), prepared.workgroups());
        rounds.push((plan, x, residual, y));
    }
    // The uniform is shared, and stays for the others when one of them lets it go.
    prepared.destroy();
    for (plan, x, residual, y) in rounds {
        submit(gpu, &plan);
        plan.destroy();
        let y = pollster::block_on(download(&gpu.device, &gpu.queue, y.slice(..))).unwrap();
        let run = Run { options, input, x: &x, residual: &residual };
        let error = worst_error(&y, &expected(&weights, run));
        assert!(error <= BOUND, "seed {seed}: {error:e}");
    }
}

/// The same integers with other scales.
fn relearned(rng: &mut fastrand::Rng, weights: &DsConvWeights) -> DsConvWeights {
    let q: Vec<i32> = weights.q().iter().map(|&q| q.into()).collect();
    let alpha = random_f32(rng, weights.alpha().len());
    let mut new =
        DsConvWeights::from_integers(*weights.descriptor(), *weights.format(), &q, alpha).unwrap();
    if let Some(kds_bias) = weights.kds_bias() {
        new = new.with_kds_bias(random_f32(rng, kds_bias.len())).unwrap();
    }
    match weights.bias() {
        Some(bias) => new.with_bias(random_f32(rng, bias.len())).unwrap(),
        None => new,
    }
}

#[test]
fn plans_that_are_bound_read_the_numbers_that_a_layer_learns() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let input = Shape::new(1, 16, 9, 7);
    let descriptor = ConvDescriptor::new(16, 24, [3, 3]).with_padding([1; 4]);
    let x = random_f32(&mut rng, input.elements());
    let x_buffer = upload(&gpu.device, "x", STORAGE, &x).unwrap();
    for bits in [0, 2, 3, 4, 7, 8] {
        for kds_bias in [false, true] {
            let extras = Extras { kds_bias, bias: true, cds: 0 };
            let format = BlockFormat::new(bits.max(2), 5).unwrap();
            let old = random_weights(&mut rng, descriptor, format, extras);
            let new = relearned(&mut rng, &old);
            let form = |weights: &DsConvWeights| match bits {
                0 => Weights::Float(weights.dequantize().unwrap()),
                _ => Weights::DsConv(weights.clone()),
            };
            let options = LayerOptions::default().with_kernel(match kds_bias {
                // The kernels keep 8-bit weights in two orders.
                false => Kernel::ConvDirect,
                true => Kernel::ConvGemm,
            });
            let layer = Layer::new(pipelines, &form(&old), options).unwrap();
            let output = descriptor.output_shape(input).unwrap();
            let y_buffer =
                upload(&gpu.device, "y", STORAGE, &vec![f32::NAN; output.elements()]).unwrap();
            let plan =
                layer.plan(input, Tensors::new(x_buffer.slice(..), y_buffer.slice(..))).unwrap();
            for weights in [&old, &new, &old] {
                layer.update(&gpu.queue, &form(weights)).unwrap();
                submit(gpu, &plan);
                let y = download(&gpu.device, &gpu.queue, y_buffer.slice(..));
                let y = pollster::block_on(y).unwrap();
                let run = Run { options, input, x: &x, residual: &[] };
                let error = worst_error(&y, &expected(weights, run));
                assert!(error <= BOUND, "seed {seed}, {bits} bits: {error:e}");
            }
        }
    }
}

#[test]
fn a_layer_learns_only_numbers_of_its_own_kind() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let rng = &mut fastrand::Rng::new();
    let own = weights(rng);
    let options = LayerOptions::default().with_kernel(Kernel::ConvDirect);
    let layer = Layer::labelled(pipelines, &own, options, "stem").unwrap();
    let descriptor = *own.descriptor();
    let other = |descriptor, bits, block, kds_bias, bias| {
        let extras = Extras { kds_bias, bias, cds: 0 };
        let format = BlockFormat::new(bits, block).unwrap();
        random_weights(&mut fastrand::Rng::new(), descriptor, format, extras)
    };
    for (field, weights) in [
        ("descriptor", other(ConvDescriptor::new(16, 24, [3, 3]), 4, 16, false, true)),
        ("new weights", other(descriptor, 5, 16, false, true)),
        ("new weights", other(descriptor, 4, 8, false, true)),
        ("scales", other(descriptor, 4, 16, true, true)),
        ("scales", other(descriptor, 4, 16, false, false)),
    ] {
        let error = layer.update(&gpu.queue, &weights).unwrap_err().to_string();
        assert!(error.contains("stem") && error.contains(field), "{error}");
    }
    let floats = own.dequantize().unwrap();
    let error = layer.update(&gpu.queue, &floats).unwrap_err().to_string();
    assert!(error.contains("F32"), "{error}");
    let halves = options.with_scale_format(FloatFormat::F16);
    let layer = Layer::new(pipelines, &own, halves).unwrap();
    assert!(matches!(layer.update(&gpu.queue, &own), Err(Error::Unsupported { .. })));
}

#[test]
fn layers_share_weights_under_other_options() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let weights = weights(&mut rng);
    let plain = LayerOptions::default();
    let layer = Layer::labelled(pipelines, &weights, plain, "stem").unwrap();
    let others = [
        plain.with_activation(Activation::Relu).with_input_layout(Layout::Nhwc),
        plain.with_kernel(Kernel::ConvDirect).with_output_layout(Layout::Nhwc),
        plain.with_input_format(ActivationFormat::Int8),
        plain.with_residual(Residual::AfterActivation).with_residual_in_place(true),
    ];
    let input = Shape::new(1, 16, 5, 6);
    let outputs = layer.descriptor().output_shape(input).unwrap();
    let x = random_f32(&mut rng, input.elements());
    for options in others {
        let other = layer.with_options(options).unwrap();
        assert_eq!((other.options(), other.label()), (&options, Some("stem")));
        assert_eq!(other.memory_use(), layer.memory_use());
        let residual = match options.residual {
            Residual::None => Vec::new(),
            _ => random_f32(&mut rng, outputs.elements()),
        };
        let run = Run { options, input, x: &x, residual: &residual };
        let in_layout = to_layout(&x, input, options.input_layout);
        let y = pollster::block_on(other.run(&gpu.queue, input, &in_layout, &residual)).unwrap();
        let y = from_layout(&y, outputs, options.output_layout);
        let error = worst_error(&y, &expected(&weights, run));
        assert!(error <= BOUND, "seed {seed}: {options:?}: {error:e}");
    }
    let words = |result: dsconv::Result<Layer>| result.unwrap_err().to_string();
    let halves = words(layer.with_options(plain.with_scale_format(FloatFormat::F16)));
    assert!(halves.contains("stem: sharing") && halves.contains("Layer::new"), "{halves}");
    let refused = words(layer.with_options(plain.with_kernel(Kernel::ConvDepthwise)));
    assert!(refused.contains("stem: conv_depthwise"), "{refused}");
    // It is one buffer: who frees it, frees it for all.
    layer.with_options(others[0]).unwrap().destroy();
    let freed = layer.run(&gpu.queue, input, &x, &[]);
    assert!(pollster::block_on(freed).is_err());
}

#[test]
fn eight_bit_weights_are_not_shared_by_kernels_that_read_them_otherwise() {
    let Some((_, pipelines)) = gpu() else { return };
    let descriptor = ConvDescriptor::new(16, 24, [1, 1]);
    let mut rng = fastrand::Rng::with_seed(1);
    let extras = Extras { kds_bias: false, bias: false, cds: 0 };
    let weights = random_weights(&mut rng, descriptor, BlockFormat::new(8, 16).unwrap(), extras);
    let [subgroup, gemm] = [Kernel::ConvSubgroup, Kernel::ConvGemm]
        .map(|kernel| LayerOptions::default().with_kernel(kernel));
    let layer = Layer::new(pipelines, &weights, gemm).unwrap();
    let error = layer.with_options(subgroup).unwrap_err().to_string();
    // Devices without subgroups of eight refuse the kernel itself.
    assert!(error.contains("conv_subgroup"), "{error}");
    layer.with_options(gemm.with_kernel(Kernel::ConvDirect)).unwrap();
}

#[test]
fn a_layer_takes_only_what_is_known_to_be_its_input() {
    let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let pipelines = Pipelines::new(&device).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let first = weights(&mut rng);
    let next = |block| {
        let descriptor = ConvDescriptor::new(24, 8, [1, 1]);
        let extras = Extras { kds_bias: false, bias: false, cds: 0 };
        let format = BlockFormat::new(4, block).unwrap();
        let weights = random_weights(&mut fastrand::Rng::with_seed(2), descriptor, format, extras);
        let options = LayerOptions::default().with_input_format(ActivationFormat::Int8);
        Layer::new(&pipelines, &weights, options).unwrap()
    };
    let shape = Shape::new(1, 16, 6, 6);
    let (eights, sixteens) = (next(8), next(16));
    let blocks = BlockFormat::new(4, 8).unwrap().blocks_of(24);
    let int8 = Int8Output::new(blocks, ActivationScale::PowerOfTwo);
    let options = LayerOptions::default().with_int8_output(int8);
    let layer = Layer::new(&pipelines, &first, options).unwrap();
    let written = layer.prepare(shape).unwrap().output_format();
    let floats = layer.with_options(LayerOptions::default()).unwrap();
    let floats = floats.prepare(shape).unwrap().output_format();
    let middle = Shape::new(1, 24, 6, 6);
    let upload = |words| upload(&device, "tensor", STORAGE, &vec![0u32; words]).unwrap();
    let (x, y) = (upload(1024), upload(1024));
    let bind = |layer: &Layer, format| {
        let tensors = Tensors::new(x.slice(..), y.slice(..)).with_input_format(format);
        layer.prepare(middle).unwrap().bind(tensors)
    };
    bind(&eights, Some(written)).unwrap();
    bind(&sixteens, None).unwrap();
    for (layer, given, words) in [
        (&sixteens, written, "input_format|2 blocks of 16|3 blocks of 8"),
        (&eights, floats, "input_format|3 blocks of 8|F32 tensor"),
    ] {
        let error = bind(layer, Some(given)).unwrap_err().to_string();
        assert!(words.split('|').all(|word| error.contains(word)), "{error}");
    }
    // What the layer's own quantisation writes is what it takes.
    let scale = ActivationScale::Float;
    let quantized = sixteens.prepare_quantization(middle, scale).unwrap();
    assert_eq!(quantized.output_format(), sixteens.prepare(middle).unwrap().input_format());
}

#[test]
fn layers_are_right_whatever_may_wait_for_a_submission() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let input = Shape::new(1, 16, 3, 4);
    for bound in [0, 5_000, u64::MAX] {
        let pipelines = pipelines.clone().with_upload_bound(&gpu.queue, bound).unwrap();
        let made: Vec<_> = (0..4)
            .map(|_| {
                let weights = weights(&mut rng);
                let layer = Layer::new(&pipelines, &weights, LayerOptions::default()).unwrap();
                (weights, layer)
            })
            .collect();
        for (weights, layer) in made {
            let x = random_f32(&mut rng, input.elements());
            let y = pollster::block_on(layer.run(&gpu.queue, input, &x, &[])).unwrap();
            let run = Run { options: *layer.options(), input, x: &x, residual: &[] };
            let error = worst_error(&y, &expected(&weights, run));
            assert!(error <= BOUND, "seed {seed}, bound {bound}: {error:e}");
        }
    }
    let other = open();
    let error = pipelines.clone().with_upload_bound(&other.queue, 0).unwrap_err().to_string();
    assert!(error.contains("queue") && error.contains("another device"), "{error}");
}

/// What docs/embed.md promises.
#[test]
fn layers_and_plans_can_be_sent_to_other_threads_and_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<(Pipelines, Layer, Prepared, Plan, Timestamps)>();
}

#[test]
fn what_a_layer_is_can_be_asked() {
    let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let pipelines = Pipelines::new(&device).unwrap();
    let weights = weights(&mut fastrand::Rng::with_seed(1));
    let options = LayerOptions::default().with_scale_format(FloatFormat::F16);
    let layer = Layer::new(&pipelines, &weights, options).unwrap();
    assert_eq!(layer.options(), &options);
    assert_eq!(layer.format(), WeightFormat::Packed(4));
    assert_eq!(layer.label(), None);
    assert_eq!(layer.pipelines().device(), &device);
    // 24 outputs are one tile of 64, and 90,000 pixels so many tiles that the wide form pays.
    let wide = layer.prepare(Shape::new(1, 16, 300, 300)).unwrap();
    assert_eq!((layer.kernel(), wide.kernel()), (Kernel::ConvGemm, Kernel::ConvGemmWide));
    let [x, y] = wide.workgroups();
    assert_eq!(x * y, 90_000u32.div_ceil(64));
}

#[test]
fn warming_up_compiles_each_pipeline_once_and_tells_how_far_it_is() {
    let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let pipelines = Pipelines::new(&device).unwrap();
    let weights = weights(&mut fastrand::Rng::with_seed(1));
    let int8 = LayerOptions::default().with_input_format(ActivationFormat::Int8);
    let layer = |pipelines: &Pipelines, options| Layer::new(pipelines, &weights, options).unwrap();
    let slow = pipelines.clone().with_packed_dot_product(PackedDotProduct::None);
    let floats = layer(&pipelines, LayerOptions::default());
    let (signed, written_out) = (layer(&pipelines, int8), layer(&slow, int8));
    let small = Shape::new(1, 16, 8, 8);
    let wanted = [(&floats, small), (&floats, Shape::new(2, 16, 9, 9)), (&signed, small)];
    let mut told = Vec::new();
    pipelines.warm_up(wanted, |progress| told.push(progress)).unwrap();
    let told: Vec<_> =
        told.iter().map(|WarmUp { compiled, wanted, .. }| [*compiled, *wanted]).collect();
    assert_eq!(told, [[1, 3], [2, 3], [3, 3]], "floats, int8, and the quantisation");
    assert_eq!(pipelines.compiled(), 3);
    floats.prepare(small).unwrap();
    signed.prepare_quantization(small, ActivationScale::Float).unwrap();
    assert_eq!(
        (signed.prepare(small).unwrap().kernel(), pipelines.compiled()),
        (Kernel::ConvGemmInt8, 3)
    );
    // A clone for another packed dot product shares what is compiled, and has its own where the code differs.
    assert_eq!(written_out.prepare(small).unwrap().kernel(), Kernel::ConvGemm);
    assert_eq!((slow.compiled(), pipelines.compiled()), (4, 4));

    // A wrong shape is found before anything is compiled.
    let wrong = Shape::new(1, 15, 8, 8);
    let fresh = Pipelines::new(&device).unwrap();
    let int8 = layer(&fresh, int8);
    let error = fresh.warm_up([(&int8, small), (&int8, wrong)], |_| {});
    assert!(matches!(error, Err(Error::Invalid { .. })), "{error:?}");
    assert_eq!(fresh.compiled(), 0);
}

#[test]
fn threads_that_warm_up_the_same_layers_compile_each_pipeline_once() {
    let Some((gpu, _)) = gpu() else { return };
    let pipelines = Pipelines::new(&gpu.device).unwrap();
    let weights = weights(&mut fastrand::Rng::with_seed(1));
    let layer = |activation| {
        let options = LayerOptions::default().with_activation(activation);
        Layer::new(&pipelines, &weights, options).unwrap()
    };
    let layers = [layer(Activation::Silu), layer(Activation::Relu)];
    let shape = Shape::new(1, 16, 8, 8);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                pipelines.warm_up(layers.iter().map(|layer| (layer, shape)), |_| {}).unwrap();
            });
        }
    });
    let mut variants = layers.each_ref().map(|layer| layer.variant(shape).unwrap()).to_vec();
    variants.dedup();
    assert_eq!(pipelines.compiled(), variants.len());
}

#[test]
fn a_label_is_in_the_words_of_the_library_and_of_wgpu() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let weights = weights(&mut fastrand::Rng::with_seed(1));
    let layer = Layer::labelled(pipelines, &weights, LayerOptions::default(), "stem").unwrap();
    assert_eq!(layer.label(), Some("stem"));
    let shape = Shape::new(1, 16, 4, 4);
    let (x, y) = ([0.0; 256], [0.0; 384]);
    let upload = |values: &[f32]| upload(&gpu.device, "tensor", STORAGE, values).unwrap();
    let (x, y) = (upload(&x), upload(&y));
    let bind = |residual| Tensors::new(x.slice(..), y.slice(..)).with_residual(residual);
    let words = |result: dsconv::Result<()>| result.unwrap_err().to_string();
    let wrong = layer.prepare(Shape::new(1, 15, 4, 4)).map(|_| ());
    assert!(words(wrong).starts_with("stem: input channels: "));
    let prepared = layer.prepare(shape).unwrap();
    let unwanted = prepared.bind(bind(Some(x.slice(..)))).map(|_| ());
    assert!(words(unwanted).starts_with("stem: residual: "));
    let short = pollster::block_on(layer.run(&gpu.queue, shape, &[0.0; 255], &[])).map(|_| ());
    assert!(words(short).starts_with("stem: input: "));
    let bad = LayerOptions::default().with_kernel(Kernel::ConvDepthwise);
    let bad = Layer::labelled(pipelines, &weights, bad, "stem").map(|_| ());
    assert!(words(bad).starts_with("unsupported: stem: conv_depthwise"));
    // It works, with a debug group around it.
    let plan = prepared.bind(bind(None)).unwrap();
    submit(gpu, &plan);
    pollster::block_on(download(&gpu.device, &gpu.queue, y.slice(..))).unwrap();
    // wgpu names the buffer by it, where a clone has freed the weights of both.
    layer.clone().destroy();
    let freed = words(prepared.bind(bind(None)).map(|_| ()));
    assert!(
        freed.contains("weights of stem") && freed.contains("refused stem: a bind group"),
        "{freed}"
    );
}
