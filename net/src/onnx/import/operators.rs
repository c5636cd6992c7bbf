//! The table of operators: what converts each of them.

use super::attributes::{Attributes, Converted, Refusal};
use super::context::NodeContext;
use super::importer::Importer;
use super::{
    activation, control_flow, conv, convert, indexed, normalization, packed, pool, product,
    qoperator, quantized, recurrent, reduce, resize, sample,
};
use crate::ir::graph::{Op, ValueId};
use crate::onnx::plain;
use crate::onnx::proto::NodeProto;

/// What a node becomes.
#[derive(Clone, Copy)]
enum Rule {
    /// One value.
    Value(fn(&mut NodeContext<'_, '_>) -> Converted<ValueId>),
    /// A value for each output.
    Values(fn(&mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>>),
    /// One operator with the same inputs in the same order.
    Same(fn(&mut NodeContext<'_, '_>) -> Converted<Op>),
}

use Rule::{Same, Value, Values};

/// The domain of operators that ONNX Runtime adds.
const MICROSOFT: &str = "com.microsoft";

/// ONNX's own operators, besides those of [`plain`].
static ONNX: &[(&[&str], Rule)] = &[
    (&["Constant"], Values(convert::constant)),
    (&["Split"], Values(convert::split)),
    (&["Identity"], Value(convert::identity)),
    (&["Dropout"], Value(convert::dropout)),
    (&["Clip"], Value(convert::clip)),
    (&["Slice"], Value(convert::slice)),
    (&["Pad"], Value(convert::pad)),
    (&["Sum", "Min", "Max", "Mean"], Value(convert::variadic)),
    (&["Mod", "Xor", "CastLike"], Value(convert::arithmetic)),
    (&["Concat", "Gather", "Reshape", "Flatten", "Squeeze", "Unsqueeze"], Same(convert::dims)),
    (&["Transpose", "Shape", "Cast", "ConstantOfShape"], Same(convert::dims)),
    (&["DepthToSpace", "SpaceToDepth", "Trilu"], Same(convert::dims)),
    (&["LeakyRelu", "HardSigmoid", "Elu", "IsInf", "Softmax", "Hardmax"], Same(activation::same)),
    (&["Gelu", "Mish", "Swish", "Selu", "Celu", "Softsign"], Value(activation::composed)),
    (&["ThresholdedRelu", "Shrink", "LogSoftmax"], Value(activation::composed)),
    (
        &["Tan", "Asin", "Acos", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh"],
        Value(activation::trigonometry),
    ),
    (&["Conv"], Value(conv::conv)),
    (&["ConvTranspose"], Value(conv::conv_transpose)),
    (&["MaxPool", "AveragePool", "LpPool"], Values(pool::pool)),
    (&["GlobalLpPool"], Value(pool::global_lp_pool)),
    (&["MaxUnpool"], Value(pool::max_unpool)),
    (&["Gemm"], Value(product::gemm)),
    (&["MatMul"], Value(product::matmul)),
    (&["Einsum"], Same(product::einsum)),
    (&["Resize", "Upsample"], Value(resize::resize)),
    (&["BatchNormalization"], Value(normalization::batch_norm)),
    (&["InstanceNormalization"], Value(normalization::instance_norm)),
    (
        // The last one is ONNX Runtime's, in ONNX's domain.
        &["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"],
        Value(normalization::layer_norm),
    ),
    (&["GroupNormalization"], Value(normalization::group_norm)),
    (&["LpNormalization"], Value(normalization::lp_norm)),
    (&["MeanVarianceNormalization"], Value(normalization::mean_variance_norm)),
    (&["LRN"], Value(normalization::local_response_norm)),
    (&["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"], Value(reduce::reduce)),
    (&["ReduceL1", "ReduceL2", "ReduceSumSquare"], Value(reduce::reduce)),
    (&["ReduceLogSum", "ReduceLogSumExp"], Value(reduce::reduce)),
    (&["ArgMax", "ArgMin"], Same(indexed::arg)),
    (&["EyeLike"], Value(convert::eye_like)),
    (&["ReverseSequence"], Value(indexed::reverse_sequence)),
    (&["TopK"], Values(indexed::top_k)),
    (&["NonMaxSuppression"], Value(indexed::suppress)),
    (&["CumSum"], Same(indexed::cumulative_sum)),
    (&["OneHot"], Same(indexed::one_hot)),
    (&["GatherElements", "GatherND"], Same(indexed::gather)),
    (&["Scatter", "ScatterElements", "ScatterND"], Same(indexed::scatter)),
    (&["GridSample"], Same(sample::grid_sample)),
    (&["RoiAlign"], Same(sample::roi_align)),
    (&["LSTM", "GRU", "RNN"], Values(recurrent::recurrent)),
    (&["If"], Values(control_flow::branch)),
    (&["Loop"], Values(control_flow::repeat)),
    (&["Scan"], Values(control_flow::scan)),
    (&["QuantizeLinear"], Value(quantized::quantize)),
    (&["DequantizeLinear"], Value(quantized::dequantize)),
    (&["DynamicQuantizeLinear"], Values(quantized::dynamic)),
    (&["QLinearConv"], Value(qoperator::conv)),
    (&["QLinearMatMul"], Value(qoperator::matmul)),
    (&["ConvInteger"], Value(qoperator::conv_integer)),
    (&["MatMulInteger"], Value(qoperator::matmul_integer)),
];

/// Those that ONNX Runtime adds.
static ADDED: &[(&[&str], Rule)] = &[
    (&["Gelu", "FastGelu", "BiasGelu", "QuickGelu"], Value(activation::composed)),
    (&["FusedConv"], Value(conv::conv)),
    (&["FusedMatMul", "FusedGemm"], Value(product::fused)),
    (&["GridSample"], Same(sample::grid_sample)),
    (
        &["SkipLayerNormalization", "SkipSimplifiedLayerNormalization"],
        Value(normalization::skip_layer_norm),
    ),
    (&["QuantizeLinear"], Value(quantized::quantize)),
    (&["DequantizeLinear"], Value(quantized::dequantize)),
    (&["QLinearConv"], Value(qoperator::conv)),
    (&["QGemm"], Value(qoperator::gemm)),
    (&["QLinearAdd", "QLinearMul"], Value(qoperator::binary)),
    (&["QLinearConcat"], Value(qoperator::concat)),
    (&["QLinearWhere"], Value(qoperator::choice)),
    (&["QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"], Value(qoperator::function)),
    (&["QLinearGlobalAveragePool", "QLinearAveragePool"], Value(qoperator::pool)),
    (&["QLinearReduceMean"], Value(qoperator::function)),
    (&["DynamicQuantizeMatMul", "MatMulIntegerToFloat"], Value(qoperator::float_matmul)),
    (&["MatMulNBits"], Value(packed::matmul)),
];

/// The rule for an operator of a domain.
fn rule(domain: &str, name: &str) -> Option<Rule> {
    let table = match domain {
        "" | "ai.onnx" => ONNX,
        MICROSOFT => ADDED,
        _ => return None,
    };
    table.iter().find(|(names, _)| names.contains(&name)).map(|(_, rule)| *rule)
}

/// The operators that are read, in alphabetical order; those that ONNX Runtime adds with their domain.
pub fn operators() -> Vec<String> {
    let names = |table: &'static [(&[&str], Rule)]| table.iter().flat_map(|(names, _)| *names);
    let own = names(ONNX).map(|name| (*name).to_owned());
    let plain = plain::names().map(str::to_owned);
    let added = names(ADDED).map(|name| full_name(MICROSOFT, name));
    let mut all: Vec<String> = own.chain(plain).chain(added).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// An operator's name, with its domain unless that is ONNX's own.
pub(crate) fn full_name(domain: &str, name: &str) -> String {
    match domain {
        "" | "ai.onnx" => name.into(),
        domain => format!("{domain}::{name}"),
    }
}

/// Why an operator is not taken.
fn refusal(name: &str) -> Refusal {
    match name {
        "NonZero" | "Compress" | "Unique" => Refusal::Use(
            "the size of its output depends on the data, and dsconv needs sizes before the run"
                .into(),
        ),
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike"
        | "Multinomial" | "Bernoulli" => {
            Refusal::Use("random numbers; export the network for inference".into())
        }
        name if name.contains("Sequence") || name.starts_with("Optional") => {
            Refusal::Use("sequences of tensors and optional ones".into())
        }
        _ => Refusal::Operator,
    }
}

/// The values that a node writes, in its outputs' order.
pub(crate) fn convert<'a>(
    importer: &mut Importer<'a>,
    node: &'a NodeProto,
    attributes: &Attributes<'a>,
) -> Converted<Vec<ValueId>> {
    let (domain, name) = (node.domain.as_str(), node.op_type.as_str());
    let function = importer.functions.get(&(domain, name)).copied();
    let mut context = NodeContext { importer, node, attributes };
    let context = &mut context;
    // A function of the model says what an operator does where there is no rule: a rule keeps what packs.
    match (rule(domain, name), function) {
        (Some(Rule::Value(rule)), _) => Ok(vec![rule(context)?]),
        (Some(Rule::Values(rule)), _) => rule(context),
        (Some(Rule::Same(rule)), _) => {
            let op = rule(context)?;
            Ok(vec![convert::one_node(context, op)?])
        }
        (None, Some(function)) => control_flow::call(context, function),
        (None, None) if ["", "ai.onnx"].contains(&domain) => {
            let op = plain::operator(name).cloned().ok_or_else(|| refusal(name))?;
            Ok(vec![convert::one_node(context, op)?])
        }
        (None, None) => Err(Refusal::Operator),
    }
}
