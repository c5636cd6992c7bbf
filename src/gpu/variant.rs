use super::kernel::{ActivationFormat, FloatFormat, Kernel};
use super::layer::LayerOptions;
use crate::{Blocks, Layout};

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

/// A pipeline: an algorithm specialised to a weight format, and to blocks of whole steps. Geometry, block
/// size, activation and most of the layouts are data, so layers that differ in those share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The algorithm.
    pub kernel: Kernel,
    /// The weight format.
    pub weights: WeightFormat,
    /// What the code may take for granted.
    pub specialization: Specialization,
    /// What the input is.
    pub activations: ActivationFormat,
    /// What float tensors are made of.
    pub float_format: FloatFormat,
    /// What alpha and KDS bias are stored as.
    pub scale_format: FloatFormat,
}

/// What a pipeline may take for granted of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Specialization {
    /// Nothing.
    General,
    /// Every block is a whole number of the kernel's steps: nothing is cut off at a block's end.
    WholeSteps,
    /// That, and the channels of the input are neighbours, so that a load brings four.
    WholeStepsNhwc,
    /// Every block is one step, so that its integer sums need no registers of their own.
    OneStep,
}

impl Variant {
    /// Every variant: each kernel with each input and weight format that it takes. Those with halves for two of the formats,
    /// for what differs is apart.
    pub fn all() -> impl Iterator<Item = Self> {
        let takes = |kernel: Kernel, activations, weights: WeightFormat| match kernel {
            Kernel::ConvDepthwise | Kernel::QuantizeActivations => weights == WeightFormat::F32,
            _ => activations == ActivationFormat::Float || weights != WeightFormat::F32,
        };
        let quantize = (Kernel::QuantizeActivations, ActivationFormat::Float);
        Kernel::convolutions()
            .chain([quantize])
            .flat_map(|(kernel, input)| WeightFormat::ALL.map(|weights| (kernel, input, weights)))
            .filter(move |&(kernel, input, weights)| takes(kernel, input, weights))
            .flat_map(|(kernel, activations, weights)| {
                kernel.specializations(activations).iter().map(move |&specialization| Self {
                    kernel,
                    weights,
                    specialization,
                    activations,
                    float_format: FloatFormat::F32,
                    scale_format: FloatFormat::F32,
                })
            })
            .flat_map(|variant| {
                let halves = matches!(variant.weights, WeightFormat::F32 | WeightFormat::Packed(4));
                let tensors = Self { float_format: FloatFormat::F16, ..variant };
                let scales = Self { scale_format: FloatFormat::F16, ..variant };
                let tensors = halves.then_some(tensors);
                let scales = (variant.weights == WeightFormat::Packed(4)).then_some(scales);
                [Some(variant), tensors, scales].into_iter().flatten()
            })
    }

    /// The variant of a kernel for a layer.
    pub(crate) fn of(
        kernel: Kernel,
        weights: WeightFormat,
        blocks: &Blocks,
        options: &LayerOptions,
    ) -> Self {
        let last = blocks.range(blocks.count - 1);
        let whole = |step| {
            (last.end - last.start).is_multiple_of(step)
                && (blocks.count == 1 || blocks.size.is_multiple_of(step))
        };
        let activations = match kernel {
            Kernel::QuantizeActivations => ActivationFormat::Float,
            _ => options.input_format,
        };
        let has = |specialization| kernel.specializations(activations).contains(&specialization);
        let specialization = match kernel.step() {
            Some(step) if whole(step) => {
                if has(Specialization::WholeStepsNhwc) && options.layout_of_input() == Layout::Nhwc
                {
                    Specialization::WholeStepsNhwc
                } else if has(Specialization::OneStep) && blocks.channels == blocks.count * step {
                    Specialization::OneStep
                } else {
                    Specialization::WholeSteps
                }
            }
            _ => Specialization::General,
        };
        // What has none is one variant with the others.
        let scale_format = match weights {
            WeightFormat::F32 => FloatFormat::F32,
            WeightFormat::Packed(_) => options.scale_format,
        };
        let float_format = options.float_format;
        Self { kernel, weights, specialization, activations, float_format, scale_format }
    }

    /// Whether every block is a whole number of steps, so that loads of the input bring four elements.
    pub(crate) fn whole_steps(self) -> bool {
        self.specialization != Specialization::General
    }

    /// Whether loads of the weights bring four words. Narrower integers come by the word: all of a layer's may be one.
    pub(crate) fn weight_fours(self) -> bool {
        self.whole_steps() && matches!(self.weights, WeightFormat::F32 | WeightFormat::Packed(8))
    }

    /// Values of the shader's overrides.
    pub fn constants(self) -> Vec<(&'static str, f64)> {
        let flag = |value: bool| f64::from(u8::from(value));
        let mut constants = vec![
            ("BITS", f64::from(self.weights.bits())),
            ("HALF_SCALES", flag(self.scale_format == FloatFormat::F16)),
        ];
        if self.kernel.step().is_some() {
            constants.push(("WHOLE_STEPS", flag(self.whole_steps())));
        }
        match self.kernel {
            Kernel::ConvGemm | Kernel::ConvGemmWide => {
                constants.push((
                    "CHANNELS_LAST",
                    flag(self.specialization == Specialization::WholeStepsNhwc),
                ));
                constants.push(("TILE_PIXELS", self.kernel.tile_pixels().into()));
            }
            Kernel::ConvGemmInt8 => {
                constants.push(("ONE_STEP", flag(self.specialization == Specialization::OneStep)))
            }
            _ => {}
        }
        constants
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let specialization = match self.specialization {
            Specialization::General if self.kernel.step().is_some() => " ragged",
            Specialization::General | Specialization::WholeSteps => "",
            Specialization::WholeStepsNhwc => " nhwc",
            Specialization::OneStep => " one step",
        };
        // Kernels that take nothing else need not say so.
        let input = match self.activations {
            ActivationFormat::Int8 if self.kernel.activations().len() > 1 => " int8 input",
            _ => "",
        };
        let tensors = if self.float_format == FloatFormat::F16 { " f16" } else { "" };
        let scales = if self.scale_format == FloatFormat::F16 { " f16 scales" } else { "" };
        write!(f, "{} {}{specialization}{input}{tensors}{scales}", self.kernel.name(), self.weights)
    }
}
