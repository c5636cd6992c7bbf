//! Times of work on a GPU, measured in turn and repeated.

use crate::device::Device;
use dsconv::gpu::{Plan, Timestamps};
use std::time::{Duration, Instant};

/// Work that can be recorded into a pass: one run of it.
pub(crate) type Work<'a> = &'a dyn Fn(&mut wgpu::ComputePass<'_>);

/// The median times of one run of each plan, measured in turn, so that a slow moment of the machine
/// meets them all.
pub(crate) fn medians(
    device: &Device,
    plans: &[&Plan],
    rounds: usize,
) -> anyhow::Result<Vec<Duration>> {
    let works: Vec<_> = plans
        .iter()
        .map(|plan| move |pass: &mut wgpu::ComputePass<'_>| plan.record(pass))
        .collect();
    let works: Vec<Work<'_>> = works.iter().map(|work| work as Work<'_>).collect();
    let times = times(device, &works, rounds)?;
    Ok(times.into_iter().map(|times| times[times.len() / 2]).collect())
}

/// The times of one run of each piece of work, from the fastest to the slowest of its rounds (one at least).
pub(crate) fn times(
    device: &Device,
    works: &[Work<'_>],
    rounds: usize,
) -> anyhow::Result<Vec<Vec<Duration>>> {
    // The first run of each warms up.
    let mut repeats = Vec::new();
    for work in works {
        let first = time(device, work, 1)?;
        // Enough dispatches in a submission that its own cost does not show.
        repeats.push((0.004 / first.as_secs_f64()).clamp(1.0, 100.0) as u32);
    }
    let mut times = vec![Vec::new(); works.len()];
    for _ in 0..rounds.max(1) {
        for ((work, repeats), times) in works.iter().zip(&repeats).zip(&mut times) {
            times.push(time(device, work, *repeats)?);
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    Ok(times)
}

/// Says whether times are of the GPU's own clock, without what submitting and waiting cost. Software devices
/// have one too, but lavapipe's gives half of the time that passes.
pub(crate) fn has_timestamps(device: &Device) -> bool {
    let software = device.gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
    device.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) && !software
}

/// The time of one run, over a submission of several.
fn time(device: &Device, work: Work<'_>, repeats: u32) -> anyhow::Result<Duration> {
    let gpu = &device.gpu;
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let record = |pass: &mut wgpu::ComputePass<'_>| (0..repeats).for_each(|_| work(pass));
    if has_timestamps(device) {
        let mut timestamps = Timestamps::new(&gpu.device, &gpu.queue, 1)?;
        timestamps.encode(&mut encoder, record)?;
        gpu.queue.submit([encoder.finish()]);
        let times = pollster::block_on(timestamps.read(&gpu.queue))?;
        let time = times.into_iter().sum::<Duration>() / repeats;
        // A GPU's clock may be too coarse to see it, and times get divided by.
        return Ok(time.max(Duration::from_nanos(1)));
    }
    record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
    let commands = encoder.finish();
    let started = Instant::now();
    gpu.queue.submit([commands]);
    device.wait()?;
    Ok(started.elapsed() / repeats)
}

/// The time in milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
