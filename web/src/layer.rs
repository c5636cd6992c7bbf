//! Single layers: their weights out of typed arrays, and their runs.

use crate::resident::Resident;
use crate::shared::Shared;
use crate::spec::{CdsReading, Format, LayerSpec, shape};
use dsconv::gpu::Layer as GpuLayer;
use dsconv::{BlockFormat, Cds, DsConvWeights, Error, FloatWeights, Quantizer, Result, Weights};
use dsconv_web_common::error::to_js;
use dsconv_web_common::spec::parse;
use js_sys::{Float32Array, Int32Array};
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

#[wasm_bindgen]
extern "C" {
    /// The tensors of a layer are `weights`, or `q` and `alpha`; the others may be missing. The TypeScript side has
    /// checked their types.
    #[derive(Debug)]
    pub type LayerTensors;
    #[wasm_bindgen(method, getter)]
    fn weights(this: &LayerTensors) -> Option<Float32Array>;
    #[wasm_bindgen(method, getter)]
    fn q(this: &LayerTensors) -> Option<Int32Array>;
    #[wasm_bindgen(method, getter)]
    fn alpha(this: &LayerTensors) -> Option<Float32Array>;
    #[wasm_bindgen(method, getter, js_name = kdsBias)]
    fn kds_bias(this: &LayerTensors) -> Option<Float32Array>;
    #[wasm_bindgen(method, getter)]
    fn bias(this: &LayerTensors) -> Option<Float32Array>;
    #[wasm_bindgen(method, getter, js_name = cdsScale)]
    fn cds_scale(this: &LayerTensors) -> Option<Float32Array>;
    #[wasm_bindgen(method, getter, js_name = cdsShift)]
    fn cds_shift(this: &LayerTensors) -> Option<Float32Array>;
}

/// A layer in device memory, until it is disposed of.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Layer {
    shared: Rc<Shared>,
    /// A run holds it too, so that it outlives its disposal.
    layer: RefCell<Option<Rc<Resident<GpuLayer>>>>,
}

#[wasm_bindgen]
impl Layer {
    /// The kernel's name, or none once the layer is disposed of.
    #[wasm_bindgen(getter)]
    pub fn kernel(&self) -> Option<String> {
        self.get().ok().map(|layer| layer.kernel().name().to_string())
    }

    /// Bytes of device memory that the layer holds.
    #[wasm_bindgen(getter, js_name = memoryUse)]
    pub fn memory_use(&self) -> f64 {
        self.get().map_or(0.0, |layer| layer.memory_use().total() as f64)
    }

    /// The shape of the output for an input of that shape.
    #[wasm_bindgen(js_name = outputShape)]
    pub fn output_shape(&self, input: &[f64]) -> Result<Vec<u32>, JsValue> {
        let shape = shape(input)
            .and_then(|input| self.get()?.descriptor().output_shape(input))
            .map_err(to_js)?;
        Ok(vec![shape.batch, shape.channels, shape.height, shape.width])
    }

    /// A promise of the output.
    pub fn run(
        &self,
        x: Float32Array,
        input: Vec<f64>,
        residual: Option<Float32Array>,
    ) -> js_sys::Promise {
        let (shared, layer) = (self.shared.clone(), self.get());
        future_to_promise(async move {
            let run = async {
                let (input, layer) = (shape(&input)?, layer?);
                // Before anything is copied.
                layer.descriptor().output_shape(input)?;
                if x.length() as usize != input.elements() {
                    return Err(Error::Length {
                        tensor: "input".into(),
                        expected: input.elements(),
                        got: x.length() as usize,
                    });
                }
                let residual = residual.map(|r| r.to_vec()).unwrap_or_default();
                layer.run(&shared.queue, input, &x.to_vec(), &residual).await
            };
            match shared.caught("to run a layer", run).await {
                Ok(y) => Ok(Float32Array::from(y.as_slice()).into()),
                Err(error) => Err(to_js(error)),
            }
        })
    }

    /// Frees the device memory, as soon as no run needs it.
    pub fn dispose(&self) {
        self.layer.take();
    }
}

impl Layer {
    fn get(&self) -> Result<Rc<Resident<GpuLayer>>> {
        self.layer.borrow().clone().ok_or_else(|| Error::Invalid {
            field: "layer".into(),
            expected: "one that is not disposed of".into(),
            got: "one that is".into(),
        })
    }

    /// Reads the specification, quantises if it says so, and uploads.
    pub(crate) async fn make(
        shared: Rc<Shared>,
        spec: &str,
        tensors: &LayerTensors,
    ) -> Result<Self> {
        let layer = shared
            .caught("to make a layer", async {
                let spec = parse::<LayerSpec>(spec, "the layer")?;
                let options = spec.options.layer_options()?;
                let weights = weights(&spec, tensors)?;
                GpuLayer::new(&shared.pipelines, &weights, options)
            })
            .await?;
        Ok(Self { shared, layer: RefCell::new(Some(Rc::new(Resident::new(layer)))) })
    }
}

/// The weights that a specification and its tensors describe, quantised here if they are floats in a format.
fn weights(spec: &LayerSpec, tensors: &LayerTensors) -> Result<Weights> {
    let descriptor = spec.geometry.descriptor();
    let floats = |tensor: Option<Float32Array>| tensor.map(|tensor| tensor.to_vec());
    let bias = floats(tensors.bias());
    let missing = |field: &str| Error::Invalid {
        field: field.into(),
        expected: "a tensor".into(),
        got: "none".into(),
    };
    let Some(format) = &spec.format else {
        let values = floats(tensors.weights()).ok_or_else(|| missing("weights"))?;
        let weights = FloatWeights::new(descriptor, values)?;
        return Ok(match bias {
            Some(bias) => weights.with_bias(bias)?.into(),
            None => weights.into(),
        });
    };
    let mut weights = match floats(tensors.weights()) {
        Some(values) => quantizer(format)?.weights(&descriptor, &values)?,
        None => {
            let q = tensors.q().ok_or_else(|| missing("q"))?.to_vec();
            let alpha = floats(tensors.alpha()).ok_or_else(|| missing("alpha"))?;
            let format = BlockFormat::new(format.bits, format.block_size)?
                .with_partition(format.partition());
            DsConvWeights::from_integers(descriptor, format, &q, alpha)?
        }
    };
    if let Some(kds_bias) = floats(tensors.kds_bias()) {
        weights = weights.with_kds_bias(kds_bias)?;
    }
    match (floats(tensors.cds_scale()), floats(tensors.cds_shift())) {
        (None, None) => {}
        (Some(scale), Some(shift)) => {
            weights = weights.with_cds(match format.cds {
                CdsReading::Output => Cds::Output { scale, shift },
                CdsReading::Kernel => Cds::Kernel { scale, shift },
            })?;
        }
        _ => return Err(missing("cds.scale and cds.shift")),
    }
    if let Some(bias) = bias {
        weights = weights.with_bias(bias)?;
    }
    Ok(weights.into())
}

fn quantizer(format: &Format) -> Result<Quantizer> {
    Ok(Quantizer::new(format.bits, format.block_size)?
        .partition(format.partition())
        .method(format.method())
        .kds_bias(format.fit_kds_bias))
}
