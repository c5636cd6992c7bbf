//! What decides which kernels a device can run, and which it should.

use super::device::WANTED_FEATURES;
use super::kernel::Kernel;

/// What decides which kernels a device can run, and which it should.
///
/// The default is a GPU of a maker that is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Whether a thread has registers for a tile of 8 x 8 sums. By `dsconv isa` those of Apple's GPUs spill it: there
    /// `conv_gemm_wide` takes more instructions than `conv_gemm`.
    pub wide_tiles: bool,
    /// The most threads that a subgroup of the device may have.
    pub largest_subgroup: u32,
    /// The matrix units that kernels may use: none until somebody has proven them, see
    /// [`tensor_cores`](super::tensor_cores()).
    pub tensor_cores: Option<TensorCores>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            subgroup_size: None,
            packed_dot_product: PackedDotProduct::None,
            shader_f16: false,
            software: false,
            wide_tiles: true,
            largest_subgroup: 0,
            tensor_cores: None,
        }
    }
}

/// Matrix units of a device, which multiply halves and add the products in 32-bit floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TensorCores {
    /// Rows and columns of the matrices: 8 or 16.
    pub size: u32,
}

impl TensorCores {
    /// Units for matrices of that size.
    pub const fn new(size: u32) -> Self {
        Self { size }
    }

    /// The kernel for float activations.
    pub(super) fn kernel(self) -> Kernel {
        match self.size {
            8 => Kernel::ConvMatrix8,
            _ => Kernel::ConvMatrix16,
        }
    }
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

    /// The same with these matrix units, or with `None` without.
    pub fn with_tensor_cores(self, tensor_cores: impl Into<Option<TensorCores>>) -> Self {
        Self { tensor_cores: tensor_cores.into(), ..self }
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
            wide_tiles: !is_apple(info),
            largest_subgroup: info.subgroup_max_size,
            tensor_cores: None,
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

/// Whether it is to be taken for one of Apple's GPUs: Metal tells no maker.
fn is_apple(adapter: &wgpu::AdapterInfo) -> bool {
    adapter.vendor == APPLE || adapter.backend == wgpu::Backend::Metal
}

impl PackedDotProduct {
    /// What is to be expected of an adapter. Browsers do not tell wgpu the maker.
    fn of(adapter: &wgpu::AdapterInfo) -> Self {
        match adapter.vendor {
            _ if !in_language() || is_apple(adapter) => Self::None,
            // wgpu does not tell the compiler. FXC, which it takes by default, writes the products out, and DXC of
            // before the middle of 2025 refuses them.
            _ if adapter.backend == wgpu::Backend::Dx12 => Self::None,
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
    use super::*;
    use crate::gpu::{ActivationFormat, ConvProblem};
    use crate::{BlockFormat, ConvDescriptor, Layout, Shape};
    use wgpu::{AdapterInfo, Backend, DeviceType};

    const AMD: u32 = 0x1002;
    const NVIDIA: u32 = 0x10de;

    #[test]
    fn the_packed_dot_product_follows_from_maker_and_backend() {
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

    /// The table of docs/kernels.md, all but its reasons, by the rules themselves.
    #[test]
    fn the_documents_table_of_kernels_by_device_is_what_the_rules_choose() {
        use DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, Other};
        let rows = [
            ("NVIDIA, Vulkan", DiscreteGpu, Backend::Vulkan, NVIDIA, 32),
            ("AMD, Vulkan", DiscreteGpu, Backend::Vulkan, AMD, 64),
            ("Qualcomm, Vulkan", IntegratedGpu, Backend::Vulkan, QUALCOMM[0], 64),
            ("Apple, Metal", IntegratedGpu, Backend::Metal, 0, 32),
            ("others, Vulkan", IntegratedGpu, Backend::Vulkan, 0, 16),
            ("all, DX12", DiscreteGpu, Backend::Dx12, NVIDIA, 32),
            ("a browser", Other, Backend::BrowserWebGpu, 0, 0),
            ("lavapipe, subgroups of 8", Cpu, Backend::Vulkan, 0, 8),
            ("SwiftShader, subgroups of 4", Cpu, Backend::Vulkan, 0, 4),
        ];
        let format = BlockFormat::new(4, 32).unwrap();
        let dense = ConvDescriptor::new(64, 64, [3, 3]);
        let problem = |descriptor, blocks, layout| {
            ConvProblem::of_format(descriptor, blocks).with_layouts(layout, layout)
        };
        let blocks = format.blocks(&dense);
        let table = rows.map(|(name, kind, backend, vendor, subgroup)| {
            let mut adapter = AdapterInfo::new(kind, backend);
            adapter.vendor = vendor;
            (adapter.subgroup_min_size, adapter.subgroup_max_size) = (subgroup, subgroup);
            // A browser tells of no subgroups.
            let features = match subgroup {
                0 => wgpu::Features::empty(),
                _ => wgpu::Features::SUBGROUP,
            };
            let capabilities = Capabilities::new(&adapter, features);
            let of = |problem| Kernel::choose(&problem, &capabilities);
            let small = of(problem(dense, Some(format), Layout::Nhwc));
            let large = Shape::new(1, 64, 640, 640);
            let large = small.for_output(&dense, &blocks, large, &capabilities);
            let int8 = problem(dense, Some(format), Layout::Nhwc);
            let int8 = of(int8.with_activations(ActivationFormat::Int8));
            let depthwise = |layout| of(problem(dense.with_groups(64), None, layout)).name();
            let (small, large, int8) = (small.name(), large.name(), int8.name());
            let (last, planar) = (depthwise(Layout::Nhwc), depthwise(Layout::Nchw));
            format!("| {name} | `{small}` | `{large}` | `{int8}` | `{last}` | `{planar}` |")
        });
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kernels.md");
        let page = std::fs::read_to_string(page).unwrap();
        let listed: Vec<&str> =
            table.iter().map(String::as_str).filter(|row| page.contains(row)).collect();
        assert_eq!(listed, table, "docs/kernels.md should have:\n{}", table.join("\n"));
    }
}
