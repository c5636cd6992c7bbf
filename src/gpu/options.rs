//! How a layer runs: everything that is not learned.

use super::format::{ActivationFormat, FloatFormat, Int8Output};
use super::kernel::Kernel;
use crate::{Activation, Layout, Residual};

/// How a layer runs: everything that is not learned.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerOptions {
    /// The activation behind the convolution.
    pub activation: Activation,
    /// Where a residual tensor is added.
    pub residual: Residual,
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
    /// The layout of the input, whatever its format: the channels of integer activations are neighbours.
    pub(super) fn layout_of_input(&self) -> Layout {
        match self.input_format {
            ActivationFormat::Float => self.input_layout,
            ActivationFormat::Int8 => Layout::Nhwc,
        }
    }
}
