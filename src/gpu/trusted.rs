//! The crate's unsafe calls: what wgpu takes on trust.
#![expect(unsafe_code, reason = "wgpu has no safe form of these two; each says why it holds")]

use super::shader::Source;

/// A cache for the device's new pipelines, where the device has the feature.
pub(crate) fn pipeline_cache(
    device: &wgpu::Device,
    data: Option<&[u8]>,
) -> Option<wgpu::PipelineCache> {
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("dsconv"), data, fallback: true };
    // SAFETY: the data comes from `get_data` of this adapter and driver, unchanged: `cache::unwrap`
    // has compared its hash and the adapter. `fallback` starts empty if the driver still refuses it.
    Some(unsafe { device.create_pipeline_cache(&descriptor) })
}

/// A kernel's module without wgpu's checks of indices and loops at run time, which would double the
/// instructions of the integer kernels on AMD chips. (In a browser they stay.)
pub(crate) fn shader_module(device: &wgpu::Device, source: Source) -> wgpu::ShaderModule {
    let wgsl = match cfg!(target_arch = "wasm32") {
        true => source.browser_wgsl(super::capabilities::in_language()),
        false => source.wgsl(),
    };
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(source.kernel.name()),
        source: wgpu::ShaderSource::Wgsl(wgsl.into()),
    };
    // SAFETY: every index is in range and every loop ends, whatever the tensors hold. Indices are made of
    // invocation numbers and of `Params`, never of tensor data. `Plan` makes `Params` from a validated
    // descriptor and shape, and binds slices at least as long as those make the tensors; weights and
    // scales are the layer's own buffers, of the sizes that the same numbers give. Kernels compare pixels,
    // channels, quads and taps with their ends before they load or store, and products of extents
    // fit 32 bits (`ConvDescriptor::validate`, `Shape::validate`). Loops run to such an end. Tests run every
    // kernel over random geometry between guard words.
    unsafe {
        device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
    }
}
