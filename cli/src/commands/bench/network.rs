//! A whole network measured: in f32, with DSConv weights and float activations, with int8 activations, and on matrix
//! units where they are proven.

use super::network_report::{NetworkReport, Row};
use crate::device;
use crate::progress::progress;
use crate::tensor_cores::UseTensorCores;
use crate::timing::ms;
use crate::{carried, network, yolov9_model};
use anyhow::{Context, bail, ensure};
use dsconv::Weights;
use dsconv::gpu::{Gpu, Pipelines, Selection, TensorCores};
use dsconv_net::gpu::{Activations, Network, NetworkOptions, NetworkPlan};
use dsconv_net::model::Preprocessing;
use dsconv_net::program::StepOp;
use dsconv_net::{Graph, Model, Program};
use std::path::Path;
use std::time::{Duration, Instant};

/// A network to measure.
pub(super) struct Subject {
    model: Model,
    name: String,
    /// Sides of the pictures that it is measured at, if the user names none.
    sizes: Vec<u32>,
}

impl Subject {
    /// Finds the network of a file or a name; without either it is yolov9-c.
    pub(super) fn find(network: Option<&Path>) -> anyhow::Result<Self> {
        let path = network.unwrap_or(Path::new("yolov9-c"));
        match path.to_str() {
            Some("yolov9-c") => Ok(Self {
                model: yolov9_model::random()?,
                name: "yolov9-c, random weights".into(),
                sizes: vec![320, 640],
            }),
            Some("efficientnet-lite0") => {
                let model = Model::from_bytes(carried::EFFICIENTNET_LITE0)?;
                Self::of(model, "efficientnet-lite0".into())
            }
            Some(name) if path.extension().is_none() => bail!(
                "{name}: expected a model file (*.safetensors), an ONNX file (*.onnx), yolov9-c or efficientnet-lite0"
            ),
            _ => Self::of(network::read(path)?, path.display().to_string()),
        }
    }

    /// Takes a model at its own size.
    fn of(model: Model, name: String) -> anyhow::Result<Self> {
        let packed = |(_, id)| matches!(model.graph.weights(id).as_ref(), Weights::DsConv(_));
        ensure!(
            model.graph.convolutions().any(packed),
            "{name}: expected DSConv weights, as dsconv quantize makes them; all are floats"
        );
        let sizes = vec![model.picture_input()?.size[0]];
        Ok(Self { model, name, sizes })
    }
}

/// A measurement of a network, as the user wants it.
pub(super) struct NetworkBench<'a> {
    pub(super) selection: &'a Selection,
    pub(super) tensor_cores: UseTensorCores,
    /// Sides of the pictures; none are the network's own.
    pub(super) sizes: &'a [u32],
    /// Pictures in a run.
    pub(super) batch: u32,
    /// Times that each measurement is repeated; the median counts.
    pub(super) rounds: usize,
}

impl NetworkBench<'_> {
    /// Measures the network at every size; also returns the device that it ran on.
    pub(super) fn measure(
        &self,
        subject: Subject,
    ) -> anyhow::Result<(NetworkReport, wgpu::AdapterInfo)> {
        let Subject { model, name, sizes } = subject;
        let sizes = if self.sizes.is_empty() { &sizes } else { self.sizes };
        let preprocessing = model.picture_input()?;
        let floats = network::floats_of(&model.graph)?;
        let int8 = NetworkOptions { activations: Activations::Int8, ..NetworkOptions::default() };
        let plain = NetworkOptions::default();
        let mut forms = vec![
            ("f32", &floats, plain, None),
            ("weight-only", &model.graph, plain, None),
            ("int8", &model.graph, int8, None),
        ];
        // The other forms do without, so that f32 is f32.
        let gpu = device::open_gpu(self.selection, self.tensor_cores)?;
        if let Some(units) = self.tensor_cores.prove(&gpu)? {
            forms.push(("tensor cores", &model.graph, plain, Some(units)));
        }
        drop(gpu);
        let bar = progress(sizes.len() * forms.len() * (self.rounds + 2))?;
        let mut rows: Vec<Row> = Vec::new();
        let mut adapter = None;
        for &size in sizes {
            let mut dims = Preprocessing { size: [size; 2], ..preprocessing.clone() }.dims();
            dims[0] = self.batch as usize;
            let job = |&(form, graph, options, tensor_cores)| Job {
                form,
                bench: self,
                graph,
                dims: &dims,
                options,
                tensor_cores,
            };
            let jobs: Vec<Job<'_>> = forms.iter().map(job).collect();
            let mut started = Vec::new();
            for job in &jobs {
                bar.set_message(format!("{} at {size}x{size}, first run", job.form));
                started.push(job.start(None)?);
                bar.inc(1);
            }
            // In turn, so that a slow moment of the machine meets them all.
            let mut times = vec![Vec::new(); jobs.len()];
            for _ in 0..self.rounds {
                for ((job, started), times) in jobs.iter().zip(&started).zip(&mut times) {
                    bar.set_message(format!("{} at {size}x{size}", job.form));
                    times.push(started.run()?);
                    bar.inc(1);
                }
            }
            let measured = jobs.iter().zip(&started).zip(times);
            let mut measured: Vec<Row> = measured
                .map(|((job, started), times)| started.row(size, job.form, times))
                .collect();
            adapter = Some(started[0].gpu.adapter.get_info());
            let caches: Vec<_> = started.iter().map(|one| one.pipelines.cache_data()).collect();
            // Their memory goes before other devices take as much.
            drop(started);
            let f32_ms = measured[0].ms;
            for ((job, cache), row) in jobs.iter().zip(caches).zip(&mut measured) {
                bar.set_message(format!("{} at {size}x{size}, first run with a cache", job.form));
                let warm = cache.map(|cache| job.start(Some(&cache))).transpose()?;
                row.warm_ms = warm.map(|started| ms(started.first));
                row.ratio = f32_ms / row.ms;
                bar.inc(1);
            }
            rows.extend(measured);
        }
        bar.finish_and_clear();
        let adapter = adapter.context("--size: expected one size at least")?;
        let device = device::describe_gpu(&adapter);
        Ok((NetworkReport { device, model: name, batch: self.batch, rows }, adapter))
    }
}

/// One form of a network at one size.
struct Job<'a> {
    form: &'static str,
    bench: &'a NetworkBench<'a>,
    graph: &'a Graph,
    dims: &'a [usize],
    options: NetworkOptions,
    /// The matrix units that it runs on.
    tensor_cores: Option<TensorCores>,
}

/// A network that has run once.
struct Started {
    gpu: Gpu,
    pipelines: Pipelines,
    network: Network,
    plan: NetworkPlan,
    program: Program,
    input: Vec<f32>,
    first: Duration,
}

impl Job<'_> {
    /// Opens a device of its own, so that nothing is compiled yet, and waits for the first result.
    fn start(&self, cache: Option<&[u8]>) -> anyhow::Result<Started> {
        let gpu = device::open_gpu(self.bench.selection, self.bench.tensor_cores)?;
        let count = self.dims.iter().product();
        let mut rng = fastrand::Rng::with_seed(1);
        let input: Vec<f32> = (0..count).map(|_| rng.f32()).collect();
        // It is known from then on, so that the time to the first result has no part in it.
        let packed_dot_product = device::packed_dot_product(&gpu, self.options.activations)?;
        let from = Instant::now();
        let mut pipelines = match cache {
            Some(data) => Pipelines::with_cache(&gpu.device, data)?,
            None => Pipelines::new(&gpu.device)?,
        };
        pipelines = pipelines.with_tensor_cores(self.tensor_cores);
        if let Some(measured) = packed_dot_product {
            pipelines = pipelines.with_packed_dot_product(measured);
        }
        let program = self.graph.specialise(&[self.dims])?;
        let mut network = Network::new(&pipelines, self.options)?;
        let plan = network.plan(&program).map_err(network::remedied)?;
        pollster::block_on(plan.run(&gpu.queue, &[&input]))?;
        let first = from.elapsed();
        Ok(Started { gpu, pipelines, network, plan, program, input, first })
    }
}

impl Started {
    /// The time of one run, with upload and download.
    fn run(&self) -> anyhow::Result<Duration> {
        let from = Instant::now();
        pollster::block_on(self.plan.run(&self.gpu.queue, &[&self.input]))?;
        Ok(from.elapsed())
    }

    /// The row of what was measured; the ratio and the second start follow.
    fn row(&self, size: u32, form: &str, mut times: Vec<Duration>) -> Row {
        times.sort();
        let time = times[times.len() / 2];
        let memory = self.plan.memory_use();
        Row {
            size,
            form: form.into(),
            ms: ms(time),
            gops: operations(&self.program) / time.as_secs_f64() / 1e9,
            ratio: 1.0,
            weights: memory.weights + memory.constants,
            tensors: memory.tensors,
            total: memory.total(),
            pipelines: self.pipelines.compiled() + self.network.compiled(),
            cold_ms: ms(self.first),
            warm_ms: None,
        }
    }
}

/// The operations of a program's convolutions, two a multiply-add.
fn operations(program: &Program) -> f64 {
    let steps = program.steps().iter().map(|step| match &step.op {
        StepOp::Conv { weights, .. } => {
            let dims = &program.value(step.output).dims;
            let pixels = (dims[0] * dims[2] * dims[3]) as f64;
            let descriptor = *dsconv::WeightsRef::from(weights.as_ref()).descriptor();
            2.0 * pixels * descriptor.weight_count() as f64
        }
        _ => 0.0,
    });
    steps.sum()
}
