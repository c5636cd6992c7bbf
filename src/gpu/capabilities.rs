//! What decides which kernels a device can run, and which it should.

use super::device::WANTED_FEATURES;
use super::kernel::Kernel;

/// What decides which kernels a device can run, and which it should.
///
/// The default is a GPU that has nothing of all this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The subgroup size, where the device has subgroups of one size only and the feature is on.
    ///
    /// It is never set in a browser: there wgpu can't ask for the feature.
    pub subgroup_size: Option<u32>,
    /// The packed dot product for integer activations: by the maker of the GPU, unless somebody who measured said
    /// otherwise.
    pub packed_dot_product: PackedDotProduct,
    /// Whether shaders may have halves in memory: `wgpu::Features::SHADER_F16`.
    pub shader_f16: bool,
    /// Whether the device is a processor that plays a GPU.
    pub software: bool,
}

impl Capabilities {
    /// The capabilities of a device, as it was made.
    pub fn of(device: &wgpu::Device) -> Self {
        Self::new(&device.adapter_info(), device.features())
    }

    /// The capabilities of a device of this adapter that is made with [`WANTED_FEATURES`].
    pub fn of_adapter(adapter: &wgpu::Adapter) -> Self {
        Self::new(&adapter.get_info(), adapter.features() & WANTED_FEATURES)
    }

    /// The same with subgroups of that size only.
    pub fn with_subgroup_size(self, size: u32) -> Self {
        Self { subgroup_size: Some(size), ..self }
    }

    /// The same with another packed dot product.
    pub fn with_packed_dot_product(self, packed_dot_product: PackedDotProduct) -> Self {
        Self { packed_dot_product, ..self }
    }

    /// The same with halves in memory.
    pub fn with_shader_f16(self) -> Self {
        Self { shader_f16: true, ..self }
    }

    fn new(info: &wgpu::AdapterInfo, features: wgpu::Features) -> Self {
        let subgroups = features.contains(wgpu::Features::SUBGROUP)
            && info.subgroup_min_size == info.subgroup_max_size;
        Self {
            subgroup_size: subgroups.then_some(info.subgroup_min_size),
            packed_dot_product: PackedDotProduct::of(info),
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            software: info.device_type == wgpu::DeviceType::Cpu,
        }
    }
}

/// The packed dot product that a device has as an instruction. wgpu does not tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackedDotProduct {
    /// None: integer activations are computed in floats.
    #[default]
    None,
    /// That of signed bytes, `dot4I8Packed`.
    Signed,
    /// That of unsigned bytes only, `dot4U8Packed`.
    Unsigned,
}

/// Qualcomm's numbers, by PCI and by ACPI. By `dsconv isa` Adreno GPUs multiply four unsigned bytes in one instruction,
/// and signed ones in three each.
const QUALCOMM: [u32; 2] = [0x5143, 0x4d4f_4351];

/// Apple's number. Its GPUs have no such instruction, nor has Metal's language.
const APPLE: u32 = 0x106b;

impl PackedDotProduct {
    /// What is to be expected of an adapter. Browsers do not tell wgpu the maker.
    fn of(adapter: &wgpu::AdapterInfo) -> Self {
        match adapter.vendor {
            _ if !in_language() || adapter.backend == wgpu::Backend::Metal => Self::None,
            // wgpu does not tell the compiler. FXC, which it takes by default, writes the products out, and DXC of
            // before the middle of 2025 refuses them.
            _ if adapter.backend == wgpu::Backend::Dx12 => Self::None,
            APPLE => Self::None,
            vendor if QUALCOMM.contains(&vendor) => Self::Unsigned,
            _ => Self::Signed,
        }
    }

    /// The kernel for integer activations.
    pub(super) fn kernel(self) -> Kernel {
        match self {
            Self::None => Kernel::ConvGemm,
            Self::Signed => Kernel::ConvGemmInt8,
            Self::Unsigned => Kernel::ConvGemmInt8Unsigned,
        }
    }
}

/// Whether the shading language has packed dot products. Natively naga translates them for every device; in a browser
/// they are a language feature, and shaders bring some of their own where it is missing.
pub(super) fn in_language() -> bool {
    cfg!(not(target_arch = "wasm32"))
        // Without a backend there is no device either, and wgpu would panic.
        || !wgpu::Instance::enabled_backend_features().is_empty()
            && wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
            .wgsl_language_features()
            .contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct)
}

#[cfg(test)]
mod tests {
    use super::{APPLE, PackedDotProduct, QUALCOMM};
    use wgpu::{AdapterInfo, Backend, DeviceType};

    #[test]
    fn the_packed_dot_product_follows_from_maker_and_backend() {
        const NVIDIA: u32 = 0x10de;
        for (backend, vendor, expected) in [
            (Backend::Vulkan, NVIDIA, PackedDotProduct::Signed),
            (Backend::Vulkan, QUALCOMM[0], PackedDotProduct::Unsigned),
            (Backend::Vulkan, APPLE, PackedDotProduct::None),
            (Backend::Metal, NVIDIA, PackedDotProduct::None),
            (Backend::Dx12, NVIDIA, PackedDotProduct::None),
            (Backend::Dx12, QUALCOMM[1], PackedDotProduct::None),
        ] {
            let mut adapter = AdapterInfo::new(DeviceType::DiscreteGpu, backend);
            adapter.vendor = vendor;
            assert_eq!(PackedDotProduct::of(&adapter), expected, "{backend:?} {vendor:#x}");
        }
    }
}
