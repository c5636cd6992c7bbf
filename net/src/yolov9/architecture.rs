//! A description as a network: its modules resolved, their parameters counted, its graph without weights.

use super::description::Description;
use super::heads::Predictions;
use super::resolve::{ResolvedLayer, RowContext};
use super::trace::{MergedConvolution, OperationCount, Trace};
use crate::ir::graph::{Graph, Op, Output, WeightsId};
use crate::lower::fold;
use crate::{Error, Result};
use dsconv::Weights;
use std::collections::HashSet;
use std::sync::Arc;

/// A network as its description says, without weights yet.
#[derive(Debug)]
pub struct Architecture {
    pub(super) layers: Vec<ResolvedLayer>,
    pub(super) trace: Trace,
    predictions: Predictions,
    backbone: usize,
    classes: usize,
}

/// The outputs of a network's graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphOutputs {
    /// `output0`: the decoded predictions of the main branch, `(N, 4 + classes, anchors)`. What only the auxiliary
    /// branch needs is left out.
    Deployable,
    /// `output0`, and `auxiliary`: those of the branch that only training needs, if there is one.
    Training,
    /// All of those, and the output of every layer of a single map, `model.N`: to compare with another program.
    Layers,
}

/// The parts of a network that a user may care about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Features of the picture.
    Backbone,
    /// The layers that bring the sizes together.
    Neck,
    /// The heads of the last layer.
    Detection,
    /// The convolutions that only training needs.
    Auxiliary,
}

/// The numbers of the line that YOLO programs print.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// PyTorch modules, the network itself and all inside of it.
    pub layers: usize,
    /// Parameters.
    pub parameters: u64,
    /// Parameters that are trained.
    pub gradients: u64,
    /// Floating-point operations for the picture, as YOLO programs count them: two a multiply-add of a convolution,
    /// eight an output of a batch norm, two an output of an upsampling.
    pub flops: u64,
    /// The operations as the article counts them: its counter knows modules by their class, and skips DSConv2D.
    pub counted_flops: u64,
}

impl Architecture {
    /// Resolves a description.
    ///
    /// # Errors
    /// [`Error::Node`] names the layer: an unknown module, wrong arguments, a layer that is not there, channels or
    /// sizes that do not meet, a last layer that is no detection, a network that is too large.
    pub fn new(description: &Description) -> Result<Self> {
        let mut trace = Trace::default();
        // The network, and the list of its layers.
        trace.modules = 2;
        let picture = trace.input("images");
        let mut layers: Vec<ResolvedLayer> = Vec::new();
        let mut predictions = None;
        for (index, row) in description.rows.iter().enumerate() {
            let last = index + 1 == description.rows.len();
            let mut at =
                RowContext { trace: &mut trace, description, row, index, picture, layers: &layers };
            let made = at.layer(last).map_err(|e| e.in_node(&format!("model.{index}"), &row.2))?;
            predictions = made.1;
            layers.push(made.0);
        }
        let predictions = predictions
            .ok_or_else(|| Error::invalid("layers", "a detection as the last one", "none"))?;
        let (backbone, classes) = (description.backbone, description.classes);
        Ok(Self { layers, trace, predictions, backbone, classes })
    }

    /// The layers.
    pub fn layers(&self) -> &[ResolvedLayer] {
        &self.layers
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The number that height and width of a picture must be a multiple of.
    pub fn stride(&self) -> u32 {
        self.trace.convolutions.iter().map(|conv| conv.stride).max().unwrap_or(1)
    }

    /// Counts, for a picture of that height and width.
    pub fn summary(&self, [height, width]: [u32; 2]) -> Summary {
        let pixels = u64::from(height) * u64::from(width);
        let flops =
            |work: &OperationCount| work.operations * (pixels / u64::from(work.stride).pow(2));
        let work = &self.trace.operation_counts;
        let Trace { modules, parameters, frozen, .. } = self.trace;
        Summary {
            layers: modules,
            parameters,
            gradients: parameters - frozen,
            flops: work.iter().map(flops).sum(),
            counted_flops: work.iter().filter(|work| !work.dsconv).map(flops).sum(),
        }
    }

    /// Weights and biases of the graph with those outputs, and floating-point operations of its convolutions, two a
    /// multiply-add, for a picture of that height and width. Batch norms are folded, and so are the two convolutions of
    /// RepConvN.
    pub fn cost(&self, which: GraphOutputs, [height, width]: [u32; 2]) -> (u64, u64) {
        let pixels = u64::from(height) * u64::from(width);
        let cost = |conv: &MergedConvolution| {
            let weights = conv.descriptor().weight_count() as u64;
            let flops = 2 * weights * (pixels / u64::from(conv.stride).pow(2));
            (weights + u64::from(conv.descriptor().out_channels), flops)
        };
        let add = |sum: (u64, u64), one: (u64, u64)| (sum.0 + one.0, sum.1 + one.1);
        self.needed_convolutions(which).map(cost).fold((0, 0), add)
    }

    /// Names of the convolutions of the graph with those outputs, in its order.
    pub fn convolutions(&self, which: GraphOutputs) -> Vec<&str> {
        self.needed_convolutions(which).map(|conv| conv.name.as_str()).collect()
    }

    /// Names of the convolutions that the description wants as DSConv.
    pub fn dsconv_layers(&self, which: GraphOutputs) -> Vec<&str> {
        let wanted = self.needed_convolutions(which).filter(|conv| conv.dsconv);
        wanted.map(|conv| conv.name.as_str()).collect()
    }

    /// The convolutions of the graph with those outputs.
    pub(super) fn needed_convolutions(
        &self,
        which: GraphOutputs,
    ) -> impl Iterator<Item = &MergedConvolution> {
        let needed = self.needed(which);
        let convolutions = self.trace.convolutions.iter().enumerate();
        convolutions.filter(move |(index, _)| needed.contains(index)).map(|(_, conv)| conv)
    }

    /// The part of the network that a convolution of its graph belongs to.
    pub fn part(&self, convolution: &str) -> Option<Part> {
        let index = self.trace.convolutions.iter().position(|conv| conv.name == convolution)?;
        let layer = self.layers.iter().rposition(|layer| layer.first <= index)?;
        Some(if !self.needed(GraphOutputs::Deployable).contains(&index) {
            Part::Auxiliary
        } else if layer + 1 == self.layers.len() {
            Part::Detection
        } else if layer < self.backbone {
            Part::Backbone
        } else {
            Part::Neck
        })
    }

    fn outputs(&self, which: GraphOutputs) -> Vec<Output> {
        let output = |name: String, value| Output { name, dims: None, value };
        let mut outputs = vec![output("output0".into(), self.predictions.main)];
        if which != GraphOutputs::Deployable {
            let auxiliary = self.predictions.auxiliary;
            outputs.extend(auxiliary.map(|value| output("auxiliary".into(), value)));
        }
        if which == GraphOutputs::Layers {
            for (index, layer) in self.layers.iter().enumerate() {
                if let [map] = layer.outputs[..] {
                    outputs.push(output(format!("model.{index}"), map.value));
                }
            }
        }
        outputs
    }

    /// Indices of the convolutions that those outputs need.
    fn needed(&self, which: GraphOutputs) -> HashSet<usize> {
        let outputs = self.outputs(which);
        let (nodes, _) = fold::needed(&self.trace.graph.nodes, &outputs);
        let index = |op: &Op| match op {
            Op::Conv { weights, .. } => Some(weights.0),
            _ => None,
        };
        nodes.iter().filter_map(|node| index(&node.op)).collect()
    }

    /// The graph with those outputs, each convolution's weights from `weights`.
    pub(super) fn graph(
        &self,
        which: GraphOutputs,
        mut weights: impl FnMut(&MergedConvolution) -> Result<Weights>,
    ) -> Result<Graph> {
        let Graph { values, inputs, constants, .. } = &self.trace.graph;
        let outputs = self.outputs(which);
        let (mut nodes, needed) = fold::needed(&self.trace.graph.nodes, &outputs);
        let mut made = Vec::new();
        for node in &mut nodes {
            if let Op::Conv { weights: id, .. } = &mut node.op {
                let conv = &self.trace.convolutions[id.0];
                made.push(Arc::new(weights(conv)?));
                *id = WeightsId(made.len() - 1);
            }
        }
        let mut constants = constants.clone();
        constants.retain(|id, _| needed.contains(id));
        let (values, inputs) = (values.clone(), inputs.clone());
        let graph = Graph { values, inputs, outputs, nodes, constants, weights: made };
        graph.validate()?;
        Ok(graph)
    }
}
