use crate::error::to_js;
use crate::layer::Layer;
use crate::network::Network;
use dsconv::gpu::{Pipelines, WANTED_FEATURES, wanted_limits};
use dsconv::{Error, Result};
use futures_intrusive::channel::shared::oneshot_channel;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{future_to_promise, spawn_local};

/// A WebGPU device with its compiled pipelines.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Device {
    pub(crate) shared: Rc<Shared>,
}

/// What a device and its layers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) pipelines: Pipelines,
    /// Why the device is lost, once it is.
    lost: Arc<OnceLock<String>>,
}

#[wasm_bindgen]
impl Device {
    /// Opens a device; `power_preference` as in WebGPU. `on_lost` is called with the reason when the
    /// device goes away.
    pub async fn open(
        power_preference: Option<String>,
        on_lost: js_sys::Function,
    ) -> Result<Self, JsValue> {
        open(power_preference.as_deref(), on_lost).await.map_err(to_js)
    }

    /// The adapter's description, which browsers often leave empty.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.shared.device.adapter_info().name
    }

    /// Whether the browser says that a processor plays the GPU.
    #[wasm_bindgen(getter)]
    pub fn software(&self) -> bool {
        self.shared.pipelines.capabilities().software
    }

    /// Whether the browser has `dot4I8Packed`.
    #[wasm_bindgen(getter, js_name = packedDotProduct)]
    pub fn packed_dot_product(&self) -> bool {
        self.shared.pipelines.capabilities().packed_dot_product
    }

    /// Whether shaders can have halves in memory.
    #[wasm_bindgen(getter, js_name = shaderF16)]
    pub fn shader_f16(&self) -> bool {
        self.shared.pipelines.capabilities().shader_f16
    }

    /// A promise of a layer. `spec` is a `spec::LayerSpec` in JSON.
    pub fn layer(&self, spec: String, tensors: crate::layer::LayerTensors) -> js_sys::Promise {
        let shared = self.shared.clone();
        future_to_promise(async move {
            let layer = Layer::make(shared, &spec, &tensors).await;
            layer.map(JsValue::from).map_err(to_js)
        })
    }

    /// A promise of a network from the bytes of a model file or of ONNX, with integer activations or without.
    pub fn network(&self, bytes: &[u8], int8: bool) -> js_sys::Promise {
        let network = Network::make(self.shared.clone(), bytes, int8);
        begun(async move { network.await.map(JsValue::from).map_err(to_js) })
    }

    /// Gives up the device and all of its memory.
    pub fn destroy(&self) {
        // The device says so itself, but later; nothing is to be done if it already has.
        let _ = self.shared.lost.set("disposed".into());
        self.shared.device.destroy();
    }
}

async fn open(power_preference: Option<&str>, on_lost: js_sys::Function) -> Result<Device> {
    let power_preference = match power_preference {
        None => wgpu::PowerPreference::None,
        Some("low-power") => wgpu::PowerPreference::LowPower,
        Some("high-performance") => wgpu::PowerPreference::HighPerformance,
        Some(other) => {
            return Err(Error::Invalid {
                field: "powerPreference".into(),
                expected: "\"low-power\" or \"high-performance\"".into(),
                got: format!("{other:?}"),
            });
        }
    };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let options = wgpu::RequestAdapterOptions { power_preference, ..Default::default() };
    let adapter = instance
        .request_adapter(&options)
        .await
        .map_err(|error| Error::NoAdapter(error.to_string()))?;
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("dsconv"),
        required_features: adapter.features() & WANTED_FEATURES,
        required_limits: wanted_limits(&adapter),
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| {
        Error::Gpu { what: "to open a device".into(), message: error.to_string() }
    })?;
    let lost = Arc::new(OnceLock::new());
    // wgpu wants a callback that could go to another thread, which a JavaScript function can't.
    let (sender, receiver) = oneshot_channel();
    let reason = lost.clone();
    device.set_device_lost_callback(move |_, message| {
        let message = if message.is_empty() { "destroyed".to_string() } else { message };
        // A device is lost once, and the receiver waits for it.
        let _ = reason.set(message.clone());
        let _ = sender.send(message);
    });
    spawn_local(async move {
        if let Some(message) = receiver.receive().await {
            // What the page throws in its own callback is the page's.
            let _ = on_lost.call1(&JsValue::NULL, &message.into());
        }
    });
    let pipelines = Pipelines::new(&device)?;
    Ok(Device { shared: Rc::new(Shared { device, queue, pipelines, lost }) })
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
