use crate::device::Device;
use dsconv::gpu::{Plan, Timestamps};
use std::time::{Duration, Instant};

/// The median times of one run of each plan, measured in turn, so that a slow moment of the machine
/// meets them all.
pub(crate) fn medians(
    device: &Device,
    plans: &[&Plan],
    rounds: usize,
) -> anyhow::Result<Vec<Duration>> {
    // The first run of each warms up.
    let mut repeats = Vec::new();
    for plan in plans {
        let first = time(device, plan, 1)?;
        // Enough dispatches in a submission that its own cost does not show.
        repeats.push((0.004 / first.as_secs_f64()).clamp(1.0, 100.0) as u32);
    }
    let mut times = vec![Vec::new(); plans.len()];
    for _ in 0..rounds {
        for ((plan, repeats), times) in plans.iter().zip(&repeats).zip(&mut times) {
            times.push(time(device, plan, *repeats)?);
        }
    }
    Ok(times.into_iter().map(median).collect())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Whether times are of the GPU's own clock, without what submitting and waiting cost. Software devices
/// have one too, but lavapipe's gives half of the time that passes.
pub(crate) fn has_timestamps(device: &Device) -> bool {
    let software = device.gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
    device.gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) && !software
}

/// The time of one run, over a submission of several.
fn time(device: &Device, plan: &Plan, repeats: u32) -> anyhow::Result<Duration> {
    let mut encoder =
        device.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    if has_timestamps(device) {
        let gpu = &device.gpu;
        let mut timestamps = Timestamps::new(&gpu.device, &gpu.queue, 1)?;
        timestamps.encode(&mut encoder, |pass| (0..repeats).for_each(|_| plan.record(pass)))?;
        gpu.queue.submit([encoder.finish()]);
        let times = pollster::block_on(timestamps.read(&gpu.queue))?;
        return Ok(times.into_iter().sum::<Duration>() / repeats);
    }
    for _ in 0..repeats {
        plan.encode(&mut encoder);
    }
    let commands = encoder.finish();
    let started = Instant::now();
    device.gpu.queue.submit([commands]);
    device.wait()?;
    Ok(started.elapsed() / repeats)
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
