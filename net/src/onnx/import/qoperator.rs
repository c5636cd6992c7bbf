//! Operators on integers with scales. Each is its own on floats between DequantizeLinear and QuantizeLinear; weights
//! keep their integers.

use super::attributes::{Converted, Refusal, refuse};
use super::context::NodeContext;
use super::conv::{Kernel, KernelValues, convolution};
use super::integers::QuantizedConstant;
use super::pool::window;
use super::product::by_integers;
use super::quantized::{
    Scales, Scaling, Stored, dequantized, dynamically_quantized, quantized, range,
};
use crate::Error;
use crate::ir::graph::{Op, ValueId};
use crate::ir::op::{Binary, PoolKind, Reduction, Unary};
use crate::ir::tensor::Tensor;
use crate::onnx::proto::data_type;
use dsconv::Activation;

/// The floats of an input that is followed by its scale and zero point.
fn floats_at(context: &mut NodeContext<'_, '_>, index: usize) -> Converted<ValueId> {
    let (x, scale) = (context.input(index)?, context.input(index + 1)?);
    let zero = context.optional(index + 2)?;
    dequantized(context, x, &Scaling { scale, zero, axis: None })
}

/// The integers of the output, whose scale and zero point these inputs are.
fn integers_by(
    context: &mut NodeContext<'_, '_>,
    y: ValueId,
    [scale, zero]: [usize; 2],
) -> Converted<ValueId> {
    let range = range(context, zero, data_type::UINT8)?;
    let (scale, zero) = (context.input(scale)?, context.optional(zero)?);
    quantized(context, y, &Scaling { scale, zero, axis: None }, range)
}

/// Constant weights with scales along an axis, in the range of int8; none where the run computes them.
fn weights(
    context: &mut NodeContext<'_, '_>,
    index: usize,
    scales: &Scales,
) -> Converted<Option<QuantizedConstant>> {
    match Stored::of_input(context, index)? {
        None => Ok(None),
        Some(stored) => match stored.scaled(scales)? {
            Ok(quantized) => Ok(Some(quantized)),
            Err(_) => refuse("weights of more than 8 bits"),
        },
    }
}

/// Scales of a constant: an input for the scale, one for the zero point, and the axis.
fn scales(
    context: &mut NodeContext<'_, '_>,
    [scale, zero]: [usize; 2],
    axis: i64,
) -> Converted<Scales> {
    let Some(scale) = context.known(scale, "the weights' scale")? else {
        return refuse("no scale of the weights");
    };
    let zero = context.known(zero, "the weights' zero point")?;
    Ok(Scales { scale, zero, axis: Some(axis), block: 0 })
}

/// Scales of 1, with the zero points of an input.
fn plain_scales(context: &mut NodeContext<'_, '_>, zero: usize, axis: i64) -> Converted<Scales> {
    let zero = context.known(zero, "the weights' zero point")?;
    let dims = zero.as_ref().map_or(Vec::new(), |zero| zero.dims().to_vec());
    let count = zero.as_ref().map_or(1, Tensor::len);
    let scale = Tensor::f32(dims, vec![1.0; count])?;
    Ok(Scales { scale, zero, axis: Some(axis), block: 0 })
}

/// A bias of integers as floats: its scale is that of the input times those of the weights.
fn bias(
    context: &mut NodeContext<'_, '_>,
    index: usize,
    factor: f32,
    weights: &Scales,
) -> Converted<Option<Vec<f32>>> {
    let Some(values) = context.known_ints(index, "bias")? else { return Ok(None) };
    let scales = weights.scale.floats("scale")?;
    let scale = |index: usize| match scales {
        [one] => Some(*one),
        all => all.get(index).copied(),
    };
    let float = |(index, &value): (usize, &i64)| {
        scale(index).map(|scale| (value as f64 * f64::from(factor) * f64::from(scale)) as f32)
    };
    let floats: Option<Vec<f32>> = values.iter().enumerate().map(float).collect();
    let expected = || Error::invalid("bias", format!("{} numbers", scales.len()), values.len());
    Ok(Some(floats.ok_or_else(expected)?))
}

/// A convolution.
pub(crate) fn conv(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.unset("channels_last")?;
    let scales = scales(context, [4, 5], 0)?;
    let Some(integers) = weights(context, 3, &scales)? else {
        return refuse("weights that the run computes");
    };
    let Some(scale) = context.known_float(1, "the input's scale")? else {
        return refuse("no scale of the input");
    };
    let bias = bias(context, 8, scale, &scales)?;
    let kernel = Kernel { dims: integers.dims.clone(), values: KernelValues::Integers(integers) };
    let x = floats_at(context, 0)?;
    let y = convolution(context, x, &kernel, bias)?;
    integers_by(context, y, [6, 7])
}

/// A matrix product.
pub(crate) fn matmul(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let a = floats_at(context, 0)?;
    let y = match constant_matrix(context, [3, 4, 5])? {
        Some(integers) => by_integers(context, a, &integers, None)?,
        None => {
            let b = floats_at(context, 3)?;
            context.push(Op::MatMul, [a, b])?
        }
    };
    integers_by(context, y, [6, 7])
}

/// A constant matrix (inputs, outputs) with its scale and zero point, which are for all or for each output.
fn constant_matrix(
    context: &mut NodeContext<'_, '_>,
    [matrix, scale, zero]: [usize; 3],
) -> Converted<Option<QuantizedConstant>> {
    let known = context.input(matrix)?;
    if context.constant(known).is_none() {
        return Ok(None);
    }
    let scales = scales(context, [scale, zero], -1)?;
    weights(context, matrix, &scales)
}

/// A matrix product with a bias, whose output may be floats.
pub(crate) fn gemm(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    let (turn_a, turn_b) = (attributes.flag("transA")?, attributes.flag("transB")?);
    let alpha = attributes.float("alpha")?.unwrap_or(1.0);
    let mut a = floats_at(context, 0)?;
    if turn_a {
        a = context.push(Op::Transpose { permutation: vec![1, 0] }, [a])?;
    }
    let mut scales = scales(context, [4, 5], if turn_b { 0 } else { 1 })?;
    if alpha != 1.0 {
        let scaled = scales.scale.floats("scale")?.iter().map(|scale| scale * alpha).collect();
        scales.scale = Tensor::f32(scales.scale.dims(), scaled)?;
    }
    let Some(integers) = weights(context, 3, &scales)? else {
        return refuse("a B that the run computes");
    };
    let integers = match turn_b {
        true => integers.transposed().map(|turned| turned.stored_so()),
        false => Some(integers),
    };
    let Some(integers) = integers else { return refuse("a B that is no matrix") };
    let Some(scale) = context.known_float(1, "the input's scale")? else {
        return refuse("no scale of the input");
    };
    let bias = bias(context, 6, scale, &scales)?;
    let y = by_integers(context, a, &integers, bias)?;
    match context.optional(7)? {
        Some(_) => integers_by(context, y, [7, 8]),
        None => Ok(y),
    }
}

/// A convolution of integers: what is added up, without a scale.
pub(crate) fn conv_integer(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let scales = plain_scales(context, 3, 0)?;
    let Some(integers) = weights(context, 1, &scales)? else {
        return refuse("weights that the run computes");
    };
    let kernel = Kernel { dims: integers.dims.clone(), values: KernelValues::Integers(integers) };
    let x = less_zero(context, 0, 2)?;
    convolution(context, x, &kernel, None)
}

/// An input as floats, less its zero point.
fn less_zero(context: &mut NodeContext<'_, '_>, index: usize, zero: usize) -> Converted<ValueId> {
    let x = context.input(index)?;
    let x = context.floats(x)?;
    match context.optional(zero)? {
        None => Ok(x),
        Some(zero) => {
            let mut zero = context.floats(zero)?;
            // One for each row.
            if context.constant(zero).is_some_and(|zero| zero.dims().len() == 1 && zero.len() > 1) {
                zero = context.push(Op::Unsqueeze { axes: vec![1] }, [zero])?;
            }
            context.binary(Binary::Sub, x, zero)
        }
    }
}

/// A matrix product of integers.
pub(crate) fn matmul_integer(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let a = less_zero(context, 0, 2)?;
    let b = context.input(1)?;
    if context.constant(b).is_some() {
        let scales = plain_scales(context, 3, -1)?;
        if let Some(integers) = weights(context, 1, &scales)? {
            return by_integers(context, a, &integers, None);
        }
    }
    let b = context.floats(b)?;
    let b = match context.optional(3)? {
        Some(zero) => {
            let zero = context.floats(zero)?;
            context.binary(Binary::Sub, b, zero)?
        }
        None => b,
    };
    context.push(Op::MatMul, [a, b])
}

/// Products of integers that come as floats: of a matrix whose range the run finds, or of integers with scales.
pub(crate) fn float_matmul(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let dynamic = context.node.op_type == "DynamicQuantizeMatMul";
    let x = context.input(0)?;
    let (a, places) = if dynamic {
        let [x, scale, zero] = dynamically_quantized(context, x)?;
        let scaling = Scaling { scale, zero: Some(zero), axis: None };
        (dequantized(context, x, &scaling)?, [1, 2, 3])
    } else {
        let (scale, zero) = (context.input(2)?, context.optional(4)?);
        (dequantized(context, x, &Scaling { scale, zero, axis: None })?, [1, 3, 5])
    };
    let Some(integers) = constant_matrix(context, places)? else {
        return refuse("a B that the run computes");
    };
    let y = by_integers(context, a, &integers, None)?;
    match context.optional(if dynamic { 4 } else { 6 })? {
        Some(bias) => context.binary(Binary::Add, y, bias),
        None => Ok(y),
    }
}

/// A function of two tensors.
pub(crate) fn binary(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let op = if context.node.op_type == "QLinearAdd" { Binary::Add } else { Binary::Mul };
    let (a, b) = (floats_at(context, 0)?, floats_at(context, 3)?);
    let y = context.binary(op, a, b)?;
    integers_by(context, y, [6, 7])
}

/// Tensors side by side, each with a scale of its own.
pub(crate) fn concat(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let Some(axis) = context.attributes.int("axis")? else {
        return Err(Error::invalid("axis", "an attribute", "none").into());
    };
    let mut parts = Vec::new();
    for index in (2..context.node.input.len()).step_by(3) {
        parts.push(floats_at(context, index)?);
    }
    if parts.is_empty() {
        return Err(Error::invalid("inputs", "at least one tensor", 0).into());
    }
    let y = context.push(Op::Concat { axis }, parts)?;
    integers_by(context, y, [0, 1])
}

/// One tensor where a condition holds, else the other.
pub(crate) fn choice(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let condition = context.input(0)?;
    let (a, b) = (floats_at(context, 1)?, floats_at(context, 4)?);
    let y = context.push(Op::Where, [condition, a, b])?;
    integers_by(context, y, [7, 8])
}

/// Functions of one tensor.
pub(crate) fn function(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    let x = floats_at(context, 0)?;
    let activation = |context: &mut NodeContext<'_, '_>, a| context.unary(Unary::Activation(a), x);
    let y = match context.node.op_type.as_str() {
        "QLinearLeakyRelu" => {
            let slope = attributes.float("alpha")?.unwrap_or(0.01);
            activation(context, Activation::LeakyRelu(slope))?
        }
        "QLinearSigmoid" => activation(context, Activation::Sigmoid)?,
        "QLinearSoftmax" => {
            let flatten = attributes.int("opset")?.unwrap_or(13) < 13;
            let axis = attributes.int("axis")?.unwrap_or(-1);
            context.push(Op::Softmax { axis, flatten }, [x])?
        }
        "QLinearReduceMean" => {
            let axes = attributes.ints("axes")?.unwrap_or_default();
            let keep = attributes.int("keepdims")?.unwrap_or(1) != 0;
            context.reduce(Reduction::Mean, axes, keep, x)?
        }
        _ => return Err(Refusal::Operator),
    };
    integers_by(context, y, [3, 4])
}

/// Means over windows, or over all.
pub(crate) fn pool(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    context.attributes.unset("channels_last")?;
    let x = floats_at(context, 0)?;
    let y = if context.node.op_type == "QLinearGlobalAveragePool" {
        context.push(Op::GlobalAverage, [x])?
    } else {
        let count_padding = context.attributes.flag("count_include_pad")?;
        window(context, x, PoolKind::Average { count_padding })?
    };
    integers_by(context, y, [3, 4])
}
