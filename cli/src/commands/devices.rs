//! `dsconv devices`: the GPU adapters, and what they can do.

use crate::device::kind;
use crate::display::{bytes, table};
use crate::output::say;
use comfy_table::Table;
use dsconv::gpu::{self, ActivationFormat, Capabilities, ConvProblem, Kernel};
use dsconv::{BlockFormat, ConvDescriptor, Layout};
use std::process::ExitCode;

/// Lists the adapters. Fails if there is none.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let adapters = pollster::block_on(gpu::adapters());
    if adapters.is_empty() {
        // Says how to get one.
        pollster::block_on(gpu::open(&gpu::Selection::Best))?;
    }
    let mut out = table(&[
        "#",
        "adapter",
        "kind",
        "backend",
        "driver",
        "buffer",
        "binding",
        "shared",
        "f16",
        "subgroups",
        "timestamps",
        "pipeline cache",
    ]);
    for (index, adapter) in adapters.iter().enumerate() {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let has = |feature| if features.contains(feature) { "yes" } else { "no" }.to_string();
        let subgroups = match features.contains(wgpu::Features::SUBGROUP) {
            true if info.subgroup_min_size == info.subgroup_max_size => {
                info.subgroup_min_size.to_string()
            }
            true => format!("{}..{}", info.subgroup_min_size, info.subgroup_max_size),
            false => "no".into(),
        };
        out.add_row([
            index.to_string(),
            info.name,
            kind(info.device_type).into(),
            format!("{:?}", info.backend),
            format!("{} {}", info.driver, info.driver_info),
            bytes(limits.max_buffer_size),
            bytes(limits.max_storage_buffer_binding_size),
            bytes(limits.max_compute_workgroup_storage_size.into()),
            has(wgpu::Features::SHADER_F16),
            subgroups,
            has(wgpu::Features::TIMESTAMP_QUERY),
            has(wgpu::Features::PIPELINE_CACHE),
        ]);
    }
    say!("{out}");
    say!("{}", choices(&adapters)?);
    say!("The kernels need none of the features; a pipeline cache makes the second start faster.");
    say!("shared: memory of a workgroup. binding: the largest tensor or weight buffer.");
    Ok(ExitCode::SUCCESS)
}

/// The kernels that layers of a network get on each adapter, by rule: 64 channels, and 64 groups of one.
fn choices(adapters: &[wgpu::Adapter]) -> anyhow::Result<Table> {
    let mut out = table(&["#", "float activations", "int8 activations", "depthwise"]);
    let descriptor = ConvDescriptor::new(64, 64, [3, 3]);
    let problem = |descriptor, blocks| {
        ConvProblem::of_format(descriptor, blocks).with_layouts(Layout::Nhwc, Layout::Nhwc)
    };
    let dense = problem(descriptor, Some(BlockFormat::new(4, 32)?));
    let depthwise = problem(descriptor.with_groups(64), None);
    let int8 = dense.with_activations(ActivationFormat::Int8);
    for (index, adapter) in adapters.iter().enumerate() {
        let capabilities = Capabilities::of_adapter(adapter);
        let name = |problem| Kernel::choose(problem, &capabilities).name().to_string();
        out.add_row([index.to_string(), name(&dense), name(&int8), name(&depthwise)]);
    }
    Ok(out)
}
