//! `dsconv classify`: what is on a picture.

use crate::device::{self, OnDevice};
use crate::display::table;
use crate::network::{self, RunOptions, Runner};
use crate::output::say;
use crate::picture;
use crate::progress::progress;
use crate::timing::ms;
use anyhow::Context;
use dsconv::shown;
use dsconv_net::picture::Class;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Classify these pictures, PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    #[command(flatten)]
    device: OnDevice,
    #[command(flatten)]
    how: RunOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Answer {
    picture: String,
    top: Vec<Class>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let model = network::read(&options.model)?;
    let preprocessing =
        model.picture_input().with_context(|| options.model.display().to_string())?;
    let device = options.device.open_or_cpu()?;
    let dims = preprocessing.dims();
    let runner = Runner::new(&model.graph, &[&dims], device.as_ref(), &options.how)
        .with_context(|| options.model.display().to_string())?;
    let mut answers = Vec::new();
    let mut out = table(&["picture", "1", "2", "3", "4", "5", "ms"]);
    let bar = progress(options.pictures.len())?;
    for path in &options.pictures {
        bar.set_message(shown(&path.display().to_string()));
        let picture = picture::read(path)?;
        let (top, time) = network::classify(&runner, &model, &preprocessing, &picture)
            .with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut cells = vec![name];
        cells.extend((0..5).map(|i| top.get(i).map_or(String::new(), in_words)));
        cells.push(format!("{:.0}", ms(time)));
        out.add_row(cells);
        answers.push(Answer { picture: path.display().to_string(), top });
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(device) = &device {
        device.save_cache();
    }
    match options.json {
        true => say!("{}", serde_json::to_string(&answers)?),
        false => {
            say!("on {}", device::describe(device.as_ref()));
            say!("{out}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The class's name and probability.
fn in_words(class: &Class) -> String {
    format!("{} {:.0}%", class.label, 100.0 * class.score)
}
