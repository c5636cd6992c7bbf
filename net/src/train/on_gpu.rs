//! A training in device memory.

use super::training::{Gradients, Training};
use crate::gpu::{Network, NetworkMemory, NetworkOptions, NetworkPlan};
use crate::ir::program::{Program, StepOp};
use crate::{Error, Result};
use dsconv::Weights;
use dsconv::gpu::Pipelines;
use std::sync::Arc;

/// A [`Training`] on the GPU, planned once for all steps: [`step`](Self::step) gives the gradients of a batch, and
/// [`update`](Self::update) brings the numbers that the training was [`set`](Training::set) to.
///
/// Packed layers stay packed for the forward pass. The gradient of a layer's input takes its weights once more, as
/// floats, and that of its scales its integers, a byte each; [`memory_use`](Self::memory_use) counts them. Matrix units
/// are not used.
#[derive(Debug)]
pub struct TrainingPlan {
    network: Network,
    /// The program that was planned: its weights are what the device's layers go by.
    program: Program,
    plan: NetworkPlan,
}

impl TrainingPlan {
    /// The device memory that a plan will take.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn memory_use(pipelines: &Pipelines, training: &Training) -> Result<NetworkMemory> {
        network(pipelines)?.memory_use(training.program())
    }

    /// Plans a training on the device of those pipelines.
    ///
    /// # Errors
    /// [`Error::Node`] names the step, and what is over a limit of the device or what it reports.
    pub fn new(pipelines: &Pipelines, training: &Training) -> Result<Self> {
        let mut network = network(pipelines)?;
        let program = training.program().clone();
        let plan = network.plan(&program)?;
        Ok(Self { network, program, plan })
    }

    /// The gradients for one batch: what [`Training::step`] gives on the CPU.
    ///
    /// # Errors
    /// As [`Training::step`], or a lost device.
    pub async fn step(
        &self,
        queue: &wgpu::Queue,
        training: &Training,
        inputs: &[&[f32]],
        targets: &[f32],
    ) -> Result<Gradients> {
        let targets = training.targets(targets)?;
        let inputs: Vec<&[f32]> = inputs.iter().copied().chain([&targets[..]]).collect();
        training.read(self.plan.run(queue, &inputs).await?, &targets)
    }

    /// Brings the training's numbers as they are now to the device, for the next step. It is the training that was
    /// planned, or a clone of it.
    ///
    /// # Errors
    /// A training of another network, whose layers differ in number or geometry. Some may have been written then.
    pub fn update(&self, queue: &wgpu::Queue, training: &Training) -> Result<()> {
        let (old, new) = (layers(&self.program), layers(training.program()));
        if old.len() != new.len() {
            return Err(Error::invalid("layers of the training", old.len().to_string(), new.len()));
        }
        for (old, new) in old.into_iter().zip(new).filter(|(old, new)| !Arc::ptr_eq(old, new)) {
            self.network.update(queue, old, new)?;
        }
        Ok(())
    }

    /// Frees the training's device memory when what was submitted is done. A browser frees it otherwise when it
    /// collects garbage, so maybe never.
    pub fn destroy(self) {
        self.plan.destroy();
        self.network.destroy();
    }
}

/// A network whose layers take new numbers: kernels on matrix units keep factors of the old ones.
fn network(pipelines: &Pipelines) -> Result<Network> {
    let pipelines = pipelines.clone().with_tensor_cores(None);
    Network::new(&pipelines, NetworkOptions::default())
}

/// The weights of the layers of a program, each once for every convolution forward.
fn layers(program: &Program) -> Vec<&Arc<Weights>> {
    let weights = program.steps().iter().filter_map(|step| match &step.op {
        StepOp::Conv { weights, .. } => Some(weights),
        _ => None,
    });
    weights.collect()
}
