//! How tensors lie in memory, and how kernels walk through them.

use crate::ir::tensor::{MAX_RANK, strides};
use dsconv::Layout;

/// A tensor as it lies in memory, without gaps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arranged {
    pub(crate) dims: Vec<usize>,
    /// Distances in elements between neighbours along each axis.
    pub(crate) steps: Vec<usize>,
    /// The axes in the order of memory, outermost first.
    pub(crate) order: Vec<usize>,
}

impl Arranged {
    /// A tensor of those dims: row-major, or (N, C, H, W) with the channels last.
    pub(crate) fn new(dims: &[usize], layout: Layout) -> Self {
        let (steps, order) = match (layout, dims) {
            (Layout::Nhwc, &[_, c, h, w]) => (vec![h * w * c, 1, w * c, c], vec![0, 2, 3, 1]),
            _ => (strides(dims), (0..dims.len()).collect()),
        };
        Self { dims: dims.to_vec(), steps, order }
    }

    /// The dims in the order of memory.
    pub(crate) fn extents(&self) -> Vec<usize> {
        self.order.iter().map(|&axis| self.dims[axis]).collect()
    }

    /// Where an axis comes in the order of memory.
    pub(crate) fn position(&self, axis: usize) -> usize {
        self.order.iter().position(|&other| other == axis).unwrap_or(axis)
    }

    /// The steps along the axes of a tensor that this one broadcasts to.
    pub(crate) fn broadcast(&self, dims: &[usize]) -> Vec<usize> {
        let missing = dims.len() - self.dims.len();
        let own = self.dims.iter().zip(&self.steps);
        let steps = own.zip(&dims[missing..]).map(|((&own, &step), &dim)| match own == dim {
            true => step,
            false => 0,
        });
        std::iter::repeat_n(0, missing).chain(steps).collect()
    }

    pub(crate) fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// An axis that a kernel counts through: extent, steps in memory, and where a table of places starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) extent: usize,
    pub(crate) steps: [i64; 2],
    pub(crate) table: Option<usize>,
}

pub(crate) fn signed(steps: &[usize]) -> impl Iterator<Item = i64> {
    steps.iter().map(|&step| step as i64)
}

/// Axes with steps in y and in x, or in a and in b.
pub(crate) fn axes(extents: &[usize], y: &[usize], x: impl Iterator<Item = i64>) -> Vec<Axis> {
    let steps = signed(y).zip(x);
    let axis = |(&extent, (y, x))| Axis { extent, steps: [y, x], table: None };
    extents.iter().zip(steps).map(axis).collect()
}

/// Axes in the order of a tensor's memory, so that neighbouring threads write side by side.
pub(crate) fn in_order(axes: &[Axis], y: &Arranged) -> Vec<Axis> {
    y.order.iter().map(|&axis| axes[axis]).collect()
}

/// The same walk through memory with as few axes as possible: kernels divide for each.
pub(crate) fn merge(axes: &[Axis]) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::new();
    for &axis in axes.iter().filter(|axis| axis.extent != 1 || axis.table.is_some()) {
        match merged.last_mut() {
            Some(outer)
                if outer.table.is_none()
                    && axis.table.is_none()
                    && (0..2).all(|i| outer.steps[i] == axis.steps[i] * axis.extent as i64) =>
            {
                *outer = Axis { extent: outer.extent * axis.extent, ..axis };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// The axes as four words each, padded to the highest rank, and their number.
pub(crate) fn axis_words(axes: &[Axis]) -> (Vec<u32>, u32) {
    let merged = merge(axes);
    let mut words = vec![0; 4 * MAX_RANK];
    for (words, axis) in words.chunks_mut(4).zip(&merged) {
        let table = axis.table.map_or(-1, |at| at as i64);
        let values = [axis.extent as i64, axis.steps[0], axis.steps[1], table];
        // Steps stay inside of a tensor, so they fit 31 bits.
        words.copy_from_slice(&values.map(|value| value as i32 as u32));
    }
    (words, merged.len() as u32)
}

/// The same walk in fours of elements, if it goes through memory by whole fours on both sides.
pub(crate) fn in_fours(axes: &[Axis]) -> Option<Vec<Axis>> {
    let mut axes = merge(axes);
    let (last, outer) = axes.split_last_mut()?;
    let whole = |axis: &Axis| axis.steps.iter().all(|step| step % 4 == 0);
    if last.steps != [1, 1] || last.table.is_some() || last.extent % 4 != 0 {
        return None;
    }
    if !outer.iter().all(whole) {
        return None;
    }
    last.extent /= 4;
    outer.iter_mut().for_each(|axis| axis.steps = axis.steps.map(|step| step / 4));
    Some(axes)
}
