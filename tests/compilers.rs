//! Every variant through compilers other than the drivers at hand: naga's SPIR-V through Khronos'
//! validator, its HLSL through Microsoft's DXC, and what browsers get through Tint, the WGSL compiler of Chromium.

#[path = "common/dxc.rs"]
mod dxc;

use dsconv::gpu::{FloatFormat, Kernel, Variant, WeightFormat};
use dxc::{Shader, ShaderModel};
use naga::back::{pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder for what a test hands to a compiler; stays for a look at what was refused.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn file_name(variant: Variant, extension: &str) -> String {
    format!("{}.{extension}", variant.to_string().replace(' ', "-"))
}

/// Runs a program that the machine may lack.
fn run(command: &mut Command, input: &[u8], remedy: &str) -> Output {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}; {remedy}"));
    let mut stdin = child.stdin.take().unwrap();
    // A program that stops early closes its end; its status tells why.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// What wgpu gives to a Vulkan driver for a kernel: the oldest version that has everything, with
/// naga's run-time checks, or the newest without.
fn spirv(variant: Variant, newest: bool) -> Vec<u32> {
    let module = naga::front::wgsl::parse_str(&variant.wgsl()).unwrap();
    let info =
        Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).unwrap();
    let constants =
        variant.constants().into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let entry = Some((naga::ShaderStage::Compute, "main"));
    let (module, info) = process_overrides(&module, &info, entry, &constants).unwrap();
    let pipeline = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
    };
    let policy = if newest { BoundsCheckPolicy::Unchecked } else { BoundsCheckPolicy::Restrict };
    let options = spv::Options {
        lang_version: if newest { (1, 6) } else { (1, 3) },
        bounds_check_policies: BoundsCheckPolicies {
            index: policy,
            buffer: policy,
            image_load: policy,
            binding_array: policy,
        },
        force_loop_bounding: !newest,
        ..Default::default()
    };
    spv::write_vec(&module, &info, &options, Some(&pipeline)).unwrap()
}

#[test]
fn spirv_val_accepts_every_variant() {
    let folder = folder("spirv");
    let mut count = 0;
    for (newest, target) in [(false, "vulkan1.1"), (true, "vulkan1.3")] {
        for variant in Variant::all() {
            let path = folder.join(file_name(variant, &format!("{target}.spv")));
            let bytes: Vec<u8> =
                spirv(variant, newest).into_iter().flat_map(u32::to_le_bytes).collect();
            std::fs::write(&path, bytes).unwrap();
            let mut command = Command::new("spirv-val");
            command.args(["--target-env", target]).arg(&path);
            let output = run(
                &mut command,
                &[],
                "install SPIRV-Tools (Debian and Ubuntu: sudo apt install spirv-tools), or run ./test as root, which does",
            );
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            // Validators from before 2023 know no matrix units, and stop where the text names them.
            let unknown = variant.kernel.spec().matrix.is_some()
                && text.contains("Invalid capability operand: 6022");
            assert!(output.status.success() || unknown, "{variant} for {target}: {text}");
            count += 1;
        }
    }
    assert_eq!(count, 2 * Variant::all().count());
}

/// The variants for browsers and for DX12: neither has matrix units, by wgpu.
fn without_matrix_units() -> impl Iterator<Item = Variant> {
    Variant::all().filter(|variant| variant.kernel.spec().matrix.is_none())
}

#[test]
fn tint_accepts_every_variant() {
    let folder = folder("tint");
    let mut list = String::new();
    for packed_dot_product in [true, false] {
        for variant in without_matrix_units() {
            let extension = if packed_dot_product { "wgsl" } else { "no-packed-dot.wgsl" };
            let path = folder.join(file_name(variant, extension));
            std::fs::write(&path, variant.browser_wgsl(packed_dot_product)).unwrap();
            list.push_str(&path.display().to_string());
            for (name, value) in variant.constants() {
                list.push_str(&format!("\t{name}={value}"));
            }
            list.push('\n');
        }
    }
    // For the tests in browsers, which hand the same to theirs.
    std::fs::write(folder.join("list.txt"), &list).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/tests/tint.mjs");
    let output = run(
        Command::new("node").arg(script),
        list.as_bytes(),
        "install Node 18 or later (Debian and Ubuntu: sudo apt install nodejs npm)",
    );
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    assert!(output.status.success(), "{stdout}{stderr}");
    let expected = format!("{} pipelines", 2 * without_matrix_units().count());
    assert!(stdout.contains(&expected), "expected {expected}: {stdout}{stderr}");
}

/// What DX12 gets. DXC works alike on Linux and on Windows.
#[test]
fn dxc_accepts_every_variant() {
    // Shader model 6.4 has packed dot products. Before it, naga writes them out, whatever the width.
    let written_out = |variant: &Variant| {
        matches!(variant.kernel, Kernel::ConvGemmInt8 | Kernel::ConvGemmInt8Unsigned)
            && variant.weights == WeightFormat::Packed(4)
            && variant.float_format == FloatFormat::F32
    };
    let variants: Vec<(Variant, ShaderModel)> = without_matrix_units()
        .map(|variant| (variant, ShaderModel::V6_4))
        .chain(
            without_matrix_units().filter(written_out).map(|variant| (variant, ShaderModel::V6_0)),
        )
        .collect();
    let shader = |(variant, shader_model): &(Variant, ShaderModel)| {
        let shader = Shader {
            name: variant.to_string(),
            wgsl: variant.wgsl(),
            constants: variant.constants(),
            // As `trusted.rs` makes the modules.
            checked: false,
        };
        (shader, *shader_model)
    };
    let shaders: Vec<_> = variants.iter().map(shader).collect();
    let Some(dxil) = dxc::compile("kernels", &shaders) else { return };
    for ((variant, shader_model), dxil) in variants.into_iter().zip(dxil) {
        // A thread multiplies the words of 4 pixels with those of 8 outputs, 8 words a step. The unsigned form also
        // sums the bytes of both.
        let expected = match (variant.kernel, shader_model) {
            (Kernel::ConvGemmInt8, ShaderModel::V6_4) => [256, 0],
            (Kernel::ConvGemmInt8Unsigned, ShaderModel::V6_4) => [0, 256 + 4 + 8],
            _ => [0, 0],
        };
        // Dot4AddI8Packed and Dot4AddU8Packed in DXIL's list of operations.
        let dots = |code| dxil.matches(&format!("@dx.op.dot4AddPacked.i32(i32 {code},")).count();
        assert_eq!([163, 164].map(dots), expected, "{variant} for {shader_model:?}");
    }
}
