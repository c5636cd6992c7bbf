//! ONNX models, in and out.
//!
//! `proto` has the messages of ONNX's protobuf schema, `import` makes a graph of a model and `export` a model of
//! a graph; `plain` lists the operators that are the same on both sides.

mod export;
mod import;
mod plain;
mod proto;

pub use export::to_bytes;
#[cfg(not(target_arch = "wasm32"))]
pub use export::write;
#[cfg(not(target_arch = "wasm32"))]
pub use import::external_files;
pub use import::{from_bytes, operators, read};
