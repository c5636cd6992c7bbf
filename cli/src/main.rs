//! The command `dsconv`.

mod carried;
mod classes;
mod commands;
mod device;
mod display;
mod draw;
mod fitting;
mod foreign;
mod golden;
mod help;
mod layer_spec;
mod layer_table;
mod machine_code;
mod message;
mod network;
mod npy;
mod output;
mod overwrite;
mod picture;
mod plot;
mod preset;
mod progress;
mod samples;
mod tensor_cores;
mod timing;
mod weight_options;
mod yolov9_model;

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;

/// Distribution Shifting Convolution on the GPU: convolution networks with weights of 2 to 8 bits.
#[derive(Parser)]
#[command(name = "dsconv", version, args_conflicts_with_subcommands = true)]
#[command(override_usage = "dsconv [COMMAND] [OPTIONS]")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: commands::demo::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Make a network small: ONNX in, a model file with DSConv weights out.
    Quantize(Box<commands::quantize::Options>),
    /// Say what is on pictures.
    Classify(commands::classify::Options),
    /// Find objects on pictures, and draw their boxes.
    Detect(commands::detect::Options),
    /// Count how many pictures classifiers get right, and how far they are from f32.
    Evaluate(commands::evaluate::Options),
    /// Teach a network new classes from folders of pictures, or what another network answers.
    Finetune(Box<commands::finetune::Options>),
    /// Run a network on tensors or pictures.
    Run(commands::run::Options),
    /// List a network's convolutions: bits, bytes, and errors of weights or, with --against, of outputs.
    Inspect(commands::inspect::Options),
    /// Write a network as ONNX, with DSConv weights as blocked DequantizeLinear.
    Export(commands::export::Options),
    /// Count a YOLOv9 network of a description in yaml, or build a model file of it.
    Yolov9 {
        #[command(subcommand)]
        command: commands::yolov9::Command,
    },
    /// List the GPU adapters, their limits, and the features that matter here.
    Devices,
    /// Check every kernel against the golden cases of a folder.
    Verify(commands::verify::Options),
    /// Measure layers or a whole network: f32, DSConv weights, and int8 activations.
    Bench(commands::bench::Options),
    /// Compile the kernels for chips of four makers with Mesa's drivers, no GPU needed: registers and instructions.
    Isa(commands::isa::Options),

    /// Classify four pictures with a carried 4-bit EfficientNet-Lite0, beside the same network in f32.
    #[command(hide = true)]
    Demo(commands::demo::Options),
    /// An earlier spelling of `dsconv inspect MODEL --against FLOATS`.
    #[command(hide = true)]
    Compare(commands::inspect::CompareOptions),
    /// The part of `isa` that runs with a chip's environment.
    #[command(hide = true, name = machine_code::CHILD_COMMAND)]
    IsaChild,
}

fn main() -> ExitCode {
    // wgpu's own warnings are about drivers; ours are for the user.
    let filter = env_logger::Env::default().default_filter_or("error,dsconv=warn");
    env_logger::Builder::from_env(filter).format_timestamp(None).init();
    let cli: Cli = help::parse(current_spelling(std::env::args_os().collect()));
    let command = cli.command.unwrap_or(Command::Demo(cli.demo));
    match run(command).and_then(|code| output::finish().map(|()| code)) {
        Ok(code) => code,
        Err(error) => {
            output::tell!("dsconv: {}", message::in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// Replaces `bench-network`, an earlier spelling.
fn current_spelling(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_some_and(|command| command == "bench-network") {
        arguments.splice(1..2, ["bench".into(), "--network".into()]);
    }
    arguments
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Quantize(options) => commands::quantize::run(&options),
        Command::Classify(options) => commands::classify::run(&options),
        Command::Detect(options) => commands::detect::run(&options),
        Command::Evaluate(options) => commands::evaluate::run(&options),
        Command::Finetune(options) => commands::finetune::run(&options),
        Command::Run(options) => commands::run::run(&options),
        Command::Inspect(options) => commands::inspect::run(&options),
        Command::Export(options) => commands::export::run(&options),
        Command::Yolov9 { command } => commands::yolov9::run(&command),
        Command::Devices => commands::devices::run(),
        Command::Verify(options) => commands::verify::run(&options),
        Command::Bench(options) => commands::bench::run(&options),
        Command::Isa(options) => commands::isa::run(&options),
        Command::Demo(options) => commands::demo::run(&options),
        Command::Compare(options) => commands::inspect::run(&options.into()),
        Command::IsaChild => machine_code::child().map(|()| ExitCode::SUCCESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_help_lists_every_subcommand_once() {
        let command = Cli::command();
        command.clone().debug_assert();
        let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
        let mut shown: Vec<&str> = shown.map(clap::Command::get_name).collect();
        let mut listed: Vec<&str> =
            help::GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        shown.sort_unstable();
        listed.sort_unstable();
        assert_eq!(shown, listed);
        assert!(listed.len() <= 13, "{listed:?}");
    }
}
