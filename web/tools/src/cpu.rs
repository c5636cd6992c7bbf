//! Networks on the processor, where a browser has no WebGPU: the reference's loops, on one thread.

use dsconv_net::{Error, Model, Program, Result, cpu, picture};
use dsconv_web_common::answers::{Classification, Profile, Step, description, json};
use dsconv_web_common::error::{invalid, to_js};
use dsconv_web_common::pixels::rgb;
use dsconv_web_common::tensors::{Tensor, checked_tensors, js_tensors, usual_dims};
use wasm_bindgen::prelude::*;
use web_time::Instant;

/// A network in the module's memory.
#[wasm_bindgen]
#[derive(Debug)]
pub struct CpuNetwork {
    model: Model,
    /// The program for the shapes of the last inputs.
    prepared: Option<(Vec<Vec<usize>>, Program)>,
}

#[wasm_bindgen]
impl CpuNetwork {
    /// Reads a model file, or ONNX.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: &[u8]) -> Result<Self, JsValue> {
        let load = || {
            let mut network = Self { model: Model::from_any(bytes)?, prepared: None };
            if let Some(dims) = usual_dims(&network.model) {
                network.prepare(dims)?;
            }
            Ok::<_, Error>(network)
        };
        load().map_err(to_js)
    }

    /// Inputs, outputs, labels and layers, in JSON.
    pub fn describe(&self) -> String {
        description(&self.model)
    }

    /// A `Classification` in JSON. `rgba` are the pixels of a picture.
    pub fn classify(
        &mut self,
        rgba: &[u8],
        width: u32,
        height: u32,
        top: usize,
    ) -> Result<String, JsValue> {
        let mut classify = || {
            let (dims, input) = self.picture(rgba, width, height)?;
            let started = Instant::now();
            let outputs = cpu::run(self.prepare(dims)?, &[&input])?;
            let milliseconds = started.elapsed().as_secs_f64() * 1e3;
            let [scores] = &outputs[..] else {
                return Err(invalid("network", "one output", outputs.len()));
            };
            let classes = picture::top(scores, self.model.labels.as_deref(), top)?;
            Ok(json(&Classification { classes, milliseconds }))
        };
        classify().map_err(to_js)
    }

    /// The outputs: objects of `data` and `shape`.
    pub fn run(&mut self, inputs: Vec<Tensor>) -> Result<JsValue, JsValue> {
        let mut run = || {
            let (dims, values) = checked_tensors(&self.model, &inputs)?;
            let program = self.prepare(dims)?;
            let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
            Ok::<_, Error>(js_tensors(program, &cpu::run(program, &values)?))
        };
        run().map_err(to_js)
    }

    /// A `Profile` in JSON. `rgba` are the pixels of a picture.
    pub fn profile(&mut self, rgba: &[u8], width: u32, height: u32) -> Result<String, JsValue> {
        let mut profile = || {
            let (dims, input) = self.picture(rgba, width, height)?;
            let program = self.prepare(dims)?;
            let mut started = Instant::now();
            let mut steps = Vec::new();
            cpu::run_with(program, &[&input], |index, _| {
                let milliseconds = started.elapsed().as_secs_f64() * 1e3;
                let name = &program.steps()[index].name;
                steps.push(Step { name, kernel: "cpu", milliseconds });
                started = Instant::now();
            })?;
            Ok::<_, Error>(json(&Profile { steps, clock: "wall" }))
        };
        profile().map_err(to_js)
    }
}

impl CpuNetwork {
    /// A picture as the network's input, with its dims.
    fn picture(
        &mut self,
        rgba: &[u8],
        width: u32,
        height: u32,
    ) -> Result<(Vec<Vec<usize>>, Vec<f32>)> {
        let how = self.model.picture_input()?;
        let picture = rgb(rgba, width, height)?;
        // Sizes are checked before the input is made.
        self.prepare(vec![how.dims()])?;
        Ok((vec![how.dims()], picture::input(&picture, &how)?))
    }

    /// The program for inputs of those shapes.
    fn prepare(&mut self, dims: Vec<Vec<usize>>) -> Result<&Program> {
        if self.prepared.as_ref().is_none_or(|(known, _)| *known != dims) {
            let slices: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
            let program = self.model.graph.specialise(&slices)?;
            self.prepared = Some((dims, program));
        }
        match &self.prepared {
            Some((_, program)) => Ok(program),
            None => unreachable!("it was made above"),
        }
    }
}
