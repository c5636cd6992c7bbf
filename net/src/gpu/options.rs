//! The options that a network is made with.

use dsconv::gpu::FloatFormat;

/// What convolutions with DSConv weights take as input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activations {
    /// Floats.
    #[default]
    F32,
    /// int8 mantissas with a scale per block, made on the GPU; straight from the convolution before, without a float
    /// tensor in between, where nothing else reads it. Layers of fewer than four channels per group keep floats.
    Int8,
}

/// How a network runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkOptions {
    /// What convolutions with DSConv weights take as input.
    pub activations: Activations,
    /// What alpha and KDS bias are stored as: halves take half of the memory, for up to 0.05% of a weight.
    pub scale_format: FloatFormat,
}
