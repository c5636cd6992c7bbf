//! Errors that wgpu reports to the device's error scopes, as results.

use crate::Result;
#[cfg(not(target_arch = "wasm32"))]
use {
    crate::Error,
    std::panic::{AssertUnwindSafe, catch_unwind},
    std::task::{Context, Poll, Waker},
};

/// Runs `make` inside error scopes of the device and turns what they catch into an error: for hosts that make
/// resources of their own beside the library's. `what` names it in the error.
///
/// Natively a panic of `make` is an error too: wgpu panics on handles of another `wgpu::Instance`, and on errors of
/// another device for which nobody has set a handler. (The panic hook still runs, and a program that aborts on panics
/// aborts.)
///
/// Natively the scopes answer at once. In a browser they answer later, and this can't wait: there it only
/// runs `make`; a refusal goes to the host's error scopes, or else to the console, and the download of the
/// result fails.
///
/// # Errors
/// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::OutOfMemory`](crate::Error::OutOfMemory), or
/// [`Error::Gpu`](crate::Error::Gpu) with what wgpu reports.
pub fn checked<T>(device: &wgpu::Device, what: &str, make: impl FnOnce() -> T) -> Result<T> {
    #[cfg(target_arch = "wasm32")]
    {
        let _ = (device, what);
        Ok(make())
    }
    #[cfg(not(target_arch = "wasm32"))]
    scoped(device, what, make)
}

#[cfg(not(target_arch = "wasm32"))]
fn scoped<T>(device: &wgpu::Device, what: &str, make: impl FnOnce() -> T) -> Result<T> {
    let filters = [
        wgpu::ErrorFilter::Internal,
        wgpu::ErrorFilter::OutOfMemory,
        wgpu::ErrorFilter::Validation,
    ];
    let mut scopes = filters.map(|filter| device.push_error_scope(filter));
    let made = catch_unwind(AssertUnwindSafe(make));
    // Scopes close in the reverse order of their opening.
    scopes.reverse();
    let mut first = None;
    for scope in scopes {
        let mut caught = std::pin::pin!(scope.pop());
        if let Poll::Ready(Some(error)) =
            caught.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            first.get_or_insert(error);
        }
    }
    match (made, first) {
        (Ok(made), None) => Ok(made),
        (_, Some(error)) if is_lost(device) => Err(Error::lost(&error)),
        (_, Some(wgpu::Error::OutOfMemory { .. })) => Err(Error::OutOfMemory(what.into())),
        (_, Some(error)) => Err(Error::Gpu { what: what.into(), message: error.to_string() }),
        (Err(_), None) => Err(Error::Gpu {
            what: what.into(),
            message: "wgpu panicked; it does where a buffer, queue or pipeline is of another device or instance".into(),
        }),
    }
}

/// Whether the device is lost. wgpu tells it only to a callback, which is the host's; but a lost
/// device makes no buffer that can be written.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn is_lost(device: &wgpu::Device) -> bool {
    let buffer = device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("dsconv probe"),
        size: 4,
        usage: wgpu::BufferUsages::COPY_DST,
        mapped_at_creation: true,
    });
    buffer.slice(..).get_mapped_range_mut().is_err()
}
