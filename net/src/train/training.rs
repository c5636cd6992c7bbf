//! A network that learns: its parameters, and the program that gives their gradients.

use super::backward::{Slope, Wanted, differentiate};
use crate::cpu;
use crate::ir::graph::{Graph, WeightsId, descriptor};
use crate::ir::program::{Program, Source, StepOp, TensorId};
use crate::lower::needed;
use crate::{Error, Result};
use dsconv::{DsConvWeights, FloatWeights, Weights};
use std::sync::Arc;

/// Which parts of a network's convolutions learn. Integers never do: they stay packed as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The scales of packed layers: alpha, and the KDS bias of those that have one.
    pub scales: bool,
    /// The biases of layers that have one.
    pub biases: bool,
    /// The weights of depthwise layers in floats.
    pub depthwise: bool,
    /// The weights of all other layers in floats.
    pub floats: bool,
    /// All of the last layer, which gives the scores.
    pub head: bool,
}

/// What a training makes small.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// The mean cross entropy of the scores' softmax with rows of probabilities: those of a class, 1 and else 0, or those
    /// that a teacher gives. A Softmax at the network's end is left out.
    CrossEntropy {
        /// The share of each row, 0 to below 1, that all classes get alike.
        smoothing: f32,
    },
    /// The mean of the squared difference from the targets.
    SquaredError,
}

/// The part of a layer that a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Scales in alpha's order, `(out_channels, blocks, height, width)`.
    Alpha,
    /// The KDS bias, in alpha's order.
    KdsBias,
    /// Float weights, OIHW.
    Values,
    /// One number for each output channel.
    Bias,
}

/// Numbers that learn.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The name of the layer's node.
    pub layer: String,
    /// The part of it.
    pub part: Part,
    id: WeightsId,
}

/// What a step of a training gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// The loss.
    pub loss: f64,
    /// What the network gave: the scores before a last Softmax.
    pub scores: Vec<f32>,
    /// The gradient of each parameter.
    pub gradients: Vec<Vec<f32>>,
}

/// A network that learns from batches of one shape.
///
/// [`program`](Self::program) is the network with its backward pass; whoever runs it gives its outputs to
/// [`read`](Self::read). [`step`](Self::step) does both on the CPU, in f64 within each step.
#[derive(Clone, Debug)]
pub struct Training {
    graph: Graph,
    inputs: Vec<Vec<usize>>,
    loss: Loss,
    learned: Learned,
    program: Program,
    parameters: Vec<Parameter>,
    /// The axis of the classes, where the loss knows classes.
    axis: usize,
}

impl Training {
    /// Makes a training of a network of one output, for inputs of these dims.
    ///
    /// Channel distribution shifts are folded into scales and biases first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a smoothing outside of its range, a network of several outputs, or where nothing learns;
    /// [`Error::Node`] names a node that no gradient goes through.
    pub fn new(graph: &Graph, inputs: &[&[usize]], loss: Loss, learned: Learned) -> Result<Self> {
        if let Loss::CrossEntropy { smoothing } = loss
            && !(0.0..1.0).contains(&smoothing)
        {
            return Err(Error::invalid("smoothing", "0 to below 1", smoothing));
        }
        let mut graph = graph.clone();
        for weights in &mut graph.weights {
            if let Weights::DsConv(packed) = weights.as_ref()
                && packed.cds().is_some()
            {
                *weights = Arc::new(packed.fold_cds()?.into());
            }
        }
        let inputs = inputs.iter().map(|dims| dims.to_vec()).collect();
        let (program, parameters, axis) = (Program::default(), Vec::new(), 0);
        let mut this = Self { graph, inputs, loss, learned, program, parameters, axis };
        this.differentiate()?;
        Ok(this)
    }

    /// The network as it is now.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The network with its backward pass. Inputs: the network's, and the targets, of the scores' dims. Outputs: the
    /// scores, and gradients that [`read`](Self::read) takes apart.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// What learns.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The numbers of each parameter, as they are now.
    pub fn values(&self) -> Vec<Vec<f32>> {
        self.parameters.iter().map(|p| numbers(&self.graph, p).to_vec()).collect()
    }

    /// The bytes that [`step`](Self::step) takes for tensors.
    pub fn memory(&self) -> u64 {
        cpu::memory(&self.program)
    }

    /// Gives the parameters new numbers, which the graph and the program have from then on.
    ///
    /// # Errors
    /// Other lengths than [`values`](Self::values) has, or numbers that are not finite. The training is as before then.
    pub fn set(&mut self, values: &[Vec<f32>]) -> Result<()> {
        if values.len() != self.parameters.len() {
            let expected = format!("{} parameters", self.parameters.len());
            return Err(Error::invalid("values", expected, values.len()));
        }
        let mut graph = self.graph.clone();
        for (parameter, values) in self.parameters.iter().zip(values) {
            let weights = with(graph.weights(parameter.id), parameter.part, values)
                .map_err(|e| e.in_node(&parameter.layer, "parameter"))?;
            graph.weights[parameter.id.0] = Arc::new(weights);
        }
        let before = std::mem::replace(&mut self.graph, graph);
        self.differentiate().inspect_err(|_| self.graph = before)
    }

    /// The gradients for one batch, on the CPU.
    ///
    /// # Errors
    /// Inputs or targets of other lengths, rows of targets that don't sum to 1 where they are probabilities, or a program
    /// that needs more than [`cpu::MEMORY`].
    pub fn step(&self, inputs: &[&[f32]], targets: &[f32]) -> Result<Gradients> {
        let targets = self.targets(targets)?;
        let inputs: Vec<&[f32]> = inputs.iter().copied().chain([&targets[..]]).collect();
        self.read(cpu::run(&self.program, &inputs)?, &targets)
    }

    /// The targets as the program takes them: smoothed.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn targets(&self, targets: &[f32]) -> Result<Vec<f32>> {
        let dims = &self.program.value(self.program.outputs()[0]).dims;
        let count: usize = dims.iter().product();
        if targets.len() != count {
            let expected = format!("{count} elements, {dims:?}");
            return Err(Error::invalid("targets", expected, targets.len()));
        }
        let Loss::CrossEntropy { smoothing } = self.loss else { return Ok(targets.to_vec()) };
        let classes = dims[self.axis];
        for row in self.rows() {
            let sum: f64 = row.clone().map(|at| f64::from(targets[at])).sum();
            if !((sum - 1.0).abs() < 1e-3 && row.into_iter().all(|at| targets[at] >= 0.0)) {
                let expected = "rows of probabilities, whose sum is 1";
                return Err(Error::invalid("targets", expected, format!("a sum of {sum}")));
            }
        }
        let smoothed = |&target: &f32| target * (1.0 - smoothing) + smoothing / classes as f32;
        Ok(targets.iter().map(smoothed).collect())
    }

    /// Takes the outputs of a run of the [`program`](Self::program) apart; `targets` are those that it was given.
    ///
    /// # Errors
    /// Outputs of another number or other lengths than the program's.
    pub fn read(&self, outputs: Vec<Vec<f32>>, targets: &[f32]) -> Result<Gradients> {
        let lengths = self.program.outputs().iter().map(|&id| self.program.value(id).elements());
        let expected: Vec<usize> = lengths.collect();
        let got: Vec<usize> = outputs.iter().map(Vec::len).collect();
        if expected != got || targets.len() != expected[0] {
            return Err(Error::invalid("outputs", format!("{expected:?}"), format!("{got:?}")));
        }
        let mut outputs = outputs.into_iter();
        let scores = outputs.next().unwrap_or_default();
        let mut gradients = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let length = numbers(&self.graph, parameter).len();
            // The gradient of a KDS bias comes behind that of alpha.
            let both = match (parameter.part, gradients.last_mut()) {
                (Part::KdsBias, Some(alpha)) => Vec::split_off(alpha, length),
                _ => outputs.next().unwrap_or_default(),
            };
            gradients.push(both);
        }
        let loss = self.loss_of(&scores, targets);
        Ok(Gradients { loss, scores, gradients })
    }

    /// The places of each row of classes.
    fn rows(&self) -> impl Iterator<Item = impl Iterator<Item = usize> + Clone + use<>> + use<> {
        let dims = &self.program.value(self.program.outputs()[0]).dims;
        let inner: usize = dims[self.axis + 1..].iter().product();
        let (classes, count) = (dims[self.axis], dims.iter().product::<usize>());
        (0..count / classes).map(move |row| {
            let first = row / inner * inner * classes + row % inner;
            (0..classes).map(move |class| first + class * inner)
        })
    }

    fn loss_of(&self, scores: &[f32], targets: &[f32]) -> f64 {
        let (score, target) =
            (|at: usize| f64::from(scores[at]), |at: usize| f64::from(targets[at]));
        if self.loss == Loss::SquaredError {
            let squares = (0..scores.len()).map(|at| (score(at) - target(at)).powi(2));
            return squares.sum::<f64>() / scores.len() as f64;
        }
        let (mut sum, mut count) = (0.0, 0.0);
        for row in self.rows() {
            let largest = row.clone().map(score).fold(f64::MIN, f64::max);
            let total: f64 = row.clone().map(|at| (score(at) - largest).exp()).sum();
            sum += row.map(|at| target(at) * (total.ln() + largest - score(at))).sum::<f64>();
            count += 1.0;
        }
        sum / count
    }

    /// Makes the program of the graph as it is now, and lists its parameters.
    fn differentiate(&mut self) -> Result<()> {
        let dims: Vec<&[usize]> = self.inputs.iter().map(Vec::as_slice).collect();
        let program = self.graph.specialise(&dims)?;
        let &[output] = program.outputs() else {
            return Err(Error::invalid("network", "one output", program.outputs().len()));
        };
        let (scores, axis) = scores(&program, output, self.loss);
        let rank = program.value(scores).dims.len();
        if axis >= rank {
            return Err(Error::invalid("scores", "rows of classes", format!("rank {rank}")));
        }
        let head = program.steps().iter().find_map(|step| match &step.op {
            StepOp::Conv { weights, .. } if step.output == program.storage(scores) => {
                Some(weights.clone())
            }
            _ => None,
        });
        let learned = self.learned;
        let learns = |weights: &Arc<Weights>| {
            let is_head =
                learned.head && head.as_ref().is_some_and(|head| Arc::ptr_eq(head, weights));
            let (of_values, bias) = match weights.as_ref() {
                Weights::DsConv(packed) => (learned.scales, packed.bias()),
                Weights::Float(floats) => {
                    let geometry = floats.descriptor();
                    let is_depthwise = geometry.groups > 1 && geometry.channels_per_group() == 1;
                    let flag = if is_depthwise { learned.depthwise } else { learned.floats };
                    (flag, floats.bias())
                }
            };
            [of_values || is_head, bias.is_some() && (learned.biases || is_head)]
        };
        let slope = match self.loss {
            Loss::CrossEntropy { .. } => Slope::CrossEntropy { axis },
            Loss::SquaredError => Slope::SquaredError,
        };
        let wanted = Wanted { layer: &learns, inputs: &[] };
        let mut made = differentiate(program, scores, &slope, &wanted)?;
        // In the network's order; a layer that runs several times has the sum of its gradients.
        made.layers.reverse();
        let mut layers: Vec<(WeightsId, String, [Option<TensorId>; 2])> = Vec::new();
        for layer in made.layers.iter().filter(|layer| layer.parts != [None; 2]) {
            let id = self.id_of(&layer.weights, &layer.name)?;
            match layers.iter_mut().find(|other| other.0 == id) {
                Some((_, _, parts)) => {
                    for (sum, part) in parts.iter_mut().zip(layer.parts) {
                        if let (Some(sum), Some(part)) = (sum, part) {
                            *sum = added(&mut made.program, *sum, part);
                        }
                    }
                }
                None => layers.push((id, layer.name.clone(), layer.parts)),
            }
        }
        made.program.outputs = vec![scores];
        self.parameters.clear();
        for (id, layer, parts) in layers {
            let mut parameter = |part| {
                self.parameters.push(Parameter { layer: layer.clone(), part, id });
            };
            if parts[0].is_some() {
                match self.graph.weights(id).as_ref() {
                    Weights::Float(_) => parameter(Part::Values),
                    Weights::DsConv(packed) => {
                        parameter(Part::Alpha);
                        if packed.kds_bias().is_some() {
                            parameter(Part::KdsBias);
                        }
                    }
                }
            }
            if parts[1].is_some() {
                parameter(Part::Bias);
            }
            made.program.outputs.extend(parts.into_iter().flatten());
        }
        self.program = needed(made.program);
        self.axis = axis;
        Ok(())
    }

    /// The weights of the graph that a step's are, maybe with a padding of their own.
    fn id_of(&self, weights: &Arc<Weights>, name: &str) -> Result<WeightsId> {
        let same = |id: WeightsId| Arc::ptr_eq(self.graph.weights(id), weights);
        let by_name = || self.graph.convolutions().filter(|(node, _)| node.name == name);
        let ids: Vec<WeightsId> = by_name().map(|(_, id)| id).collect();
        let found = self.graph.convolutions().map(|(_, id)| id).find(|&id| same(id));
        match (found, &ids[..]) {
            (Some(id), _) | (None, &[id]) => Ok(id),
            _ => Err(Error::invalid(format!("node {name:?}"), "a name of its own", "several")),
        }
    }
}

/// The tensor that the loss is of, and the axis of its classes.
fn scores(program: &Program, output: TensorId, loss: Loss) -> (TensorId, usize) {
    let rank = program.value(output).dims.len();
    let axis = usize::from(rank > 1);
    if loss == Loss::SquaredError {
        return (output, 0);
    }
    if let Source::Step(index) = program.value(program.storage(output)).source
        && let StepOp::Softmax { axis } = program.steps()[index].op
    {
        return (program.steps()[index].inputs[0], axis);
    }
    (output, axis)
}

/// The sum of two tensors of the same dims, as another step.
fn added(program: &mut Program, a: TensorId, b: TensorId) -> TensorId {
    use crate::ir::op::Binary;
    use crate::ir::program::{Step, Value};
    let output = TensorId(program.values.len());
    let dims = program.value(a).dims.clone();
    let (name, source) = (format!("sum {}", output.index()), Source::Step(program.steps.len()));
    program.values.push(Value { name: name.clone(), dims, source });
    program.steps.push(Step { name, op: StepOp::Binary(Binary::Add), inputs: vec![a, b], output });
    output
}

/// The numbers of a parameter.
fn numbers<'a>(graph: &'a Graph, parameter: &Parameter) -> &'a [f32] {
    let weights = graph.weights(parameter.id).as_ref();
    match (weights, parameter.part) {
        (Weights::DsConv(weights), Part::Alpha | Part::Values) => weights.alpha(),
        (Weights::DsConv(weights), Part::KdsBias) => weights.kds_bias().unwrap_or(&[]),
        (Weights::DsConv(weights), Part::Bias) => weights.bias().unwrap_or(&[]),
        (Weights::Float(weights), Part::Bias) => weights.bias().unwrap_or(&[]),
        (Weights::Float(weights), _) => weights.values(),
    }
}

/// Weights with other numbers as that part.
fn with(weights: &Weights, part: Part, numbers: &[f32]) -> Result<Weights> {
    let numbers = numbers.to_vec();
    Ok(match (weights.clone(), part) {
        (Weights::DsConv(weights), Part::KdsBias) => weights.with_kds_bias(numbers)?.into(),
        (Weights::DsConv(weights), Part::Bias) => weights.with_bias(numbers)?.into(),
        (Weights::Float(weights), Part::Bias) => weights.with_bias(numbers)?.into(),
        (Weights::DsConv(old), _) => {
            let q: Vec<i32> = old.q().iter().map(|&q| q.into()).collect();
            let geometry = descriptor(weights);
            let mut new = DsConvWeights::from_integers(geometry, *old.format(), &q, numbers)?;
            if let Some(kds_bias) = old.kds_bias() {
                new = new.with_kds_bias(kds_bias.to_vec())?;
            }
            if let Some(bias) = old.bias() {
                new = new.with_bias(bias.to_vec())?;
            }
            new.into()
        }
        (Weights::Float(old), _) => {
            let new = FloatWeights::new(*old.descriptor(), numbers)?;
            match old.bias() {
                Some(bias) => new.with_bias(bias.to_vec())?.into(),
                None => new.into(),
            }
        }
    })
}

#[cfg(test)]
mod tests;
