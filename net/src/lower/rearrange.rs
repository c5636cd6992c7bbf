//! Lowering of operators that only move elements: slices, margins, other dims.

use super::builder::{Context, Lowered, integers};
use super::indexed;
use crate::ir::graph::Parts;
use crate::ir::op::PadMode;
use crate::ir::program::StepOp;
use crate::ir::tensor::{MAX_RANK, axes_of, axis_index, axis_of, elements, usizes};
use crate::{Error, Result};
use std::sync::Arc;

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

/// Lowers a concatenation.
pub(crate) fn concat(context: &mut Context<'_>, axis: i64, inputs: &[Lowered]) -> Result<Lowered> {
    let x = &inputs[0];
    let dims = context.dims(x);
    let rank = dims.len();
    let axis = axis_of(axis, rank)?;
    let mut to = dims.clone();
    to[axis] = 0;
    for (index, input) in inputs.iter().enumerate() {
        let part = context.dims(input);
        let fits = part.len() == rank
            && (0..rank).all(|other| other == axis || part[other] == dims[other]);
        if !fits {
            let expected = format!("dims that differ from {dims:?} along axis {axis} only");
            return Err(Error::invalid(format!("input {index}"), expected, format!("{part:?}")));
        }
        to[axis] = to[axis].saturating_add(part[axis]);
    }
    if inputs.len() == 1 {
        return Ok(x.clone());
    }
    context.emit(StepOp::Concat { axis }, inputs, to)
}

/// Lowers one output of ONNX's Split to a slice.
pub(crate) fn part_of(
    context: &mut Context<'_>,
    axis: i64,
    part: Parts,
    x: &Lowered,
) -> Result<Lowered> {
    let dims = context.dims(x);
    let rank = dims.len();
    let axis = axis_of(axis, rank)?;
    let (start, length) = match part {
        Parts::Equal { index, count } => {
            let each = dims[axis].div_ceil(count.max(1));
            let start = each.saturating_mul(index).min(dims[axis]);
            (start, each.min(dims[axis] - start))
        }
        Parts::Range { start, length, whole } => {
            let inside = start.checked_add(length).is_some_and(|end| end <= dims[axis]);
            if whole != dims[axis] || !inside {
                let expected = format!("parts of {}", dims[axis]);
                return Err(Error::invalid("split", expected, format!("parts of {whole}")));
            }
            (start, length)
        }
    };
    let mut to = dims;
    to[axis] = length;
    let mut first = vec![0; rank];
    first[axis] = start;
    context.emit(StepOp::Slice { start: first, step: vec![1; rank] }, std::slice::from_ref(x), to)
}

/// Lowers a gather; a single index becomes a slice.
pub(crate) fn gather(context: &mut Context<'_>, axis: i64, inputs: &[Lowered]) -> Result<Lowered> {
    let dims = context.dims(&inputs[0]);
    let rank = dims.len();
    let axis = axis_of(axis, rank)?;
    if !matches!(inputs[1], Lowered::Integer(_)) {
        return indexed::gather(context, axis, &inputs[0], &inputs[1]);
    }
    let indices = integers(&inputs[1], "indices")?;
    context.make(indices.len(), 4)?;
    let indices: Vec<u32> = indices
        .iter()
        .map(|&index| axis_index(index, dims[axis]).map(|index| index as u32))
        .collect::<Result<_>>()?;
    let mut to = dims[..axis].to_vec();
    to.extend(context.dims(&inputs[1]));
    to.extend(&dims[axis + 1..]);
    let mut flat = dims;
    flat[axis] = indices.len();
    let y = if let [index] = indices[..] {
        let mut start = vec![0; rank];
        start[axis] = index as usize;
        let op = StepOp::Slice { start, step: vec![1; rank] };
        context.emit(op, &inputs[..1], flat)?
    } else {
        let op = StepOp::Gather { axis, indices: Arc::new(indices) };
        context.emit(op, &inputs[..1], flat)?
    };
    context.view(&y, to)
}

/// Lowers a permutation of axes; a view where no element moves.
pub(crate) fn transpose(
    context: &mut Context<'_>,
    permutation: &[i64],
    x: &Lowered,
) -> Result<Lowered> {
    let dims = context.dims(x);
    let rank = dims.len();
    let permutation: Vec<usize> = if permutation.is_empty() {
        (0..rank).rev().collect()
    } else {
        permutation.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<_>>()?
    };
    let mut sorted = permutation.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        let expected = format!("a permutation of {rank} axes");
        return Err(Error::invalid("perm", expected, format!("{permutation:?}")));
    }
    let to: Vec<usize> = permutation.iter().map(|&axis| dims[axis]).collect();
    // Elements keep their order while the axes longer than 1 do.
    let long = permutation.iter().filter(|&&axis| dims[axis] != 1);
    if long.is_sorted_by(|a, b| a < b) {
        return context.view(x, to);
    }
    context.emit(StepOp::Transpose { permutation }, std::slice::from_ref(x), to)
}

/// Lowers the repetition of a tensor: each axis is split in front, and that new axis expanded.
pub(crate) fn tile(context: &mut Context<'_>, inputs: &[Lowered]) -> Result<Lowered> {
    let x = &inputs[0];
    let dims = context.dims(x);
    let rank = dims.len();
    let repeats = usizes(integers(&inputs[1], "repeats")?, "repeats")?;
    if repeats.len() != rank {
        return Err(Error::invalid("repeats", rank.to_string(), repeats.len()));
    }
    let (mut y, mut dims) = (x.clone(), dims);
    for axis in (0..rank).filter(|&axis| repeats[axis] != 1) {
        let (outer, inner) = (elements("input", &dims[..axis])?, elements("input", &dims[axis..])?);
        y = context.view(&y, vec![outer, 1, inner])?;
        y = context.emit(StepOp::Expand, &[y], vec![outer, repeats[axis], inner])?;
        dims[axis] = dims[axis].saturating_mul(repeats[axis]);
        y = context.view(&y, dims.clone())?;
    }
    Ok(y)
}

/// Lowers channels into blocks of pixels.
pub(crate) fn depth_to_space(
    context: &mut Context<'_>,
    block: u32,
    blocks_first: bool,
    x: &Lowered,
) -> Result<Lowered> {
    let dims = context.dims(x);
    let [n, c, h, w, b] = image(&dims, block)?;
    let depth = c / (b * b);
    if depth * b * b != c {
        return Err(Error::invalid("channels", format!("a multiple of {}", b * b), c));
    }
    // With the blocks' rows and columns in front of the channels, or behind.
    let (split, permutation) = if blocks_first {
        (vec![n, b, b, depth, h, w], vec![0, 3, 4, 1, 5, 2])
    } else {
        (vec![n, depth, b, b, h, w], vec![0, 1, 4, 2, 5, 3])
    };
    shuffled(context, x, split, permutation, vec![n, depth, h * b, w * b])
}

/// Lowers blocks of pixels into channels.
pub(crate) fn space_to_depth(
    context: &mut Context<'_>,
    block: u32,
    x: &Lowered,
) -> Result<Lowered> {
    let dims = context.dims(x);
    let [n, c, h, w, b] = image(&dims, block)?;
    let (rows, columns) = (h / b, w / b);
    if [rows * b, columns * b] != [h, w] {
        return Err(Error::invalid("size", format!("multiples of {b}"), format!("{h}x{w}")));
    }
    let split = vec![n, c, rows, b, columns, b];
    shuffled(context, x, split, vec![0, 3, 5, 1, 2, 4], vec![n, c * b * b, rows, columns])
}
