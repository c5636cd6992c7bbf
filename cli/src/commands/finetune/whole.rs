//! A network whose layers learn, all or some of them.

use super::learner::{Batch, Learned, Learner, Scored, Targets};
use super::pictures::Pictures;
use crate::device::Device;
use crate::network::{RunOptions, remedied};
use anyhow::ensure;
use dsconv_net::Graph;
use dsconv_net::augment::Augmentation;
use dsconv_net::gpu::Activations;
use dsconv_net::train::{Gradients, Training, TrainingPlan};

/// A training, and where it runs.
pub(super) struct WholeLearner<'a> {
    pictures: &'a Pictures,
    targets: &'a Targets,
    training: Training,
    /// Pictures of a step.
    batch: usize,
    /// The plan on the GPU, with its queue; none on the CPU.
    on_gpu: Option<(TrainingPlan, wgpu::Queue)>,
}

impl<'a> WholeLearner<'a> {
    /// Plans the training of batches of so many pictures.
    pub(super) fn new(
        (pictures, targets): (&'a Pictures, &'a Targets),
        training: Training,
        batch: usize,
        device: Option<&Device>,
        how: &RunOptions,
    ) -> anyhow::Result<Self> {
        ensure!(
            how.is_in_floats(),
            "--train: layers learn in 32-bit floats; leave --int8 and --half-scales out"
        );
        let on_gpu = match device {
            None => {
                how.check_memory(training.memory())?;
                None
            }
            Some(device) => {
                let pipelines = device.pipelines_for(Activations::F32)?;
                let memory = TrainingPlan::memory_use(&pipelines, &training).map_err(remedied)?;
                how.check_memory(memory.tensors)?;
                let plan = TrainingPlan::new(&pipelines, &training).map_err(remedied)?;
                Some((plan, device.gpu.queue.clone()))
            }
        };
        Ok(Self { pictures, targets, training, batch, on_gpu })
    }

    /// The network with these values.
    pub(super) fn graph(mut self, values: &[Vec<f32>]) -> anyhow::Result<Graph> {
        self.training.set(values)?;
        Ok(self.training.graph().clone())
    }

    /// Gives the network these values.
    fn set(&mut self, values: &[Vec<f32>]) -> anyhow::Result<()> {
        self.training.set(values)?;
        if let Some((plan, queue)) = &self.on_gpu {
            plan.update(queue, &self.training)?;
        }
        Ok(())
    }

    /// The gradients of a whole batch, and its targets.
    fn step(&self, batch: &Batch<'_>) -> anyhow::Result<(Gradients, Vec<f32>)> {
        let input = self.pictures.input(batch.places, batch.how, batch.seed)?;
        let targets = self.targets.of(batch.places, &input)?;
        let inputs: [&[f32]; 1] = [&input];
        let gradients = match &self.on_gpu {
            None => self.training.step(&inputs, &targets)?,
            Some((plan, queue)) => {
                pollster::block_on(plan.step(queue, &self.training, &inputs, &targets))?
            }
        };
        Ok((gradients, targets))
    }
}

impl Learner for WholeLearner<'_> {
    fn learn(&mut self, values: &[Vec<f32>], batch: &Batch<'_>) -> anyhow::Result<Learned> {
        self.set(values)?;
        let (Gradients { scores, gradients, .. }, targets) = self.step(batch)?;
        Ok(Learned { scored: Scored { scores, targets }, gradients })
    }

    fn judge(&mut self, values: &[Vec<f32>], places: &[usize]) -> anyhow::Result<Scored> {
        self.set(values)?;
        let mut all = Scored::default();
        for places in places.chunks(self.batch) {
            // The last ones are filled up to a batch, and what comes of that is left out.
            let mut filled = places.to_vec();
            filled.resize(self.batch, places[0]);
            let batch = Batch { places: &filled, how: Augmentation::default(), seed: 0 };
            let (step, targets) = self.step(&batch)?;
            let count = targets.len() / self.batch * places.len();
            all.scores.extend_from_slice(&step.scores[..count]);
            all.targets.extend_from_slice(&targets[..count]);
        }
        Ok(all)
    }
}
