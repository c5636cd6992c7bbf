//! The operators of a graph as operators of a model.

use super::composed;
use super::writer::{Exporter, cast, constant, float, int, ints, string, tensor};
use crate::ir::graph::{
    Aspect, AutoPad, Channels, Comparison, Coordinates, Interpolation, Kind, Node, Op, Parts,
    Rounding, Scalar, descriptor,
};
use crate::ir::op::{Binary, PadMode, PoolKind, Reduction, Unary};
use crate::ir::tensor::Tensor;
use crate::onnx::plain;
use crate::onnx::proto::AttributeProto;
use crate::{Error, Result};
use dsconv::{Activation, Weights};

/// Writes the nodes that a node of the graph becomes.
pub(crate) fn write(exporter: &mut Exporter<'_>, node: &Node) -> Result<()> {
    let names: Vec<String> = node.inputs.iter().map(|&id| exporter.name(id)).collect();
    let y = exporter.name(node.output);
    let axes_input: Option<String>;
    let mut inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    let missing = || Error::invalid("inputs", "at least one", 0);
    let &x = inputs.first().ok_or_else(missing)?;
    let preferred_name = node.name.as_str();
    let (name, attributes): (&str, Vec<AttributeProto>) = match &node.op {
        Op::Conv { .. } => return convolution(exporter, node, x, &y),
        Op::ConvTranspose {
            stride,
            dilation,
            padding,
            output_padding,
            output_size,
            auto_pad,
            groups,
        } => {
            let mut attributes = vec![
                ints("strides", stride),
                ints("dilations", dilation),
                int("group", *groups),
                ints("output_padding", output_padding),
            ];
            match auto_pad {
                AutoPad::None => attributes.push(ints("pads", padding)),
                auto_pad => attributes.push(string("auto_pad", auto_pad_name(*auto_pad))),
            }
            if let Some(size) = output_size {
                attributes.push(ints("output_shape", size));
            }
            ("ConvTranspose", attributes)
        }
        Op::Unary(unary) => return function(exporter, *unary, preferred_name, x, &y),
        Op::ChannelAffine => {
            let scale = node.inputs.get(1).and_then(|&id| exporter.graph.constant(id));
            let channels = scale
                .map(Tensor::len)
                .ok_or_else(|| Error::invalid("scale", "a constant", "a value of the run"))?;
            let mean = Tensor::f32([channels], vec![0.0; channels])?;
            let variance = Tensor::f32([channels], vec![1.0; channels])?;
            let mean = exporter.tensor(&format!("{preferred_name}.mean"), &mean);
            let variance = exporter.tensor(&format!("{preferred_name}.variance"), &variance);
            let inputs = [&inputs[..], &[&mean, &variance]].concat();
            exporter.node("BatchNormalization", &inputs, &y, vec![float("epsilon", 0.0)]);
            return Ok(());
        }
        Op::Pool { kind, kernel, stride, dilation, padding, auto_pad, ceil } => {
            let mut attributes = vec![
                ints("kernel_shape", kernel),
                ints("strides", stride),
                ints("dilations", dilation),
                int("ceil_mode", *ceil),
            ];
            match auto_pad {
                AutoPad::None => attributes.push(ints("pads", padding)),
                auto_pad => attributes.push(string("auto_pad", auto_pad_name(*auto_pad))),
            }
            match kind {
                PoolKind::Max => ("MaxPool", attributes),
                PoolKind::PlaceOfMax => {
                    let largest = exporter.unique(&format!("{preferred_name}.largest"));
                    exporter.node_of("MaxPool", &[x], vec![largest, y], attributes);
                    return Ok(());
                }
                // Of what is not negative, as all sums of an import are.
                PoolKind::Sum => {
                    attributes.push(int("p", 1));
                    ("LpPool", attributes)
                }
                PoolKind::Average { count_padding } => {
                    attributes.push(int("count_include_pad", *count_padding));
                    ("AveragePool", attributes)
                }
            }
        }
        Op::Reduce { reduction, axes, keep } => {
            let name = match reduction {
                Reduction::Mean => "ReduceMean",
                Reduction::Sum => "ReduceSum",
                Reduction::Max => "ReduceMax",
                Reduction::Min => "ReduceMin",
                Reduction::Product => "ReduceProd",
            };
            axes_input = axes_constant(exporter, axes, &y);
            inputs = [x].into_iter().chain(axes_input.as_deref()).collect();
            (name, vec![int("keepdims", *keep)])
        }
        Op::Softmax { axis, flatten: false } => ("Softmax", vec![int("axis", *axis)]),
        Op::Softmax { axis, flatten: true } => {
            exporter.flattened(("Softmax", *axis), [preferred_name, x, &y]);
            return Ok(());
        }
        Op::Concat { axis } => ("Concat", vec![int("axis", *axis)]),
        Op::Part { axis, part: Parts::Equal { index, count } } => {
            let outputs = equal_parts(exporter, (*index, *count), y)?;
            let attributes = vec![int("axis", *axis), int("num_outputs", *count as i64)];
            exporter.node_of("Split", &[x], outputs, attributes);
            return Ok(());
        }
        Op::Part { axis, part: Parts::Range { start, length, .. } } => {
            let bounds = [*start as i64, (start + length) as i64, *axis];
            let [start, end, axis] = bounds.map(|bound| exporter.list(preferred_name, &[bound]));
            exporter.node("Slice", &[x, &start, &end, &axis], &y, vec![]);
            return Ok(());
        }
        Op::Gather { axis } => ("Gather", vec![int("axis", *axis)]),
        Op::Resize { .. } => {
            let attributes = resize(&node.op);
            let by = *inputs.get(1).ok_or_else(missing)?;
            let part = inputs.get(2).copied().unwrap_or_default();
            let sizes = node.inputs.get(1).is_some_and(|&id| !exporter.kind(id).is_float());
            let inputs = if sizes { vec![x, part, "", by] } else { vec![x, part, by] };
            exporter.node("Resize", &inputs, &y, attributes);
            return Ok(());
        }
        Op::Reshape { allow_zero } => ("Reshape", vec![int("allowzero", *allow_zero)]),
        Op::Flatten { axis } => ("Flatten", vec![int("axis", *axis)]),
        Op::Squeeze { axes } => {
            axes_input = axes_constant(exporter, axes, &y);
            inputs = [x].into_iter().chain(axes_input.as_deref()).collect();
            ("Squeeze", vec![])
        }
        Op::Unsqueeze { axes } => {
            axes_input = axes_constant(exporter, axes, &y);
            inputs = [x].into_iter().chain(axes_input.as_deref()).collect();
            ("Unsqueeze", vec![])
        }
        Op::Transpose { permutation } if permutation.is_empty() => ("Transpose", vec![]),
        Op::Transpose { permutation } => ("Transpose", vec![ints("perm", permutation)]),
        Op::Pad { mode } => {
            let (mode, value) = match mode {
                PadMode::Constant(value) => ("constant", *value),
                PadMode::Edge => ("edge", 0.0),
                PadMode::Reflect => ("reflect", 0.0),
                PadMode::Wrap => ("wrap", 0.0),
            };
            let value = if node.inputs.first().is_some_and(|&id| !exporter.kind(id).is_float()) {
                String::new()
            } else {
                exporter.tensor(&format!("{preferred_name}.value"), &Tensor::scalar(value))
            };
            let widths = *inputs.get(1).ok_or_else(missing)?;
            let inputs = [&[x, widths, &value], inputs.get(2..).unwrap_or_default()].concat();
            exporter.node("Pad", &inputs, &y, vec![string("mode", mode)]);
            return Ok(());
        }
        Op::Shape { start, end } => {
            let end = end.map(|end| int("end", end));
            ("Shape", std::iter::once(int("start", *start)).chain(end).collect())
        }
        Op::DepthToSpace { block, blocks_first } => {
            let mode = if *blocks_first { "DCR" } else { "CRD" };
            ("DepthToSpace", vec![int("blocksize", *block), string("mode", mode)])
        }
        Op::SpaceToDepth { block } => ("SpaceToDepth", vec![int("blocksize", *block)]),
        Op::Cast { to } => ("Cast", vec![cast(*to)]),
        Op::ConstantOfShape { value } => {
            let value = match *value {
                Scalar::Float(value) => Tensor::f32([1], vec![value])?,
                Scalar::Integer(value) => Tensor::list([value]),
            };
            ("ConstantOfShape", vec![tensor("value", constant("value", &value))])
        }
        Op::Compare(Comparison::And | Comparison::Or) => {
            let [a, b] = inputs[..] else { return Err(missing()) };
            let to_bool = |x| exporter.step("Cast", &[x], preferred_name, vec![cast(Kind::Bool)]);
            let [a, b] = [a, b].map(to_bool);
            exporter.node(plain_name(&node.op)?, &[&a, &b], &y, vec![]);
            return Ok(());
        }
        Op::Binary(
            Binary::Equal | Binary::Less | Binary::LessOrEqual | Binary::Remainder | Binary::Gate,
        )
        | Op::Choose
        | Op::ArgMax { .. }
        | Op::Hardmax { .. }
        | Op::Order { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::CumulativeSum { .. }
        | Op::OneHot { .. }
        | Op::Triangle { .. }
        | Op::Einsum { .. }
        | Op::GridSample { .. }
        | Op::RoiAlign(_)
        | Op::Suppress { .. }
        | Op::Recurrent(_) => return composed::write(exporter, node, &inputs, &y),
        Op::Binary(_)
        | Op::GlobalAverage
        | Op::GlobalMax
        | Op::Slice
        | Op::MatMul
        | Op::Expand
        | Op::Tile
        | Op::Size
        | Op::Range
        | Op::Compare(_) => (plain_name(&node.op)?, vec![]),
        // A bool that is a constant is an integer of the graph.
        Op::Not | Op::Where => {
            let condition = exporter.step("Cast", &[x], preferred_name, vec![cast(Kind::Bool)]);
            let inputs = [&[condition.as_str()], &inputs[1..]].concat();
            exporter.node(plain_name(&node.op)?, &inputs, &y, vec![]);
            return Ok(());
        }
    };
    exporter.node(name, &inputs, &y, attributes);
    Ok(())
}

/// The outputs of a Split of which a graph's node is one: ONNX has names for the others too.
fn equal_parts(
    exporter: &mut Exporter<'_>,
    (index, count): (usize, usize),
    y: String,
) -> Result<Vec<String>> {
    /// A model with more names than this came from no network.
    const MOST_NAMES: usize = 1 << 20;
    if index >= count {
        return Err(Error::invalid("index of a part", format!("below {count}"), index));
    }
    let most = MOST_NAMES.saturating_sub(exporter.used.len());
    if count > most {
        let expected = format!("at most {most}, as many as the exported model has names left");
        return Err(Error::invalid("parts of a tensor", expected, count));
    }
    let mut outputs: Vec<String> = (1..count).map(|_| exporter.unique("unused")).collect();
    outputs.insert(index, y);
    Ok(outputs)
}

/// ONNX's name of an operator that is the same there.
fn plain_name(op: &Op) -> Result<&'static str> {
    plain::name(op).ok_or_else(|| Error::invalid("operator", "one that ONNX has", op.name()))
}

fn auto_pad_name(auto_pad: AutoPad) -> &'static str {
    match auto_pad {
        AutoPad::None => "NOTSET",
        AutoPad::SameUpper => "SAME_UPPER",
        AutoPad::SameLower => "SAME_LOWER",
    }
}

/// The input that holds an operator's axes; none where it works on all of them.
fn axes_constant(exporter: &mut Exporter<'_>, axes: &[i64], y: &str) -> Option<String> {
    (!axes.is_empty()).then(|| exporter.list(&format!("{y}.axes"), axes))
}

fn convolution(exporter: &mut Exporter<'_>, node: &Node, x: &str, y: &str) -> Result<()> {
    let Op::Conv { weights, auto_pad, channels } = node.op else {
        return Err(Error::invalid("operator", "Conv", node.op.name()));
    };
    let graph = exporter.graph;
    let weights = graph.weights(weights).as_ref();
    let geometry = descriptor(weights);
    let [height, width] = geometry.kernel.map(|k| k as usize);
    let (outputs, inputs) =
        (geometry.out_channels as usize, geometry.channels_per_group() as usize);
    let preferred_name = if node.name.is_empty() { y } else { &node.name };
    let dims = match channels {
        Channels::First => vec![outputs, inputs, height, width],
        Channels::Last => vec![outputs, inputs],
    };
    let (kernel, bias) = match weights {
        Weights::Float(weights) => {
            let values = Tensor::f32(dims, weights.values().to_vec())?;
            let kernel = exporter.tensor(&format!("{preferred_name}.weight"), &values);
            (kernel, weights.bias().map(<[f32]>::to_vec))
        }
        Weights::DsConv(weights) => {
            let weights = weights.fold_cds()?;
            let kernel = exporter.integers(preferred_name, &weights, &dims)?;
            (kernel, weights.bias().map(<[f32]>::to_vec))
        }
    };
    let bias = bias.map(|bias| {
        let bias = Tensor::f32([bias.len()], bias)?;
        Ok::<_, Error>(exporter.tensor(&format!("{preferred_name}.bias"), &bias))
    });
    let bias = bias.transpose()?;
    if channels == Channels::Last {
        let turn = vec![ints("perm", &[1i64, 0])];
        let kernel =
            exporter.step("Transpose", &[&kernel], &format!("{preferred_name}.columns"), turn);
        return match bias {
            None => {
                exporter.node("MatMul", &[x, &kernel], y, vec![]);
                Ok(())
            }
            Some(bias) => {
                let product = exporter.step(
                    "MatMul",
                    &[x, &kernel],
                    &format!("{preferred_name}.product"),
                    vec![],
                );
                exporter.node("Add", &[&product, &bias], y, vec![]);
                Ok(())
            }
        };
    }
    let mut attributes = vec![
        ints("kernel_shape", &geometry.kernel),
        ints("strides", &geometry.stride),
        ints("dilations", &geometry.dilation),
        int("group", geometry.groups),
    ];
    match auto_pad {
        AutoPad::None => attributes.push(ints("pads", &geometry.padding)),
        auto_pad => attributes.push(string("auto_pad", auto_pad_name(auto_pad))),
    }
    let inputs: Vec<&str> = [x, &kernel].into_iter().chain(bias.as_deref()).collect();
    exporter.node("Conv", &inputs, y, attributes);
    Ok(())
}

fn function(
    exporter: &mut Exporter<'_>,
    unary: Unary,
    preferred_name: &str,
    x: &str,
    y: &str,
) -> Result<()> {
    let clip = |exporter: &mut Exporter<'_>, low: f32, high: f32| {
        let low = exporter.tensor(&format!("{preferred_name}.low"), &Tensor::scalar(low));
        let high = exporter.tensor(&format!("{preferred_name}.high"), &Tensor::scalar(high));
        exporter.node("Clip", &[x, &low, &high], y, vec![]);
    };
    let (name, attributes) = match unary {
        Unary::Activation(activation) => match activation {
            Activation::Identity => ("Identity", vec![]),
            Activation::LeakyRelu(slope) => ("LeakyRelu", vec![float("alpha", slope)]),
            Activation::Relu6 => {
                clip(exporter, 0.0, 6.0);
                return Ok(());
            }
            Activation::Clamp { low, high } => {
                clip(exporter, low, high);
                return Ok(());
            }
            Activation::Silu => {
                let gate =
                    exporter.step("Sigmoid", &[x], &format!("{preferred_name}.gate"), vec![]);
                exporter.node("Mul", &[x, &gate], y, vec![]);
                return Ok(());
            }
            other => {
                let got = || format!("{other:?}");
                let refused = || Error::invalid("activation", "one that ONNX has", got());
                (plain::name(&Op::Unary(unary)).ok_or_else(refused)?, vec![])
            }
        },
        Unary::HardSigmoid { alpha, beta } => {
            ("HardSigmoid", vec![float("alpha", alpha), float("beta", beta)])
        }
        Unary::Elu(alpha) => ("Elu", vec![float("alpha", alpha)]),
        Unary::IsInf { negative, positive } => {
            ("IsInf", vec![int("detect_negative", negative), int("detect_positive", positive)])
        }
        _ => (plain_name(&Op::Unary(unary))?, vec![]),
    };
    exporter.node(name, &[x], y, attributes);
    Ok(())
}

fn resize(op: &Op) -> Vec<AttributeProto> {
    let Op::Resize { interpolation, coordinates, axes, options } = op else { return Vec::new() };
    let coordinates = match coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::Asymmetric => "asymmetric",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
        Coordinates::Crop => "tf_crop_and_resize",
    };
    let mut attributes = vec![string("coordinate_transformation_mode", coordinates)];
    match interpolation {
        Interpolation::Nearest(rounding) => {
            let rounding = match rounding {
                Rounding::PreferFloor => "round_prefer_floor",
                Rounding::PreferCeil => "round_prefer_ceil",
                Rounding::Floor => "floor",
                Rounding::Ceil => "ceil",
            };
            attributes.extend([string("mode", "nearest"), string("nearest_mode", rounding)]);
        }
        Interpolation::Linear => attributes.push(string("mode", "linear")),
        Interpolation::Cubic(a) => {
            attributes.extend([string("mode", "cubic"), float("cubic_coeff_a", *a)]);
        }
    }
    if !axes.is_empty() {
        attributes.push(ints("axes", axes));
    }
    if options.antialias {
        attributes.push(int("antialias", 1));
    }
    if options.exclude_outside {
        attributes.push(int("exclude_outside", 1));
    }
    if options.outside != 0.0 {
        attributes.push(float("extrapolation_value", options.outside));
    }
    match options.aspect {
        Aspect::Stretch => {}
        Aspect::NotLarger => attributes.push(string("keep_aspect_ratio_policy", "not_larger")),
        Aspect::NotSmaller => attributes.push(string("keep_aspect_ratio_policy", "not_smaller")),
    }
    attributes
}
