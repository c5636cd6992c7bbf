//! A convolution in device memory: weights uploaded once, for as long as the model lives.

use super::choose::ConvProblem;
use super::format::{FloatFormat, WeightFormat};
use super::kernel::Kernel;
use super::memory::{MemoryUse, check_buffer};
use super::options::LayerOptions;
use super::params::{NONE, WeightLayout};
use super::pipelines::Pipelines;
use super::planes::{matrix_factor, pack_halves, pack_planes, transpose_floats, transpose_scales};
use super::transfer::{bits, upload};
use crate::error::Labelled;
use crate::{ConvDescriptor, Result, WeightsRef};
use std::sync::Arc;

/// A convolution whose weights are in device memory. Lives as long as the model. A clone shares them.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) pipelines: Pipelines,
    pub(super) descriptor: ConvDescriptor,
    pub(super) format: WeightFormat,
    pub(super) layout: WeightLayout,
    pub(super) options: LayerOptions,
    pub(super) kernel: Kernel,
    pub(super) label: Option<Arc<str>>,
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
        Self::make(pipelines, weights.into(), options, None)
    }

    /// [`new`](Self::new) with a name for the layer. Its buffers and bind groups have it for wgpu, a recorded plan is a
    /// debug group of that name, and errors begin with it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn labelled<'a>(
        pipelines: &Pipelines,
        weights: impl Into<WeightsRef<'a>>,
        options: LayerOptions,
        label: &str,
    ) -> Result<Self> {
        Self::make(pipelines, weights.into(), options, Some(label)).labelled(Some(label))
    }

    fn make(
        pipelines: &Pipelines,
        weights: WeightsRef<'_>,
        options: LayerOptions,
        label: Option<&str>,
    ) -> Result<Self> {
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
        let most = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let (words, bias, largest) = match weights {
            WeightsRef::Float(weights) => {
                let words = transpose_floats(weights).into_iter().map(f32::to_bits).collect();
                (words, weights.bias().map(<[f32]>::to_vec), most(weights.values()))
            }
            WeightsRef::DsConv(weights) => {
                let transpose = |scales: &[f32]| {
                    transpose_scales(scales, descriptor.out_channels, descriptor.taps())
                };
                let folded = weights.folded_scales()?;
                let mut per_block = transpose(&folded.alpha);
                let mut largest = most(&folded.alpha) * f32::from(1u8 << (format.bits() - 1));
                if let Some(kds_bias) = &folded.kds_bias {
                    largest += most(kds_bias);
                    kds_bias_at = per_block.len() as u32;
                    per_block.extend(transpose(kds_bias));
                }
                (scales, scale_factor) = match options.scale_format {
                    FloatFormat::F32 => (bits(&per_block), 1.0),
                    FloatFormat::F16 => pack_halves(&per_block),
                };
                let in_fours = !kernel.channel_fours(format, &descriptor);
                (pack_planes(weights, in_fours), folded.bias, largest)
            }
        };
        if let Some(bias) = bias {
            bias_at = scales.len() as u32;
            scales.extend(bits(&bias));
        }
        let device = pipelines.device();
        let storage = wgpu::BufferUsages::STORAGE;
        let name = |what| with_label(what, label);
        let weights = upload(device, &name("dsconv weights"), storage, &words)?;
        let scales = match scales.is_empty() {
            true => None,
            false => Some(upload(device, &name("dsconv scales"), storage, &scales)?),
        };
        Ok(Self {
            pipelines: pipelines.clone(),
            descriptor,
            format,
            layout: WeightLayout {
                bits: format.bits(),
                blocks: problem.row_blocks(),
                kds_bias_at,
                bias_at,
                scale_factor,
                matrix_factor: matrix_factor(largest),
            },
            options,
            kernel,
            label: label.map(Arc::from),
            weights,
            scales,
        })
    }

    /// The geometry.
    pub fn descriptor(&self) -> &ConvDescriptor {
        &self.descriptor
    }

    /// The options that it was made with.
    pub fn options(&self) -> &LayerOptions {
        &self.options
    }

    /// The format of its weights in device memory.
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// The pipelines that it was made with.
    pub fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// The name that it was given.
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// The kernel that runs this layer; for large outputs perhaps in a form for those, see [`Plan::kernel`](super::Plan::kernel).
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

    /// Frees the layer's memory when what was submitted is done; its clones and plans can't be submitted any more. A
    /// browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.weights.destroy();
        if let Some(scales) = self.scales {
            scales.destroy();
        }
    }
}

/// A name for wgpu, with the layer's label if it has one.
pub(super) fn with_label(name: &str, label: Option<&str>) -> String {
    label.map_or_else(|| name.to_owned(), |label| format!("{name} of {label}"))
}
