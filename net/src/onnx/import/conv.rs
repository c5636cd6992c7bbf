//! Convolutions with constant weights, also transposed, along one to three axes.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::integers::QuantizedConstant;
use super::volume::{self, Depth};
use crate::Error;
use crate::ir::graph::{AutoPad, Channels, Op, ValueId};
use crate::ir::op::{Binary, Unary};
use crate::lower::window::Window;
use dsconv::{Activation, ConvDescriptor, DsConvWeights, FloatWeights, Weights};

/// The attributes that convolutions and pools have in common, with one spatial axis made two.
pub(crate) struct WindowAttributes {
    pub(crate) stride: [u32; 2],
    pub(crate) dilation: [u32; 2],
    pub(crate) padding: [u32; 4],
    pub(crate) auto_pad: AutoPad,
    /// The first of three axes.
    pub(crate) depth: Depth,
}

/// Numbers for each spatial axis: that of the depth, height and width.
fn triple<'a>(context: &NodeContext<'_, 'a>, name: &'a str, axes: usize) -> Converted<[u32; 3]> {
    Ok(match axes {
        1 => {
            let [width] = context.attributes.sizes::<1>(name, 1)?;
            [1, 1, width]
        }
        2 => {
            let [height, width] = context.attributes.sizes::<2>(name, 1)?;
            [1, height, width]
        }
        _ => context.attributes.sizes::<3>(name, 1)?,
    })
}

/// The attributes of a window whose kernel is `[depth, height, width]`.
pub(crate) fn geometry(
    context: &NodeContext<'_, '_>,
    axes: usize,
    kernel: [u32; 3],
) -> Converted<WindowAttributes> {
    let stride = triple(context, "strides", axes)?;
    let dilation = triple(context, "dilations", axes)?;
    let [front, top, left, back, bottom, right] = match axes {
        1 => {
            let [left, right] = context.attributes.sizes::<2>("pads", 0)?;
            [0, 0, left, 0, 0, right]
        }
        2 => {
            let [top, left, bottom, right] = context.attributes.sizes::<4>("pads", 0)?;
            [0, top, left, 0, bottom, right]
        }
        _ => context.attributes.sizes::<6>("pads", 0)?,
    };
    let given = ([top, left, bottom, right], [front, back]);
    let ((padding, depth_padding), auto_pad) =
        match context.attributes.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => (given, AutoPad::None),
            "VALID" => (([0; 4], [0; 2]), AutoPad::None),
            "SAME_UPPER" => (([0; 4], [0; 2]), AutoPad::SameUpper),
            "SAME_LOWER" => (([0; 4], [0; 2]), AutoPad::SameLower),
            other => return Err(Error::invalid("auto_pad", "a mode of ONNX", other).into()),
        };
    let depth = Depth {
        kernel: kernel[0],
        stride: stride[0],
        dilation: dilation[0],
        padding: depth_padding,
        auto_pad,
    };
    let [stride, dilation] = [stride, dilation].map(|[_, height, width]| [height, width]);
    Ok(WindowAttributes { stride, dilation, padding, auto_pad, depth })
}

/// Gives a tensor (N, C, W) an axis H of 1 for an operator that needs (N, C, H, W), and takes it away again.
pub(crate) fn with_rows(
    context: &mut NodeContext<'_, '_>,
    axes: usize,
    x: ValueId,
    body: impl FnOnce(&mut NodeContext<'_, '_>, ValueId) -> Converted<ValueId>,
) -> Converted<ValueId> {
    if axes != 1 {
        return body(context, x);
    }
    let x = context.push(Op::Unsqueeze { axes: vec![2] }, [x])?;
    let y = body(context, x)?;
    context.push(Op::Squeeze { axes: vec![2] }, [y])
}

pub(crate) fn size(dim: usize, what: &str) -> Converted<u32> {
    u32::try_from(dim).map_err(|_| Error::invalid(what, "a number in 32 bits", dim).into())
}

/// Constant weights: those of a convolution (O, I / groups, ..), and how they are stored.
pub(crate) struct Kernel {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: KernelValues,
}

/// The values of constant weights.
pub(crate) enum KernelValues {
    /// Integers times scales.
    Integers(QuantizedConstant),
    /// Floats.
    Floats(Vec<f32>),
}

impl Kernel {
    /// The weights that an input of the node holds.
    pub(crate) fn of_input(context: &mut NodeContext<'_, '_>, index: usize) -> Converted<Self> {
        let source = context.input(index)?;
        let Some(tensor) = context.known(index, "weights")? else { return refuse("no weights") };
        let values = match context.importer.quantized.get(&source) {
            Some(quantized) => KernelValues::Integers(quantized.clone()),
            None => KernelValues::Floats(tensor.floats("weights")?.to_vec()),
        };
        Ok(Self { dims: tensor.dims().to_vec(), values })
    }

    /// The weights of a layer: its integers if the layer's blocks can be theirs, or else floats.
    pub(crate) fn weights(
        &self,
        descriptor: ConvDescriptor,
        bias: Option<Vec<f32>>,
    ) -> Converted<Weights> {
        let packed: Option<DsConvWeights> = match &self.values {
            KernelValues::Integers(integers) => integers.weights(descriptor)?,
            KernelValues::Floats(_) => None,
        };
        if let Some(packed) = packed {
            return Ok(match bias {
                Some(bias) => packed.with_bias(bias)?.into(),
                None => packed.into(),
            });
        }
        let floats = match &self.values {
            KernelValues::Integers(integers) => integers.floats(),
            KernelValues::Floats(floats) => floats.clone(),
        };
        let floats = FloatWeights::new(descriptor, floats)?;
        Ok(match bias {
            Some(bias) => floats.with_bias(bias)?.into(),
            None => floats.into(),
        })
    }
}

/// The kernel `[depth, height, width]` of weights, and their number of spatial axes.
fn kernel(context: &NodeContext<'_, '_>, dims: &[usize]) -> Converted<([u32; 3], usize)> {
    let kernel = match *dims {
        [_, _, width] => [1, 1, size(width, "kernel")?],
        [_, _, height, width] => [1, size(height, "kernel")?, size(width, "kernel")?],
        [_, _, depth, height, width] => {
            [size(depth, "kernel")?, size(height, "kernel")?, size(width, "kernel")?]
        }
        _ => return refuse(format!("weights of {} axes", dims.len())),
    };
    let axes = dims.len() - 2;
    let own = kernel[3 - axes..].iter().map(|&k| i64::from(k));
    if let Some(shape) = context.attributes.ints("kernel_shape")?
        && !own.eq(shape.iter().copied())
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

/// A convolution with constant weights; ONNX Runtime's own one adds a second tensor, and an activation function.
pub(crate) fn conv(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let x = context.input(0)?;
    let kernel = Kernel::of_input(context, 1)?;
    let bias = context.known(2, "bias")?;
    let bias = bias.map(|bias| bias.floats("bias").map(<[f32]>::to_vec)).transpose()?;
    let y = convolution(context, x, &kernel, bias)?;
    if context.node.op_type != "FusedConv" {
        return Ok(y);
    }
    let y = match context.optional(3)? {
        Some(added) => context.binary(Binary::Add, y, added)?,
        None => y,
    };
    let name = context.attributes.string("activation", "")?;
    fused_activation(context, y, name)
}

/// The activation function behind ONNX Runtime's fused operators.
pub(crate) fn fused_activation(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    name: &str,
) -> Converted<ValueId> {
    let parameters = context.attributes.floats("activation_params")?.unwrap_or_default();
    let parameter = |at: usize, default: f32| parameters.get(at).copied().unwrap_or(default);
    let function = match name {
        "" => return Ok(x),
        "Relu" => Unary::Activation(Activation::Relu),
        "Sigmoid" => Unary::Activation(Activation::Sigmoid),
        "Tanh" => Unary::Tanh,
        "LeakyRelu" => Unary::Activation(Activation::LeakyRelu(parameter(0, 0.01))),
        "Clip" => Unary::Activation(Activation::Clamp {
            low: parameter(0, f32::MIN),
            high: parameter(1, f32::MAX),
        }),
        "HardSigmoid" => Unary::HardSigmoid { alpha: parameter(0, 0.2), beta: parameter(1, 0.5) },
        name => return refuse(format!("activation {name}")),
    };
    context.unary(function, x)
}

/// A convolution of these weights, with the node's attributes.
pub(crate) fn convolution(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    weights: &Kernel,
    bias: Option<Vec<f32>>,
) -> Converted<ValueId> {
    let (taps, axes) = kernel(context, &weights.dims)?;
    let WindowAttributes { stride, dilation, mut padding, mut auto_pad, depth } =
        geometry(context, axes, taps)?;
    let groups = groups(context)?;
    let kernel = [taps[1], taps[2]];
    // Without a stride the padding does not depend on the input's size.
    if auto_pad != AutoPad::None && stride == [1, 1] {
        padding = Window { kernel, stride, dilation }.same(auto_pad, [1, 1])?;
        auto_pad = AutoPad::None;
    }
    // The taps along the depth become channels: their weights lie so.
    let per_group = size(weights.dims[1], "channels")?.checked_mul(taps[0]);
    let in_channels = per_group.and_then(|per_group| per_group.checked_mul(groups));
    let in_channels = in_channels.ok_or_else(|| {
        let got = format!("{:?} in {groups} groups", weights.dims);
        Error::invalid("channels", "a number in 32 bits", got)
    })?;
    let descriptor = ConvDescriptor {
        in_channels,
        out_channels: size(weights.dims[0], "channels")?,
        kernel,
        stride,
        dilation,
        padding,
        groups,
    };
    let outputs = descriptor.out_channels;
    let weights = weights.weights(descriptor, bias)?;
    let weights = context.importer.weights(weights);
    let op = Op::Conv { weights, auto_pad, channels: Channels::First };
    if axes == 3 {
        let slices = volume::windows(context, x, depth, in_channels)?;
        let y = context.push(op, [slices])?;
        return volume::joined(context, x, y, outputs);
    }
    with_rows(context, axes, x, |context, x| context.push(op, [x]))
}

/// A transposed convolution with constant weights.
pub(crate) fn conv_transpose(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let (x, source) = (context.input(0)?, context.input(1)?);
    let Some(tensor) = context.known(1, "weights")? else { return refuse("no weights") };
    context.known(2, "bias")?;
    let (taps, axes) = kernel(context, tensor.dims())?;
    let WindowAttributes { stride, dilation, padding, auto_pad, depth } =
        geometry(context, axes, taps)?;
    let groups = groups(context)?;
    let output_padding = match context.attributes.ints("output_padding")? {
        Some(_) => triple(context, "output_padding", axes)?,
        None => [0; 3],
    };
    let output_padding = match axes {
        1 => [0, 0, output_padding[2]],
        2 => [0, output_padding[1], output_padding[2]],
        _ => output_padding,
    };
    let output_size = match context.attributes.ints("output_shape")? {
        // Some writers put the batch and the channels in front.
        Some(shape) if shape.len() == axes + 2 => {
            let sizes = shape[2..].iter().map(|&size| u32::try_from(size).ok());
            let sizes: Option<Vec<u32>> = sizes.collect();
            let mut all = [1; 3];
            let refused = || Error::invalid("output_shape", "sizes", format!("{shape:?}"));
            all[3 - axes..].copy_from_slice(&sizes.ok_or_else(refused)?);
            Some(all)
        }
        Some(_) => Some(triple(context, "output_shape", axes)?),
        None => None,
    };
    let flat = |[_, height, width]: [u32; 3]| [height, width];
    let op = Op::ConvTranspose {
        stride,
        dilation,
        padding,
        output_padding: flat(output_padding),
        output_size: output_size.map(flat),
        auto_pad,
        groups,
    };
    let bias = context.optional(2)?;
    if axes == 3 {
        let spread = volume::Spread {
            depth,
            dims: tensor.dims(),
            groups,
            output_padding: output_padding[0],
            output_size: output_size.map(|[d, h, w]| [d, h.saturating_mul(w)]),
        };
        return volume::transposed(context, x, op, source, bias, &spread);
    }
    let mut inputs = vec![source];
    if axes == 1 {
        inputs[0] = context.push(Op::Unsqueeze { axes: vec![2] }, [source])?;
    }
    inputs.extend(bias);
    with_rows(context, axes, x, |context, x| {
        inputs.insert(0, x);
        context.push(op, inputs)
    })
}
