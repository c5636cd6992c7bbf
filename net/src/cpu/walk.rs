//! Tensors as steps read them, and the ways through their memory.

/// A tensor that a step reads.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a, T> {
    pub(crate) dims: &'a [usize],
    pub(crate) values: &'a [T],
}

/// The positions in memory while an index counts row-major through some dims.
pub(crate) struct Offsets<'a> {
    dims: &'a [usize],
    steps: Vec<i64>,
    index: Vec<usize>,
    at: i64,
    left: usize,
}

impl<'a> Offsets<'a> {
    pub(crate) fn new(dims: &'a [usize], steps: Vec<i64>, start: usize) -> Self {
        let left = dims.iter().product();
        Self { dims, steps, index: vec![0; dims.len()], at: start as i64, left }
    }
}

impl Iterator for Offsets<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        for axis in (0..self.dims.len()).rev() {
            self.index[axis] += 1;
            self.at += self.steps[axis];
            if self.index[axis] < self.dims[axis] {
                break;
            }
            self.at -= self.steps[axis] * self.dims[axis] as i64;
            self.index[axis] = 0;
        }
        Some(at as usize)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Offsets<'_> {}
