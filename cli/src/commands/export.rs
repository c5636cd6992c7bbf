//! `dsconv export`: a network as ONNX.

use crate::network;
use crate::output::say;
use crate::overwrite::{Kind, Overwrite};
use dsconv_net::onnx;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Export this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Write this file, *.onnx.
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let model = network::read(&options.model)?;
    options.overwrite.check(&options.output, Kind::Onnx, [options.model.as_path()])?;
    onnx::write(&model.graph, &options.output)?;
    say!("Wrote {}.", options.output.display());
    Ok(ExitCode::SUCCESS)
}
