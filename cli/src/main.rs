//! The command `dsconv`.

mod bench;
mod bench_network;
mod classify;
mod compare;
mod demo;
mod detect;
mod device;
mod devices;
mod display;
mod draw;
mod evaluate;
mod golden;
mod inspect;
mod isa;
mod layers;
mod network;
mod picture;
mod plot;
mod preset;
mod quantize;
mod radv;
mod run;
mod timing;
mod verify;
mod yolov9;

use clap::{Args, Parser, Subcommand};
use device::DeviceChoice;
use std::path::PathBuf;
use std::process::ExitCode;

/// Distribution Shifting Convolution on the GPU. With no command, runs the demo.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Classify four pictures with a carried 4-bit EfficientNet-Lite0, beside the same network in f32.
    Demo(OnDevice),
    /// Quantise a network: ONNX in, a model file with DSConv weights out.
    Quantize {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: Box<quantize::Options>,
    },
    /// Say what is on pictures.
    Classify {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: classify::Options,
    },
    /// Count how many labelled pictures a classifier gets right.
    Evaluate {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: evaluate::Options,
    },
    /// Find objects on pictures, and draw their boxes.
    Detect {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: detect::Options,
    },
    /// Run a network on tensors or a picture.
    Run {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: run::Options,
    },
    /// List a network's convolutions: bits, bytes, and the error of the weights.
    Inspect(inspect::Options),
    /// Compare a quantised network with its floats, layer by layer, on the CPU reference.
    Compare(compare::Options),
    /// Write a network as ONNX, with DSConv weights as blocked DequantizeLinear.
    Export {
        /// A model file.
        model: PathBuf,
        /// The file to write, *.onnx.
        output: PathBuf,
    },
    /// Measure convolutions: f32, DSConv weights with float activations, and with int8 activations.
    Bench {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: bench::Options,
    },
    /// Measure a whole network: f32, DSConv weights with float activations, and with int8 activations.
    BenchNetwork {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: bench_network::Options,
    },
    /// YOLOv9 from its description in yaml: count it, make a model file of it.
    Yolov9 {
        #[command(subcommand)]
        command: yolov9::Command,
    },
    /// Compile the kernels for AMD chips with Mesa's driver, no GPU needed: registers and instructions.
    Isa(isa::Options),
    /// The part of `isa` that runs with a chip's environment.
    #[command(hide = true, name = radv::CHILD_COMMAND)]
    IsaChild,
    /// List the GPU adapters, their limits, and the features that matter here.
    Devices,
    /// Check every kernel against the golden cases of a folder.
    Verify {
        /// A folder of golden cases, one safetensors file each.
        dir: PathBuf,
        #[command(flatten)]
        on: OnDevice,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Default)]
struct OnDevice {
    /// `cpu` for the reference, a part of an adapter's name, or its number in `dsconv devices`.
    #[arg(long, value_name = "cpu|NAME|INDEX")]
    device: Option<DeviceChoice>,
}

fn main() -> ExitCode {
    // wgpu's own warnings are about drivers; ours are for the user.
    let filter = env_logger::Env::default().default_filter_or("error,dsconv=warn");
    env_logger::Builder::from_env(filter).format_timestamp(None).init();
    match command(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dsconv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command(cli: Cli) -> anyhow::Result<ExitCode> {
    let command = cli.command.unwrap_or_else(|| Command::Demo(OnDevice::default()));
    // What prints into a closed pipe, as into `head`, ends quietly. `isa` feeds a child process before it prints.
    if !matches!(command, Command::Isa(_)) {
        sigpipe::reset();
    }
    match command {
        Command::Demo(on) => demo::run(&on.device.unwrap_or_default()),
        Command::Quantize { on, options } => {
            quantize::run(&on.device.unwrap_or_default(), &options)
        }
        Command::Classify { on, options } => {
            classify::run(&on.device.unwrap_or_default(), &options)
        }
        Command::Evaluate { on, options } => {
            evaluate::run(&on.device.unwrap_or_default(), &options)
        }
        Command::Detect { on, options } => detect::run(&on.device.unwrap_or_default(), &options),
        Command::Run { on, options } => run::run(&on.device.unwrap_or_default(), &options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Export { model, output } => inspect::export(&model, &output),
        Command::Bench { on, options } => bench::run(&on.device.unwrap_or_default(), &options),
        Command::BenchNetwork { on, options } => {
            bench_network::run(&on.device.unwrap_or_default(), &options)
        }
        Command::Yolov9 { command } => yolov9::run(&command),
        Command::Isa(options) => isa::run(&options),
        Command::IsaChild => radv::child().map(|()| ExitCode::SUCCESS),
        Command::Devices => devices::run(),
        Command::Verify { dir, on, json } => verify::run(&dir, on.device.unwrap_or_default(), json),
    }
}
