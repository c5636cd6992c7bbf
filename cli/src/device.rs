use anyhow::Context;
use dsconv::gpu::{self, Gpu, Pipelines, Selection, Tuner};
use dsconv_net::gpu::Activations;
use std::path::{Path, PathBuf};

/// What `--device` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The best GPU.
    #[default]
    Best,
    /// The CPU reference.
    Cpu,
    /// A certain GPU.
    Gpu(Selection),
}

impl std::str::FromStr for DeviceChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.parse()) {
            ("cpu", _) => Self::Cpu,
            (_, Ok(index)) => Self::Gpu(Selection::Index(index)),
            (name, Err(_)) => Self::Gpu(Selection::Name(name.into())),
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
    /// Opens what was chosen; `None` is the CPU reference.
    pub(crate) fn open(choice: &DeviceChoice) -> Result<Option<Self>, dsconv::Error> {
        let selection = match choice {
            DeviceChoice::Cpu => return Ok(None),
            DeviceChoice::Best => &Selection::Best,
            DeviceChoice::Gpu(selection) => selection,
        };
        let gpu = pollster::block_on(gpu::open(selection))?;
        let cache = cache_file(&gpu);
        let pipelines = match &cache {
            Some(path) => Pipelines::with_cache_file(&gpu.device, path)?,
            None => Pipelines::new(&gpu.device)?,
        };
        Ok(Some(Self { gpu, pipelines, cache }))
    }

    /// Name and backend.
    pub(crate) fn describe(&self) -> String {
        describe(&self.gpu)
    }

    /// Keeps the compiled pipelines for the next run.
    pub(crate) fn save_cache(&self) -> anyhow::Result<()> {
        let Some(path) = &self.cache else { return Ok(()) };
        create_folder_of(path)?;
        Ok(self.pipelines.save_cache_file(path)?)
    }

    /// The pipelines, with kernels in floats for integer activations where packed dot products are slow.
    pub(crate) fn pipelines_for(&self, activations: Activations) -> anyhow::Result<Pipelines> {
        let pipelines = self.pipelines.clone();
        Ok(match needs_floats(&self.gpu, activations)? {
            true => pipelines.without_packed_dot_product(),
            false => pipelines,
        })
    }

    /// Waits until everything submitted is done.
    pub(crate) fn wait(&self) -> anyhow::Result<()> {
        self.gpu.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }
}

/// Where compiled pipelines are kept for a GPU.
fn cache_file(gpu: &Gpu) -> Option<PathBuf> {
    let name = Pipelines::cache_key(&gpu.adapter.get_info());
    dirs::cache_dir().map(|folder| folder.join("dsconv").join(name))
}

/// Kernels that were measured on a GPU in earlier runs.
pub(crate) fn tuner(gpu: &Gpu) -> Tuner {
    let adapter = gpu.adapter.get_info();
    match tuner_file(gpu) {
        Some(path) => Tuner::load(&adapter, &path),
        None => Tuner::new(&adapter),
    }
}

/// Keeps them for the next one.
pub(crate) fn save_tuner(gpu: &Gpu, tuner: &Tuner) -> anyhow::Result<()> {
    let Some(path) = tuner_file(gpu) else { return Ok(()) };
    create_folder_of(&path)?;
    Ok(tuner.save(&path)?)
}

/// Beside the compiled pipelines.
fn tuner_file(gpu: &Gpu) -> Option<PathBuf> {
    Some(cache_file(gpu)?.with_extension("kernels"))
}

/// Whether such activations are computed faster in floats, because packed dot products are slow there: measured once
/// for a GPU and driver, and kept for the next runs.
pub(crate) fn needs_floats(gpu: &Gpu, activations: Activations) -> anyhow::Result<bool> {
    if activations != Activations::Int8 {
        return Ok(false);
    }
    let mut tuner = tuner(gpu);
    let known = tuner.clone();
    // With pipelines of its own: a command's are for what it runs, and are counted.
    let pipelines = Pipelines::new(&gpu.device)?;
    let pays = pollster::block_on(tuner.packed_dot_product_pays(&pipelines, &gpu.queue))?;
    if tuner != known {
        save_tuner(gpu, &tuner)?;
    }
    Ok(!pays)
}

fn create_folder_of(path: &Path) -> anyhow::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}

/// Name and backend of a GPU.
pub(crate) fn describe(gpu: &Gpu) -> String {
    let info = gpu.adapter.get_info();
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
