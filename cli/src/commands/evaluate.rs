//! `dsconv evaluate`: how many labelled pictures a classifier gets right.

use crate::device::{self, Device, OnDevice};
use crate::display::table;
use crate::network::{self, Precision, Runner};
use crate::picture;
use crate::progress::progress;
use crate::timing::ms;
use anyhow::{Context, ensure};
use dsconv_net::Model;
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
    /// `PICTURE,CLASS`, or else the last number of each name, as in cat_12_281.jpg.
    folder: PathBuf,
    /// Classify with the network it was quantised from too, and count on how many pictures the two agree.
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
    /// Pictures whose first class both networks agree on.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<usize>,
    answers: Vec<Answer>,
}

/// The right answers of one network.
#[derive(serde::Serialize)]
struct Counts {
    /// Pictures whose class comes first.
    top1: usize,
    /// Pictures whose class is one of the first five.
    top5: usize,
    /// The median time of a picture, with upload and download.
    ms: f64,
}

#[derive(serde::Serialize)]
struct Answer {
    picture: String,
    class: usize,
    /// The five classes of the highest scores.
    top: Vec<usize>,
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
    let device = options.device.open_or_cpu()?;
    let evaluate = |model: &Model, what: &str| {
        evaluate(model, what, &pictures, device.as_ref(), options.precision.options())
    };
    let answers = evaluate(&model, "the network")?;
    let floats = floats.map(|floats| evaluate(&floats, "the float network")).transpose()?;
    if let Some(device) = &device {
        device.save_cache();
    }
    let agreement = floats.as_ref().map(|floats| {
        answers
            .iter()
            .zip(floats)
            .filter(|(ours, theirs)| ours.top.first() == theirs.top.first())
            .count()
    });
    let report = Report {
        device: device::describe(device.as_ref()),
        pictures: answers.len(),
        counts: Counts::of(&answers),
        floats: floats.as_deref().map(Counts::of),
        agreement,
        answers,
    };
    match options.json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => report.print(model.labels.as_deref()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Classifies the pictures.
fn evaluate(
    model: &Model,
    what: &str,
    pictures: &[(PathBuf, usize)],
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
        bar.set_message(format!("{what}: {name}"));
        ensure!(
            *class < classes,
            "{}: expected a class below {classes}, as many as {what} has, got {class}",
            path.display()
        );
        let picture = picture::read(path)?;
        let (top, time) = network::classify(&runner, model, &preprocessing, &picture)
            .with_context(|| path.display().to_string())?;
        let top = top.iter().map(|class| class.index).collect();
        answers.push(Answer { picture: name, class: *class, top, time });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(answers)
}

/// The pictures of a folder with their classes.
fn labelled(folder: &Path) -> anyhow::Result<Vec<(PathBuf, usize)>> {
    let pictures = picture::of_folder(folder)?;
    let list = folder.join("labels.csv");
    let known = match std::fs::read_to_string(&list) {
        Ok(text) => Some(classes(&text).with_context(|| list.display().to_string())?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(list.display().to_string()),
    };
    let class = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let class = match &known {
            Some(known) => known.get(&*name).copied().with_context(|| {
                format!("{}: no line for the picture {name}", list.display())
            })?,
            None => last_number(&name).with_context(|| {
                format!(
                    "{}: expected a name with its class as the last number, as cat_281.jpg, or a file {}",
                    path.display(),
                    list.display()
                )
            })?,
        };
        Ok((path, class))
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
        let right = |first: usize| {
            answers.iter().filter(|a| a.top.iter().take(first).any(|&c| c == a.class)).count()
        };
        let mut times: Vec<Duration> = answers.iter().map(|answer| answer.time).collect();
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Self { top1: right(1), top5: right(5), ms: ms(median) }
    }
}

impl Report {
    fn print(&self, labels: Option<&[String]>) {
        println!("{} pictures, on {}", self.pictures, self.device);
        let mut out = table(&["", "first right", "in the first five", "ms a picture"]);
        let mut row = |name: &str, counts: &Counts| {
            let of = |count: usize| {
                format!("{count} ({:.0}%)", 100.0 * count as f64 / self.pictures as f64)
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
        println!("{out}");
        if let Some(agreement) = self.agreement {
            println!("Both put the same class first on {agreement} of {}.", self.pictures);
        }
        let name = |class: usize| {
            labels.and_then(|labels| labels.get(class)).map_or(class.to_string(), Clone::clone)
        };
        let wrong: Vec<&Answer> =
            self.answers.iter().filter(|a| a.top.first() != Some(&a.class)).collect();
        if !wrong.is_empty() {
            let mut out = table(&["wrong", "is", "taken for"]);
            for answer in wrong.iter().take(LISTED) {
                let taken = answer.top.first().map_or(String::new(), |&class| name(class));
                out.add_row([answer.picture.clone(), name(answer.class), taken]);
            }
            println!("{out}");
            if wrong.len() > LISTED {
                println!("and {} more (--json has all)", wrong.len() - LISTED);
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
