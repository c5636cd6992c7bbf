//! `dsconv compare`: a quantised network against the floats that it came from, layer by layer.

use crate::display::table;
use crate::{network, picture};
use anyhow::{Context, ensure};
use dsconv_net::program::StepOp;
use dsconv_net::{Graph, cpu};
use std::path::PathBuf;
use std::process::ExitCode;

/// From here on a layer's output says little about what it should be.
const WRONG_DB: f64 = 3.0;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The quantised network: a model file or an ONNX file.
    model: PathBuf,
    /// The float network.
    floats: PathBuf,
    /// Pictures: PNG or JPEG. Of several, errors are those of all together.
    #[arg(long, required = true, num_args = 1.., value_name = "PICTURE")]
    input: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Row {
    layer: String,
    /// Of the layer's output, with what is fused behind it.
    snr_db: f64,
}

/// Runs both on the CPU reference, and compares what every convolution gives.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (model, floats) = (network::read(&options.model)?, network::read(&options.floats)?);
    let how = model.picture_input().with_context(|| options.model.display().to_string())?;
    let (dims, input) = picture::batch(&options.input, &how)?;
    let outputs = |graph: &Graph| -> anyhow::Result<Vec<(String, Vec<f32>)>> {
        let program = graph.specialise(&[&dims])?;
        let mut outputs = Vec::new();
        cpu::run_with(&program, &[&input], |index, y| {
            let step = &program.steps()[index];
            if matches!(step.op, StepOp::Conv { .. }) {
                outputs.push((step.name.clone(), y.to_vec()));
            }
        })?;
        Ok(outputs)
    };
    let (got, wanted) = (outputs(&model.graph)?, outputs(&floats.graph)?);
    let names = |layers: &[(String, Vec<f32>)]| {
        layers.iter().map(|(name, y)| (name.clone(), y.len())).collect::<Vec<_>>()
    };
    ensure!(
        names(&got) == names(&wanted),
        "{} and {} are not one network: their convolutions differ",
        options.model.display(),
        options.floats.display()
    );
    let rows: Vec<Row> = got
        .into_iter()
        .zip(wanted)
        .map(|((layer, got), (_, wanted))| Row {
            layer,
            snr_db: dsconv::signal_to_noise_db(&wanted, &got),
        })
        .collect();
    if options.json {
        println!("{}", serde_json::to_string(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = table(&["layer", "output SNR dB"]);
    for row in &rows {
        out.add_row([row.layer.clone(), format!("{:.1}", row.snr_db)]);
    }
    println!("{out}");
    match rows.iter().find(|row| row.snr_db < WRONG_DB) {
        Some(row) => println!("The first layer below {WRONG_DB} dB is {}.", row.layer),
        None => println!("No layer falls below {WRONG_DB} dB."),
    }
    Ok(ExitCode::SUCCESS)
}
