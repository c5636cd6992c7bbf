//! Pipeline layouts against the shaders of every variant, on wgpu's backend that needs no GPU.

use dsconv::gpu::{Kernel, Layer, LayerOptions, Pipelines, Tensors, Variant, upload};
use dsconv::{ConvDescriptor, FloatWeights, Quantizer, Shape};

#[test]
fn every_variant_fits_the_pipeline_layout() {
    let (device, _queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let pipelines = Pipelines::new(&device).unwrap();
    // One channel per group, which every kernel takes.
    let descriptor = ConvDescriptor::new(4, 4, [3, 3]).with_groups(4);
    let shape = Shape::new(1, 4, 8, 8);
    let values = vec![0.5; descriptor.weight_count()];
    let tensor = |floats| {
        upload(&device, "tensor", wgpu::BufferUsages::STORAGE, &vec![0.0f32; floats]).unwrap()
    };
    let (x, y) = (tensor(shape.elements()), tensor(shape.elements()));
    // The device has no subgroups, so the kernel that wants them is not for it.
    let variants = || Variant::all().filter(|variant| variant.kernel != Kernel::ConvSubgroup);
    for variant in variants() {
        let options = LayerOptions { kernel: Some(variant.kernel), ..LayerOptions::default() };
        let layer = match variant.weights.bits() {
            32 => {
                let weights = FloatWeights::new(descriptor, values.clone()).unwrap();
                Layer::new(&pipelines, &weights, options)
            }
            bits => {
                let weights =
                    Quantizer::new(bits, 8).unwrap().weights(&descriptor, &values).unwrap();
                Layer::new(&pipelines, &weights, options)
            }
        };
        let tensors = Tensors { input: x.slice(..), residual: None, output: y.slice(..) };
        let plan = layer.unwrap().plan(shape, tensors).unwrap();
        plan.encode(&mut device.create_command_encoder(&Default::default()));
    }
    assert_eq!(pipelines.compiled(), variants().count());
}
