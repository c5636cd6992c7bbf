//! One layer from host memory to host memory, for first steps and tests.

use super::format::{ActivationFormat, FloatFormat};
use super::layer::Layer;
use super::memory::{MemoryUse, check_buffer};
use super::plan::Tensors;
use super::scope::checked;
use super::transfer::{Scratch, bits, check_queue, read_floats, upload};
use crate::error::{Labelled, check_length};
use crate::{ActivationScale, Error, Residual, Result, Shape};
use half::f16;

impl Layer {
    /// Uploads an input, runs the layer, downloads the output; integer activations are made on the way,
    /// with [`ActivationScale::PowerOfTwo`]. For first steps and tests: a host that
    /// runs layers in a row uses [`plan`](Self::plan).
    ///
    /// `residual` is empty unless the options ask for one. Natively this blocks while the GPU works;
    /// in a browser it does not.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), wrong lengths, a queue of another device, or a lost device.
    pub async fn run(
        &self,
        queue: &wgpu::Queue,
        input: Shape,
        x: &[f32],
        residual: &[f32],
    ) -> Result<Vec<f32>> {
        self.run_once(queue, input, x, residual).await.labelled(self.label())
    }

    async fn run_once(
        &self,
        queue: &wgpu::Queue,
        input: Shape,
        x: &[f32],
        residual: &[f32],
    ) -> Result<Vec<f32>> {
        let shape = self.descriptor().output_shape(input)?;
        if self.options.int8_output.is_some() {
            return Err(Error::Unsupported {
                what: "Layer::run with int8_output".into(),
                remedy: "it gives floats; plan the layer between buffers instead".into(),
            });
        }
        check_length("input", input.elements(), x.len())?;
        let residual_length = match self.options.residual {
            Residual::None => 0,
            Residual::BeforeActivation | Residual::AfterActivation => shape.elements(),
        };
        check_length("residual", residual_length, residual.len())?;
        let blocks = &self.layout.blocks;
        let memory = MemoryUse::plan(self.descriptor(), blocks, input, shape, &self.options)?;
        check_buffer(self.pipelines.limits(), "input", 4 * x.len() as u64)?;
        check_buffer(self.pipelines.limits(), "input", memory.input)?;
        check_buffer(self.pipelines.limits(), "output", memory.output)?;

        let device = self.pipelines.device();
        let storage = wgpu::BufferUsages::STORAGE;
        let buffer = |label: &str, size: u64| {
            checked(device, label, || {
                device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some(label),
                    size,
                    usage: storage | wgpu::BufferUsages::COPY_SRC,
                    mapped_at_creation: false,
                })
            })
            .map(Scratch)
        };
        let floats = |label: &str, values: &[f32]| {
            let words = match self.options.float_format {
                FloatFormat::F32 => bits(values),
                FloatFormat::F16 => halves(values),
            };
            upload(device, label, storage | wgpu::BufferUsages::COPY_SRC, &words).map(Scratch)
        };
        let x = floats("dsconv input", x)?;
        let residual = match residual.is_empty() {
            true => None,
            false => Some(floats("dsconv residual", residual)?),
        };
        let (y, residual) = match residual {
            Some(residual) if self.options.residual_in_place => (residual, None),
            residual => (buffer("dsconv output", memory.output)?, residual),
        };
        let quantization = match self.options.input_format {
            ActivationFormat::Float => None,
            ActivationFormat::Int8 => {
                let integers = buffer("dsconv integer activations", memory.input)?;
                let scale = ActivationScale::default();
                let plan = self.plan_quantization(input, scale, x.slice(..), integers.slice(..))?;
                Some((plan, integers))
            }
        };
        let tensors = Tensors::new(
            quantization.as_ref().map_or(&x, |(_, integers)| integers).slice(..),
            y.slice(..),
        )
        .with_residual(residual.as_ref().map(|residual| residual.slice(..)));
        let plan = self.plan(input, tensors)?;
        check_queue(device, queue)?;
        checked(device, "the submission", || {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor {
                label: Some("dsconv run"),
            });
            for plan in quantization.iter().map(|(plan, _)| plan).chain([&plan]) {
                plan.encode(&mut encoder);
            }
            queue.submit([encoder.finish()]);
        })?;
        plan.destroy();
        if let Some((plan, _)) = quantization {
            plan.destroy();
        }
        read_floats(device, queue, y.slice(..), self.options.float_format, shape.elements()).await
    }
}

/// Floats as halves, two a word; what is out of range saturates.
fn halves(values: &[f32]) -> Vec<u32> {
    let half = |value: Option<&f32>| {
        let value = value.copied().unwrap_or(0.0).clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
        u32::from(f16::from_f32(value).to_bits())
    };
    values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 16).collect()
}
