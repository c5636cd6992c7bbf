//! Normalisations, as compositions of means, products and roots.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::{AutoPad, Op, ValueId};
use crate::ir::op::{Binary, PoolKind, Reduction, Unary};
use crate::ir::tensor::Tensor;

/// A batch norm becomes a scale and a shift per channel.
pub(crate) fn batch_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["momentum"]);
    if context.attributes.flag("training_mode")? {
        return refuse("training; export the network for inference, after calling model.eval()");
    }
    if context.attributes.int("spatial")?.unwrap_or(1) != 1 {
        return refuse("spatial = 0");
    }
    let epsilon = f64::from(context.attributes.float("epsilon")?.unwrap_or(1e-5));
    let mut parts = Vec::new();
    for (index, what) in ["scale", "B", "mean", "var"].into_iter().enumerate() {
        context.input(index + 1)?;
        parts.push(context.known(index + 1, what)?.unwrap_or_else(|| Tensor::list([])));
    }
    let [scale, shift, mean, variance] =
        [0, 1, 2, 3].map(|index| parts[index].floats("batch norm").map(<[f32]>::to_vec));
    let (scale, shift, mean, variance) = (scale?, shift?, mean?, variance?);
    let count = scale.len();
    if [shift.len(), mean.len(), variance.len()] != [count; 3] {
        let got = format!("{}, {}, {}", shift.len(), mean.len(), variance.len());
        return Err(Error::invalid("B, mean and var", format!("{count} numbers each"), got).into());
    }
    let factors: Vec<f64> = scale
        .iter()
        .zip(&variance)
        .map(|(&scale, &variance)| f64::from(scale) / (f64::from(variance) + epsilon).sqrt())
        .collect();
    let shifts = factors.iter().zip(shift.iter().zip(&mean));
    let shifts = shifts.map(|(f, (&b, &mean))| (f64::from(b) - f64::from(mean) * f) as f32);
    let shifts = Tensor::f32([count], shifts.collect())?;
    let factors = Tensor::f32([count], factors.iter().map(|&f| f as f32).collect())?;
    let name = context.importer.node.clone();
    let factors = context.importer.constant(format!("{name} scale"), factors);
    let shifts = context.importer.constant(format!("{name} shift"), shifts);
    let x = context.input(0)?;
    context.push(Op::ChannelAffine, [x, factors, shifts])
}

/// `(x - mean) / sqrt(variance + epsilon)`, the mean being what an operator computes.
fn normalised(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    mean: &Op,
    epsilon: f32,
) -> Converted<ValueId> {
    let centre = context.push(mean.clone(), [x])?;
    let centred = context.binary(Binary::Sub, x, centre)?;
    let squares = context.binary(Binary::Mul, centred, centred)?;
    let variance = context.push(mean.clone(), [squares])?;
    let epsilon = context.importer.scalar(epsilon);
    let variance = context.binary(Binary::Add, variance, epsilon)?;
    let deviation = context.push(Op::Unary(Unary::Sqrt), [variance])?;
    context.binary(Binary::Div, centred, deviation)
}

/// A norm over the pixels of each channel.
pub(crate) fn instance_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    let (x, scale, shift) = (context.input(0)?, context.input(1)?, context.input(2)?);
    let y = normalised(context, x, &Op::GlobalAverage, epsilon)?;
    context.push(Op::ChannelAffine, [y, scale, shift])
}

/// A norm over the axes from one on, with or without the mean; other outputs are not read.
pub(crate) fn layer_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["stash_type"]);
    let axis = context.attributes.int("axis")?.unwrap_or(-1);
    let x = context.input(0)?;
    let (scale, shift) = (context.optional(1)?, context.optional(2)?);
    let simple = context.node.op_type != "LayerNormalization";
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    normalised_from(context, x, axis, Norm { epsilon, simple, scale, shift })
}

/// A norm of the last axes: its epsilon, whether the mean stays, and what comes behind it.
struct Norm {
    epsilon: f32,
    simple: bool,
    scale: Option<ValueId>,
    shift: Option<ValueId>,
}

fn normalised_from(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    axis: i64,
    norm: Norm,
) -> Converted<ValueId> {
    // An axis from the front is one of unknown rank: all from there on are one then.
    let behind = (-8..0).contains(&axis);
    let flat = if behind { x } else { context.push(Op::Flatten { axis }, [x])? };
    let axes: Vec<i64> = if behind { (axis..0).collect() } else { vec![1] };
    let mut y = if norm.simple {
        let squares = context.binary(Binary::Mul, flat, flat)?;
        let mean = context.reduce(Reduction::Mean, &axes, true, squares)?;
        let mean = context.by(Binary::Add, mean, norm.epsilon)?;
        let root = context.unary(Unary::Sqrt, mean)?;
        context.binary(Binary::Div, flat, root)?
    } else {
        let mean = Op::Reduce { reduction: Reduction::Mean, axes, keep: true };
        normalised(context, flat, &mean, norm.epsilon)?
    };
    if !behind {
        y = context.reshape_like(y, x)?;
    }
    if let Some(scale) = norm.scale {
        y = context.binary(Binary::Mul, y, scale)?;
    }
    match norm.shift {
        Some(shift) => context.binary(Binary::Add, y, shift),
        None => Ok(y),
    }
}

/// A norm of a sum: of x, of what skipped a layer, and of a bias.
pub(crate) fn skip_layer_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let simple = context.node.op_type == "SkipSimplifiedLayerNormalization";
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-12);
    let (x, skip) = (context.input(0)?, context.input(1)?);
    let mut sum = context.binary(Binary::Add, x, skip)?;
    let scale = context.optional(2)?;
    let (shift, bias) = match simple {
        true => (None, context.optional(3)?),
        false => (context.optional(3)?, context.optional(4)?),
    };
    if let Some(bias) = bias {
        sum = context.binary(Binary::Add, sum, bias)?;
    }
    normalised_from(context, sum, -1, Norm { epsilon, simple, scale, shift })
}

/// A norm over groups of channels. Scale and shift are those of groups, since opset 21 those of channels.
pub(crate) fn group_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.ignore(&["stash_type"]);
    let epsilon = context.attributes.float("epsilon")?.unwrap_or(1e-5);
    let groups = context.attributes.int("num_groups")?.unwrap_or(0);
    if groups < 1 {
        return Err(Error::invalid("num_groups", "a positive number", groups).into());
    }
    let (x, scale, shift) = (context.input(0)?, context.input(1)?, context.input(2)?);
    let grouped = context.reshape_to(x, &[0, groups, -1])?;
    let mean = Op::Reduce { reduction: Reduction::Mean, axes: vec![2], keep: true };
    let y = normalised(context, grouped, &mean, epsilon)?;
    if context.opset() < 21 {
        let y = context.push(Op::ChannelAffine, [y, scale, shift])?;
        return context.reshape_like(y, x);
    }
    let y = context.reshape_like(y, x)?;
    context.push(Op::ChannelAffine, [y, scale, shift])
}

/// Elements over their norm along an axis; zeros stay.
pub(crate) fn lp_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let axis = context.attributes.int("axis")?.unwrap_or(-1);
    let x = context.input(0)?;
    let norm = match context.attributes.int("p")?.unwrap_or(2) {
        1 => {
            let sizes = context.unary(Unary::Abs, x)?;
            context.reduce(Reduction::Sum, &[axis], true, sizes)?
        }
        2 => {
            let squares = context.binary(Binary::Mul, x, x)?;
            let sum = context.reduce(Reduction::Sum, &[axis], true, squares)?;
            context.unary(Unary::Sqrt, sum)?
        }
        p => return Err(Error::invalid("p", "1 or 2", p).into()),
    };
    let norm = context.by(Binary::Max, norm, f32::MIN_POSITIVE)?;
    context.binary(Binary::Div, x, norm)
}

/// Elements less their mean over their deviation, along axes.
pub(crate) fn mean_variance_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let axes = context.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]).to_vec();
    let x = context.input(0)?;
    let mean = context.reduce(Reduction::Mean, &axes, true, x)?;
    let centred = context.binary(Binary::Sub, x, mean)?;
    let squares = context.binary(Binary::Mul, centred, centred)?;
    let variance = context.reduce(Reduction::Mean, &axes, true, squares)?;
    let deviation = context.unary(Unary::Sqrt, variance)?;
    let deviation = context.by(Binary::Add, deviation, 1e-9)?;
    context.binary(Binary::Div, centred, deviation)
}

/// `x / (bias + alpha / size * sum) ^ beta`, of the squares of `size` channels around: a pool of one column over the
/// channels as rows.
pub(crate) fn local_response_norm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    let alpha = attributes.float("alpha")?.unwrap_or(1e-4);
    let beta = attributes.float("beta")?.unwrap_or(0.75);
    let bias = attributes.float("bias")?.unwrap_or(1.0);
    let size = attributes.int("size")?.and_then(|size| u32::try_from(size).ok());
    let Some(size) = size.filter(|&size| size > 0) else {
        return Err(Error::invalid("size", "a positive number", "another").into());
    };
    let x = context.input(0)?;
    let squares = context.binary(Binary::Mul, x, x)?;
    let squares = context.push(Op::Unsqueeze { axes: vec![1] }, [squares])?;
    let rows = context.reshape_to(squares, &[0, 0, 0, -1])?;
    let before = (size - 1) / 2;
    let sum = Op::Pool {
        kind: PoolKind::Sum,
        kernel: [size, 1],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [before, 0, size - 1 - before, 0],
        auto_pad: AutoPad::None,
        ceil: false,
    };
    let sum = context.push(sum, [rows])?;
    let sum = context.reshape_like(sum, x)?;
    let y = context.by(Binary::Mul, sum, alpha / size as f32)?;
    let y = context.by(Binary::Add, y, bias)?;
    let y = context.by(Binary::Pow, y, -beta)?;
    context.binary(Binary::Mul, x, y)
}
