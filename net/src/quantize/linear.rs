//! Dense linear algebra for least squares, in f64: nalgebra's products and triangles, in panels of columns, so that
//! most of the work is products of matrices and runs on all cores.

use nalgebra::{Cholesky, DMatrix, DMatrixView, DMatrixViewMut};
use rayon::prelude::*;

/// Columns that are worked on together.
const PANEL: usize = 128;

/// Adds `xt y` to a symmetric matrix of which only the lower triangle counts, where `y` is `xt` transposed.
pub(super) fn add_square(sum: &mut DMatrix<f64>, xt: &DMatrix<f64>, x: &DMatrix<f64>) {
    let rows = sum.nrows();
    panels(sum.as_mut_slice(), rows, |first, mut panel| {
        let width = panel.ncols();
        let below = rows - first;
        panel.rows_mut(first, below).gemm(
            1.0,
            &xt.rows(first, below),
            &x.columns(first, width),
            1.0,
        );
    });
}

/// Adds `xt y` to a matrix.
pub(super) fn add_product(sum: &mut DMatrix<f64>, xt: &DMatrix<f64>, y: &DMatrix<f64>) {
    let rows = sum.nrows();
    panels(sum.as_mut_slice(), rows, |first, mut panel| {
        let width = panel.ncols();
        panel.gemm(1.0, xt, &y.columns(first, width), 1.0);
    });
}

/// Subtracts `xt y` from a matrix, where `y` are the rows of a matrix from `first` on.
pub(super) fn subtract_product(
    from: &mut DMatrix<f64>,
    xt: &DMatrixView<'_, f64>,
    y: &DMatrix<f64>,
    first: usize,
) {
    let rows = from.nrows();
    panels(from.as_mut_slice(), rows, |column, mut panel| {
        let width = panel.ncols();
        let y = y.view((first, column), (y.nrows() - first, width));
        panel.gemm(-1.0, xt, &y, 1.0);
    });
}

/// Replaces the lower triangle of a symmetric matrix by its Cholesky factor `L`, the matrix being `L L'`. The upper
/// triangle is left as it is. `None` where the matrix is not positive definite.
pub(super) fn factor(matrix: &mut DMatrix<f64>) -> Option<()> {
    let size = matrix.nrows();
    for start in (0..size).step_by(PANEL) {
        let width = PANEL.min(size - start);
        let end = start + width;
        let diagonal = matrix.view((start, start), (width, width)).into_owned();
        let diagonal = Cholesky::new(diagonal)?.unpack();
        // The panel below, transposed.
        let mut across = matrix.view((end, start), (size - end, width)).transpose();
        diagonal.solve_lower_triangular_mut(&mut across).then_some(())?;
        let below = across.transpose();
        matrix.view_mut((start, start), (width, width)).copy_from(&diagonal);
        matrix.view_mut((end, start), (size - end, width)).copy_from(&below);
        panels(&mut matrix.as_mut_slice()[end * size..], size, |first, mut panel| {
            let (width, rows) = (panel.ncols(), size - end - first);
            panel.rows_mut(end + first, rows).gemm(
                -1.0,
                &below.rows(first, rows),
                &across.columns(first, width),
                1.0,
            );
        });
    }
    Some(())
}

/// Replaces the columns of `b` by the solutions of `L x = b`, where `L` is the lower triangle of a factor.
pub(super) fn solve_lower(factor: &DMatrix<f64>, b: &mut DMatrix<f64>) {
    let size = factor.nrows();
    panels(b.as_mut_slice(), size, |_, mut b| {
        for start in (0..size).step_by(PANEL) {
            let width = PANEL.min(size - start);
            let end = start + width;
            let mut solved = b.rows(start, width).into_owned();
            let diagonal = factor.view((start, start), (width, width));
            // A factor's diagonal is positive.
            diagonal.solve_lower_triangular_mut(&mut solved);
            b.rows_mut(start, width).copy_from(&solved);
            let below = factor.view((end, start), (size - end, width));
            b.rows_mut(end, size - end).gemm(-1.0, &below, &solved, 1.0);
        }
    });
}

/// The sum of squares of `upper w`, where only the upper triangle counts.
pub(super) fn squares(upper: &DMatrix<f64>, w: &DMatrix<f64>) -> f64 {
    let size = upper.nrows();
    let panel = |start: usize| {
        let width = PANEL.min(size - start);
        let mut rows = upper.view((start, start), (width, size - start)).into_owned();
        rows.view_mut((0, 0), (width, width)).fill_lower_triangle(0.0, 1);
        (rows * w.rows(start, size - start)).norm_squared()
    };
    let starts: Vec<usize> = (0..size).step_by(PANEL).collect();
    starts.into_par_iter().map(panel).sum()
}

/// Calls `work` on panels of columns in parallel, with the number of the first column.
fn panels(
    columns: &mut [f64],
    rows: usize,
    work: impl Fn(usize, DMatrixViewMut<'_, f64>) + Send + Sync,
) {
    columns.par_chunks_mut((rows * PANEL).max(1)).enumerate().for_each(|(index, panel)| {
        let width = panel.len() / rows;
        work(index * PANEL, DMatrixViewMut::from_slice(panel, rows, width));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_and_solutions_of_several_panels_are_right() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        for size in [1, 7, PANEL, 2 * PANEL + 19] {
            let mut random =
                |rows, columns| DMatrix::from_fn(rows, columns, |_, _| rng.f64() - 0.5);
            let x = random(size + 40, size);
            let xt = x.transpose();
            let mut h = DMatrix::zeros(size, size);
            add_square(&mut h, &xt, &x);
            let mut whole = DMatrix::zeros(size, size);
            add_product(&mut whole, &xt, &x);
            let lower = |m: &DMatrix<f64>| m.lower_triangle();
            assert!((lower(&h) - lower(&(&xt * &x))).amax() < 1e-10, "seed {seed}");
            assert!((&whole - &xt * &x).amax() < 1e-10, "seed {seed}");
            factor(&mut h).unwrap();
            let l = lower(&h);
            assert!((&l * l.transpose() - &whole).amax() < 1e-9, "{size}, seed {seed}");
            let b = random(size, PANEL + 3);
            let mut solved = b.clone();
            solve_lower(&h, &mut solved);
            assert!((&l * &solved - &b).amax() < 1e-8, "{size}, seed {seed}");
            let wanted = (l.transpose() * &b).norm_squared();
            assert!((squares(&h.transpose(), &b) - wanted).abs() <= 1e-9 * wanted, "seed {seed}");
        }
        let mut indefinite = DMatrix::from_element(3, 3, 1.0);
        assert_eq!(factor(&mut indefinite), None);
    }
}
