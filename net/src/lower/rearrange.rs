//! Lowering of operators that only move elements: slices, margins, other dims.

use super::builder::{Context, Lowered, integers};
use crate::ir::op::PadMode;
use crate::ir::program::StepOp;
use crate::ir::tensor::{MAX_RANK, axes_of, axis_of, elements};
use crate::{Error, Result};

/// Cuts a part out of a tensor.
pub(crate) fn slice(
    context: &mut Context<'_>,
    inputs: &[Lowered],
    dims: &[usize],
) -> Result<Lowered> {
    let (starts, ends) = (integers(&inputs[1], "starts")?, integers(&inputs[2], "ends")?);
    let axes = match inputs.get(3) {
        Some(axes) => integers(axes, "axes")?.to_vec(),
        None => (0..starts.len() as i64).collect(),
    };
    let steps = match inputs.get(4) {
        Some(steps) => integers(steps, "steps")?.to_vec(),
        None => vec![1; starts.len()],
    };
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        let got = format!("{}, {} and {}", ends.len(), axes.len(), steps.len());
        return Err(Error::invalid("ends, axes and steps", format!("{} each", starts.len()), got));
    }
    axes_of(&axes, dims.len())?;
    let (mut to, mut start, mut step) = (dims.to_vec(), vec![0; dims.len()], vec![1; dims.len()]);
    for (index, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, dims.len())?;
        let extent = dims[axis] as i64;
        let by = steps[index];
        // Backwards, an end of -1 stands for "through element 0".
        let (low, high) = if by > 0 { (0, extent) } else { (-1, extent - 1) };
        let bound = |at: i64| {
            let from = if at < 0 { at.saturating_add(extent) } else { at };
            from.clamp(low, high)
        };
        let (from, until) = (bound(starts[index]), bound(ends[index]));
        let count = match by {
            0 => return Err(Error::invalid("steps", "no 0", by)),
            by if by > 0 => (until - from).max(0).cast_unsigned().div_ceil(by.cast_unsigned()),
            by => (from - until).max(0).cast_unsigned().div_ceil(by.unsigned_abs()),
        };
        to[axis] = count as usize;
        // With one element the step is never taken, and may be anything.
        (start[axis], step[axis]) = (from.max(0) as usize, if count > 1 { by } else { 1 });
    }
    if to == dims && step.iter().all(|&step| step == 1) {
        return Ok(inputs[0].clone());
    }
    context.emit(StepOp::Slice { start, step }, &inputs[..1], to)
}

/// The dims that ONNX's Reshape gives a tensor: -1 stands for the rest, and 0 for the input's dim unless allowed.
pub(crate) fn reshaped(dims: &[usize], to: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    let refused =
        || Error::invalid("dims", format!("dims for the elements of {dims:?}"), format!("{to:?}"));
    let mut free = None;
    let mut result = Vec::with_capacity(to.len());
    if to.len() > MAX_RANK {
        return Err(refused());
    }
    for (axis, &dim) in to.iter().enumerate() {
        result.push(match dim {
            0 if !allow_zero => *dims.get(axis).ok_or_else(refused)?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            dim => usize::try_from(dim).map_err(|_| refused())?,
        });
    }
    if let Some(axis) = free {
        let rest = elements("dims", &result)?;
        let all = elements("input", dims)?;
        if rest == 0 || all % rest != 0 {
            return Err(refused());
        }
        result[axis] = all / rest;
    }
    Ok(result)
}

/// Adds a margin, and cuts where its width is negative.
pub(crate) fn pad(
    context: &mut Context<'_>,
    inputs: &[Lowered],
    dims: &[usize],
    mode: PadMode,
) -> Result<Lowered> {
    let rank = dims.len();
    let widths = integers(&inputs[1], "pads")?;
    let axes = match inputs.get(2) {
        Some(axes) => integers(axes, "axes")?.to_vec(),
        None => (0..rank as i64).collect(),
    };
    if widths.len() != 2 * axes.len() {
        return Err(Error::invalid("pads", (2 * axes.len()).to_string(), widths.len()));
    }
    axes_of(&axes, rank)?;
    let (mut front, mut back) = (vec![0; rank], vec![0; rank]);
    for (index, &axis) in axes.iter().enumerate() {
        let axis = axis_of(axis, rank)?;
        (front[axis], back[axis]) = (widths[index], widths[index + axes.len()]);
    }
    // Negative widths cut first.
    let (mut cut, mut start, mut before, mut to) =
        (dims.to_vec(), vec![0; rank], vec![0; rank], Vec::new());
    for axis in 0..rank {
        let refused = || {
            let got = format!("{} and {}", front[axis], back[axis]);
            Error::invalid(
                format!("pads of axis {axis}"),
                format!("widths for {}", dims[axis]),
                got,
            )
        };
        let removed =
            |width: i64| usize::try_from(width.min(0).unsigned_abs()).map_err(|_| refused());
        let added = |width: i64| usize::try_from(width.max(0)).map_err(|_| refused());
        start[axis] = removed(front[axis])?;
        cut[axis] = start[axis]
            .checked_add(removed(back[axis])?)
            .and_then(|removed| dims[axis].checked_sub(removed))
            .filter(|&left| left > 0)
            .ok_or_else(refused)?;
        before[axis] = added(front[axis])?;
        let after = added(back[axis])?;
        if mode == PadMode::Reflect && before[axis].max(after) >= cut[axis] {
            return Err(refused());
        }
        let whole = cut[axis].checked_add(before[axis]).and_then(|sum| sum.checked_add(after));
        to.push(whole.ok_or_else(refused)?);
    }
    let mut y = inputs[0].clone();
    if cut != dims {
        y = context.emit(StepOp::Slice { start, step: vec![1; rank] }, &[y], cut.clone())?;
    }
    if to == cut { Ok(y) } else { context.emit(StepOp::Pad { before, mode }, &[y], to) }
}

/// N, C, H, W and the size of a block.
pub(crate) fn image(dims: &[usize], block: u32) -> Result<[usize; 5]> {
    match dims {
        &[n, c, h, w] if (1..=1 << 12).contains(&block) => Ok([n, c, h, w, block as usize]),
        _ => Err(Error::invalid(
            "input",
            "(N, C, H, W), blocks of 1 to 4096",
            format!("{dims:?}, {block}"),
        )),
    }
}

/// Splits axes, permutes them, and joins them to other dims.
pub(crate) fn shuffled(
    context: &mut Context<'_>,
    x: &Lowered,
    split: Vec<usize>,
    permutation: Vec<usize>,
    to: Vec<usize>,
) -> Result<Lowered> {
    let moved = permutation.iter().map(|&axis| split[axis]).collect();
    let y = context.view(x, split)?;
    let y = context.emit(StepOp::Transpose { permutation }, &[y], moved)?;
    context.view(&y, to)
}
