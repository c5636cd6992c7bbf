//! Kernels for matrix units ("tensor cores"): how they are proven, how near they come, and what is said where there are
//! none.

mod common;

use common::{
    Extras, MATRIX_BOUND, Run, expected, gpu, random_f32, random_weights, run_guarded, worst_error,
};
use dsconv::gpu::{
    ActivationFormat, Capabilities, ConvProblem, Kernel, Layer, LayerOptions, Pipelines, Selection,
    TENSOR_CORE_FEATURES, TensorCores, WANTED_FEATURES, tensor_cores,
};
use dsconv::{Activation, BlockFormat, ConvDescriptor, Error, Layout, Residual, Shape};

/// The kernel of the device's matrix units, where it has any.
fn kernel(pipelines: &Pipelines) -> Option<Kernel> {
    let capabilities = pipelines.capabilities();
    let weights = ConvProblem::of_format(ConvDescriptor::new(64, 64, [1, 1]), None);
    [Kernel::ConvMatrix8, Kernel::ConvMatrix16]
        .into_iter()
        .find(|kernel| kernel.supports(&weights, capabilities).is_ok())
}

#[test]
fn layers_of_networks_are_within_the_bound_of_halves() {
    let Some(gpu) = gpu() else { return };
    let Some(kernel) = kernel(&gpu.1) else {
        println!("no matrix units; tools/on-unpacked-lavapipe runs this on a device that has some");
        return;
    };
    let seed = fastrand::u64(..);
    println!("{}, seed {seed}", kernel.name());
    let mut rng = fastrand::Rng::with_seed(seed);
    let conv = ConvDescriptor::new;
    for (descriptor, bits, block) in [
        (conv(64, 96, [3, 3]).with_padding([1; 4]), 4, 32),
        (conv(32, 64, [1, 1]), 8, 32),
        (conv(48, 66, [3, 3]).with_stride([2, 2]).with_padding([0, 0, 1, 1]), 4, 16),
        (conv(64, 130, [3, 1]).with_groups(2).with_dilation([2, 1]), 8, 12),
    ] {
        let shape = Shape::new(2, descriptor.in_channels, 9, 11);
        let extras = Extras { kds_bias: rng.bool(), bias: true, cds: rng.u8(0..3) };
        let format = BlockFormat::new(bits, block).unwrap();
        let weights = random_weights(&mut rng, descriptor, format, extras);
        let x = random_f32(&mut rng, shape.elements());
        let outputs = descriptor.output_shape(shape).unwrap().elements();
        let residual = random_f32(&mut rng, outputs);
        for (input_layout, output_layout) in
            [(Layout::Nhwc, Layout::Nhwc), (Layout::Nchw, Layout::Nchw)]
        {
            let options = LayerOptions::default()
                .with_kernel(kernel)
                .with_activation(Activation::HardSwish)
                .with_residual(Residual::BeforeActivation)
                .with_input_layout(input_layout)
                .with_output_layout(output_layout);
            let run = Run { options, input: shape, x: &x, residual: &residual };
            let y = run_guarded(gpu, &weights, run).unwrap();
            let error = worst_error(&y, &expected(&weights, run));
            println!("{bits} bits, blocks of {block}, {input_layout:?}: {error:e}");
            assert!(error <= MATRIX_BOUND, "{descriptor:?}: {error:e}");
            // Halves they are: floats would come nearer.
            assert!(error > common::BOUND, "{descriptor:?}: {error:e}");
        }
    }
}

#[test]
fn a_device_that_was_not_asked_for_them_has_none_and_says_how_to_ask() {
    assert!((WANTED_FEATURES & wgpu::Features::all_experimental_mask()).is_empty());
    let Some((with, _)) = gpu() else { return };
    let selection = Selection::Name(with.adapter.get_info().name);
    let plain = pollster::block_on(dsconv::gpu::open(&selection)).unwrap();
    let pipelines = Pipelines::new(&plain.device).unwrap();
    let found = pollster::block_on(tensor_cores(&plain.adapter, &pipelines, &plain.queue));
    let message = found.unwrap_err().to_string();
    let remedy = match plain.adapter.features().contains(TENSOR_CORE_FEATURES) {
        true => "request dsconv::gpu::TENSOR_CORE_FEATURES",
        false => "the adapter has no such feature",
    };
    assert!(message.contains("COOPERATIVE_MATRIX") && message.contains(remedy), "{message}");
    let weights = dsconv::FloatWeights::new(ConvDescriptor::new(1, 1, [1, 1]), vec![1.0]).unwrap();
    for (size, kernel) in [(8, Kernel::ConvMatrix8), (16, Kernel::ConvMatrix16)] {
        let options = LayerOptions::default().with_kernel(kernel);
        let message = Layer::new(&pipelines, &weights, options).unwrap_err().to_string();
        assert!(message.contains(&format!("matrix units of {size} x {size}")), "{message}");
        // Units of another size do not help.
        let other = pipelines.clone().with_tensor_cores(TensorCores::new(24 - size));
        assert!(matches!(Layer::new(&other, &weights, options), Err(Error::Unsupported { .. })));
    }
}

#[test]
fn layers_that_fill_a_quarter_of_a_tile_are_given_to_matrix_units() {
    let gpu = Capabilities::default().with_shader_f16();
    for (units, kernel, outputs) in [
        (TensorCores::new(8), Kernel::ConvMatrix8, 16),
        (TensorCores::new(16), Kernel::ConvMatrix16, 32),
    ] {
        let choose = |channels, outputs, gpu: Capabilities| {
            let format = BlockFormat::new(4, 32).unwrap();
            let layer = ConvDescriptor::new(channels, outputs, [3, 3]);
            Kernel::choose(&ConvProblem::of_format(layer, Some(format)), &gpu)
        };
        let with = gpu.with_tensor_cores(units);
        assert_eq!(choose(16, outputs, with), kernel);
        assert_eq!(choose(16, outputs - 1, with), Kernel::ConvGemm);
        assert_eq!(choose(15, outputs, with), Kernel::ConvGemm);
        assert_eq!(choose(16, outputs, gpu), Kernel::ConvGemm);
        // Integers are exact elsewhere.
        let int8 = ConvProblem::of_format(
            ConvDescriptor::new(64, 64, [1, 1]),
            Some(BlockFormat::new(8, 32).unwrap()),
        )
        .with_activations(ActivationFormat::Int8);
        assert_eq!(Kernel::choose(&int8, &with), Kernel::choose(&int8, &gpu));
    }
}
