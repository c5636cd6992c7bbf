//! Compute pipelines on a driver without a GPU, and what the driver tells of them.
#![expect(unsafe_code, reason = "ash is Vulkan's own interface")]
// SAFETY of this file: every handle is made by the parent that it is used with, is destroyed once, by
// its owner's Drop, and does not leave the file; owners borrow or precede their parents. Structures
// and slices that a call points to outlive the call. Nothing runs on a queue, so nothing is in use
// when it is destroyed, and one thread makes all calls.

use super::spirv::{BindingKind, Spirv};
use anyhow::{Context, bail, ensure};
use ash::{ext, khr, vk};
use std::collections::BTreeMap;
use std::ffi::{CStr, FromBytesUntilNulError};

/// The numbers and the assembly that the driver gives for a compute pipeline.
pub(super) struct Executable {
    pub(super) subgroup_size: u32,
    /// Numbers by their name.
    pub(super) statistics: BTreeMap<String, u64>,
    /// Intermediate forms by their name; the last one is the final assembly.
    pub(super) forms: Vec<(String, String)>,
}

/// A driver's device.
pub(super) struct Device {
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    /// The chip and the driver, in their own words.
    pub(super) name: String,
    // Destroyed after the device.
    _instance: Instance,
}

struct Instance {
    instance: ash::Instance,
    // The loader's library; unloaded last.
    _entry: ash::Entry,
}

impl Drop for Instance {
    fn drop(&mut self) {
        unsafe { self.instance.destroy_instance(None) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        unsafe { self.device.destroy_device(None) };
    }
}

impl Device {
    /// Opens the first device of a driver.
    pub(super) fn open(driver: vk::DriverId) -> anyhow::Result<Self> {
        let entry = unsafe { ash::Entry::load() }.context("the Vulkan loader, libvulkan")?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        let instance = unsafe { entry.create_instance(&info, None) }.context("vkCreateInstance")?;
        let instance = Instance { instance, _entry: entry };
        let (physical, name) = instance.find(driver)?;
        let device = instance.create_device(physical).with_context(|| name.clone())?;
        let executables =
            khr::pipeline_executable_properties::Device::new(&instance.instance, &device);
        Ok(Self { device, executables, name, _instance: instance })
    }

    /// Compiles a shader.
    pub(super) fn compile(&self, spirv: &Spirv) -> anyhow::Result<Executable> {
        let mut parts = Parts::new(&self.device);
        let pipeline = parts.create_pipeline(spirv)?;
        let info = vk::PipelineInfoKHR::default().pipeline(pipeline);
        let executables = unsafe { self.executables.get_pipeline_executable_properties(&info) }
            .context("vkGetPipelineExecutablePropertiesKHR")?;
        let [executable] = executables[..] else {
            bail!("the driver made {} executables of the pipeline, not one", executables.len())
        };
        let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline);
        let statistics = unsafe { self.executables.get_pipeline_executable_statistics(&info) }
            .context("vkGetPipelineExecutableStatisticsKHR")?;
        Ok(Executable {
            subgroup_size: executable.subgroup_size,
            statistics: statistics
                .iter()
                .map(|statistic| (text(statistic.name_as_c_str()), number(statistic)))
                .collect(),
            forms: self.forms(&info)?,
        })
    }

    fn forms(
        &self,
        info: &vk::PipelineExecutableInfoKHR<'_>,
    ) -> anyhow::Result<Vec<(String, String)>> {
        const CALL: &str = "vkGetPipelineExecutableInternalRepresentationsKHR";
        // This call gives the lengths of the texts, the next one the texts.
        let mut forms =
            unsafe { self.executables.get_pipeline_executable_internal_representations(info) }
                .context(CALL)?;
        let mut buffers: Vec<_> = forms.iter().map(|form| vec![0u8; form.data_size]).collect();
        for (form, buffer) in forms.iter_mut().zip(&mut buffers) {
            form.p_data = buffer.as_mut_ptr().cast();
        }
        let mut count = u32::try_from(forms.len()).context(CALL)?;
        let call = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        unsafe { call(self.device.handle(), info, &mut count, forms.as_mut_ptr()) }
            .result()
            .context(CALL)?;
        let texts = forms.iter().zip(&buffers).map(|(form, buffer)| {
            let length = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
            let content = String::from_utf8_lossy(&buffer[..length]).into_owned();
            (text(form.name_as_c_str()), content)
        });
        Ok(texts.collect())
    }
}

impl Instance {
    /// The driver's first device, and its name. Other drivers may be installed as well.
    fn find(&self, wanted: vk::DriverId) -> anyhow::Result<(vk::PhysicalDevice, String)> {
        let devices = unsafe { self.instance.enumerate_physical_devices() }
            .context("vkEnumeratePhysicalDevices")?;
        let mut others = Vec::new();
        for device in devices {
            let mut driver = vk::PhysicalDeviceDriverProperties::default();
            let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
            unsafe { self.instance.get_physical_device_properties2(device, &mut properties) };
            let properties = properties.properties;
            let device_name = text(properties.device_name_as_c_str());
            let info = text(driver.driver_info_as_c_str());
            let name = format!("{device_name}, {info}");
            if driver.driver_id == wanted {
                ensure!(properties.api_version >= vk::API_VERSION_1_3, "{name}: no Vulkan 1.3");
                return Ok((device, name));
            }
            others.push(name);
        }
        bail!("no device of {wanted:?} among [{}]", others.join(", "))
    }

    /// Creates a device with the features that wgpu would enable and that change a shader's code.
    fn create_device(&self, physical: vk::PhysicalDevice) -> anyhow::Result<ash::Device> {
        let mut wanted = vec![khr::pipeline_executable_properties::NAME, ext::robustness2::NAME];
        let found = unsafe { self.instance.enumerate_device_extension_properties(physical) }
            .context("vkEnumerateDeviceExtensionProperties")?;
        let known = |name| found.iter().any(|found| found.extension_name_as_c_str() == Ok(name));
        for name in &wanted {
            ensure!(known(*name), "no extension {}", name.to_string_lossy());
        }
        // Of chips with matrix units, by drivers that know them.
        let matrices = known(khr::cooperative_matrix::NAME);
        if matrices {
            wanted.push(khr::cooperative_matrix::NAME);
        }
        let wanted: Vec<_> = wanted.into_iter().map(CStr::as_ptr).collect();
        let queue =
            vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0]);
        let core = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
        let mut version_1_2 = vk::PhysicalDeviceVulkan12Features::default()
            .shader_int8(true)
            .shader_float16(matrices)
            .vulkan_memory_model(matrices);
        let mut matrix =
            vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(matrices);
        let mut version_1_3 = vk::PhysicalDeviceVulkan13Features::default()
            .robust_image_access(true)
            .shader_integer_dot_product(true)
            .subgroup_size_control(true);
        let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default()
            .robust_buffer_access2(true)
            .robust_image_access2(true);
        let mut executables = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default()
            .pipeline_executable_info(true);
        let info = vk::DeviceCreateInfo::default()
            .queue_create_infos(std::slice::from_ref(&queue))
            .enabled_extension_names(&wanted)
            .enabled_features(&core)
            .push_next(&mut version_1_2)
            .push_next(&mut version_1_3)
            .push_next(&mut robustness)
            .push_next(&mut executables);
        let info = if matrices { info.push_next(&mut matrix) } else { info };
        unsafe { self.instance.create_device(physical, &info, None) }.context("vkCreateDevice")
    }
}

/// A pipeline and what it is made of; destroyed together. Null handles are fine to destroy.
struct Parts<'a> {
    device: &'a ash::Device,
    shader: vk::ShaderModule,
    set_layout: vk::DescriptorSetLayout,
    layout: vk::PipelineLayout,
    pipeline: vk::Pipeline,
}

impl<'a> Parts<'a> {
    fn new(device: &'a ash::Device) -> Self {
        Self {
            device,
            shader: vk::ShaderModule::null(),
            set_layout: vk::DescriptorSetLayout::null(),
            layout: vk::PipelineLayout::null(),
            pipeline: vk::Pipeline::null(),
        }
    }

    fn create_pipeline(&mut self, spirv: &Spirv) -> anyhow::Result<vk::Pipeline> {
        let info = vk::ShaderModuleCreateInfo::default().code(&spirv.words);
        self.shader = unsafe { self.device.create_shader_module(&info, None) }
            .context("vkCreateShaderModule")?;

        let bindings: Vec<_> = spirv.bindings.iter().map(layout_binding).collect();
        let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
        self.set_layout = unsafe { self.device.create_descriptor_set_layout(&info, None) }
            .context("vkCreateDescriptorSetLayout")?;

        let set_layouts = [self.set_layout];
        let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&set_layouts);
        self.layout = unsafe { self.device.create_pipeline_layout(&info, None) }
            .context("vkCreatePipelineLayout")?;

        let stage = vk::PipelineShaderStageCreateInfo::default()
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(self.shader)
            .name(c"main");
        let capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        let info = vk::ComputePipelineCreateInfo::default()
            .flags(capture)
            .stage(stage)
            .layout(self.layout);
        let no_cache = vk::PipelineCache::null();
        let pipelines = unsafe { self.device.create_compute_pipelines(no_cache, &[info], None) }
            .map_err(|(_, error)| error)
            .context("vkCreateComputePipelines")?;
        self.pipeline = *pipelines.first().context("vkCreateComputePipelines gave nothing")?;
        Ok(self.pipeline)
    }
}

impl Drop for Parts<'_> {
    fn drop(&mut self) {
        unsafe {
            self.device.destroy_pipeline(self.pipeline, None);
            self.device.destroy_pipeline_layout(self.layout, None);
            self.device.destroy_descriptor_set_layout(self.set_layout, None);
            self.device.destroy_shader_module(self.shader, None);
        }
    }
}

fn layout_binding((binding, kind): &(u32, BindingKind)) -> vk::DescriptorSetLayoutBinding<'static> {
    let kind = match kind {
        BindingKind::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
        BindingKind::Storage => vk::DescriptorType::STORAGE_BUFFER,
    };
    vk::DescriptorSetLayoutBinding::default()
        .binding(*binding)
        .descriptor_type(kind)
        .descriptor_count(1)
        .stage_flags(vk::ShaderStageFlags::COMPUTE)
}

fn text(name: Result<&CStr, FromBytesUntilNulError>) -> String {
    name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// A statistic as an integer: what matters here is one on every chip.
fn number(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> u64 {
    // The format says which field the driver has set; the fields are plain numbers of 8 bytes or, for
    // the boolean, 4.
    unsafe {
        match statistic.format {
            vk::PipelineExecutableStatisticFormatKHR::BOOL32 => statistic.value.b32.into(),
            vk::PipelineExecutableStatisticFormatKHR::INT64 => {
                u64::try_from(statistic.value.i64).unwrap_or(0)
            }
            vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => statistic.value.f64 as u64,
            _ => statistic.value.u64,
        }
    }
}
