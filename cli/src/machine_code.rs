//! Shaders compiled by Mesa's drivers of four makers, without a GPU: registers, occupancy, and what the main loop is
//! made of.
//!
//! A driver is loaded into a process with the chip that it is to believe in, so a child process, this same program,
//! compiles for each chip: [`compile`] in the parent, [`child`] in the child.

mod amd;
mod apple;
mod chips;
mod drivers;
mod listing;
mod nvidia;
mod qualcomm;
mod spirv;
mod statistics;
mod vulkan;

use anyhow::{Context, anyhow, bail, ensure};
pub(crate) use chips::{Chip, Maker};
pub(crate) use drivers::found as found_makers;
use drivers::{Driver, INSTALL};
use listing::Block;
pub(crate) use listing::Counts;
use serde::{Deserialize, Serialize};
pub(crate) use statistics::Statistics;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, Stdio};

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

impl Shader {
    /// Says whether both become the same code.
    fn is_same_code(&self, other: &Self) -> bool {
        (&self.wgsl, &self.constants, self.checks) == (&other.wgsl, &other.constants, other.checks)
    }
}

/// The work of a child process.
#[derive(Serialize, Deserialize)]
struct Work {
    maker: Maker,
    /// The chip that a null device was asked for, which a driver that has none does not open.
    null_device: Option<String>,
    shaders: Vec<Shader>,
}

/// The driver's machine code for a shader, in numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The chip and the driver in the driver's words.
    pub(crate) device: String,
    pub(crate) statistics: Statistics,
    /// The main loop; `None` where the driver shows no code.
    pub(crate) main_loop: Option<MainLoop>,
}

/// The main loop, in numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MainLoop {
    /// Multiply-adds of a thread.
    pub(crate) macs: u32,
    /// Instructions of all kinds.
    pub(crate) instructions: u32,
    pub(crate) counts: Counts,
}

impl MainLoop {
    fn of(blocks: &[Block], shader: &Shader) -> anyhow::Result<Self> {
        let dots = ["dot4I8Packed", "dot4U8Packed"].iter().any(|dot| shader.wgsl.contains(dot));
        let counts = listing::main_loop(blocks, dots, shader.trips)?;
        let macs = match shader.macs_per_iteration {
            Some(known) => {
                let step = listing::main_loop(blocks, dots, None)?;
                step.macs_of(dots, known) * shader.trips.unwrap_or(1)
            }
            None => counts.macs(dots),
        };
        Ok(Self { macs, instructions: counts.instructions(), counts })
    }

    /// A number over the multiply-adds; `None` where the loop has none.
    pub(crate) fn per_mac(&self, number: u32) -> Option<f64> {
        (self.macs > 0).then(|| f64::from(number) / f64::from(self.macs))
    }

    /// The part of the multiply-adds that integer dot products do.
    pub(crate) fn dot_share(&self) -> f64 {
        self.per_mac(4 * self.counts.dots).unwrap_or(0.0)
    }
}

/// Compiles shaders for a chip, one report for each, and calls `done` after each. `name` is the chip's name or alias.
pub(crate) fn compile(
    chip: &Chip,
    shaders: &[Shader],
    mut done: impl FnMut(),
) -> anyhow::Result<Vec<Report>> {
    let driver = Driver::find(chip.maker)?;
    if !driver.is_null_device() {
        let work = Work { maker: chip.maker, null_device: None, shaders: shaders.to_vec() };
        return run_child(&driver, chip, &work, &mut done)?.reports();
    }
    // Versions of Mesa differ in their names of some chips.
    for name in [chip.name].iter().chain(chip.aliases) {
        let null_device = Some((*name).to_string());
        let work = Work { maker: chip.maker, null_device, shaders: shaders.to_vec() };
        let end = run_child(&driver, chip, &work, &mut done)?;
        if !end.is_unknown() {
            return end.reports().map_err(|error| anyhow!("{error:#}; {INSTALL}"));
        }
    }
    bail!("the installed Mesa does not know this chip; {INSTALL}")
}

/// The child: reads shaders, compiles them for the chip of its environment, prints a report a line, apart from what the
/// driver prints.
pub(crate) fn child() -> anyhow::Result<()> {
    let work: Work = serde_json::from_reader(std::io::stdin()).context("shaders")?;
    let device = vulkan::Device::open(work.maker.driver())?;
    if let Some(chip) = &work.null_device {
        // A driver that has no null device opens the machine's own GPU.
        ensure!(
            device.name.to_lowercase().contains(&chip.to_lowercase()),
            "RADV opened {} instead; the newest versions of Mesa have no null device",
            device.name
        );
    }
    let mut out: Box<dyn Write> = match work.maker.prints_code() {
        true => Box::new(std::io::stderr().lock()),
        false => Box::new(std::io::stdout().lock()),
    };
    let mut last: Option<(&Shader, vulkan::Executable)> = None;
    for shader in &work.shaders {
        // The same code may be counted for several numbers of trips; some drivers take seconds for it.
        let executable = match last.take() {
            Some((same, executable)) if same.is_same_code(shader) => executable,
            _ => compile_here(&device, shader).with_context(|| shader.name.clone())?,
        };
        let report = report(work.maker, &device, &executable, shader);
        serde_json::to_writer(&mut out, &report.with_context(|| shader.name.clone())?)?;
        last = Some((shader, executable));
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn compile_here(device: &vulkan::Device, shader: &Shader) -> anyhow::Result<vulkan::Executable> {
    device.compile(&spirv::translate(&shader.wgsl, &shader.constants, shader.checks)?)
}

fn report(
    maker: Maker,
    device: &vulkan::Device,
    executable: &vulkan::Executable,
    shader: &Shader,
) -> anyhow::Result<Report> {
    Ok(Report {
        device: device.name.clone(),
        statistics: Statistics::of(maker, &executable.statistics, executable.subgroup_size),
        main_loop: main_loop(maker, executable, shader)?,
    })
}

fn main_loop(
    maker: Maker,
    executable: &vulkan::Executable,
    shader: &Shader,
) -> anyhow::Result<Option<MainLoop>> {
    let read: fn(&str) -> Vec<Block> = match maker {
        Maker::Amd => amd::blocks,
        Maker::Nvidia => nvidia::blocks,
        Maker::Qualcomm => qualcomm::blocks,
        // It is printed, and the parent reads it.
        Maker::Apple => return Ok(None),
    };
    let (form, text) = executable.forms.last().context("the driver gives no assembly")?;
    let first = || format!("{form}: {:?}", text.lines().next().unwrap_or(""));
    MainLoop::of(&read(text), shader).with_context(first).map(Some)
}

/// The end of a child process.
struct End {
    reports: Vec<Report>,
    asked: usize,
    status: std::process::ExitStatus,
    message: String,
}

impl End {
    /// Says whether a null device's driver refused the chip's name.
    fn is_unknown(&self) -> bool {
        !self.status.success() && self.message.contains("Unknown family")
    }

    fn reports(self) -> anyhow::Result<Vec<Report>> {
        ensure!(
            self.status.success() && self.reports.len() == self.asked,
            "compiling in a child process: {}, {}",
            self.status,
            self.message.trim()
        );
        Ok(self.reports)
    }
}

fn run_child(
    driver: &Driver,
    chip: &Chip,
    work: &Work,
    done: &mut impl FnMut(),
) -> anyhow::Result<End> {
    let name = work.null_device.as_deref().unwrap_or(chip.name);
    let mut child = driver
        .command(chip, name)?
        .arg(CHILD_COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting a child process")?;
    feed(&mut child, &serde_json::to_vec(work)?).context("writing to the child process")?;
    let printed = read_output(&mut child, work.maker.prints_code(), done)?;
    let status = child.wait().context("waiting for the child process")?;
    let Printed { mut reports, message, listings } = printed;
    if work.maker.prints_code() {
        read_printed(&listings, &work.shaders, &mut reports);
    }
    Ok(End { reports, asked: work.shaders.len(), status, message })
}

/// The output of a child process.
struct Printed {
    reports: Vec<Report>,
    message: String,
    /// Code that the driver has printed.
    listings: Vec<String>,
}

/// Reads all that a child process prints. `prints_code`: its driver prints code where others' reports come.
fn read_output(
    child: &mut Child,
    prints_code: bool,
    done: &mut impl FnMut(),
) -> anyhow::Result<Printed> {
    let output = child.stdout.take().context("the output of the child process")?;
    let errors = child.stderr.take().context("the messages of the child process")?;
    let (with_reports, other): (Box<dyn Read>, Box<dyn Read + Send>) = match prints_code {
        true => (Box::new(errors), Box::new(output)),
        false => (Box::new(output), Box::new(errors)),
    };
    // Both are read at once, so that the child waits for neither.
    let other = std::thread::spawn(move || {
        let mut other = BufReader::new(other);
        if prints_code {
            return (apple::listings(other), String::new());
        }
        let mut text = Vec::new();
        // A message that ends early still says something.
        let _ = other.read_to_end(&mut text);
        (Vec::new(), String::from_utf8_lossy(&text).into_owned())
    });
    let (mut reports, mut message) = (Vec::new(), String::new());
    for line in BufReader::new(with_reports).lines() {
        let line = line.context("the output of the child process")?;
        if line.starts_with('{') {
            reports.push(serde_json::from_str(&line).with_context(|| line.clone())?);
            done();
        } else {
            message += &line;
            message.push('\n');
        }
    }
    let (listings, text) = other.join().unwrap_or_default();
    message += &text;
    Ok(Printed { reports, message, listings })
}

/// Reads the main loops out of the code that a driver has printed, if it printed that of every shader.
fn read_printed(listings: &[String], shaders: &[Shader], reports: &mut [Report]) {
    // The same code in a row is compiled once.
    let compiled: Vec<_> = shaders.chunk_by(Shader::is_same_code).collect();
    if compiled.len() != listings.len() {
        return;
    }
    let listings =
        compiled.iter().zip(listings).flat_map(|(same, text)| same.iter().map(move |_| text));
    for ((shader, text), report) in shaders.iter().zip(listings).zip(reports) {
        report.main_loop = MainLoop::of(&apple::blocks(text), shader).ok();
    }
}

fn feed(child: &mut Child, bytes: &[u8]) -> std::io::Result<()> {
    let Some(mut stdin) = child.stdin.take() else { return Ok(()) };
    match stdin.write_all(bytes) {
        // It has ended early; its own message says why.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
