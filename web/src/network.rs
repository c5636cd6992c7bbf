use crate::error::to_js;
use crate::resident::Resident;
use crate::shared::{Shared, begun};
use crate::spec::extents;
use dsconv::gpu::finished;
use dsconv_net::gpu::{Activations, Clock, NetworkMemory, NetworkOptions, NetworkPlan};
use dsconv_net::picture::{self, Class};
use dsconv_net::{Error, LayerReport, Model, Program, Result};
use image::RgbImage;
use js_sys::{Array, Float32Array, Float64Array, Object, Promise, Reflect};
use serde::Serialize;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_time::Instant;

#[wasm_bindgen]
extern "C" {
    /// A tensor: `data` and `shape`. The TypeScript side has checked their types.
    #[derive(Debug)]
    pub type Tensor;
    #[wasm_bindgen(method, getter)]
    fn data(this: &Tensor) -> Float32Array;
    #[wasm_bindgen(method, getter)]
    fn shape(this: &Tensor) -> Float64Array;
}

/// A network in device memory, until it is disposed of.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Network {
    shared: Rc<Shared>,
    /// Runs hold it too.
    loaded: RefCell<Option<Rc<Loaded>>>,
}

#[derive(Debug)]
struct Loaded {
    model: Model,
    network: RefCell<Resident<dsconv_net::gpu::Network>>,
    /// Of the last inputs' shapes.
    prepared: RefCell<Option<Rc<Prepared>>>,
}

/// A plan with its program, which keeps its constants from being freed.
#[derive(Debug)]
struct Prepared {
    dims: Vec<Vec<usize>>,
    plan: Resident<NetworkPlan>,
    program: Program,
}

#[derive(Serialize)]
struct Description<'a> {
    inputs: Vec<End<'a>>,
    outputs: Vec<End<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<&'a [String]>,
    layers: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct End<'a> {
    name: &'a str,
    shape: &'a [Option<usize>],
}

/// A convolution.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row<'a> {
    name: &'a str,
    shape: [u32; 4],
    groups: u32,
    bits: Option<u8>,
    float_bytes: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_snr: Option<f64>,
}

#[derive(Serialize)]
struct Memory {
    weights: u64,
    constants: u64,
    tensors: u64,
    parameters: u64,
    total: u64,
}

#[derive(Serialize)]
struct Classification {
    classes: Vec<Class>,
    milliseconds: f64,
}

#[derive(Serialize)]
struct Profile<'a> {
    steps: Vec<Step<'a>>,
    clock: &'static str,
}

#[derive(Serialize)]
struct Step<'a> {
    name: &'a str,
    kernel: &'static str,
    milliseconds: f64,
}

#[wasm_bindgen]
impl Network {
    /// Inputs, outputs, labels and layers, in JSON.
    pub fn describe(&self) -> Result<String, JsValue> {
        let loaded = self.get().map_err(to_js)?;
        let Model { graph, labels, .. } = &loaded.model;
        let inputs = graph.inputs().iter().map(|i| End { name: &i.name, shape: &i.dims });
        let outputs = graph.outputs().iter();
        let outputs =
            outputs.map(|o| End { name: &o.name, shape: o.dims.as_deref().unwrap_or(&[]) });
        let layers = dsconv_net::report(graph, graph);
        Ok(json(&Description {
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            labels: labels.as_deref(),
            layers: rows(&layers),
        }))
    }

    /// Bytes of device memory, in JSON: none before the first plan, and none once disposed of.
    #[wasm_bindgen(js_name = memoryUse)]
    pub fn memory_use(&self) -> String {
        let loaded = self.loaded.borrow();
        let prepared = loaded.as_ref().and_then(|loaded| loaded.prepared.borrow().clone());
        let memory = prepared.map_or(NetworkMemory::default(), |it| it.plan.memory_use());
        let NetworkMemory { weights, constants, tensors, parameters } = memory;
        json(&Memory { weights, constants, tensors, parameters, total: memory.total() })
    }

    /// A promise of a `Classification` in JSON. `rgba` are the pixels of a picture.
    pub fn classify(&self, rgba: Vec<u8>, width: u32, height: u32, top: usize) -> Promise {
        let (shared, loaded) = (self.shared.clone(), self.get());
        begun(async move {
            let run = async {
                let loaded = loaded?;
                let (prepared, input) = loaded.for_picture(&rgba, width, height)?;
                let started = Instant::now();
                let outputs = prepared.plan.run(&shared.queue, &[&input]).await?;
                let milliseconds = started.elapsed().as_secs_f64() * 1e3;
                let [scores] = &outputs[..] else {
                    return Err(invalid("network", "one output", outputs.len()));
                };
                let classes = picture::top(scores, loaded.model.labels.as_deref(), top)?;
                Ok(json(&Classification { classes, milliseconds }).into())
            };
            shared.caught("to run a network", run).await.map_err(to_js)
        })
    }

    /// A promise of the outputs: objects of `data` and `shape`.
    pub fn run(&self, inputs: Vec<Tensor>) -> Promise {
        let (shared, loaded) = (self.shared.clone(), self.get());
        begun(async move {
            let run = async {
                let loaded = loaded?;
                let (dims, values) = checked_tensors(&loaded.model, &inputs)?;
                let prepared = loaded.prepare(dims)?;
                let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
                let outputs = prepared.plan.run(&shared.queue, &values).await?;
                let ids = prepared.program.outputs().iter();
                let tensors = ids
                    .zip(outputs)
                    .map(|(&id, values)| tensor(&values, &prepared.program.value(id).dims));
                Ok::<JsValue, Error>(tensors.collect::<Array>().into())
            };
            shared.caught("to run a network", run).await.map_err(to_js)
        })
    }

    /// A promise of a `Profile` in JSON. `rgba` are the pixels of a picture.
    pub fn profile(&self, rgba: Vec<u8>, width: u32, height: u32) -> Promise {
        let (shared, loaded) = (self.shared.clone(), self.get());
        begun(async move {
            let profile = async {
                // Its weights stay until this is done.
                let loaded = loaded?;
                // The first run compiles; and what WebGPU refuses shows in it, which is all before the first wait.
                let run = async {
                    let (prepared, input) = loaded.for_picture(&rgba, width, height)?;
                    prepared.plan.run(&shared.queue, &[&input]).await?;
                    Ok::<_, Error>((prepared, input))
                };
                let (prepared, input) = shared.caught("to run a network", run).await?;
                let plan = &prepared.plan;
                let profile = plan.profile(&shared.queue, &[&input]).await?;
                finished(&shared.device, &shared.queue).await?;
                shared.check()?;
                let steps = plan.steps().iter().zip(&profile.times);
                let steps = steps.map(|(step, time)| Step {
                    name: &step.name,
                    kernel: step.kernel,
                    milliseconds: time.as_secs_f64() * 1e3,
                });
                let clock = match profile.clock {
                    Clock::Gpu => "gpu",
                    Clock::Wall => "wall",
                };
                Ok(json(&Profile { steps: steps.collect(), clock }).into())
            };
            profile.await.map_err(|error: Error| to_js(error))
        })
    }

    /// Frees the device memory, as soon as no run needs it, and the module's.
    pub fn dispose(&self) {
        self.loaded.take();
    }
}

impl Network {
    /// Reads the bytes before this returns; the future uploads weights, and plans for the inputs' size where that is
    /// known.
    pub(crate) fn make(
        shared: Rc<Shared>,
        bytes: &[u8],
        int8: bool,
    ) -> impl Future<Output = Result<Self>> + use<> {
        let model = shared.check().map_err(Error::from).and_then(|()| Model::from_any(bytes));
        async move {
            let activations = if int8 { Activations::Int8 } else { Activations::F32 };
            let loaded = shared.caught("to load a network", async {
                let network = dsconv_net::gpu::Network::new(
                    &shared.pipelines,
                    NetworkOptions { activations, ..NetworkOptions::default() },
                )?;
                let loaded = Loaded {
                    model: model?,
                    network: RefCell::new(Resident::new(network)),
                    prepared: RefCell::default(),
                };
                if let Some(dims) = loaded.usual_dims() {
                    loaded.prepare(dims)?;
                }
                Ok::<_, Error>(loaded)
            });
            let loaded = RefCell::new(Some(Rc::new(loaded.await?)));
            Ok(Self { shared, loaded })
        }
    }

    fn get(&self) -> Result<Rc<Loaded>> {
        let disposed = || invalid("network", "one that is not disposed of", "one that is");
        self.loaded.borrow().clone().ok_or_else(disposed)
    }
}

impl Loaded {
    /// What runs will ask for, where the model tells: one picture, or inputs of known sizes, one at a time.
    fn usual_dims(&self) -> Option<Vec<Vec<usize>>> {
        if let Some(how) = &self.model.preprocessing {
            return Some(vec![how.dims()]);
        }
        let known = |dims: &[Option<usize>]| -> Option<Vec<usize>> {
            let dims = dims.iter().enumerate();
            dims.map(|(axis, dim)| dim.or((axis == 0).then_some(1))).collect()
        };
        self.model.graph.inputs().iter().map(|input| known(&input.dims)).collect()
    }

    /// The plan for a picture, and the picture as its input.
    fn for_picture(
        &self,
        rgba: &[u8],
        width: u32,
        height: u32,
    ) -> Result<(Rc<Prepared>, Vec<f32>)> {
        let how = self.model.picture_input()?;
        let picture = rgb(rgba, width, height)?;
        // Sizes are checked before the input is made.
        let prepared = self.prepare(vec![how.dims()])?;
        Ok((prepared, picture::input(&picture, &how)?))
    }

    /// The plan for inputs of those shapes. One of other shapes is freed as soon as no run needs it.
    fn prepare(&self, dims: Vec<Vec<usize>>) -> Result<Rc<Prepared>> {
        if let Some(prepared) = self.prepared.borrow().as_ref().filter(|it| it.dims == dims) {
            return Ok(prepared.clone());
        }
        let slices: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        let program = self.model.graph.specialise(&slices)?;
        self.prepared.take();
        let mut network = self.network.borrow_mut();
        network.destroy_unused();
        let plan = Resident::new(network.plan(&program)?);
        let prepared = Rc::new(Prepared { dims, plan, program });
        self.prepared.replace(Some(prepared.clone()));
        Ok(prepared)
    }
}

/// Their dims and elements.
type Tensors = (Vec<Vec<usize>>, Vec<Vec<f32>>);

fn checked_tensors(model: &Model, inputs: &[Tensor]) -> Result<Tensors> {
    let wanted = model.graph.inputs();
    if inputs.len() != wanted.len() {
        return Err(invalid("inputs", wanted.len(), inputs.len()));
    }
    let (mut dims, mut values) = (Vec::new(), Vec::new());
    for (input, wanted) in inputs.iter().zip(wanted) {
        let shape = extents(&input.shape().to_vec())?;
        // In 64 bits, and before anything is copied.
        let elements = shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent.into()));
        let data = input.data();
        if elements != Some(data.length().into()) {
            let field = format!("input {:?}", wanted.name);
            let expected = format!("the elements of {shape:?}");
            return Err(invalid(&field, expected, data.length()));
        }
        dims.push(shape.iter().map(|&extent| extent as usize).collect());
        values.push(data.to_vec());
    }
    Ok((dims, values))
}

/// `{ data, shape }`.
fn tensor(values: &[f32], dims: &[usize]) -> JsValue {
    let object = Object::new();
    let shape: Array = dims.iter().map(|&dim| JsValue::from(dim as f64)).collect();
    // Setting properties of an object made here can't fail.
    let _ = Reflect::set(&object, &"data".into(), &Float32Array::from(values));
    let _ = Reflect::set(&object, &"shape".into(), &shape);
    object.into()
}

/// A picture without its alpha.
pub(crate) fn rgb(rgba: &[u8], width: u32, height: u32) -> Result<RgbImage> {
    let (pixels, rest) = rgba.as_chunks::<4>();
    let expected = u64::from(width) * u64::from(height);
    if pixels.len() as u64 != expected || !rest.is_empty() {
        return Err(invalid("picture", format!("{width}x{height} pixels of 4 bytes"), rgba.len()));
    }
    let bytes = pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    let wrong = || invalid("picture", "a size that fits", format!("{width}x{height}"));
    RgbImage::from_raw(width, height, bytes).ok_or_else(wrong)
}

pub(crate) fn rows(layers: &[LayerReport]) -> Vec<Row<'_>> {
    layers.iter().map(Row::from).collect()
}

impl<'a> From<&'a LayerReport> for Row<'a> {
    fn from(layer: &'a LayerReport) -> Self {
        let LayerReport { name, descriptor: d, bits, float_bytes, bytes, weight_snr } = layer;
        Self {
            name,
            shape: [d.out_channels, d.channels_per_group(), d.kernel[0], d.kernel[1]],
            groups: d.groups,
            bits: *bits,
            float_bytes: *float_bytes,
            bytes: *bytes,
            weight_snr: *weight_snr,
        }
    }
}

/// What is made here holds no map with odd keys, and no error of its own.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(crate) fn invalid(field: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::Invalid { field: field.into(), expected: expected.to_string(), got: got.to_string() }
}
