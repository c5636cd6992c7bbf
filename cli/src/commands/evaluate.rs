//! `dsconv evaluate`: how many pictures a classifier gets right, and how close it is to the network it was made from.

use crate::device::{self, Device, OnDevice};
use crate::display::table;
use crate::network::{self, Precision, Runner};
use crate::output::say;
use crate::picture;
use crate::progress::progress;
use crate::timing::ms;
use anyhow::{Context, ensure};
use dsconv::shown;
use dsconv_net::Model;
use dsconv_net::picture::{input as picture_input, probabilities, top};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// So many wrong answers are listed.
const LISTED: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Take this network: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Classify the pictures of this folder. Their classes are numbers, from 0: in a file labels.csv there, with lines
    /// `PICTURE,CLASS`, or else the last number of each name, as in cat_12_281.jpg. Without classes --floats is needed.
    folder: PathBuf,
    /// Classify with the network it was quantised from too, and tell how far the two agree.
    #[arg(long, value_name = "FILE")]
    floats: Option<PathBuf>,
    #[command(flatten)]
    device: OnDevice,
    #[command(flatten)]
    precision: Precision,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    device: String,
    pictures: usize,
    #[serde(flatten)]
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    floats: Option<Counts>,
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
    fn of(answers: &[Answer], floats: &[Answer]) -> Self {
        let pairs = || answers.iter().zip(floats);
        let agreement = pairs().filter(|(a, f)| a.top.first() == f.top.first()).count();
        let sum: f64 = pairs().map(|(a, f)| divergence(&f.probabilities, &a.probabilities)).sum();
        Self { agreement, divergence: sum / answers.len() as f64 }
    }
}

/// The Kullback-Leibler divergence of `q` from `p`, in nats.
fn divergence(p: &[f64], q: &[f64]) -> f64 {
    // A probability that f32 rounds to 0 counts as the smallest one it holds.
    let least = f64::from(f32::MIN_POSITIVE);
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q.max(least)).ln()).sum()
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
    let mut model = network::read(&options.model)?;
    let preprocessing =
        model.picture_input().with_context(|| options.model.display().to_string())?;
    // Both networks see the same pictures.
    model.preprocessing = Some(preprocessing.clone());
    let floats = match &options.floats {
        None => None,
        Some(path) => Some(Model { preprocessing: Some(preprocessing), ..network::read(path)? }),
    };
    let pictures = labelled(&options.folder)?;
    ensure!(
        floats.is_some() || pictures.iter().all(|(_, class)| class.is_some()),
        "{}: the classes of its pictures are not known: expected --floats FILE to compare with, or classes as the last \
         number of each name, as cat_281.jpg, or in a file labels.csv",
        options.folder.display()
    );
    let device = options.device.open_or_cpu()?;
    let evaluate = |model: &Model, what: &str| {
        evaluate(model, what, &pictures, device.as_ref(), options.precision.options())
    };
    let answers = evaluate(&model, "the network")?;
    let floats = floats.map(|floats| evaluate(&floats, "the float network")).transpose()?;
    if let Some(device) = &device {
        device.save_cache();
    }
    let closeness = floats.as_ref().map(|floats| Closeness::of(&answers, floats));
    let report = Report {
        device: device::describe(device.as_ref()),
        pictures: answers.len(),
        counts: Counts::of(&answers),
        floats: floats.as_deref().map(Counts::of),
        closeness,
        answers,
    };
    match options.json {
        true => say!("{}", serde_json::to_string(&report)?),
        false => report.print(model.labels.as_deref()),
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture and its class, where that is known.
type Labelled = (PathBuf, Option<usize>);

/// Classifies the pictures.
fn evaluate(
    model: &Model,
    what: &str,
    pictures: &[Labelled],
    device: Option<&Device>,
    options: dsconv_net::gpu::NetworkOptions,
) -> anyhow::Result<Vec<Answer>> {
    let preprocessing = model.picture_input()?;
    let runner = Runner::new(&model.graph, &[&preprocessing.dims()], device, options)?;
    let program = runner.program();
    let classes: usize = program.outputs().iter().map(|&id| program.value(id).elements()).sum();
    let bar = progress(pictures.len())?;
    let mut answers = Vec::new();
    for (path, class) in pictures {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        bar.set_message(format!("{what}: {}", shown(&name)));
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

/// The pictures of a folder with their classes. Where there is no list, and no name ends in a number, none is known.
fn labelled(folder: &Path) -> anyhow::Result<Vec<Labelled>> {
    let pictures = picture::of_folder(folder)?;
    let list = folder.join("labels.csv");
    let known = match std::fs::read_to_string(&list) {
        Ok(text) => Some(classes(&text).with_context(|| list.display().to_string())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(list.display().to_string()),
    };
    let numbered =
        |path: &PathBuf| last_number(&path.file_name().unwrap_or_default().to_string_lossy());
    if known.is_none() && pictures.iter().all(|path| numbered(path).is_none()) {
        return Ok(pictures.into_iter().map(|path| (path, None)).collect());
    }
    let class = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let class = match &known {
            Some(known) => known.get(&*name).copied().with_context(|| {
                format!("{}: no line for the picture {name}", list.display())
            })?,
            None => numbered(&path).with_context(|| {
                format!(
                    "{}: expected a name with its class as the last number, as cat_281.jpg, or a file {}",
                    path.display(),
                    list.display()
                )
            })?,
        };
        Ok((path, Some(class)))
    };
    pictures.into_iter().map(class).collect()
}

/// The lines `PICTURE,CLASS` of a list.
fn classes(text: &str) -> anyhow::Result<HashMap<String, usize>> {
    let class = |(number, line): (usize, &str)| {
        let parsed = line
            .rsplit_once(',')
            .and_then(|(name, class)| Some((name.trim().to_owned(), class.trim().parse().ok()?)));
        parsed.with_context(|| {
            format!("line {}: expected PICTURE,CLASS, as cat.jpg,281, got {line:?}", number + 1)
        })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(class).collect()
}

/// The number that a name without its extension ends in.
fn last_number(name: &str) -> Option<usize> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let digits = stem.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    stem[digits..].parse().ok()
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
        let mut out = table(&["", "first right", "in the first five", "ms a picture"]);
        let mut row = |name: &str, counts: &Counts| {
            let of = |count: Option<usize>| {
                let share = |count| 100.0 * count as f64 / self.pictures as f64;
                count.map_or_else(|| "-".into(), |count| format!("{count} ({:.0}%)", share(count)))
            };
            out.add_row([
                name.to_owned(),
                of(counts.top1),
                of(counts.top5),
                format!("{:.1}", counts.ms),
            ]);
        };
        row("network", &self.counts);
        if let Some(floats) = &self.floats {
            row("float network", floats);
        }
        say!("{out}");
        if let Some(Closeness { agreement, divergence }) = &self.closeness {
            say!("Both put the same class first on {agreement} of {}.", self.pictures);
            say!("Mean divergence (KL) from the float network: {divergence:.4}");
        }
        let name = |class: usize| {
            labels.and_then(|labels| labels.get(class)).map_or(class.to_string(), Clone::clone)
        };
        let wrong: Vec<&Answer> = self
            .answers
            .iter()
            .filter(|a| a.class.is_some() && a.top.first() != a.class.as_ref())
            .collect();
        if !wrong.is_empty() {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_from_names_and_lists() {
        assert_eq!(last_number("imagenet_03_990.jpg"), Some(990));
        assert_eq!(last_number("7.png"), Some(7));
        assert_eq!(last_number("cat.png"), None);
        assert_eq!(last_number("cat_12b.png"), None);
        let list = classes("cat.jpg,281\n\n a, b.png , 3\n").unwrap();
        assert_eq!((list["cat.jpg"], list["a, b.png"]), (281, 3));
        let error = classes("cat.jpg,281\ncat.jpg").unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
