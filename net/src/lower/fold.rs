//! Rewrites of a graph that leave its results as they are: what is linear goes into the convolution before it.

use crate::Result;
use crate::ir::graph::{
    AutoPad, Channels, Graph, Node, Op, Output, ValueId, WeightsId, descriptor,
};
use crate::ir::op::{Binary, PadMode};
use crate::ir::tensor::Tensor;
use dsconv::{ConvDescriptor, DsConvWeights, FloatWeights, Weights};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Folds what can be, then drops what no output needs.
pub(crate) fn fold(graph: &mut Graph) -> Result<()> {
    drop_unneeded(graph);
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let outputs = graph.outputs.iter().map(|output| &output.value);
    for &id in graph.nodes.iter().flat_map(|node| &node.inputs).chain(outputs) {
        *readers.entry(id).or_default() += 1;
    }
    // Nodes that are kept, and which of them wrote a value.
    let mut kept: Vec<Node> = Vec::new();
    let mut writers: HashMap<ValueId, usize> = HashMap::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        if let Some((weights, before)) = margin(graph, &node, &kept, &writers, &readers) {
            node.inputs = kept[before].inputs[..1].to_vec();
            graph.weights.push(Arc::new(weights));
            if let Op::Conv { weights, .. } = &mut node.op {
                *weights = WeightsId(graph.weights.len() - 1);
            }
        }
        if let Some((before, weights)) = linear(graph, &node, &kept, &writers, &readers) {
            graph.weights.push(Arc::new(weights));
            if let Op::Conv { weights, .. } = &mut kept[before].op {
                *weights = WeightsId(graph.weights.len() - 1);
            }
            kept[before].output = node.output;
            writers.insert(node.output, before);
            continue;
        }
        writers.insert(node.output, kept.len());
        kept.push(node);
    }
    graph.nodes = kept;
    drop_unneeded(graph);
    Ok(())
}

/// The nodes that these outputs need, and all values that they and the outputs read.
pub(crate) fn needed(nodes: &[Node], outputs: &[Output]) -> (Vec<Node>, HashSet<ValueId>) {
    let mut needed: HashSet<_> = outputs.iter().map(|output| output.value).collect();
    let mut kept = Vec::new();
    for node in nodes.iter().rev() {
        if needed.contains(&node.output) {
            needed.extend(&node.inputs);
            kept.push(node.clone());
        }
    }
    kept.reverse();
    (kept, needed)
}

/// Drops nodes, constants and weights that no output needs.
fn drop_unneeded(graph: &mut Graph) {
    let (kept, needed) = needed(&graph.nodes, &graph.outputs);
    graph.nodes = kept;
    graph.constants.retain(|id, _| needed.contains(id));
    let mut places = HashMap::new();
    let mut weights = Vec::new();
    for node in &mut graph.nodes {
        if let Op::Conv { weights: id, .. } = &mut node.op {
            *id = *places.entry(*id).or_insert_with(|| {
                weights.push(graph.weights[id.0].clone());
                WeightsId(weights.len() - 1)
            });
        }
    }
    graph.weights = weights;
}

/// The weights of a convolution with the zeros that a node before it puts around its input, and that node.
fn margin(
    graph: &Graph,
    node: &Node,
    kept: &[Node],
    writers: &HashMap<ValueId, usize>,
    readers: &HashMap<ValueId, usize>,
) -> Option<(Weights, usize)> {
    let Op::Conv { weights, auto_pad: AutoPad::None, channels: Channels::First } = node.op else {
        return None;
    };
    let x = *node.inputs.first()?;
    let before = *writers.get(&x)?;
    let (Op::Pad { mode: PadMode::Constant(0.0) }, &[_, widths], 1) =
        (&kept[before].op, &kept[before].inputs[..], readers[&x])
    else {
        return None;
    };
    let &[0, 0, top, left, 0, 0, bottom, right] =
        graph.constants.get(&widths)?.integers("pads").ok()?
    else {
        return None;
    };
    let weights = &graph.weights[weights.0];
    let mut padding = descriptor(weights).padding;
    for (padding, more) in padding.iter_mut().zip([top, left, bottom, right]) {
        *padding = padding.checked_add(u32::try_from(more).ok()?)?;
    }
    Some((weights.as_ref().clone().with_padding(padding).ok()?, before))
}

/// The convolution before a node, and its weights if the node's scale and shift per channel go into them.
fn linear(
    graph: &Graph,
    node: &Node,
    kept: &[Node],
    writers: &HashMap<ValueId, usize>,
    readers: &HashMap<ValueId, usize>,
) -> Option<(usize, Weights)> {
    let conv = |x: &ValueId| {
        let before = *writers.get(x)?;
        let Op::Conv { weights, channels, .. } = kept[before].op else { return None };
        (readers[x] == 1).then(|| (before, &graph.weights[weights.0], channels))
    };
    let constant = |id: &ValueId| graph.constants.get(id);
    match (&node.op, &node.inputs[..]) {
        (Op::ChannelAffine, [x, scale, shift]) => {
            let (before, weights, Channels::First) = conv(x)? else { return None };
            let [scale, shift] =
                [scale, shift].map(|id| per_channel(constant(id)?, descriptor(weights), None));
            Some((before, scaled(weights, &scale?, &shift?)?))
        }
        (Op::Binary(binary), [a, b]) => {
            let (found, number, constant_first) = match (conv(a), conv(b)) {
                (Some(found), _) => (found, constant(b)?, false),
                (None, Some(found)) => (found, constant(a)?, true),
                _ => return None,
            };
            let (before, weights, channels) = found;
            let descriptor = descriptor(weights);
            let number = per_channel(number, descriptor, Some(channels))?;
            let all = |value: f64| vec![value; number.len()];
            let (scale, shift) = match (binary, constant_first) {
                (Binary::Add, _) => (all(1.0), number),
                (Binary::Mul, _) => {
                    let shift = all(0.0);
                    (number, shift)
                }
                (Binary::Sub, false) => (all(1.0), number.into_iter().map(|n| -n).collect()),
                (Binary::Sub, true) => (all(-1.0), number),
                (Binary::Div, false) => {
                    let shift = all(0.0);
                    (number.into_iter().map(f64::recip).collect(), shift)
                }
                _ => return None,
            };
            Some((before, scaled(weights, &scale, &shift)?))
        }
        _ => None,
    }
}

/// One number per output channel, if the constant broadcasts so against the convolution's output.
fn per_channel(
    tensor: &Tensor,
    descriptor: ConvDescriptor,
    against: Option<Channels>,
) -> Option<Vec<f64>> {
    let outputs = descriptor.out_channels as usize;
    let values = tensor.floats("constant").ok()?;
    let dims = tensor.dims();
    let single = match against {
        None => false,
        // More axes than the output would give it more.
        Some(Channels::First) => values.len() == 1 && dims.len() <= 4,
        Some(Channels::Last) => values.len() == 1 && dims.len() <= 1,
    };
    if single {
        return Some(vec![f64::from(values[0]); outputs]);
    }
    let along = match against {
        None | Some(Channels::Last) => dims == [outputs],
        Some(Channels::First) => matches!(dims, &[1, c, 1, 1] | &[c, 1, 1] if c == outputs),
    };
    along.then(|| values.iter().map(|&value| f64::from(value)).collect())
}

/// The weights with a scale and a shift of each output channel; none where they leave the floats.
fn scaled(weights: &Weights, scale: &[f64], shift: &[f64]) -> Option<Weights> {
    let times = |values: &[f32]| -> Vec<f32> {
        let per_channel = values.len() / scale.len();
        let one =
            |(index, &value): (usize, &f32)| (f64::from(value) * scale[index / per_channel]) as f32;
        values.iter().enumerate().map(one).collect()
    };
    let bias = |bias: Option<&[f32]>| -> Option<Vec<f32>> {
        let plain = bias.is_none() && shift.iter().all(|&shift| shift == 0.0);
        let one = |channel: usize| {
            let bias = bias.map_or(0.0, |bias| f64::from(bias[channel]));
            (bias * scale[channel] + shift[channel]) as f32
        };
        (!plain).then(|| (0..scale.len()).map(one).collect())
    };
    match weights {
        Weights::Float(weights) => {
            let new = FloatWeights::new(*weights.descriptor(), times(weights.values())).ok()?;
            match bias(weights.bias()) {
                Some(bias) => Some(new.with_bias(bias).ok()?.into()),
                None => Some(new.into()),
            }
        }
        // The shifts are linear in alpha and KDS bias, so the integers stay.
        Weights::DsConv(weights) => {
            if weights.cds().is_some() {
                return None;
            }
            let q: Vec<i32> = weights.q().iter().map(|&q| i32::from(q)).collect();
            let (descriptor, format) = (*weights.descriptor(), *weights.format());
            let alpha = times(weights.alpha());
            let mut new = DsConvWeights::from_integers(descriptor, format, &q, alpha).ok()?;
            if let Some(kds_bias) = weights.kds_bias() {
                new = new.with_kds_bias(times(kds_bias)).ok()?;
            }
            match bias(weights.bias()) {
                Some(bias) => Some(new.with_bias(bias).ok()?.into()),
                None => Some(new.into()),
            }
        }
    }
}
