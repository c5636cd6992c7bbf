//! Networks as commands use them: read from files, run on a device.

use crate::device::Device;
use crate::display::{bytes, size};
use crate::foreign;
use crate::output::tell;
use anyhow::{Context, anyhow, bail, ensure};
use dsconv::Weights;
use dsconv::gpu::FloatFormat;
use dsconv_net::gpu::{
    Activations, Network, NetworkMemory, NetworkOptions, NetworkPlan, PlanStep, Profile,
};
use dsconv_net::model::Preprocessing;
use dsconv_net::picture::{self, Class};
use dsconv_net::{Graph, Model, Program, cpu, onnx};
use image::RgbImage;
use std::path::Path;
use std::time::{Duration, Instant};

/// Reads a model file, or an ONNX file as a model without labels and preprocessing.
pub(crate) fn read(path: &Path) -> anyhow::Result<Model> {
    let is = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    let (onnx, safetensors) = (is("onnx"), is("safetensors"));
    if onnx || safetensors || path.is_file() {
        foreign::check_network(path)?;
    }
    let name = || path.display().to_string();
    if path.is_dir() {
        bail!("{}: {}", name(), foreign::folder(path));
    }
    match (onnx, safetensors) {
        (true, _) => Ok(onnx::read(path).with_context(name)?.into()),
        (_, true) => Model::read(path).with_context(name),
        _ => bail!("{}: expected a file named *.safetensors or *.onnx", name()),
    }
}

/// The error, with what the user can do about a tensor that is too large for the device.
pub(crate) fn remedied(error: dsconv_net::Error) -> anyhow::Error {
    let mut inner = &error;
    while let dsconv_net::Error::Node { source, .. } = inner {
        inner = source.as_ref();
    }
    match inner {
        dsconv_net::Error::Layer(dsconv::Error::Limit { .. }) => anyhow!(
            "{error}; take smaller inputs or fewer at a time, or another device: dsconv devices lists their limits"
        ),
        _ => error.into(),
    }
}

/// The same network with weights in floats.
pub(crate) fn floats_of(graph: &Graph) -> anyhow::Result<Graph> {
    let mut floats = graph.clone();
    for (_, id) in graph.convolutions() {
        if let Weights::DsConv(weights) = graph.weights(id).as_ref() {
            floats.set_weights(id, weights.dequantize()?)?;
        }
    }
    Ok(floats)
}

/// The names of classes in a file, one a line.
pub(crate) fn read_labels(path: &Path) -> anyhow::Result<Vec<String>> {
    let name = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(name)?;
    let text = String::from_utf8(bytes)
        .ok()
        .with_context(|| format!("{}: expected names of classes, as text in UTF-8", name()))?;
    // Editors on Windows put a mark before the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    ensure!(!text.trim().is_empty(), "{}: expected names of classes, one a line, got none", name());
    Ok(text.lines().map(String::from).collect())
}

/// The options that say what a network is computed in, and in how much memory.
#[derive(clap::Args)]
pub(crate) struct RunOptions {
    /// Compute with integer activations too, where weights are integers.
    #[arg(long)]
    int8: bool,
    /// Keep the scales of blocks as 16-bit floats: less memory, for up to 0.05% of a weight.
    #[arg(long)]
    half_scales: bool,
    /// Take at most so much memory for the tensors of a run, such as 6GB.
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    memory: u64,
}

impl RunOptions {
    fn network(&self) -> NetworkOptions {
        NetworkOptions {
            activations: if self.int8 { Activations::Int8 } else { Activations::F32 },
            scale_format: if self.half_scales { FloatFormat::F16 } else { FloatFormat::F32 },
        }
    }

    /// Whether networks run in 32-bit floats alone.
    pub(crate) fn is_in_floats(&self) -> bool {
        !self.int8 && !self.half_scales
    }

    /// Refuses tensors that take more than is allowed.
    pub(crate) fn check_memory(&self, needed: u64) -> anyhow::Result<()> {
        ensure!(
            needed <= self.memory,
            "this run needs {} for tensors, and --memory allows {}; smaller inputs or fewer at a time need less",
            bytes(needed),
            bytes(self.memory)
        );
        Ok(())
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { int8: false, half_scales: false, memory: cpu::MEMORY }
    }
}

/// A network that is ready to run on inputs of one shape.
pub(crate) struct Runner {
    program: Program,
    on: On,
}

enum On {
    Cpu,
    Gpu {
        plan: Box<NetworkPlan>,
        queue: wgpu::Queue,
        /// Whether it may have rounded to halves.
        tensor_cores: bool,
    },
}

impl Runner {
    /// Specialises the graph and uploads it.
    pub(crate) fn new(
        graph: &Graph,
        dims: &[&[usize]],
        device: Option<&Device>,
        options: &RunOptions,
    ) -> anyhow::Result<Self> {
        let program = graph.specialise(dims)?;
        let on = match device {
            None => {
                options.check_memory(cpu::memory(&program))?;
                On::Cpu
            }
            Some(device) => {
                let how = options.network();
                let pipelines = device.pipelines_for(how.activations)?;
                let mut network = Network::new(&pipelines, how)?;
                let memory = network.memory_use(&program).map_err(remedied)?;
                options.check_memory(memory.tensors)?;
                let plan = network.plan(&program).map_err(remedied)?;
                let plan = Box::new(plan);
                let (queue, tensor_cores) = (device.gpu.queue.clone(), device.has_tensor_cores());
                On::Gpu { plan, queue, tensor_cores }
            }
        };
        Ok(Self { program, on })
    }

    /// The outputs, and how long it took with upload and download.
    pub(crate) fn run(&self, inputs: &[&[f32]]) -> anyhow::Result<(Vec<Vec<f32>>, Duration)> {
        let started = Instant::now();
        let outputs = match &self.on {
            On::Cpu => cpu::run_with(&self.program, inputs, |_, _| ())?,
            On::Gpu { plan, queue, tensor_cores } => {
                let outputs = pollster::block_on(plan.run(queue, inputs))?;
                if *tensor_cores && outputs.iter().flatten().any(|y| !y.is_finite()) {
                    tell!(
                        "dsconv: an output is not finite; on tensor cores tensors end at 65504, and --tensor-cores=no \
                         computes in 32-bit floats"
                    );
                }
                outputs
            }
        };
        Ok((outputs, started.elapsed()))
    }

    /// The steps of a run, and how long each takes; `None` on the CPU.
    pub(crate) fn profile(
        &self,
        inputs: &[&[f32]],
    ) -> anyhow::Result<Option<(&[PlanStep], Profile)>> {
        let On::Gpu { plan, queue, .. } = &self.on else { return Ok(None) };
        Ok(Some((plan.steps(), pollster::block_on(plan.profile(queue, inputs))?)))
    }

    /// The program that runs.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Device memory; `None` on the CPU.
    pub(crate) fn memory(&self) -> Option<NetworkMemory> {
        match &self.on {
            On::Cpu => None,
            On::Gpu { plan, .. } => Some(plan.memory_use()),
        }
    }
}

/// The five likeliest classes of a picture, and how long the network took.
pub(crate) fn classify(
    runner: &Runner,
    model: &Model,
    preprocessing: &Preprocessing,
    picture: &RgbImage,
) -> anyhow::Result<(Vec<Class>, Duration)> {
    let input = picture::input(picture, preprocessing)?;
    let (outputs, time) = runner.run(&[&input])?;
    let [scores] = &outputs[..] else {
        bail!("expected a network with one output, got {}", outputs.len());
    };
    Ok((picture::top(scores, model.labels.as_deref(), 5)?, time))
}
