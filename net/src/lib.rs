//! Whole networks for [`dsconv`]: ONNX in and out, a graph of operators, programs of static shapes, and their run
//! on the CPU and on GPUs.

mod calibrate;
pub mod cpu;
mod error;
mod fold;
mod fuse;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
mod lower;
pub mod model;
pub mod onnx;
pub mod op;
pub mod program;
mod quantize;
mod resample;
mod specialise;
pub mod tensor;
mod window;

pub use calibrate::{Convolve, calibrate, on_cpu};
pub use error::{Error, Result, Unsupported};
pub use graph::Graph;
pub use model::Model;
pub use program::Program;
pub use quantize::{LayerReport, QuantizeOptions, Target, allocate, quantize, report};
