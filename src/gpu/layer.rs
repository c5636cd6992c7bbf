//! A convolution in device memory: weights uploaded once, for as long as the model lives.

use super::capabilities::Capabilities;
use super::choose::ConvProblem;
use super::format::{FloatFormat, WeightFormat};
use super::kernel::Kernel;
use super::memory::{MemoryUse, check_buffer};
use super::options::LayerOptions;
use super::packed::Packed;
use super::params::{NONE, WeightLayout};
use super::pipelines::Pipelines;
use super::planes::matrix_factor;
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

        let packed = Packed::new(weights, &options, !kernel.channel_fours(format, &descriptor))?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let name = with_label("dsconv weights", label);
        let weights = pipelines.upload(&name, usage, &packed.words)?;
        Ok(Self {
            pipelines: pipelines.clone(),
            problem,
            format,
            layout: WeightLayout {
                bits: format.bits(),
                blocks: problem.row_blocks(),
                scales_at: packed.scales_at,
                kds_bias_at: packed.kds_bias_at,
                bias_at: packed.bias_at,
                scale_factor: packed.scale_factor,
                matrix_factor: matrix_factor(packed.largest),
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

    /// Writes other learned numbers over those of the layer, its clones and plans: alpha, KDS bias and bias, or float
    /// weights and bias. The integers stay: training freezes them, and those of `weights` are not looked at. Everything
    /// else of `weights` must be as the layer was made.
    ///
    /// The copy is part of the queue's next submission, and what was submitted before still reads the old numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] for weights of another geometry, format, or set of scales; [`Error::Unsupported`] for a layer
    /// with scales in halves or a kernel for matrix units, whose plans hold factors that follow from the old numbers.
    pub fn update<'a>(
        &self,
        queue: &wgpu::Queue,
        weights: impl Into<WeightsRef<'a>>,
    ) -> Result<()> {
        self.write(queue, weights.into()).labelled(self.label())
    }

    fn write(&self, queue: &wgpu::Queue, weights: WeightsRef<'_>) -> Result<()> {
        if self.options.scale_format != FloatFormat::F32 || self.kernel.spec().matrix.is_some() {
            return Err(Error::Unsupported {
                what: "new numbers for a layer with scales in halves, or on matrix units".into(),
                remedy: "make it with FloatFormat::F32 and another kernel".into(),
            });
        }
        let expected = |field: &str, expected: String, got: String| match expected == got {
            true => Ok(()),
            false => Err(Error::invalid(field, expected, got)),
        };
        expected(
            "descriptor of new weights",
            format!("{:?}", self.descriptor()),
            format!("{:?}", weights.descriptor()),
        )?;
        let problem = ConvProblem::of_layer(weights, &self.options);
        let of = |format: WeightFormat, blocks| format!("{format:?} in {blocks:?}");
        let (format, blocks) = (problem.weights(), problem.row_blocks());
        expected("new weights", of(self.format, self.layout.blocks), of(format, blocks))?;
        let in_fours = !self.kernel.channel_fours(format, self.descriptor());
        let packed = Packed::new(weights, &self.options, in_fours)?;
        let scales = |kds_bias_at, bias_at| {
            let has = |at| if at == NONE { "no" } else { "a" };
            format!("{} KDS bias, {} bias", has(kds_bias_at), has(bias_at))
        };
        expected(
            "scales of new weights",
            scales(self.layout.kds_bias_at, self.layout.bias_at),
            scales(packed.kds_bias_at, packed.bias_at),
        )?;
        let learned = if format == WeightFormat::F32 { 0 } else { packed.scales_at };
        let words = &packed.words[learned as usize..];
        queue.write_buffer(&self.weights, 4 * u64::from(learned), bytemuck::cast_slice(words));
        Ok(())
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
