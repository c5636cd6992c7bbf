//! Times of the GPU's own clock against the CPU's.

mod common;

use common::gpu;
use dsconv::gpu::{Layer, LayerOptions, Plan, Tensors, Timestamps, upload};
use dsconv::{ConvDescriptor, Error, FloatWeights, Shape};
use std::time::{Duration, Instant};

/// A layer of that many output channels, bound to buffers of its own.
fn plan(outputs: u32) -> Option<Plan> {
    let (gpu, pipelines) = gpu()?;
    let descriptor = ConvDescriptor::new(32, outputs, [3, 3]).with_padding([1; 4]);
    let weights = FloatWeights::new(descriptor, vec![0.5; descriptor.weight_count()]).unwrap();
    let layer = Layer::new(pipelines, &weights, LayerOptions::default()).unwrap();
    let shape = Shape::new(1, 32, 40, 40);
    let tensor = |elements: usize| {
        let zeros = vec![0.0f32; elements];
        upload(&gpu.device, "tensor", wgpu::BufferUsages::STORAGE, &zeros).unwrap()
    };
    let x = tensor(shape.elements());
    let y = tensor(descriptor.output_shape(shape).unwrap().elements());
    let tensors = Tensors::new(x.slice(..), y.slice(..));
    Some(layer.plan(shape, tensors).unwrap())
}

#[test]
fn a_pass_takes_longer_than_nothing_and_no_longer_than_its_submission() {
    let (Some(short), Some(long)) = (plan(16), plan(256)) else { return };
    let (gpu, _) = gpu().unwrap();
    if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        eprintln!("skipped: the adapter has no timestamps");
        return;
    }
    let mut timestamps = Timestamps::new(&gpu.device, &gpu.queue, 3).unwrap();
    // Room is free again after each reading.
    for round in 0..4 {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        timestamps.encode(&mut encoder, |_| {}).unwrap();
        timestamps.encode(&mut encoder, |pass| short.record(pass)).unwrap();
        timestamps.encode(&mut encoder, |pass| (0..4).for_each(|_| long.record(pass))).unwrap();
        let error = timestamps.encode(&mut encoder, |_| {}).unwrap_err();
        assert!(
            matches!(&error, Error::Invalid { field, .. } if field == "timed passes"),
            "{error}"
        );
        let started = Instant::now();
        gpu.queue.submit([encoder.finish()]);
        let times = pollster::block_on(timestamps.read(&gpu.queue)).unwrap();
        let wall = started.elapsed();
        let [nothing, short, long] = times[..] else { panic!("three passes, {times:?}") };
        // The first run compiles.
        if round == 0 {
            continue;
        }
        // 64 times the work.
        assert!(short > Duration::ZERO && long > 4 * short && long > nothing, "{round}: {times:?}");
        // The clocks may run at slightly different rates.
        let sum = nothing + short + long;
        assert!(sum.as_secs_f64() <= 1.05 * wall.as_secs_f64(), "{round}: {times:?} in {wall:?}");
    }
    assert_eq!(pollster::block_on(timestamps.read(&gpu.queue)).unwrap(), []);
}

#[test]
fn passes_that_were_never_submitted_do_not_hang_the_reading() {
    let Some(short) = plan(16) else { return };
    let (gpu, _) = gpu().unwrap();
    let Ok(mut timestamps) = Timestamps::new(&gpu.device, &gpu.queue, 2) else { return };
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    timestamps.encode(&mut encoder, |pass| short.record(pass)).unwrap();
    drop(encoder);
    assert_eq!(pollster::block_on(timestamps.read(&gpu.queue)).unwrap(), [Duration::ZERO]);
}

#[test]
fn what_cannot_be_timed_is_refused() {
    // A device without the feature.
    let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
    let error = Timestamps::new(&device, &queue, 1).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().contains("TIMESTAMP_QUERY"), "{error}");

    let Some((gpu, _)) = gpu() else { return };
    if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
        return;
    }
    for passes in [0, Timestamps::MAX_PASSES + 1, u32::MAX] {
        let error = Timestamps::new(&gpu.device, &gpu.queue, passes).unwrap_err();
        assert!(matches!(&error, Error::Invalid { field, .. } if field == "passes"), "{error}");
    }
    assert!(Timestamps::new(&gpu.device, &gpu.queue, Timestamps::MAX_PASSES).is_ok());
}
