//! What decides which kernels a device can run, and which it should.

/// What decides which kernels a device can run, and which it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The subgroup size, where the device has subgroups of one size only and the feature is on.
    ///
    /// It is never set in a browser: there wgpu can't ask for the feature.
    pub subgroup_size: Option<u32>,
    /// Whether the shading language has `dot4I8Packed`, and nobody said that it is slow. Elsewhere shaders bring one of
    /// their own, and kernels in floats are chosen.
    pub packed_dot_product: bool,
    /// Whether shaders may have halves in memory: `wgpu::Features::SHADER_F16`.
    pub shader_f16: bool,
    /// Whether the device is a processor that plays a GPU.
    pub software: bool,
}

impl Capabilities {
    /// The capabilities of a device, as it was made.
    pub fn of(device: &wgpu::Device) -> Self {
        let info = device.adapter_info();
        let subgroups = device.features().contains(wgpu::Features::SUBGROUP)
            && info.subgroup_min_size == info.subgroup_max_size;
        Self {
            subgroup_size: subgroups.then_some(info.subgroup_min_size),
            packed_dot_product: packed_dot_product(),
            shader_f16: device.features().contains(wgpu::Features::SHADER_F16),
            software: info.device_type == wgpu::DeviceType::Cpu,
        }
    }
}

/// Natively naga translates it for every device; in a browser it is a language feature, not the device's.
fn packed_dot_product() -> bool {
    cfg!(not(target_arch = "wasm32"))
        || wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle())
            .wgsl_language_features()
            .contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct)
}
