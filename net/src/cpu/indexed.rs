//! Operations whose places the run computes.

use super::walk::{Offsets, Operand};
use crate::ir::op::Combination;
use crate::ir::tensor::{broadcast_strides, strides};

/// An index of the run, from the front, if it lies inside.
fn inside(index: f32, extent: usize) -> Option<usize> {
    let from = if index < 0.0 { index + extent as f32 } else { index };
    (from >= 0.0 && from < extent as f32).then_some(from as usize)
}

/// Elements picked along an axis.
pub(crate) fn pick(
    axis: usize,
    x: Operand<'_, f32>,
    indices: Operand<'_, f32>,
    dims: &[usize],
) -> Vec<f32> {
    let signed = |steps: Vec<usize>| steps.into_iter().map(|step| step as i64).collect::<Vec<_>>();
    let mut steps = signed(broadcast_strides(x.dims, dims));
    steps[axis] = 0;
    let (extent, step) = (x.dims[axis], strides(x.dims)[axis]);
    let places = Offsets::new(dims, signed(broadcast_strides(indices.dims, dims)), 0);
    let picked = Offsets::new(dims, steps, 0).zip(places).map(|(start, place)| {
        let index = indices.values[place];
        let outside = if index < 0.0 { 0 } else { extent - 1 };
        x.values[start + inside(index, extent).unwrap_or(outside) * step]
    });
    picked.collect()
}

/// Elements changed along an axis: x, indices, updates.
pub(crate) fn scatter(
    axis: usize,
    combination: Combination,
    [x, indices, updates]: [Operand<'_, f32>; 3],
) -> Vec<f32> {
    let mut steps: Vec<i64> = strides(x.dims).into_iter().map(|step| step as i64).collect();
    let step = std::mem::take(&mut steps[axis]) as usize;
    let mut y = x.values.to_vec();
    for (place, start) in Offsets::new(updates.dims, steps, 0).enumerate() {
        let Some(index) = inside(indices.values[place], x.dims[axis]) else { continue };
        let (value, update) = (&mut y[start + index * step], updates.values[place]);
        *value = match combination {
            Combination::Replace => update,
            Combination::Add => *value + update,
            Combination::Mul => *value * update,
            Combination::Min => value.min(update),
            Combination::Max => value.max(update),
        };
    }
    y
}

/// The places of elements in order.
pub(crate) fn order(
    axis: usize,
    descending: bool,
    x: Operand<'_, f32>,
    dims: &[usize],
) -> Vec<f32> {
    let inner: usize = x.dims[axis + 1..].iter().product();
    let (length, wanted) = (x.dims[axis], dims[axis]);
    let mut y = vec![0.0; dims.iter().product()];
    for row in 0..x.values.len() / length {
        let (outer, column) = (row / inner, row % inner);
        let value = |&place: &usize| key(x.values[(outer * length + place) * inner + column]);
        let mut places: Vec<usize> = (0..length).collect();
        // Both sorts keep the order of equals.
        match descending {
            true => places.sort_by_key(|place| std::cmp::Reverse(value(place))),
            false => places.sort_by_key(value),
        }
        for (rank, place) in places.into_iter().take(wanted).enumerate() {
            y[(outer * wanted + rank) * inner + column] = place as f32;
        }
    }
    y
}

/// An integer that orders as the float does, NaN above all: -0 and 0 are one.
fn key(x: f32) -> i32 {
    let size = (x.to_bits() & 0x7fff_ffff) as i32;
    if x.is_nan() {
        i32::MAX
    } else if x.is_sign_negative() {
        -size
    } else {
        size
    }
}

/// When a box is dropped.
pub(crate) struct Suppression {
    pub(crate) centre: bool,
    pub(crate) overlap: f32,
    pub(crate) least: f32,
}

impl Suppression {
    /// The lower and upper end of a box along both axes.
    fn sides(&self, sides: &[f32]) -> [[f32; 2]; 2] {
        [0, 1].map(|axis| {
            let (a, b) = (sides[axis], sides[axis + 2]);
            match self.centre {
                true => [a - b * 0.5, a + b * 0.5],
                false => [a.min(b), a.max(b)],
            }
        })
    }

    /// Whether two boxes overlap too much. In f32, as ONNX Runtime computes it.
    fn drops(&self, a: &[f32], b: &[f32]) -> bool {
        let (a, b) = (self.sides(a), self.sides(b));
        let area = |sides: [[f32; 2]; 2]| (sides[0][1] - sides[0][0]) * (sides[1][1] - sides[1][0]);
        let common = [0, 1].map(|axis| [a[axis][0].max(b[axis][0]), a[axis][1].min(b[axis][1])]);
        let meet = common.iter().all(|[low, high]| low < high);
        let (first, second) = (area(a), area(b));
        let both = area(common);
        meet && first > 0.0 && second > 0.0 && both / (first + second - both) > self.overlap
    }
}

/// Boxes, scores and their order: rows of image, class and box.
pub(crate) fn suppress(
    rule: &Suppression,
    [boxes, scores, order]: [Operand<'_, f32>; 3],
    rows: usize,
) -> Vec<f32> {
    let (classes, count) = (scores.dims[1], scores.dims[2]);
    let groups = scores.dims[0] * classes;
    let most = rows / groups;
    let mut y = vec![-1.0; 3 * rows];
    for group in 0..groups {
        let (image, class) = (group / classes, group % classes);
        let sides = |index: usize| &boxes.values[(image * count + index) * 4..][..4];
        let mut kept: Vec<usize> = Vec::new();
        for &index in &order.values[group * count..][..count] {
            let index = index as usize;
            if kept.len() == most || scores.values[group * count + index] <= rule.least {
                break;
            }
            if kept.iter().any(|&other| rule.drops(sides(index), sides(other))) {
                continue;
            }
            let row = [image as f32, class as f32, index as f32];
            y[(group * most + kept.len()) * 3..][..3].copy_from_slice(&row);
            kept.push(index);
        }
    }
    y
}
