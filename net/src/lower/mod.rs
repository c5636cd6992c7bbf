//! Lowering: from a graph to a program for one set of input shapes.
//!
//! [`Graph::specialise`] goes through the nodes in their order. Each becomes a few steps, or nothing: shapes become
//! static, shape arithmetic and constants fold away. Then activations and residual additions are fused into the
//! convolutions before them, and what no output needs is dropped.
//!
//! Read [`builder`] first (the program so far, and what is known of each value), then [`node`], which lowers one
//! operator after the other with the help of [`rearrange`] (what only moves elements), [`constant`]
//! (casts, ranges, comparisons), [`resize`] and [`window`] (convolutions and pools), then [`fuse`]. Compositions of
//! other steps are in [`order`] (largest elements, sums up to each), [`indexed`] (places that the run may compute),
//! [`einsum`], [`sample`] (grids and boxes) and [`recurrent`]. [`fold`] comes
//! before all that: it rewrites a graph once, when it is imported.

mod builder;
mod constant;
mod einsum;
pub(crate) mod fold;
mod fuse;
mod indexed;
mod node;
mod order;
mod rearrange;
mod recurrent;
mod resize;
mod sample;
pub(crate) mod window;

pub(crate) use builder::{FoldingBudget, allowance};

use crate::ir::graph::{Graph, Kind, Node, Op, Output, ValueId, descriptor};
use crate::ir::program::{Program, Source, TensorId, Value};
use crate::ir::tensor::Tensor;
use crate::{Error, Result};
use builder::{Builder, Context, FOLDING_BUDGET, Lowered, check_made};

impl Graph {
    /// The program for inputs of these dims, in the inputs' order.
    ///
    /// # Errors
    /// Dims that do not fit the graph; the error names the node and what it expected.
    pub fn specialise(&self, inputs: &[&[usize]]) -> Result<Program> {
        Ok(needed(fuse::fuse(self.lower(inputs)?.program)))
    }

    /// Checks that no node reads the rows of a suppression: how many there are is known behind the run only.
    fn check_suppressed(&self) -> Result<()> {
        let suppressed = self.nodes.iter().filter(|node| matches!(node.op, Op::Suppress { .. }));
        for node in suppressed {
            if let Some(reader) =
                self.nodes.iter().find(|other| other.inputs.contains(&node.output))
            {
                let expected =
                    "an output of the network, as the number of rows is known behind the run only";
                let got = format!("a value that node {:?} reads", reader.name);
                return Err(Error::invalid("selected boxes", expected, got)
                    .in_node(&node.name, "NonMaxSuppression"));
            }
        }
        Ok(())
    }

    /// All nodes lowered, before fusion.
    fn lower(&self, inputs: &[&[usize]]) -> Result<Builder> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::invalid("inputs", self.inputs.len().to_string(), inputs.len()));
        }
        let constants = self.constants.values().map(Tensor::len);
        let weights = self.weights.iter().map(|weights| descriptor(weights).weight_count());
        let budget = constants.chain(weights).map(allowance);
        let budget = budget.fold(FOLDING_BUDGET, usize::saturating_add);
        let mut builder = Builder::new(budget, 0);
        for (index, (input, &dims)) in self.inputs.iter().zip(inputs).enumerate() {
            let fits = input.dims.len() == dims.len()
                && input.dims.iter().zip(dims).all(|(want, dim)| want.is_none_or(|w| w == *dim));
            if !fits {
                let expected: Vec<_> = input
                    .dims
                    .iter()
                    .map(|dim| dim.map_or("?".into(), |d| d.to_string()))
                    .collect();
                let expected = format!("dims [{}]", expected.join(", "));
                return Err(Error::invalid(
                    format!("input {:?}", input.name),
                    expected,
                    format!("{dims:?}"),
                ));
            }
            let id = builder.value(&input.name, dims.to_vec(), Source::Input(index))?;
            builder.program.inputs.push(id);
            let lowered = match input.kind {
                Kind::Float => Lowered::Float(id),
                Kind::Integer | Kind::Bool => Lowered::Whole(id),
            };
            builder.lowered.insert(input.value, lowered);
        }
        for (&id, tensor) in &self.constants {
            builder.constant(self, id, tensor)?;
        }
        self.check_suppressed()?;
        // A branch that is not taken may be wrong for this size: then an error counts where an output misses something.
        let has_branches = self.nodes.iter().any(|node| node.op == Op::Choose);
        let mut failure = None;
        for node in &self.nodes {
            match lower_node(&mut builder, self, node) {
                Ok(lowered) => {
                    builder.lowered.insert(node.output, lowered);
                }
                Err(error) if has_branches => {
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        for output in &self.outputs {
            let Some(lowered) = builder.lowered.get(&output.value).cloned() else {
                let field = format!("output {:?}", output.name);
                return Err(failure.unwrap_or_else(|| {
                    Error::invalid(field, "a value that a node computes", "none")
                }));
            };
            let mut context = Context { builder: &mut builder, graph: self, name: &output.name };
            let id = context.tensor(&lowered)?;
            builder.program.outputs.push(id);
        }
        Ok(builder)
    }
}

/// The result of a node that reads constants only, where it can be told without much work; `folding` counts that work
/// over all nodes of a graph. The importer asks this for every node that it makes.
pub(crate) fn evaluate_constant(
    graph: &Graph,
    node: &Node,
    folding: &mut FoldingBudget,
) -> Result<Option<Tensor>> {
    let budget = FOLDING_BUDGET.saturating_add(folding.allowed);
    let mut builder = Builder::new(budget, folding.done);
    builder.made = folding.made;
    for id in &node.inputs {
        let Some(tensor) = graph.constants.get(id) else { return Ok(None) };
        builder.constant(graph, *id, tensor)?;
    }
    let lowered = lower_node(&mut builder, graph, node)?;
    folding.done = builder.folded;
    folding.made = builder.made;
    Ok(match lowered {
        Lowered::Integer(tensor) => Some(tensor),
        // Only the run knows it: a constant would be an integer.
        Lowered::Whole(_) => None,
        Lowered::Float(id) => {
            let value = builder.program.value(id);
            match &value.source {
                Source::Constant(values) => {
                    Some(Tensor::shared(value.dims.clone(), values.clone())?)
                }
                _ => None,
            }
        }
    })
}

/// The dims of a value of a graph that is being imported, and its elements where they are integers that follow from
/// dims; where all inputs have fixed dims.
pub(crate) fn known(graph: &Graph, value: ValueId) -> Option<(Vec<usize>, Option<Tensor>)> {
    let dims: Vec<Vec<usize>> = graph
        .inputs
        .iter()
        .map(|input| input.dims.iter().copied().collect())
        .collect::<Option<_>>()?;
    let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
    let output = Output { name: String::new(), dims: None, value };
    let (nodes, needed) = fold::needed(&graph.nodes, std::slice::from_ref(&output));
    let mut part = Graph { nodes, outputs: vec![output], ..graph.clone() };
    part.constants.retain(|id, _| needed.contains(id));
    let builder = part.lower(&dims).ok()?;
    Some(match builder.lowered.get(&value)? {
        Lowered::Integer(tensor) => (tensor.dims().to_vec(), Some(tensor.clone())),
        Lowered::Float(id) | Lowered::Whole(id) => (builder.program.value(*id).dims.clone(), None),
    })
}

/// Lowers a node whose inputs are lowered.
fn lower_node(builder: &mut Builder, graph: &Graph, node: &Node) -> Result<Lowered> {
    if let (Op::Choose, &[condition, a, b]) = (&node.op, &node.inputs[..]) {
        let read = |id| {
            let lowered = builder.lowered.get(&id).cloned();
            lowered.ok_or_else(|| Error::invalid("branch", "a value that a node computes", "none"))
        };
        let condition = read(condition)?;
        return match builder::integers(&condition, "condition")? {
            &[condition] => read(if condition != 0 { a } else { b }),
            values => Err(Error::invalid("condition", "one bool", values.len())),
        };
    }
    // What an output of the graph shows keeps the output's name.
    let name = if graph.outputs.iter().any(|output| output.value == node.output) {
        &graph.values[node.output.0]
    } else {
        &node.name
    };
    let lowered = builder
        .inputs(graph, node)
        .and_then(|inputs| node::lower(&mut Context { builder, graph, name }, &node.op, &inputs));
    lowered.map_err(|e| e.in_node(&node.name, node.op.name()))
}

/// The program without what no output needs.
pub(crate) fn needed(mut program: Program) -> Program {
    let mut keep = vec![false; program.values.len()];
    // Moved, as a step's tables may be large.
    let steps = std::mem::take(&mut program.steps);
    let mark = |keep: &mut Vec<bool>, id: TensorId| {
        keep[id.0] = true;
        keep[program.storage(id).0] = true;
    };
    for &id in program.outputs.iter().chain(&program.inputs) {
        mark(&mut keep, id);
    }
    let mut kept = Vec::new();
    for step in steps.into_iter().rev() {
        if keep[step.output.0] {
            step.inputs.iter().for_each(|&id| mark(&mut keep, id));
            kept.push(step);
        }
    }
    kept.reverse();
    let mut places = vec![TensorId(usize::MAX); program.values.len()];
    let mut values: Vec<Value> = Vec::new();
    for (index, value) in program.values.into_iter().enumerate().filter(|(index, _)| keep[*index]) {
        places[index] = TensorId(values.len());
        values.push(value);
    }
    let place = |id: &mut TensorId| *id = places[id.0];
    for (index, step) in kept.iter_mut().enumerate() {
        step.inputs.iter_mut().for_each(place);
        place(&mut step.output);
        values[step.output.0].source = Source::Step(index);
    }
    for value in &mut values {
        if let Source::View(of) = &mut value.source {
            place(of);
        }
    }
    let moved = |mut ids: Vec<TensorId>| {
        ids.iter_mut().for_each(place);
        ids
    };
    Program { values, inputs: moved(program.inputs), outputs: moved(program.outputs), steps: kept }
}

/// Refuses a graph for which more was made while it was imported than its own constants allow.
pub(crate) fn check_folding(folding: &FoldingBudget) -> Result<()> {
    check_made(folding.made, FOLDING_BUDGET.saturating_add(folding.allowed))
}
