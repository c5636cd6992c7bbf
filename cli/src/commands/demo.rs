//! The demo: four carried pictures through a carried 4-bit network, beside the same network in f32.

use crate::carried;
use crate::device::{self, Device, OnDevice};
use crate::display::{bytes, table};
use crate::network::{self, RunOptions, Runner};
use crate::output::say;
use crate::picture;
use crate::progress::progress;
use crate::timing::ms;
use anyhow::{Context, ensure};
use dsconv_net::{Graph, Model};
use image::RgbImage;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The GPU's scores may differ from the reference's by this share of the largest.
const ERROR_BOUND: f64 = 1e-4;
/// The same where matrix units round every input and weight to halves: 2^-11, in some fifty layers.
const HALVES_BOUND: f64 = 1e-2;

/// Both networks classify the pictures in turn for at most so many rounds, and begin no further picture after that
/// time: a single run of each says little on a busy machine.
const ROUNDS: usize = 5;
const ENOUGH: Duration = Duration::from_secs(5);

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    #[command(flatten)]
    device: OnDevice,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let device = options.device.open_or_cpu()?;
    let model = Model::from_bytes(carried::EFFICIENTNET_LITE0)?;
    let preprocessing = model.picture_input()?;
    say!(
        "EfficientNet-Lite0, 4-bit weights in blocks of 32, on {}",
        device::describe(device.as_ref())
    );
    let pictures = carried::PICTURES
        .iter()
        .map(|&(name, bytes)| Ok((name, picture::decode(bytes)?)))
        .collect::<anyhow::Result<Vec<(&str, RgbImage)>>>()?;
    let dims = preprocessing.dims();
    let runner = |graph: &Graph, device: Option<&Device>| {
        Runner::new(graph, &[&dims], device, &RunOptions::default())
    };
    let packed = runner(&model.graph, device.as_ref())?;
    // The f32 network's time is worth knowing on a GPU; the reference is slow in either.
    let floats = match &device {
        Some(device) => {
            Some(runner(&network::floats_of(&model.graph)?, Some(&device.in_floats()))?)
        }
        None => None,
    };
    let bar = progress(pictures.len() + 1)?;
    let (mut times, mut float_times) = (Vec::new(), Vec::new());
    let mut out = table(&["picture", "first", "second", "third"]);
    // Compiling belongs to nobody's time.
    bar.set_message("compiling");
    for runner in floats.iter().chain([&packed]).filter(|_| device.is_some()) {
        network::classify(runner, &model, &preprocessing, &pictures[0].1)?;
    }
    for (name, picture) in &pictures {
        bar.set_message((*name).to_string());
        if let Some(floats) = &floats {
            float_times.push(network::classify(floats, &model, &preprocessing, picture)?.1);
        }
        let (top, time) = network::classify(&packed, &model, &preprocessing, picture)?;
        times.push(time);
        let mut cells = vec![(*name).to_string()];
        cells.extend(top.iter().take(3).map(|c| format!("{} {:.0}%", c.label, 100.0 * c.score)));
        out.add_row(cells);
        bar.inc(1);
    }
    if let Some(floats) = &floats {
        bar.set_message("timing both networks in turn");
        let started = Instant::now();
        let further = pictures.iter().cycle().take((ROUNDS - 1) * pictures.len());
        for (_, picture) in further.take_while(|_| started.elapsed() < ENOUGH) {
            float_times.push(network::classify(floats, &model, &preprocessing, picture)?.1);
            times.push(network::classify(&packed, &model, &preprocessing, picture)?.1);
        }
    }
    let error = match &device {
        None => None,
        Some(device) => {
            device.save_cache();
            bar.set_message("checking against the CPU reference");
            let input = dsconv_net::picture::input(&pictures[1].1, &preprocessing)?;
            let (expected, _) = runner(&model.graph, None)?.run(&[&input])?;
            let (got, _) = packed.run(&[&input])?;
            Some(relative_error(&got[0], &expected[0]).context("the network gave no scores")?)
        }
    };
    bar.finish_and_clear();
    say!("{out}");

    let layers = dsconv_net::report(&model.graph, &model.graph);
    let weights: u64 = layers.iter().map(|layer| layer.bytes).sum();
    let in_floats: u64 = layers.iter().map(|layer| layer.float_bytes).sum();
    let mut out = table(&["", "weights", "ms a picture"]);
    let time = |times: &mut Vec<Duration>| match median(times) {
        Some(time) => format!("{:.1}", ms(time)),
        None => "-".into(),
    };
    out.add_row(["f32".into(), bytes(in_floats), time(&mut float_times)]);
    out.add_row(["DSConv".into(), bytes(weights), time(&mut times)]);
    let speed = match (median(&mut float_times), median(&mut times)) {
        (Some(floats), Some(packed)) => speed(floats.as_secs_f64() / packed.as_secs_f64()),
        _ => String::new(),
    };
    let smaller = format!("{:.2}x smaller", in_floats as f64 / weights as f64);
    out.add_row([String::new(), smaller, speed]);
    say!("{out}");
    if let Some(error) = error {
        let halves = device.as_ref().is_some_and(Device::has_tensor_cores);
        let bound = if halves { HALVES_BOUND } else { ERROR_BOUND };
        ensure!(
            error <= bound,
            "the scores of chelsea are {error:.1e} off the CPU reference, relative to the largest; \
             the bound is {bound:.0e}"
        );
        say!("Checked against the CPU reference (f64): scores within {error:.1e} of the largest.");
    }
    Ok(ExitCode::SUCCESS)
}

/// How much faster or slower, in words.
fn speed(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 1.005 => format!("{ratio:.2}x faster"),
        ratio if ratio > 0.995 => "as fast".into(),
        ratio => format!("{:.2}x slower", 1.0 / ratio),
    }
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

/// The largest difference over the largest magnitude; `None` for nothing, or for what is not finite.
fn relative_error(got: &[f32], expected: &[f32]) -> Option<f64> {
    let largest = expected.iter().fold(0.0f64, |m, &e| m.max(f64::from(e).abs()));
    let differences = got.iter().zip(expected).map(|(&g, &e)| (f64::from(g) - f64::from(e)).abs());
    let error = differences.fold(0.0f64, |m, d| if d.is_nan() { d } else { m.max(d) }) / largest;
    (got.len() == expected.len() && error.is_finite()).then_some(error)
}

#[cfg(test)]
mod tests {
    use super::speed;

    #[test]
    fn slower_is_called_slower() {
        assert_eq!(speed(1.25), "1.25x faster");
        assert_eq!(speed(0.8), "1.25x slower");
        assert_eq!([speed(1.004), speed(0.996)], ["as fast", "as fast"]);
    }
}
