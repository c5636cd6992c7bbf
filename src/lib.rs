#![doc = "x"]
mod epilogue;
mod error;
#[cfg(all(any(feature = "gpu", feature = "storage"), not(target_arch = "wasm32")))]
mod file;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "storage")]
mod pack;
mod quantize;
pub mod reference;
mod shape;
#[cfg(feature = "storage")]
mod storage;
mod weights;

pub use epilogue::{Activation, Residual};
pub use error::{Error, Result};
pub use quantize::{Method, Quantizer, signal_to_noise_db};
pub use reference::Reference;
pub use shape::{ConvDescriptor, Layout, Shape};
#[cfg(feature = "storage")]
pub use storage::LayerFile;
pub use weights::{
    BlockFormat, Blocks, Cds, DsConvWeights, FloatWeights, Partition, Weights, WeightsRef,
};
