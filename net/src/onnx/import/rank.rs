//! The rank of an input that the model declares without a shape, by what reads it.

use crate::onnx::proto::{GraphProto, NodeProto};

/// Operators whose output has the rank of their first input.
const SAME: &[&str] = &[
    "Add",
    "BatchNormalization",
    "Cast",
    "Clip",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Identity",
    "LeakyRelu",
    "Mul",
    "Pad",
    "QuantizeLinear",
    "Relu",
    "Sub",
    "Transpose",
];

/// The rank that a convolution, pool or the like asks for, behind operators that keep it.
pub(crate) fn guess(proto: &GraphProto, input: &str) -> Option<usize> {
    let mut names = vec![input];
    // Every name comes once at most.
    for _ in 0..proto.node.len() {
        let reads =
            |node: &&NodeProto| node.input.first().is_some_and(|i| names.contains(&i.as_str()));
        let mut next = Vec::new();
        for node in proto.node.iter().filter(reads) {
            if let Some(rank) = asked(proto, node) {
                return Some(rank);
            }
            if SAME.contains(&node.op_type.as_str()) {
                next.extend(node.output.first().map(String::as_str));
            }
        }
        if next.is_empty() {
            return None;
        }
        names = next;
    }
    None
}

/// The rank of the first input that a node asks for.
fn asked(proto: &GraphProto, node: &NodeProto) -> Option<usize> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    match node.op_type.as_str() {
        "Conv" | "ConvTranspose" | "ConvInteger" | "FusedConv" | "QLinearConv" => {
            let at = if node.op_type == "QLinearConv" { 3 } else { 1 };
            let weights = node.input.get(at)?;
            let stored = proto.initializer.iter().find(|tensor| tensor.name == *weights);
            let kernel = attribute("kernel_shape").map(|kernel| kernel.ints.len() + 2);
            stored.map(|tensor| tensor.dims.len()).or(kernel)
        }
        "MaxPool" | "AveragePool" | "LpPool" => Some(attribute("kernel_shape")?.ints.len() + 2),
        "Gemm" => Some(2),
        "DepthToSpace" | "SpaceToDepth" | "LRN" => Some(4),
        "Transpose" => attribute("perm").map(|permutation| permutation.ints.len()),
        _ => None,
    }
}
