//! The command `dsconv`.

mod bench;
mod demo;
mod device;
mod devices;
mod display;
mod golden;
mod isa;
mod layers;
mod radv;
mod timing;
mod verify;

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
    /// Run EfficientNet-Lite0's dense convolutions with 4-bit weights: memory, error and time of each.
    Demo(OnDevice),
    /// Measure convolutions: f32, DSConv weights with float activations, and with int8 activations.
    Bench {
        #[command(flatten)]
        on: OnDevice,
        #[command(flatten)]
        options: bench::Options,
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
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("dsconv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command.unwrap_or_else(|| Command::Demo(OnDevice::default())) {
        Command::Demo(on) => demo::run(on.device.unwrap_or_default()),
        Command::Bench { on, options } => bench::run(&on.device.unwrap_or_default(), &options),
        Command::Isa(options) => isa::run(&options),
        Command::IsaChild => radv::child().map(|()| ExitCode::SUCCESS),
        Command::Devices => devices::run(),
        Command::Verify { dir, on, json } => verify::run(&dir, on.device.unwrap_or_default(), json),
    }
}
