//! Times of compute passes by the GPU's own clock.

use super::scope::checked;
use super::transfer::{check_queue, read};
use crate::{Error, Result};
use std::time::Duration;

/// Times passes on the GPU's own clock, so that neither submission nor waiting is in the figure.
///
/// Needs `wgpu::Features::TIMESTAMP_QUERY`, which [`WANTED_FEATURES`](super::WANTED_FEATURES) asks for.
/// Memory is taken once, 256 bytes for each pass.
///
/// ```no_run
/// # fn f(gpu: &dsconv::gpu::Gpu, plans: &[dsconv::gpu::Plan]) -> dsconv::Result<()> {
/// use dsconv::gpu::Timestamps;
///
/// let mut timestamps = Timestamps::new(&gpu.device, &gpu.queue, plans.len() as u32)?;
/// let mut encoder = gpu.device.create_command_encoder(&Default::default());
/// for plan in plans {
///     timestamps.encode(&mut encoder, |pass| plan.record(pass))?;
/// }
/// gpu.queue.submit([encoder.finish()]);
/// let times = pollster::block_on(timestamps.read(&gpu.queue))?;
/// assert_eq!(times.len(), plans.len());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Timestamps {
    device: wgpu::Device,
    queries: wgpu::QuerySet,
    /// Start and end of each pass, `STRIDE` bytes apart.
    ticks: wgpu::Buffer,
    nanoseconds_per_tick: f64,
    capacity: u32,
    encoded: u32,
}

/// Bytes from one pass's ticks to the next one's: where WebGPU lets queries be resolved to.
const STRIDE: u64 = wgpu::QUERY_RESOLVE_BUFFER_ALIGNMENT;
/// Queries of a pass: its start and its end.
const QUERIES: u32 = 2;

impl Timestamps {
    /// The most passes between two calls of [`read`](Self::read).
    pub const MAX_PASSES: u32 = wgpu::QUERY_SET_MAX_QUERIES / QUERIES;

    /// Room for the times of `passes` passes, 1 to [`MAX_PASSES`](Self::MAX_PASSES).
    ///
    /// # Errors
    /// [`Error::Unsupported`] on a device without `wgpu::Features::TIMESTAMP_QUERY`, [`Error::Invalid`] for
    /// another number of passes, or what the device reports.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue, passes: u32) -> Result<Self> {
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Unsupported {
                what: "timestamps on a device without wgpu::Features::TIMESTAMP_QUERY".into(),
                remedy:
                    "request WANTED_FEATURES where the adapter has them, or use a clock of the CPU"
                        .into(),
            });
        }
        if !(1..=Self::MAX_PASSES).contains(&passes) {
            return Err(Error::invalid("passes", format!("1..={}", Self::MAX_PASSES), passes));
        }
        let (queries, ticks) = checked(device, "timestamps", || {
            let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("dsconv timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: QUERIES * passes,
            });
            let ticks = device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("dsconv timestamps"),
                size: STRIDE * u64::from(passes),
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            (queries, ticks)
        })?;
        Ok(Self {
            device: device.clone(),
            queries,
            ticks,
            nanoseconds_per_tick: queue.get_timestamp_period().into(),
            capacity: passes,
            encoded: 0,
        })
    }

    /// Records a timed compute pass, which `record` fills. Allocates nothing, submits nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a pass too many since the last [`read`](Self::read).
    pub fn encode(
        &mut self,
        encoder: &mut wgpu::CommandEncoder,
        record: impl FnOnce(&mut wgpu::ComputePass<'_>),
    ) -> Result<()> {
        if self.encoded == self.capacity {
            let expected = format!("{} at most, as made", self.capacity);
            return Err(Error::invalid("timed passes", expected, "one more"));
        }
        let first = QUERIES * self.encoded;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("dsconv timed"),
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &self.queries,
                beginning_of_pass_write_index: Some(first),
                end_of_pass_write_index: Some(first + 1),
            }),
        });
        record(&mut pass);
        drop(pass);
        // Here, not when reading: a query that was recorded but never submitted has no value, and a
        // GPU may wait for it for ever.
        let at = STRIDE * u64::from(self.encoded);
        encoder.resolve_query_set(&self.queries, first..first + QUERIES, &self.ticks, at);
        self.encoded += 1;
        Ok(())
    }

    /// The times of the passes recorded since the last call, in their order, and makes room for others.
    /// Call it when they are submitted; those that are not have the time that was there before.
    ///
    /// Natively this blocks until the GPU is done; in a browser it does not, and times are rounded.
    ///
    /// # Errors
    /// [`Error::Invalid`] natively for a queue of another device, [`Error::DeviceLost`], or what the device reports.
    pub async fn read(&mut self, queue: &wgpu::Queue) -> Result<Vec<Duration>> {
        let encoded = std::mem::take(&mut self.encoded);
        if encoded == 0 {
            return Ok(Vec::new());
        }
        check_queue(&self.device, queue)?;
        let slice = self.ticks.slice(..STRIDE * u64::from(encoded));
        let ticks: Vec<u64> = read(&self.device, queue, slice).await?;
        let time = |ticks: &[u64]| {
            let elapsed = ticks[1].saturating_sub(ticks[0]) as f64;
            Duration::from_nanos((elapsed * self.nanoseconds_per_tick) as u64)
        };
        Ok(ticks.chunks_exact(STRIDE as usize / size_of::<u64>()).map(time).collect())
    }

    /// Frees the memory when what was submitted is done. A browser frees it otherwise when it collects garbage, so
    /// maybe never.
    pub fn destroy(self) {
        self.queries.destroy();
        self.ticks.destroy();
    }
}
