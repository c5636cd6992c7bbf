//! The convolution on a GPU: three types for three lifetimes.
//!
//! [`Pipelines`] lives as long as the device, a [`Layer`] as long as the model, a [`Plan`] as long as
//! one input shape. The host owns device, queue, encoders and tensors; nothing here submits, except
//! [`Layer::run`], which is for first steps and tests.

mod cache;
mod device;
mod kernel;
mod layer;
mod memory;
mod params;
mod pipelines;
mod plan;
mod planes;
mod profile;
mod scope;
mod shader;
mod transfer;
mod trusted;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod variant;

pub use device::{Capabilities, Gpu, Selection, WANTED_FEATURES, adapters, open, wanted_limits};
pub use kernel::{ActivationFormat, ConvProblem, FloatFormat, Int8Output, Kernel};
pub use layer::{Layer, LayerOptions};
pub use memory::{MemoryUse, check_buffer};
pub use pipelines::Pipelines;
pub use plan::{Plan, Tensors, grid};
pub use profile::Timestamps;
pub use scope::checked;
pub use transfer::{download, finished, upload};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::{Choice, Tuner};
pub use variant::{Specialization, Variant, WeightFormat};
