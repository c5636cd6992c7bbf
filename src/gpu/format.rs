//! How weights, activations and floats lie in device memory.

use crate::{ActivationScale, Blocks, ConvDescriptor, Error, Layout, Result, Shape};

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

impl std::fmt::Display for WeightFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::Packed(bits) => write!(f, "i{bits}"),
        }
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

impl std::fmt::Display for ActivationFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Float => "float",
            Self::Int8 => "int8",
        })
    }
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

/// What a tensor in device memory is: enough to tell whether a layer can read what another has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorFormat {
    /// Floats.
    Float {
        /// Images, channels, rows and columns.
        shape: Shape,
        /// The order of the axes.
        layout: Layout,
        /// The width of a number.
        format: FloatFormat,
    },
    /// Integer activations.
    Int8 {
        /// Images, channels, rows and columns.
        shape: Shape,
        /// Groups of channels.
        groups: u32,
        /// The blocks of a group's channels, each with a scale.
        blocks: Blocks,
    },
}

impl TensorFormat {
    /// Integer activations. A block that holds all channels is as large as they are, whatever it could hold.
    pub(super) fn int8(shape: Shape, groups: u32, blocks: Blocks) -> Self {
        let size = if blocks.count == 1 { blocks.channels } else { blocks.size };
        Self::Int8 { shape, groups, blocks: Blocks { size, ..blocks } }
    }

    /// Images, channels, rows and columns.
    pub const fn shape(&self) -> Shape {
        match self {
            Self::Float { shape, .. } | Self::Int8 { shape, .. } => *shape,
        }
    }
}

impl std::fmt::Display for TensorFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float { shape, layout, format } => {
                write!(f, "{format:?} tensor of {shape} in {layout:?}")
            }
            Self::Int8 { shape, groups, blocks: Blocks { size, count, .. } } => {
                write!(
                    f,
                    "int8 tensor of {shape}, {groups} groups of {count} blocks of {size} channels"
                )
            }
        }
    }
}

/// An output of integer activations, as the next layer takes them: no floats in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Int8Output {
    /// The blocks of the next layer, [`DsConvWeights::blocks`](crate::DsConvWeights::blocks). It must have
    /// one group, and as many input channels as this one has outputs.
    pub blocks: Blocks,
    /// How the scale of a block is found.
    pub scale: ActivationScale,
}

impl Int8Output {
    /// An output in those blocks, whose scales are found so.
    pub fn new(blocks: Blocks, scale: ActivationScale) -> Self {
        Self { blocks, scale }
    }

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
