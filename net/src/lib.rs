//! Whole networks for [`dsconv`]: ONNX in and out, a graph of operators, programs of static shapes, and their run
//! on the CPU and on GPUs.

pub mod cpu;
mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
mod lower;
pub mod op;
pub mod program;
mod resample;
mod specialise;
pub mod tensor;
mod window;

pub use error::{Error, Result, Unsupported};
pub use graph::Graph;
pub use program::Program;
