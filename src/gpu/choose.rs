//! Which kernels can compute a layer on a device, and which one is chosen, with the measured reason beside each rule.

use super::capabilities::{Capabilities, TensorCores};
use super::format::{ActivationFormat, FloatFormat, Int8Output, WeightFormat};
use super::kernel::{AcceptedWeights, Kernel, Specialization, Work};
use super::options::LayerOptions;
use crate::{BlockFormat, Blocks, ConvDescriptor, Error, Layout, Result, Shape, WeightsRef};

/// A convolution without its data: what decides whether a kernel can compute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ConvProblem {
    /// The geometry.
    pub descriptor: ConvDescriptor,
    /// The format of packed weights; `None` for floats.
    pub blocks: Option<BlockFormat>,
    /// The format of the input.
    pub activations: ActivationFormat,
    /// Set where the output is integer activations.
    pub int8_output: Option<Int8Output>,
    /// The format of float tensors.
    pub float_format: FloatFormat,
    /// The layout of the input.
    pub input_layout: Layout,
    /// The layout of the output.
    pub output_layout: Layout,
}

impl ConvProblem {
    /// The problem of a layer with such weights and input, and otherwise the default options.
    pub fn new<'a>(weights: impl Into<WeightsRef<'a>>, activations: ActivationFormat) -> Self {
        let weights = weights.into();
        let blocks = match weights {
            WeightsRef::Float(_) => None,
            WeightsRef::DsConv(weights) => Some(*weights.format()),
        };
        Self::of_format(*weights.descriptor(), blocks).with_activations(activations)
    }

    /// The problem of a layer with weights of that format, or with `None` float weights, and otherwise the default
    /// options.
    pub fn of_format(descriptor: ConvDescriptor, blocks: Option<BlockFormat>) -> Self {
        Self {
            descriptor,
            blocks,
            activations: ActivationFormat::default(),
            int8_output: None,
            float_format: FloatFormat::default(),
            input_layout: Layout::default(),
            output_layout: Layout::default(),
        }
    }

    /// The same for another format of the input.
    pub fn with_activations(self, activations: ActivationFormat) -> Self {
        Self { activations, ..self }
    }

    /// The same with an output of integer activations, or with `None` of floats.
    pub fn with_int8_output(self, int8_output: impl Into<Option<Int8Output>>) -> Self {
        Self { int8_output: int8_output.into(), ..self }
    }

    /// The same for another format of float tensors.
    pub fn with_float_format(self, float_format: FloatFormat) -> Self {
        Self { float_format, ..self }
    }

    /// The same for other layouts of input and output.
    pub fn with_layouts(self, input_layout: Layout, output_layout: Layout) -> Self {
        Self { input_layout, output_layout, ..self }
    }

    /// The problem of a layer with such weights and options.
    pub fn of_layer<'a>(weights: impl Into<WeightsRef<'a>>, options: &LayerOptions) -> Self {
        Self::new(weights, options.input_format).under(options)
    }

    /// The same under such options.
    pub(super) fn under(self, options: &LayerOptions) -> Self {
        Self {
            activations: options.input_format,
            int8_output: options.int8_output,
            float_format: options.float_format,
            input_layout: options.layout_of_input(),
            output_layout: options.output_layout,
            ..self
        }
    }

    /// The format of the weights in device memory.
    pub fn weights(&self) -> WeightFormat {
        self.blocks.map_or(WeightFormat::F32, |format| WeightFormat::Packed(format.bits()))
    }

    /// The blocks of a row of channels; one for floats.
    pub(super) fn row_blocks(&self) -> Blocks {
        let channels = self.descriptor.channels_per_group();
        let whole = Blocks { channels, size: channels, count: 1 };
        self.blocks.map_or(whole, |format| format.blocks(&self.descriptor))
    }

    /// Channels of the largest block.
    fn largest_block(&self) -> u32 {
        let blocks = self.row_blocks();
        let last = blocks.range(blocks.count - 1);
        blocks.size.max(last.end - last.start)
    }
}

impl std::fmt::Display for ConvProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let channels = self.descriptor.channels_per_group();
        let (weights, activations, block) =
            (self.weights(), self.activations, self.largest_block());
        write!(
            f,
            "{weights} weights, {activations} activations, {:?} to {:?}, {channels} input channels per group in blocks of {block}",
            self.input_layout, self.output_layout
        )
    }
}

impl Kernel {
    /// The kernel for a layer on a device, where the caller names none. Measures nothing.
    pub fn choose(problem: &ConvProblem, capabilities: &Capabilities) -> Self {
        let fits = |kernel: Self| kernel.supports(problem, capabilities).is_ok();
        let outputs = problem.descriptor.outputs_per_group();
        // By the machine code, a tenth of the instructions of `conv_gemm`, and a fifth of the cycles on NVIDIA's chips. So
        // it pays where a quarter of a tile is full, and a step of channels.
        if let Some(kernel) = capabilities.tensor_cores.map(TensorCores::kernel)
            && fits(kernel)
            && kernel.spec().tile().is_some_and(|tile| 4 * outputs >= tile.outputs)
            && Some(problem.descriptor.channels_per_group()) >= kernel.spec().step
        {
            return kernel;
        }
        let narrow_software = capabilities.software && capabilities.subgroup_size != Some(8);
        match problem.activations {
            // On lavapipe packed dot products take longer than the same in floats.
            ActivationFormat::Int8 if capabilities.software && fits(Self::ConvSubgroupInt8) => {
                Self::ConvSubgroupInt8
            }
            ActivationFormat::Int8 => {
                let kernel = capabilities.packed_dot_product.kernel();
                if fits(kernel) { kernel } else { Self::ConvGemm }
            }
            // Loads and stores of four channels, in place of one at a time: on lavapipe twice as fast as the next one in
            // either layout, on SwiftShader 1.2 times.
            ActivationFormat::Float if fits(Self::ConvDepthwiseNhwc) => Self::ConvDepthwiseNhwc,
            // A third of the loads, and none of the places worked out for each of them: on lavapipe 1.2 times faster
            // through a whole EfficientNet-Lite0. On SwiftShader, which has subgroups of four, 1.1 times slower. Its
            // threads lie side by side in planes; with channels last those of `conv_depthwise` do.
            ActivationFormat::Float
                if fits(Self::ConvDepthwiseWindow)
                    && !narrow_software
                    && (problem.output_layout == Layout::Nchw || capabilities.software) =>
            {
                Self::ConvDepthwiseWindow
            }
            ActivationFormat::Float if fits(Self::ConvDepthwise) => Self::ConvDepthwise,
            // A tile of 32 or 64 output channels would be mostly empty.
            ActivationFormat::Float if outputs <= 4 && fits(Self::ConvDirect) => Self::ConvDirect,
            // Seven to ten times faster than tiles in workgroup memory on lavapipe.
            ActivationFormat::Float if capabilities.software && fits(Self::ConvSubgroup) => {
                Self::ConvSubgroup
            }
            ActivationFormat::Float => Self::ConvGemm,
        }
    }

    /// The form of this kernel for outputs that fill a whole device, or itself. The wide form needs registers.
    pub fn for_large_outputs(self, capabilities: &Capabilities) -> Self {
        match self {
            Self::ConvGemm if capabilities.wide_tiles => Self::ConvGemmWide,
            _ => self,
        }
    }

    /// The kernel for one output shape, where this one was chosen for the layer. The wide form needs so many pixels
    /// that a device is still full: 512 workgroups, four for each unit of a large GPU. Matrix units need a quarter of a
    /// tile's pixels.
    pub(crate) fn for_output(
        self,
        descriptor: &ConvDescriptor,
        blocks: &Blocks,
        output: Shape,
        capabilities: &Capabilities,
    ) -> Self {
        match self {
            Self::ConvGemm if Self::ConvGemmWide.workgroups(descriptor, blocks, output) >= 512 => {
                self.for_large_outputs(capabilities)
            }
            Self::ConvMatrix8 | Self::ConvMatrix16
                if self.spec().tile().is_some_and(|t| 4 * output.pixels() < t.pixels as usize) =>
            {
                Self::ConvGemm
            }
            _ => self,
        }
    }

    /// Workgroups for an output of that shape; what `quantize_activations` puts out has its input's.
    pub(super) fn workgroups(
        self,
        descriptor: &ConvDescriptor,
        blocks: &Blocks,
        output: Shape,
    ) -> u32 {
        let groups = u64::from(descriptor.groups);
        let threads = u64::from(self.spec().threads);
        let pixels = output.pixels() as u64;
        let count = match self.spec().work {
            Work::Outputs => (output.elements() as u64).div_ceil(threads),
            Work::Patches { rows, columns } => {
                let patches = output.height.div_ceil(rows) * output.width.div_ceil(columns);
                let planes = u64::from(output.batch) * u64::from(output.channels);
                planes * u64::from(patches).div_ceil(threads)
            }
            Work::Strips { columns } => {
                let lines = u64::from(output.batch) * u64::from(output.height);
                let fours = u64::from(output.channels / 4);
                (lines * u64::from(output.width.div_ceil(columns)) * fours).div_ceil(threads)
            }
            Work::Blocks => (pixels * groups * u64::from(blocks.count)).div_ceil(threads),
            Work::Tiles(tile) => {
                let output_tiles = descriptor.outputs_per_group().div_ceil(tile.outputs);
                pixels.div_ceil(tile.pixels.into()) * u64::from(output_tiles) * groups
            }
        };
        // Fewer than the output's elements, times 32 at the very most for groups of one channel.
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Checks that this kernel can compute such a layer on such a device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the reason.
    pub fn supports(self, problem: &ConvProblem, capabilities: &Capabilities) -> Result<()> {
        let refuse = |what: String, remedy: &str| {
            let what = format!("{} {what}", self.name());
            Err(Error::Unsupported { what, remedy: remedy.into() })
        };
        if !self.takes(problem) {
            if let Some(int8) = &problem.int8_output
                && !self.emits(problem, int8)
            {
                let (count, size) = (int8.blocks.count, int8.blocks.size);
                return refuse(
                    format!("with int8 output in {count} blocks of {size}"),
                    "blocks of 8, 16 or 32 channels (64 with a matrix product) that no group's end cuts; else float output and the next layer's plan_quantization",
                );
            }
            return refuse(
                format!("for {problem}"),
                "conv_gemm takes any layer with float activations, and any packed one with int8 activations",
            );
        }
        if problem.float_format == FloatFormat::F16 && !capabilities.shader_f16 {
            return refuse(
                "with f16 tensors on a device without wgpu::Features::SHADER_F16".into(),
                "request the feature where the adapter has it (WANTED_FEATURES holds it), or use f32 tensors",
            );
        }
        if problem.float_format == FloatFormat::F16 && problem.int8_output.is_some() {
            return refuse(
                "with f16 tensors and int8 output".into(),
                "f32 tensors; or float output and the next layer's plan_quantization",
            );
        }
        if let Some(needed) = self.spec().subgroup_size
            && capabilities.subgroup_size != Some(needed)
        {
            let size = capabilities.subgroup_size.map_or("no fixed size".into(), |s| s.to_string());
            return refuse(
                format!("on a device with subgroups of {size}"),
                &format!(
                    "it needs subgroups of {needed} and wgpu::Features::SUBGROUP; use conv_gemm or conv_gemm_int8"
                ),
            );
        }
        if let Some(size) = self.spec().matrix
            && capabilities.tensor_cores.is_none_or(|units| units.size != size)
        {
            return refuse(
                format!("on a device without proven matrix units of {size} x {size}"),
                "request dsconv::gpu::TENSOR_CORE_FEATURES, and give what tensor_cores() finds to Pipelines::with_tensor_cores; or use conv_gemm",
            );
        }
        Ok(())
    }

    /// Whether this kernel can compute such a layer on a device that has all it needs.
    fn takes(self, problem: &ConvProblem) -> bool {
        let spec = self.spec();
        // Integer activations come in the blocks of packed weights.
        let blocks = problem.activations == ActivationFormat::Float || problem.blocks.is_some();
        let weights =
            spec.weights == AcceptedWeights::Any || problem.weights() == WeightFormat::F32;
        let output = problem.int8_output.is_none_or(|int8| self.emits(problem, &int8));
        if !(spec.is_convolution() && spec.takes_input(problem.activations)) {
            return false;
        }
        let depthwise = problem.descriptor.channels_per_group() == 1;
        let window = || {
            Specialization::of_window(&problem.descriptor).is_some_and(|window| spec.has(window))
        };
        let fours = || {
            problem.descriptor.outputs_per_group() == 1
                && problem.descriptor.out_channels.is_multiple_of(4)
                && [problem.input_layout, problem.output_layout] == [Layout::Nhwc; 2]
        };
        // Sums over a block must stay exact: in i32 with weights at the top of a byte, or in f32.
        let largest = 128 * u64::from(problem.largest_block());
        let exact = match self {
            Self::ConvDepthwise => depthwise,
            Self::ConvDepthwiseWindow => depthwise && window(),
            Self::ConvDepthwiseNhwc => depthwise && window() && fours(),
            Self::ConvGemmInt8 | Self::ConvGemmInt8Unsigned => 128 * largest < 1 << 31,
            Self::ConvSubgroupInt8 => (largest << (problem.weights().bits() - 1)) <= 1 << 24,
            _ => true,
        };
        blocks && weights && output && exact
    }

    /// Whether this kernel can put out such blocks: a workgroup must hold whole ones.
    fn emits(self, problem: &ConvProblem, int8: &Int8Output) -> bool {
        let Some(tile) = self.spec().tile().filter(|_| self.spec().matrix.is_none()) else {
            return false;
        };
        if int8.check(&problem.descriptor).is_err() {
            return false;
        }
        let blocks = int8.blocks;
        let last = blocks.range(blocks.count - 1);
        let outputs = problem.descriptor.outputs_per_group();
        let whole = problem.descriptor.groups == 1 || outputs.is_multiple_of(blocks.size);
        whole
            && match blocks.count {
                1 => blocks.channels <= tile.outputs,
                _ => {
                    blocks.size.is_multiple_of(8)
                        && tile.outputs.is_multiple_of(blocks.size)
                        && last.end - last.start <= blocks.size
                }
            }
    }
}
