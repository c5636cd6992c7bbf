//! Queues, buffers and layers of another device or instance: a named error each, never a panic or another's data.

mod common;

use common::{gpu, open};
use dsconv::gpu::{
    Gpu, Layer, LayerOptions, Pipelines, Tensors, Timestamps, WANTED_FEATURES, download, finished,
    upload, wanted_limits,
};
use dsconv::{ConvDescriptor, FloatWeights, Residual, Result, Shape};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

const SHAPE: Shape = Shape::new(1, 2, 4, 4);
const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC);

/// A device that is foreign to the one under test.
struct Stranger {
    name: &'static str,
    gpu: Gpu,
    /// How many errors its handler was told, where it has one. Where it has none, wgpu panics.
    errors: Arc<AtomicUsize>,
}

/// A device, and strangers to it, of its instance and of another.
fn strangers() -> Option<(Gpu, [Stranger; 3])> {
    gpu()?;
    let home = open();
    let beside = || {
        let (device, queue) =
            pollster::block_on(home.adapter.request_device(&wgpu::DeviceDescriptor {
                required_features: home.adapter.features() & WANTED_FEATURES,
                required_limits: wanted_limits(&home.adapter),
                ..Default::default()
            }))
            .unwrap();
        Gpu { adapter: home.adapter.clone(), device, queue }
    };
    let handled = beside();
    let errors = Arc::new(AtomicUsize::new(0));
    let counter = errors.clone();
    handled.device.on_uncaptured_error(Arc::new(move |_| {
        counter.fetch_add(1, SeqCst);
    }));
    let stranger = |name, gpu, errors| Stranger { name, gpu, errors };
    let strangers = [
        stranger("the same instance", beside(), Arc::default()),
        stranger("the same instance, with a handler", handled, errors),
        stranger("another instance", open(), Arc::default()),
    ];
    Some((home, strangers))
}

fn layer(pipelines: &Pipelines, residual: Residual) -> Layer {
    let weights = FloatWeights::new(ConvDescriptor::new(2, 2, [1, 1]), vec![1.0, 0.0, 0.0, 1.0]);
    let options = LayerOptions::default().with_residual(residual);
    Layer::new(pipelines, &weights.unwrap(), options).unwrap()
}

fn tensor(gpu: &Gpu, value: f32) -> wgpu::Buffer {
    upload(&gpu.device, "tensor", STORAGE, &[value; 32]).unwrap()
}

/// Checks that it is an error with such words.
fn refused<T>(case: &str, words: &str, run: impl FnOnce() -> Result<T>) {
    let result = catch_unwind(AssertUnwindSafe(run));
    let Ok(result) = result else { panic!("{case}: panicked") };
    let Err(error) = result else { panic!("{case}: was accepted") };
    let error = error.to_string();
    for word in words.split('|') {
        assert!(error.contains(word), "{case}: {error:?} does not name {word:?}");
    }
}

#[test]
fn queues_of_another_device_are_refused() {
    let Some((home, strangers)) = strangers() else { return };
    let pipelines = Pipelines::new(&home.device).unwrap();
    let layer = layer(&pipelines, Residual::None);
    let x = tensor(&home, 1.0);
    for Stranger { name, gpu: stranger, errors } in strangers {
        let queue = &stranger.queue;
        let words = "queue|the same device|another device";
        refused(&format!("run on {name}"), words, || {
            pollster::block_on(layer.run(queue, SHAPE, &[1.0; 32], &[]))
        });
        refused(&format!("finished on {name}"), words, || {
            pollster::block_on(finished(&home.device, queue))
        });
        // Nothing was submitted until here.
        assert_eq!(errors.load(SeqCst), 0, "{name}");
        refused(&format!("download on {name}"), words, || {
            pollster::block_on(download(&home.device, queue, x.slice(..)))
        });
        if let Ok(mut timestamps) = Timestamps::new(&home.device, &home.queue, 1) {
            let mut encoder = home.device.create_command_encoder(&Default::default());
            timestamps.encode(&mut encoder, |_| {}).unwrap();
            home.queue.submit([encoder.finish()]);
            refused(&format!("timestamps on {name}"), words, || {
                pollster::block_on(timestamps.read(queue))
            });
        }
    }
    // The device is as good as before.
    let y = pollster::block_on(layer.run(&home.queue, SHAPE, &[2.0; 32], &[])).unwrap();
    assert_eq!(y, [2.0; 32]);
    assert_eq!(
        pollster::block_on(download(&home.device, &home.queue, x.slice(..))).unwrap(),
        [1.0; 32]
    );
}

#[test]
fn buffers_of_another_device_are_refused() {
    let Some((home, strangers)) = strangers() else { return };
    let pipelines = Pipelines::new(&home.device).unwrap();
    let layer = layer(&pipelines, Residual::AfterActivation);
    let prepared = layer.prepare(SHAPE).unwrap();
    let ours = [1.0, 2.0, 3.0].map(|value| tensor(&home, value));
    for Stranger { name, gpu: stranger, .. } in strangers {
        // So many that their numbers are none of the home device's in any instance.
        let many: Vec<_> = (0..64).map(|_| tensor(&stranger, 9.0)).collect();
        let foreign = many.last().unwrap();
        for (index, tensor) in ["input", "residual", "output"].into_iter().enumerate() {
            let mut buffers = ours.each_ref();
            buffers[index] = foreign;
            let [input, residual, output] = buffers.map(|buffer| buffer.slice(..));
            let words = format!("{tensor} buffer|of the layer's device|another");
            refused(&format!("{tensor} of {name}"), &words, || {
                prepared.bind(Tensors::new(input, output).with_residual(residual))
            });
        }
        refused(&format!("download from {name}"), "the copy of the buffer", || {
            pollster::block_on(download(&home.device, &home.queue, foreign.slice(..)))
        });
    }
    let [input, residual, output] = ours.each_ref().map(|buffer| buffer.slice(..));
    prepared.bind(Tensors::new(input, output).with_residual(residual)).unwrap();
}

/// wgpu numbers buffers anew in each instance and compares the numbers.
#[test]
fn buffers_that_compare_equal_across_instances_are_not_called_the_same() {
    if gpu().is_none() {
        return;
    }
    let [here, there] = [open(), open()];
    let pipelines = Pipelines::new(&here.device).unwrap();
    let prepared = layer(&pipelines, Residual::None).prepare(SHAPE).unwrap();
    let output = tensor(&here, 0.0);
    // Larger, so that it can be told from the output.
    let larger = || upload(&there.device, "larger", STORAGE, &[0.0f32; 64]).unwrap();
    let buffers: Vec<_> = (0..64).map(|_| larger()).collect();
    let Some(equal) = buffers.iter().find(|buffer| **buffer == output) else {
        panic!("none of 64 buffers compares equal: does wgpu tell instances apart now?")
    };
    let tensors = Tensors::new(equal.slice(..), output.slice(..));
    refused("equal", "input buffer|one of another wgpu::Instance", || prepared.bind(tensors));
    // Those that compare equal to the library's own, which would be read or even written.
    let mut own = 0;
    for buffer in buffers.iter().filter(|buffer| **buffer != output) {
        let tensors = Tensors::new(output.slice(..), buffer.slice(..));
        refused("another instance's output", "output buffer|one of another|wgpu::Instance", || {
            prepared.bind(tensors)
        });
        own += 1;
    }
    assert_eq!(own, 63);
}

#[test]
fn layers_of_another_device_are_not_warmed_up() {
    let Some((home, strangers)) = strangers() else { return };
    let pipelines = Pipelines::new(&home.device).unwrap();
    for Stranger { name, gpu: stranger, .. } in strangers {
        let theirs = layer(&Pipelines::new(&stranger.device).unwrap(), Residual::None);
        refused(&format!("a layer of {name}"), "layer|these pipelines|others", || {
            pipelines.warm_up([(&theirs, SHAPE)], |_| {})
        });
    }
    assert_eq!(pipelines.compiled(), 0);
}

#[test]
fn a_lost_device_is_told_in_one_line() {
    if gpu().is_none() {
        return;
    }
    let gpu = open();
    let pipelines = Pipelines::new(&gpu.device).unwrap();
    let (layer, x) = (layer(&pipelines, Residual::None), tensor(&gpu, 1.0));
    gpu.device.destroy();
    let errors = [
        Pipelines::new(&gpu.device).map(|_| ()),
        layer.prepare(SHAPE).map(|_| ()),
        pollster::block_on(layer.run(&gpu.queue, SHAPE, &[0.0; 32], &[])).map(|_| ()),
        pollster::block_on(download(&gpu.device, &gpu.queue, x.slice(..))).map(|_| ()),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("the GPU device is lost (") && !error.contains('\n'),
            "{error:?}"
        );
    }
}
