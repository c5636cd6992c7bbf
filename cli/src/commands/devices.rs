//! `dsconv devices`: the GPU adapters, and what they can do.

use crate::device::kind;
use crate::display::{bytes, table};
use crate::output::say;
use crate::tensor_cores::UseTensorCores;
use comfy_table::Table;
use dsconv::gpu::{self, ActivationFormat, Capabilities, ConvProblem, Kernel, TensorCores};
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
        "tensor cores",
        "timestamps",
        "pipeline cache",
    ]);
    // Most adapters have none, and need not be opened.
    let has = |adapter: &wgpu::Adapter| adapter.features().contains(gpu::TENSOR_CORE_FEATURES);
    let found = |(index, adapter)| has(adapter).then(|| tensor_cores(index));
    let tensor_cores: Vec<_> = adapters.iter().enumerate().map(found).collect();
    for ((index, adapter), tensor_cores) in adapters.iter().enumerate().zip(&tensor_cores) {
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
            match tensor_cores {
                Some(Ok(units)) => format!("{0} x {0}", units.size),
                _ => "no".into(),
            },
            has(wgpu::Features::TIMESTAMP_QUERY),
            has(wgpu::Features::PIPELINE_CACHE),
        ]);
    }
    say!("{out}");
    say!("{}", choices(&adapters, &tensor_cores)?);
    for (index, found) in tensor_cores.iter().enumerate() {
        if let Some(Err(error)) = found {
            say!("{index}: {error}");
        }
    }
    say!(
        "tensor cores: matrix units that were proven to compute rightly. Software uses them by --tensor-cores only."
    );
    say!("The kernels need none of the features; a pipeline cache makes the second start faster.");
    say!("shared: memory of a workgroup. binding: the largest tensor or weight buffer.");
    Ok(ExitCode::SUCCESS)
}

/// The kernels that layers of a network get on each adapter, by rule: 64 channels, and 64 groups of one.
fn choices(
    adapters: &[wgpu::Adapter],
    tensor_cores: &[Option<dsconv::Result<TensorCores>>],
) -> anyhow::Result<Table> {
    let mut out = table(&["#", "float activations", "int8 activations", "depthwise"]);
    let descriptor = ConvDescriptor::new(64, 64, [3, 3]);
    let problem = |descriptor, blocks| {
        ConvProblem::of_format(descriptor, blocks).with_layouts(Layout::Nhwc, Layout::Nhwc)
    };
    let dense = problem(descriptor, Some(BlockFormat::new(4, 32)?));
    let depthwise = problem(descriptor.with_groups(64), None);
    let int8 = dense.with_activations(ActivationFormat::Int8);
    for (index, adapter) in adapters.iter().enumerate() {
        let mut capabilities = Capabilities::of_adapter(adapter);
        if let (Some(Ok(units)), false) = (&tensor_cores[index], capabilities.software) {
            capabilities = capabilities.with_tensor_cores(*units);
        }
        let name = |problem| Kernel::choose(problem, &capabilities).name().to_string();
        out.add_row([index.to_string(), name(&dense), name(&int8), name(&depthwise)]);
    }
    Ok(out)
}

/// The matrix units of the adapter of that number, or why there are none to use.
fn tensor_cores(index: usize) -> dsconv::Result<TensorCores> {
    let gpu = UseTensorCores::YES.open(&gpu::Selection::Index(index))?;
    let pipelines = gpu::Pipelines::new(&gpu.device)?;
    pollster::block_on(gpu::tensor_cores(&gpu.adapter, &pipelines, &gpu.queue))
}
