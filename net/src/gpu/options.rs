//! The options that a network is made with.

use dsconv::gpu::FloatFormat;

/// The format of the inputs of convolutions with DSConv weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// Floats.
    #[default]
    F32,
    /// int8 mantissas with a scale per block, made on the GPU; straight from the convolution before, without a float
    /// tensor in between, where nothing else reads it. Layers of fewer than four channels per group keep floats.
    Int8,
}

/// The options of a network on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkOptions {
    /// The format of the inputs of convolutions with DSConv weights.
    pub activations: Activations,
    /// The format that alpha and KDS bias are stored in: halves take half of the memory, for up to 0.05% of a weight.
    pub scale_format: FloatFormat,
}
