//! Shaders as wgpu gives them to DX12, and DXC, Microsoft's compiler of the HLSL that naga makes of them.

use naga::back::{hlsl, pipeline_constants::process_overrides};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{AddressSpace, StorageAccess};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use hlsl::ShaderModel;

/// A shader with what its pipeline says of it.
#[derive(Debug)]
pub(crate) struct Shader {
    pub(crate) name: String,
    pub(crate) wgsl: String,
    pub(crate) constants: Vec<(&'static str, f64)>,
    /// Whether wgpu adds checks of indices and loops at run time.
    pub(crate) checked: bool,
}

impl Shader {
    /// What naga makes of it, by the options that wgpu-hal's `create_pipeline_layout` and `load_shader` set.
    pub(crate) fn hlsl(&self, shader_model: ShaderModel) -> String {
        let module = naga::front::wgsl::parse_str(&self.wgsl).unwrap();
        let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
        let info = validator.validate(&module).unwrap();
        let constants =
            self.constants.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let entry_point = (naga::ShaderStage::Compute, "main");
        let (module, info) =
            process_overrides(&module, &info, Some(entry_point), &constants).unwrap();
        let options = self.options(&module, shader_model);
        let (stage, name) = entry_point;
        let pipeline = hlsl::PipelineOptions { entry_point: Some((stage, name.into())) };
        let mut text = String::new();
        let written =
            hlsl::Writer::new(&mut text, &options, &pipeline).write(&module, &info, None).unwrap();
        let names: Vec<String> =
            written.entry_point_names.into_iter().map(Result::unwrap).collect();
        assert_eq!(names, [name], "{}", self.name);
        text
    }

    /// Registers are counted for each class of bindings. wgpu counts those of the layout, here it is those of the
    /// shader: the numbers differ where a shader leaves out a binding, and nothing else does.
    fn options(&self, module: &naga::Module, shader_model: ShaderModel) -> hlsl::Options {
        let mut variables: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| Some((variable.binding?, variable.space)))
            .collect();
        variables.sort_by_key(|(binding, _)| (binding.group, binding.binding));
        let [mut constants, mut reads, mut writes] = [hlsl::BindTarget::default(); 3];
        let mut binding_map = hlsl::BindingMap::default();
        for (binding, space) in variables {
            let next = match space {
                AddressSpace::Uniform => &mut constants,
                AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => {
                    &mut writes
                }
                _ => &mut reads,
            };
            binding_map.insert(binding, *next);
            next.register += 1;
        }
        hlsl::Options {
            shader_model,
            binding_map,
            fake_missing_bindings: false,
            // For `num_workgroups`.
            special_constants_binding: Some(constants),
            zero_initialize_workgroup_memory: false,
            restrict_indexing: self.checked,
            force_loop_bounding: self.checked,
            ..Default::default()
        }
    }
}

/// Compiles shaders, each for its shader model, and gives their DXIL as text. What it compiled stays in a folder of
/// that name below `target/dxc`.
///
/// `None` where there is no library for the machine, or if the environment says `DSCONV_PYTHON=skip`.
pub(crate) fn compile(folder: &str, shaders: &[(Shader, ShaderModel)]) -> Option<Vec<String>> {
    let linux = cfg!(target_os = "linux");
    if !(linux && cfg!(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        eprintln!("skipped: there is no DXC that tests could run on this machine");
        return None;
    }
    let python = std::env::var("DSCONV_PYTHON").unwrap_or_else(|_| "python3".into());
    if python == "skip" {
        eprintln!("skipped: DSCONV_PYTHON=skip");
        return None;
    }
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let root = folders.find(|folder| folder.join("tools/dxc").exists()).unwrap();
    let library = root.join("target/dxc/libdxcompiler.so");
    assert!(library.exists(), "DXC is missing: run tools/dxc, or ./test, which does");
    let folder = root.join("target/dxc").join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let mut list = String::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for (shader, model) in shaders {
        // As on a device with halves, which come with this model.
        let halves = if *model >= ShaderModel::V6_2 { "\t-enable-16bit-types" } else { "" };
        let (hlsl, model) = (with_typed_zeros(&shader.hlsl(*model)), model.to_str());
        let path = folder.join(format!("{}.{model}.hlsl", shader.name.replace(' ', "-")));
        list.push_str(&format!("{}\tcs_{model}{halves}\n", path.display()));
        std::fs::write(&path, hlsl).unwrap();
        paths.push(path);
    }
    let list_path = folder.join("list.txt");
    std::fs::write(&list_path, list).unwrap();
    let script = root.join("tests/dxc.py");
    let output = Command::new(&python).arg(script).arg(library).arg(list_path).output();
    let output = output.unwrap_or_else(|e| {
        panic!("{python}: {e}; install Python 3.11 or newer, or name it by DSCONV_PYTHON")
    });
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    let read = |path: PathBuf| std::fs::read_to_string(path.with_extension("hlsl.dxil")).unwrap();
    Some(paths.into_iter().map(read).collect())
}

/// naga writes a packed dot product as `dot4add_i8packed(a, b, 0)`. DXC before the middle of 2025, as the library is,
/// takes that literal for one of 64 bits, and its validator then refuses the sum (DXC's issue 7400).
fn with_typed_zeros(hlsl: &str) -> String {
    let typed = |line: &str| match line.contains("dot4add_") {
        true => line.replace(", 0)", ", int(0))"),
        false => line.to_string(),
    };
    hlsl.lines().map(|line| typed(line) + "\n").collect()
}
