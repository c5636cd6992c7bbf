//! The WebAssembly side of the npm package `dsconv`; `ts/` is the other side, which users see. `tools` makes a second
//! module, of what only a worker needs.
//!
//! The crate is empty on other targets. Geometry and options come as JSON, tensors as typed arrays. Errors are
//! JavaScript `Error`s with a `code`.

#![cfg(target_arch = "wasm32")]

mod device;
mod layer;
mod network;
mod resident;
mod shared;
mod spec;

pub use device::Device;
pub use layer::Layer;
pub use network::Network;
