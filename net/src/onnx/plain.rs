//! Operators that are the same in ONNX and in a graph: the same inputs in the same order, and no attributes. Import and
//! export share this table.

use crate::ir::graph::{Comparison, Op};
use crate::ir::op::{Binary, Unary};
use dsconv::Activation;

/// ONNX's name and the operator.
///
/// Import has its own way with some of them: Min and Max take any number of inputs in ONNX, a matrix product with
/// constants becomes a convolution, and Slice had attributes in its first versions. Export has its own way with
/// And, Or, Not and Where, whose bools are integers of the graph.
static PLAIN: &[(&str, Op)] = &[
    ("Relu", Op::Unary(Unary::Activation(Activation::Relu))),
    ("Sigmoid", Op::Unary(Unary::Activation(Activation::Sigmoid))),
    ("HardSwish", Op::Unary(Unary::Activation(Activation::HardSwish))),
    ("Softplus", Op::Unary(Unary::Softplus)),
    ("Exp", Op::Unary(Unary::Exp)),
    ("Log", Op::Unary(Unary::Log)),
    ("Sqrt", Op::Unary(Unary::Sqrt)),
    ("Reciprocal", Op::Unary(Unary::Reciprocal)),
    ("Neg", Op::Unary(Unary::Neg)),
    ("Abs", Op::Unary(Unary::Abs)),
    ("Tanh", Op::Unary(Unary::Tanh)),
    ("Erf", Op::Unary(Unary::Erf)),
    ("Floor", Op::Unary(Unary::Floor)),
    ("Ceil", Op::Unary(Unary::Ceil)),
    ("Round", Op::Unary(Unary::Round)),
    ("Sin", Op::Unary(Unary::Sin)),
    ("Cos", Op::Unary(Unary::Cos)),
    ("Add", Op::Binary(Binary::Add)),
    ("Sub", Op::Binary(Binary::Sub)),
    ("Mul", Op::Binary(Binary::Mul)),
    ("Div", Op::Binary(Binary::Div)),
    ("Pow", Op::Binary(Binary::Pow)),
    ("Min", Op::Binary(Binary::Min)),
    ("Max", Op::Binary(Binary::Max)),
    ("Atan", Op::Unary(Unary::Atan)),
    ("Sign", Op::Unary(Unary::Sign)),
    ("IsNaN", Op::Unary(Unary::IsNan)),
    ("PRelu", Op::Binary(Binary::PRelu)),
    ("GlobalAveragePool", Op::GlobalAverage),
    ("GlobalMaxPool", Op::GlobalMax),
    ("Slice", Op::Slice),
    ("MatMul", Op::MatMul),
    ("Expand", Op::Expand),
    ("Tile", Op::Tile),
    ("Size", Op::Size),
    ("Range", Op::Range),
    ("Equal", Op::Compare(Comparison::Equal)),
    ("Less", Op::Compare(Comparison::Less)),
    ("Greater", Op::Compare(Comparison::Greater)),
    ("LessOrEqual", Op::Compare(Comparison::LessOrEqual)),
    ("GreaterOrEqual", Op::Compare(Comparison::GreaterOrEqual)),
    ("And", Op::Compare(Comparison::And)),
    ("Or", Op::Compare(Comparison::Or)),
    ("Not", Op::Not),
    ("Where", Op::Where),
];

/// The operator that ONNX calls so.
pub(crate) fn operator(name: &str) -> Option<&'static Op> {
    PLAIN.iter().find(|(known, _)| *known == name).map(|(_, op)| op)
}

/// ONNX's name of an operator.
pub(crate) fn name(op: &Op) -> Option<&'static str> {
    PLAIN.iter().find(|(_, known)| known == op).map(|(name, _)| *name)
}

/// The names of all of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PLAIN.iter().map(|(name, _)| *name)
}
