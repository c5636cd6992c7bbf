//! Networks as commands use them: read from files, run on a device.

use crate::device::{Device, DeviceChoice};
use crate::picture;
use anyhow::{Context, bail, ensure};
use dsconv::Weights;
use dsconv_net::gpu::{Network, NetworkMemory, NetworkOptions, NetworkPlan};
use dsconv_net::model::{Fit, Preprocessing};
use dsconv_net::{Graph, Model, Program, cpu, onnx};
use image::RgbImage;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Reads a model file, or an ONNX file as a model without labels and preprocessing.
pub(crate) fn read(path: &Path) -> anyhow::Result<Model> {
    let is = |extension: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    match (is("onnx"), is("safetensors")) {
        (true, _) => Ok(Model { graph: onnx::read(path)?, ..Model::default() }),
        (_, true) => Ok(Model::read(path)?),
        _ => bail!("{}: expected a file named *.safetensors or *.onnx", path.display()),
    }
}

/// The preprocessing of a model's file, or ImageNet's usual one for a network of one image input.
pub(crate) fn preprocessing(model: &Model) -> anyhow::Result<Preprocessing> {
    if let Some(known) = &model.preprocessing {
        return Ok(known.clone());
    }
    let [input] = model.graph.inputs() else {
        bail!("expected a network with one input, got {}", model.graph.inputs().len());
    };
    let side = |dim: Option<usize>| u32::try_from(dim.unwrap_or(224)).ok();
    match input.dims[..] {
        [_, Some(3) | None, height, width] => {
            let size = [side(height), side(width)];
            let [Some(height), Some(width)] = size else {
                bail!("input {:?} is too large", input.name)
            };
            Ok(default_preprocessing([height, width]))
        }
        _ => bail!("input {:?}: expected a picture (N, 3, H, W), got {:?}", input.name, input.dims),
    }
}

/// Centre crop of 7/8, pixels to about -1 to 1: what EfficientNet-Lite was trained with.
pub(crate) fn default_preprocessing(size: [u32; 2]) -> Preprocessing {
    Preprocessing {
        size,
        fit: Fit::Crop(0.875),
        mean: vec![127.0 / 255.0; 3],
        std: vec![128.0 / 255.0; 3],
        channels: dsconv_net::model::ChannelOrder::Rgb,
        channels_last: false,
    }
}

/// The dims of a picture's input.
pub(crate) fn picture_dims(how: &Preprocessing) -> Vec<usize> {
    let [height, width] = how.size.map(|side| side as usize);
    match how.channels_last {
        true => vec![1, height, width, how.mean.len()],
        false => vec![1, how.mean.len(), height, width],
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

/// The pictures of a folder, in the order of their names.
pub(crate) fn pictures_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(|| folder.display().to_string())?;
    let named = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
        matches!(extension.as_str(), "png" | "jpg" | "jpeg")
    };
    paths.retain(named);
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no *.png, *.jpg or *.jpeg in it", folder.display());
    Ok(paths)
}

/// A network ready to run on inputs of one shape.
pub(crate) struct Runner {
    program: Program,
    on: On,
}

enum On {
    Cpu,
    Gpu { plan: Box<NetworkPlan>, queue: wgpu::Queue },
}

impl Runner {
    /// Specialises the graph and uploads it.
    pub(crate) fn new(
        graph: &Graph,
        dims: &[&[usize]],
        device: Option<&Device>,
        options: NetworkOptions,
    ) -> anyhow::Result<Self> {
        let program = graph.specialise(dims)?;
        let on = match device {
            None => On::Cpu,
            Some(device) => {
                let mut network = Network::new(&device.pipelines, options)?;
                let plan = Box::new(network.plan(&program)?);
                On::Gpu { plan, queue: device.gpu.queue.clone() }
            }
        };
        Ok(Self { program, on })
    }

    /// The outputs, and how long it took with upload and download.
    pub(crate) fn run(&self, inputs: &[&[f32]]) -> anyhow::Result<(Vec<Vec<f32>>, Duration)> {
        let started = Instant::now();
        let outputs = match &self.on {
            On::Cpu => cpu::run(&self.program, inputs)?,
            On::Gpu { plan, queue } => pollster::block_on(plan.run(queue, inputs))?,
        };
        Ok((outputs, started.elapsed()))
    }

    /// What runs.
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

/// Opens the device, or says that there is none and goes on with the CPU if the user named none.
pub(crate) fn open(choice: &DeviceChoice) -> anyhow::Result<Option<Device>> {
    match Device::open(choice) {
        Err(error @ dsconv::Error::NoAdapter(_)) if *choice == DeviceChoice::Best => {
            eprintln!("{error}. Running on the CPU reference instead.");
            Ok(None)
        }
        opened => Ok(opened?),
    }
}

/// A device in words.
pub(crate) fn describe(device: Option<&Device>) -> String {
    device.map_or("the CPU reference (f64, plain loops)".into(), Device::describe)
}

/// A class, its name and its score: the probabilities of a network that gives none itself.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Class {
    pub(crate) index: usize,
    pub(crate) label: String,
    pub(crate) score: f64,
}

/// The five classes of the highest scores.
pub(crate) fn top_five(scores: &[f32], labels: Option<&[String]>) -> anyhow::Result<Vec<Class>> {
    ensure!(scores.iter().all(|s| s.is_finite()), "the network gave scores that are not finite");
    let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
    let probabilities =
        scores.iter().all(|&s| (0.0..=1.0).contains(&s)) && (sum - 1.0).abs() < 1e-3;
    let largest = scores.iter().fold(f32::MIN, |m, &s| m.max(s));
    let exp = |s: f32| f64::from(s - largest).exp();
    let total: f64 = scores.iter().map(|&s| exp(s)).sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let class = |index: usize| Class {
        index,
        label: labels
            .and_then(|labels| labels.get(index))
            .map_or_else(|| format!("class {index}"), Clone::clone),
        score: if probabilities { scores[index].into() } else { exp(scores[index]) / total },
    };
    Ok(order.into_iter().take(5).map(class).collect())
}

/// Classifies a picture.
pub(crate) fn classify(
    runner: &Runner,
    model: &Model,
    how: &Preprocessing,
    picture: &RgbImage,
) -> anyhow::Result<(Vec<Class>, Duration)> {
    let input = picture::input(picture, how)?;
    let (outputs, time) = runner.run(&[&input])?;
    let [scores] = &outputs[..] else {
        bail!("expected a network with one output, got {}", outputs.len());
    };
    Ok((top_five(scores, model.labels.as_deref())?, time))
}
