//! The classifier at a network's end, apart from the features that it reads: what learns while all else stays.

use crate::ir::graph::{Graph, Node, Op, Output, ValueId, WeightsId};
use crate::{Error, Result};
use dsconv::{ConvDescriptor, FloatWeights, Weights};
use fastrand::Rng;
use std::sync::Arc;

/// A classification network's last layer: a score for each class, `bias + sum of weight * feature`.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    graph: Graph,
    id: WeightsId,
    features: ValueId,
}

impl Head {
    /// Finds the head of a network: the convolution or matrix product that only its one output reads, maybe after a
    /// Softmax and changes of dims.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a network of several outputs, or one that ends in another way.
    pub fn of(graph: &Graph) -> Result<Self> {
        let [output] = graph.outputs() else {
            let got = format!("{} outputs", graph.outputs().len());
            return Err(Error::invalid("network", "a classifier, with one output", got));
        };
        let mut value = output.value;
        loop {
            let node = graph.nodes().iter().find(|node| node.output == value);
            let ends_in = |got: &str| {
                let expected =
                    "a matrix product or a convolution of 1x1 that gives the classes' scores";
                Error::invalid("the network's end", expected, got)
            };
            let node = node.ok_or_else(|| ends_in("an input or a constant"))?;
            let readers = |node: &Node| node.inputs.iter().filter(|&&input| input == value).count();
            let readers: usize = graph.nodes().iter().map(readers).sum();
            if readers > usize::from(value != output.value) {
                return Err(ends_in("a layer that others read too"));
            }
            match (&node.op, &node.inputs[..]) {
                (Op::Conv { weights, .. }, &[features]) => {
                    let descriptor = crate::ir::graph::descriptor(graph.weights(*weights));
                    let shared = graph.convolutions().filter(|(_, id)| id == weights).count() > 1;
                    if descriptor.kernel != [1, 1] || descriptor.groups != 1 || shared {
                        return Err(ends_in(&format!("the layer {:?}, {descriptor:?}", node.name)));
                    }
                    return Ok(Self { graph: graph.clone(), id: *weights, features });
                }
                (
                    Op::Softmax { .. }
                    | Op::Flatten { .. }
                    | Op::Reshape { .. }
                    | Op::Squeeze { .. },
                    &[input, ..],
                ) => value = input,
                (op, _) => return Err(ends_in(op.name())),
            }
        }
    }

    /// The network without the head: its output is the features, as many for each picture as
    /// [`features`](Self::features) says.
    pub fn body(&self) -> Graph {
        let mut body = self.graph.clone();
        body.outputs = vec![Output {
            name: body.values[self.features.0].clone(),
            dims: None,
            value: self.features,
        }];
        body
    }

    /// The number of features that the head reads.
    pub fn features(&self) -> usize {
        self.descriptor().in_channels as usize
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.descriptor().out_channels as usize
    }

    fn descriptor(&self) -> ConvDescriptor {
        crate::ir::graph::descriptor(self.graph.weights(self.id))
    }

    /// The head's values as floats: weights, a row of features for each class, and biases.
    ///
    /// # Errors
    /// Weights that leave the range of f32 when their channel distribution shift is folded in.
    pub fn values(&self) -> Result<Vec<Vec<f32>>> {
        let floats = match self.graph.weights(self.id).as_ref() {
            Weights::DsConv(weights) => weights.dequantize()?,
            Weights::Float(weights) => weights.clone(),
        };
        let bias = floats.bias().map_or_else(|| vec![0.0; self.classes()], <[f32]>::to_vec);
        Ok(vec![floats.values().to_vec(), bias])
    }

    /// Values for a new head of so many classes, small and chosen by the seed.
    pub fn new_values(&self, classes: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut rng = Rng::with_seed(seed);
        let range = 1.0 / (self.features() as f32).sqrt();
        let mut small =
            |count: usize| (0..count).map(|_| range * (2.0 * rng.f32() - 1.0)).collect();
        vec![small(classes * self.features()), small(classes)]
    }

    /// The network with these values as its head, in floats; as many classes as there are biases.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::Layer`] for values of other lengths than [`new_values`](Self::new_values) has, or
    /// that are not finite.
    pub fn graph(&self, values: &[Vec<f32>]) -> Result<Graph> {
        let [weights, bias] = values else {
            return Err(Error::invalid("the head's values", "weights and biases", values.len()));
        };
        let (mut descriptor, before) = (self.descriptor(), self.classes());
        descriptor.out_channels = u32::try_from(bias.len())
            .map_err(|_| Error::invalid("classes", "fewer than 2^32", bias.len()))?;
        let floats = FloatWeights::new(descriptor, weights.clone())?.with_bias(bias.clone())?;
        let mut graph = self.graph.clone();
        graph.weights[self.id.0] = Arc::new(floats.into());
        for dim in graph.outputs.iter_mut().filter_map(|output| output.dims.as_mut()).flatten() {
            if *dim == Some(before) {
                *dim = Some(bias.len());
            }
        }
        Ok(graph)
    }
}

/// The scores of rows of features, and the gradients of the mean cross entropy of their softmax with the targets, rows
/// of probabilities: those of the weights and of the biases. `values` are a [`Head`]'s.
///
/// # Errors
/// [`Error::Invalid`] for lengths that don't fit each other.
pub fn head_gradients(
    values: &[Vec<f32>],
    features: &[f32],
    targets: &[f32],
) -> Result<(Vec<f32>, Vec<Vec<f32>>)> {
    let scores = head_scores(values, features)?;
    if scores.len() != targets.len() {
        return Err(Error::invalid("targets", format!("{} elements", scores.len()), targets.len()));
    }
    let classes = values[1].len();
    let (rows, width) = (scores.len() / classes, values[0].len() / classes);
    let (mut weights, mut bias) = (vec![0.0f64; values[0].len()], vec![0.0f64; classes]);
    for (row, features) in features.chunks(width).enumerate() {
        let scores = &scores[row * classes..][..classes];
        let largest = scores.iter().fold(f32::MIN, |largest, &score| largest.max(score));
        let exp: Vec<f64> = scores.iter().map(|s| f64::from(s - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        let target = &targets[row * classes..][..classes];
        let mass: f64 = target.iter().map(|&p| f64::from(p)).sum();
        for class in 0..classes {
            let off = (mass * exp[class] / sum - f64::from(target[class])) / rows as f64;
            bias[class] += off;
            for (weight, &x) in weights[class * width..].iter_mut().zip(features) {
                *weight += off * f64::from(x);
            }
        }
    }
    let rounded = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
    Ok((scores, vec![rounded(weights), rounded(bias)]))
}

/// The scores of rows of features.
///
/// # Errors
/// [`Error::Invalid`] for lengths that don't fit each other.
pub fn head_scores(values: &[Vec<f32>], features: &[f32]) -> Result<Vec<f32>> {
    let [weights, bias] = values else {
        return Err(Error::invalid("the head's values", "weights and biases", values.len()));
    };
    let width = weights.len() / bias.len().max(1);
    if width == 0 || width * bias.len() != weights.len() || !features.len().is_multiple_of(width) {
        let expected = format!("rows of {width}, as weights {} for {}", weights.len(), bias.len());
        return Err(Error::invalid("features", expected, features.len()));
    }
    let score = |features: &[f32], class: usize| {
        let row = &weights[class * width..][..width];
        let products = row.iter().zip(features).map(|(&w, &x)| f64::from(w) * f64::from(x));
        (products.sum::<f64>() + f64::from(bias[class])) as f32
    };
    let rows = features.chunks(width);
    Ok(rows.flat_map(|row| (0..bias.len()).map(move |class| score(row, class))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu;
    use crate::ir::graph::{AutoPad, Channels, Input, Kind};

    const SMALL: &[u8] = include_bytes!("../../tests/data/small.onnx");

    fn floats(rng: &mut Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| 2.0 * rng.f32() - 1.0).collect()
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let seed = Rng::new().u64(..);
        let mut rng = Rng::with_seed(seed);
        let (rows, width, classes) = (rng.usize(1..5), rng.usize(1..7), rng.usize(2..5));
        let values = vec![floats(&mut rng, classes * width), floats(&mut rng, classes)];
        let features = floats(&mut rng, rows * width);
        // Rows of probabilities.
        let mut targets: Vec<f32> = (0..rows * classes).map(|_| rng.f32() + 0.1).collect();
        for row in targets.chunks_mut(classes) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|p| *p /= sum);
        }
        // The same formula in f64, without any rounding.
        let loss = |values: &[Vec<f64>]| -> f64 {
            let rows_of = features.chunks(width).zip(targets.chunks(classes));
            let row = |(x, target): (&[f32], &[f32])| {
                let score = |class: usize| {
                    let row = &values[0][class * width..][..width];
                    values[1][class]
                        + row.iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>()
                };
                let scores: Vec<f64> = (0..classes).map(score).collect();
                let total = scores.iter().map(|s| s.exp()).sum::<f64>().ln();
                target.iter().zip(&scores).map(|(&p, s)| f64::from(p) * (total - s)).sum::<f64>()
            };
            rows_of.map(row).sum::<f64>() / rows as f64
        };
        let exact: Vec<Vec<f64>> =
            values.iter().map(|v| v.iter().map(|&v| f64::from(v)).collect()).collect();
        let (_, gradients) = head_gradients(&values, &features, &targets).unwrap();
        for (part, gradient) in gradients.iter().enumerate() {
            for (at, &got) in gradient.iter().enumerate() {
                let moved = |by: f64| {
                    let mut moved = exact.clone();
                    moved[part][at] += by;
                    loss(&moved)
                };
                let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((f64::from(got) - expected).abs() < 1e-6, "seed {seed}: {got} {expected}");
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let values = vec![vec![0.0; 6], vec![0.0; 2]];
        assert!(head_scores(&values, &[0.0; 9]).is_ok());
        for (values, features) in [(&values[..1], 3), (&values[..], 4)] {
            assert!(head_scores(values, &vec![0.0; features]).is_err());
        }
        assert!(head_scores(&[vec![0.0; 5], vec![0.0; 2]], &[0.0; 4]).is_err());
        assert!(head_scores(&[vec![], vec![]], &[]).is_err());
        assert!(head_gradients(&values, &[0.0; 9], &[0.0; 5]).is_err());
    }

    /// A matrix product of 4 features for 3 classes, then a Softmax.
    fn network(rng: &mut Rng) -> Graph {
        let descriptor = ConvDescriptor::new(4, 3, [1, 1]);
        let weights = FloatWeights::new(descriptor, floats(rng, 12)).unwrap();
        let weights = weights.with_bias(floats(rng, 3)).unwrap();
        let [x, scores, y] = [0, 1, 2].map(ValueId);
        let conv =
            Op::Conv { weights: WeightsId(0), auto_pad: AutoPad::None, channels: Channels::Last };
        let softmax = Op::Softmax { axis: 1, flatten: false };
        let node = |name: &str, op, input, output| Node {
            name: name.into(),
            op,
            inputs: vec![input],
            output,
        };
        let dims = vec![None, Some(4)];
        let input = Input { name: "x".into(), dims, kind: Kind::Float, value: x };
        let output = Output { name: "y".into(), dims: Some(vec![None, Some(3)]), value: y };
        let graph = Graph {
            values: ["x", "scores", "y"].map(String::from).into(),
            inputs: vec![input],
            outputs: vec![output],
            nodes: vec![node("fc", conv, x, scores), node("softmax", softmax, scores, y)],
            weights: vec![Arc::new(weights.into())],
            ..Graph::default()
        };
        graph.validate().unwrap();
        graph
    }

    fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
        let program = graph.specialise(&[&[x.len() / 4, 4]]).unwrap();
        cpu::run(&program, &[x]).unwrap().concat()
    }

    #[test]
    fn a_head_is_taken_off_and_a_new_one_put_on() {
        let seed = Rng::new().u64(..);
        let mut rng = Rng::with_seed(seed);
        let graph = network(&mut rng);
        let head = Head::of(&graph).unwrap();
        assert_eq!((head.features(), head.classes()), (4, 3));
        let x = floats(&mut rng, 8);
        assert_eq!(run(&head.body(), &x), x);
        let values = head.values().unwrap();
        assert_eq!(head.graph(&values).unwrap(), graph);
        // Five classes: what the network gives is the Softmax of the head's own scores.
        let values = head.new_values(5, seed);
        let new = head.graph(&values).unwrap();
        new.validate().unwrap();
        assert_eq!(new.outputs()[0].dims, Some(vec![None, Some(5)]));
        let scores = head_scores(&values, &x).unwrap();
        for (row, got) in scores.chunks(5).zip(run(&new, &x).chunks(5)) {
            for (expected, got) in crate::picture::probabilities(row).unwrap().iter().zip(got) {
                assert!((expected - f64::from(*got)).abs() < 1e-6, "seed {seed}");
            }
        }
        assert!(values.iter().flatten().all(|value| value.abs() <= 0.5), "seed {seed}");
        assert_ne!(values, head.new_values(5, seed ^ 1), "seed {seed}");
        assert!(head.graph(&[vec![0.0; 7], vec![0.0; 2]]).is_err());
    }

    #[test]
    fn networks_that_do_not_end_in_scores_are_refused() {
        let graph = network(&mut Rng::with_seed(1));
        let refused = |graph: &Graph, words: &str| {
            let text = Head::of(graph).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        };
        let mut two = graph.clone();
        two.outputs.push(two.outputs[0].clone());
        refused(&two, "2 outputs");
        let mut read_twice = graph.clone();
        read_twice.outputs[0].value = ValueId(1);
        refused(&read_twice, "others read too");
        let mut none = graph.clone();
        none.outputs[0].value = ValueId(0);
        none.nodes.clear();
        refused(&none, "an input");
        let mut other = graph;
        other.nodes[0].op = Op::Unary(crate::op::Unary::Neg);
        refused(&other, "Unary");
        refused(&crate::onnx::from_bytes(SMALL, None).unwrap(), "Binary");
    }
}
