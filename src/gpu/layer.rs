use super::kernel::{ActivationFormat, ConvProblem, FloatFormat, Int8Output, Kernel};
use super::memory::{MemoryUse, check_buffer, row_blocks};
use super::params::{NONE, WeightLayout};
use super::pipelines::Pipelines;
use super::plan::{Plan, Tensors};
use super::planes::{pack_halves, pack_planes, transpose_floats, transpose_scales};
use super::transfer::{Scratch, read_floats, upload};
use super::variant::WeightFormat;
use crate::error::check_length;
use crate::{
    Activation, ActivationScale, ConvDescriptor, Error, Layout, Residual, Result, Shape, WeightsRef,
};
use half::f16;

/// How a layer runs: everything that is not learned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerOptions {
    /// The activation behind the convolution.
    pub activation: Activation,
    /// Where a residual tensor is added.
    pub residual: Residual,
    /// Whether the input is floats or integer activations.
    pub input_format: ActivationFormat,
    /// The layout of a float input; integer activations have one of their own.
    pub input_layout: Layout,
    /// The layout of a float output, and of the residual.
    pub output_layout: Layout,
    /// Integer activations as output, for the next layer; floats by default.
    pub int8_output: Option<Int8Output>,
    /// What float tensors are made of: the input (also that of [`Layer::plan_quantization`]), the output, the residual.
    /// Halves want `wgpu::Features::SHADER_F16`; outputs beyond their range saturate.
    pub float_format: FloatFormat,
    /// What alpha and KDS bias are stored as. Halves, scaled by a power of two, cost up to 0.05% of a weight and take
    /// half of the memory, on every device.
    pub scale_format: FloatFormat,
    /// A kernel of the caller's choice; by default [`Kernel::choose`] picks one.
    pub kernel: Option<Kernel>,
}

impl LayerOptions {
    /// The layout of the input, whatever its format: the channels of integer activations are neighbours.
    pub(super) fn layout_of_input(&self) -> Layout {
        match self.input_format {
            ActivationFormat::Float => self.input_layout,
            ActivationFormat::Int8 => Layout::Nhwc,
        }
    }
}

/// A convolution whose weights are in device memory. Lives as long as the model.
#[derive(Debug)]
pub struct Layer {
    pub(super) pipelines: Pipelines,
    pub(super) descriptor: ConvDescriptor,
    pub(super) format: WeightFormat,
    pub(super) layout: WeightLayout,
    pub(super) options: LayerOptions,
    pub(super) kernel: Kernel,
    pub(super) weights: wgpu::Buffer,
    pub(super) scales: Option<wgpu::Buffer>,
}

impl Layer {
    /// Uploads weights: packed integers stay packed, alpha is multiplied in the shader. The channel
    /// distribution shift is folded into alpha, KDS bias and bias, which costs no precision to speak of.
    ///
    /// The upload is part of the device's next submission.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) for a kernel that can't compute this layer,
    /// [`Error::Limit`](crate::Error::Limit) for weights over the device's limits, a bad activation, or
    /// what the device reports.
    pub fn new<'a>(
        pipelines: &Pipelines,
        weights: impl Into<WeightsRef<'a>>,
        options: LayerOptions,
    ) -> Result<Self> {
        let weights = weights.into();
        let descriptor = *weights.descriptor();
        let problem = ConvProblem::of_layer(weights, &options);
        if let Some(int8) = &options.int8_output {
            int8.check(&descriptor)?;
        }
        let format = problem.weights();
        options.activation.validate()?;
        let capabilities = pipelines.capabilities();
        let kernel = options.kernel.unwrap_or_else(|| Kernel::choose(&problem, capabilities));
        kernel.supports(&problem, capabilities)?;
        let memory = MemoryUse::of_layer(weights, &options);
        check_buffer(pipelines.limits(), "weights", memory.weights)?;
        check_buffer(pipelines.limits(), "alpha, KDS bias and bias", memory.scales)?;

        // Words: what comes per block, then the bias.
        let mut scales = Vec::new();
        let (mut kds_bias_at, mut bias_at, mut scale_factor) = (NONE, NONE, 1.0);
        let (words, bias) = match weights {
            WeightsRef::Float(weights) => {
                let words = transpose_floats(weights).into_iter().map(f32::to_bits).collect();
                (words, weights.bias().map(<[f32]>::to_vec))
            }
            WeightsRef::DsConv(weights) => {
                let transpose = |scales: &[f32]| {
                    transpose_scales(scales, descriptor.out_channels, descriptor.taps())
                };
                let folded = weights.folded_shifts()?;
                let mut per_block = transpose(&folded.alpha);
                if let Some(kds_bias) = &folded.kds_bias {
                    kds_bias_at = per_block.len() as u32;
                    per_block.extend(transpose(kds_bias));
                }
                (scales, scale_factor) = match options.scale_format {
                    FloatFormat::F32 => (bits(&per_block), 1.0),
                    FloatFormat::F16 => pack_halves(&per_block),
                };
                (pack_planes(weights), folded.bias)
            }
        };
        if let Some(bias) = bias {
            bias_at = scales.len() as u32;
            scales.extend(bits(&bias));
        }
        let device = pipelines.device();
        let storage = wgpu::BufferUsages::STORAGE;
        let weights = upload(device, "dsconv weights", storage, &words)?;
        let scales = match scales.is_empty() {
            true => None,
            false => Some(upload(device, "dsconv scales", storage, &scales)?),
        };
        Ok(Self {
            pipelines: pipelines.clone(),
            descriptor,
            format,
            layout: WeightLayout {
                bits: format.bits(),
                blocks: row_blocks(&problem),
                kds_bias_at,
                bias_at,
                scale_factor,
            },
            options,
            kernel,
            weights,
            scales,
        })
    }

    /// The geometry.
    pub fn descriptor(&self) -> &ConvDescriptor {
        &self.descriptor
    }

    /// The kernel that runs this layer; for large outputs perhaps in a form for those, see [`Plan::kernel`].
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The device memory that this layer holds.
    pub fn memory_use(&self) -> MemoryUse {
        MemoryUse {
            weights: self.weights.size(),
            scales: self.scales.as_ref().map_or(0, wgpu::Buffer::size),
            ..MemoryUse::default()
        }
    }

    /// Frees the layer's memory when what was submitted is done; its plans can't be submitted any more. A
    /// browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.weights.destroy();
        if let Some(scales) = self.scales {
            scales.destroy();
        }
    }

    /// Prepares the convolution of one input shape between tensors of the host: all that can fail
    /// fails here. Output and input must lie in different buffers, as WebGPU demands.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) names the tensor that is too small, misaligned, missing,
    /// without `BufferUsages::STORAGE` or in the output's buffer; [`Error::Limit`](crate::Error::Limit)
    /// for tensors or grids over the device's limits; a shape that does not fit; or what the device
    /// reports.
    pub fn plan(&self, input: Shape, tensors: Tensors<'_>) -> Result<Plan> {
        Plan::convolution(self, input, tensors)
    }

    /// Prepares the quantisation of this layer's input: from floats in the options' layout to integer
    /// activations in the layer's blocks, as its [`plan`](Self::plan) takes them. Layers whose input has
    /// the same groups and blocks can share the result.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); [`Error::Unsupported`](crate::Error::Unsupported) for a layer whose
    /// options say float activations.
    pub fn plan_quantization(
        &self,
        input: Shape,
        scale: ActivationScale,
        floats: wgpu::BufferSlice<'_>,
        integers: wgpu::BufferSlice<'_>,
    ) -> Result<Plan> {
        Plan::quantization(self, input, scale, floats, integers)
    }

    /// Uploads an input, runs the layer, downloads the output; integer activations are made on the way,
    /// with [`ActivationScale::PowerOfTwo`]. For first steps and tests: a host that
    /// runs layers in a row uses [`plan`](Self::plan).
    ///
    /// `residual` is empty unless the options ask for one. Natively this blocks while the GPU works;
    /// in a browser it does not.
    ///
    /// # Errors
    /// As [`plan`](Self::plan), wrong lengths, or a lost device.
    pub async fn run(
        &self,
        queue: &wgpu::Queue,
        input: Shape,
        x: &[f32],
        residual: &[f32],
    ) -> Result<Vec<f32>> {
        let shape = self.descriptor.output_shape(input)?;
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
        let memory = MemoryUse::plan(&self.descriptor, blocks, input, shape, &self.options)?;
        check_buffer(self.pipelines.limits(), "input", 4 * x.len() as u64)?;
        check_buffer(self.pipelines.limits(), "input", memory.input)?;
        check_buffer(self.pipelines.limits(), "output", memory.output)?;

        let device = self.pipelines.device();
        let storage = wgpu::BufferUsages::STORAGE;
        let buffer = |label: &str, size: u64| {
            super::scope::checked(device, label, || {
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
            upload(device, label, storage, &words).map(Scratch)
        };
        let x = floats("dsconv input", x)?;
        let residual = match residual.is_empty() {
            true => None,
            false => Some(floats("dsconv residual", residual)?),
        };
        let y = buffer("dsconv output", memory.output)?;
        let quantization = match self.options.input_format {
            ActivationFormat::Float => None,
            ActivationFormat::Int8 => {
                let integers = buffer("dsconv integer activations", memory.input)?;
                let scale = ActivationScale::default();
                let plan = self.plan_quantization(input, scale, x.slice(..), integers.slice(..))?;
                Some((plan, integers))
            }
        };
        let tensors = Tensors {
            input: quantization.as_ref().map_or(&x, |(_, integers)| integers).slice(..),
            residual: residual.as_ref().map(|residual| residual.slice(..)),
            output: y.slice(..),
        };
        let plan = self.plan(input, tensors)?;
        super::scope::checked(device, "the submission", || {
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

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Floats as halves, two a word; what is out of range saturates.
fn halves(values: &[f32]) -> Vec<u32> {
    let half = |value: Option<&f32>| {
        let value = value.copied().unwrap_or(0.0).clamp(f16::MIN.to_f32(), f16::MAX.to_f32());
        u32::from(f16::from_f32(value).to_bits())
    };
    values.chunks(2).map(|pair| half(pair.first()) | half(pair.get(1)) << 16).collect()
}
