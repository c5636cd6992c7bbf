//! Coordinate descent on the integers of an output channel, after a first rounding: each goes to its best place while
//! all others stay, and then all scales of the channel together to theirs.

use nalgebra::{Cholesky, DMatrix, DVector, DVectorView};
use std::ops::Range;

/// The least squares of one output channel, `|upper w - target|`, and the weights found so far.
pub(super) struct Channel<'a> {
    /// (K, K); what is below the diagonal does not count.
    upper: &'a DMatrix<f64>,
    /// The squares of the columns of `upper`, summed.
    norms: &'a [f64],
    /// The rows that share a scale.
    blocks: &'a [Range<usize>],
    /// The least and the largest integer.
    range: [f64; 2],
    /// The integers and scales.
    pub(super) q: Vec<f64>,
    pub(super) alpha: Vec<f64>,
    kds_bias: Vec<f64>,
    /// `target - upper w`
    left: Vec<f64>,
}

impl<'a> Channel<'a> {
    /// A channel of those integers and scales.
    pub(super) fn new(
        (upper, norms): (&'a DMatrix<f64>, &'a [f64]),
        (blocks, range): (&'a [Range<usize>], [f64; 2]),
        target: &[f64],
        [q, alpha, kds_bias]: [Vec<f64>; 3],
    ) -> Self {
        let left = target.to_vec();
        let mut channel = Self { upper, norms, blocks, range, q, alpha, kds_bias, left };
        let weights = channel.weights();
        for (row, weight) in weights.into_iter().enumerate() {
            channel.add(row, -weight);
        }
        channel
    }

    /// What the integers stand for.
    pub(super) fn weights(&self) -> Vec<f64> {
        let mut weights = vec![0.0; self.q.len()];
        for (block, rows) in self.blocks.iter().enumerate() {
            for row in rows.clone() {
                weights[row] = self.alpha[block] * self.q[row] + self.kds_bias[block];
            }
        }
        weights
    }

    /// Moves each integer to its best place, once.
    pub(super) fn sweep(&mut self) {
        let [min, max] = self.range;
        for block in 0..self.blocks.len() {
            let alpha = self.alpha[block];
            if alpha == 0.0 {
                continue;
            }
            for row in self.blocks[block].clone() {
                let gain: f64 = self.column(row).iter().zip(&self.left).map(|(u, l)| u * l).sum();
                let best = self.q[row] + gain / self.norms[row] / alpha;
                let best = best.round_ties_even().clamp(min, max);
                if best != self.q[row] {
                    self.add(row, alpha * (self.q[row] - best));
                    self.q[row] = best;
                }
            }
        }
    }

    /// Moves all scales to their best, for these integers.
    pub(super) fn rescale(&mut self) {
        let size = self.q.len();
        let mut parts = DMatrix::zeros(size, self.blocks.len());
        for (block, rows) in self.blocks.iter().enumerate() {
            let mut part = parts.column_mut(block);
            for row in rows.clone() {
                if self.q[row] != 0.0 {
                    let column = DVectorView::from_slice(self.column(row), row + 1);
                    part.rows_mut(0, row + 1).axpy(self.q[row], &column, 1.0);
                }
            }
        }
        let mut squares = parts.tr_mul(&parts);
        // A block of zeros keeps its scale.
        let least = 1e-9 * squares.diagonal().max().max(f64::MIN_POSITIVE);
        squares.set_diagonal(&squares.diagonal().add_scalar(least));
        let Some(factor) = Cholesky::new(squares) else { return };
        let left = DVector::from_column_slice(&self.left);
        let more = factor.solve(&parts.tr_mul(&left));
        let blocks = self.blocks;
        for (block, rows) in blocks.iter().enumerate() {
            // As it will be stored.
            let alpha = f64::from((self.alpha[block] + more[block]) as f32);
            let moved = alpha - self.alpha[block];
            self.alpha[block] = alpha;
            for row in rows.clone() {
                self.add(row, -moved * self.q[row]);
            }
        }
    }

    /// Adds a multiple of a column to what is left.
    fn add(&mut self, row: usize, factor: f64) {
        if factor != 0.0 {
            let column = self.column(row);
            self.left.iter_mut().zip(column).for_each(|(left, u)| *left += factor * u);
        }
    }

    /// What a weight adds to, down to the diagonal.
    fn column(&self, row: usize) -> &'a [f64] {
        let size = self.q.len();
        &self.upper.as_slice()[row * size..=row * size + row]
    }
}
