//! WGSL to SPIR-V, with the options that wgpu uses on Vulkan: what is measured is what would run.

use anyhow::{Context, bail, ensure};
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, ShaderStage};

/// Every shader's entry point.
pub(super) const ENTRY_POINT: &str = "main";

/// The kind of a binding of group 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BindingKind {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer.
    Storage,
}

/// A shader in SPIR-V, and what its pipeline layout needs.
pub(super) struct Spirv {
    pub(super) words: Vec<u32>,
    /// The bindings of group 0.
    pub(super) bindings: Vec<(u32, BindingKind)>,
}

/// Translates the shader's compute entry point `main`, with or without wgpu's runtime checks.
pub(super) fn translate(
    wgsl: &str,
    constants: &[(String, f64)],
    checks: bool,
) -> anyhow::Result<Spirv> {
    let module = naga::front::wgsl::parse_str(wgsl)
        .map_err(|error| anyhow::anyhow!("WGSL: {}", error.emit_to_string(wgsl)))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .map_err(|error| anyhow::anyhow!("WGSL: {}", error.emit_to_string(wgsl)))?;
    let constants = constants.iter().map(|(name, value)| (name.clone(), *value)).collect();
    let entry_point = Some((ShaderStage::Compute, ENTRY_POINT));
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(&module, &info, entry_point, &constants)
            .context("overrides")?;
    ensure!(
        module.entry_points.iter().any(|entry| entry.name == ENTRY_POINT),
        "no compute entry point {ENTRY_POINT:?}"
    );

    let pipeline = spv::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: ENTRY_POINT.to_string(),
    };
    let words =
        spv::write_vec(&module, &info, &options(checks), Some(&pipeline)).context("SPIR-V")?;
    Ok(Spirv { words, bindings: bindings(&module)? })
}

/// wgpu's options for a device with Vulkan 1.3 and robustBufferAccess2, and for a pipeline that does
/// not ask for zeroed workgroup memory.
fn options(checks: bool) -> spv::Options<'static> {
    spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS,
        // The numbers of the WGSL.
        fake_missing_bindings: true,
        // All: the driver knows integer dot products, 8-bit integers and subgroups.
        capabilities: None,
        bounds_check_policies: BoundsCheckPolicies {
            index: if checks { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked },
            // robustBufferAccess2 does it.
            buffer: BoundsCheckPolicy::Unchecked,
            image_load: BoundsCheckPolicy::Unchecked,
            binding_array: BoundsCheckPolicy::Unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: checks,
        emit_int_div_checks: checks,
        ..Default::default()
    }
}

fn bindings(module: &naga::Module) -> anyhow::Result<Vec<(u32, BindingKind)>> {
    let mut bindings = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = &variable.binding else { continue };
        let name = variable.name.as_deref().unwrap_or("a variable");
        ensure!(binding.group == 0, "{name}: only group 0 is supported, not {}", binding.group);
        let kind = match variable.space {
            AddressSpace::Uniform => BindingKind::Uniform,
            AddressSpace::Storage { .. } => BindingKind::Storage,
            _ => bail!("{name}: only uniform and storage buffers are supported"),
        };
        bindings.push((binding.binding, kind));
    }
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHADER: &str = "
        override SIZE: u32 = 1;
        @group(0) @binding(0) var<uniform> factor: u32;
        @group(0) @binding(3) var<storage, read_write> out: array<u32>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            out[id.x] = u32(dot4I8Packed(factor, out[id.x])) * SIZE;
        }";

    #[test]
    fn finds_bindings_and_keeps_the_dot_product() {
        let spirv = translate(SHADER, &[("SIZE".into(), 3.0)], true).unwrap();
        assert_eq!(spirv.bindings, [(0, BindingKind::Uniform), (3, BindingKind::Storage)]);
        // OpSDot is 4450 with a packed format: 6 words.
        assert!(spirv.words.contains(&(6 << 16 | 4450)));
    }

    #[test]
    fn names_what_is_wrong() {
        let error = |wgsl, constants: &[_]| {
            format!("{:#}", translate(wgsl, constants, true).err().unwrap())
        };
        assert!(error("fn", &[]).starts_with("WGSL: "));
        assert!(error(SHADER, &[("SIZ".into(), 3.0)]).contains("SIZ"));
        assert!(error("fn f() {}", &[]).contains("main"));
    }
}
