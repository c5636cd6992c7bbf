//! A model in device memory, and the plans that are made of it.

use super::channels_last::Layouts;
use super::kernels::OpKernels;
use super::layout::MemoryLayout;
use super::memory::NetworkMemory;
use super::options::NetworkOptions;
use super::plan::NetworkPlan;
use super::schedule::Schedule;
use super::uploads::Uploads;
use crate::Result;
use crate::ir::program::Program;
use dsconv::Weights;
use dsconv::gpu::Pipelines;
use std::sync::Arc;

/// A model in device memory: weights and constants, shared by the plans of all input shapes.
///
/// They are uploaded by the first plan that needs them, and known by their `Arc`s: programs of one
/// [`Graph`](crate::Graph) share them. What no program holds any longer goes at the next plan.
#[derive(Debug)]
pub struct Network {
    pipelines: Pipelines,
    options: NetworkOptions,
    uploads: Uploads,
    kernels: OpKernels,
}

impl Network {
    /// A network without weights yet, on the device of those pipelines.
    ///
    /// # Errors
    /// An error that the device reports.
    pub fn new(pipelines: &Pipelines, options: NetworkOptions) -> Result<Self> {
        Ok(Self {
            pipelines: pipelines.clone(),
            options,
            uploads: Uploads::new(pipelines),
            kernels: OpKernels::new(pipelines)?,
        })
    }

    /// The options.
    pub fn options(&self) -> NetworkOptions {
        self.options
    }

    /// The number of pipelines that have been compiled so far, besides those of convolutions
    /// ([`Pipelines::compiled`]).
    pub fn compiled(&self) -> usize {
        self.kernels.compiled()
    }

    /// The memory that a plan of this program will take, and that of the weights and constants it needs.
    ///
    /// # Errors
    /// A tensor over the device's limits, as [`Error::Node`](crate::Error::Node) with the step that makes it.
    pub fn memory_use(&self, program: &Program) -> Result<NetworkMemory> {
        let schedule = self.schedule(program)?;
        let layout = MemoryLayout::new(program, &schedule, self.pipelines.limits())?;
        Ok(NetworkMemory::of(&schedule, &layout))
    }

    /// Prepares a program: all that can fail fails here. Uploads are part of the device's next submission.
    ///
    /// # Errors
    /// [`Error::Node`](crate::Error::Node) names the step; inside of it, what is over a limit of the device or what it
    /// reports.
    pub fn plan(&mut self, program: &Program) -> Result<NetworkPlan> {
        self.uploads.forget_unused();
        let schedule = self.schedule(program)?;
        let layout = MemoryLayout::new(program, &schedule, self.pipelines.limits())?;
        NetworkPlan::new(&mut self.uploads, &mut self.kernels, program, &schedule, &layout)
    }

    /// Writes new learned numbers over those of a program's weights, in device memory: alpha, KDS bias and bias, or float
    /// weights and bias. Integers and geometry stay, and so do the program and its plans, which read the new numbers
    /// from the queue's next submission on.
    ///
    /// # Errors
    /// As [`Layer::update`](dsconv::gpu::Layer::update).
    pub fn update(&self, queue: &wgpu::Queue, weights: &Arc<Weights>, new: &Weights) -> Result<()> {
        self.uploads.update(queue, weights, new)
    }

    /// Frees the weights and constants that no program holds any longer. Plans of such programs can't be submitted
    /// any more.
    pub fn destroy_unused(&mut self) {
        self.uploads.destroy_unused();
    }

    /// Frees all of the network's memory when what was submitted is done; its plans can't be submitted any more. A
    /// browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.uploads.destroy();
        self.kernels.destroy();
    }

    fn schedule(&self, program: &Program) -> Result<Schedule> {
        Schedule::new(Layouts::new(program), self.options, self.pipelines.capabilities())
    }
}
