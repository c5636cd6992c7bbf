//! Whole networks from floats to DSConv.
//!
//! [`quantize()`] replaces the weights of a graph's convolutions ([`layers`]), [`allocate()`] chooses how many bits
//! each layer gets, and [`calibrate()`] fits integers ([`gptq`], [`descent`]) and mean and deviation of every layer's
//! output. The last two run the network on samples and stop at each convolution: that is the [`walk`].
//! [`patches`] makes a product of matrices of a convolution, and [`linear`] has the algebra.

mod allocate;
mod calibrate;
mod compact;
mod descent;
mod gptq;
mod layers;
mod linear;
mod patches;
#[cfg(test)]
mod tests;
mod walk;

pub use allocate::{Target, allocate};
pub(crate) use calibrate::shifted;
pub use calibrate::{Calibrated, Fit, FittedLayer, calibrate, calibration_memory};
pub use layers::{LayerReport, QuantizeOptions, compact, quantize, report};
pub(crate) use walk::Walk;
pub use walk::{Convolve, SampleRun, on_cpu};
