//! Operations whose places the run computes, on the GPU against the CPU.

use super::steps::{check, dims};
use super::{ProgramBuilder, random};
use crate::ir::op::{Combination, Unary};
use crate::ir::program::StepOp;
use fastrand::Rng;

/// Indices along an axis, from either end; now and then outside.
fn indices(rng: &mut Rng, count: usize, extent: usize) -> Vec<f32> {
    let extent = extent as i32;
    let index = |rng: &mut Rng| match rng.u8(0..10) {
        0 => rng.i32(-2 * extent - 1..2 * extent + 1) as f32,
        _ => rng.i32(-extent..extent) as f32,
    };
    (0..count).map(|_| index(rng)).collect()
}

#[test]
fn elements_are_picked() {
    check(0.0, 60, |rng| {
        let rank = rng.usize(1..=5);
        let mut y = dims(rng, rank);
        let axis = rng.usize(0..rank);
        let some = |rng: &mut Rng, y: &[usize]| -> Vec<usize> {
            y.iter().map(|&dim| if rng.u8(0..3) == 0 { 1 } else { dim }).collect()
        };
        let (mut x, mut places) = (some(rng, &y), some(rng, &y));
        x[axis] = rng.usize(1..9);
        places[axis] = rng.usize(1..9);
        y[axis] = places[axis];
        let mut builder = ProgramBuilder::default();
        let ids = [builder.input(&x), builder.input(&places)];
        let output = builder.step(StepOp::Pick { axis }, &ids, &y);
        let values = random(rng, x.iter().product());
        let index = indices(rng, places.iter().product(), x[axis]);
        (builder.output(&[output]), vec![values, index], 1.0)
    });
}

#[test]
fn elements_are_scattered() {
    let all = [
        Combination::Replace,
        Combination::Add,
        Combination::Mul,
        Combination::Min,
        Combination::Max,
    ];
    for combination in all {
        check(1e-6, 20, |rng| {
            let rank = rng.usize(1..=5);
            let x = dims(rng, rank);
            let axis = rng.usize(0..rank);
            let mut updates: Vec<usize> = x.iter().map(|&dim| rng.usize(1..=dim)).collect();
            updates[axis] = rng.usize(1..7);
            let mut builder = ProgramBuilder::default();
            let ids = [builder.input(&x), builder.input(&updates), builder.input(&updates)];
            let output = builder.step(StepOp::Scatter { axis, combination }, &ids, &x);
            let count = updates.iter().product();
            let values = random(rng, x.iter().product());
            let index = indices(rng, count, x[axis]);
            (builder.output(&[output]), vec![values, index, random(rng, count)], 7.0)
        });
    }
}

#[test]
fn elements_are_put_in_order() {
    check(0.0, 60, |rng| {
        let rank = rng.usize(1..=5);
        let x = dims(rng, rank);
        let axis = rng.usize(0..rank);
        let mut y = x.clone();
        y[axis] = rng.usize(1..=x[axis]);
        let mut builder = ProgramBuilder::default();
        let input = builder.input(&x);
        let op = StepOp::Order { axis, descending: rng.bool() };
        let output = builder.step(op, &[input], &y);
        // Equals often, and what is no number now and then.
        let whole = rng.bool();
        let mut values = random(rng, x.iter().product());
        for value in &mut values {
            if whole {
                *value = (*value * 3.0).round();
            }
            if rng.u8(0..50) == 0 {
                *value = f32::from_bits(rng.u32(..));
            }
        }
        (builder.output(&[output]), vec![values], 1.0)
    });
}

#[test]
fn boxes_are_suppressed() {
    check(0.0, 30, |rng| {
        let (images, classes, count) = (rng.usize(1..3), rng.usize(1..4), rng.usize(1..40));
        let most = rng.usize(1..=count);
        let mut builder = ProgramBuilder::default();
        let boxes = builder.input(&[images, count, 4]);
        let scores = builder.input(&[images, classes, count]);
        let op = StepOp::Order { axis: 2, descending: true };
        let order = builder.step(op, &[scores], &[images, classes, count]);
        // Sides in eighths: areas are exact, so that both sides compare the same numbers.
        let op = StepOp::Suppress { centre: rng.bool(), overlap: 0.37, least: rng.f32() - 0.5 };
        let rows = [images * classes * most, 3];
        let y = builder.step(op, &[boxes, scores, order], &rows);
        let sides = (0..images * count * 4).map(|_| rng.u32(0..32) as f32 / 8.0).collect();
        let values = random(rng, images * classes * count);
        (builder.output(&[y]), vec![sides, values], 1.0)
    });
}

#[test]
fn what_is_no_number_is_found() {
    let both = Unary::IsInf { negative: true, positive: true };
    let one = Unary::IsInf { negative: true, positive: false };
    for function in [Unary::IsNan, both, one] {
        check(0.0, 5, |rng| {
            let mut builder = ProgramBuilder::default();
            let input = builder.input(&[64]);
            let output = builder.step(StepOp::Unary(function), &[input], &[64]);
            let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, 1.0, f32::MAX, f32::MIN];
            let values = (0..64).map(|_| odd[rng.usize(0..odd.len())]).collect();
            (builder.output(&[output]), vec![values], 1.0)
        });
    }
}
