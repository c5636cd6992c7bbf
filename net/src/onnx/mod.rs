//! ONNX models, in and out.

mod convert;
mod data;
mod import;
mod node;
mod proto;
mod quantized;
mod spatial;

pub use import::{from_bytes, read};
