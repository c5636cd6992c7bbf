use super::kernels::{Kernels, NOTHING};
use super::plan::{Layout, NetworkPlan};
use super::schedule::{Conv, Schedule, Work};
use crate::{Program, Result};
use dsconv::Weights;
use dsconv::gpu::{FloatFormat, Layer, LayerOptions, MemoryUse, Pipelines, check_buffer, upload};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};

/// What convolutions with DSConv weights take as input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// Floats.
    #[default]
    F32,
    /// int8 mantissas with a scale per block, made on the GPU; straight from the convolution before, without a float
    /// tensor in between, where nothing else reads it. Layers of fewer than four channels per group keep floats.
    Int8,
}

/// How a network runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkOptions {
    /// What convolutions with DSConv weights take as input.
    pub activations: Activations,
    /// What alpha and KDS bias are stored as: halves take half of the memory, for up to 0.05% of a weight.
    pub scale_format: FloatFormat,
}

/// Weights, and a layer of them for each set of options.
type Uploaded = (Weak<Weights>, Vec<(LayerOptions, Arc<Layer>)>);

/// A model in device memory: weights and constants, shared by the plans of all input shapes.
///
/// They are uploaded by the first plan that needs them, and known by their `Arc`s: programs of one
/// [`Graph`](crate::Graph) share them. What no program holds any longer goes at the next plan.
#[derive(Debug)]
pub struct Network {
    pub(super) pipelines: Pipelines,
    pub(super) kernels: Kernels,
    options: NetworkOptions,
    /// By the address of the weights, which stays taken as long as the weak reference lives.
    layers: HashMap<usize, Uploaded>,
    constants: HashMap<usize, (Weak<Vec<f32>>, wgpu::Buffer)>,
}

/// Bytes of device memory, by purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkMemory {
    /// Weights of convolutions. They belong to the network.
    pub weights: u64,
    /// Other tensors known beforehand. They belong to the network.
    pub constants: u64,
    /// Inputs, outputs and all tensors between them. They belong to the plan.
    pub tensors: u64,
    /// Geometry. It belongs to the plan.
    pub parameters: u64,
}

impl NetworkMemory {
    /// The sum.
    pub const fn total(&self) -> u64 {
        self.weights + self.constants + self.tensors + self.parameters
    }
}

impl Network {
    /// A network without weights yet, on the device of those pipelines.
    ///
    /// # Errors
    /// What the device reports.
    pub fn new(pipelines: &Pipelines, options: NetworkOptions) -> Result<Self> {
        Ok(Self {
            pipelines: pipelines.clone(),
            kernels: Kernels::new(pipelines.device())?,
            options,
            layers: HashMap::new(),
            constants: HashMap::new(),
        })
    }

    /// The options.
    pub fn options(&self) -> NetworkOptions {
        self.options
    }

    /// How many pipelines have been compiled so far, besides those of convolutions
    /// ([`Pipelines::compiled`]).
    pub fn compiled(&self) -> usize {
        self.kernels.compiled()
    }

    /// What a plan of this program will take, and the weights and constants that it needs.
    ///
    /// # Errors
    /// A tensor over the device's limits.
    pub fn memory_use(&self, program: &Program) -> Result<NetworkMemory> {
        let schedule = self.schedule(program)?;
        let layout = Layout::new(&schedule, self.pipelines.limits())?;
        Ok(memory_use(&schedule, &layout))
    }

    /// Prepares a program: all that can fail fails here. Uploads are part of the device's next submission.
    ///
    /// # Errors
    /// [`Error::Node`](crate::Error::Node) names the step; inside of it, what is over a limit of the device or what it
    /// reports.
    pub fn plan(&mut self, program: &Program) -> Result<NetworkPlan> {
        self.layers.retain(|_, (weights, _)| weights.strong_count() > 0);
        self.constants.retain(|_, (values, _)| values.strong_count() > 0);
        let schedule = self.schedule(program)?;
        let layout = Layout::new(&schedule, self.pipelines.limits())?;
        let memory = memory_use(&schedule, &layout);
        NetworkPlan::new(self, program, &schedule, &layout, memory)
    }

    /// Frees the weights and constants that no program holds any longer. Plans of such programs can't be submitted
    /// any more.
    pub fn destroy_unused(&mut self) {
        let unused = self.layers.extract_if(|_, (weights, _)| weights.strong_count() == 0);
        unused.for_each(|(_, (_, layers))| destroy_layers(layers));
        let unused = self.constants.extract_if(|_, (values, _)| values.strong_count() == 0);
        unused.for_each(|(_, (_, buffer))| buffer.destroy());
    }

    /// Frees all of the network's memory when what was submitted is done; its plans can't be submitted any more. A
    /// browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.layers.into_values().for_each(|(_, layers)| destroy_layers(layers));
        self.constants.into_values().for_each(|(_, buffer)| buffer.destroy());
        self.kernels.destroy();
    }

    fn schedule(&self, program: &Program) -> Result<Schedule> {
        Schedule::new(program, self.options, self.pipelines.capabilities())
    }

    /// The layer of a convolution, uploaded at its first use.
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "in a browser there is one thread")
    )]
    pub(super) fn layer(&mut self, conv: &Conv) -> Result<Arc<Layer>> {
        let address = Arc::as_ptr(&conv.weights) as usize;
        let (_, layers) = self
            .layers
            .entry(address)
            .or_insert_with(|| (Arc::downgrade(&conv.weights), Vec::new()));
        if let Some((_, layer)) = layers.iter().find(|(options, _)| *options == conv.options) {
            return Ok(layer.clone());
        }
        let layer = Arc::new(Layer::new(&self.pipelines, &*conv.weights, conv.options)?);
        layers.push((conv.options, layer.clone()));
        Ok(layer)
    }

    /// The buffer of a constant, uploaded at its first use.
    pub(super) fn constant(&mut self, values: &Arc<Vec<f32>>) -> Result<wgpu::Buffer> {
        let address = Arc::as_ptr(values) as usize;
        if let Some((_, buffer)) = self.constants.get(&address) {
            return Ok(buffer.clone());
        }
        check_buffer(self.pipelines.limits(), "a constant", 4 * values.len() as u64)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = upload(self.pipelines.device(), "dsconv-net constant", usage, values)?;
        self.constants.insert(address, (Arc::downgrade(values), buffer.clone()));
        Ok(buffer)
    }
}

fn destroy_layers(layers: Vec<(LayerOptions, Arc<Layer>)>) {
    // Others hold a layer only while a plan is made.
    layers.into_iter().filter_map(|(_, layer)| Arc::into_inner(layer)).for_each(Layer::destroy);
}

fn memory_use(schedule: &Schedule, layout: &Layout) -> NetworkMemory {
    let mut memory =
        NetworkMemory { parameters: NOTHING, tensors: layout.bytes(), ..NetworkMemory::default() };
    let mut layers: Vec<(*const Weights, LayerOptions)> = Vec::new();
    for task in &schedule.tasks {
        match &task.work {
            Work::Other(dispatch) => memory.parameters += dispatch.bytes(),
            Work::Conv(conv) | Work::Quantize(conv) => {
                let of_layer = MemoryUse::of_layer(&*conv.weights, &conv.options);
                let layer = (Arc::as_ptr(&conv.weights), conv.options);
                if !layers.contains(&layer) {
                    memory.weights += of_layer.total();
                    layers.push(layer);
                }
                let plan = MemoryUse::of_plan(&*conv.weights, conv.input, &conv.options);
                memory.parameters += plan.map_or(0, |plan| plan.uniform);
            }
        }
    }
    let used = schedule.tasks.iter().flat_map(|task| &task.reads).chain(&schedule.outputs);
    let mut constants = HashSet::new();
    for values in used.filter_map(|&slot| schedule.slots[slot].constant.as_ref()) {
        if constants.insert(Arc::as_ptr(values)) {
            memory.constants += 4 * values.len() as u64;
        }
    }
    memory
}
