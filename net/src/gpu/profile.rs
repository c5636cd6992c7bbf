//! How long the steps of a plan take.

use super::plan::NetworkPlan;
use crate::Result;
use dsconv::gpu::{Capabilities, Timestamps, checked, finished};
use std::time::Duration;
use web_time::Instant;

/// The clock that tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The GPU's timestamps.
    Gpu,
    /// The processor's clock, around the submission of each step and the wait for it.
    Wall,
}

/// The times that the steps of a run took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The clock that told the time.
    pub clock: Clock,
    /// One for each of the plan's [`steps`](NetworkPlan::steps).
    pub times: Vec<Duration>,
}

impl NetworkPlan {
    /// Runs the program step by step and times each: by the GPU's own clock where the device has
    /// `wgpu::Features::TIMESTAMP_QUERY` and does not say that it is software (whose timestamps are no times), else by
    /// the processor's. Natively this blocks while the GPU works; in a browser it does not.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn profile(&self, queue: &wgpu::Queue, inputs: &[&[f32]]) -> Result<Profile> {
        let timestamps = self.device.features().contains(wgpu::Features::TIMESTAMP_QUERY)
            && !Capabilities::of(&self.device).software;
        let clock = if timestamps { Clock::Gpu } else { Clock::Wall };
        self.profile_by(clock, queue, inputs).await
    }

    pub(super) async fn profile_by(
        &self,
        clock: Clock,
        queue: &wgpu::Queue,
        inputs: &[&[f32]],
    ) -> Result<Profile> {
        self.check_inputs(inputs)?;
        checked(&self.device, "the inputs", || self.write_inputs(queue, inputs))?;
        let times = match clock {
            Clock::Gpu => self.by_timestamps(queue).await?,
            Clock::Wall => self.by_waiting(queue).await?,
        };
        Ok(Profile { clock, times })
    }

    async fn by_timestamps(&self, queue: &wgpu::Queue) -> Result<Vec<Duration>> {
        let count = self.steps().len();
        let mut times = Vec::with_capacity(count);
        if count == 0 {
            return Ok(times);
        }
        let passes = count.min(Timestamps::MAX_PASSES as usize);
        let mut timestamps = Timestamps::new(&self.device, queue, passes as u32)?;
        for first in (0..count).step_by(passes) {
            let encode = || -> Result<()> {
                let mut encoder = self.device.create_command_encoder(&descriptor());
                for step in first..count.min(first + passes) {
                    timestamps.encode(&mut encoder, |pass| self.record(step..step + 1, pass))?;
                }
                queue.submit([encoder.finish()]);
                Ok(())
            };
            checked(&self.device, "the submission", encode)??;
            times.extend(timestamps.read(queue).await?);
        }
        timestamps.destroy();
        Ok(times)
    }

    async fn by_waiting(&self, queue: &wgpu::Queue) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(self.steps().len());
        // The inputs' upload is no step's.
        queue.submit([]);
        finished(&self.device, queue).await?;
        for step in 0..self.steps().len() {
            let started = Instant::now();
            checked(&self.device, "the submission", || {
                let mut encoder = self.device.create_command_encoder(&descriptor());
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some("dsconv-net step"),
                    timestamp_writes: None,
                });
                self.record(step..step + 1, &mut pass);
                drop(pass);
                queue.submit([encoder.finish()]);
            })?;
            finished(&self.device, queue).await?;
            times.push(started.elapsed());
        }
        Ok(times)
    }
}

const fn descriptor() -> wgpu::CommandEncoderDescriptor<'static> {
    wgpu::CommandEncoderDescriptor { label: Some("dsconv-net profile") }
}
