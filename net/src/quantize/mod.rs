//! Whole networks from floats to DSConv.
//!
//! [`quantize()`] replaces the weights of a graph's convolutions ([`layers`]), [`allocate()`] chooses how many bits
//! each layer gets, and [`calibrate()`] mends mean and deviation of every layer's output. The last two run the network
//! on samples and stop at each convolution: that is the [`walk`].

mod allocate;
mod calibrate;
mod compact;
mod gptq;
mod layers;
mod linear;
mod patches;
mod walk;

pub use allocate::{Target, allocate};
pub(crate) use calibrate::shifted;
pub use calibrate::{Calibrated, Fit, FittedLayer, calibrate};
pub use layers::{LayerReport, QuantizeOptions, compact, quantize, report};
pub(crate) use walk::Walk;
pub use walk::{Convolve, SampleRun, on_cpu};
