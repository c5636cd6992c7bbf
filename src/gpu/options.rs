//! How a layer runs: everything that is not learned.

use super::format::{ActivationFormat, FloatFormat, Int8Output};
use super::kernel::Kernel;
use crate::{Activation, Error, Layout, Residual, Result};

/// How a layer runs: everything that is not learned. It starts from the default, and each `with_` sets a field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LayerOptions {
    /// The activation behind the convolution.
    pub activation: Activation,
    /// Where a residual tensor is added.
    pub residual: Residual,
    /// Whether the residual lies in the output's buffer, until the output takes its place. Then the tensors of a plan
    /// have no residual, and a chain of layers with skip connections does with two buffers. For float outputs.
    pub residual_in_place: bool,
    /// Whether the input is floats or integer activations.
    pub input_format: ActivationFormat,
    /// The layout of a float input; integer activations have one of their own.
    pub input_layout: Layout,
    /// The layout of a float output, and of the residual.
    pub output_layout: Layout,
    /// Integer activations as output, for the next layer; floats by default.
    pub int8_output: Option<Int8Output>,
    /// The format of float tensors: the input (also that of [`Layer::plan_quantization`](super::Layer::plan_quantization)),
    /// the output, the residual. Halves want `wgpu::Features::SHADER_F16`; outputs beyond their range saturate.
    pub float_format: FloatFormat,
    /// The format of alpha and KDS bias in device memory. Halves, scaled by a power of two, cost up to 0.05% of a weight
    /// and take half of the memory, on every device.
    pub scale_format: FloatFormat,
    /// A kernel of the caller's choice; by default [`Kernel::choose`] picks one.
    pub kernel: Option<Kernel>,
}

impl LayerOptions {
    /// The same with another activation.
    pub fn with_activation(self, activation: Activation) -> Self {
        Self { activation, ..self }
    }

    /// The same with a residual tensor, or without.
    pub fn with_residual(self, residual: Residual) -> Self {
        Self { residual, ..self }
    }

    /// The same with the residual in the output's buffer, or in one of its own.
    pub fn with_residual_in_place(self, residual_in_place: bool) -> Self {
        Self { residual_in_place, ..self }
    }

    /// The same for another format of the input.
    pub fn with_input_format(self, input_format: ActivationFormat) -> Self {
        Self { input_format, ..self }
    }

    /// The same for another layout of a float input.
    pub fn with_input_layout(self, input_layout: Layout) -> Self {
        Self { input_layout, ..self }
    }

    /// The same for another layout of a float output and the residual.
    pub fn with_output_layout(self, output_layout: Layout) -> Self {
        Self { output_layout, ..self }
    }

    /// The same with an output of integer activations, or with `None` of floats.
    pub fn with_int8_output(self, int8_output: impl Into<Option<Int8Output>>) -> Self {
        Self { int8_output: int8_output.into(), ..self }
    }

    /// The same for another format of float tensors.
    pub fn with_float_format(self, float_format: FloatFormat) -> Self {
        Self { float_format, ..self }
    }

    /// The same with another format of alpha and KDS bias.
    pub fn with_scale_format(self, scale_format: FloatFormat) -> Self {
        Self { scale_format, ..self }
    }

    /// The same with a kernel of the caller's choice, or with `None` that of [`Kernel::choose`].
    pub fn with_kernel(self, kernel: impl Into<Option<Kernel>>) -> Self {
        Self { kernel: kernel.into(), ..self }
    }

    /// Checks what can be checked without the weights.
    pub(super) fn check(&self) -> Result<()> {
        self.activation.validate()?;
        let expected = match (self.residual_in_place, self.residual, self.int8_output) {
            (true, Residual::None, _) => "false for a layer without a residual",
            (true, _, Some(_)) => "false for an int8 output, whose buffer can't hold floats",
            _ => return Ok(()),
        };
        Err(Error::invalid("residual_in_place", expected, true))
    }

    /// The layout of the input, whatever its format: the channels of integer activations are neighbours.
    pub(super) fn layout_of_input(&self) -> Layout {
        match self.input_format {
            ActivationFormat::Float => self.input_layout,
            ActivationFormat::Int8 => Layout::Nhwc,
        }
    }
}
