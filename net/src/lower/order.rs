//! Lowering of operators that look along an axis: its largest elements, their order, sums up to each.

use super::builder::{Context, Lowered, integers};
use crate::ir::graph::{Kind, Op};
use crate::ir::op::{Binary, PadMode, Reduction, Unary};
use crate::ir::program::StepOp;
use crate::ir::tensor::{axis_of, elements};
use crate::{Error, Result};

/// The place of the largest element: those equal to it count from the end of the axis, and the one that is furthest
/// from there wins.
pub(crate) fn arg_max(context: &mut Context<'_>, op: &Op, x: &Lowered) -> Result<Lowered> {
    let &Op::ArgMax { axis, keep, last, smallest } = op else {
        return Err(Error::invalid("operator", "ArgMax", op.name()));
    };
    let dims = context.dims(x);
    let axis = axis_of(axis, dims.len())?;
    let mut one = dims.clone();
    one[axis] = 1;
    let extreme = if smallest { Reduction::Min } else { Reduction::Max };
    let along = |reduction| StepOp::Reduce { reduction, axes: vec![axis] };
    let best = context.compute(along(extreme), std::slice::from_ref(x), one.clone(), x.kind())?;
    let is_best = context.binary(Binary::Equal, [x, &best], Kind::Float)?;
    let mut places = context.counting(dims[axis], axis, dims.len())?;
    let count = context.number(dims[axis] as f32)?;
    let furthest = if last { Reduction::Max } else { Reduction::Min };
    if !last {
        places = context.binary(Binary::Sub, [&places, &count], Kind::Float)?;
    }
    let places = context.binary(Binary::Mul, [&is_best, &places], Kind::Float)?;
    let mut y = context.compute(along(furthest), &[places], one, Kind::Integer)?;
    if !last {
        y = context.binary(Binary::Add, [&y, &count], Kind::Integer)?;
    }
    if keep {
        return Ok(y);
    }
    let mut to = dims;
    to.remove(axis);
    context.view(&y, to)
}

/// 1 at the first of the largest elements.
pub(crate) fn hardmax(
    context: &mut Context<'_>,
    axis: i64,
    flatten: bool,
    x: &Lowered,
) -> Result<Lowered> {
    let dims = context.dims(x);
    let axis = axis_of(axis, dims.len())?;
    if flatten {
        let flat = vec![elements("input", &dims[..axis])?, elements("input", &dims[axis..])?];
        let y = context.view(x, flat)?;
        let y = hardmax(context, 1, false, &y)?;
        return context.view(&y, dims);
    }
    let op = Op::ArgMax { axis: axis as i64, keep: true, last: false, smallest: false };
    let place = arg_max(context, &op, x)?;
    let places = context.counting(dims[axis], axis, dims.len())?;
    context.binary(Binary::Equal, [&places, &place], Kind::Float)
}

/// The places of the first elements in order.
pub(crate) fn order(
    context: &mut Context<'_>,
    axis: i64,
    descending: bool,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let mut to = context.dims(&inputs[0]);
    let axis = axis_of(axis, to.len())?;
    let wanted = match integers(&inputs[1], "k")? {
        &[wanted] => usize::try_from(wanted).ok().filter(|wanted| (1..=to[axis]).contains(wanted)),
        _ => None,
    };
    let expected = || Error::invalid("k", format!("1 to {}", to[axis]), "another number");
    to[axis] = wanted.ok_or_else(expected)?;
    context.compute(StepOp::Order { axis, descending }, &inputs[..1], to, Kind::Integer)
}

/// Boxes that do not overlap better ones of their class.
pub(crate) fn suppress(
    context: &mut Context<'_>,
    centre: bool,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let (boxes, scores) = (context.dims(&inputs[0]), context.dims(&inputs[1]));
    let (&[images, count, 4], &[scored, classes, of]) = (&boxes[..], &scores[..]) else {
        let got = format!("{boxes:?} and {scores:?}");
        return Err(Error::invalid("inputs", "boxes (N, B, 4) and scores (N, C, B)", got));
    };
    if (images, count) != (scored, of) {
        let got = format!("{boxes:?} and {scores:?}");
        return Err(Error::invalid("inputs", "scores of the boxes", got));
    }
    let most = match integers(&inputs[2], "max_output_boxes_per_class")? {
        &[most, ..] => usize::try_from(most).unwrap_or(0).min(count),
        [] => 0,
    };
    if most == 0 {
        let expected = "1 or more: there are no empty tensors";
        return Err(Error::invalid("max_output_boxes_per_class", expected, most));
    }
    let number = |index: usize, what: &str| {
        let values = context.constant(&inputs[index]);
        values
            .and_then(|values| values.first().copied())
            .ok_or_else(|| Error::invalid(what, "a float known beforehand", "a float of the run"))
    };
    let (overlap, least) = (number(3, "iou_threshold")?, number(4, "score_threshold")?);
    let in_order = StepOp::Order { axis: 2, descending: true };
    let order = context.compute(in_order, &inputs[1..2], scores, Kind::Integer)?;
    let rows = images.saturating_mul(classes).saturating_mul(most);
    let op = StepOp::Suppress { centre, overlap, least };
    let all = [inputs[0].clone(), inputs[1].clone(), order];
    context.compute(op, &all, vec![rows, 3], Kind::Integer)
}

/// The sum up to each element: of all within 1, 2, 4 and so on before it.
pub(crate) fn cumulative_sum(
    context: &mut Context<'_>,
    exclusive: bool,
    reverse: bool,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let dims = context.dims(&inputs[0]);
    let axis = match integers(&inputs[1], "axis")? {
        &[axis] => axis_of(axis, dims.len())?,
        axes => return Err(Error::invalid("axis", "one number", axes.len())),
    };
    let (kind, mut y) = (inputs[0].kind(), inputs[0].clone());
    if exclusive {
        y = shifted(context, &y, axis, 1, reverse)?;
    }
    let mut distance = 1;
    while distance < dims[axis] {
        let before = shifted(context, &y, axis, distance, reverse)?;
        y = context.binary(Binary::Add, [&y, &before], kind)?;
        distance *= 2;
    }
    Ok(y)
}

/// A tensor moved along an axis, with zeros where nothing comes from.
fn shifted(
    context: &mut Context<'_>,
    x: &Lowered,
    axis: usize,
    distance: usize,
    reverse: bool,
) -> Result<Lowered> {
    let (dims, kind) = (context.dims(x), x.kind());
    if distance >= dims[axis] {
        let zero = context.number(0.0)?;
        return context.binary(Binary::Gate, [x, &zero], kind);
    }
    let mut cut = dims.clone();
    cut[axis] -= distance;
    let (mut start, mut before) = (vec![0; dims.len()], vec![0; dims.len()]);
    if reverse {
        start[axis] = distance;
    } else {
        before[axis] = distance;
    }
    let slice = StepOp::Slice { start, step: vec![1; dims.len()] };
    let part = context.compute(slice, std::slice::from_ref(x), cut, kind)?;
    let pad = StepOp::Pad { before, mode: PadMode::Constant(0.0) };
    context.compute(pad, &[part], dims, kind)
}

/// A triangle of each matrix.
pub(crate) fn triangle(
    context: &mut Context<'_>,
    upper: bool,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let dims = context.dims(&inputs[0]);
    let diagonal = match inputs.get(1) {
        None => 0,
        Some(diagonal) => match integers(diagonal, "k")? {
            &[diagonal] => diagonal,
            values => return Err(Error::invalid("k", "one number", values.len())),
        },
    };
    let rank = dims.len();
    let &[.., rows, columns] = &dims[..] else {
        return Err(Error::invalid("input", "rank 2 or more", rank));
    };
    let row = context.counting(rows, rank - 2, rank)?;
    let column = context.counting(columns, rank - 1, rank)?;
    let offset = context.binary(Binary::Sub, [&column, &row], Kind::Float)?;
    let diagonal = context.number(diagonal.clamp(-(1 << 24), 1 << 24) as f32)?;
    let pair = if upper { [&diagonal, &offset] } else { [&offset, &diagonal] };
    let kept = context.binary(Binary::LessOrEqual, pair, Kind::Float)?;
    context.binary(Binary::Gate, [&inputs[0], &kept], inputs[0].kind())
}

/// Whole numbers from the front, where negative ones count from the end of an axis of that length.
pub(crate) fn from_front(
    context: &mut Context<'_>,
    index: &Lowered,
    length: usize,
) -> Result<Lowered> {
    let zero = context.number(0.0)?;
    let length = context.number(length as f32)?;
    let negative = context.binary(Binary::Less, [index, &zero], Kind::Integer)?;
    let added = context.binary(Binary::Mul, [&negative, &length], Kind::Integer)?;
    context.binary(Binary::Add, [index, &added], Kind::Integer)
}

/// The rest of a division that rounds down, so that it is never negative.
pub(crate) fn remainder_of_floor(
    context: &mut Context<'_>,
    x: &Lowered,
    period: f32,
) -> Result<Lowered> {
    let period = context.number(period)?;
    let turns = context.binary(Binary::Div, [x, &period], Kind::Float)?;
    let turns = context.unary(Unary::Floor, &turns, Kind::Float)?;
    let whole = context.binary(Binary::Mul, [&turns, &period], Kind::Float)?;
    context.binary(Binary::Sub, [x, &whole], Kind::Float)
}
