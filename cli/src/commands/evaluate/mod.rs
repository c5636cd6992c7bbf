//! `dsconv evaluate`: how many pictures classifiers get right, and how close they are to the network they were made
//! from.

mod chart;
mod pictures;

use crate::device::{self, Device, OnDevice};
use crate::display::{bytes, table};
use crate::network::{self, RunOptions, Runner};
use crate::output::say;
use crate::overwrite::{Overwrite, with_parts};
use crate::picture;
use crate::plot::PlotFile;
use crate::progress::progress;
use crate::timing::ms;
use anyhow::{Context, ensure};
use chart::{Chart, Point};
use dsconv::shown;
use dsconv_net::Model;
use dsconv_net::picture::{divergence, input as picture_input, probabilities, top};
use pictures::{Labelled, labelled};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// So many wrong answers are listed.
const LISTED: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take these networks: model files (*.safetensors), or ONNX files.
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Classify the pictures of this folder: of the folders in it, each with the name of a class; or pictures whose
    /// classes are numbers, from 0, in a file labels.csv there, with lines `PICTURE,CLASS`, or else the last number of
    /// each name, as in cat_12_281.jpg. Without classes --floats is needed.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Classify with the network they were quantised from too, and tell how far they agree with it.
    #[arg(long, value_name = "FILE")]
    floats: Option<PathBuf>,
    /// Draw divergence against size, with a line for the networks of each folder: *.svg or *.png.
    #[arg(long, value_name = "FILE", requires = "floats")]
    plot: Option<PlotFile>,
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

#[derive(serde::Serialize)]
struct Report {
    device: String,
    pictures: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    floats: Option<Network>,
    networks: Vec<Network>,
}

/// One network's answers.
#[derive(serde::Serialize)]
struct Network {
    model: PathBuf,
    /// Of its file, and of the files with its data.
    bytes: u64,
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    closeness: Option<Closeness>,
    answers: Vec<Answer>,
}

/// How close two networks are.
#[derive(serde::Serialize)]
struct Closeness {
    /// Pictures whose first class both networks agree on.
    agreement: usize,
    /// The mean Kullback-Leibler divergence of the network's probabilities from the float network's, in nats.
    divergence: f64,
}

impl Closeness {
    fn of(answers: &[Answer], floats: &[Answer]) -> anyhow::Result<Self> {
        let pairs = || answers.iter().zip(floats);
        for (a, f) in pairs() {
            let (got, expected) = (a.probabilities.len(), f.probabilities.len());
            ensure!(got == expected, "expected {expected} classes, as --floats has, got {got}");
        }
        let agreement = pairs().filter(|(a, f)| a.top.first() == f.top.first()).count();
        let sum: f64 = pairs().map(|(a, f)| divergence(&f.probabilities, &a.probabilities)).sum();
        Ok(Self { agreement, divergence: sum / answers.len() as f64 })
    }
}

/// The right answers of one network.
#[derive(serde::Serialize)]
struct Counts {
    /// Pictures whose class comes first; `None` where no classes are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    top1: Option<usize>,
    /// Pictures whose class is one of the first five.
    #[serde(skip_serializing_if = "Option::is_none")]
    top5: Option<usize>,
    /// The median time of a picture, with upload and download.
    ms: f64,
}

#[derive(serde::Serialize)]
struct Answer {
    picture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<usize>,
    /// The five classes of the highest scores.
    top: Vec<usize>,
    #[serde(skip)]
    probabilities: Vec<f64>,
    #[serde(skip)]
    time: Duration,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let Options { models, folder, floats, plot, .. } = options;
    // All are read before any runs, so that a mistake in the last name costs no time.
    let mut read = Vec::new();
    for path in models {
        let mut model = network::read(path)?;
        let preprocessing = model.picture_input().with_context(|| path.display().to_string())?;
        model.preprocessing = Some(preprocessing);
        read.push((path, model));
    }
    let labels = read.first().and_then(|(_, model)| model.labels.as_deref());
    let pictures = labelled(folder, labels)?;
    if let Some(plot) = plot {
        let inputs = models.iter().chain(floats).chain(pictures.iter().map(|(path, _)| path));
        plot.check(&options.overwrite, inputs.map(PathBuf::as_path))?;
    }
    ensure!(
        floats.is_some() || pictures.iter().all(|(_, class)| class.is_some()),
        "{}: the classes of its pictures are not known: expected --floats FILE to compare with, or a folder for each \
         class, or classes as the last number of each name, as cat_281.jpg, or in a file labels.csv",
        folder.display()
    );
    let preprocessing = read.first().and_then(|(_, model)| model.preprocessing.clone());
    for (path, model) in &read {
        ensure!(
            floats.is_none() || model.preprocessing == preprocessing,
            "{}: it takes its pictures in another way (size, crop or colours) than the first network, so that --floats \
             can't be compared with both; evaluate them apart",
            path.display()
        );
    }
    let float_model = match floats {
        None => None,
        // It sees the same pictures.
        Some(path) => Some((path, Model { preprocessing, ..network::read(path)? })),
    };
    let device = options.device.open_or_cpu()?;
    let evaluate = |path: &Path, model: &Model, device: Option<&Device>| {
        let answers = evaluate(path, model, &pictures, device, &options.how)?;
        let files = with_parts(path).into_iter();
        let bytes = files.filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum();
        let (counts, model) = (Counts::of(&answers), path.to_owned());
        anyhow::Ok(Network { model, bytes, counts, closeness: None, answers })
    };
    let in_floats = device.as_ref().map(Device::in_floats);
    let floats =
        float_model.map(|(path, model)| evaluate(path, &model, in_floats.as_ref())).transpose()?;
    let mut networks = Vec::new();
    for (path, model) in &read {
        let mut network = evaluate(path, model, device.as_ref())?;
        if let Some(floats) = &floats {
            let in_file = || path.display().to_string();
            let closeness = Closeness::of(&network.answers, &floats.answers);
            network.closeness = Some(closeness.with_context(in_file)?);
        }
        networks.push(network);
    }
    if let Some(device) = &device {
        device.save_cache();
    }
    let device = device::describe(device.as_ref());
    let report = Report { device, pictures: pictures.len(), floats, networks };
    if let Some(plot) = plot {
        plot.write(&report.chart())?;
    }
    match options.json {
        true => say!("{}", serde_json::to_string(&report)?),
        false => report.print(labels),
    }
    Ok(ExitCode::SUCCESS)
}

/// Classifies the pictures.
fn evaluate(
    path: &Path,
    model: &Model,
    pictures: &[Labelled],
    device: Option<&Device>,
    options: &RunOptions,
) -> anyhow::Result<Vec<Answer>> {
    let what = path.display().to_string();
    let preprocessing = model.picture_input().with_context(|| what.clone())?;
    let runner = Runner::new(&model.graph, &[&preprocessing.dims()], device, options)
        .with_context(|| what.clone())?;
    let program = runner.program();
    let classes: usize = program.outputs().iter().map(|&id| program.value(id).elements()).sum();
    let bar = progress(pictures.len())?;
    let mut answers = Vec::new();
    for (path, class) in pictures {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bar.set_message(format!("{}: {}", shown(&what), shown(&name)));
        if let Some(class) = class {
            ensure!(
                *class < classes,
                "{}: expected a class below {classes}, as many as {what} has, got {class}",
                path.display()
            );
        }
        let input = picture_input(&picture::read(path)?, &preprocessing)?;
        let (outputs, time) = runner.run(&[&input])?;
        let in_file = || path.display().to_string();
        let scores = outputs.concat();
        let top = top(&scores, None, 5).with_context(in_file)?;
        let top = top.iter().map(|class| class.index).collect();
        let probabilities = probabilities(&scores).with_context(in_file)?;
        answers.push(Answer { picture: name, class: *class, top, probabilities, time });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(answers)
}

impl Counts {
    fn of(answers: &[Answer]) -> Self {
        let known = answers.iter().all(|answer| answer.class.is_some());
        let right = |first: usize| {
            let right = |a: &&Answer| a.top.iter().take(first).any(|&c| Some(c) == a.class);
            known.then(|| answers.iter().filter(right).count())
        };
        let mut times: Vec<Duration> = answers.iter().map(|answer| answer.time).collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Self { top1: right(1), top5: right(5), ms: ms(median) }
    }
}

impl Report {
    fn print(&self, labels: Option<&[String]>) {
        say!("{} pictures, on {}", self.pictures, self.device);
        let close = self.floats.is_some();
        let mut header = vec!["network", "file", "first right", "in the first five"];
        if close {
            header.extend(["same first class", "divergence"]);
        }
        header.push("ms a picture");
        let mut out = table(&header);
        let of = |count: Option<usize>| {
            let share = |count| 100.0 * count as f64 / self.pictures as f64;
            count.map_or_else(|| "-".into(), |count| format!("{count} ({:.0}%)", share(count)))
        };
        for network in self.floats.iter().chain(&self.networks) {
            let Network { model, counts, closeness, .. } = network;
            let name = shown(&model.display().to_string()).to_string();
            let mut row = vec![name, bytes(network.bytes), of(counts.top1), of(counts.top5)];
            if close {
                let agreement = closeness.as_ref().map(|c| c.agreement);
                row.push(of(agreement));
                let divergence = |c: &Closeness| format!("{:.4}", c.divergence);
                row.push(closeness.as_ref().map_or("-".into(), divergence));
            }
            row.push(format!("{:.1}", counts.ms));
            out.add_row(row);
        }
        say!("{out}");
        if close {
            say!("Same first class as the first network, and the mean divergence (KL) from it.");
        }
        if let [network] = &self.networks[..] {
            network.print_wrong(labels);
        }
    }

    /// Divergence against size.
    fn chart(&self) -> Chart {
        let point = |network: &Network| {
            let folder = network.model.parent().and_then(Path::file_name);
            let text = |name: Option<&std::ffi::OsStr>| {
                shown(&name.unwrap_or_default().to_string_lossy()).to_string()
            };
            let divergence = network.closeness.as_ref()?.divergence;
            let (series, name) = (text(folder), text(network.model.file_stem()));
            Some(Point { series, name, bytes: network.bytes, divergence })
        };
        let points = self.networks.iter().filter_map(point).collect();
        Chart { pictures: self.pictures, points }
    }
}

impl Network {
    /// Lists the wrong answers, where right ones are known.
    fn print_wrong(&self, labels: Option<&[String]>) {
        let name = |class: usize| {
            labels.and_then(|labels| labels.get(class)).map_or(class.to_string(), Clone::clone)
        };
        let is_wrong = |a: &&Answer| a.class.is_some() && a.top.first() != a.class.as_ref();
        let wrong: Vec<&Answer> = self.answers.iter().filter(is_wrong).collect();
        if wrong.is_empty() {
            return;
        }
        let mut out = table(&["wrong", "is", "taken for"]);
        for answer in wrong.iter().take(LISTED) {
            let taken = answer.top.first().map_or(String::new(), |&class| name(class));
            let is = answer.class.map_or(String::new(), name);
            out.add_row([answer.picture.clone(), is, taken]);
        }
        say!("{out}");
        if wrong.len() > LISTED {
            say!("and {} more (--json has all)", wrong.len() - LISTED);
        }
    }
}
