use super::device::Capabilities;
use super::layer::LayerOptions;
use super::variant::{Specialization, WeightFormat};
use crate::{
    ActivationScale, BlockFormat, Blocks, ConvDescriptor, Error, Result, Shape, WeightsRef,
};

/// An algorithm: one WGSL file in `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// `conv_direct`: one thread per output, any geometry. The fallback.
    ConvDirect,
    /// `conv_gemm`: implicit matrix product in floats, 32 pixels x 64 output channels a workgroup. Integer activations
    /// become floats on the way into workgroup memory: for devices without an instruction for packed dot products.
    ConvGemm,
    /// `conv_gemm` with 64 x 64 a workgroup: fewer instructions, where there is work for a whole device.
    ConvGemmWide,
    /// `conv_subgroup`: for software devices with subgroups of eight lanes; 32 x 32 a workgroup.
    ConvSubgroup,
    /// `conv_depthwise`: float weights, one input channel per group.
    ConvDepthwise,
    /// `conv_gemm_int8`: the matrix product with integer activations, on the packed dot product.
    ConvGemmInt8,
    /// `conv_subgroup_int8`: the subgroup specialization with integer activations, in exact float arithmetic.
    ConvSubgroupInt8,
    /// `quantize_activations`: floats to integer activations. Not a convolution.
    QuantizeActivations,
}

impl Kernel {
    /// Every convolution kernel. Tests and benchmarks run them all.
    pub const CONVOLUTIONS: [Self; 7] = [
        Self::ConvDirect,
        Self::ConvGemm,
        Self::ConvGemmWide,
        Self::ConvSubgroup,
        Self::ConvDepthwise,
        Self::ConvGemmInt8,
        Self::ConvSubgroupInt8,
    ];

    /// The name: that of its file, and of its specialization where a file has two.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConvDirect => "conv_direct",
            Self::ConvGemm => "conv_gemm",
            Self::ConvGemmWide => "conv_gemm_wide",
            Self::ConvSubgroup => "conv_subgroup",
            Self::ConvDepthwise => "conv_depthwise",
            Self::ConvGemmInt8 => "conv_gemm_int8",
            Self::ConvSubgroupInt8 => "conv_subgroup_int8",
            Self::QuantizeActivations => "quantize_activations",
        }
    }

    /// The text of its file.
    pub(super) const fn source(self) -> &'static str {
        match self {
            Self::ConvDirect => include_str!("../../shaders/kernels/conv_direct.wgsl"),
            Self::ConvGemm | Self::ConvGemmWide => {
                include_str!("../../shaders/kernels/conv_gemm.wgsl")
            }
            Self::ConvSubgroup => include_str!("../../shaders/kernels/conv_subgroup.wgsl"),
            Self::ConvDepthwise => include_str!("../../shaders/kernels/conv_depthwise.wgsl"),
            Self::ConvGemmInt8 => include_str!("../../shaders/kernels/conv_gemm_int8.wgsl"),
            Self::ConvSubgroupInt8 => {
                include_str!("../../shaders/kernels/conv_subgroup_int8.wgsl")
            }
            Self::QuantizeActivations => {
                include_str!("../../shaders/kernels/quantize_activations.wgsl")
            }
        }
    }

    /// What the kernel takes as input.
    pub const fn activations(self) -> &'static [ActivationFormat] {
        match self {
            Self::ConvGemm | Self::ConvGemmWide => {
                &[ActivationFormat::Float, ActivationFormat::Int8]
            }
            Self::ConvGemmInt8 | Self::ConvSubgroupInt8 => &[ActivationFormat::Int8],
            _ => &[ActivationFormat::Float],
        }
    }

    /// Every convolution kernel with each kind of input that it takes.
    pub fn convolutions() -> impl Iterator<Item = (Self, ActivationFormat)> {
        let inputs = |kernel: Self| kernel.activations().iter().map(move |&input| (kernel, input));
        Self::CONVOLUTIONS.into_iter().flat_map(inputs)
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
        let subgroups = matches!(self, Self::ConvSubgroup | Self::ConvSubgroupInt8);
        if subgroups && capabilities.subgroup_size != Some(8) {
            let size = capabilities.subgroup_size.map_or("no fixed size".into(), |s| s.to_string());
            return refuse(
                format!("on a device with subgroups of {size}"),
                "it needs subgroups of 8 and wgpu::Features::SUBGROUP; use conv_gemm or conv_gemm_int8",
            );
        }
        Ok(())
    }

    fn takes(self, problem: &ConvProblem) -> bool {
        // Sums over a block must stay exact: in i32 with weights at the top of a byte, or in f32.
        let largest = 128 * u64::from(problem.largest_block());
        match self {
            _ if !self.activations().contains(&problem.activations) => false,
            // Integer activations come in the blocks of packed weights.
            _ if problem.activations == ActivationFormat::Int8 && problem.blocks.is_none() => false,
            _ if problem.int8_output.is_some_and(|int8| !self.emits(problem, &int8)) => false,
            Self::QuantizeActivations => false,
            Self::ConvDirect | Self::ConvGemm | Self::ConvGemmWide | Self::ConvSubgroup => true,
            Self::ConvDepthwise => {
                problem.descriptor.channels_per_group() == 1
                    && problem.weights() == WeightFormat::F32
            }
            Self::ConvGemmInt8 => 128 * largest < 1 << 31,
            Self::ConvSubgroupInt8 => (largest << (problem.weights().bits() - 1)) <= 1 << 24,
        }
    }

    /// Whether this kernel can put out such blocks: a workgroup must hold whole ones.
    fn emits(self, problem: &ConvProblem, int8: &Int8Output) -> bool {
        let (tile, blocks) = (self.tile_outputs(), int8.blocks);
        if tile == 0 || int8.check(&problem.descriptor).is_err() {
            return false;
        }
        let last = blocks.range(blocks.count - 1);
        let outputs = problem.descriptor.outputs_per_group();
        let whole = problem.descriptor.groups == 1 || outputs.is_multiple_of(blocks.size);
        whole
            && match blocks.count {
                1 => blocks.channels <= tile,
                _ => {
                    blocks.size.is_multiple_of(8)
                        && tile.is_multiple_of(blocks.size)
                        && last.end - last.start <= blocks.size
                }
            }
    }

    /// Channels of a step of the main loop, for kernels that have a specialization without tails.
    pub(super) const fn step(self) -> Option<u32> {
        match self {
            Self::ConvGemm | Self::ConvGemmWide => Some(16),
            Self::ConvGemmInt8 => Some(32),
            Self::ConvSubgroup => Some(8),
            _ => None,
        }
    }

    /// The specializations that the kernel has for such an input. The channels of integer activations are always neighbours.
    pub(super) const fn specializations(
        self,
        activations: ActivationFormat,
    ) -> &'static [Specialization] {
        match self {
            Self::ConvGemm | Self::ConvGemmWide => match activations {
                ActivationFormat::Float => &[
                    Specialization::WholeStepsNhwc,
                    Specialization::WholeSteps,
                    Specialization::General,
                ],
                ActivationFormat::Int8 => {
                    &[Specialization::WholeStepsNhwc, Specialization::General]
                }
            },
            Self::ConvSubgroup => &[Specialization::WholeSteps, Specialization::General],
            Self::ConvGemmInt8 => {
                &[Specialization::OneStep, Specialization::WholeSteps, Specialization::General]
            }
            _ => &[Specialization::General],
        }
    }

    /// Output channels of a workgroup's tile; 0 for kernels without.
    pub(crate) const fn tile_outputs(self) -> u32 {
        match self {
            Self::ConvGemm | Self::ConvGemmWide | Self::ConvGemmInt8 => 64,
            Self::ConvSubgroup | Self::ConvSubgroupInt8 => 32,
            Self::ConvDirect | Self::ConvDepthwise | Self::QuantizeActivations => 0,
        }
    }

    /// The kernel for a layer on a device, where the caller names none. Measures nothing.
    pub fn choose(problem: &ConvProblem, capabilities: &Capabilities) -> Self {
        let fits = |kernel: Self| kernel.supports(problem, capabilities).is_ok();
        let outputs = problem.descriptor.outputs_per_group();
        match problem.activations {
            // On lavapipe packed dot products take longer than the same in floats.
            ActivationFormat::Int8 if capabilities.software && fits(Self::ConvSubgroupInt8) => {
                Self::ConvSubgroupInt8
            }
            ActivationFormat::Int8
                if capabilities.packed_dot_product && fits(Self::ConvGemmInt8) =>
            {
                Self::ConvGemmInt8
            }
            ActivationFormat::Int8 => Self::ConvGemm,
            ActivationFormat::Float if fits(Self::ConvDepthwise) => Self::ConvDepthwise,
            // A tile of 32 output channels would be mostly empty.
            ActivationFormat::Float if outputs <= 4 && fits(Self::ConvDirect) => Self::ConvDirect,
            // Seven to ten times faster than tiles in workgroup memory on lavapipe.
            ActivationFormat::Float if capabilities.software && fits(Self::ConvSubgroup) => {
                Self::ConvSubgroup
            }
            ActivationFormat::Float => Self::ConvGemm,
        }
    }

    /// The kernel for one output shape, where this one was chosen for the layer. The wide specialization needs so many pixels
    /// that a device is still full: 512 workgroups, four for each unit of a large GPU.
    pub(crate) fn for_output(
        self,
        descriptor: &ConvDescriptor,
        blocks: &Blocks,
        output: Shape,
    ) -> Self {
        match self {
            Self::ConvGemm if Self::ConvGemmWide.workgroups(descriptor, blocks, output) >= 512 => {
                Self::ConvGemmWide
            }
            _ => self,
        }
    }

    /// Pixels of a workgroup's tile.
    pub(super) const fn tile_pixels(self) -> u32 {
        match self {
            Self::ConvGemmWide => 64,
            _ => 32,
        }
    }

    /// Workgroups for an output of that shape; what `quantize_activations` puts out has its input's.
    pub(crate) fn workgroups(
        self,
        descriptor: &ConvDescriptor,
        blocks: &Blocks,
        output: Shape,
    ) -> u32 {
        let groups = u64::from(descriptor.groups);
        let count = match self {
            Self::ConvDirect | Self::ConvDepthwise => (output.elements() as u64).div_ceil(64),
            Self::QuantizeActivations => {
                (output.pixels() as u64 * groups * u64::from(blocks.count)).div_ceil(64)
            }
            Self::ConvGemm
            | Self::ConvGemmWide
            | Self::ConvSubgroup
            | Self::ConvGemmInt8
            | Self::ConvSubgroupInt8 => {
                let outputs = descriptor.outputs_per_group();
                let output_tiles = u64::from(outputs.div_ceil(self.tile_outputs()));
                let pixel_tiles = (output.pixels() as u64).div_ceil(self.tile_pixels().into());
                pixel_tiles * output_tiles * groups
            }
        };
        // Fewer than the output's elements, times 32 at the very most for groups of one channel.
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Storage that a workgroup shares, in bytes.
    pub(crate) const fn workgroup_storage(self) -> u32 {
        match self {
            Self::ConvGemm | Self::ConvGemmWide => 4 * (64 + 64) * 16,
            Self::ConvGemmInt8 => (2 * 32 + 256) * 16 + (128 + 64) * 4,
            _ => 0,
        }
    }
}

/// What decides whether a kernel can compute a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvProblem {
    /// The geometry.
    pub descriptor: ConvDescriptor,
    /// The format of packed weights; `None` for floats.
    pub blocks: Option<BlockFormat>,
    /// The input.
    pub activations: ActivationFormat,
    /// Set where the output is integer activations.
    pub int8_output: Option<Int8Output>,
    /// What float tensors are made of.
    pub float_format: FloatFormat,
}

impl ConvProblem {
    /// The problem of a layer with such weights and input.
    pub fn new<'a>(weights: impl Into<WeightsRef<'a>>, activations: ActivationFormat) -> Self {
        let weights = weights.into();
        let blocks = match weights {
            WeightsRef::Float(_) => None,
            WeightsRef::DsConv(weights) => Some(*weights.format()),
        };
        Self {
            descriptor: *weights.descriptor(),
            blocks,
            activations,
            int8_output: None,
            float_format: FloatFormat::default(),
        }
    }

    /// The problem of a layer with such weights and options.
    pub(crate) fn of_layer(weights: WeightsRef<'_>, options: &LayerOptions) -> Self {
        Self {
            int8_output: options.int8_output,
            float_format: options.float_format,
            ..Self::new(weights, options.input_format)
        }
    }

    /// How the weights lie in device memory.
    pub fn weights(&self) -> WeightFormat {
        self.blocks.map_or(WeightFormat::F32, |format| WeightFormat::Packed(format.bits()))
    }

    /// Channels of the largest block.
    fn largest_block(&self) -> u32 {
        let Some(format) = self.blocks else { return self.descriptor.channels_per_group() };
        let blocks = format.blocks(&self.descriptor);
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
            "{weights} weights, {activations} activations, {channels} input channels per group in blocks of {block}"
        )
    }
}

/// How a layer's input lies in device memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ActivationFormat {
    /// Floats, in the layer's [`FloatFormat`].
    #[default]
    Float,
    /// int8 mantissas with a scale per block, as `quantize_activations` writes them.
    Int8,
}

/// How floats lie in device memory. Sums are 32-bit floats in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FloatFormat {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE's half precision: 11 bits of a number, up to 65,504.
    F16,
}

impl FloatFormat {
    /// Bytes of a number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl std::fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float => "float",
            Self::Int8 => "int8",
        })
    }
}

/// An output of integer activations, as the next layer takes them: no floats in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Int8Output {
    /// The blocks of the next layer, [`DsConvWeights::blocks`](crate::DsConvWeights::blocks). It must have
    /// one group, and as many input channels as this one has outputs.
    pub blocks: Blocks,
    /// How the scale of a block is found.
    pub scale: ActivationScale,
}

impl Int8Output {
    /// Checks that the blocks are of a layer that can follow.
    pub(crate) fn check(&self, descriptor: &ConvDescriptor) -> Result<()> {
        let Blocks { channels, size, count } = self.blocks;
        if channels != descriptor.out_channels {
            let expected = format!("{}, this layer's outputs", descriptor.out_channels);
            return Err(Error::invalid("int8_output.blocks.channels", expected, channels));
        }
        // Blocks are plain data: a host may have made these.
        if size == 0 || count == 0 || (u64::from(count) - 1) * u64::from(size) >= channels.into() {
            let expected = format!("blocks that cover {channels} channels");
            return Err(Error::invalid(
                "int8_output.blocks",
                expected,
                format!("{count} of {size}"),
            ));
        }
        Ok(())
    }
}
