//! Pooling windows and their reverse.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::conv::{WindowAttributes, geometry, with_rows};
use crate::Error;
use crate::ir::graph::{Op, Scalar, ValueId};
use crate::ir::op::{Binary, Combination, PoolKind, Reduction, Unary};

/// The size of a window, `[depth, height, width]`, and its number of axes.
fn size(context: &NodeContext<'_, '_>) -> Converted<([u32; 3], usize)> {
    match context.attributes.ints("kernel_shape")?.map(<[i64]>::len) {
        Some(1) => {
            let [width] = context.attributes.sizes::<1>("kernel_shape", 1)?;
            Ok(([1, 1, width], 1))
        }
        Some(2) => {
            let [height, width] = context.attributes.sizes::<2>("kernel_shape", 1)?;
            Ok(([1, height, width], 2))
        }
        Some(3) => Ok((context.attributes.sizes::<3>("kernel_shape", 1)?, 3)),
        Some(axes) => refuse(format!("{axes} spatial axes")),
        None => Err(Error::invalid("kernel_shape", "an attribute", "none").into()),
    }
}

/// A pooling window, and where the largest elements were.
pub(crate) fn pool(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let x = context.input(0)?;
    match context.node.op_type.as_str() {
        "MaxPool" => {
            let by_columns = context.attributes.flag("storage_order")?;
            let y = window(context, x, PoolKind::Max)?;
            if !context.has_output(1) {
                return Ok(vec![y]);
            }
            let places = window(context, x, PoolKind::PlaceOfMax)?;
            let places = if by_columns { by_column(context, x, places)? } else { places };
            Ok(vec![y, places])
        }
        "LpPool" => {
            let p = norm(context)?;
            let powers = power(context, x, p)?;
            let sum = window(context, powers, PoolKind::Sum)?;
            Ok(vec![root(context, sum, p)?])
        }
        _ => {
            let count_padding = context.attributes.flag("count_include_pad")?;
            Ok(vec![window(context, x, PoolKind::Average { count_padding })?])
        }
    }
}

/// Places that count column by column within their plane, from those that count row by row.
fn by_column(context: &mut NodeContext<'_, '_>, x: ValueId, places: ValueId) -> Converted<ValueId> {
    if size(context)?.1 == 1 {
        return Ok(places);
    }
    let (height, width) = (context.dims(x, 2, Some(3))?, context.dims(x, 3, Some(4))?);
    let plane = context.binary(Binary::Mul, height, width)?;
    let within = context.binary(Binary::Remainder, places, plane)?;
    let first = context.binary(Binary::Sub, places, within)?;
    let column = context.binary(Binary::Remainder, within, width)?;
    let row = context.binary(Binary::Div, within, width)?;
    let before = context.binary(Binary::Mul, column, height)?;
    let place = context.binary(Binary::Add, before, row)?;
    context.binary(Binary::Add, first, place)
}

/// A window with the node's attributes.
pub(crate) fn window(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    kind: PoolKind,
) -> Converted<ValueId> {
    let (taps, axes) = size(context)?;
    let WindowAttributes { stride, dilation, padding, auto_pad, depth } =
        geometry(context, axes, taps)?;
    let ceil = context.attributes.flag("ceil_mode")?;
    let kernel = [taps[1], taps[2]];
    let image = Op::Pool { kind, kernel, stride, dilation, padding, auto_pad, ceil };
    if axes < 3 {
        return with_rows(context, axes, x, |context, x| context.push(image, [x]));
    }
    if kind == PoolKind::PlaceOfMax {
        return refuse("places of the largest along three axes");
    }
    let [front, back] = depth.padding;
    let along = Op::Pool {
        kind,
        kernel: [depth.kernel, 1],
        stride: [depth.stride, 1],
        dilation: [depth.dilation, 1],
        padding: [front, 0, back, 0],
        auto_pad: depth.auto_pad,
        ceil,
    };
    super::volume::pooled(context, x, [along, image])
}

/// The power of a norm; a float in the first versions.
fn norm(context: &NodeContext<'_, '_>) -> Converted<f32> {
    Ok(context.attributes.int("p")?.unwrap_or(2) as f32)
}

fn power(context: &mut NodeContext<'_, '_>, x: ValueId, p: f32) -> Converted<ValueId> {
    let size = context.unary(Unary::Abs, x)?;
    if p == 1.0 { Ok(size) } else { context.by(Binary::Pow, size, p) }
}

fn root(context: &mut NodeContext<'_, '_>, x: ValueId, p: f32) -> Converted<ValueId> {
    if p == 1.0 { Ok(x) } else { context.by(Binary::Pow, x, 1.0 / p) }
}

/// The norm over all axes behind the channels.
pub(crate) fn global_lp_pool(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let p = norm(context)?;
    let x = context.input(0)?;
    let powers = power(context, x, p)?;
    let rows = context.reshape_to(powers, &[0, 0, -1])?;
    let sum = context.reduce(Reduction::Sum, &[2], true, rows)?;
    let y = root(context, sum, p)?;
    // As many axes of 1 as x has behind the channels.
    let mean = context.push(Op::GlobalAverage, [x])?;
    context.reshape_like(y, mean)
}

/// Elements back at the places where a pool found them, zeros elsewhere.
pub(crate) fn max_unpool(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (x, places) = (context.input(0)?, context.input(1)?);
    let (taps, axes) = size(context)?;
    let WindowAttributes { stride, padding, .. } = geometry(context, axes, taps)?;
    if axes == 3 {
        return refuse("three spatial axes");
    }
    let lead = context.dims(x, 0, Some(2))?;
    let size = match context.optional(2)? {
        Some(shape) => {
            let bounds = [2, i64::MAX].map(|bound| context.importer.list([bound]));
            context.push(Op::Slice, [&[shape][..], &bounds].concat())?
        }
        None => {
            // (size - 1) * stride - padding + kernel
            let list = |pair: [i64; 2]| pair[2 - axes..].to_vec();
            let by = list(stride.map(i64::from));
            let more = [0, 1].map(|axis: usize| {
                i64::from(taps[axis + 1])
                    - i64::from(stride[axis])
                    - i64::from(padding[axis])
                    - i64::from(padding[axis + 2])
            });
            let (by, more) = (context.importer.list(by), context.importer.list(list(more)));
            let size = context.dims(x, 2, None)?;
            let size = context.binary(Binary::Mul, size, by)?;
            context.binary(Binary::Add, size, more)?
        }
    };
    let rest = context.importer.list([-1]);
    let mut plane = context.importer.number(1)?;
    for axis in 0..axes as i64 {
        let at = context.importer.number(axis)?;
        let length = context.push(Op::Gather { axis: 0 }, [size, at])?;
        plane = context.binary(Binary::Mul, plane, length)?;
    }
    // Places count through the whole tensor: within its plane each is a rest.
    let places = context.reshape(places, &[lead, rest])?;
    let places = context.binary(Binary::Remainder, places, plane)?;
    let updates = context.reshape(x, &[lead, rest])?;
    let whole = context.push(Op::Concat { axis: 0 }, [lead, size])?;
    let zeros = context.push(Op::ConstantOfShape { value: Scalar::Float(0.0) }, [whole])?;
    let flat = context.reshape(zeros, &[lead, rest])?;
    let op = Op::ScatterElements { axis: 2, combination: Combination::Replace };
    let y = context.push(op, [flat, places, updates])?;
    context.reshape(y, &[whole])
}
