//! A program while it is built: what is known of each value so far, and the folding of what is known beforehand.
//!
//! [`Builder`] holds the program; [`Context`] is the view of it that lowers one node.

use crate::cpu::{self, Operand};
use crate::ir::graph::{Graph, Node, ValueId, descriptor};
use crate::ir::program::{Program, Source, Step, StepOp, TensorId, Value};
use crate::ir::tensor::{Data, Tensor, elements};
use crate::{Error, Result};
use dsconv::Weights;
use std::collections::HashMap;
use std::sync::Arc;

/// Elements that folding may read and write in all, apart from what the model's own constants allow; what would pass
/// it stays a step.
pub(crate) const FOLDING_BUDGET: usize = 1 << 24;

/// The budget that a constant of so many elements adds: a model may be large, but not out of nothing.
pub(crate) const fn allowance(elements: usize) -> usize {
    elements.saturating_mul(4)
}

/// The most integers of a tensor of shape arithmetic.
const MAX_INTEGERS: usize = 1 << 22;

/// Counts over all nodes of a graph how much was folded while it was made, and how much its constants allow.
#[derive(Default)]
pub(crate) struct FoldingBudget {
    /// Elements read and written so far.
    pub(crate) done: usize,
    /// Elements that the model's own constants allow.
    pub(crate) allowed: usize,
}

/// A graph's value in the program that is being built.
#[derive(Clone, Debug)]
pub(crate) enum Lowered {
    /// Integers are always known beforehand, and never reach the program.
    Integer(Tensor),
    /// Floats are a tensor of the program; where they are known beforehand, its source is a [`Source::Constant`].
    Float(TensorId),
}

/// Integers, which are always known.
pub(crate) fn integers<'a>(value: &'a Lowered, what: &str) -> Result<&'a [i64]> {
    match value {
        Lowered::Integer(tensor) => tensor.integers(what),
        Lowered::Float(_) => Err(Error::invalid(what, "integers", "floats")),
    }
}

/// A program as far as it is built.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) program: Program,
    pub(crate) lowered: HashMap<ValueId, Lowered>,
    /// Elements that folding has read and written so far.
    pub(crate) folded: usize,
    /// Elements that folding may read and write.
    budget: usize,
    /// Weights whose padding follows from the input's size.
    padded: HashMap<(usize, [u32; 4]), Arc<Weights>>,
}

impl Builder {
    /// Starts an empty program. Folding may read and write `budget` elements, of which `folded` are used up.
    pub(crate) fn new(budget: usize, folded: usize) -> Self {
        Self { budget, folded, ..Self::default() }
    }

    /// Adds a constant of the graph.
    pub(crate) fn constant(&mut self, graph: &Graph, id: ValueId, tensor: &Tensor) -> Result<()> {
        let lowered = match tensor.data() {
            Data::I64(_) => Lowered::Integer(tensor.clone()),
            Data::F32(values) if !values.is_empty() => {
                let source = Source::Constant(values.clone());
                Lowered::Float(self.value(&graph.values[id.0], tensor.dims().to_vec(), source)?)
            }
            // Whoever reads it gets an error.
            Data::F32(_) => return Ok(()),
        };
        self.lowered.insert(id, lowered);
        Ok(())
    }

    /// The lowered inputs of a node.
    pub(crate) fn inputs(&self, graph: &Graph, node: &Node) -> Result<Vec<Lowered>> {
        let inputs = node.inputs.iter().map(|id| {
            let lowered = self.lowered.get(id).cloned();
            let name = || graph.values.get(id.0).cloned().unwrap_or_default();
            lowered.ok_or_else(|| {
                Error::invalid(format!("input {:?}", name()), "a known value", "none")
            })
        });
        inputs.collect()
    }

    /// Adds a tensor.
    pub(crate) fn value(
        &mut self,
        name: &str,
        dims: Vec<usize>,
        source: Source,
    ) -> Result<TensorId> {
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
    pub(crate) builder: &'a mut Builder,
    pub(crate) graph: &'a Graph,
    /// The name of the steps and tensors that the node becomes.
    pub(crate) name: &'a str,
}

impl Context<'_> {
    /// The dims of a value.
    pub(crate) fn dims(&self, value: &Lowered) -> Vec<usize> {
        match value {
            Lowered::Integer(tensor) => tensor.dims().to_vec(),
            Lowered::Float(id) => self.builder.program.value(*id).dims.clone(),
        }
    }

    /// The elements of floats that are known beforehand.
    pub(crate) fn constant(&self, value: &Lowered) -> Option<Arc<Vec<f32>>> {
        match value {
            Lowered::Integer(_) => None,
            Lowered::Float(id) => match &self.builder.program.value(*id).source {
                Source::Constant(values) => Some(values.clone()),
                _ => None,
            },
        }
    }

    /// Adds a constant of floats.
    pub(crate) fn float(&mut self, dims: Vec<usize>, values: Vec<f32>) -> Result<Lowered> {
        self.builder.value(self.name, dims, Source::Constant(Arc::new(values))).map(Lowered::Float)
    }

    /// Gives the same elements other dims.
    pub(crate) fn view(&mut self, x: &Lowered, dims: Vec<usize>) -> Result<Lowered> {
        let from = self.dims(x);
        if from == dims {
            return Ok(x.clone());
        }
        if elements("dims", &from)? != elements("dims", &dims)? {
            let expected = format!("dims of as many elements as {from:?}");
            return Err(Error::invalid("dims", expected, format!("{dims:?}")));
        }
        match x {
            Lowered::Integer(tensor) => Ok(Lowered::Integer(tensor.clone().with_dims(dims)?)),
            Lowered::Float(id) => {
                let id = self.builder.program.storage(*id);
                let source = match &self.builder.program.value(id).source {
                    Source::Constant(values) => Source::Constant(values.clone()),
                    _ => Source::View(id),
                };
                self.builder.value(self.name, dims, source).map(Lowered::Float)
            }
        }
    }

    /// Adds a step, or only its result where all that it reads is known beforehand.
    pub(crate) fn emit(
        &mut self,
        op: StepOp,
        inputs: &[Lowered],
        dims: Vec<usize>,
    ) -> Result<Lowered> {
        let count = elements("output", &dims)?;
        if inputs.iter().any(|x| matches!(x, Lowered::Integer(_))) {
            return self.integers(&op, inputs, dims, count);
        }
        let ids: Vec<TensorId> = inputs
            .iter()
            .filter_map(|x| match x {
                Lowered::Float(id) => Some(*id),
                Lowered::Integer(_) => None,
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
        Ok(Lowered::Float(output))
    }

    /// The result of an operation on integers.
    fn integers(
        &mut self,
        op: &StepOp,
        inputs: &[Lowered],
        dims: Vec<usize>,
        count: usize,
    ) -> Result<Lowered> {
        self.builder.folded = self.builder.folded.saturating_add(count);
        if count > MAX_INTEGERS || self.builder.folded > self.builder.budget {
            let expected =
                format!("at most {MAX_INTEGERS} integers, {} in all", self.builder.budget);
            return Err(Error::invalid("output", expected, format!("{dims:?}")));
        }
        let operands: Option<Vec<Operand<'_, i64>>> = inputs
            .iter()
            .map(|x| match x {
                Lowered::Integer(tensor) => {
                    let values = tensor.integers("input").ok()?;
                    Some(Operand { dims: tensor.dims(), values })
                }
                Lowered::Float(_) => None,
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
        Tensor::i64(dims, values).map(Lowered::Integer)
    }

    /// The result of an operation on floats, where they are known beforehand and the budget allows it.
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

    /// A convolution's weights with a padding that follows from the input's size; the graph's own where it is theirs.
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
