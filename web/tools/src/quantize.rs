//! Quantises and calibrates networks.

use crate::spec::QuantizeSpec;
use dsconv_net::picture;
use dsconv_net::{Model, Result, SampleRun};
use dsconv_web_common::answers::{json, rows};
use dsconv_web_common::error::to_js;
use dsconv_web_common::pixels::rgb;
use dsconv_web_common::spec::parse;
use js_sys::{Function, Uint8Array};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// A picture has `data` in RGBA, a `width` and a `height`. The TypeScript side has checked their types.
    #[derive(Debug)]
    pub type Pixels;
    #[wasm_bindgen(method, getter)]
    fn data(this: &Pixels) -> JsValue;
    #[wasm_bindgen(method, getter)]
    fn width(this: &Pixels) -> u32;
    #[wasm_bindgen(method, getter)]
    fn height(this: &Pixels) -> u32;
}

/// The file of a quantised network, and what became of its layers.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Quantized {
    model: Vec<u8>,
    layers: String,
}

#[wasm_bindgen]
impl Quantized {
    /// The model file's bytes.
    #[wasm_bindgen(getter)]
    pub fn model(&self) -> Uint8Array {
        Uint8Array::from(self.model.as_slice())
    }

    /// What the layers have become, in JSON.
    #[wasm_bindgen(getter)]
    pub fn layers(&self) -> String {
        self.layers.clone()
    }
}

/// Quantises a network; `spec` is a `spec::QuantizeSpec` in JSON. It blocks, so call it in a worker. `progress` is
/// called with the number of layers that are done, the number of all layers, and the layer's name.
#[wasm_bindgen]
pub fn quantize(
    bytes: &[u8],
    spec: &str,
    pictures: Vec<Pixels>,
    progress: &Function,
) -> Result<Quantized, JsValue> {
    quantized(bytes, spec, &pictures, |done, total, layer| {
        let (done, total) = (done as u32, total as u32);
        // What the callback throws is the worker's.
        let _ = progress.call3(&JsValue::NULL, &done.into(), &total.into(), &layer.into());
    })
    .map_err(to_js)
}

fn quantized(
    bytes: &[u8],
    spec: &str,
    pictures: &[Pixels],
    mut progress: impl FnMut(usize, usize, &str),
) -> Result<Quantized> {
    let spec: QuantizeSpec = parse(spec, "the options")?;
    let mut model = Model::from_any(bytes)?;
    if let Some(labels) = &spec.labels {
        model.labels = Some(labels.clone());
    }
    if let Some(preprocessing) = spec.preprocessing() {
        preprocessing.validate()?;
        model.preprocessing = Some(preprocessing);
    }
    // What the network takes goes into the file, where it is a picture; others need none.
    if model.preprocessing.is_none() {
        model.preprocessing = model.picture_input().ok();
    }
    let mut how = spec.options();
    let graph = if pictures.is_empty() {
        dsconv_net::quantize(&model.graph, &how, &mut progress)?
    } else {
        let input = model.picture_input()?;
        let dims = input.dims();
        let mut samples = Vec::new();
        for (seed, pixels) in pictures.iter().enumerate() {
            let data = Uint8Array::new(&pixels.data()).to_vec();
            let picture = rgb(&data, pixels.width(), pixels.height())?;
            let views = picture::views(&picture, &input, spec.views(), seed as u64)?;
            samples.extend(views.into_iter().map(|view| vec![view]));
        }
        let dims: [&[usize]; 1] = [&dims];
        let samples = &samples[..];
        if let Some(target) = spec.target() {
            let (convolve, progress) = (&mut dsconv_net::on_cpu, &mut progress);
            let run = SampleRun { samples, dims: &dims, convolve, progress };
            let aim = (target, spec.fit());
            how.overrides = dsconv_net::allocate(&model.graph, &how, aim, run)?;
        }
        let plain = dsconv_net::quantize(&model.graph, &how, |_, _, _| ())?;
        let (convolve, progress) = (&mut dsconv_net::on_cpu, &mut progress);
        let run = SampleRun { samples, dims: &dims, convolve, progress };
        let fitted = dsconv_net::calibrate(&model.graph, &plain, spec.fit(), run)?;
        dsconv_net::compact(&fitted.graph, &how)?
    };
    let layers = json(&rows(&dsconv_net::report(&model.graph, &graph)));
    let model = Model { graph, ..model }.to_bytes()?;
    Ok(Quantized { model, layers })
}

/// The model file of a network in ONNX.
#[wasm_bindgen]
pub fn convert(bytes: &[u8]) -> Result<Vec<u8>, JsValue> {
    Model::from_any(bytes).and_then(|model| model.to_bytes()).map_err(to_js)
}
