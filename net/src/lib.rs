//! Whole networks for [`dsconv`]: ONNX in and out, a graph of operators, programs of static shapes, and their run
//! on the CPU and on GPUs.
//!
//! # The life of a network
//!
//! ```text
//!  ONNX --onnx--+                                               +--cpu--> outputs (the reference)
//!               |                                               |
//!               +--> Graph --specialise (lower)--> Program -----+
//!               |    ^   |                                      |
//!  yaml -yolov9-+    |   |                                      +--gpu--> outputs
//!                    |   +--> Model (a file), ONNX again
//!                    |
//!                    quantize, calibrate: other weights
//! ```
//!
//! [`onnx::read`] makes a [`Graph`] of a model, and [`yolov9`] one of YOLOv9's yaml and a PyTorch state dict. A graph
//! knows no input size. [`quantize()`] and [`calibrate()`] replace the weights of its convolutions. A [`Model`] is a
//! graph with what an application needs to use it, in a file; [`onnx::to_bytes`] writes ONNX again, with packed weights
//! as blocked DequantizeLinear.
//!
//! [`Graph::specialise`] lowers a graph to a [`Program`] for one set of input shapes: shape arithmetic is gone,
//! activations and residuals are fused, weights are shared. [`cpu::run`] runs it with sums in f64, as the reference for
//! other executors; a `gpu::Network` runs it on a GPU. [`picture`] and [`detect`] make inputs of pictures and read
//! classes and boxes out of outputs.
//!
//! To read the code, begin with `ir` (the two forms of a network), then `lower` (from one to the other) and [`cpu`]
//! (what each step means). `onnx`, `quantize`, `vision` and `gpu` build on these, and `yolov9` on
//! `quantize` too, for its random weights. [`train`] teaches a network's last layer. Each folder's `mod.rs` says in which order to read it.
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

pub mod cpu;
mod error;
#[cfg(feature = "gpu")]
pub mod gpu;
mod ir;
mod lower;
pub mod model;
pub mod onnx;
mod quantize;
pub mod train;
mod vision;
pub mod yolov9;

pub use error::{Error, Result, Unsupported};
pub use ir::graph::Graph;
pub use ir::program::Program;
pub use ir::{graph, op, program, tensor};
pub use model::Model;
pub use quantize::{
    Calibrated, Convolve, Fit, FittedLayer, LayerReport, QuantizeOptions, SampleRun, Target,
    allocate, calibrate, calibration_memory, compact, on_cpu, quantize, report,
};
pub use vision::placement::Placement;
pub use vision::{augment, detect, picture};

#[cfg(all(doctest, feature = "gpu"))]
#[doc = include_str!("../README.md")]
struct Readme;
