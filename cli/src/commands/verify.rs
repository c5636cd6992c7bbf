//! `dsconv verify`: every kernel against golden cases.

use crate::device::{self, Device, OnDevice};
use crate::display::table;
use crate::golden::{self, Case, Check};
use crate::output::say;
use crate::progress::progress;
use anyhow::{Context, bail, ensure};
use dsconv::gpu::{ActivationFormat, ConvProblem, Kernel, Layer, LayerOptions};
use dsconv::{ActivationScale, Int8Activations, Reference, WeightsRef, reference};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The bound of the float path, as a share of the reference's magnitude.
const FLOAT_BOUND: f64 = 4e-6;
/// What rounding input and weights to halves may add to it: 2^-11 each.
const HALVES: f64 = 1.0 / 1024.0 + 1.0 / 4_194_304.0;
/// The bound of the f64 reference: only the order of its sums may differ.
const REFERENCE_BOUND: f64 = 1e-12;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Check the cases of this folder: golden cases, one safetensors file each.
    dir: PathBuf,
    #[command(flatten)]
    device: OnDevice,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    device: String,
    passed: usize,
    failed: usize,
    /// The worst error of a kernel, as a share of the magnitude.
    worst: f64,
    cases: Vec<Outcome>,
}

/// One case on one variant. Errors and bounds are shares of the magnitude, the largest sum of |w||x|.
#[derive(serde::Serialize)]
struct Outcome {
    case: String,
    variant: String,
    /// The error; `None` if the case could not be read or run.
    error: Option<f64>,
    bound: f64,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// Runs every case of the folder on every variant that applies.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let device = options.device.open()?;
    let files = case_files(&options.dir)?;
    let mut report = Report {
        device: match &device {
            Some(device) => device::describe(Some(device)),
            None => "CPU reference".into(),
        },
        passed: 0,
        failed: 0,
        worst: 0.0,
        cases: Vec::new(),
    };
    let progress = progress(files.len())?;
    for path in &files {
        let outcomes = match golden::read(path) {
            Ok(case) => check_case(device.as_ref(), &case),
            Err(error) => {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                vec![Outcome::failed(&name, "file", 0.0, &error)]
            }
        };
        match outcomes.iter().all(|outcome| outcome.ok) {
            true => report.passed += 1,
            false => report.failed += 1,
        }
        let errors = outcomes.iter().map(|outcome| outcome.error.unwrap_or(0.0));
        report.worst = errors.fold(report.worst, f64::max);
        report.cases.extend(outcomes);
        progress.inc(1);
    }
    progress.finish_and_clear();
    if let Some(device) = &device {
        device.save_cache();
    }
    match options.json {
        true => say!("{}", serde_json::to_string(&report)?),
        false => report.print(),
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cases of a folder, in the order of their names.
fn case_files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).with_context(|| match dir.exists() {
        true => dir.display().to_string(),
        false => format!("{} (dsconv's own golden cases are in its tests/golden)", dir.display()),
    })?;
    let paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
    let mut files: Vec<PathBuf> = paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    if files.is_empty() {
        bail!("{}: expected golden cases (*.safetensors), found none", dir.display());
    }
    Ok(files)
}

/// Checks the CPU reference, and against it every kernel of the device.
fn check_case(device: Option<&Device>, case: &Case) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for check in &case.checks {
        let variant = format!("reference {}", check.reading);
        let reference = match reference::convolve(&check.weights, case.input, &case.x) {
            Ok(reference) => reference,
            Err(error) => {
                let failed = Outcome::failed(&case.name, &variant, REFERENCE_BOUND, &error.into());
                outcomes.push(failed);
                continue;
            }
        };
        let result = worst_error(reference.values.iter().copied(), &check.y, &reference);
        outcomes.push(Outcome::of(&case.name, &variant, REFERENCE_BOUND, result));
        if let Some(device) = device {
            let kernels = KernelChecks { device, case, check, reference: &reference };
            outcomes.extend(kernels.outcomes());
        }
    }
    outcomes
}

/// The kernels that one reading of a case is checked on.
struct KernelChecks<'a> {
    device: &'a Device,
    case: &'a Case,
    check: &'a Check,
    /// The CPU reference's output.
    reference: &'a Reference,
}

impl KernelChecks<'_> {
    /// An outcome for each kernel that takes the weights, as integers and as floats.
    fn outcomes(&self) -> Vec<Outcome> {
        let Self { device, case, check, reference } = self;
        // The same weights as floats run the f32 kernels, depthwise among them.
        let floats = check.weights.dequantize();
        let mut formats = vec![WeightsRef::from(&check.weights)];
        formats.extend(floats.as_ref().map(WeightsRef::from));
        // Integer activations have a reference of their own: the golden output is of floats.
        let integers = self.integer_reference();
        let mut outcomes = Vec::new();
        for weights in formats {
            for (kernel, input) in Kernel::convolutions() {
                let problem = ConvProblem::new(weights, input);
                if kernel.supports(&problem, device.pipelines.capabilities()).is_err() {
                    continue;
                }
                let exact = case.exact && input == ActivationFormat::Float;
                let halves = if kernel.spec().matrix.is_some() { HALVES } else { 0.0 };
                let bound = if exact { 0.0 } else { FLOAT_BOUND + halves };
                let (name, format, reading) = (kernel.name(), problem.weights(), &check.reading);
                let variant = format!("{name} {format}, {input} input, {reading}");
                let result = self.run(kernel, input, weights).and_then(|y| match input {
                    ActivationFormat::Float => worst_error(y, &check.y, reference),
                    ActivationFormat::Int8 => match &integers {
                        Ok(integers) => worst_error(y, &integers.values, integers),
                        Err(error) => Err(anyhow::anyhow!("{error}")),
                    },
                });
                outcomes.push(Outcome::of(&case.name, &variant, bound, result));
            }
        }
        outcomes
    }

    /// The CPU reference's output for integer activations.
    fn integer_reference(&self) -> dsconv::Result<Reference> {
        let (weights, case) = (&self.check.weights, self.case);
        let (descriptor, format) = (weights.descriptor(), weights.format());
        let scale = ActivationScale::default();
        let x = Int8Activations::quantize(descriptor, format, case.input, &case.x, scale)?;
        reference::convolve_int8(weights, &x)
    }

    /// The output of a kernel.
    fn run(
        &self,
        kernel: Kernel,
        input_format: ActivationFormat,
        weights: WeightsRef<'_>,
    ) -> anyhow::Result<impl ExactSizeIterator<Item = f64> + use<>> {
        let (device, case) = (self.device, self.case);
        let options = LayerOptions::default().with_kernel(kernel).with_input_format(input_format);
        let layer = Layer::new(&device.pipelines, weights, options)?;
        let y = pollster::block_on(layer.run(&device.gpu.queue, case.input, &case.x, &[]))?;
        Ok(y.into_iter().map(f64::from))
    }
}

/// The largest difference to an f64 output, as a share of the reference's magnitude.
fn worst_error(
    y: impl ExactSizeIterator<Item = f64>,
    golden: &[f64],
    reference: &Reference,
) -> anyhow::Result<f64> {
    ensure!(y.len() == golden.len(), "y: expected {} elements, got {}", golden.len(), y.len());
    let differences = y.zip(golden).map(|(y, golden)| (y - golden).abs());
    let worst =
        differences.fold(0.0, |worst, d| if d.is_nan() { f64::INFINITY } else { d.max(worst) });
    Ok(if worst == 0.0 { 0.0 } else { worst / reference.magnitude })
}

impl Outcome {
    fn of(case: &str, variant: &str, bound: f64, result: anyhow::Result<f64>) -> Self {
        match result {
            // JSON has no infinity.
            Ok(error) if !error.is_finite() => {
                Self::failed(case, variant, bound, &anyhow::anyhow!("the output is not finite"))
            }
            Ok(error) => Self {
                case: case.into(),
                variant: variant.into(),
                error: Some(error),
                bound,
                ok: error <= bound,
                message: None,
            },
            Err(error) => Self::failed(case, variant, bound, &error),
        }
    }

    fn failed(case: &str, variant: &str, bound: f64, error: &anyhow::Error) -> Self {
        let (case, variant) = (case.into(), variant.into());
        Self { case, variant, error: None, bound, ok: false, message: Some(format!("{error:#}")) }
    }
}

impl Report {
    fn print(&self) {
        // One line a case: its worst kernel, and each failure by name.
        let mut out = table(&["case", "variants", "worst error", "bound", ""]);
        for outcomes in self.cases.chunk_by(|a, b| a.case == b.case) {
            let error = |outcome: &Outcome| outcome.error.unwrap_or(f64::INFINITY);
            let kernels = outcomes.iter().filter(|o| !o.variant.starts_with("reference"));
            let worst =
                kernels.max_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(&outcomes[0]);
            let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
            out.add_row([
                worst.case.clone(),
                outcomes.len().to_string(),
                worst.error.map_or("-".into(), |error| format!("{error:.1e}")),
                format!("{:.0e}", worst.bound),
                if failed == 0 { "ok".into() } else { format!("{failed} FAILED") },
            ]);
        }
        say!("{out}");
        for outcome in self.cases.iter().filter(|outcome| !outcome.ok) {
            let why = match (&outcome.message, outcome.error) {
                (Some(message), _) => message.clone(),
                (None, error) => {
                    format!("error {:.1e}, bound {:.0e}", error.unwrap_or(0.0), outcome.bound)
                }
            };
            say!("FAILED {} on {}: {why}", outcome.case, outcome.variant);
        }
        let total = self.passed + self.failed;
        say!(
            "{} of {total} cases passed on {}; worst error {:.1e} of the magnitude (sum of |w||x|)",
            self.passed,
            self.device,
            self.worst
        );
    }
}
