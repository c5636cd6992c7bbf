//! Convolutions, matrix products, pools and resizing of a model.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::{AutoPad, Channels, Coordinates, Interpolation, Op, Rounding, ValueId};
use crate::ir::op::{Binary, PoolKind};
use crate::ir::tensor::Tensor;
use crate::lower::window::Window;
use dsconv::{ConvDescriptor, FloatWeights, Weights};

/// The attributes that convolutions and pools have in common, with one spatial axis made two.
struct WindowAttributes {
    stride: [u32; 2],
    dilation: [u32; 2],
    padding: [u32; 4],
    auto_pad: AutoPad,
}

fn pairs<'a>(context: &NodeContext<'_, 'a>, name: &'a str, axes: usize) -> Converted<[u32; 2]> {
    if axes == 1 {
        let [one] = context.attributes.sizes::<1>(name, 1)?;
        return Ok([1, one]);
    }
    context.attributes.sizes::<2>(name, 1)
}

fn geometry(context: &NodeContext<'_, '_>, axes: usize) -> Converted<WindowAttributes> {
    let (stride, dilation) = (pairs(context, "strides", axes)?, pairs(context, "dilations", axes)?);
    let padding = if axes == 1 {
        let [left, right] = context.attributes.sizes::<2>("pads", 0)?;
        [0, left, 0, right]
    } else {
        context.attributes.sizes::<4>("pads", 0)?
    };
    let (padding, auto_pad) = match context.attributes.string("auto_pad", "NOTSET")? {
        "NOTSET" | "" => (padding, AutoPad::None),
        "VALID" => ([0; 4], AutoPad::None),
        "SAME_UPPER" => ([0; 4], AutoPad::SameUpper),
        "SAME_LOWER" => ([0; 4], AutoPad::SameLower),
        other => return Err(Error::invalid("auto_pad", "a mode of ONNX", other).into()),
    };
    Ok(WindowAttributes { stride, dilation, padding, auto_pad })
}

/// Gives a tensor (N, C, W) an axis H of 1 for an operator that needs (N, C, H, W), and takes it away again.
fn with_rows(
    context: &mut NodeContext<'_, '_>,
    axes: usize,
    x: ValueId,
    body: impl FnOnce(&mut NodeContext<'_, '_>, ValueId) -> Converted<ValueId>,
) -> Converted<ValueId> {
    if axes == 2 {
        return body(context, x);
    }
    let x = context.push(Op::Unsqueeze { axes: vec![2] }, [x])?;
    let y = body(context, x)?;
    context.push(Op::Squeeze { axes: vec![2] }, [y])
}

fn size(dim: usize, what: &str) -> Converted<u32> {
    u32::try_from(dim).map_err(|_| Error::invalid(what, "a number in 32 bits", dim).into())
}

/// Constant weights of one or two spatial axes: their kernel and number of axes.
fn kernel(context: &NodeContext<'_, '_>, weights: &Tensor) -> Converted<([u32; 2], usize)> {
    let (kernel, axes) = match weights.dims() {
        &[_, _, width] => ([1, size(width, "kernel")?], 1),
        &[_, _, height, width] => ([size(height, "kernel")?, size(width, "kernel")?], 2),
        dims => return refuse(format!("{} axes", dims.len())),
    };
    if let Some(shape) = context.attributes.ints("kernel_shape")?
        && shape.iter().ne(kernel[2 - axes..]
            .iter()
            .map(|&k| i64::from(k))
            .collect::<Vec<_>>()
            .iter())
    {
        let got = format!("{shape:?}");
        return Err(Error::invalid("kernel_shape", format!("{kernel:?}"), got).into());
    }
    Ok((kernel, axes))
}

fn groups(context: &NodeContext<'_, '_>) -> Converted<u32> {
    let groups = context.attributes.int("group")?.unwrap_or(1);
    u32::try_from(groups)
        .ok()
        .filter(|&groups| groups > 0)
        .ok_or_else(|| Error::invalid("group", "a positive number", groups).into())
}

/// A convolution with constant weights.
pub(crate) fn conv(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (x, source) = (context.input(0)?, context.input(1)?);
    let Some(tensor) = context.known(1, "weights")? else { return refuse("no weights") };
    let bias = context.known(2, "bias")?;
    let (kernel, axes) = kernel(context, &tensor)?;
    let WindowAttributes { stride, dilation, mut padding, mut auto_pad } = geometry(context, axes)?;
    let groups = groups(context)?;
    // Without a stride the padding does not depend on the input's size.
    if auto_pad != AutoPad::None && stride == [1, 1] {
        padding = Window { kernel, stride, dilation }.same(auto_pad, [1, 1])?;
        auto_pad = AutoPad::None;
    }
    let per_group = size(tensor.dims()[1], "channels")?;
    let in_channels = per_group.checked_mul(groups).ok_or_else(|| {
        Error::invalid("channels", "a number in 32 bits", format!("{per_group} x {groups}"))
    })?;
    let descriptor = ConvDescriptor {
        in_channels,
        out_channels: size(tensor.dims()[0], "channels")?,
        kernel,
        stride,
        dilation,
        padding,
        groups,
    };
    let weights = weights(context, descriptor, source, &tensor, bias.as_ref())?;
    let weights = context.importer.weights(weights);
    with_rows(context, axes, x, |context, x| {
        let op = Op::Conv { weights, auto_pad, channels: Channels::First };
        context.push(op, [x])
    })
}

/// Weights from an OIHW tensor: the integers it was made of, or its floats.
fn weights(
    context: &NodeContext<'_, '_>,
    descriptor: ConvDescriptor,
    source: ValueId,
    tensor: &Tensor,
    bias: Option<&Tensor>,
) -> Converted<Weights> {
    let quantized = context.importer.quantized.get(&source);
    let integers = match quantized {
        Some(quantized) => quantized.weights(descriptor)?,
        None => None,
    };
    let bias = bias.map(|bias| bias.floats("bias").map(<[f32]>::to_vec)).transpose()?;
    Ok(match (integers, bias) {
        (Some(weights), Some(bias)) => weights.with_bias(bias)?.into(),
        (Some(weights), None) => weights.into(),
        (None, bias) => {
            let weights = FloatWeights::new(descriptor, tensor.floats("weights")?.to_vec())?;
            match bias {
                Some(bias) => weights.with_bias(bias)?.into(),
                None => weights.into(),
            }
        }
    })
}

/// A transposed convolution with constant weights.
pub(crate) fn conv_transpose(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (x, source) = (context.input(0)?, context.input(1)?);
    let Some(tensor) = context.known(1, "weights")? else { return refuse("no weights") };
    context.known(2, "bias")?;
    let (_, axes) = kernel(context, &tensor)?;
    let WindowAttributes { stride, dilation, padding, auto_pad } = geometry(context, axes)?;
    let groups = groups(context)?;
    let output_padding = if axes == 1 {
        let [one] = context.attributes.sizes::<1>("output_padding", 0)?;
        [0, one]
    } else {
        context.attributes.sizes::<2>("output_padding", 0)?
    };
    let output_size = match context.attributes.ints("output_shape")? {
        None => None,
        Some(_) if axes == 1 => {
            let [one] = context.attributes.sizes::<1>("output_shape", 1)?;
            Some([1, one])
        }
        Some(_) => Some(context.attributes.sizes::<2>("output_shape", 1)?),
    };
    let mut inputs = vec![source];
    if axes == 1 {
        inputs[0] = context.push(Op::Unsqueeze { axes: vec![2] }, [source])?;
    }
    inputs.extend(context.optional(2)?);
    with_rows(context, axes, x, |context, x| {
        inputs.insert(0, x);
        let op = Op::ConvTranspose {
            stride,
            dilation,
            padding,
            output_padding,
            output_size,
            auto_pad,
            groups,
        };
        context.push(op, inputs)
    })
}

/// A pooling window.
pub(crate) fn pool(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let (kernel, axes) = match context.attributes.ints("kernel_shape")?.map(<[i64]>::len) {
        Some(1) => {
            let [one] = context.attributes.sizes::<1>("kernel_shape", 1)?;
            ([1, one], 1)
        }
        Some(2) => (context.attributes.sizes::<2>("kernel_shape", 1)?, 2),
        Some(axes) => return refuse(format!("{axes} spatial axes")),
        None => return Err(Error::invalid("kernel_shape", "an attribute", "none").into()),
    };
    let WindowAttributes { stride, dilation, padding, auto_pad } = geometry(context, axes)?;
    let ceil = context.attributes.flag("ceil_mode")?;
    let kind = if context.node.op_type == "MaxPool" {
        context.attributes.ignore(&["storage_order"]);
        PoolKind::Max
    } else {
        PoolKind::Average { count_padding: context.attributes.flag("count_include_pad")? }
    };
    with_rows(context, axes, x, |context, x| {
        context.push(Op::Pool { kind, kernel, stride, dilation, padding, auto_pad, ceil }, [x])
    })
}

/// A matrix product with constant weights of `(outputs, inputs)`, as a 1x1 convolution of the last axis.
fn linear(context: &mut NodeContext<'_, '_>, x: ValueId, weights: Weights) -> Converted<ValueId> {
    let weights = context.importer.weights(weights);
    let op = Op::Conv { weights, auto_pad: AutoPad::None, channels: Channels::Last };
    context.push(op, [x])
}

fn transposed(values: &[f32], rows: usize, columns: usize, factor: f32) -> Vec<f32> {
    (0..rows * columns).map(|i| factor * values[i % rows * columns + i / rows]).collect()
}

/// A matrix product; with a constant matrix, a 1x1 convolution.
pub(crate) fn matmul(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    let product = |context: &mut NodeContext<'_, '_>| context.push(Op::MatMul, [a, b]);
    if context.constant(a).is_some() {
        return product(context);
    }
    let Some(tensor) = context.constant(b).cloned() else { return product(context) };
    let &[rows, columns] = tensor.dims() else { return product(context) };
    let descriptor = ConvDescriptor::new(size(rows, "weights")?, size(columns, "weights")?, [1, 1]);
    let values = tensor.floats("weights")?;
    let integers = match context.importer.quantized.get(&b) {
        Some(quantized) => match quantized.transposed() {
            Some(transposed) => transposed.weights(descriptor)?,
            None => None,
        },
        None => None,
    };
    let weights = match integers {
        Some(weights) => weights.into(),
        None => FloatWeights::new(descriptor, transposed(values, rows, columns, 1.0))?.into(),
    };
    linear(context, a, weights)
}

/// `alpha * A * B + beta * C`; with a constant B, a 1x1 convolution.
pub(crate) fn gemm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    let (flip_a, flip_b) = (context.attributes.flag("transA")?, context.attributes.flag("transB")?);
    let alpha = context.attributes.float("alpha")?.unwrap_or(1.0);
    let beta = context.attributes.float("beta")?.unwrap_or(1.0);
    let c = context.optional(2)?;
    let turn = |context: &mut NodeContext<'_, '_>, x: ValueId, flip: bool| {
        if flip { context.push(Op::Transpose { permutation: vec![1, 0] }, [x]) } else { Ok(x) }
    };
    let a = turn(context, a, flip_a)?;
    let constant = if context.constant(a).is_some() { None } else { context.constant(b).cloned() };
    let mut added = c;
    let y = if let Some(tensor) = constant {
        let &[rows, columns] = tensor.dims() else {
            let got = format!("{:?}", tensor.dims());
            return Err(Error::invalid("B", "a matrix", got).into());
        };
        let (inputs, outputs) = if flip_b { (columns, rows) } else { (rows, columns) };
        let descriptor =
            ConvDescriptor::new(size(inputs, "weights")?, size(outputs, "weights")?, [1, 1]);
        // A bias of one number per output becomes the convolution's.
        let bias = c
            .and_then(|c| context.constant(c))
            .filter(|c| c.len() == outputs && c.dims().last() == Some(&outputs));
        let bias = bias.and_then(|c| c.floats("C").ok().map(<[f32]>::to_vec));
        let bias = bias.map(|c| c.into_iter().map(|c| beta * c).collect::<Vec<_>>());
        if bias.is_some() {
            added = None;
        }
        let integers = match context.importer.quantized.get(&b) {
            Some(quantized) if alpha == 1.0 && flip_b => quantized.weights(descriptor)?,
            _ => None,
        };
        let weights: Weights = match (integers, bias) {
            (Some(weights), Some(bias)) => weights.with_bias(bias)?.into(),
            (Some(weights), None) => weights.into(),
            (None, bias) => {
                let values = tensor.floats("B")?;
                let values = if flip_b {
                    values.iter().map(|&b| alpha * b).collect()
                } else {
                    transposed(values, rows, columns, alpha)
                };
                let weights = FloatWeights::new(descriptor, values)?;
                match bias {
                    Some(bias) => weights.with_bias(bias)?.into(),
                    None => weights.into(),
                }
            }
        };
        linear(context, a, weights)?
    } else {
        let b = turn(context, b, flip_b)?;
        let y = context.push(Op::MatMul, [a, b])?;
        scaled(context, y, alpha)?
    };
    match added {
        None => Ok(y),
        Some(c) => {
            let c = scaled(context, c, beta)?;
            context.push(Op::Binary(Binary::Add), [y, c])
        }
    }
}

fn scaled(context: &mut NodeContext<'_, '_>, x: ValueId, factor: f32) -> Converted<ValueId> {
    if factor == 1.0 {
        return Ok(x);
    }
    let factor = context.importer.scalar(factor);
    context.push(Op::Binary(Binary::Mul), [x, factor])
}

/// Resampling.
pub(crate) fn resize(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    let x = context.input(0)?;
    let mode = attributes.string("mode", "nearest")?;
    let old = context.opset() < 11 || context.node.op_type == "Upsample";
    if old {
        let scales = match attributes.floats("scales")? {
            Some(scales) => {
                let scales = Tensor::f32([scales.len()], scales.to_vec())?;
                context.importer.constant(context.importer.node.clone(), scales)
            }
            None => context.input(1)?,
        };
        let shrinks = context.constant(scales).is_some_and(|scales| {
            scales.floats("scales").is_ok_and(|scales| scales.iter().any(|&scale| scale < 1.0))
        });
        let interpolation = match mode {
            "nearest" if !shrinks => Interpolation::Nearest(Rounding::Floor),
            "linear" | "bilinear" if !shrinks => Interpolation::Linear,
            mode => return refuse(format!("mode {mode}, shrinking, before opset 11")),
        };
        let coordinates = Coordinates::Asymmetric;
        return context
            .push(Op::Resize { interpolation, coordinates, axes: Vec::new() }, [x, scales]);
    }
    context.attributes.unset("antialias")?;
    // Of no effect unless tf_crop_and_resize is asked for.
    attributes.ignore(&["extrapolation_value"]);
    let rounding = match attributes.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return refuse(format!("nearest_mode {other}")),
    };
    let coefficient = attributes.float("cubic_coeff_a")?.unwrap_or(-0.75);
    let exclude = attributes.flag("exclude_outside")?;
    let interpolation = match mode {
        "nearest" => Interpolation::Nearest(rounding),
        "linear" => Interpolation::Linear,
        "cubic" if !exclude => Interpolation::Cubic(coefficient),
        mode => return refuse(format!("mode {mode}, exclude_outside = {exclude}")),
    };
    let coordinates = match attributes.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        other => return refuse(format!("coordinate_transformation_mode {other}")),
    };
    let policy = attributes.string("keep_aspect_ratio_policy", "stretch")?;
    if policy != "stretch" {
        return refuse(format!("keep_aspect_ratio_policy {policy}"));
    }
    let axes = attributes.ints("axes")?.unwrap_or_default().to_vec();
    // An empty tensor stands for a missing one.
    let given = |context: &NodeContext<'_, '_>, value: &ValueId| {
        context.constant(*value).is_none_or(|t| !t.is_empty())
    };
    let (scales, sizes) = (context.optional(2)?, context.optional(3)?);
    let (scales, sizes) =
        (scales.filter(|v| given(context, v)), sizes.filter(|v| given(context, v)));
    let by = match (scales, sizes) {
        (Some(by), None) | (None, Some(by)) => by,
        _ => return Err(Error::invalid("inputs", "scales or sizes", "both or none").into()),
    };
    context.push(Op::Resize { interpolation, coordinates, axes }, [x, by])
}
