//! Lowering of sums of products along named axes: transpositions, sums and matrix products.

use super::builder::{Context, Lowered};
use crate::ir::graph::Kind;
use crate::ir::op::{Binary, Reduction};
use crate::ir::program::StepOp;
use crate::ir::tensor::{broadcast, elements, strides};
use crate::{Error, Result};
use std::sync::Arc;

/// The most elements of a diagonal, whose places are a table.
const LONGEST_DIAGONAL: usize = 1 << 22;

/// The name of an axis: a letter, or the place of an axis that `...` stands for, counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Unnamed(usize),
    Named(char),
}

/// A tensor whose axes have names.
#[derive(Clone)]
struct Term {
    value: Lowered,
    labels: Vec<Label>,
}

/// Computes an equation such as `bij,bjk->bik`.
pub(crate) fn einsum(
    context: &mut Context<'_>,
    equation: &str,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let refused = || Error::invalid("equation", "names of the inputs' axes", equation);
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let names: Vec<&str> = left.split(',').collect();
    if names.len() != inputs.len() {
        return Err(refused());
    }
    let mut terms = Vec::new();
    let mut widest = 0;
    for (names, input) in names.iter().zip(inputs) {
        let rank = context.dims(input).len();
        let named = names.replace("...", "").chars().count();
        let unnamed = rank.checked_sub(named).ok_or_else(refused)?;
        let labels = labels(names, unnamed).filter(|labels| labels.len() == rank);
        let labels = labels.ok_or_else(refused)?;
        widest = widest.max(labels.iter().filter(|l| matches!(l, Label::Unnamed(_))).count());
        terms.push(diagonal(context, Term { value: input.clone(), labels })?);
    }
    let output = match right {
        Some(right) => labels(right, widest).ok_or_else(refused)?,
        None => {
            let all: Vec<Label> = terms.iter().flat_map(|term| term.labels.clone()).collect();
            let once = |label: &&Label| all.iter().filter(|l| l == label).count() == 1;
            let mut named: Vec<Label> = all.iter().filter(once).copied().collect();
            named.retain(|label| matches!(label, Label::Named(_)));
            named.sort_unstable();
            (0..widest).rev().map(Label::Unnamed).chain(named).collect()
        }
    };
    let mut terms = terms.into_iter();
    let mut sum = terms.next().ok_or_else(refused)?;
    while let Some(next) = terms.next() {
        let later = terms.as_slice();
        let wanted = |label: Label| {
            output.contains(&label) || later.iter().any(|term| term.labels.contains(&label))
        };
        sum = product(context, sum, next, wanted)?;
    }
    sum = sum.reduced(context, |label| output.contains(&label))?;
    let known = |label: &Label| sum.labels.contains(label);
    let mut sorted = output.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if sorted.len() != output.len() || !output.iter().all(known) {
        return Err(refused());
    }
    Ok(sum.ordered(context, &output)?.value)
}

/// The labels of a term, `...` standing for so many axes; `None` for what is no term.
fn labels(names: &str, unnamed: usize) -> Option<Vec<Label>> {
    let named = |part: &str| part.chars().map(Label::Named).collect::<Vec<_>>();
    let (before, behind) = match names.split_once("...") {
        Some((before, behind)) => (before, Some(behind)),
        None => (names, None),
    };
    let mut labels = named(before);
    if let Some(behind) = behind {
        labels.extend((0..unnamed).rev().map(Label::Unnamed));
        labels.extend(named(behind));
    }
    let letters = |label: &Label| match label {
        Label::Named(name) => name.is_ascii_alphabetic(),
        Label::Unnamed(_) => true,
    };
    labels.iter().all(letters).then_some(labels)
}

/// A term without names that come twice: the elements whose places along them are the same.
fn diagonal(context: &mut Context<'_>, term: Term) -> Result<Term> {
    let mut labels = term.labels.clone();
    let mut seen = Vec::new();
    labels.retain(|label| {
        let new = !seen.contains(label);
        seen.push(*label);
        new
    });
    if labels.len() == term.labels.len() {
        return Ok(term);
    }
    let dims = context.dims(&term.value);
    let own = strides(&dims);
    let (mut to, mut steps) = (Vec::new(), Vec::new());
    for label in &labels {
        let axes: Vec<usize> =
            (0..dims.len()).filter(|&axis| term.labels[axis] == *label).collect();
        if axes.iter().any(|&axis| dims[axis] != dims[axes[0]]) {
            return Err(Error::invalid("equation", "equal dims of one name", format!("{dims:?}")));
        }
        to.push(dims[axes[0]]);
        steps.push(axes.iter().map(|&axis| own[axis]).sum::<usize>());
    }
    let count = elements("diagonal", &to)?;
    if count > LONGEST_DIAGONAL {
        let expected = format!("at most {LONGEST_DIAGONAL} elements");
        return Err(Error::invalid("diagonal", expected, count));
    }
    context.make(count, 4)?;
    let places = strides(&to);
    let place = |index: usize| -> usize {
        (0..to.len()).map(|axis| index / places[axis] % to[axis] * steps[axis]).sum()
    };
    let indices = Arc::new((0..count).map(|index| place(index) as u32).collect());
    let flat = context.view(&term.value, vec![elements("input", &dims)?])?;
    let kind = term.value.kind();
    let y = context.compute(StepOp::Gather { axis: 0, indices }, &[flat], vec![count], kind)?;
    Ok(Term { value: context.view(&y, to)?, labels })
}

impl Term {
    fn dims(&self, context: &Context<'_>) -> Vec<usize> {
        context.dims(&self.value)
    }

    /// The sum along the axes that nobody wants.
    fn reduced(self, context: &mut Context<'_>, wanted: impl Fn(Label) -> bool) -> Result<Self> {
        let mut to = self.dims(context);
        let axes: Vec<usize> = (0..to.len()).filter(|&axis| !wanted(self.labels[axis])).collect();
        if axes.is_empty() {
            return Ok(self);
        }
        axes.iter().for_each(|&axis| to[axis] = 1);
        let kept = |axis: &usize| !axes.contains(axis);
        let labels = (0..to.len()).filter(kept).map(|axis| self.labels[axis]).collect();
        let rest = (0..to.len()).filter(kept).map(|axis| to[axis]).collect();
        let op = StepOp::Reduce { reduction: Reduction::Sum, axes: axes.clone() };
        let kind = self.value.kind();
        let sum = context.compute(op, &[self.value], to, kind)?;
        Ok(Self { value: context.view(&sum, rest)?, labels })
    }

    /// The term with its axes in that order.
    fn ordered(self, context: &mut Context<'_>, labels: &[Label]) -> Result<Self> {
        let dims = self.dims(context);
        let place = |label: &Label| self.labels.iter().position(|own| own == label);
        let permutation: Option<Vec<usize>> = labels.iter().map(place).collect();
        let permutation = permutation.filter(|axes| axes.len() == dims.len());
        let permutation =
            permutation.ok_or_else(|| Error::invalid("equation", "known names", "others"))?;
        let labels = labels.to_vec();
        if permutation.iter().copied().eq(0..dims.len()) {
            return Ok(Self { value: self.value, labels });
        }
        let to = permutation.iter().map(|&axis| dims[axis]).collect();
        let kind = self.value.kind();
        let op = StepOp::Transpose { permutation };
        Ok(Self { value: context.compute(op, &[self.value], to, kind)?, labels })
    }
}

/// The product of two terms, summed along the axes that nobody wants any more: a matrix product of the axes that both
/// have and that stay, those of either, and those that are summed.
fn product(
    context: &mut Context<'_>,
    a: Term,
    b: Term,
    wanted: impl Fn(Label) -> bool,
) -> Result<Term> {
    let of_both = |label: Label| a.labels.contains(&label) && b.labels.contains(&label);
    let pick = |from: &Term, choose: &dyn Fn(Label) -> bool| -> Vec<Label> {
        from.labels.iter().copied().filter(|&label| choose(label)).collect()
    };
    let batch = pick(&a, &|label| of_both(label) && wanted(label));
    let summed = pick(&a, &|label| of_both(label) && !wanted(label));
    let rows = pick(&a, &|label| !of_both(label) && wanted(label));
    let columns = pick(&b, &|label| !of_both(label) && wanted(label));
    let a = a.reduced(context, |label| wanted(label) || summed.contains(&label))?;
    let b = b.reduced(context, |label| wanted(label) || summed.contains(&label))?;
    let a = a.ordered(context, &[&batch[..], &rows, &summed].concat())?;
    let b = b.ordered(context, &[&batch[..], &summed, &columns].concat())?;
    let (a_dims, b_dims) = (a.dims(context), b.dims(context));
    let (a_batch, a_rest) = a_dims.split_at(batch.len());
    let (b_batch, b_rest) = b_dims.split_at(batch.len());
    let (row_dims, a_summed) = a_rest.split_at(rows.len());
    let (b_summed, column_dims) = b_rest.split_at(summed.len());
    if a_summed != b_summed {
        let got = format!("{a_summed:?} and {b_summed:?}");
        return Err(Error::invalid("equation", "equal dims of one name", got));
    }
    let both = broadcast(a_batch, b_batch)?;
    let to = [&both[..], row_dims, column_dims].concat();
    let labels = [&batch[..], &rows, &columns].concat();
    let kind = a.value.kind();
    let count = |dims: &[usize]| elements("input", dims);
    let (m, n, k) = (count(row_dims)?, count(column_dims)?, count(a_summed)?);
    let with = |leading: &[usize], matrix: [usize; 2]| [leading, &matrix].concat();
    // A few axes in front, where both have the same; they broadcast otherwise.
    let (a_lead, b_lead, lead) = match a_batch == b_batch {
        true => (vec![count(a_batch)?], vec![count(b_batch)?], vec![count(&both)?]),
        false => (a_batch.to_vec(), b_batch.to_vec(), both),
    };
    let first = context.view(&a.value, with(&a_lead, [m, k]))?;
    let second = context.view(&b.value, with(&b_lead, [k, n]))?;
    let y = match summed.is_empty() {
        true => context.binary(Binary::Mul, [&first, &second], kind)?,
        false => {
            context.compute(StepOp::MatMul, &[first, second], with(&lead, [m, n]), Kind::Float)?
        }
    };
    Ok(Term { value: context.view(&y, to)?, labels })
}
