//! Whole networks for [`dsconv`]: ONNX in and out, a graph of operators, programs of static shapes, and their run
//! on the CPU.

mod error;
pub mod graph;
pub mod op;
pub mod program;
pub mod tensor;

pub use error::{Error, Result, Unsupported};
pub use graph::Graph;
pub use program::Program;
