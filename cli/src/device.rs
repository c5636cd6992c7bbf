//! The device that a command runs on: how it is chosen, opened and described, and what is kept for it between runs.

use crate::message::in_words;
use crate::output::tell;
use crate::tensor_cores::UseTensorCores;
use anyhow::Context;
use dsconv::gpu::{Gpu, PackedDotProduct, Pipelines, Selection, Tuner};
use dsconv_net::gpu::Activations;
use std::path::{Path, PathBuf};

/// The option `--device`, for the commands that run on a device.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct OnDevice {
    /// Run on `cpu`, the reference, or on the GPU of this number or name in `dsconv devices`.
    #[arg(long, value_name = "cpu|NAME|INDEX")]
    device: Option<DeviceChoice>,
    #[command(flatten)]
    pub(crate) tensor_cores: UseTensorCores,
}

impl OnDevice {
    /// The user's choice, or the best GPU.
    fn choice(&self) -> &DeviceChoice {
        self.device.as_ref().unwrap_or(&DeviceChoice::Best)
    }

    /// The chosen GPU; `None` is the CPU reference.
    pub(crate) fn selection(&self) -> Option<Selection> {
        match self.choice() {
            DeviceChoice::Cpu => None,
            DeviceChoice::Best => Some(Selection::Best),
            DeviceChoice::Gpu(selection) => Some(selection.clone()),
        }
    }

    /// Opens the chosen device; `None` is the CPU reference.
    pub(crate) fn open(&self) -> dsconv::Result<Option<Device>> {
        let open = |selection| Device::open(&selection, self.tensor_cores);
        self.selection().map(open).transpose()
    }

    /// Opens the chosen device. Without a choice and without a GPU it says so, and goes on with the CPU reference.
    pub(crate) fn open_or_cpu(&self) -> anyhow::Result<Option<Device>> {
        match self.open() {
            Err(error @ dsconv::Error::NoAdapter(_)) if *self.choice() == DeviceChoice::Best => {
                tell!("{error}. Running on the CPU reference instead.");
                Ok(None)
            }
            opened => Ok(opened?),
        }
    }
}

/// The device that `--device` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The best GPU.
    Best,
    /// The CPU reference.
    Cpu,
    /// A certain GPU.
    Gpu(Selection),
}

impl std::str::FromStr for DeviceChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text.eq_ignore_ascii_case("cpu"), text.parse()) {
            (true, _) => Self::Cpu,
            (false, Ok(index)) => Self::Gpu(Selection::Index(index)),
            (false, Err(_)) => Self::Gpu(Selection::Name(text.into())),
        })
    }
}

/// An opened GPU, with its compiled pipelines kept in the user's cache folder between runs.
pub(crate) struct Device {
    pub(crate) gpu: Gpu,
    pub(crate) pipelines: Pipelines,
    cache: Option<PathBuf>,
}

impl Device {
    fn open(selection: &Selection, tensor_cores: UseTensorCores) -> dsconv::Result<Self> {
        let gpu = open_gpu(selection, tensor_cores)?;
        let cache = cache_file(&gpu);
        let pipelines = match &cache {
            Some(path) => Pipelines::with_cache_file(&gpu.device, path)?,
            None => Pipelines::new(&gpu.device)?,
        };
        let pipelines = pipelines.with_tensor_cores(tensor_cores.prove(&gpu)?);
        Ok(Self { gpu, pipelines, cache })
    }

    /// The same device without its matrix units: what others are compared with is computed in 32-bit floats.
    pub(crate) fn in_floats(&self) -> Self {
        let pipelines = self.pipelines.clone().with_tensor_cores(None);
        Self { gpu: self.gpu.clone(), pipelines, cache: self.cache.clone() }
    }

    /// Whether its layers may be computed in halves, on matrix units.
    pub(crate) fn has_tensor_cores(&self) -> bool {
        self.pipelines.capabilities().tensor_cores.is_some()
    }

    /// Keeps the compiled pipelines for the next run, where that can be done.
    pub(crate) fn save_cache(&self) {
        if let Some(path) = &self.cache {
            kept(create_folder_of(path).and_then(|()| Ok(self.pipelines.save_cache_file(path)?)));
        }
    }

    /// The pipelines, with the fastest kernels for integer activations.
    pub(crate) fn pipelines_for(&self, activations: Activations) -> anyhow::Result<Pipelines> {
        let pipelines = self.pipelines.clone();
        Ok(match packed_dot_product(&self.gpu, activations)? {
            Some(measured) => pipelines.with_packed_dot_product(measured),
            None => pipelines,
        })
    }

    /// Waits until everything submitted is done.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        self.gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }
}

/// Opens a GPU. A number that no GPU has may be a part of a name, as 4090.
pub(crate) fn open_gpu(selection: &Selection, tensor_cores: UseTensorCores) -> dsconv::Result<Gpu> {
    let open = |selection: &Selection| tensor_cores.open(selection);
    match (open(selection), selection) {
        (Err(error @ dsconv::Error::NoAdapter(_)), Selection::Index(index)) => {
            open(&Selection::Name(index.to_string())).map_err(|_| error)
        }
        (opened, _) => opened,
    }
}

/// The file that keeps compiled pipelines for a GPU.
fn cache_file(gpu: &Gpu) -> Option<PathBuf> {
    let name = Pipelines::cache_key(&gpu.adapter.get_info());
    dirs::cache_dir().map(|folder| folder.join("dsconv").join(name))
}

/// The kernels that were measured on a GPU in earlier runs.
pub(crate) fn tuner(gpu: &Gpu) -> Tuner {
    let adapter = gpu.adapter.get_info();
    match tuner_file(gpu) {
        Some(path) => Tuner::load(&adapter, &path),
        None => Tuner::new(&adapter),
    }
}

/// Keeps the measured kernels for the next run, where that can be done.
pub(crate) fn save_tuner(gpu: &Gpu, tuner: &Tuner) {
    if let Some(path) = tuner_file(gpu) {
        kept(create_folder_of(&path).and_then(|()| Ok(tuner.save(&path)?)));
    }
}

/// Warns of what could not be kept: it only makes the next run start later.
fn kept(result: anyhow::Result<()>) {
    if let Err(error) = result {
        tell!("dsconv: not kept for the next run: {}", in_words(&error));
    }
}

/// The file that keeps the measured kernels, beside the compiled pipelines.
fn tuner_file(gpu: &Gpu) -> Option<PathBuf> {
    Some(cache_file(gpu)?.with_extension("kernels"))
}

/// The packed dot product that is the fastest for such activations, if they are integers. It is measured once for a GPU
/// and driver, and kept for the next runs.
pub(crate) fn packed_dot_product(
    gpu: &Gpu,
    activations: Activations,
) -> anyhow::Result<Option<PackedDotProduct>> {
    if activations != Activations::Int8 {
        return Ok(None);
    }
    let mut tuner = tuner(gpu);
    let known = tuner.clone();
    // With pipelines of its own: a command's are for what it runs, and are counted.
    let pipelines = Pipelines::new(&gpu.device)?;
    let measured = pollster::block_on(tuner.packed_dot_product(&pipelines, &gpu.queue))?;
    if tuner != known {
        save_tuner(gpu, &tuner);
    }
    Ok(Some(measured))
}

fn create_folder_of(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// The device in words, where the CPU reference is one too.
pub(crate) fn describe(device: Option<&Device>) -> String {
    match device {
        Some(device) => {
            let name = describe_gpu(&device.gpu.adapter.get_info());
            if device.has_tensor_cores() { format!("{name}, with tensor cores") } else { name }
        }
        None => "the CPU reference (f64, plain loops)".into(),
    }
}

/// Name, backend and kind of a GPU.
pub(crate) fn describe_gpu(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({:?}, {})", info.name, info.backend, kind(info.device_type))
}

/// An adapter's kind in words.
pub(crate) fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}
