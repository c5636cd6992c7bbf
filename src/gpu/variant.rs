//! A pipeline's variant: a kernel with the formats and the specialization that are compiled in.

use super::format::{ActivationFormat, FloatFormat, WeightFormat};
use super::kernel::{AcceptedWeights, KERNELS, Kernel, Specialization, Work};
use super::options::LayerOptions;
use crate::{Blocks, ConvDescriptor, Layout};

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

impl Variant {
    /// Every variant: each kernel with each input and weight format that it takes. Halves come with two of the formats
    /// only, for what differs in them is apart from the weights.
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
        descriptor: &ConvDescriptor,
        blocks: &Blocks,
        options: &LayerOptions,
    ) -> Self {
        let last = blocks.range(blocks.count - 1);
        let whole = |step| {
            (last.end - last.start).is_multiple_of(step)
                && (blocks.count == 1 || blocks.size.is_multiple_of(step))
        };
        let (activations, layout) = match kernel {
            Kernel::QuantizeActivations => (ActivationFormat::Float, options.input_layout),
            _ => (options.input_format, options.layout_of_input()),
        };
        let spec = kernel.spec();
        let fits = |specialization: &Specialization| match specialization {
            Specialization::General => true,
            Specialization::WholeSteps => spec.step.is_some_and(whole),
            Specialization::WholeStepsNhwc => {
                spec.step.is_some_and(whole) && layout == Layout::Nhwc
            }
            Specialization::OneStep => {
                let one = |step| whole(step) && blocks.channels == blocks.count * step;
                spec.step.is_some_and(one)
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
        let float_format = options.float_format;
        Self { kernel, weights, specialization, activations, float_format, scale_format }
    }

    /// Whether every block is a whole number of steps.
    fn whole_steps(self) -> bool {
        !matches!(self.specialization, Specialization::General | Specialization::Window { .. })
    }

    /// Whether loads of the input bring four elements.
    pub(crate) fn input_fours(self) -> bool {
        self.whole_steps() || matches!(self.kernel.spec().work, Work::Strips { .. })
    }

    /// Whether loads of the weights bring four words. Narrower integers come by the word: all of a layer's may be one.
    pub(crate) fn weight_fours(self) -> bool {
        self.input_fours() && matches!(self.weights, WeightFormat::F32 | WeightFormat::Packed(8))
    }

    /// Values of the shader's overrides. Those that tell a specialization stand in the files of kernels that have it. They
    /// follow from one value, so that no combination without a meaning can be asked for.
    pub fn constants(self) -> Vec<(&'static str, f64)> {
        let flag = |value: bool| f64::from(u8::from(value));
        let is = |specialization| flag(self.specialization == specialization);
        let spec = self.kernel.spec();
        let mut constants = vec![
            ("BITS", f64::from(self.weights.bits())),
            ("HALF_SCALES", flag(self.scale_format == FloatFormat::F16)),
        ];
        if spec.step.is_some() {
            constants.push(("WHOLE_STEPS", flag(self.whole_steps())));
        }
        if spec.has(Specialization::WholeStepsNhwc) {
            constants.push(("CHANNELS_LAST", is(Specialization::WholeStepsNhwc)));
        }
        if spec.has(Specialization::OneStep) {
            constants.push(("ONE_STEP", is(Specialization::OneStep)));
        }
        if let Specialization::Window { size, stride } = self.specialization {
            constants.extend([("WINDOW", f64::from(size)), ("STRIDE", f64::from(stride))]);
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
            Specialization::Window { size, stride } => format!(" {size}x{size} stride {stride}"),
        };
        // Kernels that take nothing else need not say so.
        let input = match self.activations {
            ActivationFormat::Int8 if spec.inputs.len() > 1 => " int8 input",
            _ => "",
        };
        let tensors = if self.float_format == FloatFormat::F16 { " f16" } else { "" };
        let scales = if self.scale_format == FloatFormat::F16 { " f16 scales" } else { "" };
        write!(f, "{} {}{specialization}{input}{tensors}{scales}", spec.name, self.weights)
    }
}
