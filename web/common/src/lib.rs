//! What the two WebAssembly modules of the npm package `dsconv` share: how they read JavaScript's values, and how they
//! answer. The crate is empty on other targets.

#![cfg(target_arch = "wasm32")]

pub mod answers;
pub mod error;
pub mod pixels;
pub mod spec;
pub mod tensors;
