//! Shaders compiled for AMD GPUs by Mesa's driver RADV, without a GPU: registers, occupancy, and what
//! the main loop is made of.
//!
//! The driver reads environment variables when it starts, so a child process, this same program,
//! compiles for each chip: [`compile_for`] in the parent, [`child`] in the child.

mod assembly;
mod spirv;
mod vulkan;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The hidden command that runs [`child`].
pub(crate) const CHILD_COMMAND: &str = "isa-child";

/// A compute shader with the entry point `main` and its buffers in group 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Shader {
    pub(crate) name: String,
    pub(crate) wgsl: String,
    /// Values of the overrides.
    pub(crate) constants: Vec<(String, f64)>,
    /// Multiply-adds of a thread per step of the source's main loop, where known.
    pub(crate) macs_per_iteration: Option<u32>,
    /// How often the loop around runs through that loop, if what comes once per block is to be counted too.
    pub(crate) trips: Option<u32>,
    /// True if wgpu's runtime checks are compiled in, as by `create_shader_module`.
    pub(crate) checks: bool,
}

/// The driver's machine code for a shader, in numbers. The counts are those of the main loop.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) chip: String,
    /// The chip and the driver in the driver's words.
    pub(crate) device: String,
    pub(crate) name: String,
    pub(crate) vgprs: u64,
    pub(crate) sgprs: u64,
    pub(crate) lds_bytes: u64,
    /// Spilled registers, scalar and vector.
    pub(crate) spills: u64,
    pub(crate) scratch_bytes: u64,
    /// Subgroups that a SIMD holds at a time.
    pub(crate) waves: u64,
    pub(crate) code_bytes: u64,
    pub(crate) subgroup_size: u32,
    /// Multiply-adds of a thread.
    pub(crate) macs: u32,
    /// Integer dot products of four.
    pub(crate) dots: u32,
    /// Floating multiply-add instructions.
    pub(crate) fmas: u32,
    /// Other vector instructions.
    pub(crate) vector: u32,
    pub(crate) scalar: u32,
    pub(crate) memory: u32,
    pub(crate) branches: u32,
    /// Waits, nops and other hints.
    pub(crate) hints: u32,
    /// Instructions of all kinds.
    pub(crate) instructions: u32,
    /// Instructions over multiply-adds; `None` where the loop has no multiply-adds.
    pub(crate) instructions_per_mac: Option<f64>,
    /// The same without the hints.
    pub(crate) work_per_mac: Option<f64>,
    /// The part of the multiply-adds that integer dot products do.
    pub(crate) dot_share: f64,
}

/// Compiles shaders for chips: one list of reports per chip. A chip's name is one that Mesa knows, or
/// its newer or older alias.
pub(crate) fn compile_for(
    chips: &[String],
    shaders: &[Shader],
) -> anyhow::Result<Vec<Vec<Report>>> {
    let driver = find_driver()?;
    let shaders = serde_json::to_vec(shaders)?;
    let compile = |chip: &String| compile_for_chip(chip, &driver, &shaders);
    chips.iter().map(|chip| compile(chip).with_context(|| chip.clone())).collect()
}

/// The child: reads shaders, compiles them for the chip of its environment, prints the reports.
pub(crate) fn child() -> anyhow::Result<()> {
    let shaders: Vec<Shader> = serde_json::from_reader(std::io::stdin()).context("shaders")?;
    let chip = std::env::var(FAMILY).with_context(|| format!("{FAMILY} is not set"))?;
    serde_json::to_writer(std::io::stdout(), &compile(&chip, &shaders)?)?;
    Ok(())
}

/// Makes RADV open a null device of that chip.
const FAMILY: &str = "RADV_FORCE_FAMILY";

const INSTALL: &str = "Mesa's RADV is not installed; on Debian and Ubuntu: apt install mesa-vulkan-drivers libvulkan1";

fn compile(chip: &str, shaders: &[Shader]) -> anyhow::Result<Vec<Report>> {
    let device = vulkan::Device::open()
        .context("RADV's null device, which the newest versions of Mesa no longer have")?;
    // A driver that ignores the variable opens the machine's own GPU.
    ensure!(
        device.name.to_lowercase().contains(&chip.to_lowercase()),
        "RADV opened {} instead; the newest versions of Mesa have no null device",
        device.name
    );
    let report = |shader: &Shader| report(chip, &device, shader);
    shaders.iter().map(|shader| report(shader).with_context(|| shader.name.clone())).collect()
}

fn report(chip: &str, device: &vulkan::Device, shader: &Shader) -> anyhow::Result<Report> {
    let spirv = spirv::translate(&shader.wgsl, &shader.constants, shader.checks)?;
    let executable = device.compile(&spirv)?;
    let number = |name: &str| {
        let number = executable.statistics.get(name).copied();
        number.with_context(|| format!("the driver gives no statistic {name:?}"))
    };
    let (form, text) = executable.forms.last().context("the driver gives no assembly")?;
    let dot_products = shader.wgsl.contains("dot4I8Packed") || shader.wgsl.contains("dot4U8Packed");
    let main_loop =
        |trips| assembly::main_loop(text, dot_products, trips).with_context(|| form.clone());
    let counts = main_loop(shader.trips)?;
    let macs = match shader.macs_per_iteration {
        Some(known) => main_loop(None)?.macs_of(dot_products, known) * shader.trips.unwrap_or(1),
        None => counts.macs(dot_products),
    };
    let instructions = counts.instructions();
    let per_mac = |count: u32| (macs > 0).then(|| f64::from(count) / f64::from(macs));
    Ok(Report {
        chip: chip.to_string(),
        device: device.name.clone(),
        name: shader.name.clone(),
        vgprs: number("VGPRs")?,
        sgprs: number("SGPRs")?,
        lds_bytes: number("LDS size")?,
        spills: number("Spilled SGPRs")? + number("Spilled VGPRs")?,
        scratch_bytes: number("Scratch size")?,
        waves: number("Subgroups per SIMD")?,
        code_bytes: number("Code size")?,
        subgroup_size: executable.subgroup_size,
        macs,
        dots: counts.dots,
        fmas: counts.fmas,
        vector: counts.vector,
        scalar: counts.scalar,
        memory: counts.memory,
        branches: counts.branches,
        hints: counts.hints,
        instructions,
        instructions_per_mac: per_mac(instructions),
        work_per_mac: per_mac(instructions - counts.hints),
        dot_share: per_mac(4 * counts.dots).unwrap_or(0.0),
    })
}

fn compile_for_chip(chip: &str, driver: &Path, shaders: &[u8]) -> anyhow::Result<Vec<Report>> {
    let mut output = run_child(chip, driver, shaders)?;
    if let (true, Some(alias)) = (is_unknown(&output), alias(chip)) {
        output = run_child(alias, driver, shaders)?;
    }
    if is_unknown(&output) {
        bail!("the installed Mesa does not know this chip");
    }
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("compiling in a child process: {}, {}", output.status, message.trim());
    }
    serde_json::from_slice(&output.stdout).context("the output of the child process")
}

fn run_child(chip: &str, driver: &Path, shaders: &[u8]) -> anyhow::Result<Output> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(CHILD_COMMAND)
        .env(FAMILY, chip)
        // Later versions of Mesa call it so.
        .env("AMD_FORCE_FAMILY", chip)
        // Loaders before 1.3.207 know only the second.
        .env("VK_DRIVER_FILES", driver)
        .env("VK_ICD_FILENAMES", driver)
        // Nothing to choose between, and no cache to fill.
        .env("NODEVICE_SELECT", "1")
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting a child process")?;
    feed(&mut child, shaders).context("writing to the child process")?;
    child.wait_with_output().context("waiting for the child process")
}

fn feed(child: &mut Child, bytes: &[u8]) -> std::io::Result<()> {
    let Some(mut stdin) = child.stdin.take() else { return Ok(()) };
    match stdin.write_all(bytes) {
        // It has ended early; its own message says why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Says whether the driver refused the chip's name.
fn is_unknown(output: &Output) -> bool {
    !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("Unknown family")
}

/// The other name of a chip: Mesa 23 renamed some.
fn alias(chip: &str) -> Option<&'static str> {
    const RENAMED: [(&str, &str); 3] =
        [("gfx1100", "navi31"), ("gfx1101", "navi32"), ("gfx1102", "navi33")];
    RENAMED.into_iter().find_map(|(old, new)| {
        if chip.eq_ignore_ascii_case(old) {
            Some(new)
        } else {
            chip.eq_ignore_ascii_case(new).then_some(old)
        }
    })
}

/// The file that tells the Vulkan loader of RADV.
fn find_driver() -> anyhow::Result<PathBuf> {
    ensure!(cfg!(target_os = "linux"), "Mesa's RADV compiles without a GPU on Linux only");
    const FOLDERS: [&str; 4] = [
        "/etc/vulkan/icd.d",
        "/usr/local/share/vulkan/icd.d",
        "/usr/share/vulkan/icd.d",
        "/run/opengl-driver/share/vulkan/icd.d",
    ];
    let own = format!("radeon_icd.{}.json", std::env::consts::ARCH);
    let names = [own.as_str(), "radeon_icd.json"];
    let files = FOLDERS.iter().flat_map(|folder| names.map(|name| Path::new(folder).join(name)));
    files.into_iter().find(|file| file.is_file()).context(INSTALL)
}
