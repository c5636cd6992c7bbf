//! Lowering of recurrent networks: a few steps for each element of the sequence, whose length is known.

use super::builder::{Context, Lowered, integers};
use crate::ir::graph::{Cell, Kind, Recurrent};
use crate::ir::op::{Binary, Unary};
use crate::ir::program::StepOp;
use crate::{Error, Result};
use dsconv::Activation;

/// The longest sequence, over both directions: each element takes about twenty steps.
const LONGEST: usize = 2048;

/// The number of gates of a cell.
fn gates(cell: Cell) -> usize {
    match cell {
        Cell::Rnn => 1,
        Cell::Gru { .. } => 3,
        Cell::Lstm { .. } => 4,
    }
}

/// One direction of a network, while it is lowered.
struct Direction<'a> {
    recurrent: &'a Recurrent,
    functions: &'a [Unary],
    batch: usize,
    /// The weights of the state (H, G), and the bias that is added to their product (1, G).
    state_weights: Lowered,
    state_bias: Lowered,
    /// The peepholes of input, output and forget gate, (1, H).
    peepholes: Vec<Lowered>,
}

/// Lowers a recurrent network.
pub(crate) fn recurrent(
    context: &mut Context<'_>,
    recurrent: &Recurrent,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let (hidden, directions) = (recurrent.hidden, recurrent.reverse.len());
    let columns = gates(recurrent.cell) * hidden;
    let &[length, batch, features] = &context.dims(&inputs[0])[..] else {
        let got = format!("{:?}", context.dims(&inputs[0]));
        return Err(Error::invalid("X", "(length, batch, features)", got));
    };
    let mut expected = vec![
        vec![directions, columns, features],
        vec![directions, columns, hidden],
        vec![directions, 2 * columns],
    ];
    let lstm = matches!(recurrent.cell, Cell::Lstm { .. });
    if lstm {
        expected.push(vec![directions, 3 * hidden]);
    }
    let further = 1 + expected.len();
    let state = vec![directions, batch, hidden];
    let given = [vec![batch], state.clone(), state];
    expected
        .extend(given.iter().zip(recurrent.given).filter(|(_, is)| *is).map(|(d, _)| d.clone()));
    if inputs.len() != 1 + expected.len() || directions == 0 {
        return Err(Error::invalid("inputs", (1 + expected.len()).to_string(), inputs.len()));
    }
    for (input, expected) in inputs[1..].iter().zip(&expected) {
        let got = context.dims(input);
        if got != *expected {
            return Err(Error::invalid(
                "weights",
                format!("dims {expected:?}"),
                format!("{got:?}"),
            ));
        }
    }
    if length.saturating_mul(directions) > LONGEST {
        let got = length.saturating_mul(directions);
        return Err(Error::invalid("sequence", format!("at most {LONGEST} elements"), got));
    }
    let mut rest = inputs[further..].iter();
    let [lengths, first_state, first_cell] =
        recurrent.given.map(|is| if is { rest.next() } else { None });
    let lengths = lengths.filter(|lengths| {
        let whole = |values: &[i64]| values.iter().all(|&value| value == length as i64);
        !integers(lengths, "lengths").is_ok_and(whole)
    });
    let per_direction = recurrent.functions.len() / directions;
    let mut states = Vec::new();
    for (index, &reverse) in recurrent.reverse.iter().enumerate() {
        let slice = |context: &mut Context<'_>, x: &Lowered| part(context, x, 0, index, 1);
        let start = |context: &mut Context<'_>, given: Option<&Lowered>| match given {
            Some(given) => {
                let first = slice(context, given)?;
                context.view(&first, vec![batch, hidden])
            }
            None => {
                let zero = context.float(vec![1, 1], vec![0.0])?;
                context.compute(StepOp::Expand, &[zero], vec![batch, hidden], Kind::Float)
            }
        };
        let (mut state, mut cell) = (start(context, first_state)?, start(context, first_cell)?);
        let functions = &recurrent.functions[index * per_direction..(index + 1) * per_direction];
        let (direction, products) = Direction::new(context, recurrent, functions, inputs, index)?;
        let mut outputs = vec![None; length];
        for step in 0..length {
            let at = if reverse { length - 1 - step } else { step };
            let x = part(context, &products, 0, at, 1)?;
            let x = context.view(&x, vec![batch, columns])?;
            let (mut next, mut next_cell) = direction.step(context, &x, &state, &cell)?;
            let mut output = next.clone();
            if let Some(lengths) = lengths {
                let at = context.number(at as f32)?;
                let inside = context.binary(Binary::Less, [&at, lengths], Kind::Float)?;
                let inside = context.view(&inside, vec![batch, 1])?;
                output = context.binary(Binary::Mul, [&next, &inside], Kind::Float)?;
                next = chosen(context, &inside, &next, &state)?;
                next_cell = chosen(context, &inside, &next_cell, &cell)?;
            }
            outputs[at] = Some(output);
            (state, cell) = (next, next_cell);
        }
        let all: Vec<Lowered> = outputs.into_iter().flatten().chain([state, cell]).collect();
        let all = all
            .iter()
            .map(|value| context.view(value, vec![1, 1, batch, hidden]))
            .collect::<Result<Vec<_>>>()?;
        let to = vec![length + 2, 1, batch, hidden];
        states.push(context.compute(StepOp::Concat { axis: 0 }, &all, to, Kind::Float)?);
    }
    if let [one] = &states[..] {
        return Ok(one.clone());
    }
    let to = vec![length + 2, directions, batch, hidden];
    context.compute(StepOp::Concat { axis: 1 }, &states, to, Kind::Float)
}

/// `a` where the condition is 1, and `b` where it is 0.
fn chosen(
    context: &mut Context<'_>,
    condition: &Lowered,
    a: &Lowered,
    b: &Lowered,
) -> Result<Lowered> {
    let difference = context.binary(Binary::Sub, [a, b], Kind::Float)?;
    let change = context.binary(Binary::Mul, [&difference, condition], Kind::Float)?;
    context.binary(Binary::Add, [b, &change], Kind::Float)
}

/// `count` elements of an axis from `start`.
fn part(
    context: &mut Context<'_>,
    x: &Lowered,
    axis: usize,
    start: usize,
    count: usize,
) -> Result<Lowered> {
    let mut dims = context.dims(x);
    if dims[axis] == count {
        return Ok(x.clone());
    }
    let mut first = vec![0; dims.len()];
    (first[axis], dims[axis]) = (start, count);
    let op = StepOp::Slice { start: first, step: vec![1; dims.len()] };
    context.compute(op, std::slice::from_ref(x), dims, Kind::Float)
}

/// The matrix product with weights (rows, columns) that are stored turned.
fn turned(context: &mut Context<'_>, weights: &Lowered) -> Result<Lowered> {
    let dims = context.dims(weights);
    let to = vec![dims[1], dims[0]];
    let op = StepOp::Transpose { permutation: vec![1, 0] };
    context.compute(op, std::slice::from_ref(weights), to, Kind::Float)
}

impl<'a> Direction<'a> {
    /// A direction, and the products of its weights with all of the input, (T, N, G), with their bias.
    fn new(
        context: &mut Context<'_>,
        recurrent: &'a Recurrent,
        functions: &'a [Unary],
        inputs: &[Lowered],
        index: usize,
    ) -> Result<(Self, Lowered)> {
        let dims = context.dims(&inputs[0]);
        let (length, batch, features) = (dims[0], dims[1], dims[2]);
        let hidden = recurrent.hidden;
        let columns = gates(recurrent.cell) * hidden;
        let own = |context: &mut Context<'_>, x: &Lowered, to: Vec<usize>| {
            let own = part(context, x, 0, index, 1)?;
            context.view(&own, to)
        };
        let weights = own(context, &inputs[1], vec![columns, features])?;
        let weights = turned(context, &weights)?;
        let state_weights = own(context, &inputs[2], vec![columns, hidden])?;
        let state_weights = turned(context, &state_weights)?;
        let bias = own(context, &inputs[3], vec![1, 2 * columns])?;
        let (bias, state_bias) =
            (part(context, &bias, 1, 0, columns)?, part(context, &bias, 1, columns, columns)?);
        let mut peepholes = Vec::new();
        if matches!(recurrent.cell, Cell::Lstm { .. }) {
            let all = own(context, &inputs[4], vec![1, 3 * hidden])?;
            for gate in 0..3 {
                peepholes.push(part(context, &all, 1, gate * hidden, hidden)?);
            }
        }
        let rows = context.view(&inputs[0], vec![length * batch, features])?;
        let to = vec![length * batch, columns];
        let products = context.compute(StepOp::MatMul, &[rows, weights], to, Kind::Float)?;
        let products = context.binary(Binary::Add, [&products, &bias], Kind::Float)?;
        let products = context.view(&products, vec![length, batch, columns])?;
        let this = Self { recurrent, functions, batch, state_weights, state_bias, peepholes };
        Ok((this, products))
    }

    fn with(
        &self,
        context: &mut Context<'_>,
        op: Binary,
        a: &Lowered,
        b: &Lowered,
    ) -> Result<Lowered> {
        context.binary(op, [a, b], Kind::Float)
    }

    /// The product of a state with some columns of its weights, with their bias.
    fn of_state(
        &self,
        context: &mut Context<'_>,
        state: &Lowered,
        start: usize,
        count: usize,
    ) -> Result<Lowered> {
        let weights = part(context, &self.state_weights, 1, start, count)?;
        let bias = part(context, &self.state_bias, 1, start, count)?;
        let to = vec![self.batch, count];
        let pair = [state.clone(), weights];
        let product = context.compute(StepOp::MatMul, &pair, to, Kind::Float)?;
        self.with(context, Binary::Add, &product, &bias)
    }

    /// One of the direction's functions.
    fn function(&self, context: &mut Context<'_>, index: usize, x: &Lowered) -> Result<Lowered> {
        let mut y = x.clone();
        if let Some(bound) = self.recurrent.clip {
            let clamp = Activation::Clamp { low: -bound, high: bound };
            y = context.unary(Unary::Activation(clamp), &y, Kind::Float)?;
        }
        let function = self.functions.get(index).copied();
        let function =
            function.ok_or_else(|| Error::invalid("activations", "one for each gate", index))?;
        context.unary(function, &y, Kind::Float)
    }

    /// The next state and cell.
    fn step(
        &self,
        context: &mut Context<'_>,
        x: &Lowered,
        state: &Lowered,
        cell: &Lowered,
    ) -> Result<(Lowered, Lowered)> {
        let hidden = self.recurrent.hidden;
        let columns = gates(self.recurrent.cell) * hidden;
        match self.recurrent.cell {
            Cell::Rnn => {
                let sum = self.of_state(context, state, 0, columns)?;
                let sum = self.with(context, Binary::Add, x, &sum)?;
                let next = self.function(context, 0, &sum)?;
                Ok((next.clone(), next))
            }
            Cell::Gru { reset_after } => self.gru(context, x, state, reset_after),
            Cell::Lstm { coupled } => {
                let sum = self.of_state(context, state, 0, columns)?;
                let sum = self.with(context, Binary::Add, x, &sum)?;
                self.lstm(context, &sum, cell, coupled)
            }
        }
    }

    fn gru(
        &self,
        context: &mut Context<'_>,
        x: &Lowered,
        state: &Lowered,
        reset_after: bool,
    ) -> Result<(Lowered, Lowered)> {
        let hidden = self.recurrent.hidden;
        let gates = self.of_state(context, state, 0, 2 * hidden)?;
        let own = part(context, x, 1, 0, 2 * hidden)?;
        let gates = self.with(context, Binary::Add, &own, &gates)?;
        let gates = self.function(context, 0, &gates)?;
        let (update, reset) =
            (part(context, &gates, 1, 0, hidden)?, part(context, &gates, 1, hidden, hidden)?);
        let recalled = if reset_after {
            let recalled = self.of_state(context, state, 2 * hidden, hidden)?;
            self.with(context, Binary::Mul, &reset, &recalled)?
        } else {
            let kept = self.with(context, Binary::Mul, &reset, state)?;
            self.of_state(context, &kept, 2 * hidden, hidden)?
        };
        let own = part(context, x, 1, 2 * hidden, hidden)?;
        let candidate = self.with(context, Binary::Add, &own, &recalled)?;
        let candidate = self.function(context, 1, &candidate)?;
        // (1 - update) * candidate + update * state
        let difference = self.with(context, Binary::Sub, state, &candidate)?;
        let change = self.with(context, Binary::Mul, &update, &difference)?;
        let next = self.with(context, Binary::Add, &candidate, &change)?;
        Ok((next.clone(), next))
    }

    fn lstm(
        &self,
        context: &mut Context<'_>,
        sum: &Lowered,
        cell: &Lowered,
        coupled: bool,
    ) -> Result<(Lowered, Lowered)> {
        let hidden = self.recurrent.hidden;
        let gate = |context: &mut Context<'_>, index: usize, seen: Option<&Lowered>| {
            let own = part(context, sum, 1, index * hidden, hidden)?;
            let Some(seen) = seen else { return Ok(own) };
            let peephole = &self.peepholes[index];
            if context.constant(peephole).is_some_and(|values| values.iter().all(|&v| v == 0.0)) {
                return Ok(own);
            }
            let more = self.with(context, Binary::Mul, peephole, seen)?;
            self.with(context, Binary::Add, &own, &more)
        };
        // In the order of the weights: input, output, forget, cell.
        let input = gate(context, 0, Some(cell))?;
        let input = self.function(context, 0, &input)?;
        let forget = if coupled {
            let one = context.number(1.0)?;
            self.with(context, Binary::Sub, &one, &input)?
        } else {
            let forget = gate(context, 2, Some(cell))?;
            self.function(context, 0, &forget)?
        };
        let candidate = gate(context, 3, None)?;
        let candidate = self.function(context, 1, &candidate)?;
        let kept = self.with(context, Binary::Mul, &forget, cell)?;
        let added = self.with(context, Binary::Mul, &input, &candidate)?;
        let next_cell = self.with(context, Binary::Add, &kept, &added)?;
        let output = gate(context, 1, Some(&next_cell))?;
        let output = self.function(context, 0, &output)?;
        let shown = self.function_unclipped(context, 2, &next_cell)?;
        let next = self.with(context, Binary::Mul, &output, &shown)?;
        Ok((next, next_cell))
    }

    /// The function of the cell itself, which no bound concerns.
    fn function_unclipped(
        &self,
        context: &mut Context<'_>,
        index: usize,
        x: &Lowered,
    ) -> Result<Lowered> {
        let function = self.functions.get(index).copied();
        let function =
            function.ok_or_else(|| Error::invalid("activations", "one for each gate", index))?;
        context.unary(function, x, Kind::Float)
    }
}
