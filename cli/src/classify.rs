//! `dsconv classify`: what is on a picture.

use crate::device::DeviceChoice;
use crate::display::table;
use crate::network::{self, Runner};
use crate::picture;
use crate::timing::ms;
use anyhow::Context;
use dsconv_net::gpu::{Activations, NetworkOptions};
use dsconv_net::picture::Class;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Pictures: PNG or JPEG.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Integer activations too, where weights are integers.
    #[arg(long)]
    int8: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Answer {
    picture: String,
    top: Vec<Class>,
}

pub(crate) fn run(choice: &DeviceChoice, options: &Options) -> anyhow::Result<ExitCode> {
    let model = network::read(&options.model)?;
    let how = model.picture_input().with_context(|| options.model.display().to_string())?;
    let device = network::open(choice)?;
    let activations = if options.int8 { Activations::Int8 } else { Activations::F32 };
    let dims = how.dims();
    let runner =
        Runner::new(&model.graph, &[&dims], device.as_ref(), NetworkOptions { activations })?;
    let mut answers = Vec::new();
    let mut out = table(&["picture", "1", "2", "3", "4", "5", "ms"]);
    for path in &options.pictures {
        let picture = picture::read(path)?;
        let (top, time) = network::classify(&runner, &model, &how, &picture)
            .with_context(|| path.display().to_string())?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let mut cells = vec![name];
        cells.extend((0..5).map(|i| top.get(i).map_or(String::new(), in_words)));
        cells.push(format!("{:.0}", ms(time)));
        out.add_row(cells);
        answers.push(Answer { picture: path.display().to_string(), top });
    }
    if let Some(device) = &device {
        device.save_cache()?;
    }
    match options.json {
        true => println!("{}", serde_json::to_string(&answers)?),
        false => {
            println!("on {}", network::describe(device.as_ref()));
            println!("{out}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Name and probability.
pub(crate) fn in_words(class: &Class) -> String {
    format!("{} {:.0}%", class.label, 100.0 * class.score)
}
