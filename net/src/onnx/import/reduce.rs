//! Reductions: what the graph has, with a function of the elements before it and one of the result behind it.

use super::attributes::{Converted, Refusal};
use super::context::NodeContext;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::{Binary, Reduction, Unary};

/// Every reduction of ONNX.
pub(crate) fn reduce(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let name = context.node.op_type.as_str();
    let x = context.input(0)?;
    let axes = context.axes(if name == "ReduceSum" { 13 } else { 18 })?;
    let keep = context.attributes.int("keepdims")?.unwrap_or(1) != 0;
    // Without axes it reduces all of them, or none.
    let none = context.attributes.flag("noop_with_empty_axes")? && axes.is_empty();
    let along = |context: &mut NodeContext<'_, '_>, reduction, keep, x| match none {
        true => Ok(x),
        false => context.push(Op::Reduce { reduction, axes: axes.clone(), keep }, [x]),
    };
    let sum = |context: &mut NodeContext<'_, '_>, x| along(context, Reduction::Sum, keep, x);
    match name {
        "ReduceMean" => along(context, Reduction::Mean, keep, x),
        "ReduceSum" => sum(context, x),
        "ReduceMax" => along(context, Reduction::Max, keep, x),
        "ReduceMin" => along(context, Reduction::Min, keep, x),
        "ReduceProd" => along(context, Reduction::Product, keep, x),
        "ReduceL1" => {
            let sizes = context.unary(Unary::Abs, x)?;
            sum(context, sizes)
        }
        "ReduceL2" | "ReduceSumSquare" => {
            let squares = context.binary(Binary::Mul, x, x)?;
            let y = sum(context, squares)?;
            if name == "ReduceL2" { context.unary(Unary::Sqrt, y) } else { Ok(y) }
        }
        "ReduceLogSum" => {
            let y = sum(context, x)?;
            context.unary(Unary::Log, y)
        }
        // Less the largest, so that no exponential is out of range.
        "ReduceLogSumExp" => {
            let largest = along(context, Reduction::Max, true, x)?;
            let y = context.binary(Binary::Sub, x, largest)?;
            let y = context.unary(Unary::Exp, y)?;
            let y = sum(context, y)?;
            let y = context.unary(Unary::Log, y)?;
            let largest = along(context, Reduction::Max, keep, x)?;
            context.binary(Binary::Add, y, largest)
        }
        _ => Err(Refusal::Operator),
    }
}
