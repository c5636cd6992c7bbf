//! What `dsconv inspect --against` shows: a quantised network beside the floats that it came from, layer by layer.

use crate::display::{bytes, table};
use crate::network;
use crate::output::say;
use crate::samples::{self, Taker};
use anyhow::{Context, ensure};
use dsconv::shown;
use dsconv_net::program::StepOp;
use dsconv_net::{Graph, cpu};
use std::path::{Path, PathBuf};

/// Below this a layer's output says little about what it should be.
const WRONG_DB: f64 = 3.0;

/// The convolutions of two networks, compared by what they give.
pub(super) struct Comparison(Vec<Row>);

#[derive(serde::Serialize)]
struct Row {
    layer: String,
    /// The signal to noise of the layer's output, with what is fused behind it.
    snr_db: f64,
}

/// Runs both networks on the CPU reference, and compares what every convolution gives.
pub(super) fn compare_outputs(
    model_file: &Path,
    floats_file: &Path,
    inputs: &[PathBuf],
) -> anyhow::Result<Comparison> {
    let (model, floats) = (network::read(model_file)?, network::read(floats_file)?);
    let taker = Taker { model: &model, file: model_file };
    let inputs = samples::of_files(taker, inputs)?;
    let dims: Vec<&[usize]> = inputs.iter().map(|(dims, _)| dims.as_slice()).collect();
    let values: Vec<&[f32]> = inputs.iter().map(|(_, values)| values.as_slice()).collect();
    let outputs = |graph: &Graph, file: &Path| -> anyhow::Result<Vec<(String, Vec<f32>)>> {
        let program = graph.specialise(&dims).with_context(|| file.display().to_string())?;
        let needed = cpu::memory(&program);
        ensure!(
            needed <= cpu::MEMORY,
            "{}: this run needs {} for tensors, expected at most {}; smaller inputs or fewer at a time need less",
            file.display(),
            bytes(needed),
            bytes(cpu::MEMORY)
        );
        let mut outputs = Vec::new();
        cpu::run_with(&program, &values, |index, y| {
            let step = &program.steps()[index];
            if matches!(step.op, StepOp::Conv { .. }) {
                outputs.push((step.name.clone(), y.to_vec()));
            }
        })?;
        Ok(outputs)
    };
    let (got, wanted) = (outputs(&model.graph, model_file)?, outputs(&floats.graph, floats_file)?);
    let names = |layers: &[(String, Vec<f32>)]| {
        layers.iter().map(|(name, y)| (name.clone(), y.len())).collect::<Vec<_>>()
    };
    ensure!(
        names(&got) == names(&wanted),
        "{} and {} are not one network: their convolutions differ",
        model_file.display(),
        floats_file.display()
    );
    let rows = got.into_iter().zip(wanted).map(|((layer, got), (_, wanted))| Row {
        layer,
        snr_db: dsconv::signal_to_noise_db(&wanted, &got),
    });
    Ok(Comparison(rows.collect()))
}

impl Comparison {
    /// Prints a table, or JSON.
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            say!("{}", serde_json::to_string(&self.0)?);
            return Ok(());
        }
        let mut out = table(&["layer", "output SNR dB"]);
        for row in &self.0 {
            out.add_row([shown(&row.layer), format!("{:.1}", row.snr_db)]);
        }
        say!("{out}");
        match self.0.iter().find(|row| row.snr_db < WRONG_DB) {
            Some(row) => say!("The first layer below {WRONG_DB} dB is {}.", shown(&row.layer)),
            None => say!("No layer falls below {WRONG_DB} dB."),
        }
        Ok(())
    }
}
