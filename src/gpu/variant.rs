//! A pipeline's variant: a kernel with the formats, the specialization and the parts that are compiled in.

use super::capabilities::Capabilities;
use super::format::{ActivationFormat, FloatFormat, WeightFormat};
use super::kernel::{AcceptedWeights, KERNELS, Kernel, Specialization, Work};
use super::options::LayerOptions;
use super::params::{NONE, WeightLayout};
use crate::{Activation, ConvDescriptor, Layout, Residual};

/// A pipeline: an algorithm specialised to a weight format, to blocks of whole steps, and to what is behind the sums.
/// Geometry, block size, activation and most of the layouts are data, so layers that differ in those share
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
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
    /// Whether packed weights come in fours of neighbouring output channels.
    pub channel_fours: bool,
    /// What the code is for.
    pub parts: Parts,
    /// How many parts of a workgroup's tile a subgroup computes, in kernels for matrix units; 1 in all others.
    pub patches: u32,
}

/// What not every layer has, and a pipeline's code may be without. Software devices work out both sides of a branch: on
/// lavapipe an epilogue for all layers took a third of a 1x1 convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Parts {
    /// A KDS bias.
    pub kds_bias: bool,
    /// An activation function with an exponential: SiLU, sigmoid.
    pub exponential: bool,
    /// A residual in a buffer of its own.
    pub residual: bool,
    /// A residual in the output's buffer.
    pub residual_in_place: bool,
    /// An output of floats.
    pub float_output: bool,
    /// An output of integer activations.
    pub int8_output: bool,
}

/// What a block's channels times the largest magnitude of its weights may be, so that their sum of products with int8
/// activations is from -32767 to 32768: the products of -128 with the largest magnitude, which is negative, are positive.
const SHORT_SUM: u32 = 256;

impl Specialization {
    /// Whether weights of that format can have it.
    fn suits(self, weights: WeightFormat) -> bool {
        self != Self::ShortSums || matches!(weights, WeightFormat::Packed(2..=4))
    }
}

impl Kernel {
    /// Whether it can load packed weights of four neighbouring output channels at once.
    fn reads_fours(self, weights: WeightFormat) -> bool {
        self.spec().subgroup_size.is_some() && weights != WeightFormat::F32
    }

    /// Whether it does so for a layer. Then 8-bit integers lie in memory as all others do.
    pub(crate) fn channel_fours(self, weights: WeightFormat, descriptor: &ConvDescriptor) -> bool {
        self.reads_fours(weights) && descriptor.outputs_per_group().is_multiple_of(4)
    }
}

impl Variant {
    /// Every variant with all parts: each kernel with each input and weight format that it takes. Halves come with
    /// two of the formats only, for what differs in them is apart from the weights.
    pub fn all() -> impl Iterator<Item = Self> {
        let inputs = KERNELS.iter().flat_map(|spec| spec.inputs.iter().map(move |i| (spec, i)));
        inputs
            .flat_map(|(spec, input)| WeightFormat::ALL.map(|weights| (spec, input, weights)))
            .filter(|(spec, input, weights)| match weights {
                WeightFormat::F32 => input.format == ActivationFormat::Float,
                WeightFormat::Packed(_) => spec.weights == AcceptedWeights::Any,
            })
            .flat_map(|(spec, input, weights)| {
                input.specializations.iter().map(move |&specialization| Self {
                    kernel: spec.kernel,
                    weights,
                    specialization,
                    activations: input.format,
                    float_format: FloatFormat::F32,
                    scale_format: FloatFormat::F32,
                    channel_fours: false,
                    parts: Parts::ALL,
                    patches: 1,
                })
            })
            .filter(|variant| variant.specialization.suits(variant.weights))
            .flat_map(|variant| {
                let halves = matches!(variant.weights, WeightFormat::F32 | WeightFormat::Packed(4));
                let tensors = Self { float_format: FloatFormat::F16, ..variant };
                let scales = Self { scale_format: FloatFormat::F16, ..variant };
                let fours = Self { channel_fours: true, ..variant };
                let tensors = halves.then_some(tensors);
                let scales = (variant.weights == WeightFormat::Packed(4)).then_some(scales);
                let fours = variant.kernel.reads_fours(variant.weights).then_some(fours);
                let patches = Self { patches: 2, ..variant };
                let patches = variant.kernel.spec().matrix.is_some().then_some(patches);
                [Some(variant), tensors, scales, fours, patches].into_iter().flatten()
            })
    }

    /// The variant of a kernel for a layer.
    pub(crate) fn of(
        kernel: Kernel,
        weights: WeightFormat,
        descriptor: &ConvDescriptor,
        layout: &WeightLayout,
        options: &LayerOptions,
    ) -> Self {
        let blocks = &layout.blocks;
        let last = blocks.range(blocks.count - 1);
        let whole = |step| {
            (last.end - last.start).is_multiple_of(step)
                && (blocks.count == 1 || blocks.size.is_multiple_of(step))
        };
        let (activations, input_layout) = match kernel {
            Kernel::QuantizeActivations => (ActivationFormat::Float, options.input_layout),
            _ => (options.input_format, options.layout_of_input()),
        };
        let spec = kernel.spec();
        let fits = |specialization: &Specialization| match specialization {
            Specialization::General => true,
            Specialization::WholeSteps => spec.step.is_some_and(whole),
            Specialization::WholeStepsNhwc => {
                spec.step.is_some_and(whole) && input_layout == Layout::Nhwc
            }
            Specialization::OneStep => {
                let one = |step| whole(step) && blocks.channels == blocks.count * step;
                spec.step.is_some_and(one)
            }
            Specialization::ShortSums => {
                let largest = blocks.size.max(last.end - last.start);
                specialization.suits(weights) && largest << (weights.bits() - 1) <= SHORT_SUM
            }
            Specialization::Window { .. } => {
                Specialization::of_window(descriptor) == Some(*specialization)
            }
        };
        // The table has the narrowest first.
        let mut of_input = spec.specializations(activations).iter().copied();
        let specialization = of_input.find(fits).unwrap_or(Specialization::General);
        // Floats have no scales, whatever the options say of them.
        let scale_format = match weights {
            WeightFormat::F32 => FloatFormat::F32,
            WeightFormat::Packed(_) => options.scale_format,
        };
        Self {
            kernel,
            weights,
            specialization,
            activations,
            float_format: options.float_format,
            scale_format,
            channel_fours: kernel.channel_fours(weights, descriptor),
            parts: match spec.compiled_parts {
                true => Parts::of(layout, options),
                false => Parts::ALL,
            },
            patches: 1,
        }
    }

    /// The same for a device: where its subgroups are so large that a workgroup of a kernel for matrix units has two of
    /// them only, each computes twice as much.
    pub fn on(self, capabilities: &Capabilities) -> Self {
        let spec = self.kernel.spec();
        let wide = spec.matrix.is_some() && 2 * capabilities.largest_subgroup >= spec.threads;
        Self { patches: if wide { 2 } else { 1 }, ..self }
    }

    /// Whether every block is a whole number of steps.
    fn whole_steps(self) -> bool {
        matches!(
            self.specialization,
            Specialization::WholeSteps | Specialization::WholeStepsNhwc | Specialization::OneStep
        )
    }

    /// Whether loads of the input bring four elements: floats that are neighbours, or four quads of integers.
    pub(crate) fn input_fours(self) -> bool {
        let strips = matches!(self.kernel.spec().work, Work::Strips { .. });
        let neighbours = self.specialization == Specialization::WholeStepsNhwc;
        match self.activations {
            ActivationFormat::Float => strips || neighbours,
            ActivationFormat::Int8 => self.whole_steps() && !neighbours,
        }
    }

    /// Whether loads of the weights bring four words.
    pub(crate) fn weight_fours(self) -> bool {
        let strips = matches!(self.kernel.spec().work, Work::Strips { .. });
        // Fours of a row: of floats, or of quads in kernels that take no fours of channels.
        let row = match self.weights {
            WeightFormat::F32 => true,
            weights => weights == WeightFormat::Packed(8) && !self.kernel.reads_fours(weights),
        };
        self.channel_fours || ((strips || self.whole_steps()) && row)
    }

    /// Values of the shader's overrides. Those that tell a specialization stand in the files of kernels that have it. They
    /// follow from one value, so that no combination without a meaning can be asked for.
    pub fn constants(self) -> Vec<(&'static str, f64)> {
        let flag = |value: bool| f64::from(u8::from(value));
        let is = |specialization| flag(self.specialization == specialization);
        let spec = self.kernel.spec();
        let mut constants = vec![
            ("BITS", f64::from(self.weights.bits())),
            ("CHANNEL_FOURS", flag(self.channel_fours)),
            ("HALF_SCALES", flag(self.scale_format == FloatFormat::F16)),
            ("KDS_BIAS", flag(self.parts.kds_bias)),
            ("EXPONENTIAL", flag(self.parts.exponential)),
            ("RESIDUAL", flag(self.parts.residual)),
            ("RESIDUAL_IN_PLACE", flag(self.parts.residual_in_place)),
            ("FLOAT_OUTPUT", flag(self.parts.float_output)),
            ("INT8_OUTPUT", flag(self.parts.int8_output)),
        ];
        if spec.step.is_some() {
            constants.push(("WHOLE_STEPS", flag(self.whole_steps())));
        }
        if spec.has(Specialization::WholeStepsNhwc) {
            constants.push(("CHANNELS_LAST", is(Specialization::WholeStepsNhwc)));
        }
        if spec.has(Specialization::ShortSums) {
            constants.push(("SHORT_SUMS", is(Specialization::ShortSums)));
        }
        if spec.has(Specialization::OneStep) {
            constants.push(("ONE_STEP", is(Specialization::OneStep)));
        }
        if let Specialization::Window { size, stride } = self.specialization {
            constants.extend([("WINDOW", f64::from(size)), ("STRIDE", f64::from(stride))]);
        }
        if spec.matrix.is_some() {
            constants.push(("PATCHES", f64::from(self.patches)));
        }
        constants.extend(spec.constants);
        constants
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spec = self.kernel.spec();
        let specialization = match self.specialization {
            Specialization::General if spec.step.is_some() => " ragged".into(),
            Specialization::General | Specialization::WholeSteps => String::new(),
            Specialization::WholeStepsNhwc => " nhwc".into(),
            Specialization::OneStep => " one step".into(),
            Specialization::ShortSums => " short sums".into(),
            Specialization::Window { size, stride } => format!(" {size}x{size} stride {stride}"),
        };
        // Kernels that take nothing else need not say so.
        let input = match self.activations {
            ActivationFormat::Int8 if spec.inputs.len() > 1 => " int8 input",
            _ => "",
        };
        let tensors = if self.float_format == FloatFormat::F16 { " f16" } else { "" };
        let scales = if self.scale_format == FloatFormat::F16 { " f16 scales" } else { "" };
        let fours = if self.channel_fours { " channel fours" } else { "" };
        let patches = if self.patches == 1 { "" } else { " wide subgroups" };
        let weights = self.weights;
        let parts = self.parts;
        write!(
            f,
            "{} {weights}{specialization}{input}{tensors}{scales}{fours}{patches}{parts}",
            spec.name
        )
    }
}

impl Parts {
    /// All of them: the code serves every layer.
    pub const ALL: Self = Self {
        kds_bias: true,
        exponential: true,
        residual: true,
        residual_in_place: true,
        float_output: true,
        int8_output: true,
    };

    /// Those of a layer.
    fn of(layout: &WeightLayout, options: &LayerOptions) -> Self {
        Self {
            kds_bias: layout.kds_bias_at != NONE,
            exponential: matches!(options.activation, Activation::Silu | Activation::Sigmoid),
            residual: options.residual != Residual::None && !options.residual_in_place,
            residual_in_place: options.residual_in_place,
            float_output: options.int8_output.is_none(),
            int8_output: options.int8_output.is_some(),
        }
    }
}

/// Nothing for all parts; else what there is besides floats.
impl std::fmt::Display for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::ALL {
            return Ok(());
        }
        let Self {
            kds_bias,
            exponential,
            residual,
            residual_in_place,
            float_output: _,
            int8_output,
        } = *self;
        let names = [
            (kds_bias, "KDS bias"),
            (exponential, "exponential"),
            (residual, "residual"),
            (residual_in_place, "residual in place"),
            (int8_output, "int8 output"),
        ];
        let names: Vec<_> = names.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        write!(f, " ({})", if names.is_empty() { "plain".into() } else { names.join(", ") })
    }
}
