//! The part of a device that its layers and networks hold too, and how their calls to the GPU become errors.

use dsconv::gpu::Pipelines;
use dsconv::{Error, Result};
use futures_intrusive::channel::shared::oneshot_channel;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::future_to_promise;

/// What a device and its layers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    /// Why the device is lost, once it is.
    pub(crate) lost: Arc<OnceLock<String>>,
}

/// A promise of a future that has begun when this returns. What the module does before the first wait may fail in a
/// way that ends it: then that is an exception of the call, and not a promise that never settles.
pub(crate) fn begun(
    future: impl Future<Output = Result<JsValue, JsValue>> + 'static,
) -> js_sys::Promise {
    let mut future = Box::pin(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(value)) => js_sys::Promise::resolve(&value),
        Poll::Ready(Err(error)) => js_sys::Promise::reject(&error),
        Poll::Pending => future_to_promise(future),
    }
}

impl Shared {
    /// Runs a future whose calls to the GPU all come before its first wait, and adds what the GPU
    /// refuses of them: in a browser that is known later than the calls return.
    pub(crate) async fn caught<T, E: From<Error>>(
        &self,
        what: &str,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        self.check()?;
        let filters = [
            wgpu::ErrorFilter::Internal,
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
        ];
        let mut future = pin!(future);
        let mut scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let first =
            std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        // Scopes close in the reverse order of their opening.
        scopes.reverse();
        let answers = scopes.map(wgpu::ErrorScopeGuard::pop);
        let result = match first {
            Poll::Ready(result) => result,
            Poll::Pending => future.await,
        };
        for answer in answers {
            let Some(error) = answer.await else { continue };
            let error = if self.is_lost().await {
                Error::DeviceLost(self.lost.get().cloned().unwrap_or(error.to_string()))
            } else if matches!(error, wgpu::Error::OutOfMemory { .. }) {
                Error::OutOfMemory(what.into())
            } else {
                Error::Gpu { what: what.into(), message: error.to_string() }
            };
            return Err(error.into());
        }
        result
    }

    /// Fails if the device is known to be lost.
    pub(crate) fn check(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |reason| Err(Error::DeviceLost(reason.clone())))
    }

    /// Whether the device is lost. Its own word comes late, but a lost device maps no buffer.
    async fn is_lost(&self) -> bool {
        let (sender, receiver) = oneshot_channel();
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let probe = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("dsconv probe"),
            size: 4,
            usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
            mapped_at_creation: false,
        });
        probe.map_async(wgpu::MapMode::Read, .., move |result| {
            // The receiver waits for it.
            let _ = sender.send(result.is_ok());
        });
        let refused = scope.pop().await.is_some();
        let mapped = receiver.receive().await.unwrap_or(false);
        probe.destroy();
        refused || !mapped
    }
}
