//! What this library wants of a device, and opening one for programs that have none.

use super::kernel::KERNELS;
use crate::{Error, Result};

/// Features that the library uses where an adapter has them. Request the intersection with the adapter's.
pub const WANTED_FEATURES: wgpu::Features = wgpu::Features::PIPELINE_CACHE
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::TIMESTAMP_QUERY);

/// What a host requests of an adapter, besides [`WANTED_FEATURES`], for kernels on matrix units
/// ("tensor cores"). The first is one of wgpu's experimental features: it also wants
/// `DeviceDescriptor::experimental_features` to be `ExperimentalFeatures::enabled()`, an unsafe call that only a host
/// can answer for.
pub const TENSOR_CORE_FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SUBGROUP);

/// Limits to request of that adapter: the defaults, with buffers as large as it allows.
pub fn wanted_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    let of = adapter.limits();
    wgpu::Limits {
        max_buffer_size: of.max_buffer_size,
        max_storage_buffer_binding_size: of.max_storage_buffer_binding_size,
        ..wgpu::Limits::default()
    }
}

/// Checks that kernels can run at all under these limits.
pub(crate) fn check_limits(limits: &wgpu::Limits) -> Result<()> {
    // Kernels for matrix units are extra.
    let kernels = KERNELS.iter().filter(|spec| spec.matrix.is_none());
    let shared = kernels.map(|spec| spec.workgroup_bytes).max().unwrap_or(0);
    let needed = [
        ("max_storage_buffers_per_shader_stage", 4, limits.max_storage_buffers_per_shader_stage),
        ("max_compute_invocations_per_workgroup", 64, limits.max_compute_invocations_per_workgroup),
        ("max_compute_workgroup_size_x", 64, limits.max_compute_workgroup_size_x),
        ("max_compute_workgroup_size_y", 8, limits.max_compute_workgroup_size_y),
        ("max_compute_workgroup_storage_size", shared, limits.max_compute_workgroup_storage_size),
    ];
    for (limit_name, needed, limit) in needed {
        if needed > limit {
            let (needed, limit) = (needed.into(), limit.into());
            return Err(Error::Limit { what: "the kernels".into(), needed, limit_name, limit });
        }
    }
    Ok(())
}

/// A device of the library's own, for programs that bring none.
#[derive(Clone, Debug)]
pub struct Gpu {
    /// The adapter.
    pub adapter: wgpu::Adapter,
    /// The device, with [`WANTED_FEATURES`] as far as the adapter has them, and with what [`open_with`] adds.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
}

/// Which adapter to open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selection {
    /// The first discrete GPU, else integrated, else virtual, else software.
    #[default]
    Best,
    /// The first whose name contains this, in any case.
    Name(String),
    /// By its place in [`adapters`].
    Index(usize),
}

/// What to do where there is no adapter, for a program with such backends of wgpu.
fn remedy(backends: wgpu::Backends) -> &'static str {
    match backends.is_empty() {
        true => {
            "this program has none of wgpu's backends; build it with a feature of dsconv-wgpu or dsconv-net: vulkan, metal, dx12 or webgpu"
        }
        false => {
            "install a GPU driver, or the software one (Debian and Ubuntu: apt install mesa-vulkan-drivers)"
        }
    }
}

/// All adapters of this machine that can run the kernels, in the system's order: of the backends that the program is
/// built with, so none without a feature `vulkan`, `metal`, `dx12` or `webgpu`.
pub async fn adapters() -> Vec<wgpu::Adapter> {
    // wgpu panics on it.
    if wgpu::Instance::enabled_backend_features().is_empty() {
        return Vec::new();
    }
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    adapters.retain(|adapter| check_limits(&adapter.limits()).is_ok());
    adapters
}

/// Opens a device.
///
/// # Errors
/// [`Error::NoAdapter`], with the remedy, if none matches; [`Error::Gpu`] if it can't be opened.
pub async fn open(selection: &Selection) -> Result<Gpu> {
    open_with(selection, wgpu::ExperimentalFeatures::disabled()).await
}

/// [`open`], where the caller answers for wgpu's experimental features by
/// `unsafe { wgpu::ExperimentalFeatures::enabled() }`: then the device also has [`TENSOR_CORE_FEATURES`], if its adapter
/// has them.
///
/// # Errors
/// As [`open`].
pub async fn open_with(
    selection: &Selection,
    experimental_features: wgpu::ExperimentalFeatures,
) -> Result<Gpu> {
    let mut adapters = adapters().await;
    if adapters.is_empty() {
        let backends = wgpu::Instance::enabled_backend_features();
        return Err(Error::NoAdapter(remedy(backends).into()));
    }
    let names: Vec<String> = adapters.iter().map(|adapter| adapter.get_info().name).collect();
    let index = match selection {
        Selection::Best => {
            let infos = adapters.iter().map(|adapter| rank(adapter.get_info().device_type));
            infos.enumerate().min_by_key(|&(_, rank)| rank).map(|(index, _)| index)
        }
        Selection::Index(index) => Some(*index).filter(|&index| index < adapters.len()),
        Selection::Name(part) => {
            let part = part.to_lowercase();
            names.iter().position(|name| name.to_lowercase().contains(&part))
        }
    };
    let Some(index) = index else {
        let list: Vec<String> =
            names.iter().enumerate().map(|(index, name)| format!("{index} ({name})")).collect();
        return Err(Error::NoAdapter(format!(
            "none {}; expected one of {}",
            match selection {
                Selection::Best => "can be chosen".to_owned(),
                Selection::Index(index) => format!("has the number {index}"),
                Selection::Name(part) => format!("has {part:?} in its name"),
            },
            list.join(", ")
        )));
    };
    let adapter = adapters.swap_remove(index);
    let wanted = match experimental_features.is_enabled() {
        true => WANTED_FEATURES | TENSOR_CORE_FEATURES,
        false => WANTED_FEATURES,
    };
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("dsconv"),
        required_features: adapter.features() & wanted,
        experimental_features,
        required_limits: wanted_limits(&adapter),
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| Error::Gpu {
        what: format!("to open {}", names[index]),
        message: e.to_string(),
    })?;
    Ok(Gpu { adapter, device, queue })
}

fn rank(device_type: wgpu::DeviceType) -> u8 {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn a_program_without_backends_is_told_the_features_and_others_the_driver() {
        let none = remedy(wgpu::Backends::empty());
        assert!(["vulkan", "metal", "dx12", "webgpu"].iter().all(|name| none.contains(name)));
        assert!(remedy(wgpu::Backends::VULKAN).contains("mesa-vulkan-drivers"));
    }
}
