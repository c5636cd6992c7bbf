//! The device: opening it, what it tells of itself, and the making of layers and networks on it.

use crate::layer::{Layer, LayerTensors};
use crate::network::Network;
use crate::shared::{Shared, begun};
use dsconv::gpu::{PackedDotProduct, Pipelines, WANTED_FEATURES, wanted_limits};
use dsconv::{Error, Result};
use dsconv_web_common::error::to_js;
use futures_intrusive::channel::shared::oneshot_channel;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{future_to_promise, spawn_local};

/// A WebGPU device with its compiled pipelines.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Device {
    pub(crate) shared: Rc<Shared>,
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
        self.shared.pipelines.capabilities().packed_dot_product != PackedDotProduct::None
    }

    /// Whether shaders can have halves in memory.
    #[wasm_bindgen(getter, js_name = shaderF16)]
    pub fn shader_f16(&self) -> bool {
        self.shared.pipelines.capabilities().shader_f16
    }

    /// A promise of a layer. `spec` is a `spec::LayerSpec` in JSON.
    pub fn layer(&self, spec: String, tensors: LayerTensors) -> js_sys::Promise {
        let shared = self.shared.clone();
        future_to_promise(async move {
            let layer = Layer::make(shared, &spec, &tensors).await;
            layer.map(JsValue::from).map_err(to_js)
        })
    }

    /// A promise of a network from the bytes of a model file, with integer activations or without.
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
