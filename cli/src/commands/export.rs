//! `dsconv export`: a network as ONNX.

use crate::network;
use dsconv_net::onnx;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Export this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Write this file, *.onnx.
    output: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let model = network::read(&options.model)?;
    onnx::write(&model.graph, &options.output)?;
    println!("Wrote {}.", options.output.display());
    Ok(ExitCode::SUCCESS)
}
