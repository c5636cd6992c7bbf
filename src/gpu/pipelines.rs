//! What layers on one device share: layouts, shader modules and compiled pipelines.

use super::capabilities::{Capabilities, PackedDotProduct, TensorCores};
use super::once::OnceMap;
use super::scope::checked;
use super::shader::Source;
use super::transfer::{check_queue, upload, wait};
use super::variant::Variant;
use crate::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longer files of compiled pipelines are none.
#[cfg(not(target_arch = "wasm32"))]
const LARGEST_CACHE: u64 = 1 << 28;

/// What layers on one device share: bind group layout, shader modules and compiled pipelines. Lives as
/// long as the device; a clone is the same thing.
///
/// Pipelines are compiled when a plan first needs them, or by [`warm_up`](Self::warm_up), each once: threads that want
/// the same one wait for it, and those that want another go on. The host's device is used as it is: no callback is set
/// and nothing is submitted.
#[derive(Clone, Debug)]
pub struct Pipelines {
    inner: Arc<Inner>,
    capabilities: Capabilities,
    uploads: Option<Arc<Uploads>>,
}

/// What waits in staging buffers, and when it has to go.
#[derive(Debug)]
struct Uploads {
    queue: wgpu::Queue,
    bound: u64,
    waiting: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    device: wgpu::Device,
    limits: wgpu::Limits,
    bind_group_layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    /// Bound where there are no weights, or no residual of its own.
    nothing: wgpu::Buffer,
    /// The text follows from the source alone, and a pipeline from its variant alone: clones for other packed dot
    /// products share both.
    modules: OnceMap<Source, wgpu::ShaderModule>,
    pipelines: OnceMap<Variant, wgpu::ComputePipeline>,
    cache: Option<wgpu::PipelineCache>,
}

impl Pipelines {
    /// An empty cache for that device.
    ///
    /// # Errors
    /// [`Error::Limit`](crate::Error::Limit) if the device was made with limits too low for any kernel, or what the device reports.
    pub fn new(device: &wgpu::Device) -> Result<Self> {
        Self::make(device, None)
    }

    /// A cache that starts from compiled pipelines of an earlier run, as [`cache_data`](Self::cache_data)
    /// gave them. Data of another adapter or driver, or damaged data, is ignored with a warning. Has an
    /// effect only on a device with `wgpu::Features::PIPELINE_CACHE` (Vulkan).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_cache(device: &wgpu::Device, data: &[u8]) -> Result<Self> {
        Self::make(device, super::cache::unwrap(&device.adapter_info(), data))
    }

    /// [`with_cache`](Self::with_cache) from a file; one that is missing, unreadable or above 256 MiB is like an empty
    /// one.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[cfg(not(target_arch = "wasm32"))]
    pub fn with_cache_file(device: &wgpu::Device, path: &std::path::Path) -> Result<Self> {
        match crate::file::read_kept(path, LARGEST_CACHE) {
            Ok(data) => Self::with_cache(device, &data),
            Err(crate::Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Self::new(device)
            }
            Err(error) => {
                log::warn!("pipeline cache ignored: {error}");
                Self::new(device)
            }
        }
    }

    /// Writes [`cache_data`](Self::cache_data) to a file, beside its place and then renamed. Does
    /// nothing where the backend has no cache.
    ///
    /// # Errors
    /// A failure of the file system.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_cache_file(&self, path: &std::path::Path) -> Result<()> {
        self.cache_data().map_or(Ok(()), |data| crate::file::keep(path, &data))
    }

    fn make(device: &wgpu::Device, cache_data: Option<&[u8]>) -> Result<Self> {
        let limits = device.limits();
        super::device::check_limits(&limits)?;
        let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let entries = [
            entry(0, wgpu::BufferBindingType::Uniform),
            entry(1, storage(true)),
            entry(2, storage(true)),
            entry(3, storage(true)),
            entry(4, storage(false)),
        ];
        // The first thing made: it also tells a lost device.
        let nothing = upload(device, "dsconv nothing", wgpu::BufferUsages::STORAGE, &[0u32; 4])?;
        let inner = checked(device, "the bind group layout", || {
            let bind_group_layout =
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some("dsconv"),
                    entries: &entries,
                });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("dsconv"),
                bind_group_layouts: &[Some(&bind_group_layout)],
                immediate_size: 0,
            });
            Inner {
                device: device.clone(),
                limits,
                bind_group_layout,
                pipeline_layout,
                nothing,
                modules: OnceMap::default(),
                pipelines: OnceMap::default(),
                cache: super::trusted::pipeline_cache(device, cache_data),
            }
        })?;
        Ok(Self { inner: shared(inner), capabilities: Capabilities::of(device), uploads: None })
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// What decides which kernels the device runs.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The same pipelines for a device that is known to have this packed dot product: layers made from these compute
    /// integer activations by it, unless they name a kernel. See `Tuner::packed_dot_product`.
    pub fn with_packed_dot_product(mut self, packed_dot_product: PackedDotProduct) -> Self {
        self.capabilities.packed_dot_product = packed_dot_product;
        self
    }

    /// The same pipelines for a device that is known to have these matrix units, or with `None` for one without:
    /// layers made from these are computed by them, where they name no kernel and it pays. See
    /// [`tensor_cores`](super::tensor_cores()).
    pub fn with_tensor_cores(mut self, tensor_cores: impl Into<Option<TensorCores>>) -> Self {
        self.capabilities.tensor_cores = tensor_cores.into();
        self
    }

    /// The same pipelines with a bound on what waits for the device's next submission. wgpu keeps what a new buffer holds in
    /// a staging buffer until then. Whenever layers made from these have more than `bytes` waiting, an empty submission
    /// sends it, and natively the call waits until the device is done. Without a bound the library submits nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) natively for a queue of another device; a lost device.
    pub fn with_upload_bound(self, queue: &wgpu::Queue, bytes: u64) -> Result<Self> {
        check_queue(self.device(), queue)?;
        let uploads = Uploads { queue: queue.clone(), bound: bytes, waiting: AtomicU64::new(0) };
        Ok(Self { uploads: Some(shared(uploads)), ..self })
    }

    /// How many pipelines have been compiled so far.
    pub fn compiled(&self) -> usize {
        self.inner.pipelines.made()
    }

    /// The compiled pipelines, for [`with_cache`](Self::with_cache) in a later run; `None` where the
    /// backend has no such thing. Best written to a file named by [`Pipelines::cache_key`].
    pub fn cache_data(&self) -> Option<Vec<u8>> {
        let data = self.inner.cache.as_ref()?.get_data()?;
        Some(super::cache::wrap(&self.inner.device.adapter_info(), &data))
    }

    /// A file name for the cache data of that adapter.
    pub fn cache_key(adapter: &wgpu::AdapterInfo) -> String {
        format!("dsconv-{:?}-{:04x}-{:04x}.bin", adapter.backend, adapter.vendor, adapter.device)
            .to_lowercase()
    }

    /// The cache behind the pipelines, where the backend has one: for pipelines of the host's own.
    pub fn cache(&self) -> Option<&wgpu::PipelineCache> {
        self.inner.cache.as_ref()
    }

    /// The limits that the device was made with.
    pub fn limits(&self) -> &wgpu::Limits {
        &self.inner.limits
    }

    pub(crate) fn bind_group_layout(&self) -> &wgpu::BindGroupLayout {
        &self.inner.bind_group_layout
    }

    /// A new buffer that holds `values`; what waits stays within the bound.
    pub(super) fn upload<T: bytemuck::NoUninit>(
        &self,
        label: &str,
        usage: wgpu::BufferUsages,
        values: &[T],
    ) -> Result<wgpu::Buffer> {
        let buffer = upload(self.device(), label, usage, values)?;
        if let Some(Uploads { queue, bound, waiting }) = self.uploads.as_deref()
            && waiting.fetch_add(buffer.size(), Ordering::Relaxed) + buffer.size() > *bound
        {
            waiting.store(0, Ordering::Relaxed);
            checked(self.device(), "the uploads", || queue.submit([]))?;
            wait(self.device())?;
        }
        Ok(buffer)
    }

    pub(crate) fn nothing(&self) -> &wgpu::Buffer {
        &self.inner.nothing
    }

    /// Whether these are the same, or clones of each other.
    pub(crate) fn same_device(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// The pipeline of a variant, compiled at its first use.
    pub(crate) fn get(&self, variant: Variant) -> Result<wgpu::ComputePipeline> {
        self.inner.pipelines.get_or_make(variant, || self.inner.compile(variant))
    }
}

impl Inner {
    fn compile(&self, variant: Variant) -> Result<wgpu::ComputePipeline> {
        let device = &self.device;
        let label = format!("dsconv {variant}");
        let source = variant.source();
        let module = self.modules.get_or_make(source, || {
            checked(device, &label, || super::trusted::shader_module(device, source))
        })?;
        let pipeline = checked(device, &label, || {
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&self.pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &variant.constants(),
                    // Every tile is written before it is read.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.cache.as_ref(),
            })
        })?;
        log::debug!("compiled {label}");
        Ok(pipeline)
    }
}

/// An `Arc` of what can't be sent in a browser, where there is one thread.
fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}
