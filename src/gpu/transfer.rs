//! Tensors to device memory and back.

use super::format::FloatFormat;
use super::scope::checked;
#[cfg(not(target_arch = "wasm32"))]
use super::scope::is_lost;
use crate::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A buffer that is freed with this, when what was submitted is done. A browser frees the others when it
/// collects garbage, so maybe never.
pub(crate) struct Scratch(pub(crate) wgpu::Buffer);

impl Drop for Scratch {
    fn drop(&mut self) {
        self.0.destroy();
    }
}

impl std::ops::Deref for Scratch {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.0
    }
}

/// A new buffer that holds `values`. The copy is part of the device's next submission.
///
/// # Errors
/// What the device reports.
pub fn upload<T: bytemuck::NoUninit>(
    device: &wgpu::Device,
    label: &str,
    usage: wgpu::BufferUsages,
    values: &[T],
) -> Result<wgpu::Buffer> {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    let buffer = checked(device, label, || {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes.len() as u64,
            usage,
            mapped_at_creation: true,
        })
    })?;
    let mut mapped = buffer.slice(..).get_mapped_range_mut().map_err(|e| Error::lost(&e))?;
    mapped.copy_from_slice(bytes);
    drop(mapped);
    buffer.unmap();
    Ok(buffer)
}

/// Copies a slice of a buffer (with `BufferUsages::COPY_SRC`) to host memory. The copy is submitted by the call, and
/// the future waits for it.
///
/// Natively waiting blocks until the GPU is done; in a browser it does not.
///
/// # Errors
/// [`Error::Invalid`] natively for a queue of another device, [`Error::DeviceLost`], or what the device reports.
pub fn download(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    slice: wgpu::BufferSlice<'_>,
) -> impl Future<Output = Result<Vec<f32>>> + use<> {
    read(device, queue, slice)
}

/// [`download`] of any numbers.
pub(crate) fn read<T: bytemuck::Pod>(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    slice: wgpu::BufferSlice<'_>,
) -> impl Future<Output = Result<Vec<T>>> + use<T> {
    let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
    let staging = copy(device, slice).and_then(|(staging, commands)| {
        let submitted = checked(device, "the download", || {
            queue.submit([commands]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // Fails only if the receiver is gone: then nobody wants the answer.
                let _ = sender.send(result);
            });
        });
        match submitted {
            Ok(()) => Ok(staging),
            // The queue's fault?
            Err(error @ Error::Gpu { .. }) => check_queue(device, queue).and(Err(error)),
            Err(error) => Err(error),
        }
    });
    let device = device.clone();
    let queue = queue.clone();
    async move {
        let staging = staging?;
        wait(&device)?;
        // What went to another device's queue was not copied, and the mapping would show zeros.
        check_queue(&device, &queue)?;
        match receiver.receive().await {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(Error::lost(&error)),
            None => return Err(Error::lost(&"the download was dropped")),
        }
        let mapped = staging.slice(..).get_mapped_range().map_err(|e| Error::lost(&e))?;
        Ok(bytemuck::pod_collect_to_vec(&mapped))
    }
}

/// A buffer to be mapped, and the commands that copy a slice into it.
fn copy(
    device: &wgpu::Device,
    slice: wgpu::BufferSlice<'_>,
) -> Result<(Scratch, wgpu::CommandBuffer)> {
    let staging = checked(device, "the download", || {
        Scratch(device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("dsconv download"),
            size: slice.size(),
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        }))
    })?;
    let commands = checked(device, "the copy of the buffer", || {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor {
            label: Some("dsconv download"),
        });
        encoder.copy_buffer_to_buffer(slice.buffer(), slice.offset(), &staging, 0, slice.size());
        encoder.finish()
    })?;
    Ok((staging, commands))
}

/// [`download`] of a tensor of so many floats in that format.
pub(crate) async fn read_floats(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    slice: wgpu::BufferSlice<'_>,
    format: FloatFormat,
    count: usize,
) -> Result<Vec<f32>> {
    match format {
        FloatFormat::F32 => download(device, queue, slice).await,
        FloatFormat::F16 => {
            let halves = read::<u16>(device, queue, slice).await?;
            // A buffer is whole words: there may be one half too many.
            let halves = halves.into_iter().take(count);
            Ok(halves.map(|bits| half::f16::from_bits(bits).to_f32()).collect())
        }
    }
}

/// Waits until all that was submitted so far is done. This blocks; in a browser it does not, and there a lost device
/// passes as done.
///
/// # Errors
/// [`Error::Invalid`] for a queue of another device, which a browser does not tell; [`Error::DeviceLost`].
#[cfg(not(target_arch = "wasm32"))]
pub async fn finished(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<()> {
    check_queue(device, queue)
}

/// Waits until all that was submitted so far is done, without blocking. A browser lets a lost device pass as done.
///
/// # Errors
/// [`Error::DeviceLost`].
#[cfg(target_arch = "wasm32")]
pub async fn finished(_device: &wgpu::Device, queue: &wgpu::Queue) -> Result<()> {
    let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
    queue.on_submitted_work_done(move || {
        // As above.
        let _ = sender.send(());
    });
    receiver.receive().await.ok_or_else(|| Error::lost(&"the device was dropped"))
}

/// Waits for what was submitted, and checks that the queue is the device's. wgpu can't be asked, and where commands of
/// one device go to the queue of another, it panics or tells the other device's handler. But the device alone calls
/// back for its queue.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn check_queue(device: &wgpu::Device, queue: &wgpu::Queue) -> Result<()> {
    // Another thread that waits for the device may have taken a callback, and not called it yet; so many threads do not
    // wait.
    const TRIES: usize = 64;
    let called = Arc::new(AtomicBool::new(false));
    for _ in 0..TRIES {
        let callback = called.clone();
        queue.on_submitted_work_done(move || callback.store(true, Ordering::Release));
        wait(device)?;
        if called.load(Ordering::Acquire) {
            return Ok(());
        }
        std::thread::yield_now();
    }
    if is_lost(device) {
        return Err(Error::lost(&"it no longer answers"));
    }
    let expected = "the queue of the same device";
    Err(Error::invalid("queue", expected, "one of another device or wgpu::Instance"))
}

/// A browser checks queues itself, and nothing here can wait for it.
#[cfg(target_arch = "wasm32")]
pub(crate) fn check_queue(_device: &wgpu::Device, _queue: &wgpu::Queue) -> Result<()> {
    Ok(())
}

/// In a browser polling does nothing, and answers come by themselves.
pub(super) fn wait(device: &wgpu::Device) -> Result<()> {
    #[cfg(target_arch = "wasm32")]
    let _ = device;
    #[cfg(not(target_arch = "wasm32"))]
    device.poll(wgpu::PollType::wait_indefinitely()).map_err(|e| Error::lost(&e))?;
    Ok(())
}

/// The bits of floats, as words of device memory.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
