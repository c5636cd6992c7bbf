//! A program while it is built: what is known of each value so far, and the folding of what is known beforehand.
//!
//! [`Builder`] holds the program; [`Context`] is the view of it that lowers one node.

use crate::cpu::{self, Operand};
use crate::ir::graph::{Graph, Kind, Node, ValueId, descriptor};
use crate::ir::op::{Binary, Unary};
use crate::ir::program::{Program, Source, Step, StepOp, TensorId, Value};
use crate::ir::tensor::{Data, Tensor, broadcast, elements, exact_floats, whole_numbers};
use crate::{Error, Result};
use dsconv::Weights;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Elements that folding may read and write in all, apart from what the model's own constants allow; what would pass
/// it stays a step.
pub(crate) const FOLDING_BUDGET: usize = 1 << 24;

/// The budget that a constant of so many elements adds: a model may be large, but not out of nothing.
pub(crate) const fn allowance(elements: usize) -> usize {
    elements.saturating_mul(4)
}

/// The bytes that may be made before a run, for each element of the folding's budget: 256 MB, and 16 times what the
/// model's own constants take.
const BYTES: u64 = 16;

/// Refuses more bytes made before a run than a budget of so many elements allows.
pub(crate) fn check_made(made: u64, budget: usize) -> Result<()> {
    let most = BYTES.saturating_mul(budget as u64);
    if made <= most {
        return Ok(());
    }
    let (most, made) = (most >> 20, made >> 20);
    let expected = format!("at most {most} MB in all for a model of this size");
    Err(Error::invalid("values computed before the run", expected, format!("{made} MB")))
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
    /// Bytes of values and weights made so far.
    pub(crate) made: u64,
}

/// A graph's value in the program that is being built.
#[derive(Clone, Debug)]
pub(crate) enum Lowered {
    /// Integers and bools that are known beforehand.
    Integer(Tensor),
    /// Floats are a tensor of the program; where they are known beforehand, its source is a [`Source::Constant`].
    Float(TensorId),
    /// Integers and bools that only the run knows: a tensor of floats that hold them.
    Whole(TensorId),
}

impl Lowered {
    /// The kind of its elements.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Float(_) => Kind::Float,
            Self::Integer(_) | Self::Whole(_) => Kind::Integer,
        }
    }
}

/// Integers that must be known.
pub(crate) fn integers<'a>(value: &'a Lowered, what: &str) -> Result<&'a [i64]> {
    match value {
        Lowered::Integer(tensor) => tensor.integers(what),
        Lowered::Float(_) => Err(Error::invalid(what, "integers", "floats")),
        Lowered::Whole(_) => {
            Err(Error::invalid(what, "integers known beforehand", "integers of the run"))
        }
    }
}

/// A program as far as it is built.
#[derive(Default)]
pub(crate) struct Builder {
    pub(crate) program: Program,
    pub(crate) lowered: HashMap<ValueId, Lowered>,
    /// Elements that folding has read and written so far.
    pub(crate) folded: usize,
    /// Bytes of values made so far.
    pub(crate) made: u64,
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
            Lowered::Float(id) | Lowered::Whole(id) => self.builder.program.value(*id).dims.clone(),
        }
    }

    /// Counts so many elements of 4 or 8 bytes that are about to be made.
    pub(crate) fn make(&mut self, count: usize, bytes: u64) -> Result<()> {
        let builder = &mut *self.builder;
        builder.made = builder.made.saturating_add(bytes.saturating_mul(count as u64));
        check_made(builder.made, builder.budget)
    }

    /// The elements of floats that are known beforehand.
    pub(crate) fn constant(&self, value: &Lowered) -> Option<Arc<Vec<f32>>> {
        match value {
            Lowered::Integer(_) => None,
            Lowered::Float(id) | Lowered::Whole(id) => {
                match &self.builder.program.value(*id).source {
                    Source::Constant(values) => Some(values.clone()),
                    _ => None,
                }
            }
        }
    }

    /// Adds a constant of floats.
    pub(crate) fn float(&mut self, dims: Vec<usize>, values: Vec<f32>) -> Result<Lowered> {
        self.make(values.len(), 4)?;
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
            Lowered::Float(id) | Lowered::Whole(id) => {
                let storage = self.builder.program.storage(*id);
                let source = match &self.builder.program.value(storage).source {
                    Source::Constant(values) => Source::Constant(values.clone()),
                    _ => Source::View(storage),
                };
                let view = self.builder.value(self.name, dims, source)?;
                Ok(match x {
                    Lowered::Float(_) => Lowered::Float(view),
                    _ => Lowered::Whole(view),
                })
            }
        }
    }

    /// Adds a step whose inputs are of one kind, which is the output's, or only its result where all that it reads is
    /// known beforehand.
    pub(crate) fn emit(
        &mut self,
        op: StepOp,
        inputs: &[Lowered],
        dims: Vec<usize>,
    ) -> Result<Lowered> {
        let floats = inputs.iter().filter(|x| matches!(x, Lowered::Float(_))).count();
        if floats == inputs.len() {
            return self.compute(op, inputs, dims, Kind::Float);
        }
        if floats > 0 {
            return Err(Error::invalid("inputs", "one type", "floats and integers"));
        }
        if let Some(known) = self.integers(&op, inputs, &dims)? {
            return Ok(known);
        }
        self.compute(op, inputs, dims, Kind::Integer)
    }

    /// Adds a step whose output is of that kind, or only its result where all that it reads is known beforehand.
    /// Integers are floats that hold them.
    pub(crate) fn compute(
        &mut self,
        op: StepOp,
        inputs: &[Lowered],
        dims: Vec<usize>,
        kind: Kind,
    ) -> Result<Lowered> {
        let count = elements("output", &dims)?;
        let ids = inputs.iter().map(|x| self.tensor(x)).collect::<Result<Vec<_>>>()?;
        if let Some(values) = self.fold(&op, &ids, &dims, count)? {
            return match kind {
                Kind::Float => self.float(dims, values),
                _ => {
                    self.make(count, 8)?;
                    Tensor::i64(dims, whole_numbers(&values)?).map(Lowered::Integer)
                }
            };
        }
        let program = &mut self.builder.program;
        let index = program.steps.len();
        let output = self.builder.value(self.name, dims, Source::Step(index))?;
        let step = Step { name: self.name.into(), op, inputs: ids, output };
        self.builder.program.steps.push(step);
        Ok(match kind {
            Kind::Float => Lowered::Float(output),
            _ => Lowered::Whole(output),
        })
    }

    /// The tensor of a value; integers that are known become a constant of floats that hold them.
    pub(crate) fn tensor(&mut self, value: &Lowered) -> Result<TensorId> {
        match value {
            Lowered::Float(id) | Lowered::Whole(id) => Ok(*id),
            Lowered::Integer(tensor) => {
                self.make(tensor.len(), 4)?;
                let values = exact_floats(tensor.integers("input")?, "input")?;
                let source = Source::Constant(Arc::new(values));
                self.builder.value(self.name, tensor.dims().to_vec(), source)
            }
        }
    }

    /// Adds a function of every element, whose result is of that kind.
    pub(crate) fn unary(&mut self, op: Unary, x: &Lowered, kind: Kind) -> Result<Lowered> {
        let dims = self.dims(x);
        self.compute(StepOp::Unary(op), std::slice::from_ref(x), dims, kind)
    }

    /// Adds a function of two tensors, which broadcast and whose result is of that kind.
    pub(crate) fn binary(
        &mut self,
        op: Binary,
        [a, b]: [&Lowered; 2],
        kind: Kind,
    ) -> Result<Lowered> {
        let dims = broadcast(&self.dims(a), &self.dims(b))?;
        self.compute(StepOp::Binary(op), &[a.clone(), b.clone()], dims, kind)
    }

    /// A single float, which broadcasts.
    pub(crate) fn number(&mut self, value: f32) -> Result<Lowered> {
        self.float(Vec::new(), vec![value])
    }

    /// The whole numbers from 0, along one axis of that rank.
    pub(crate) fn counting(&mut self, count: usize, axis: usize, rank: usize) -> Result<Lowered> {
        if count > MAX_INTEGERS {
            return Err(Error::invalid("axis", format!("at most {MAX_INTEGERS} long"), count));
        }
        let mut dims = vec![1; rank];
        dims[axis] = count;
        self.float(dims, (0..count).map(|place| place as f32).collect())
    }

    /// The result of an operation on integers in 64 bits, where all are known and there is such a form of it.
    fn integers(
        &mut self,
        op: &StepOp,
        inputs: &[Lowered],
        dims: &[usize],
    ) -> Result<Option<Lowered>> {
        if inputs.iter().any(|x| matches!(x, Lowered::Whole(_))) {
            return Ok(None);
        }
        let count = elements("output", dims)?;
        self.builder.folded = self.builder.folded.saturating_add(count);
        if count > MAX_INTEGERS || self.builder.folded > self.builder.budget {
            let expected =
                format!("at most {MAX_INTEGERS} integers, {} in all", self.builder.budget);
            return Err(Error::invalid("output", expected, format!("{dims:?}")));
        }
        self.make(count, 8)?;
        let operands: Option<Vec<Operand<'_, i64>>> = inputs
            .iter()
            .map(|x| match x {
                Lowered::Integer(tensor) => {
                    let values = tensor.integers("input").ok()?;
                    Some(Operand { dims: tensor.dims(), values })
                }
                _ => None,
            })
            .collect();
        let operands =
            operands.ok_or_else(|| Error::invalid("inputs", "one type", "floats and integers"))?;
        let values = match op {
            StepOp::Binary(binary) => {
                // A list of results would take ten times the memory.
                let refused = OnceLock::new();
                let result = |a, b| {
                    cpu::integer(*binary, a, b).unwrap_or_else(|| refused.get_or_init(|| (a, b)).0)
                };
                let values = cpu::binary_map(&operands, dims, result);
                if let Some((a, b)) = refused.get() {
                    let got = format!("{binary:?} of {a} and {b}");
                    return Err(Error::invalid("integers", "a result in 64 bits", got));
                }
                values
            }
            _ => match cpu::rearrange(op, &operands, dims) {
                Some(values) => values,
                None => return Ok(None),
            },
        };
        Tensor::i64(dims, values).map(Lowered::Integer).map(Some)
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
        let made = self.builder.made.saturating_add(4 * count as u64);
        if heavy
            || count == 0
            || self.builder.folded.saturating_add(work) > self.builder.budget
            || check_made(made, self.builder.budget).is_err()
        {
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
        let weights = weights.clone();
        self.make(descriptor(&weights).weight_count(), 4)?;
        let padded = Arc::new(weights.as_ref().clone().with_padding(padding)?);
        self.builder.padded.insert((index, padding), padded.clone());
        Ok(padded)
    }
}
