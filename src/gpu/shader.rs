//! The only place that reads shader files: a kernel's file, then the shared files that it imports.
//!
//! A file names its imports on its first lines: `// #import tiles, input_{floats}`. A part in braces stands for what the
//! variant says: `{floats}` for `f32` or `f16`, `{activations}` for `float` or `int8`.

use super::format::{ActivationFormat, FloatFormat};
use super::kernel::Kernel;
use super::variant::Variant;

/// A file of `shaders/shared`, with its name.
macro_rules! shared {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../shaders/shared/", $name, ".wgsl")))),*]
    };
}

/// Every file of `shaders/shared`.
const SHARED: [(&str, &str); 14] = shared![
    "conv",
    "gemm",
    "gemm_input_float",
    "gemm_input_int8",
    "input_f16",
    "input_f32",
    "input_int8",
    "input_quad",
    "output_f16",
    "output_f32",
    "packed_dot",
    "quantize",
    "subgroup",
    "tiles",
];

/// The text of a shared file. Names come from our own shaders, and a test puts every variant together.
fn shared(name: &str) -> &'static str {
    let file = SHARED.iter().find(|(file, _)| *file == name);
    file.unwrap_or_else(|| panic!("shaders/shared/{name}.wgsl is imported and not in SHARED")).1
}

/// Which text a pipeline is compiled from: variants that differ in overrides alone share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) kernel: Kernel,
    pub(crate) activations: ActivationFormat,
    pub(crate) float_format: FloatFormat,
}

impl Variant {
    pub(crate) fn source(self) -> Source {
        let Self { kernel, activations, float_format, .. } = self;
        Source { kernel, activations, float_format }
    }

    /// The WGSL of this variant, before its overrides: the kernel's file, then the shared ones (so that line numbers
    /// in messages stay those of the kernel's file).
    pub fn wgsl(self) -> String {
        self.source().wgsl()
    }

    /// [`wgsl`](Self::wgsl) for a browser, with or without the language feature
    /// `packed_4x8_integer_dot_product`. Browsers want features enabled that naga refuses to hear of.
    pub fn browser_wgsl(self, packed_dot_product: bool) -> String {
        self.source().browser_wgsl(packed_dot_product)
    }
}

impl Source {
    pub(crate) fn wgsl(self) -> String {
        let file = self.kernel.spec().source;
        let mut names = self.imports(file);
        let mut wgsl = file.to_string();
        let mut next = 0;
        while let Some(name) = names.get(next) {
            let text = shared(name);
            wgsl.push('\n');
            wgsl.push_str(text);
            for import in self.imports(text) {
                if !names.contains(&import) {
                    names.push(import);
                }
            }
            next += 1;
        }
        if names.iter().any(|name| name.ends_with("_f16")) {
            // On the first line, so that line numbers stay.
            wgsl.insert_str(0, "enable f16; ");
        }
        wgsl
    }

    /// The names that a file imports, with what is in braces filled in.
    fn imports(self, text: &str) -> Vec<String> {
        let floats = match self.float_format {
            FloatFormat::F32 => "f32",
            FloatFormat::F16 => "f16",
        };
        let activations = match self.activations {
            ActivationFormat::Float => "float",
            ActivationFormat::Int8 => "int8",
        };
        let lines = text.lines().map_while(|line| line.strip_prefix("// #import "));
        let names = lines.flat_map(|line| line.split(','));
        let filled = names
            .map(|n| n.trim().replace("{floats}", floats).replace("{activations}", activations));
        filled.collect()
    }

    pub(crate) fn browser_wgsl(self, packed_dot_product: bool) -> String {
        let mut wgsl = self.wgsl();
        if wgsl.contains("@builtin(subgroup") {
            // On the first line, so that line numbers stay.
            wgsl.insert_str(0, "enable subgroups; ");
        }
        if !packed_dot_product && wgsl.contains("dot4I8Packed(") {
            wgsl = format!("{wgsl}\n{}", shared("packed_dot"));
        }
        wgsl
    }
}

#[cfg(test)]
mod tests {
    use super::super::params::Params;
    use super::*;
    use naga::back::{hlsl, msl, pipeline_constants::process_overrides, spv};
    use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
    use std::collections::BTreeSet;

    fn validator() -> Validator {
        let mut validator = Validator::new(
            ValidationFlags::all(),
            Capabilities::SUBGROUP
                | Capabilities::SHADER_FLOAT16
                | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        );
        validator
            .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
            .subgroup_operations(naga::valid::SubgroupOperationSet::all());
        validator
    }

    /// Every text.
    fn sources() -> impl Iterator<Item = Source> {
        let all: std::collections::HashSet<Source> = Variant::all().map(Variant::source).collect();
        all.into_iter()
    }

    fn parse(source: Source) -> (naga::Module, ModuleInfo) {
        let (wgsl, name) = (source.wgsl(), source.kernel.name());
        let module = naga::front::wgsl::parse_str(&wgsl)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&wgsl, name)));
        let info = validator()
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&wgsl, name)));
        (module, info)
    }

    /// Field names and offsets of `Params`, from its debug output and its layout: a twin without a list.
    fn host_fields() -> Vec<String> {
        let zeroed: Params = bytemuck::Zeroable::zeroed();
        let text = format!("{zeroed:?}");
        let fields = text.trim_start_matches("Params {").trim_end_matches('}').split(',');
        fields.map(|field| field.split(':').next().unwrap_or("").trim().to_string()).collect()
    }

    #[test]
    fn host_and_shader_structs_agree() {
        // Every field is four bytes on both sides, so names in order and the size say it all.
        let host = host_fields();
        assert_eq!(size_of::<Params>(), 4 * host.len());
        for source in sources() {
            let (module, _) = parse(source);
            let (_, params) = module
                .types
                .iter()
                .find(|(_, ty)| ty.name.as_deref() == Some("Params"))
                .expect("every kernel has Params");
            let naga::TypeInner::Struct { members, span } = &params.inner else {
                panic!("a struct")
            };
            assert_eq!(*span as usize, size_of::<Params>());
            let shader: Vec<_> =
                members.iter().map(|m| m.name.clone().unwrap_or_default()).collect();
            assert_eq!(shader, host);
            assert!(members.iter().enumerate().all(|(i, m)| m.offset as usize == 4 * i));
        }
    }

    #[test]
    fn bindings_and_overrides_are_the_ones_the_host_gives() {
        for source in sources() {
            let (module, _) = parse(source);
            for (_, variable) in module.global_variables.iter() {
                if let Some(binding) = variable.binding {
                    assert_eq!(binding.group, 0);
                    let writes = variable.space
                        == naga::AddressSpace::Storage {
                            access: naga::StorageAccess::LOAD | naga::StorageAccess::STORE,
                        };
                    assert_eq!(writes, binding.binding == 5, "{:?}", variable.name);
                    assert_eq!(variable.space == naga::AddressSpace::Uniform, binding.binding == 0);
                    assert!(binding.binding <= 7);
                }
            }
            let shader: BTreeSet<_> =
                module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
            let variant = Variant::all().find(|v| v.source() == source).expect("a variant");
            let host: BTreeSet<_> =
                variant.constants().into_iter().map(|(name, _)| name.to_string()).collect();
            assert_eq!(shader, host, "{source:?}");
        }
    }

    /// WGSL sets a variable without a value to zero wherever its declaration is passed. Chromium on SwiftShader does so
    /// only once in a loop: sums of one block went on into the next.
    #[test]
    fn variables_have_a_value_to_start_from() {
        for source in sources() {
            let wgsl = source.wgsl();
            let bare = |line: &&str| line.trim_start().starts_with("var ") && !line.contains('=');
            assert_eq!(wgsl.lines().find(bare), None, "{source:?}");
        }
    }

    #[test]
    fn workgroup_storage_is_what_the_limits_are_checked_for() {
        for source in sources() {
            let (module, _) = parse(source);
            let mut layouter = naga::proc::Layouter::default();
            layouter.update(module.to_ctx()).unwrap();
            let shared = module
                .global_variables
                .iter()
                .filter(|(_, v)| v.space == naga::AddressSpace::WorkGroup)
                .map(|(_, v)| layouter[v.ty].size);
            assert_eq!(shared.sum::<u32>(), source.kernel.spec().workgroup_bytes, "{source:?}");
        }
    }

    #[test]
    fn every_variant_translates_for_vulkan_metal_and_dx12() {
        for variant in Variant::all() {
            let (module, info) = parse(variant.source());
            let constants = variant
                .constants()
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect();
            let entry = Some((naga::ShaderStage::Compute, "main"));
            let (module, info) = process_overrides(&module, &info, entry, &constants).unwrap();
            let pipeline = spv::PipelineOptions {
                shader_stage: naga::ShaderStage::Compute,
                entry_point: "main".into(),
            };
            let options = spv::Options { lang_version: (1, 3), ..Default::default() };
            let words = spv::write_vec(&module, &info, &options, Some(&pipeline));
            assert!(words.unwrap().len() > 100);

            let options = msl::Options {
                fake_missing_bindings: true,
                lang_version: (2, 4),
                ..Default::default()
            };
            let (metal, _) =
                msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
                    .unwrap();
            assert!(metal.contains("kernel void"));

            let mut text = String::new();
            let options = hlsl::Options {
                fake_missing_bindings: true,
                shader_model: hlsl::ShaderModel::V6_4,
                ..Default::default()
            };
            let pipeline = hlsl::PipelineOptions::default();
            let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
            writer.write(&module, &info, None).unwrap();
            assert!(text.contains("numthreads"));
        }
    }
}
