//! The second WebAssembly module of the npm package `dsconv`, for its worker: it reads ONNX, quantises, and runs networks
//! on the processor. So a page that only runs model files on WebGPU does without all of it.
//!
//! Every call blocks. The crate is empty on other targets.

#![cfg(target_arch = "wasm32")]

mod cpu;
mod quantize;
mod spec;

pub use cpu::CpuNetwork;
pub use quantize::{convert, quantize};
