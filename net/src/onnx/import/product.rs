//! Matrix products; with a constant matrix they are 1x1 convolutions, which can be packed.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::conv::{Kernel, KernelValues, fused_activation, size};
use super::integers::QuantizedConstant;
use crate::Error;
use crate::ir::graph::{AutoPad, Channels, Op, ValueId};
use crate::ir::op::Binary;
use crate::ir::tensor::Tensor;
use dsconv::ConvDescriptor;

/// A product with a constant matrix (outputs, inputs), as a 1x1 convolution of the last axis.
pub(crate) fn linear(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    matrix: &Kernel,
    bias: Option<Vec<f32>>,
) -> Converted<ValueId> {
    let &[outputs, inputs] = &matrix.dims[..] else {
        let got = format!("{:?}", matrix.dims);
        return Err(Error::invalid("weights", "a matrix", got).into());
    };
    let descriptor =
        ConvDescriptor::new(size(inputs, "weights")?, size(outputs, "weights")?, [1, 1]);
    let weights = context.importer.weights(matrix.weights(descriptor, bias)?);
    let op = Op::Conv { weights, auto_pad: AutoPad::None, channels: Channels::Last };
    context.push(op, [x])
}

/// A constant matrix (inputs, outputs), or turned, as (outputs, inputs) times a factor.
fn matrix(
    tensor: &Tensor,
    quantized: Option<&QuantizedConstant>,
    turned: bool,
    factor: f32,
) -> Converted<Option<Kernel>> {
    let &[rows, columns] = tensor.dims() else { return Ok(None) };
    let dims = if turned { vec![rows, columns] } else { vec![columns, rows] };
    let integers = quantized.filter(|_| factor == 1.0);
    let integers = match (integers, turned) {
        (Some(integers), true) => Some(integers.clone()),
        (Some(integers), false) => integers.transposed(),
        (None, _) => None,
    };
    if let Some(integers) = integers {
        return Ok(Some(Kernel { dims, values: KernelValues::Integers(integers) }));
    }
    let values = tensor.floats("weights")?;
    let values = if turned {
        values.iter().map(|&b| factor * b).collect()
    } else {
        (0..values.len()).map(|i| factor * values[i % rows * columns + i / rows]).collect()
    };
    Ok(Some(Kernel { dims, values: KernelValues::Floats(values) }))
}

/// A product with integers (inputs, outputs), times scales.
pub(crate) fn by_integers(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    integers: &QuantizedConstant,
    bias: Option<Vec<f32>>,
) -> Converted<ValueId> {
    let (&[rows, columns], Some(turned)) = (&integers.dims[..], integers.transposed()) else {
        let matrix = Tensor::f32(integers.dims.clone(), integers.floats())?;
        let name = context.importer.node.clone();
        let matrix = context.importer.constant(name, matrix);
        return context.push(Op::MatMul, [x, matrix]);
    };
    let matrix = Kernel { dims: vec![columns, rows], values: KernelValues::Integers(turned) };
    linear(context, x, &matrix, bias)
}

/// A matrix product; with a constant matrix, a 1x1 convolution.
pub(crate) fn matmul(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (a, b) = (context.input(0)?, context.input(1)?);
    product(context, a, b, 1.0)
}

fn product(
    context: &mut NodeContext<'_, '_>,
    a: ValueId,
    b: ValueId,
    factor: f32,
) -> Converted<ValueId> {
    let constant = if context.constant(a).is_some() { None } else { context.constant(b) };
    let quantized = context.importer.quantized.get(&b);
    let kernel = match constant {
        Some(tensor) => matrix(tensor, quantized, false, factor)?,
        None => None,
    };
    match kernel {
        Some(kernel) => linear(context, a, &kernel, None),
        None => {
            let y = context.push(Op::MatMul, [a, b])?;
            scaled(context, y, factor)
        }
    }
}

/// ONNX Runtime's products with what comes before and behind.
pub(crate) fn fused(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    if context.node.op_type == "FusedGemm" {
        let y = gemm(context)?;
        let name = context.attributes.string("activation", "")?;
        context.attributes.ignore(&["activation_alpha", "activation_beta", "activation_gamma"]);
        return match name {
            "" | "Relu" | "Sigmoid" | "Tanh" => fused_activation(context, y, name),
            name => refuse(format!("activation {name}")),
        };
    }
    let attributes = context.attributes;
    let alpha = attributes.float("alpha")?.unwrap_or(1.0);
    if attributes.flag("transBatchA")? || attributes.flag("transBatchB")? {
        return refuse("a turned batch");
    }
    let turned = [attributes.flag("transA")?, attributes.flag("transB")?];
    let mut pair = [context.input(0)?, context.input(1)?];
    for (value, turned) in pair.iter_mut().zip(turned) {
        if turned {
            *value = context.push(Op::Einsum { equation: "...ij->...ji".into() }, [*value])?;
        }
    }
    product(context, pair[0], pair[1], alpha)
}

/// Sums of products along named axes.
pub(crate) fn einsum(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let equation = context.attributes.string("equation", "")?;
    if equation.len() > 256 {
        return refuse("an equation of over 256 letters");
    }
    Ok(Op::Einsum { equation: equation.into() })
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
        let outputs = if flip_b { rows } else { columns };
        // A bias of one number per output becomes the convolution's.
        let bias = c
            .and_then(|c| context.constant(c))
            .filter(|c| c.len() == outputs && c.dims().last() == Some(&outputs));
        let bias = bias.and_then(|c| c.floats("C").ok().map(<[f32]>::to_vec));
        let bias = bias.map(|c| c.into_iter().map(|c| beta * c).collect::<Vec<_>>());
        if bias.is_some() {
            added = None;
        }
        let kernel = matrix(&tensor, context.importer.quantized.get(&b), flip_b, alpha)?;
        match kernel {
            Some(kernel) => linear(context, a, &kernel, bias)?,
            None => return refuse("a B that is no matrix"),
        }
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
