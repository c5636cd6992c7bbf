//! `dsconv finetune`: a network learns classes of made pictures, goes on where it stopped, and refuses what is no task.

mod running;

use image::{Rgb, RgbImage};
use running::{command, device, folder, json, text};
use std::fs;
use std::path::Path;
use std::process::Output;

const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/efficientnet-lite0-i4.safetensors");
const SMALL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../net/tests/data/small.onnx");
const SIDE: u32 = 32;

/// A picture of a class, noisy: stripes across, stripes down, or a disc.
fn picture(class: usize, rng: &mut fastrand::Rng) -> RgbImage {
    let (shift, bright) = (rng.u32(..8), rng.u8(150..250));
    RgbImage::from_fn(SIDE, SIDE, |x, y| {
        let inside = match class {
            0 => (x + shift) % 8 < 4,
            1 => (y + shift) % 8 < 4,
            _ => (x.abs_diff(12 + shift)).pow(2) + (y.abs_diff(16)).pow(2) < 64,
        };
        let level = if inside { bright } else { 30 };
        Rgb([level, level, level].map(|level| level.saturating_add(rng.u8(..40))))
    })
}

/// Folders of classes with so many pictures each.
fn classes(folder: &Path, names: &[&str], count: usize, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    for (class, name) in names.iter().enumerate() {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            picture(class, &mut rng).save(folder.join(format!("{number:02}.png"))).unwrap();
        }
    }
}

const NAMES: [&str; 3] = ["across", "disc", "down"];

/// Runs the command on the device of the tests, at the pictures' size.
fn finetune(arguments: &[&str]) -> Output {
    let all = [&["finetune"], arguments, &["--size", "32"], &device()].concat();
    running::dsconv(&all)
}

fn done(arguments: &[&str]) -> String {
    let output = finetune(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

/// The mean loss of each epoch.
fn losses(told: &str) -> Vec<f64> {
    let after = told.split(": loss ").skip(1);
    after.map(|rest| rest.split(',').next().unwrap().parse().unwrap()).collect()
}

fn refused(arguments: &[&str], words: &[&str]) {
    let output = finetune(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output));
    for words in words {
        assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn new_classes_are_learned_and_the_file_is_as_any_other() {
    let folder = folder("finetune");
    let path = |name: &str| folder.join(name).display().to_string();
    let seed = fastrand::u64(..);
    classes(&folder.join("learn"), &NAMES, 10, seed);
    classes(&folder.join("test"), &NAMES, 6, seed ^ 1);
    let [learn, test, new, plot] = ["learn", "test", "new.safetensors", "plot.svg"].map(path);
    let how = ["--epochs", "12", "--batch", "8"];
    let told = done(&[&[MODEL, &learn, "--output", &new, "--plot", &plot], &how[..]].concat());
    assert!(told.contains("24 pictures to learn from, 6 held out, 3 classes"), "{told}");
    assert!(told.contains("epoch 1 of 12") && told.contains("Best after epoch"), "{told}");
    assert!(fs::read_to_string(&plot).unwrap().contains("right of 6"), "{told}");
    // It is smaller, because it has fewer classes, and its integers are packed as before.
    assert!(fs::metadata(&new).unwrap().len() < fs::metadata(MODEL).unwrap().len());
    let report = json(&[&["evaluate", &new, &test, "--json"], &device()[..]].concat());
    let right = report["networks"][0]["top1"].as_u64().unwrap();
    assert!(right >= 14, "seed {seed}: {right} of 18");
    let disc = folder.join("test/disc/00.png").display().to_string();
    let answer = json(&[&["classify", &new, &disc, "--json"], &device()[..]].concat());
    let label = answer[0]["top"][0]["label"].as_str().unwrap();
    assert!(NAMES.contains(&label), "{label}");
    // The same classes are learned further, from where they are.
    let more = done(&[&[&new, &learn, "--output", &path("more.safetensors")], &how[..]].concat());
    let (before, after) = (losses(&told), losses(&more));
    assert!(after[0] < 1.05 * before[11] && after[0] < 0.85 * before[0], "{told}{more}");
}

#[test]
fn all_layers_learn() {
    let folder = folder("finetune-all");
    let path = |name: &str| folder.join(name).display().to_string();
    classes(&folder.join("learn"), &NAMES, 8, 5);
    let [learn, new] = ["learn", "new.safetensors"].map(path);
    let how = ["--epochs", "4", "--batch", "6", "--held-out", "0.25"];
    let parts = ["--train", "head,alpha,bias,depthwise"];
    let told = done(&[&[MODEL, &learn, "--output", &new], &how[..], &parts].concat());
    let losses = losses(&told);
    assert!(losses[3] < 0.8 * losses[0], "{told}");
    // Integers are packed as before, and what has learned is not what the head alone gives.
    assert!(fs::metadata(&new).unwrap().len() < fs::metadata(MODEL).unwrap().len());
    let report = json(&[&["evaluate", &new, &learn, "--json"], &device()[..]].concat());
    let right = report["networks"][0]["top1"].as_u64().unwrap();
    assert!(right >= 16, "{right} of 24: {told}");
    // It goes on from its own classes without its head, and new ones ask for it.
    let output = path("more.safetensors");
    let rest = ["--train", "alpha,bias", "--epochs", "1", "--batch", "6"];
    done(&[&[&new, &learn, "--output", &output], &rest[..]].concat());
    refused(
        &[&[MODEL, &learn, "--output", &output, "--force"], &rest[..]].concat(),
        &["--train", "head"],
    );
    let int8 = ["--train", "alpha,head", "--int8"];
    refused(&[&[MODEL, &learn, "--output", &output, "--force"], &int8[..]].concat(), &["--int8"]);
}

/// Begins a training, ends it by Ctrl-C, as a terminal sends it, after its second epoch, and gives what it said then.
#[cfg(unix)]
fn interrupted(arguments: &[&str]) -> Vec<String> {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let all = [&["finetune"], arguments, &["--size", "32"], &device()].concat();
    let mut child = command(&all).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().any(|line| line.unwrap().starts_with("epoch 2 ")));
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.unwrap().success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    rest
}

#[cfg(unix)]
#[test]
fn a_training_goes_on_bit_for_bit() {
    let folder = folder("finetune-resume");
    let path = |name: &str| folder.join(name).display().to_string();
    classes(&folder.join("learn"), &NAMES[..2], 5, fastrand::u64(..));
    let learn = path("learn");
    let [whole, halves, kept] =
        ["whole", "halves", "kept"].map(|name| path(&format!("{name}.safetensors")));
    let how = ["--augment", "flip,crop,colour", "--batch", "3", "--patience", "99"];
    let arguments = |more: &[&'static str], files: &[&str]| {
        let files = [&[MODEL, &learn, "--output"], files].concat();
        let of = |text: &&str| (*text).to_owned();
        files.iter().chain(&how).chain(more).map(of).collect::<Vec<String>>()
    };
    let seven = ["--epochs", "9", "--seed", "7"];
    let run = |files: &[&str]| {
        let all = arguments(&seven, files);
        done(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run(&[&whole]);
    let files = [halves.as_str(), "--resume", &kept];
    let all = arguments(&seven, &files);
    interrupted(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let stopped = dsconv_net::Model::read(&halves).unwrap();
    let told = run(&files);
    assert!(told.contains("Going on from") && told.contains("epoch 9 of 9"), "{told}");
    let read = |path: &str| dsconv_net::Model::read(path).unwrap();
    assert!(read(&whole) == read(&halves), "{told}");
    assert_eq!(stopped.labels, read(&halves).labels);
    // Another training does not go on from it.
    let all = arguments(&["--epochs", "9", "--seed", "8"], &files);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    refused(&all, &["kept.safetensors", "of another training", "seed 7"]);
}

#[test]
fn a_teacher_is_learned_from_without_classes() {
    let folder = folder("finetune-teacher");
    let path = |name: &str| folder.join(name).display().to_string();
    classes(&folder, &["pictures"], 8, fastrand::u64(..));
    let [pictures, coarse, new] = ["pictures", "coarse.safetensors", "new.safetensors"].map(path);
    json(&["quantize", MODEL, &coarse, "--requantize", "--bits", "3", "--json"]);
    let learned = ["--epochs", "3", "--teacher", MODEL, "--lr", "0.01"];
    let told = done(&[&[&coarse, &pictures, "--output", &new], &learned[..]].concat());
    assert!(told.contains("1000 classes"), "{told}");
    let losses = losses(&told);
    assert!(losses.len() == 3 && losses[2] < losses[0], "{told}");
    let read = dsconv_net::Model::read(&new).unwrap();
    assert_eq!(read.labels, dsconv_net::Model::read(MODEL).unwrap().labels);
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_the_best_so_far() {
    let folder = folder("finetune-interrupt");
    let path = |name: &str| folder.join(name).display().to_string();
    classes(&folder.join("learn"), &NAMES, 4, fastrand::u64(..));
    let (learn, new) = (path("learn"), path("new.safetensors"));
    let long = ["--epochs", "100000000", "--patience", "100000000"];
    let rest = interrupted(&[&[MODEL, &learn, "--output", &new], &long[..]].concat());
    assert!(rest.iter().any(|line| line.starts_with("Wrote ")), "{rest:?}");
    assert_eq!(dsconv_net::Model::read(&new).unwrap().labels.unwrap(), NAMES);
}

#[test]
fn what_is_no_task_is_refused() {
    let folder = folder("finetune-refused");
    let path = |name: &str| folder.join(name).display().to_string();
    let new = path("new.safetensors");
    let learn = |name: &str| [MODEL.to_owned(), path(name), "--output".to_owned(), new.clone()];
    let refused = |name: &str, more: &[&str], words: &[&str]| {
        let learn = learn(name);
        let learn: Vec<&str> = learn.iter().map(String::as_str).collect();
        refused(&[&learn, more].concat(), words);
        assert!(!Path::new(&new).exists());
    };
    classes(&folder.join("one"), &NAMES[..1], 2, 1);
    refused("one", &[], &["two classes or more, got one, across"]);
    refused("one/across", &[], &["a folder of pictures for each class", "--teacher FILE"]);
    classes(&folder.join("empty"), &NAMES, 1, 1);
    fs::remove_file(folder.join("empty/disc/00.png")).unwrap();
    refused("empty", &[], &["the class disc has no pictures"]);
    classes(&folder.join("broken"), &NAMES, 2, 1);
    fs::write(folder.join("broken/down/01.png"), "no picture").unwrap();
    refused("broken", &[], &["down/01.png", "expected a picture"]);
    classes(&folder.join("good"), &NAMES, 2, 1);
    refused("good", &["--epochs", "0"], &["--epochs: expected 1 or more"]);
    refused("good", &["--held-out", "1"], &["--held-out: expected 0 to 0.9, got 1"]);
    refused("good", &["--lr", "0"], &["--lr: expected a number above 0, got 0"]);
    refused("good", &["--memory", "1KB"], &["this run needs", "--memory allows"]);
    refused("good", &["--teacher", SMALL], &["small.onnx"]);
    refused("good", &["--resume", &new], &["--resume: expected another file than --output"]);
    let picture = path("good/disc/00.png");
    let written = [MODEL, &path("good"), "--output", &picture];
    let output = finetune(&written);
    assert!(text(&output).contains("which the command reads"), "{}", text(&output));
    let output = finetune(&[SMALL, &path("good"), "--output", &new]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}
