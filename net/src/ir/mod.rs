//! The two forms of a network, and their vocabulary.
//!
//! A [`Graph`](graph::Graph) is a network whatever the shape of its input: operators in ONNX's semantics ([`graph_op`],
//! their [`fields`]) over named values. A [`Program`](program::Program) is the same network for one set of input shapes:
//! a small closed set of steps over tensors of static shapes. Read [`op`] and [`tensor`] first, which both are made of,
//! then [`fields`], [`graph_op`], [`graph`] and [`program`].

mod fields;
pub mod graph;
mod graph_op;
pub mod op;
pub mod program;
pub mod tensor;

pub(crate) use graph_op::Signature;
