//! ONNX models, in and out.

mod convert;
mod data;
mod export;
mod import;
mod node;
mod proto;
mod quantized;
mod spatial;
mod write_op;

pub use export::{to_bytes, write};
pub use import::{from_bytes, read};
