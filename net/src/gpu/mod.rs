//! Programs on a GPU, in one submission.
//!
//! A [`Network`] lives as long as the model and holds its weights, a [`NetworkPlan`] as long as one set of input
//! shapes: it holds the tensors. The host owns device and queue; nothing here submits, except
//! [`NetworkPlan::run`] and [`NetworkPlan::profile`], which are for first steps, measurements and tests.
//!
//! A program becomes a plan in four steps. `schedule` turns its steps into tasks (a convolution, the quantisation of
//! its input, or a dispatch of another kernel) over slots of memory, in the tensor layouts that `channels_last` finds;
//! `geometry` computes the parameters of those other kernels, which `kernels` lists, by how tensors lie along their
//! `axes` (`indexed` those of operations whose places the run computes). `layout` finds out how long each tensor lives
//! and has `arena` place it, so that `memory` can tell what a plan takes before anything is allocated. `plan` allocates,
//! takes weights and constants from `uploads`, and binds every task. `network` ties these together by its `options`;
//! `profile` times the steps of a plan.

mod arena;
mod axes;
mod channels_last;
mod geometry;
mod gradients;
mod indexed;
mod kernels;
mod layout;
mod memory;
mod network;
mod options;
mod plan;
mod profile;
mod schedule;
#[cfg(test)]
pub(crate) mod tests;
mod uploads;

pub use memory::NetworkMemory;
pub use network::Network;
pub use options::{Activations, NetworkOptions};
pub use plan::{NetworkPlan, PlanStep};
pub use profile::{Clock, Profile};
