//! Programs on a GPU, in one submission.
//!
//! A [`Network`] lives as long as the model and holds its weights, a [`NetworkPlan`] as long as one set of input
//! shapes: it holds the tensors. The host owns device and queue; nothing here submits, except
//! [`NetworkPlan::run`] and [`NetworkPlan::profile`], which are for first steps, measurements and tests.

mod arena;
mod geometry;
mod kernels;
mod network;
mod plan;
mod profile;
mod schedule;
#[cfg(test)]
mod tests;

pub use network::{Activations, Network, NetworkMemory, NetworkOptions};
pub use plan::{NetworkPlan, PlanStep};
pub use profile::{Clock, Profile};
