//! Training, on the host: which pictures, how values move, and what is kept of it.
//!
//! A [`Head`] is what learns: a network's classifier, by [`head_gradients`] on the features that its [body](Head::body)
//! gives. [`split`] and [`order`] say which pictures it learns from and when, an [`Optimizer`] moves the values, and a
//! [`Course`] keeps the best ones, and goes on from a file.
//!
//! A [`Training`] is for more than the head: its [`Learned`] parts of all layers get gradients from a program that holds
//! the network and its backward pass. It runs on the CPU, and as a [`TrainingPlan`] on the GPU.

mod backward;
mod course;
mod data;
mod head;
#[cfg(feature = "gpu")]
mod on_gpu;
mod optimizer;
mod training;

pub use course::{Course, Epoch};
pub use data::{Split, mixed, order, split};
pub use head::{Head, head_gradients, head_scores};
#[cfg(feature = "gpu")]
pub use on_gpu::TrainingPlan;
pub use optimizer::{Optimizer, OptimizerOptions};
pub use training::{Gradients, Learned, Loss, Parameter, Part, Training};
