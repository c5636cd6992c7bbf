//! Pipeline layouts against the shaders of every variant, on wgpu's backend that needs no GPU.

use dsconv::gpu::{
    ActivationFormat, Kernel, Layer, LayerOptions, PackedDotProduct, Pipelines, Specialization,
    Tensors, Variant, upload,
};
use dsconv::{ActivationScale, ConvDescriptor, FloatWeights, Layout, Quantizer, Shape};

#[test]
fn slow_dot_products_leave_integer_activations_to_the_kernels_in_floats() {
    let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let pipelines = Pipelines::new(&device).unwrap();
    let descriptor = ConvDescriptor::new(64, 64, [3, 3]);
    let values = vec![0.5; descriptor.weight_count()];
    let weights = Quantizer::new(8, 32).unwrap().weights(&descriptor, &values).unwrap();
    let options = LayerOptions::default().with_input_format(ActivationFormat::Int8);
    let kernel = |pipelines: &Pipelines| Layer::new(pipelines, &weights, options).unwrap().kernel();
    assert_eq!(kernel(&pipelines), Kernel::ConvGemmInt8);
    assert_eq!(
        kernel(&pipelines.clone().with_packed_dot_product(PackedDotProduct::None)),
        Kernel::ConvGemm
    );
    assert_eq!(kernel(&pipelines), Kernel::ConvGemmInt8);
}

#[test]
fn every_variant_fits_the_pipeline_layout_and_the_lowest_limits() {
    let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor {
        required_features: wgpu::Features::SHADER_F16,
        required_limits: wgpu::Limits::downlevel_defaults(),
        ..wgpu::DeviceDescriptor::default()
    });
    let pipelines = Pipelines::new(&device).unwrap();
    let tensor = |floats| {
        upload(&device, "tensor", wgpu::BufferUsages::STORAGE, &vec![0.0f32; floats]).unwrap()
    };
    let (x, y, integers) = (tensor(64 * 64), tensor(4 * 64), tensor(4 * 64 * 64));
    // The device has no subgroups and no matrix units, so the kernels that want them are not for it.
    let variants = || {
        Variant::all().filter(|variant| {
            let spec = variant.kernel.spec();
            spec.subgroup_size.is_none() && spec.matrix.is_none()
        })
    };
    for variant in variants() {
        // One channel per group, which every kernel takes; or whole steps, for those that know them.
        let (descriptor, block) = match variant.specialization {
            Specialization::General => (ConvDescriptor::new(4, 4, [3, 3]).with_groups(4), 32),
            Specialization::OneStep => (ConvDescriptor::new(32, 4, [3, 3]), 32),
            Specialization::Window { size, stride } => {
                let window = ConvDescriptor::new(4, 4, [size; 2]).with_stride([stride; 2]);
                (window.with_groups(4), 32)
            }
            _ => (ConvDescriptor::new(64, 4, [3, 3]), 64),
        };
        let shape = Shape::new(1, descriptor.in_channels, 8, 8);
        let values = vec![0.5; descriptor.weight_count()];
        let quantizes = variant.kernel == Kernel::QuantizeActivations;
        let kernel = if quantizes { Kernel::ConvGemmInt8 } else { variant.kernel };
        let layout = match kernel {
            Kernel::ConvDepthwiseNhwc => Layout::Nhwc,
            _ => Layout::Nchw,
        };
        let bits = if quantizes { 8 } else { variant.weights.bits() };
        let activations = if quantizes { ActivationFormat::Int8 } else { variant.activations };
        let options = LayerOptions::default()
            .with_kernel(kernel)
            .with_input_format(activations)
            .with_float_format(variant.float_format)
            .with_scale_format(variant.scale_format)
            .with_input_layout(match variant.specialization {
                Specialization::WholeStepsNhwc => Layout::Nhwc,
                _ => layout,
            })
            .with_output_layout(layout);
        let layer = match bits {
            32 => {
                let weights = FloatWeights::new(descriptor, values.clone()).unwrap();
                Layer::new(&pipelines, &weights, options)
            }
            bits => {
                let weights =
                    Quantizer::new(bits, block).unwrap().weights(&descriptor, &values).unwrap();
                Layer::new(&pipelines, &weights, options)
            }
        };
        let layer = layer.unwrap();
        if quantizes {
            let scale = ActivationScale::Float;
            let plan =
                layer.plan_quantization(shape, scale, x.slice(..), integers.slice(..)).unwrap();
            plan.encode(&mut device.create_command_encoder(&Default::default()));
            continue;
        }
        let x = if activations == ActivationFormat::Int8 { &integers } else { &x };
        let tensors = Tensors::new(x.slice(..), y.slice(..));
        let plan = layer.plan(shape, tensors).unwrap();
        plan.encode(&mut device.create_command_encoder(&Default::default()));
    }
    assert_eq!(pipelines.compiled(), variants().count());
}
