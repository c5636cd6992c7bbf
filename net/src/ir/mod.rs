//! The two forms of a network, and their vocabulary.
//!
//! A [`Graph`](graph::Graph) is a network whatever the shape of its input: operators in ONNX's semantics ([`graph_op`])
//! over named values. A [`Program`](program::Program) is the same network for one set of input shapes: a small closed
//! set of steps over tensors of static shapes. Read [`op`] and [`tensor`] first, which both are made of, then
//! [`graph_op`], [`graph`] and [`program`].

pub mod graph;
mod graph_op;
pub mod op;
pub mod program;
pub mod tensor;

pub(crate) use graph_op::Signature;
