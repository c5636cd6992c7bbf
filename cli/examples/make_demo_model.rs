//! Makes the demo's model: convolutions as 4-bit DSConv, depthwise ones as floats.
//!
//! `make_demo_model WEIGHTS.safetensors LAYERS.json OUT.safetensors`, where the weights hold `NAME.w`
//! (OIHW) and `NAME.b` with batch norms folded in, and the JSON lists the nodes in network order with
//! ONNX's attributes.

use anyhow::Context;
use dsconv::{ConvDescriptor, FloatWeights, LayerFile, Quantizer};
use safetensors::SafeTensors;

#[derive(serde::Deserialize)]
struct Node {
    op: String,
    name: String,
    w: Vec<u32>,
    #[serde(default)]
    group: u32,
    #[serde(default)]
    strides: [u32; 2],
    #[serde(default)]
    dilations: [u32; 2],
    #[serde(default)]
    pads: [u32; 4],
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, nodes, out] = &arguments[..] else {
        anyhow::bail!("usage: make_demo_model WEIGHTS.safetensors LAYERS.json OUT.safetensors");
    };
    let bytes = std::fs::read(weights).with_context(|| weights.clone())?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let floats = |name: String| -> anyhow::Result<Vec<f32>> {
        let tensor = tensors.tensor(&name).context(name)?;
        let (values, _) = tensor.data().as_chunks::<4>();
        Ok(values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    };
    let nodes: Vec<Node> = serde_json::from_slice(&std::fs::read(nodes)?)?;
    let quantizer = Quantizer::new(4, 32)?;
    let mut file = LayerFile::default();
    for node in nodes.into_iter().filter(|node| node.op == "Conv") {
        let descriptor =
            ConvDescriptor::new(node.w[1] * node.group, node.w[0], [node.w[2], node.w[3]])
                .with_stride(node.strides)
                .with_dilation(node.dilations)
                .with_padding(node.pads)
                .with_groups(node.group);
        let values = floats(format!("{}.w", node.name))?;
        let bias = floats(format!("{}.b", node.name))?;
        let weights = match descriptor.channels_per_group() {
            1 => FloatWeights::new(descriptor, values)?.with_bias(bias)?.into(),
            _ => quantizer.weights(&descriptor, &values)?.with_bias(bias)?.into(),
        };
        file.layers.push((node.name, weights));
    }
    let notice = "EfficientNet-Lite0 (ImageNet), Apache License 2.0; convolutions quantised to 4-bit DSConv, B = 32";
    file.metadata.insert("notice".into(), notice.into());
    Ok(file.save(out)?)
}
