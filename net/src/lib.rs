//! Whole networks for [`dsconv`]: ONNX in and out, a graph of operators, programs of static shapes, and their run
//! on the CPU and on GPUs.
//!
//! [`onnx::read`] gives a [`Graph`], which knows no input size. [`Graph::specialise`] makes a [`Program`] for one:
//! shape arithmetic is gone, activations and residuals are fused, weights are shared. [`cpu::run`] runs it with sums
//! in f64, as the oracle for other executors. A [`Model`] is a graph with what a program needs to use it, in a file;
//! [`onnx::to_bytes`] writes ONNX again, its packed weights as blocked DequantizeLinear. [`yolov9`] makes a graph of YOLOv9's
//! yaml and a PyTorch state dict.
//!
//! ```
//! # const BYTES: &[u8] = include_bytes!("../tests/data/small.onnx");
//! # fn main() -> dsconv_net::Result<()> {
//! let mut graph = dsconv_net::onnx::from_bytes(BYTES, None)?;
//! // Packed weights for its convolutions: 4 bits, blocks of 2 channels.
//! let ids: Vec<_> = graph.convolutions().map(|(_, id)| id).collect();
//! for id in ids {
//!     if let dsconv::Weights::Float(floats) = graph.weights(id).clone().as_ref() {
//!         let quantizer = dsconv::Quantizer::new(4, 2)?;
//!         graph.set_weights(id, quantizer.weights(floats.descriptor(), floats.values())?)?;
//!     }
//! }
//! // Its input is (n, 5, h, w).
//! let program = graph.specialise(&[&[1, 5, 4, 4]])?;
//! let outputs = dsconv_net::cpu::run(&program, &[&[0.5; 80]])?;
//! assert_eq!(program.value(program.outputs()[0]).dims, [6, 16]);
//! assert_eq!(outputs[0].len(), 96);
//! # Ok(()) }
//! ```

mod arrange;
mod calibrate;
pub mod cpu;
pub mod detect;
mod error;
mod fold;
mod fuse;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
mod known;
mod lower;
pub mod model;
pub mod onnx;
pub mod op;
pub mod picture;
mod placement;
pub mod program;
mod quantize;
mod resample;
mod specialise;
pub mod tensor;
mod window;
pub mod yolov9;

pub use calibrate::{Convolve, calibrate, on_cpu};
pub use error::{Error, Result, Unsupported};
pub use graph::Graph;
pub use model::Model;
pub use placement::Placement;
pub use program::Program;
pub use quantize::{LayerReport, QuantizeOptions, Target, allocate, quantize, report};

#[cfg(all(doctest, feature = "gpu"))]
#[doc = include_str!("../README.md")]
struct Readme;
