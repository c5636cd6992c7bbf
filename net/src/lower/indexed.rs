//! Lowering of operators that read or write at given places, which the run may compute.

use super::builder::{Context, Lowered, integers};
use super::order::from_front;
use crate::ir::graph::Kind;
use crate::ir::op::{Binary, Combination};
use crate::ir::program::StepOp;
use crate::ir::tensor::{axis_index, axis_of, elements, strides};
use crate::{Error, Result};
use std::sync::Arc;

/// The longest table of places that is made for a scatter at known places.
const LONGEST_TABLE: usize = 1 << 22;

/// Slices picked along an axis by indices of the run.
pub(crate) fn gather(
    context: &mut Context<'_>,
    axis: usize,
    x: &Lowered,
    indices: &Lowered,
) -> Result<Lowered> {
    let (dims, given) = (context.dims(x), context.dims(indices));
    let to = [&dims[..axis], &given, &dims[axis + 1..]].concat();
    let outer = elements("input", &dims[..axis])?;
    let inner = elements("input", &dims[axis + 1..])?;
    let count = elements("indices", &given)?;
    let rows = context.view(x, vec![outer, dims[axis], inner])?;
    let places = context.view(indices, vec![1, count, 1])?;
    let flat = vec![outer, count, inner];
    let y = context.compute(StepOp::Pick { axis: 1 }, &[rows, places], flat, x.kind())?;
    context.view(&y, to)
}

/// Elements picked along an axis, each by an index of its own.
pub(crate) fn gather_elements(
    context: &mut Context<'_>,
    axis: i64,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let (x, indices) = (&inputs[0], &inputs[1]);
    let (mut dims, to) = (context.dims(x), context.dims(indices));
    let axis = axis_of(axis, dims.len())?;
    let fits = to.len() == dims.len()
        && (0..dims.len()).all(|other| other == axis || to[other] <= dims[other]);
    if !fits {
        let expected = format!("dims of at most {dims:?} besides axis {axis}");
        return Err(Error::invalid("indices", expected, format!("{to:?}")));
    }
    let mut part = x.clone();
    let whole = dims[axis];
    dims.clone_from(&to);
    dims[axis] = whole;
    if dims != context.dims(x) {
        let op = StepOp::Slice { start: vec![0; dims.len()], step: vec![1; dims.len()] };
        part = context.compute(op, &[part], dims, x.kind())?;
    }
    context.compute(StepOp::Pick { axis }, &[part, indices.clone()], to, x.kind())
}

/// For coordinates along the last axis of indices: places in the flattened leading axes of x that they go through.
struct Places {
    /// One for each slice, (slices, 1).
    index: Lowered,
    /// The dims of the indices, without the coordinates.
    slices: Vec<usize>,
    /// The number of axes that the coordinates go through.
    depth: usize,
}

fn places(context: &mut Context<'_>, dims: &[usize], indices: &Lowered) -> Result<Places> {
    let given = context.dims(indices);
    let refused = || {
        let expected = format!("coordinates along the last axis, for {dims:?}");
        Error::invalid("indices", expected, format!("dims {given:?}"))
    };
    let (&depth, slices) = given.split_last().ok_or_else(refused)?;
    if depth == 0 || depth > dims.len() {
        return Err(refused());
    }
    let count = elements("indices", slices)?;
    let rows = context.view(indices, vec![count, depth])?;
    let steps = strides(&dims[..depth]);
    let mut index: Option<Lowered> = None;
    for axis in 0..depth {
        let slice = StepOp::Slice { start: vec![0, axis], step: vec![1, 1] };
        let along =
            context.compute(slice, std::slice::from_ref(&rows), vec![count, 1], Kind::Integer)?;
        let along = from_front(context, &along, dims[axis])?;
        let step = context.number(steps[axis] as f32)?;
        let along = context.binary(Binary::Mul, [&along, &step], Kind::Integer)?;
        index = Some(match index {
            None => along,
            Some(index) => context.binary(Binary::Add, [&index, &along], Kind::Integer)?,
        });
    }
    Ok(Places { index: index.ok_or_else(refused)?, slices: slices.to_vec(), depth })
}

/// Slices picked by coordinates.
pub(crate) fn gather_nd(
    context: &mut Context<'_>,
    batch: usize,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let (x, indices) = (&inputs[0], &inputs[1]);
    let (dims, given) = (context.dims(x), context.dims(indices));
    if batch >= given.len() || dims.get(..batch) != given.get(..batch) {
        let expected = format!("indices with the first {batch} dims of {dims:?}");
        return Err(Error::invalid("batch_dims", expected, format!("{given:?}")));
    }
    let Places { index, slices, depth } = places(context, &dims[batch..], indices)?;
    let rest = &dims[batch + depth..];
    let groups = elements("input", &dims[..batch])?;
    let (rows, inner) = (elements("input", &dims[batch..batch + depth])?, elements("input", rest)?);
    let count = elements("indices", &slices[batch..])?;
    let table = context.view(x, vec![groups, rows, inner])?;
    let index = context.view(&index, vec![groups, count, 1])?;
    let flat = vec![groups, count, inner];
    let y = context.compute(StepOp::Pick { axis: 1 }, &[table, index], flat, x.kind())?;
    context.view(&y, [&slices, rest].concat())
}

/// Elements changed along an axis.
pub(crate) fn scatter_elements(
    context: &mut Context<'_>,
    axis: i64,
    combination: Combination,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let (dims, given) = (context.dims(&inputs[0]), context.dims(&inputs[1]));
    let axis = axis_of(axis, dims.len())?;
    let fits = given.len() == dims.len()
        && (0..dims.len()).all(|other| other == axis || given[other] <= dims[other]);
    if !fits || context.dims(&inputs[2]) != given {
        let expected = format!("indices and updates of the same dims, at most {dims:?}");
        return Err(Error::invalid("indices", expected, format!("{given:?}")));
    }
    context.compute(StepOp::Scatter { axis, combination }, inputs, dims, inputs[0].kind())
}

/// Slices changed at coordinates.
pub(crate) fn scatter_nd(
    context: &mut Context<'_>,
    combination: Combination,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let [x, indices, updates] = inputs else {
        return Err(Error::invalid("inputs", "3", inputs.len()));
    };
    let (dims, kind) = (context.dims(x), x.kind());
    let Places { index, slices, depth } = places(context, &dims, indices)?;
    let expected = [&slices, &dims[depth..]].concat();
    let got = context.dims(updates);
    if got != expected {
        let expected = format!("dims {expected:?}");
        return Err(Error::invalid("updates", expected, format!("{got:?}")));
    }
    let (rows, inner) = (elements("input", &dims[..depth])?, elements("input", &dims[depth..])?);
    let count = elements("indices", &slices)?;
    let (table, updates) =
        (context.view(x, vec![rows, inner])?, context.view(updates, vec![count, inner])?);
    if let (Lowered::Integer(_), Combination::Replace, ..=LONGEST_TABLE) =
        (&index, combination, rows)
    {
        // Known places: each row is picked out of the old ones and the updates.
        context.make(rows, 4)?;
        let mut from: Vec<u32> = (0..rows as u32).collect();
        for (update, &row) in integers(&index, "indices")?.iter().enumerate() {
            from[axis_index(row, rows)?] = (rows + update) as u32;
        }
        let both = vec![rows + count, inner];
        let both = context.compute(StepOp::Concat { axis: 0 }, &[table, updates], both, kind)?;
        let op = StepOp::Gather { axis: 0, indices: Arc::new(from) };
        let y = context.compute(op, &[both], vec![rows, inner], kind)?;
        return context.view(&y, dims);
    }
    let index = match inner {
        1 => index,
        _ => context.compute(StepOp::Expand, &[index], vec![count, inner], Kind::Integer)?,
    };
    let op = StepOp::Scatter { axis: 0, combination };
    let y = context.compute(op, &[table, index, updates], vec![rows, inner], kind)?;
    context.view(&y, dims)
}

/// One of two values at every place of a new axis.
pub(crate) fn one_hot(context: &mut Context<'_>, axis: i64, inputs: &[Lowered]) -> Result<Lowered> {
    let (indices, values) = (&inputs[0], &inputs[2]);
    let length = match &inputs[1] {
        Lowered::Integer(tensor) => tensor.integers("depth")?.first().copied(),
        depth => context.constant(depth).and_then(|values| values.first().map(|&d| d as i64)),
    };
    let length = length.and_then(|length| usize::try_from(length).ok()).filter(|&l| l > 0);
    let length =
        length.ok_or_else(|| Error::invalid("depth", "a number known beforehand", "none"))?;
    if context.dims(values) != [2] {
        let got = format!("dims {:?}", context.dims(values));
        return Err(Error::invalid("values", "two values", got));
    }
    let mut along = context.dims(indices);
    let rank = along.len() + 1;
    let axis = axis_of(axis, rank)?;
    along.insert(axis, 1);
    let index = context.view(indices, along)?;
    let index = from_front(context, &index, length)?;
    let places = context.counting(length, axis, rank)?;
    let here = context.binary(Binary::Equal, [&places, &index], Kind::Float)?;
    let kind = values.kind();
    let mut value = |place: usize| {
        let slice = StepOp::Slice { start: vec![place], step: vec![1] };
        context.compute(slice, std::slice::from_ref(values), vec![1], kind)
    };
    let (off, on) = (value(0)?, value(1)?);
    let difference = context.binary(Binary::Sub, [&on, &off], kind)?;
    let y = context.binary(Binary::Mul, [&here, &difference], kind)?;
    context.binary(Binary::Add, [&y, &off], kind)
}
