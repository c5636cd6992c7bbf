//! Training on the host.

mod course;
mod data;
mod optimizer;

pub use course::{Course, Epoch};
pub use data::{Split, mixed, order, split};
pub use optimizer::{Optimizer, OptimizerOptions};
