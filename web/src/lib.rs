//! The WebAssembly side of the npm package `dsconv`; `ts/` is the other side, which users see.
//!
//! The crate is empty on other targets. Geometry and options come as JSON, tensors as typed arrays. Errors are
//! JavaScript `Error`s with a `code`.

#![cfg(target_arch = "wasm32")]

mod answers;
mod device;
mod error;
mod layer;
mod network;
mod pixels;
mod quantize;
mod resident;
mod shared;
mod spec;

pub use device::Device;
pub use layer::Layer;
pub use network::Network;
pub use quantize::quantize;
