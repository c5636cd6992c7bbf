//! An engine of its own device, queue and encoder runs two chained layers in one submission, for two frames in flight.
//! docs/embed.md tells what it shows.
//!
//! `cargo run --release --example embed`

use dsconv::gpu::{self, Layer, LayerOptions, MemoryUse, Pipelines, Tensors};
use dsconv::{Activation, ConvDescriptor, Method, Quantizer, Residual, Shape, reference, wgpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pollster::block_on(run())
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    // The host's own device. The library asks for features and limits, and gets what the host grants.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            required_features: adapter.features() & gpu::WANTED_FEATURES,
            required_limits: gpu::wanted_limits(&adapter),
            ..Default::default()
        })
        .await?;
    println!("on {}", adapter.get_info().name);

    // Two layers: 3x3 with SiLU, then 1x1 that adds the network's input again.
    let first = ConvDescriptor::new(32, 64, [3, 3]).with_padding([1; 4]);
    let second = ConvDescriptor::new(64, 32, [1, 1]);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut random = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.f32() - 0.5).collect() };
    let quantizer = Quantizer::new(4, 32)?.method(Method::MinMse);
    let first = quantizer.weights(&first, &random(first.weight_count()))?.with_bias(random(64))?;
    let second = quantizer.weights(&second, &random(second.weight_count()))?;
    let shape = Shape::new(1, 32, 40, 40);
    let x = random(shape.elements());

    // What it will take is known before anything is made.
    let announced: u64 = [&first, &second]
        .map(|w| MemoryUse::of_layer(w, &LayerOptions::default()).total())
        .iter()
        .sum();
    println!("weights of both layers: {announced} bytes");

    let pipelines = Pipelines::new(&device)?;
    let silu = LayerOptions::default().with_activation(Activation::Silu);
    let adding = LayerOptions::default().with_residual(Residual::AfterActivation);
    // The names are in errors, in wgpu's messages and in captures.
    let first_layer = Layer::labelled(&pipelines, &first, silu, "expand")?;
    let second_layer = Layer::labelled(&pipelines, &second, adding, "project")?;
    let middle_shape = first.descriptor().output_shape(shape)?;

    // Pipelines are compiled on a thread, while the host goes on.
    let progress = |now: gpu::WarmUp| println!("compiled {} of {}", now.compiled, now.wanted);
    let layers = [(&first_layer, shape), (&second_layer, middle_shape)];
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| pipelines.warm_up(layers, progress));
        compiling.join().expect("a thread that does not panic")
    })?;
    // What depends on the shapes alone, for as long as they stay.
    let (expand, project) = (first_layer.prepare(shape)?, second_layer.prepare(middle_shape)?);
    let tensors = expand.memory_use().output + project.memory_use().output;
    println!("tensors of a frame besides its input: {tensors} bytes");

    // The tensors are the host's buffers, or slices of them.
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
    let buffer = |size: u64| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size,
            usage: storage,
            mapped_at_creation: false,
        })
    };
    // Two frames in flight: other buffers, and nothing but bind groups.
    let mut frames = Vec::new();
    for _ in 0..2 {
        let input = gpu::upload(&device, "input", storage, &x)?;
        let middle = buffer(expand.memory_use().output);
        let output = buffer(project.memory_use().output);
        let plans = [
            expand.bind(Tensors::new(input.slice(..), middle.slice(..)))?,
            project.bind(
                Tensors::new(middle.slice(..), output.slice(..)).with_residual(input.slice(..)),
            )?,
        ];
        frames.push((plans, output));
    }

    // One encoder, one pass, one submission: all the host's.
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for plan in frames.iter().flat_map(|(plans, _)| plans) {
            plan.record(&mut pass);
        }
    }
    queue.submit([encoder.finish()]);

    // The same in f64.
    let middle = reference::convolve(&first, shape, &x)?.with_epilogue(
        Activation::Silu,
        Residual::None,
        &[],
    )?;
    let middle: Vec<f32> = middle.values.iter().map(|&v| v as f32).collect();
    let expected = reference::convolve(&second, middle_shape, &middle)?.with_epilogue(
        Activation::Identity,
        Residual::AfterActivation,
        &x,
    )?;
    for (_, output) in &frames {
        let y = gpu::download(&device, &queue, output.slice(..)).await?;
        let error = |(&y, e): (&f32, &f64)| (f64::from(y) - e).abs();
        let worst = y.iter().zip(&expected.values).map(error).fold(0.0, f64::max);
        println!("worst error {:.1e} of the magnitude", worst / expected.magnitude);
        assert!(worst <= 1e-5 * expected.magnitude, "out of bounds");
    }
    Ok(())
}
