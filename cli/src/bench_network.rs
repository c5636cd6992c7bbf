//! `dsconv bench-network`: a whole network in f32 and as DSConv.

use crate::device::{self, DeviceChoice};
use crate::display::{bytes, progress, table};
use crate::network;
use crate::timing::ms;
use crate::yolov9;
use anyhow::{bail, ensure};
use dsconv::Weights;
use dsconv::gpu::{self, Gpu, Pipelines, Selection};
use dsconv_net::gpu::{Activations, Network, NetworkOptions, NetworkPlan};
use dsconv_net::model::Preprocessing;
use dsconv_net::{Graph, Program};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A network with DSConv weights: a model file (*.safetensors), or an ONNX file. Without one, yolov9-c as it is
    /// deployed, with random weights of 4 bits in blocks of 32.
    model: Option<PathBuf>,
    /// Sides of the picture to measure; can be repeated. Without one, the model's own, and for yolov9-c 320 and 640.
    #[arg(long)]
    size: Vec<u32>,
    /// Pictures in a run.
    #[arg(long, default_value_t = 1)]
    batch: u32,
    /// Times each measurement is repeated; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    device: String,
    model: String,
    batch: u32,
    rows: Vec<Row>,
}

/// One form of the network at one size.
#[derive(Clone, Debug, serde::Serialize)]
struct Row {
    size: u32,
    form: &'static str,
    /// With upload and download.
    ms: f64,
    /// Operations of convolutions over that time.
    gops: f64,
    /// Over f32's time.
    ratio: f64,
    /// Device memory: weights and constants, tensors, parameters.
    weights: u64,
    tensors: u64,
    total: u64,
    pipelines: usize,
    /// From the model in host memory to the first result, with an empty pipeline cache.
    cold_ms: f64,
    /// The same with the cache that the first run left; `None` where the backend has none.
    warm_ms: Option<f64>,
}

pub(crate) fn run(choice: &DeviceChoice, options: &Options) -> anyhow::Result<ExitCode> {
    ensure!(options.rounds > 0, "--rounds: expected 1 or more, got 0");
    ensure!(options.batch > 0, "--batch: expected 1 or more, got 0");
    let selection = match choice {
        DeviceChoice::Best => Selection::Best,
        DeviceChoice::Gpu(selection) => selection.clone(),
        DeviceChoice::Cpu => bail!("--device cpu: expected a GPU; the CPU reference is no measure"),
    };
    let (model, name) = match &options.model {
        Some(path) => (network::read(path)?, path.display().to_string()),
        None => (yolov9::random_model()?, "yolov9-c, random weights".into()),
    };
    let packed = |(_, id)| matches!(model.graph.weights(id).as_ref(), Weights::DsConv(_));
    ensure!(
        model.graph.convolutions().any(packed),
        "{name}: expected DSConv weights, as dsconv quantize makes them; all are floats"
    );
    let how = model.picture_input()?;
    let sizes = match (&options.size[..], &options.model) {
        ([], Some(_)) => vec![how.size[0]],
        ([], None) => vec![320, 640],
        (sizes, _) => sizes.to_vec(),
    };
    let floats = network::floats_of(&model.graph)?;
    let int8 = NetworkOptions { activations: Activations::Int8, ..NetworkOptions::default() };
    let forms = [
        ("f32", &floats, NetworkOptions::default()),
        ("weight-only", &model.graph, NetworkOptions::default()),
        ("int8", &model.graph, int8),
    ];
    let bar = progress(sizes.len() * forms.len() * (options.rounds + 2))?;
    let mut rows: Vec<Row> = Vec::new();
    let mut device = String::new();
    for &size in &sizes {
        let mut dims = Preprocessing { size: [size; 2], ..how.clone() }.dims();
        dims[0] = options.batch as usize;
        let jobs = forms.map(|(form, graph, options)| Job {
            form,
            selection: &selection,
            graph,
            dims: &dims,
            options,
        });
        let mut started = Vec::new();
        for job in &jobs {
            bar.set_message(format!("{} at {size}x{size}, first run", job.form));
            started.push(job.start(None)?);
            bar.inc(1);
        }
        // In turn, so that a slow moment of the machine meets them all.
        let mut times = vec![Vec::new(); jobs.len()];
        for _ in 0..options.rounds {
            for ((job, started), times) in jobs.iter().zip(&started).zip(&mut times) {
                bar.set_message(format!("{} at {size}x{size}", job.form));
                times.push(started.run()?);
                bar.inc(1);
            }
        }
        let measured = jobs.iter().zip(&started).zip(times);
        let mut measured: Vec<Row> =
            measured.map(|((job, started), times)| started.row(size, job.form, times)).collect();
        device = device::describe(&started[0].gpu);
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
    let report = Report { device, model: name, batch: options.batch, rows };
    match options.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => report.print(),
    }
    Ok(ExitCode::SUCCESS)
}

/// A network to measure.
struct Job<'a> {
    form: &'static str,
    selection: &'a Selection,
    graph: &'a Graph,
    dims: &'a [usize],
    options: NetworkOptions,
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
    /// A device of its own, so that nothing is compiled yet, and the first result.
    fn start(&self, cache: Option<&[u8]>) -> anyhow::Result<Started> {
        let gpu = pollster::block_on(gpu::open(self.selection))?;
        let count = self.dims.iter().product();
        let mut rng = fastrand::Rng::with_seed(1);
        let input: Vec<f32> = (0..count).map(|_| rng.f32()).collect();
        // Known from then on, so that the time to the first result has no part in it.
        let needs_floats = device::needs_floats(&gpu, self.options.activations)?;
        let from = Instant::now();
        let mut pipelines = match cache {
            Some(data) => Pipelines::with_cache(&gpu.device, data)?,
            None => Pipelines::new(&gpu.device)?,
        };
        if needs_floats {
            pipelines = pipelines.without_packed_dot_product();
        }
        let program = self.graph.specialise(&[self.dims])?;
        let mut network = Network::new(&pipelines, self.options)?;
        let plan = network.plan(&program)?;
        pollster::block_on(plan.run(&gpu.queue, &[&input]))?;
        let first = from.elapsed();
        Ok(Started { gpu, pipelines, network, plan, program, input, first })
    }
}

impl Started {
    /// One run, with upload and download.
    fn run(&self) -> anyhow::Result<Duration> {
        let from = Instant::now();
        pollster::block_on(self.plan.run(&self.gpu.queue, &[&self.input]))?;
        Ok(from.elapsed())
    }

    /// What was measured, but for what another run shows.
    fn row(&self, size: u32, form: &'static str, mut times: Vec<Duration>) -> Row {
        times.sort();
        let time = times[times.len() / 2];
        let memory = self.plan.memory_use();
        Row {
            size,
            form,
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

/// Operations of a program's convolutions, two a multiply-add.
fn operations(program: &Program) -> f64 {
    let steps = program.steps().iter().map(|step| match &step.op {
        dsconv_net::program::StepOp::Conv { weights, .. } => {
            let dims = &program.value(step.output).dims;
            let pixels = (dims[0] * dims[2] * dims[3]) as f64;
            let descriptor = *dsconv::WeightsRef::from(weights.as_ref()).descriptor();
            2.0 * pixels * descriptor.weight_count() as f64
        }
        _ => 0.0,
    });
    steps.sum()
}

impl Report {
    fn print(&self) {
        println!("{}, batch {}, on {}", self.model, self.batch, self.device);
        let header = [
            "picture",
            "form",
            "ms",
            "GOP/s",
            "faster",
            "memory",
            "weights",
            "tensors",
            "pipelines",
            "first ms, cold",
            "warm",
        ];
        let mut out = table(&header);
        for row in &self.rows {
            out.add_row([
                format!("{0}x{0}", row.size),
                row.form.to_owned(),
                format!("{:.1}", row.ms),
                format!("{:.1}", row.gops),
                format!("{:.2}x", row.ratio),
                bytes(row.total),
                bytes(row.weights),
                bytes(row.tensors),
                row.pipelines.to_string(),
                format!("{:.0}", row.cold_ms),
                row.warm_ms.map_or("-".into(), |ms| format!("{ms:.0}")),
            ]);
        }
        println!("{out}");
        println!(
            "First: from the weights in host memory to the first result. Drivers keep caches of their own besides."
        );
    }
}
