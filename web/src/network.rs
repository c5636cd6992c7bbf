//! Networks: a model's life on the device, and its runs on tensors and pictures.

use crate::resident::Resident;
use crate::shared::{Shared, begun};
use dsconv::gpu::finished;
use dsconv_net::gpu::{Activations, Clock, NetworkMemory, NetworkOptions, NetworkPlan};
use dsconv_net::{Error, Model, Program, Result, picture};
use dsconv_web_common::answers::{Classification, Memory, Profile, Step, description, json};
use dsconv_web_common::error::{invalid, to_js};
use dsconv_web_common::pixels::rgb;
use dsconv_web_common::tensors::{Tensor, checked_tensors, js_tensors, usual_dims};
use js_sys::Promise;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use web_time::Instant;

/// A network in device memory, until it is disposed of.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Network {
    shared: Rc<Shared>,
    /// A run holds it too, so that it outlives its disposal.
    loaded: RefCell<Option<Rc<Loaded>>>,
}

#[derive(Debug)]
struct Loaded {
    model: Model,
    network: RefCell<Resident<dsconv_net::gpu::Network>>,
    /// The plan for the shapes of the last inputs.
    prepared: RefCell<Option<Rc<Prepared>>>,
}

/// A plan with its program, which keeps its constants from being freed.
#[derive(Debug)]
struct Prepared {
    dims: Vec<Vec<usize>>,
    plan: Resident<NetworkPlan>,
    program: Program,
}

#[wasm_bindgen]
impl Network {
    /// Inputs, outputs, labels and layers, in JSON.
    pub fn describe(&self) -> Result<String, JsValue> {
        let loaded = self.get().map_err(to_js)?;
        Ok(description(&loaded.model))
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
                Ok::<_, Error>(js_tensors(&prepared.program, &outputs))
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
        let model = shared.check().map_err(Error::from).and_then(|()| Model::from_bytes(bytes));
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
                if let Some(dims) = usual_dims(&loaded.model) {
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

    /// Gives the plan for inputs of those shapes. A plan for other shapes is freed as soon as no run needs it.
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
