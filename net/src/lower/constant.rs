//! Lowering of casts, ranges, comparisons and choices, which are known before a program runs wherever they can be.

use super::builder::{Context, Lowered, integers};
use crate::ir::graph::{Comparison, Kind};
use crate::ir::op::{Binary, Unary};
use crate::ir::program::StepOp;
use crate::ir::tensor::{Tensor, broadcast, elements};
use crate::{Error, Result, cpu};

/// Converts between floats, integers and bools.
pub(crate) fn cast(
    context: &mut Context<'_>,
    x: &Lowered,
    dims: Vec<usize>,
    to: Kind,
) -> Result<Lowered> {
    match (x, to) {
        (Lowered::Float(_), Kind::Float)
        | (Lowered::Integer(_) | Lowered::Whole(_), Kind::Integer) => Ok(x.clone()),
        (&Lowered::Whole(id), Kind::Float) => Ok(Lowered::Float(id)),
        (Lowered::Integer(tensor), Kind::Float) => {
            let values = tensor.integers("input")?.iter().map(|&x| x as f32).collect();
            context.float(dims, values)
        }
        (Lowered::Integer(tensor), Kind::Bool) => {
            context.make(tensor.len(), 8)?;
            let values = tensor.integers("input")?.iter().map(|&x| i64::from(x != 0)).collect();
            Tensor::i64(dims, values).map(Lowered::Integer)
        }
        (Lowered::Float(_) | Lowered::Whole(_), Kind::Integer | Kind::Bool) => {
            if let Some(values) = context.constant(x) {
                context.make(values.len(), 8)?;
                let one = |&x: &f32| if to == Kind::Bool { i64::from(x != 0.0) } else { x as i64 };
                return Tensor::i64(dims, values.iter().map(one).collect()).map(Lowered::Integer);
            }
            match to {
                Kind::Integer => context.unary(Unary::Trunc, x, to),
                _ => {
                    let zero = context.unary(Unary::Not, x, to)?;
                    context.unary(Unary::Not, &zero, to)
                }
            }
        }
    }
}

/// `start, start + step, …` before the limit.
pub(crate) fn range(context: &mut Context<'_>, inputs: &[Lowered]) -> Result<Lowered> {
    const MOST: f64 = (1 << 20) as f64;
    let refused = |count: f64| Error::invalid("range", format!("0 to {MOST} elements"), count);
    if let Lowered::Integer(_) = inputs[0] {
        let scalar = |index: usize| match integers(&inputs[index], "range")? {
            &[value] => Ok(i128::from(value)),
            values => Err(Error::invalid("range", "single numbers", values.len())),
        };
        let (start, limit, step) = (scalar(0)?, scalar(1)?, scalar(2)?);
        if step == 0 {
            return Err(Error::invalid("range step", "not 0", step));
        }
        let span = (limit - start) * step.signum();
        let count = if span <= 0 { 0 } else { (span + step.abs() - 1) / step.abs() };
        if count as f64 > MOST {
            return Err(refused(count as f64));
        }
        context.make(count as usize, 8)?;
        let values: Vec<i64> = (0..count).map(|i| (start + i * step) as i64).collect();
        return Ok(Lowered::Integer(Tensor::list(values)));
    }
    let scalar = |index: usize| match context.constant(&inputs[index]).as_deref().map(Vec::as_slice)
    {
        Some(&[value]) => Ok(f64::from(value)),
        _ => Err(Error::invalid("range", "single numbers known beforehand", "others")),
    };
    let (start, limit, step) = (scalar(0)?, scalar(1)?, scalar(2)?);
    let count = ((limit - start) / step).ceil().max(0.0);
    // Also what is not a number.
    if !(1.0..=MOST).contains(&count) {
        return Err(refused(count));
    }
    let values: Vec<f32> = (0..count as usize).map(|i| (start + i as f64 * step) as f32).collect();
    context.float(vec![values.len()], values)
}

/// Compares two tensors, with broadcasting; the result is 0 or 1.
pub(crate) fn compare(
    context: &mut Context<'_>,
    comparison: Comparison,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let dims = inputs.iter().map(|x| context.dims(x)).collect::<Vec<_>>();
    let to = broadcast(&dims[0], &dims[1])?;
    let count = elements("output", &to)?;
    let result = |a: f64, b: f64| {
        i64::from(match comparison {
            Comparison::Equal => a == b,
            Comparison::Less => a < b,
            Comparison::Greater => a > b,
            Comparison::LessOrEqual => a <= b,
            Comparison::GreaterOrEqual => a >= b,
            Comparison::And => a != 0.0 && b != 0.0,
            Comparison::Or => a != 0.0 || b != 0.0,
        })
    };
    let known = |x: &Lowered| matches!(x, Lowered::Integer(_)) || context.constant(x).is_some();
    if !inputs.iter().all(known) {
        let (a, b) = (&inputs[0], &inputs[1]);
        let (op, operands) = match comparison {
            Comparison::Equal => (Binary::Equal, [a, b]),
            Comparison::Less => (Binary::Less, [a, b]),
            Comparison::Greater => (Binary::Less, [b, a]),
            Comparison::LessOrEqual => (Binary::LessOrEqual, [a, b]),
            Comparison::GreaterOrEqual => (Binary::LessOrEqual, [b, a]),
            // Of bools.
            Comparison::And => (Binary::Min, [a, b]),
            Comparison::Or => (Binary::Max, [a, b]),
        };
        return context.binary(op, operands, Kind::Bool);
    }
    context.make(count, 8)?;
    let doubles = |x: &Lowered| -> Vec<f64> {
        match x {
            // Shapes and indices are far below 2^53.
            Lowered::Integer(tensor) => {
                let values = tensor.integers("input").unwrap_or_default();
                values.iter().map(|&x| x as f64).collect()
            }
            _ => {
                let values = context.constant(x).unwrap_or_default();
                values.iter().map(|&x| f64::from(x)).collect()
            }
        }
    };
    let values: Vec<Vec<f64>> = inputs.iter().map(doubles).collect();
    let operand = |index: usize| cpu::Operand { dims: &dims[index], values: &values[index][..] };
    let values = cpu::binary_map(&[operand(0), operand(1)], &to, result);
    Tensor::i64(to, values).map(Lowered::Integer)
}

/// Picks elements of the second input where the first is not 0, else of the third.
pub(crate) fn select(context: &mut Context<'_>, inputs: &[Lowered]) -> Result<Lowered> {
    let [c, a, b] = [0, 1, 2].map(|index| context.dims(&inputs[index]));
    let to = broadcast(&broadcast(&c, &a)?, &b)?;
    let all = |chosen: &Lowered, context: &mut Context<'_>| {
        if context.dims(chosen) == to {
            return Ok(chosen.clone());
        }
        context.emit(StepOp::Expand, std::slice::from_ref(chosen), to.clone())
    };
    let Lowered::Integer(condition) = &inputs[0] else {
        return select_at_run(context, inputs);
    };
    let condition = condition.integers("condition")?;
    if condition.iter().all(|&c| c != 0) {
        return all(&inputs[1], context);
    }
    if condition.iter().all(|&c| c == 0) {
        return all(&inputs[2], context);
    }
    let known = |x: &Lowered| matches!(x, Lowered::Integer(_)) || context.constant(x).is_some();
    if !inputs[1..].iter().all(known) {
        return select_at_run(context, inputs);
    }
    let condition = all(&inputs[0], context)?;
    let (a, b) = (all(&inputs[1], context)?, all(&inputs[2], context)?);
    let pick = integers(&condition, "condition")?;
    if let (Lowered::Integer(a), Lowered::Integer(b)) = (&a, &b) {
        context.make(a.len(), 8)?;
        let pairs = a.integers("a")?.iter().zip(b.integers("b")?);
        let values = pairs.zip(pick).map(|((&a, &b), &c)| if c != 0 { a } else { b });
        return Tensor::i64(to, values.collect()).map(Lowered::Integer);
    }
    let (Some(a), Some(b)) = (context.constant(&a), context.constant(&b)) else {
        return Err(Error::invalid("inputs", "one type", "floats and integers"));
    };
    let values = a.iter().zip(b.iter()).zip(pick);
    let values = values.map(|((&a, &b), &c)| if c != 0 { a } else { b }).collect();
    context.float(to, values)
}

/// The sum of what either side leaves: a product with 0 would keep infinities of the side that is not chosen.
fn select_at_run(context: &mut Context<'_>, inputs: &[Lowered]) -> Result<Lowered> {
    let [condition, a, b] = inputs else {
        return Err(Error::invalid("inputs", "3", inputs.len()));
    };
    let kind = match a {
        Lowered::Float(_) => Kind::Float,
        _ => Kind::Integer,
    };
    let otherwise = context.unary(Unary::Not, condition, Kind::Bool)?;
    let a = context.binary(Binary::Gate, [a, condition], kind)?;
    let b = context.binary(Binary::Gate, [b, &otherwise], kind)?;
    context.binary(Binary::Add, [&a, &b], kind)
}

/// The quotient of integers of the run, towards 0: what is left of the division goes first, for a quotient of floats
/// may come out just below a whole number.
pub(crate) fn whole_quotient(context: &mut Context<'_>, inputs: &[Lowered]) -> Result<Lowered> {
    let [a, b] = inputs else { return Err(Error::invalid("inputs", "2", inputs.len())) };
    let rest = context.binary(Binary::Remainder, [a, b], Kind::Integer)?;
    let whole = context.binary(Binary::Sub, [a, &rest], Kind::Integer)?;
    let quotient = context.binary(Binary::Div, [&whole, b], Kind::Float)?;
    context.unary(Unary::Round, &quotient, Kind::Integer)
}

/// A power whose base and exponent may be of two kinds; it is of the base's.
pub(crate) fn power(context: &mut Context<'_>, inputs: &[Lowered]) -> Result<Lowered> {
    let [a, b] = inputs else { return Err(Error::invalid("inputs", "2", inputs.len())) };
    let power = context.binary(Binary::Pow, [a, b], Kind::Float)?;
    match a.kind() {
        Kind::Float => Ok(power),
        _ => context.unary(Unary::Trunc, &power, Kind::Integer),
    }
}
