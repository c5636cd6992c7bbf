//! `dsconv finetune`: a network learns new classes, or what another network answers.

mod chart;
mod learner;
mod pictures;
mod teach;
mod whole;

use crate::classes::Classes;
use crate::device::{self, Device, OnDevice};
use crate::display::bytes;
use crate::network::{self, RunOptions, Runner};
use crate::output::{say, tell};
use crate::overwrite::{Kind, Overwrite};
use crate::picture;
use crate::plot::PlotFile;
use anyhow::{Context, bail, ensure};
use chart::Chart;
use dsconv_net::augment::Augmentation;
use dsconv_net::train::{Course, Head, Learned, Loss, OptimizerOptions, Split, Training, split};
use dsconv_net::{Graph, Model, QuantizeOptions};
use learner::{HeadLearner, Targets};
use pictures::Pictures;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use teach::{Plan, teach};
use whole::WholeLearner;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Begin with this classifier: a model file (*.safetensors), or an ONNX file.
    model: PathBuf,
    /// Learn from the folders in this one, each with pictures of the class that it is named after; or, with --teacher,
    /// from pictures of any kind.
    folder: PathBuf,
    /// Write this model file, *.safetensors.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    overwrite: Overwrite,
    /// Learn what this network answers, as the float network, and no classes.
    #[arg(long, value_name = "FILE")]
    teacher: Option<PathBuf>,
    /// Make the input so high and wide, in pixels, whatever the file says.
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,
    /// Go over the pictures so often; fewer times where nothing is gained any more.
    #[arg(long, value_name = "COUNT", default_value_t = 60)]
    epochs: usize,
    /// Learn from so many pictures in a step.
    #[arg(long, value_name = "PICTURES", default_value_t = 32)]
    batch: usize,
    /// Let these parts learn. The last layer alone is quick; with others each step runs the whole network and back.
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_enum, default_value = "head")]
    train: Vec<Part>,
    /// Move values by at most about this share of their size in a step [default: 0.1 for the head alone, else 0.02].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Change the pictures each time, in these ways; each epoch then takes as long as the first.
    #[arg(long, value_name = "WAYS", value_delimiter = ',', value_enum)]
    augment: Vec<Change>,
    /// Hold out this share of the pictures, 0 to 0.9, to judge by.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    held_out: f64,
    /// Stop after so many epochs without a gain.
    #[arg(long, value_name = "EPOCHS", default_value_t = 10)]
    patience: usize,
    /// Choose what is held out, the order and the changes by this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Keep the training in this file, *.safetensors, after each epoch, and go on from it where it is there.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Draw losses and right answers after each epoch: *.svg or *.png.
    #[arg(long, value_name = "FILE")]
    plot: Option<PlotFile>,
    #[command(flatten)]
    device: OnDevice,
    #[command(flatten)]
    how: RunOptions,
}

/// A part of a network that learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The last layer.
    Head,
    /// The scales of blocks, alpha and KDS bias; integers stay as they are.
    Alpha,
    /// Biases.
    Bias,
    /// Depthwise weights, in floats.
    Depthwise,
    /// All other weights in floats.
    Floats,
}

/// A way in which pictures are changed.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Change {
    /// Every other one is mirrored. Not for letters and digits.
    Flip,
    /// A part of at least four fifths of each side is taken.
    Crop,
    /// Brightness, contrast and the balance of colours vary by up to a fifth.
    Colour,
}

/// The pictures to learn from, and their classes where those are known.
struct Folder {
    paths: Vec<PathBuf>,
    /// The class of each picture.
    classes: Vec<usize>,
    /// The names of the classes; none with a teacher.
    names: Option<Vec<String>>,
}

impl Folder {
    /// The same classes in the order of these labels, if they are those.
    fn in_order_of(mut self, labels: Option<&[String]>) -> Self {
        let (Some(names), Some(labels)) = (&self.names, labels) else { return self };
        let place = |name| labels.iter().position(|label| label == name);
        let places: Option<Vec<usize>> = names.iter().map(place).collect();
        if let Some(places) = places.filter(|places| places.len() == labels.len()) {
            self.classes.iter_mut().for_each(|class| *class = places[*class]);
            self.names = Some(labels.to_vec());
        }
        self
    }
}

/// The most pictures that the device takes at a time.
const AT_A_TIME: usize = 8;

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    check(options)?;
    let in_model = || options.model.display().to_string();
    let mut model = network::read(&options.model)?;
    let size = match options.size {
        Some(size) => [size; 2],
        None => model.picture_input().with_context(in_model)?.size,
    };
    model = model.with_picture_size(size).with_context(in_model)?;
    let head = Head::of(&model.graph).with_context(in_model)?;
    let folder = read_folder(options)?.in_order_of(model.labels.as_deref());
    let inputs = [&options.model].into_iter().chain(&options.teacher).chain(&folder.paths);
    let inputs = || inputs.clone().map(PathBuf::as_path);
    options.overwrite.check(&options.output, Kind::Safetensors, inputs())?;
    if let Some(path) = &options.resume {
        let output = options.output.display();
        ensure!(
            *path != options.output,
            "--resume: expected another file than --output, got {output}"
        );
        let others = inputs().chain([options.output.as_path()]);
        options.overwrite.check(path, Kind::Safetensors, others)?;
    }
    if let Some(plot) = &options.plot {
        plot.check(&options.overwrite, inputs())?;
    }
    let split = split(&folder.classes, options.held_out, options.seed);
    if split.held_out == split.learned {
        tell!(
            "dsconv: no pictures are held out, so the network is judged by those that it learns from"
        );
    }
    let mut plan = plan(options, split);
    let new = folder.names.is_some() && folder.names != model.labels;
    ensure!(
        !new || options.train.contains(&Part::Head),
        "--train: expected head among the parts, as {} has other classes than {}, got {}",
        options.folder.display(),
        in_model(),
        parts(options)
    );
    let device = options.device.open_or_cpu()?;
    let device = device.as_ref();
    let is_head = options.train.iter().all(|&part| part == Part::Head);
    let at_a_time = if is_head { AT_A_TIME.min(folder.paths.len()) } else { plan.batch };
    let targets = targets(options, &model, &folder, device, at_a_time)?;
    let values = match new {
        true => head.new_values(targets.count(), options.seed),
        false => head.values()?,
    };
    let begun = head.graph(&values)?;
    let mut dims = model.picture_input()?.dims();
    dims[0] = at_a_time;
    begun.specialise(&[&dims]).with_context(|| {
        format!("{}: its end does not take another number of classes", in_model())
    })?;
    say!(
        "{} pictures to learn from, {} held out, {} classes, at {}x{} pixels, on {}",
        plan.split.learned.len(),
        plan.split.held_out.len(),
        targets.count(),
        size[0],
        size[1],
        device::describe(device)
    );
    let pictures = Pictures::read(&folder.paths, &model.picture_input()?)?;
    let about = about(options, &folder, size)?;
    plan.checkpoint = options.resume.clone().map(|path| (path, about));
    let begin = |values: Vec<Vec<f32>>| {
        let mut course = course(options, &plan, values)?;
        if let Some((path, about)) = &plan.checkpoint {
            resume(path, about, &mut course)?;
        }
        Ok::<_, anyhow::Error>(course)
    };
    let stop = on_interrupt()?;
    let (course, mut graph, taught) = if is_head {
        let body = Model { graph: head.body(), ..model.clone() };
        let body = runner(&body, options, device, at_a_time).with_context(in_model)?;
        check_features(&body, &head, at_a_time).with_context(in_model)?;
        let mut learner = HeadLearner::new(&pictures, &targets, body, at_a_time);
        let mut course = begin(values)?;
        let taught = teach(&plan, &mut learner, &mut course, &stop);
        let graph = head.graph(last(&course))?;
        (course, graph, taught)
    } else {
        let training = training(options, &begun, &dims);
        let training = training.with_context(in_model)?;
        let values = training.values();
        let pair = (&pictures, &targets);
        let mut learner = WholeLearner::new(pair, training, plan.batch, device, &options.how)
            .with_context(in_model)?;
        let mut course = begin(values)?;
        let taught = teach(&plan, &mut learner, &mut course, &stop);
        let graph = learner.graph(last(&course))?;
        (course, graph, taught)
    };
    // Whatever ends a training, the best epoch so far is kept.
    let failed = match taught {
        Err(error) if course.epochs().is_empty() => return Err(error),
        taught => taught,
    };
    if let Some(device) = device {
        device.save_cache();
    }
    // A file whose scales are halves stays as small.
    if dsconv_net::compact(&model.graph, &QuantizeOptions::default())? == model.graph {
        graph = dsconv_net::compact(&graph, &QuantizeOptions::default())?;
    }
    let labels = folder.names.or(model.labels);
    let written = Model { graph, labels, detection: None, ..model };
    written.write(&options.output)?;
    if let Some(plot) = &options.plot {
        plot.write(&Chart { epochs: course.epochs(), held_out: plan.split.held_out.len() })?;
    }
    if let Some(best) = course.best_epoch() {
        say!("Best after epoch {}: {}.", best + 1, plan.right(course.epochs()[best].right));
    }
    let size = std::fs::metadata(&options.output).map_or(0, |file| file.len());
    say!("Wrote {}, {}.", options.output.display(), bytes(size));
    failed?;
    Ok(ExitCode::SUCCESS)
}

/// The best values; whoever stops in the first epoch gets what was learned so far.
fn last(course: &Course) -> &[Vec<f32>] {
    if course.epochs().is_empty() { course.values() } else { course.best() }
}

/// How long and on what is learned.
fn plan(options: &Options, split: Split) -> Plan {
    Plan {
        batch: options.batch.min(split.learned.len()),
        split,
        augmentation: augmentation(&options.augment),
        seed: options.seed,
        epochs: options.epochs,
        patience: options.patience,
        checkpoint: None,
    }
}

/// Refuses a body that does not give the features of whole pictures.
fn check_features(body: &Runner, head: &Head, at_a_time: usize) -> anyhow::Result<()> {
    let [features] = body.program().outputs() else { bail!("expected one output") };
    let elements = body.program().value(*features).elements();
    ensure!(
        elements == at_a_time * head.features(),
        "its last layer gives scores for each place of a picture, {} values; expected a classifier whose last layer \
         reads {} features of a whole picture",
        elements / at_a_time,
        head.features()
    );
    Ok(())
}

/// The training of the wanted parts of a network with its new head, for batches of these dims.
fn training(options: &Options, graph: &Graph, dims: &[usize]) -> dsconv_net::Result<Training> {
    let has = |part| options.train.contains(&part);
    let learned = Learned {
        scales: has(Part::Alpha),
        biases: has(Part::Bias),
        depthwise: has(Part::Depthwise),
        floats: has(Part::Floats),
        head: has(Part::Head),
    };
    // Targets are smoothed where they are made.
    Training::new(graph, &[dims], Loss::CrossEntropy { smoothing: 0.0 }, learned)
}

/// The parts that learn, in words.
fn parts(options: &Options) -> String {
    let names = options.train.iter().map(|part| format!("{part:?}").to_lowercase());
    names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

/// The learning rate at its highest.
fn rate(options: &Options) -> f64 {
    let is_head = options.train.iter().all(|&part| part == Part::Head);
    options.lr.unwrap_or(if is_head { 0.1 } else { 0.02 })
}

/// Refuses numbers that make no sense.
fn check(options: &Options) -> anyhow::Result<()> {
    for (name, number) in [("--epochs", options.epochs), ("--batch", options.batch)] {
        ensure!(number > 0, "{name}: expected 1 or more, got 0");
    }
    // Counts of steps are products of this.
    const MOST: usize = 1_000_000_000;
    ensure!(options.epochs <= MOST, "--epochs: expected at most {MOST}, got {}", options.epochs);
    ensure!(options.patience > 0, "--patience: expected 1 or more, got 0");
    let share = options.held_out;
    ensure!((0.0..=0.9).contains(&share), "--held-out: expected 0 to 0.9, got {share}");
    let rate = rate(options);
    ensure!(rate > 0.0 && rate.is_finite(), "--lr: expected a number above 0, got {rate}");
    Ok(())
}

/// Lists what there is to learn from.
fn read_folder(options: &Options) -> anyhow::Result<Folder> {
    let folder = &options.folder;
    let classes = Classes::list(folder)?;
    if options.teacher.is_some() {
        let paths = match classes {
            Some(classes) => classes.pictures.into_iter().map(|(path, _)| path).collect(),
            None => picture::of_folder(folder)?,
        };
        return Ok(Folder { classes: vec![0; paths.len()], paths, names: None });
    }
    let Some(Classes { names, pictures }) = classes else {
        bail!(
            "{}: expected a folder of pictures for each class in it, and no pictures beside them; or --teacher FILE, a \
             network whose answers to its pictures are learned",
            folder.display()
        );
    };
    ensure!(
        names.len() > 1,
        "{}: expected folders of two classes or more, got one, {}",
        folder.display(),
        names[0]
    );
    let (paths, classes) = pictures.into_iter().unzip();
    Ok(Folder { paths, classes, names: Some(names) })
}

/// What is to be answered.
fn targets(
    options: &Options,
    model: &Model,
    folder: &Folder,
    device: Option<&Device>,
    at_a_time: usize,
) -> anyhow::Result<Targets> {
    let Some(path) = &options.teacher else {
        let count = folder.names.as_ref().map_or(0, Vec::len);
        return Ok(Targets::Classes { of: folder.classes.clone(), count });
    };
    let in_file = || path.display().to_string();
    let preprocessing = model.preprocessing.clone();
    let teacher = Model { preprocessing, ..network::read(path)? };
    let size = model.picture_input()?.size;
    let teacher = teacher.with_picture_size(size).with_context(in_file)?;
    let (count, got) = (
        Head::of(&model.graph)?.classes(),
        Head::of(&teacher.graph).with_context(in_file)?.classes(),
    );
    ensure!(
        got == count,
        "{}: expected a teacher of {count} classes, as {} has, got {got}",
        path.display(),
        options.model.display()
    );
    let runner = Box::new(runner(&teacher, options, device, at_a_time).with_context(in_file)?);
    Ok(Targets::Teacher { runner, count })
}

/// A network that is ready for so many pictures at a time.
fn runner(
    model: &Model,
    options: &Options,
    device: Option<&Device>,
    at_a_time: usize,
) -> anyhow::Result<Runner> {
    let mut dims = model.picture_input()?.dims();
    dims[0] = at_a_time;
    Runner::new(&model.graph, &[&dims], device, &options.how)
}

fn augmentation(changes: &[Change]) -> Augmentation {
    let has = |change| changes.contains(&change);
    Augmentation { flip: has(Change::Flip), crop: has(Change::Crop), colour: has(Change::Colour) }
}

/// The course of a training that begins with these values.
fn course(options: &Options, plan: &Plan, values: Vec<Vec<f32>>) -> anyhow::Result<Course> {
    let steps = (plan.steps() * plan.epochs) as u64;
    let how = OptimizerOptions {
        rate: rate(options),
        decay: 1e-3,
        clip: 10.0,
        warm_up: plan.steps().min(100) as u64,
        steps,
    };
    Ok(Course::new(how, values)?)
}

/// What a checkpoint is of: all that decides how a training goes on. Models, names and pictures are told by a hash.
fn about(options: &Options, folder: &Folder, size: [u32; 2]) -> anyhow::Result<String> {
    let Augmentation { flip, crop, colour } = augmentation(&options.augment);
    let Options { epochs, batch, seed, held_out, .. } = options;
    let (lr, parts) = (rate(options), parts(options));
    let mut hasher = DefaultHasher::new();
    for path in [&options.model].into_iter().chain(&options.teacher) {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        bytes.hash(&mut hasher);
    }
    folder.names.hash(&mut hasher);
    for path in &folder.paths {
        path.strip_prefix(&options.folder).unwrap_or(path).hash(&mut hasher);
    }
    Ok(format!(
        "{} pictures at {}x{}, models and names {:016x}, {parts}, {epochs} epochs of batches of {batch}, lr {lr}, seed \
         {seed}, held out {held_out}, flip {flip}, crop {crop}, colour {colour}",
        folder.paths.len(),
        size[0],
        size[1],
        hasher.finish(),
    ))
}

/// Goes on from a checkpoint, where it is there.
fn resume(path: &std::path::Path, about: &str, course: &mut Course) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let in_file = || path.display().to_string();
    let bytes = std::fs::read(path).with_context(in_file)?;
    course.resume(&bytes, about).with_context(|| {
        format!("{}: this training can't go on from it; expected another name", path.display())
    })?;
    say!("Going on from {} after epoch {}.", path.display(), course.epochs().len());
    Ok(())
}

/// A flag that Ctrl-C sets; the second time ends the program.
fn on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = stop.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        tell!("dsconv: stopping; the best so far is written. Ctrl-C again ends without it.");
    })?;
    Ok(stop)
}
