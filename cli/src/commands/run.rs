//! `dsconv run`: a network on tensors or on a picture.

use crate::device::{self, OnDevice};
use crate::display::{bytes, table};
use crate::network::{self, RunOptions, Runner};
use crate::output::say;
use crate::overwrite::{Kind, Overwrite};
use crate::samples::{self, Taker};
use crate::timing::ms;
use anyhow::Context;
use comfy_table::Table;
use dsconv::{FloatTensor, LayerFile, shown};
use dsconv_net::gpu::{Clock, PlanStep, Profile};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Run it on these pictures, as one batch; or on one file of tensors: safetensors with a tensor for each of the
    /// network's inputs, by name, or *.npy for a network of one input.
    #[arg(long, required = true, num_args = 1.., value_name = "PICTURE|TENSORS")]
    input: Vec<PathBuf>,
    /// Write the outputs to this file, as safetensors.
    #[arg(long)]
    output: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    #[command(flatten)]
    device: OnDevice,
    #[command(flatten)]
    how: RunOptions,
    /// Show how long each step takes, on a GPU.
    #[arg(long)]
    profile: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    if let Some(output) = &options.output {
        let inputs = options.input.iter().chain([&options.model]).map(PathBuf::as_path);
        options.overwrite.check(output, Kind::Safetensors, inputs)?;
    }
    let model = network::read(&options.model)?;
    let taker = Taker { model: &model, file: &options.model };
    let inputs = samples::of_files(taker, &options.input)?;
    let device = options.device.open_or_cpu()?;
    let dims: Vec<&[usize]> = inputs.iter().map(|(dims, _)| dims.as_slice()).collect();
    let values: Vec<&[f32]> = inputs.iter().map(|(_, values)| values.as_slice()).collect();
    let runner = Runner::new(&model.graph, &dims, device.as_ref(), &options.how)
        .with_context(|| options.model.display().to_string())?;
    // The first run compiles; the second is what runs take.
    let (_, first) = runner.run(&values)?;
    let (outputs, time) = runner.run(&values)?;
    let profile = match options.profile {
        true => Some(runner.profile(&values)?.context("--profile: expected a GPU, got the CPU")?),
        false => None,
    };
    if let Some(device) = &device {
        device.save_cache();
    }
    let program = runner.program();
    let mut out = table(&["output", "dims", "min", "mean", "max"]);
    let mut file = LayerFile::default();
    for (index, (output, values)) in model.graph.outputs().iter().zip(outputs).enumerate() {
        let (dims, values) = program.shown(index, values);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
        let fold = |f: fn(f32, f32) -> f32, first| values.iter().copied().fold(first, f);
        out.add_row([
            shown(&output.name),
            format!("{dims:?}"),
            format!("{:.4}", fold(f32::min, f32::INFINITY)),
            format!("{mean:.4}"),
            format!("{:.4}", fold(f32::max, f32::NEG_INFINITY)),
        ]);
        file.tensors.insert(output.name.clone(), FloatTensor { shape: dims, values });
    }
    say!("on {}", device::describe(device.as_ref()));
    say!("{out}");
    let memory = runner.memory().map(|memory| {
        let (total, weights) = (bytes(memory.total()), bytes(memory.weights));
        format!("; device memory {total}, {weights} of it weights")
    });
    say!("{:.1} ms, the first run {:.1} ms{}", ms(time), ms(first), memory.unwrap_or_default());
    if let Some((steps, profile)) = profile {
        say!("{}", profile_table(steps, &profile));
    }
    if let Some(path) = &options.output {
        file.save(path)?;
        say!("Wrote {}.", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The steps with their times, and the sum.
fn profile_table(steps: &[PlanStep], profile: &Profile) -> Table {
    let clock = match profile.clock {
        Clock::Gpu => "ms, by the GPU's clock",
        Clock::Wall => "ms, with submission",
    };
    let mut out = table(&["step", "kernel", clock]);
    let row = |name: &str, kernel: &str, time| [name.into(), kernel.into(), format!("{time:.3}")];
    for (step, &time) in steps.iter().zip(&profile.times) {
        out.add_row(row(&shown(&step.name), step.kernel, ms(time)));
    }
    out.add_row(row("total", "", ms(profile.times.iter().sum())));
    out
}
