//! Operators that find elements, or read and write at places that the run may compute.

use super::attributes::{Converted, Refusal, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::Comparison;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::{Binary, Combination};

/// The place of an extreme.
pub(crate) fn arg(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    Ok(Op::ArgMax {
        axis: attributes.int("axis")?.unwrap_or(0),
        keep: attributes.int("keepdims")?.unwrap_or(1) != 0,
        last: attributes.flag("select_last_index")?,
        smallest: context.node.op_type == "ArgMin",
    })
}

/// The first in order, and their places.
pub(crate) fn top_k(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let attributes = context.attributes;
    // Any order will do where it does not matter.
    attributes.ignore(&["sorted"]);
    let axis = attributes.int("axis")?.unwrap_or(-1);
    let descending = attributes.int("largest")?.unwrap_or(1) != 0;
    let x = context.input(0)?;
    let count = match context.opset() {
        ..10 => context.importer.list([attributes.int("k")?.unwrap_or(0)]),
        _ => context.input(1)?,
    };
    let places = context.push(Op::Order { axis, descending }, [x, count])?;
    let values = context.push(Op::GatherElements { axis }, [x, places])?;
    Ok(vec![values, places])
}

/// Boxes that do not overlap better ones of their class.
pub(crate) fn suppress(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let centre = context.attributes.flag("center_point_box")?;
    let (boxes, scores) = (context.input(0)?, context.input(1)?);
    let most = context.optional(2)?.unwrap_or_else(|| context.importer.list([0]));
    let overlap = context.optional(3)?.unwrap_or_else(|| context.importer.scalar(0.0));
    let least = context.optional(4)?.unwrap_or_else(|| context.importer.scalar(f32::MIN));
    context.push(Op::Suppress { centre }, [boxes, scores, most, overlap, least])
}

/// Sums up to each element.
pub(crate) fn cumulative_sum(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    let (exclusive, reverse) = (attributes.flag("exclusive")?, attributes.flag("reverse")?);
    Ok(Op::CumulativeSum { exclusive, reverse })
}

/// One of two values at every place of a new axis.
pub(crate) fn one_hot(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    Ok(Op::OneHot { axis: context.attributes.int("axis")?.unwrap_or(-1) })
}

/// Elements or slices picked.
pub(crate) fn gather(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    if context.node.op_type == "GatherElements" {
        return Ok(Op::GatherElements { axis: attributes.int("axis")?.unwrap_or(0) });
    }
    let batch = attributes.int("batch_dims")?.unwrap_or(0);
    match usize::try_from(batch) {
        Ok(batch) => Ok(Op::GatherNd { batch }),
        Err(_) => refuse(format!("batch_dims {batch}")),
    }
}

/// Elements or slices changed.
pub(crate) fn scatter(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    let combination = match attributes.string("reduction", "none")? {
        "none" => Combination::Replace,
        "add" => Combination::Add,
        "mul" => Combination::Mul,
        "min" => Combination::Min,
        "max" => Combination::Max,
        other => return refuse(format!("reduction {other}")),
    };
    match context.node.op_type.as_str() {
        "ScatterND" => Ok(Op::ScatterNd { combination }),
        "Scatter" | "ScatterElements" => {
            let axis = attributes.int("axis")?.unwrap_or(0);
            Ok(Op::ScatterElements { axis, combination })
        }
        _ => Err(Refusal::Operator),
    }
}

/// The first elements of each sequence in reverse, as many as its length says.
pub(crate) fn reverse_sequence(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    let (batch, time) = (attributes.int("batch_axis")?, attributes.int("time_axis")?);
    let axis = match (batch.unwrap_or(1), time.unwrap_or(0)) {
        (1, 0) => 0,
        (0, 1) => 1,
        axes => {
            let expected = "one of them 0 and the other 1";
            return Err(
                Error::invalid("batch_axis, time_axis", expected, format!("{axes:?}")).into()
            );
        }
    };
    // Both axes, and all others as one: the place that each element comes from.
    let (along, across) =
        if axis == 0 { ([-1, 1, 1], [1, -1, 1]) } else { ([1, -1, 1], [-1, 1, 1]) };
    let (x, lengths) = (context.input(0)?, context.input(1)?);
    let rows = context.reshape_to(x, &[0, 0, -1])?;
    let lengths = context.reshape_to(lengths, &across)?;
    let (zero, one) = (context.importer.number(0)?, context.importer.number(1)?);
    let count = context.dims(rows, axis, Some(axis + 1))?;
    // Exports are read by others, who want a scalar there.
    let count = context.reshape_to(count, &[])?;
    let places = context.push(Op::Range, [zero, count, one])?;
    let places = context.reshape_to(places, &along)?;
    let inside = context.push(Op::Compare(Comparison::Less), [places, lengths])?;
    let last = context.binary(Binary::Sub, lengths, one)?;
    let reversed = context.binary(Binary::Sub, last, places)?;
    let from = context.push(Op::Where, [inside, reversed, places])?;
    let dims = context.dims(rows, 0, None)?;
    let from = context.push(Op::Expand, [from, dims])?;
    let y = context.push(Op::GatherElements { axis }, [rows, from])?;
    context.reshape_like(y, x)
}
