//! The dense convolutions of yolov9-c: DSConv weights against the same layer in f32, on the GPU.
//!
//! `cargo bench` runs a few layers of small pictures; `DSCONV_BENCH=all` runs every distinct shape of the network at
//! 320x320, and `DSCONV_BENCH=FILE` the layers of a file. Look at the ratios within a run, not at the times.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dsconv::gpu::{self, Gpu, Layer, LayerOptions, Pipelines, Tensors, upload};
use dsconv::{ConvDescriptor, Layout, Quantizer, Shape, WeightsRef};
use std::time::Duration;

/// The layers that run without being asked for, `IN x OUT k KERNEL s STRIDE @ SIZE`.
const FEW: [&str; 3] = ["64x64k3s1@40x40", "256x256k1s1@20x20", "128x128k3s1@10x10"];

/// The network's distinct dense convolutions for a 320x320 picture. The list has one home, the package of the command
/// `dsconv`; it is read when it is asked for, so that this package needs no file outside of it and no copy.
const YOLOV9_C: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cli/layers/yolov9-c.txt");

/// Names and numbers of the layers to run.
fn layers() -> Vec<(String, [u32; 5])> {
    let list = |path: &str| {
        let text = std::fs::read_to_string(path);
        let text =
            text.unwrap_or_else(|e| panic!("DSCONV_BENCH: expected a list of layers, {path}: {e}"));
        text.lines().map(String::from).collect()
    };
    let wanted: Vec<String> = match std::env::var("DSCONV_BENCH").as_deref() {
        Ok("all") => list(YOLOV9_C),
        Ok(path) => list(path),
        Err(_) => FEW.map(String::from).to_vec(),
    };
    let numbers = |layer: &str| {
        let numbers: Vec<u32> =
            layer.split(['x', 'k', 's', '@']).map(|n| n.parse().expect("a number")).collect();
        let [channels, outputs, kernel, stride, size, _] = numbers[..] else {
            panic!("{layer}: not a layer")
        };
        [channels, outputs, kernel, stride, size]
    };
    wanted.into_iter().map(|layer| (layer.clone(), numbers(&layer))).collect()
}

fn bench(c: &mut Criterion) {
    let gpu = pollster::block_on(gpu::open(&gpu::Selection::Best))
        .expect("benchmarks need a GPU adapter");
    println!("on {}", gpu.adapter.get_info().name);
    let pipelines = Pipelines::new(&gpu.device).expect("pipelines");
    for (layer, [channels, outputs, kernel, stride, size]) in layers() {
        let descriptor = ConvDescriptor::new(channels, outputs, [kernel; 2])
            .with_stride([stride; 2])
            .with_padding([kernel / 2; 4]);
        let shape = Shape::new(1, channels, size, size);
        let mut rng = fastrand::Rng::with_seed(1);
        let floats: Vec<f32> = (0..descriptor.weight_count()).map(|_| rng.f32() - 0.5).collect();
        let output = descriptor.output_shape(shape).expect("a valid shape");
        let mut group = c.benchmark_group(layer);
        group.throughput(Throughput::Elements(descriptor.multiply_adds(output)));
        for bits in [8, 4, 2] {
            let weights = Quantizer::new(bits, 32).and_then(|q| q.weights(&descriptor, &floats));
            let weights = weights.expect("finite weights");
            let run = |name: &str,
                       weights: WeightsRef<'_>,
                       group: &mut criterion::BenchmarkGroup<'_, _>| {
                let plan = plan(&gpu, &pipelines, weights, shape, output);
                group.bench_function(BenchmarkId::from_parameter(name), |b| {
                    b.iter(|| submit(&gpu, &plan));
                });
            };
            if bits == 8 {
                let floats = weights.dequantize().expect("finite weights");
                run("f32", (&floats).into(), &mut group);
            }
            run(&format!("i{bits}"), (&weights).into(), &mut group);
        }
        group.finish();
    }
}

fn plan(
    gpu: &Gpu,
    pipelines: &Pipelines,
    weights: WeightsRef<'_>,
    input: Shape,
    output: Shape,
) -> gpu::Plan {
    let options =
        LayerOptions::default().with_input_layout(Layout::Nhwc).with_output_layout(Layout::Nhwc);
    let buffer = |shape: Shape| {
        upload(&gpu.device, "tensor", wgpu::BufferUsages::STORAGE, &vec![0.5f32; shape.elements()])
            .expect("memory")
    };
    let (x, y) = (buffer(input), buffer(output));
    let tensors = Tensors::new(x.slice(..), y.slice(..));
    let layer = Layer::new(pipelines, weights, options).expect("a layer");
    layer.plan(input, tensors).expect("a plan")
}

fn submit(gpu: &Gpu, plan: &gpu::Plan) {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    plan.encode(&mut encoder);
    gpu.queue.submit([encoder.finish()]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("a working device");
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = bench
}
criterion_main!(benches);
