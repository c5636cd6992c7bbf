use super::device::Capabilities;
use crate::{ConvDescriptor, Error, Result, Shape, WeightsRef};

/// An algorithm: one WGSL file in `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// `conv_direct`: one thread per output, any geometry. The fallback.
    ConvDirect,
    /// `conv_gemm`: implicit matrix product, 32 pixels x 32 output channels a workgroup.
    ConvGemm,
    /// `conv_subgroup`: for software devices with subgroups of eight lanes; 32 x 32 a workgroup.
    ConvSubgroup,
    /// `conv_depthwise`: float weights, one input channel per group.
    ConvDepthwise,
}

impl Kernel {
    /// Every kernel. Tests and benchmarks run them all.
    pub const ALL: [Self; 4] =
        [Self::ConvDirect, Self::ConvGemm, Self::ConvSubgroup, Self::ConvDepthwise];

    /// The name: that of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConvDirect => "conv_direct",
            Self::ConvGemm => "conv_gemm",
            Self::ConvSubgroup => "conv_subgroup",
            Self::ConvDepthwise => "conv_depthwise",
        }
    }

    /// Checks that this kernel can compute such a layer on such a device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the reason.
    pub fn supports(
        self,
        descriptor: &ConvDescriptor,
        format: WeightFormat,
        capabilities: &Capabilities,
    ) -> Result<()> {
        if !self.takes(descriptor, format) {
            let channels = descriptor.channels_per_group();
            return Err(Error::Unsupported {
                what: format!("{} with {format} weights and {channels} input channels per group", self.name()),
                remedy: "it takes float weights and one input channel per group; use conv_direct or conv_gemm".into(),
            });
        }
        if self == Self::ConvSubgroup && capabilities.subgroup_size != Some(8) {
            let size =
                capabilities.subgroup_size.map_or("none of a fixed size".into(), |s| s.to_string());
            return Err(Error::Unsupported {
                what: format!("{} on a device with subgroups of {size}", self.name()),
                remedy: "it needs subgroups of 8 and wgpu::Features::SUBGROUP; use conv_direct or conv_gemm".into(),
            });
        }
        Ok(())
    }

    fn takes(self, descriptor: &ConvDescriptor, format: WeightFormat) -> bool {
        self != Self::ConvDepthwise
            || (descriptor.channels_per_group() == 1 && format == WeightFormat::F32)
    }

    /// The kernel for a layer on a device, where the caller names none. Measures nothing.
    pub fn choose(
        descriptor: &ConvDescriptor,
        format: WeightFormat,
        capabilities: &Capabilities,
    ) -> Self {
        let subgroups_of_8 = capabilities.software && capabilities.subgroup_size == Some(8);
        match (descriptor.channels_per_group(), descriptor.outputs_per_group()) {
            (1, _) if format == WeightFormat::F32 => Self::ConvDepthwise,
            // A tile of 32 output channels would be mostly empty.
            (_, 0..=4) => Self::ConvDirect,
            // Seven to ten times faster than tiles in workgroup memory on lavapipe.
            _ if subgroups_of_8 => Self::ConvSubgroup,
            _ => Self::ConvGemm,
        }
    }

    /// Workgroups for an output of that shape.
    pub(crate) fn workgroups(self, descriptor: &ConvDescriptor, output: Shape) -> u32 {
        let count = match self {
            Self::ConvDirect | Self::ConvDepthwise => output.elements().div_ceil(64),
            Self::ConvGemm | Self::ConvSubgroup => {
                let output_tiles = descriptor.outputs_per_group().div_ceil(32) as usize;
                output.pixels().div_ceil(32) * output_tiles * descriptor.groups as usize
            }
        };
        // Fewer than the output's elements, times 32 at the very most for groups of one channel.
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Storage that a workgroup shares, in bytes.
    pub(crate) const fn workgroup_storage(self) -> u32 {
        match self {
            Self::ConvDirect | Self::ConvSubgroup | Self::ConvDepthwise => 0,
            Self::ConvGemm => 2 * 4 * 32 * 16,
        }
    }
}

/// How weights lie in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// DSConv integers of that many bits, 2 to 8, packed.
    Packed(u8),
}

impl WeightFormat {
    /// Every format.
    pub const ALL: [Self; 8] = [
        Self::F32,
        Self::Packed(2),
        Self::Packed(3),
        Self::Packed(4),
        Self::Packed(5),
        Self::Packed(6),
        Self::Packed(7),
        Self::Packed(8),
    ];

    /// Bits of a weight.
    pub const fn bits(self) -> u8 {
        match self {
            Self::F32 => 32,
            Self::Packed(bits) => bits,
        }
    }
}

impl From<WeightsRef<'_>> for WeightFormat {
    fn from(weights: WeightsRef<'_>) -> Self {
        match weights {
            WeightsRef::Float(_) => Self::F32,
            WeightsRef::DsConv(weights) => Self::Packed(weights.format().bits()),
        }
    }
}

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::Packed(bits) => write!(f, "i{bits}"),
        }
    }
}

/// A pipeline: an algorithm specialised to a weight format. Geometry, block size, activation and
/// layouts are data, so layers that differ in those share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The algorithm.
    pub kernel: Kernel,
    /// The weight format.
    pub weights: WeightFormat,
}

impl Variant {
    /// Every variant: each kernel with each weight format that it takes.
    pub fn all() -> impl Iterator<Item = Self> {
        let depthwise = ConvDescriptor::new(1, 1, [1, 1]);
        let pairs = Kernel::ALL
            .into_iter()
            .flat_map(|kernel| WeightFormat::ALL.map(|weights| Self { kernel, weights }));
        pairs.filter(move |variant| variant.kernel.takes(&depthwise, variant.weights))
    }

    /// Values of the shader's overrides.
    pub(crate) fn constants(self) -> [(&'static str, f64); 1] {
        [("BITS", f64::from(self.weights.bits()))]
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kernel.name(), self.weights)
    }
}
