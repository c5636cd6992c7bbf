//! `dsconv detect`: objects on pictures, as boxes.

use crate::device::{self, OnDevice};
use crate::display::table;
use crate::network::{self, RunOptions, Runner};
use crate::output::say;
use crate::overwrite::{Kind, Overwrite};
use crate::progress::progress;
use crate::timing::ms;
use crate::{carried, draw, picture};
use anyhow::{Context, bail, ensure};
use comfy_table::{CellAlignment, Table};
use dsconv::shown;
use dsconv_net::detect::{Detection, Detector, Head};
use dsconv_net::model::Preprocessing;
use dsconv_net::{Model, Placement};
use image::{ImageFormat, RgbImage};
use std::collections::HashSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Find objects on these pictures, PNG, JPEG, WebP, GIF, BMP or TIFF.
    #[arg(required = true)]
    pictures: Vec<PathBuf>,
    /// Read the network's output in this way, where neither the model file nor the output's dims tell which.
    #[arg(long, value_enum)]
    head: Option<HeadName>,
    /// Leave out detections with lower scores than this, 0 to 1 [default: the model's, or 0.25].
    #[arg(long, value_name = "SCORE")]
    conf: Option<f32>,
    /// Keep only the best of boxes of one class that share more than this of their union, 0 to 1 [default: the
    /// model's, or 0.45].
    #[arg(long, value_name = "SHARE")]
    iou: Option<f32>,
    /// Keep at most so many detections of a picture, the best [default: the model's, or 300].
    #[arg(long, value_name = "COUNT")]
    max_detections: Option<usize>,
    /// Let a box be of several classes.
    #[arg(long)]
    multi_label: bool,
    /// Take the names of the classes from this file, one a line [default: the model's, or COCO's where there are 80].
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Write the picture with its boxes to this PNG, or several pictures to this folder.
    #[arg(long, value_name = "OUT.png|FOLDER")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    overwrite: Overwrite,
    #[command(flatten)]
    device: OnDevice,
    #[command(flatten)]
    how: RunOptions,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum HeadName {
    /// The output is (N, 4 + classes, anchors), with boxes in pixels.
    Yolov9,
    /// The output is (N, anchors, 5 + classes), with boxes in cells.
    Yolox,
}

/// The detections on a picture.
#[derive(serde::Serialize)]
struct Answer {
    picture: String,
    detections: Vec<Found>,
}

#[derive(serde::Serialize)]
struct Found {
    class: usize,
    label: String,
    score: f32,
    /// Left, top, right and bottom in the picture's pixels.
    #[serde(rename = "box")]
    bbox: [f32; 4],
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let drawings = drawings(options.draw.as_deref(), &options.pictures)?;
    for drawing in &drawings {
        let inputs = options.pictures.iter().chain([&options.model]).chain(&options.labels);
        options.overwrite.check(drawing, Kind::Png, inputs.map(PathBuf::as_path))?;
    }
    let mut model = network::read(&options.model)?;
    let name = || options.model.display().to_string();
    if let Some(head) = options.head {
        let usual = Detector::new(head.into());
        model.detection =
            Some(model.detection.map_or(usual, |d| Detector { head: head.into(), ..d }));
    }
    let preprocessing = model.picture_input().with_context(name)?;
    let detector = detector(&model, &preprocessing, options).with_context(name)?;
    let device = options.device.open_or_cpu()?;
    let runner = Runner::new(&model.graph, &[&preprocessing.dims()], device.as_ref(), &options.how)
        .with_context(name)?;
    let program = runner.program();
    let [output] = program.outputs() else {
        bail!("{}: expected a network with one output, got {}", name(), program.outputs().len());
    };
    let dims = &program.value(*output).dims;
    let labels = labels(&model, options.labels.as_deref(), detector.head.classes(dims)?)?;

    let (mut answers, mut total) = (Vec::new(), Duration::ZERO);
    let bar = progress(options.pictures.len())?;
    for (index, path) in options.pictures.iter().enumerate() {
        let name = path.display().to_string();
        bar.set_message(shown(&name));
        let mut picture = picture::read(path)?;
        let input = dsconv_net::picture::input(&picture, &preprocessing)?;
        let (outputs, time) = runner.run(&[&input])?;
        total += time;
        let placement = Placement::new(picture.dimensions().into(), &preprocessing);
        let detections = detector.detect(&outputs[0], dims, preprocessing.size)?.remove(0);
        let detections: Vec<Found> = detections
            .into_iter()
            .filter_map(|detection| detection.on_picture(&placement))
            .map(|Detection { class, score, bbox }| Found {
                class,
                label: labels[class].clone(),
                score,
                bbox,
            })
            .collect();
        if let Some(drawing) = drawings.get(index) {
            draw::draw(
                &mut picture,
                detections.iter().map(|found| draw::Boxed {
                    class: found.class,
                    bbox: found.bbox,
                    label: format!("{} {:.2}", found.label, found.score),
                }),
            );
            write_png(&picture, drawing)?;
        }
        answers.push(Answer { picture: name, detections });
        bar.inc(1);
    }
    bar.finish_and_clear();
    if let Some(device) = &device {
        device.save_cache();
    }
    if options.json {
        say!("{}", serde_json::to_string(&answers)?);
        return Ok(ExitCode::SUCCESS);
    }
    say!("on {}", device::describe(device.as_ref()));
    say!("{}", in_rows(&answers));
    say!("{:.0} ms a picture", ms(total) / answers.len() as f64);
    for drawing in &drawings {
        say!("Wrote {}.", drawing.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The model's detector, with what the user wants otherwise.
fn detector(
    model: &Model,
    preprocessing: &Preprocessing,
    options: &Options,
) -> anyhow::Result<Detector> {
    let own = model.detector(preprocessing.size).context(
        "its output tells no detection head, expected (N, 4 + classes, anchors) or (N, anchors, 5 + classes) with an \
         anchor for each cell of 8, 16 and 32 pixels; --head names another's",
    )?;
    let detector = Detector {
        confidence: options.conf.unwrap_or(own.confidence),
        iou: options.iou.unwrap_or(own.iou),
        max_detections: options.max_detections.unwrap_or(own.max_detections),
        multi_label: options.multi_label || own.multi_label,
        ..own
    };
    detector.validate()?;
    Ok(detector)
}

/// A name for each class: those of the file, of the model, or COCO's where the number of classes fits.
fn labels(model: &Model, file: Option<&Path>, classes: usize) -> anyhow::Result<Vec<String>> {
    if let Some(path) = file {
        let labels = network::read_labels(path)?;
        let (path, got) = (path.display(), labels.len());
        ensure!(got == classes, "{path}: expected the names of {classes} classes, got {got}");
        return Ok(labels);
    }
    let coco: Vec<String> = carried::COCO.lines().map(String::from).collect();
    let known = model.labels.as_ref().unwrap_or(&coco);
    let usable = known.len() == classes;
    let label = |class: usize| if usable { known[class].clone() } else { format!("class {class}") };
    Ok((0..classes).map(label).collect())
}

/// The files that the pictures are drawn to: none, one, or those of a folder.
fn drawings(to: Option<&Path>, pictures: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let Some(to) = to else { return Ok(Vec::new()) };
    if pictures.len() == 1 && !to.is_dir() {
        return Ok(vec![to.into()]);
    }
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let mut taken = HashSet::new();
    let drawing = |picture: &PathBuf| {
        let mut name = picture.file_stem().unwrap_or_default().to_owned();
        name.push(".png");
        let path = to.join(name);
        ensure!(taken.insert(path.clone()), "{}: two pictures of that name", path.display());
        Ok(path)
    };
    pictures.iter().map(drawing).collect()
}

/// Writes a picture, beside its place and then renamed.
fn write_png(picture: &RgbImage, path: &Path) -> anyhow::Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(dsconv::file::write(path, bytes.get_ref())?)
}

/// A row for each detection.
fn in_rows(answers: &[Answer]) -> Table {
    let mut rows = table(&["picture", "class", "score", "left", "top", "right", "bottom"]);
    if let Some(column) = rows.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Left);
    }
    for Answer { picture, detections } in answers {
        let path = Path::new(picture);
        let picture = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        if detections.is_empty() {
            rows.add_row([&picture, "nothing"]);
        }
        for Found { label, score, bbox, .. } in detections {
            let mut cells = vec![picture.to_string(), label.clone(), format!("{score:.2}")];
            cells.extend(bbox.map(|side| format!("{side:.1}")));
            rows.add_row(cells);
        }
    }
    rows
}

impl From<HeadName> for Head {
    fn from(name: HeadName) -> Self {
        match name {
            HeadName::Yolov9 => Self::Yolov9,
            HeadName::Yolox => Self::Yolox,
        }
    }
}
