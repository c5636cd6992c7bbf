//! A convolution in device memory: weights uploaded once, for as long as the model lives.

use super::capabilities::Capabilities;
use super::choose::ConvProblem;
use super::format::{FloatFormat, WeightFormat};
use super::kernel::Kernel;
use super::memory::{MemoryUse, check_buffer};
use super::options::LayerOptions;
use super::params::{NONE, WeightLayout};
use super::pipelines::Pipelines;
use super::planes::{matrix_factor, pack_halves, pack_planes, transpose_floats, transpose_scales};
use super::transfer::bits;
use crate::error::Labelled;
use crate::{ConvDescriptor, Error, Result, WeightsRef};
use std::sync::Arc;

/// A convolution whose weights are in device memory. Lives as long as the model. A clone shares them.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(super) pipelines: Pipelines,
    pub(super) problem: ConvProblem,
    pub(super) format: WeightFormat,
    pub(super) layout: WeightLayout,
    pub(super) options: LayerOptions,
    pub(super) kernel: Kernel,
    pub(super) label: Option<Arc<str>>,
    /// The weights, then what scales them and the bias, from `layout.scales_at` on.
    pub(super) weights: wgpu::Buffer,
}

impl Layer {
    /// Uploads weights: packed integers stay packed, alpha is multiplied in the shader. The channel
    /// distribution shift is folded into alpha, KDS bias and bias, which costs no precision to speak of.
    ///
    /// The upload is part of the device's next submission. Until then wgpu keeps a copy of the weights in host memory; a
    /// host that makes many layers bounds that by [`Pipelines::with_upload_bound`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a kernel that can't compute this layer, [`Error::Limit`] for weights over the device's limits, a bad activation, or
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
        let kernel = kernel_for(&problem, &options, pipelines.capabilities())?;
        let format = problem.weights();
        let memory = MemoryUse::of_layer(weights, &options);
        check_buffer(pipelines.limits(), "weights with their scales", memory.total())?;

        // Words: what comes per block, then the bias.
        let mut scales = Vec::new();
        let (mut kds_bias_at, mut bias_at, mut scale_factor) = (NONE, NONE, 1.0);
        let most = |values: &[f32]| values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let (mut words, bias, largest): (Vec<u32>, _, _) = match weights {
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
        let whole_fours = |words: &mut Vec<u32>| words.resize(words.len().next_multiple_of(4), 0);
        whole_fours(&mut words);
        let scales_at = words.len() as u32;
        words.extend(scales);
        if let Some(bias) = bias {
            bias_at = words.len() as u32;
            words.extend(bits(&bias));
        }
        whole_fours(&mut words);
        let name = with_label("dsconv weights", label);
        let weights = pipelines.upload(&name, wgpu::BufferUsages::STORAGE, &words)?;
        Ok(Self {
            pipelines: pipelines.clone(),
            problem,
            format,
            layout: WeightLayout {
                bits: format.bits(),
                blocks: problem.row_blocks(),
                scales_at,
                kds_bias_at,
                bias_at,
                scale_factor,
                matrix_factor: matrix_factor(largest),
            },
            options,
            kernel,
            label: label.map(Arc::from),
            weights,
        })
    }

    /// The same weights under other options. They share the buffer: nothing is packed or uploaded. The label stays.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for options under which the weights would lie otherwise in memory: another scale format,
    /// or for 8-bit weights a kernel of another kind; and as [`new`](Self::new).
    pub fn with_options(&self, options: LayerOptions) -> Result<Self> {
        self.under(options).labelled(self.label())
    }

    fn under(&self, options: LayerOptions) -> Result<Self> {
        let problem = self.problem.under(&options);
        let kernel = kernel_for(&problem, &options, self.pipelines.capabilities())?;
        let fours = |kernel: Kernel| kernel.channel_fours(self.format, self.descriptor());
        let scales =
            options.scale_format == self.options.scale_format || self.format == WeightFormat::F32;
        let words = fours(kernel) == fours(self.kernel) || self.format != WeightFormat::Packed(8);
        if !scales || !words {
            let what = match scales {
                false => "sharing weights with scales in another format".to_owned(),
                true => format!(
                    "sharing 8-bit weights between {} and {}",
                    self.kernel.name(),
                    kernel.name()
                ),
            };
            let remedy = "make another layer of the weights (Layer::new)".into();
            return Err(Error::Unsupported { what, remedy });
        }
        Ok(Self { problem, options, kernel, ..self.clone() })
    }

    /// The geometry.
    pub fn descriptor(&self) -> &ConvDescriptor {
        &self.problem.descriptor
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
        let weights = 4 * u64::from(self.layout.scales_at);
        MemoryUse { weights, scales: self.weights.size() - weights, ..MemoryUse::default() }
    }

    /// Frees the layer's memory when what was submitted is done; its clones and plans can't be submitted any more. A
    /// browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.weights.destroy();
    }
}

/// Checks options, and finds the kernel for a layer under them.
fn kernel_for(
    problem: &ConvProblem,
    options: &LayerOptions,
    capabilities: &Capabilities,
) -> Result<Kernel> {
    options.check()?;
    if let Some(int8) = &options.int8_output {
        int8.check(&problem.descriptor)?;
    }
    let kernel = options.kernel.unwrap_or_else(|| Kernel::choose(problem, capabilities));
    kernel.supports(problem, capabilities)?;
    Ok(kernel)
}

/// A name for wgpu, with the layer's label if it has one.
pub(super) fn with_label(name: &str, label: Option<&str>) -> String {
    label.map_or_else(|| name.to_owned(), |label| format!("{name} of {label}"))
}
