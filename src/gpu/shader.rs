//! The only place that reads shader files: a kernel's file, then the shared files that it imports.
//!
//! A file names its imports on its first lines: `// #import tiles, input_{floats}`. A part in braces stands for what
//! the variant says: `{floats}` for `f32` or `f16`, `{activations}` for `float` or `int8`, `{tiles}` for what the
//! kernel keeps in workgroup memory, `float` or `int8`, and `{size}` for that of its matrices, `8` or `16`. A buffer has
//! one type, so that a kernel needs four of them and no more: `{loads}` is `f32` or `f16`, `{words}` is `words`, each
//! followed by `_fours` where loads of the input bring four elements, and `{weights}` is `words` or `fours`.

use super::format::{ActivationFormat, FloatFormat};
use super::kernel::Kernel;
use super::variant::Variant;

/// A file of `shaders/shared`, with its name.
macro_rules! shared {
    ($($name:literal),* $(,)?) => {
        [$(($name, crate::shader_text!(concat!("../../shaders/shared/", $name, ".wgsl")))),*]
    };
}

/// Every file of `shaders/shared`.
const SHARED: [(&str, &str); 33] = shared![
    "activation",
    "coordinates",
    "epilogue",
    "gemm",
    "gemm_input_float",
    "gemm_input_int8",
    "gemm_output",
    "gemm_tile_float",
    "gemm_tile_int8",
    "input_f16",
    "input_f16_fours",
    "input_f32",
    "input_f32_fours",
    "input_int8",
    "input_quad",
    "input_words",
    "input_words_fours",
    "matrix_16",
    "matrix_8",
    "output_f16",
    "output_f32",
    "output_vectors_f16",
    "output_vectors_f32",
    "packed_dot",
    "params",
    "quantize",
    "subgroup",
    "subgroup_output",
    "tiles",
    "unpack_weights",
    "weight_scales",
    "weights_fours",
    "weights_words",
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
    pub(crate) input_fours: bool,
    pub(crate) weight_fours: bool,
}

impl Variant {
    pub(crate) fn source(self) -> Source {
        let Self { kernel, activations, float_format, .. } = self;
        Source {
            kernel,
            activations,
            float_format,
            input_fours: self.input_fours(),
            weight_fours: self.weight_fours(),
        }
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
        let files = self.files();
        let texts: Vec<&str> = files.iter().map(|(_, text)| *text).collect();
        let mut wgsl = texts.join("\n");
        // On the first line, so that line numbers stay.
        let matrix = self.kernel.spec().matrix.is_some();
        if matrix || files.iter().any(|(name, _)| name.contains("_f16")) {
            wgsl.insert_str(0, "enable f16; ");
        }
        if matrix {
            wgsl.insert_str(0, "enable wgpu_cooperative_matrix; ");
        }
        wgsl
    }

    /// The kernel's file and all that it imports, directly or not, each with its name.
    fn files(self) -> Vec<(String, &'static str)> {
        let mut files = vec![(self.kernel.name().to_string(), self.kernel.spec().source)];
        let mut next = 0;
        while let Some((_, text)) = files.get(next) {
            for name in self.imports(text) {
                if files.iter().all(|(file, _)| *file != name) {
                    let text = shared(&name);
                    files.push((name, text));
                }
            }
            next += 1;
        }
        files
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
        // Kernels that take floats keep floats, whatever else they take.
        let tiles = match self.kernel.spec().takes_input(ActivationFormat::Float) {
            true => "float",
            false => "int8",
        };
        let size = self.kernel.spec().matrix.unwrap_or(0).to_string();
        let loads = if self.input_fours { "_fours" } else { "" };
        let weights = if self.weight_fours { "fours" } else { "words" };
        let lines = text.lines().map_while(|line| line.strip_prefix("// #import "));
        let names = lines.flat_map(|line| line.split(','));
        let filled = names.map(|name| {
            name.trim()
                .replace("{loads}", &format!("{floats}{loads}"))
                .replace("{words}", &format!("words{loads}"))
                .replace("{weights}", weights)
                .replace("{floats}", floats)
                .replace("{activations}", activations)
                .replace("{tiles}", tiles)
                .replace("{size}", &size)
        });
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
    use super::super::shader_text::stripped;
    use super::*;
    use naga::back::{hlsl, msl, pipeline_constants::process_overrides, spv};
    use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
    use std::collections::BTreeSet;

    fn validator(kernel: Kernel) -> Validator {
        let capabilities = Capabilities::SUBGROUP
            | Capabilities::SHADER_FLOAT16
            | Capabilities::SHADER_FLOAT16_IN_FLOAT32;
        // No other kernel may use matrix units.
        let capabilities = match kernel.spec().matrix {
            Some(_) => capabilities | Capabilities::COOPERATIVE_MATRIX,
            None => capabilities,
        };
        let mut validator = Validator::new(ValidationFlags::all(), capabilities);
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
        let info = validator(source.kernel)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{}", e.emit_to_string_with_path(&wgsl, name)));
        (module, info)
    }

    /// What a file of WGSL declares, and what it uses: found by its words, since a parser wants all files at once.
    #[derive(Default)]
    struct Names {
        declared: BTreeSet<String>,
        /// Parameters and variables of functions.
        local: BTreeSet<String>,
        used: BTreeSet<String>,
    }

    /// Identifiers and numbers as a whole, anything else by the character; no comments.
    fn tokens(text: &str) -> Vec<String> {
        let mut tokens: Vec<String> = Vec::new();
        for line in text.lines() {
            let mut in_word = false;
            for c in line.split("//").next().unwrap_or("").chars() {
                let word = c.is_alphanumeric() || c == '_';
                match tokens.last_mut() {
                    Some(last) if word && in_word => last.push(c),
                    _ if c.is_whitespace() => {}
                    _ => tokens.push(c.to_string()),
                }
                in_word = word;
            }
        }
        tokens
    }

    fn names(text: &str) -> Names {
        let tokens = tokens(text);
        let token = |i: usize| tokens.get(i).map_or("", String::as_str);
        let mut names = Names::default();
        let mut depth = 0;
        for i in 0..tokens.len() {
            match token(i) {
                "{" => depth += 1,
                "}" => depth -= 1,
                "fn" | "struct" | "alias" | "const" | "override" | "let" | "var" => {
                    let mut at = i + 1;
                    if token(at) == "<" {
                        at = (at..).find(|&at| token(at) == ">").unwrap() + 1;
                    }
                    let scope = if depth == 0 { &mut names.declared } else { &mut names.local };
                    scope.insert(token(at).to_string());
                }
                // A parameter, a field, or a variable that is declared above.
                name if token(i + 1) == ":" => {
                    if depth == 0 && !names.declared.contains(name) {
                        names.local.insert(name.to_string());
                    }
                }
                _ if i > 0 && [".", "@"].contains(&token(i - 1)) => {}
                name => {
                    names.used.insert(name.to_string());
                }
            }
        }
        names
    }

    #[test]
    fn files_import_what_they_use_and_nothing_more() {
        let mut problems = BTreeSet::new();
        // The host adds this one where a browser lacks the built-in.
        let mut imported = BTreeSet::from(["packed_dot".to_string()]);
        for source in sources() {
            let files = source.files();
            let names: Vec<Names> = files.iter().map(|(_, text)| names(text)).collect();
            let declaring = |name: &String| names.iter().position(|n| n.declared.contains(name));
            for (index, (file, text)) in files.iter().enumerate() {
                let imports: BTreeSet<String> = source.imports(text).into_iter().collect();
                imported.extend(imports.iter().cloned());
                let mut used = BTreeSet::new();
                for name in &names[index].used {
                    if let Some(other) = declaring(name).filter(|&other| other != index) {
                        used.insert(files[other].0.clone());
                        if !imports.contains(&files[other].0) {
                            problems.insert(format!("{file} uses {name} of {}", files[other].0));
                        }
                    }
                }
                for import in imports.difference(&used) {
                    problems.insert(format!("{file} uses nothing of {import}"));
                }
                // Such a name could be taken for the other's.
                for name in names[index].local.iter().filter(|name| declaring(name).is_some()) {
                    problems.insert(format!("{file} has a variable {name}, a name of a file"));
                }
            }
        }
        assert_eq!(problems, BTreeSet::new());
        let all: BTreeSet<String> = SHARED.iter().map(|(name, _)| name.to_string()).collect();
        assert_eq!(imported, all);
    }

    #[test]
    fn no_file_imports_itself_by_way_of_others() {
        for source in sources() {
            let mut left = source.files();
            while !left.is_empty() {
                let leaf = left.iter().position(|(_, text)| {
                    let imports = source.imports(text);
                    left.iter().all(|(name, _)| !imports.contains(name))
                });
                let names: Vec<_> = left.iter().map(|(name, _)| name).collect();
                left.remove(leaf.unwrap_or_else(|| panic!("a circle of {names:?}")));
            }
        }
    }

    #[test]
    fn files_say_what_they_are_for_and_keep_to_the_width() {
        let kernels = sources().map(|source| (source.kernel.name(), source.kernel.spec().source));
        for (name, text) in kernels.chain(SHARED) {
            let mut lines = text.lines().skip_while(|l| l.is_empty() || l.starts_with("// #"));
            assert!(lines.next().is_some_and(|l| l.starts_with("// ")), "{name}'s purpose");
            for line in text.lines() {
                assert!(line.chars().count() <= 120, "{name}: {line}");
            }
        }
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

    /// WebGPU's compatibility mode and `wgpu::Limits::downlevel_defaults` allow four storage buffers.
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
                    assert_eq!(writes, binding.binding == 4, "{:?}", variable.name);
                    assert_eq!(variable.space == naga::AddressSpace::Uniform, binding.binding == 0);
                    assert!(binding.binding <= 4);
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

    #[test]
    fn stripped_texts_mean_the_same_in_the_same_lines() {
        let kernels = sources().map(|source| source.kernel.spec().source);
        for text in kernels.chain(SHARED.map(|(_, text)| text)) {
            let (bytes, length) = stripped::<65536>(text);
            let bare = std::str::from_utf8(&bytes[..length]).unwrap();
            assert_eq!(stripped::<0>(text).1, length);
            assert!(text.lines().count() == bare.lines().count() && length < text.len());
            for (line, bare) in text.lines().zip(bare.lines()) {
                assert_eq!(tokens(line), tokens(bare));
                let import = line.starts_with("// #import ");
                assert_eq!(import, bare.contains("//"), "{bare}");
                assert!(!import || line == bare);
            }
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
    fn workgroups_have_as_many_threads_as_the_table_says() {
        for source in sources() {
            let (module, _) = parse(source);
            let threads: u32 = module.entry_points[0].workgroup_size.iter().product();
            assert_eq!(threads, source.kernel.spec().threads, "{source:?}");
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

            // DX12 has no matrix units, by wgpu.
            if variant.kernel.spec().matrix.is_some() {
                continue;
            }
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
