//! From a graph to a program: shapes become static, shape arithmetic and constants fold away.

use crate::cpu::{self, Operand};
use crate::graph::{Graph, Node, ValueId, descriptor};
use crate::program::{Program, Source, Step, StepOp, TensorId, Value};
use crate::tensor::{Data, Tensor, elements};
use crate::{Error, Result, fuse, lower};
use dsconv::Weights;
use std::collections::HashMap;
use std::sync::Arc;

/// Elements that folding may read and write in all, apart from what the model's own constants allow; what would pass
/// it stays a step.
const FOLDING_BUDGET: usize = 1 << 24;

/// The budget that a constant of so many elements adds: a model may be large, but not out of nothing.
pub(crate) const fn allowance(elements: usize) -> usize {
    elements.saturating_mul(4)
}

/// The most integers of a tensor of shape arithmetic.
const MAX_INTEGERS: usize = 1 << 22;

impl Graph {
    /// The program for inputs of these dims, in the inputs' order.
    ///
    /// # Errors
    /// Dims that do not fit the graph; the error names the node and what it expected.
    pub fn specialise(&self, inputs: &[&[usize]]) -> Result<Program> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::invalid("inputs", self.inputs.len().to_string(), inputs.len()));
        }
        let constants = self.constants.values().map(|tensor| allowance(tensor.len()));
        let budget = constants.fold(FOLDING_BUDGET, usize::saturating_add);
        let mut builder = Builder { budget, ..Builder::default() };
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
            builder.known.insert(input.value, Known::Float(id));
        }
        for (&id, tensor) in &self.constants {
            builder.constant(self, id, tensor)?;
        }
        for node in &self.nodes {
            let known =
                builder.node(self, node).map_err(|e| e.in_node(&node.name, node.op.name()))?;
            builder.known.insert(node.output, known);
        }
        for output in &self.outputs {
            match builder.known.get(&output.value) {
                Some(&Known::Float(id)) => {
                    builder.program.outputs.push(id);
                }
                Some(Known::Integer(_)) => {
                    return Err(Error::invalid(
                        format!("output {:?}", output.name),
                        "floats",
                        "integers",
                    ));
                }
                None => {
                    return Err(Error::invalid(
                        format!("output {:?}", output.name),
                        "a value that a node computes",
                        "none",
                    ));
                }
            }
        }
        Ok(needed(fuse::fuse(builder.program)))
    }
}

/// The result of a node that reads constants only, where it can be told without much work. `folding` counts that
/// over all nodes of a graph.
pub(crate) fn constant(
    graph: &Graph,
    node: &Node,
    folding: &mut Folding,
) -> Result<Option<Tensor>> {
    let budget = FOLDING_BUDGET.saturating_add(folding.allowed);
    let mut builder = Builder { folded: folding.done, budget, ..Builder::default() };
    for id in &node.inputs {
        let Some(tensor) = graph.constants.get(id) else { return Ok(None) };
        builder.constant(graph, *id, tensor)?;
    }
    let known = builder.node(graph, node).map_err(|e| e.in_node(&node.name, node.op.name()))?;
    folding.done = builder.folded;
    Ok(match known {
        Known::Integer(tensor) => Some(tensor),
        Known::Float(id) => {
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

/// How much was folded while a graph was made, in elements, and what its constants allow.
#[derive(Default)]
pub(crate) struct Folding {
    done: usize,
    pub(crate) allowed: usize,
}

/// What is known of a value while a program is built.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Integers are always known.
    Integer(Tensor),
    /// Floats; those known beforehand have a [`Source::Constant`].
    Float(TensorId),
}

/// A program as far as it is built.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) program: Program,
    known: HashMap<ValueId, Known>,
    folded: usize,
    budget: usize,
    /// Weights whose padding follows from the input's size.
    padded: HashMap<(usize, [u32; 4]), Arc<Weights>>,
}

impl Builder {
    fn constant(&mut self, graph: &Graph, id: ValueId, tensor: &Tensor) -> Result<()> {
        let known = match tensor.data() {
            Data::I64(_) => Known::Integer(tensor.clone()),
            Data::F32(values) if !values.is_empty() => {
                let source = Source::Constant(values.clone());
                Known::Float(self.value(&graph.values[id.0], tensor.dims().to_vec(), source)?)
            }
            // Whoever reads it gets an error.
            Data::F32(_) => return Ok(()),
        };
        self.known.insert(id, known);
        Ok(())
    }

    fn node(&mut self, graph: &Graph, node: &Node) -> Result<Known> {
        let inputs = node.inputs.iter().map(|id| {
            let known = self.known.get(id).cloned();
            let name = || graph.values.get(id.0).cloned().unwrap_or_default();
            known.ok_or_else(|| {
                Error::invalid(format!("input {:?}", name()), "a known value", "none")
            })
        });
        let inputs: Vec<Known> = inputs.collect::<Result<_>>()?;
        let name = if graph.outputs.iter().any(|output| output.value == node.output) {
            &graph.values[node.output.0]
        } else {
            &node.name
        };
        lower::lower(&mut Context { builder: self, graph, name }, &node.op, &inputs)
    }

    fn value(&mut self, name: &str, dims: Vec<usize>, source: Source) -> Result<TensorId> {
        if elements(name, &dims)? == 0 {
            return Err(Error::invalid(
                format!("dims of {name:?}"),
                "no empty tensor of floats",
                format!("{dims:?}"),
            ));
        }
        self.program.values.push(Value { name: name.into(), dims, source });
        Ok(TensorId(self.program.values.len() - 1))
    }
}

/// A builder while it lowers one node.
pub(crate) struct Context<'a> {
    builder: &'a mut Builder,
    pub(crate) graph: &'a Graph,
    name: &'a str,
}

impl Context<'_> {
    pub(crate) fn dims(&self, known: &Known) -> Vec<usize> {
        match known {
            Known::Integer(tensor) => tensor.dims().to_vec(),
            Known::Float(id) => self.builder.program.value(*id).dims.clone(),
        }
    }

    /// The elements of floats known beforehand.
    pub(crate) fn constant(&self, known: &Known) -> Option<Arc<Vec<f32>>> {
        match known {
            Known::Integer(_) => None,
            Known::Float(id) => match &self.builder.program.value(*id).source {
                Source::Constant(values) => Some(values.clone()),
                _ => None,
            },
        }
    }

    /// A constant.
    pub(crate) fn float(&mut self, dims: Vec<usize>, values: Vec<f32>) -> Result<Known> {
        self.builder.value(self.name, dims, Source::Constant(Arc::new(values))).map(Known::Float)
    }

    /// The same elements with other dims.
    pub(crate) fn view(&mut self, x: &Known, dims: Vec<usize>) -> Result<Known> {
        let from = self.dims(x);
        if from == dims {
            return Ok(x.clone());
        }
        if elements("dims", &from)? != elements("dims", &dims)? {
            let expected = format!("dims of as many elements as {from:?}");
            return Err(Error::invalid("dims", expected, format!("{dims:?}")));
        }
        match x {
            Known::Integer(tensor) => Ok(Known::Integer(tensor.clone().with_dims(dims)?)),
            Known::Float(id) => {
                let id = self.builder.program.storage(*id);
                let source = match &self.builder.program.value(id).source {
                    Source::Constant(values) => Source::Constant(values.clone()),
                    _ => Source::View(id),
                };
                self.builder.value(self.name, dims, source).map(Known::Float)
            }
        }
    }

    /// A step, or its result where all that it reads is known.
    pub(crate) fn emit(&mut self, op: StepOp, inputs: &[Known], dims: Vec<usize>) -> Result<Known> {
        let count = elements("output", &dims)?;
        if inputs.iter().any(|x| matches!(x, Known::Integer(_))) {
            return self.integers(&op, inputs, dims, count);
        }
        let ids: Vec<TensorId> = inputs
            .iter()
            .filter_map(|x| match x {
                Known::Float(id) => Some(*id),
                Known::Integer(_) => None,
            })
            .collect();
        if let Some(values) = self.fold(&op, &ids, &dims, count)? {
            return self.float(dims, values);
        }
        let program = &mut self.builder.program;
        let index = program.steps.len();
        let output = self.builder.value(self.name, dims, Source::Step(index))?;
        let step = Step { name: self.name.into(), op, inputs: ids, output };
        self.builder.program.steps.push(step);
        Ok(Known::Float(output))
    }

    fn integers(
        &mut self,
        op: &StepOp,
        inputs: &[Known],
        dims: Vec<usize>,
        count: usize,
    ) -> Result<Known> {
        self.builder.folded = self.builder.folded.saturating_add(count);
        if count > MAX_INTEGERS || self.builder.folded > self.builder.budget {
            let expected =
                format!("at most {MAX_INTEGERS} integers, {} in all", self.builder.budget);
            return Err(Error::invalid("output", expected, format!("{dims:?}")));
        }
        let operands: Option<Vec<Operand<'_, i64>>> = inputs
            .iter()
            .map(|x| match x {
                Known::Integer(tensor) => {
                    let values = tensor.integers("input").ok()?;
                    Some(Operand { dims: tensor.dims(), values })
                }
                Known::Float(_) => None,
            })
            .collect();
        let operands =
            operands.ok_or_else(|| Error::invalid("inputs", "one type", "floats and integers"))?;
        let values = match op {
            StepOp::Binary(binary) => {
                let result = |a, b| {
                    cpu::integer(*binary, a, b).ok_or_else(|| {
                        let got = format!("{binary:?} of {a} and {b}");
                        Error::invalid("integers", "a result in 64 bits", got)
                    })
                };
                cpu::binary_map(&operands, &dims, result).into_iter().collect::<Result<_>>()?
            }
            _ => cpu::rearrange(op, &operands, &dims).ok_or_else(|| {
                Error::invalid(
                    "inputs",
                    "floats",
                    format!("integers of dims {:?}", operands[0].dims),
                )
            })?,
        };
        Tensor::i64(dims, values).map(Known::Integer)
    }

    fn fold(
        &mut self,
        op: &StepOp,
        inputs: &[TensorId],
        dims: &[usize],
        count: usize,
    ) -> Result<Option<Vec<f32>>> {
        let program = &self.builder.program;
        let operands: Option<Vec<Operand<'_, f32>>> = inputs
            .iter()
            .map(|&id| {
                let value = program.value(id);
                let Source::Constant(values) = &value.source else { return None };
                Some(Operand { dims: &value.dims, values })
            })
            .collect();
        let Some(operands) = operands else { return Ok(None) };
        // These take more work than their operands have elements.
        let heavy = matches!(
            op,
            StepOp::Conv { .. } | StepOp::ConvTranspose(_) | StepOp::Pool(_) | StepOp::MatMul
        );
        let work = operands.iter().map(|x| x.values.len()).sum::<usize>() + count;
        if heavy || count == 0 || self.builder.folded.saturating_add(work) > self.builder.budget {
            return Ok(None);
        }
        let values = cpu::evaluate(op, &operands, dims)?;
        self.builder.folded += work;
        Ok(Some(values))
    }

    /// Weights with a padding that follows from the input's size; shared where it is their own.
    pub(crate) fn padded(&mut self, index: usize, padding: [u32; 4]) -> Result<Arc<Weights>> {
        let weights = self.graph.weights.get(index).ok_or_else(|| {
            Error::invalid("weights", format!("below {}", self.graph.weights.len()), index)
        })?;
        if descriptor(weights).padding == padding {
            return Ok(weights.clone());
        }
        if let Some(weights) = self.builder.padded.get(&(index, padding)) {
            return Ok(weights.clone());
        }
        let padded = Arc::new(weights.as_ref().clone().with_padding(padding)?);
        self.builder.padded.insert((index, padding), padded.clone());
        Ok(padded)
    }
}

/// The program without what no output needs.
fn needed(program: Program) -> Program {
    let mut keep = vec![false; program.values.len()];
    let mark = |keep: &mut Vec<bool>, id: TensorId| {
        keep[id.0] = true;
        keep[program.storage(id).0] = true;
    };
    for &id in program.outputs.iter().chain(&program.inputs) {
        mark(&mut keep, id);
    }
    let mut kept = Vec::new();
    for step in program.steps.iter().rev() {
        if keep[step.output.0] {
            step.inputs.iter().for_each(|&id| mark(&mut keep, id));
            kept.push(step.clone());
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
