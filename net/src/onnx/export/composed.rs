//! Operators of a graph that lowering composes of several steps, and functions of two tensors that give bools.

use super::writer::{Exporter, cast, float, floats, int, string, strings};
use crate::ir::graph::{Cell, GridInterpolation, GridPadding, Kind, Node, Op, Recurrent, RoiAlign};
use crate::ir::op::{Binary, Combination, Unary};
use crate::ir::tensor::Tensor;
use crate::onnx::proto::{AttributeProto, data_type};
use crate::{Error, Result};
use dsconv::Activation;

/// Writes the nodes that a node of the graph becomes.
pub(crate) fn write(
    exporter: &mut Exporter<'_>,
    node: &Node,
    inputs: &[&str],
    y: &str,
) -> Result<()> {
    let missing = || Error::invalid("inputs", "at least one", 0);
    let &x = inputs.first().ok_or_else(missing)?;
    let preferred_name = node.name.as_str();
    let (name, attributes): (&str, Vec<AttributeProto>) = match &node.op {
        Op::Binary(binary) => return function(exporter, node, *binary, inputs, y),
        Op::Choose => {
            let expected = "branches whose choice does not depend on the input's size";
            return Err(Error::invalid("If", expected, "one that does"));
        }
        Op::ArgMax { axis, keep, last, smallest } => (
            if *smallest { "ArgMin" } else { "ArgMax" },
            vec![int("axis", *axis), int("keepdims", *keep), int("select_last_index", *last)],
        ),
        Op::Hardmax { axis, flatten: false } => ("Hardmax", vec![int("axis", *axis)]),
        Op::Hardmax { axis, flatten: true } => {
            exporter.flattened(("Hardmax", *axis), [preferred_name, x, y]);
            return Ok(());
        }
        Op::Order { axis, descending } => {
            let values = exporter.unique(&format!("{preferred_name}.values"));
            let attributes = vec![int("axis", *axis), int("largest", *descending)];
            exporter.node_of("TopK", inputs, vec![values, y.into()], attributes);
            return Ok(());
        }
        Op::GatherElements { axis } => ("GatherElements", vec![int("axis", *axis)]),
        Op::GatherNd { batch } => ("GatherND", vec![int("batch_dims", *batch as i64)]),
        Op::ScatterElements { axis, combination } => {
            ("ScatterElements", vec![int("axis", *axis), reduction(*combination)])
        }
        Op::ScatterNd { combination } => ("ScatterND", vec![reduction(*combination)]),
        Op::CumulativeSum { exclusive, reverse } => {
            ("CumSum", vec![int("exclusive", *exclusive), int("reverse", *reverse)])
        }
        Op::OneHot { axis } => ("OneHot", vec![int("axis", *axis)]),
        Op::Triangle { upper } => ("Trilu", vec![int("upper", *upper)]),
        Op::Einsum { equation } => ("Einsum", vec![string("equation", equation)]),
        Op::GridSample { interpolation, padding, align_corners } => {
            let mode = match interpolation {
                GridInterpolation::Nearest => "nearest",
                GridInterpolation::Linear => "linear",
                GridInterpolation::Cubic => "cubic",
            };
            let padding = match padding {
                GridPadding::Zeros => "zeros",
                GridPadding::Border => "border",
                GridPadding::Reflection => "reflection",
            };
            let attributes = vec![
                string("mode", mode),
                string("padding_mode", padding),
                int("align_corners", *align_corners),
            ];
            ("GridSample", attributes)
        }
        Op::Suppress { centre } => ("NonMaxSuppression", vec![int("center_point_box", *centre)]),
        Op::RoiAlign(roi) => ("RoiAlign", roi_align(roi)),
        Op::Recurrent(recurrent) => return states(exporter, node, recurrent, inputs, y),
        op => return Err(Error::invalid("operator", "one that ONNX has", op.name())),
    };
    exporter.node(name, inputs, y, attributes);
    Ok(())
}

/// Functions of two tensors whose bools are numbers here.
fn function(
    exporter: &mut Exporter<'_>,
    node: &Node,
    binary: Binary,
    inputs: &[&str],
    y: &str,
) -> Result<()> {
    let &[a, b] = inputs else { return Err(Error::invalid("inputs", "2", inputs.len())) };
    let kind = exporter.kind(node.output);
    let name = node.name.as_str();
    let comparison = match binary {
        Binary::Remainder => {
            exporter.node("Mod", &[a, b], y, vec![int("fmod", 1)]);
            return Ok(());
        }
        Binary::Gate => {
            let condition = exporter.step("Cast", &[b], name, vec![cast(Kind::Bool)]);
            let zero = match kind {
                Kind::Float => Tensor::scalar(0.0),
                _ => Tensor::i64([], vec![0])?,
            };
            let zero = exporter.tensor(&format!("{name}.zero"), &zero);
            exporter.node("Where", &[&condition, a, &zero], y, vec![]);
            return Ok(());
        }
        Binary::Equal => "Equal",
        Binary::Less => "Less",
        _ => "LessOrEqual",
    };
    let holds = exporter.step(comparison, &[a, b], name, vec![]);
    exporter.node("Cast", &[&holds], y, vec![cast(kind)]);
    Ok(())
}

fn reduction(combination: Combination) -> AttributeProto {
    let name = match combination {
        Combination::Replace => "none",
        Combination::Add => "add",
        Combination::Mul => "mul",
        Combination::Min => "min",
        Combination::Max => "max",
    };
    string("reduction", name)
}

fn roi_align(roi: &RoiAlign) -> Vec<AttributeProto> {
    let mode = if roi.half_pixel { "half_pixel" } else { "output_half_pixel" };
    vec![
        int("output_height", roi.size[0]),
        int("output_width", roi.size[1]),
        int("sampling_ratio", roi.samples),
        float("spatial_scale", roi.scale),
        string("coordinate_transformation_mode", mode),
        string("mode", if roi.max { "max" } else { "avg" }),
    ]
}

/// The states of a recurrent network, with the last state and the last cell behind them.
fn states(
    exporter: &mut Exporter<'_>,
    node: &Node,
    recurrent: &Recurrent,
    inputs: &[&str],
    y: &str,
) -> Result<()> {
    let direction = match recurrent.reverse[..] {
        [false] => "forward",
        [true] => "reverse",
        _ => "bidirectional",
    };
    let mut attributes =
        vec![int("hidden_size", recurrent.hidden as i64), string("direction", direction)];
    if let Some(bound) = recurrent.clip {
        attributes.push(float("clip", bound));
    }
    let (name, further) = match recurrent.cell {
        Cell::Rnn => ("RNN", 4),
        Cell::Gru { reset_after } => {
            attributes.push(int("linear_before_reset", reset_after));
            ("GRU", 4)
        }
        Cell::Lstm { coupled } => {
            attributes.push(int("input_forget", coupled));
            ("LSTM", 5)
        }
    };
    let (mut names, mut alpha, mut beta) = (Vec::new(), Vec::new(), Vec::new());
    for function in &recurrent.functions {
        names.push(match *function {
            Unary::Activation(Activation::Sigmoid) => "Sigmoid",
            Unary::Activation(Activation::Relu) => "Relu",
            Unary::Tanh => "Tanh",
            Unary::Softplus => "Softplus",
            Unary::Activation(Activation::LeakyRelu(slope)) => {
                alpha.push(slope);
                "LeakyRelu"
            }
            Unary::Elu(slope) => {
                alpha.push(slope);
                "Elu"
            }
            Unary::HardSigmoid { alpha: slope, beta: start } => {
                alpha.push(slope);
                beta.push(start);
                "HardSigmoid"
            }
            other => {
                let got = format!("{other:?}");
                return Err(Error::invalid("activation", "one that ONNX has here", got));
            }
        });
    }
    attributes.push(strings("activations", &names));
    if !alpha.is_empty() {
        attributes.push(floats("activation_alpha", &alpha));
    }
    if !beta.is_empty() {
        attributes.push(floats("activation_beta", &beta));
    }
    let refused = || Error::invalid("inputs", format!("{further} or more"), inputs.len());
    let mut ordered: Vec<&str> = inputs.get(..4).ok_or_else(refused)?.to_vec();
    let mut rest = inputs.get(further..).ok_or_else(refused)?.iter();
    // ONNX wants the lengths as int32.
    let lengths = recurrent.given[0].then(|| {
        let lengths = rest.next().copied().unwrap_or_default();
        exporter.step("Cast", &[lengths], &node.name, vec![int("to", data_type::INT32)])
    });
    ordered.push(lengths.as_deref().unwrap_or_default());
    for given in &recurrent.given[1..] {
        ordered.push(if *given { rest.next().copied().unwrap_or_default() } else { "" });
    }
    if further == 5 {
        ordered.push(inputs[4]);
    }
    while ordered.last().is_some_and(|name| name.is_empty()) {
        ordered.pop();
    }
    let preferred_name = node.name.as_str();
    let lstm = further == 5;
    let parts: &[&str] = if lstm { &["states", "state", "cell"] } else { &["states", "state"] };
    let outputs: Vec<String> =
        parts.iter().map(|part| exporter.unique(&format!("{preferred_name}.{part}"))).collect();
    exporter.node_of(name, &ordered, outputs.clone(), attributes);
    let axes = exporter.list(&format!("{preferred_name}.axes"), &[0]);
    let mut all = vec![outputs[0].clone()];
    for part in [1, outputs.len() - 1] {
        all.push(exporter.step("Unsqueeze", &[&outputs[part], &axes], preferred_name, vec![]));
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    exporter.node("Concat", &all, y, vec![int("axis", 0)]);
    Ok(())
}
