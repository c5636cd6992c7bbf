//! ONNX models, in and out.

mod composed;
mod convert;
mod data;
mod export;
mod import;
mod node;
mod proto;
mod quantized;
mod spatial;
mod write_op;

pub use export::to_bytes;
#[cfg(not(target_arch = "wasm32"))]
pub use export::write;
pub use import::{from_bytes, read};
