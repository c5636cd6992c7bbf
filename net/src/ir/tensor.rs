//! Tensors that are known before a network runs.

use crate::{Error, Result};
use safetensors::tensor::{Dtype, TensorView};
use std::sync::Arc;

/// The highest rank of a tensor.
pub const MAX_RANK: usize = 6;

/// The most elements of a tensor: those that 32 bits can address at four bytes each.
pub const MAX_ELEMENTS: usize = (1 << 30) - 1;

/// A constant tensor, row-major. Clones share the elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dims: Vec<usize>,
    data: Data,
}

/// The elements of a [`Tensor`]. Every integer type and bool (0 or 1) of a model is an i64 here.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Floats.
    F32(Arc<Vec<f32>>),
    /// Integers.
    I64(Arc<Vec<i64>>),
}

impl Tensor {
    /// A tensor of floats.
    ///
    /// # Errors
    /// A rank over [`MAX_RANK`], or a length that is not the product of the dims.
    pub fn f32(dims: impl Into<Vec<usize>>, values: Vec<f32>) -> Result<Self> {
        Self::new(dims.into(), Data::F32(Arc::new(values)))
    }

    /// A tensor of integers.
    ///
    /// # Errors
    /// As [`f32`](Self::f32).
    pub fn i64(dims: impl Into<Vec<usize>>, values: Vec<i64>) -> Result<Self> {
        Self::new(dims.into(), Data::I64(Arc::new(values)))
    }

    /// A list of integers, rank 1.
    pub fn list(values: impl Into<Vec<i64>>) -> Self {
        let values = values.into();
        Self { dims: vec![values.len()], data: Data::I64(Arc::new(values)) }
    }

    /// A single float, rank 0.
    pub fn scalar(value: f32) -> Self {
        Self { dims: Vec::new(), data: Data::F32(Arc::new(vec![value])) }
    }

    pub(crate) fn shared(dims: Vec<usize>, values: Arc<Vec<f32>>) -> Result<Self> {
        Self::new(dims, Data::F32(values))
    }

    fn new(dims: Vec<usize>, data: Data) -> Result<Self> {
        let elements = elements("tensor", &dims)?;
        let length = match &data {
            Data::F32(values) => values.len(),
            Data::I64(values) => values.len(),
        };
        if length != elements {
            return Err(Error::invalid(
                "tensor",
                format!("{elements} elements for dims {dims:?}"),
                length,
            ));
        }
        Ok(Self { dims, data })
    }

    /// The same elements with other dims.
    ///
    /// # Errors
    /// Dims of another number of elements.
    pub fn with_dims(self, dims: Vec<usize>) -> Result<Self> {
        Self::new(dims, self.data)
    }

    /// The dims, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The elements.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::F32(values) => values.len(),
            Data::I64(values) => values.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The floats.
    ///
    /// # Errors
    /// A tensor of integers; `what` names it.
    pub fn floats(&self, what: &str) -> Result<&[f32]> {
        match &self.data {
            Data::F32(values) => Ok(values),
            Data::I64(_) => Err(Error::invalid(what, "floats", "integers")),
        }
    }

    /// The integers.
    ///
    /// # Errors
    /// A tensor of floats; `what` names it.
    pub fn integers(&self, what: &str) -> Result<&[i64]> {
        match &self.data {
            Data::I64(values) => Ok(values),
            Data::F32(_) => Err(Error::invalid(what, "integers", "floats")),
        }
    }
}

/// The number of elements of a tensor of these dims.
///
/// # Errors
/// A rank over [`MAX_RANK`], or more than [`MAX_ELEMENTS`]; `what` names the tensor.
pub fn elements(what: &str, dims: &[usize]) -> Result<usize> {
    if dims.len() > MAX_RANK {
        return Err(Error::invalid(what, format!("rank 0..={MAX_RANK}"), dims.len()));
    }
    // A zero makes the product 0, but not a product of the others that overflows on the way.
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| count <= MAX_ELEMENTS)
        .ok_or_else(|| {
            Error::invalid(what, format!("at most {MAX_ELEMENTS} elements"), format!("{dims:?}"))
        })
}

/// Distance in elements between neighbours along each axis, row-major.
pub fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// The dims that both broadcast to, as ONNX and numpy have it.
///
/// # Errors
/// Dims that differ where neither is 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| {
        (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis])
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            _ => Err(Error::invalid(
                "dims",
                format!("dims that broadcast with {a:?}"),
                format!("{b:?}"),
            )),
        })
        .collect()
}

/// Strides of a tensor read as if it had the broadcast dims: 0 along axes that it repeats on.
pub fn broadcast_strides(dims: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(dims);
    (0..to.len())
        .map(|axis| match (axis + dims.len()).checked_sub(to.len()) {
            Some(axis) if dims[axis] != 1 => own[axis],
            _ => 0,
        })
        .collect()
}

/// An axis counted from the front.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize> {
    axis_index(axis, rank).map_err(|_| Error::invalid("axis", format!("one of {rank}"), axis))
}

/// An index along an axis of that length, counted from the front.
pub(crate) fn axis_index(index: i64, length: usize) -> Result<usize> {
    let from = if index < 0 { index.checked_add(length as i64) } else { Some(index) };
    from.and_then(|from| usize::try_from(from).ok())
        .filter(|&from| from < length)
        .ok_or_else(|| Error::invalid("index", format!("below {length}"), index))
}

/// Axes counted from the front, ascending, each once.
pub(crate) fn axes_of(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut axes: Vec<usize> =
        axes.iter().map(|&axis| axis_of(axis, rank)).collect::<Result<_>>()?;
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Error::invalid("axes", "each axis once", format!("{axes:?}")));
    }
    Ok(axes)
}

/// Integers as sizes or numbers of repeats.
///
/// # Errors
/// A negative number; `what` names the tensor.
pub(crate) fn usizes(values: &[i64], what: &str) -> Result<Vec<usize>> {
    let one = |&value: &i64| {
        usize::try_from(value).map_err(|_| Error::invalid(what, "no negative number", value))
    };
    values.iter().map(one).collect()
}

/// Integers as floats that hold them.
///
/// # Errors
/// An integer that no float holds; `what` names the tensor.
pub fn exact_floats(values: &[i64], what: &str) -> Result<Vec<f32>> {
    let one = |&value: &i64| {
        let float = value as f32;
        (float as i64 == value).then_some(float).ok_or_else(|| {
            Error::invalid(what, "integers that 32-bit floats hold, as those to 2^24", value)
        })
    };
    values.iter().map(one).collect()
}

/// The elements of a safetensors file's tensor as floats: integers and bools as floats that hold them.
///
/// # Errors
/// An integer that no 32-bit float holds, a double beyond their range, or a type that is no number; `what` names the
/// tensor.
pub fn floats_of(tensor: &TensorView<'_>, what: &str) -> Result<Vec<f32>> {
    let data = tensor.data();
    macro_rules! integers {
        ($type:ty) => {{
            let values = data.as_chunks().0.iter().map(|&bytes| <$type>::from_le_bytes(bytes));
            let values: Result<Vec<i64>, _> = values.map(i64::try_from).collect();
            let refused = |_| Error::invalid(what, "integers of 63 bits", "more");
            exact_floats(&values.map_err(refused)?, what)
        }};
    }
    let halves = || data.as_chunks().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
    match tensor.dtype() {
        Dtype::F32 => Ok(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()),
        Dtype::F16 => Ok(halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect()),
        Dtype::BF16 => Ok(halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect()),
        Dtype::F64 => {
            let doubles = data.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes));
            let one = |value: f64| {
                let float = value as f32;
                let fits = float.is_finite() || !value.is_finite();
                fits.then_some(float).ok_or_else(|| {
                    let expected = "doubles in the range of floats";
                    Error::invalid(what, expected, format!("{value:e}"))
                })
            };
            doubles.map(one).collect()
        }
        Dtype::BOOL => Ok(data.iter().map(|&byte| f32::from(u8::from(byte != 0))).collect()),
        Dtype::U8 => integers!(u8),
        Dtype::I8 => integers!(i8),
        Dtype::U16 => integers!(u16),
        Dtype::I16 => integers!(i16),
        Dtype::U32 => integers!(u32),
        Dtype::I32 => integers!(i32),
        Dtype::U64 => integers!(u64),
        Dtype::I64 => integers!(i64),
        other => Err(Error::invalid(what, "numbers of 8 to 64 bits", format!("{other:?}"))),
    }
}

/// Floats that hold integers, as integers.
pub(crate) fn whole_numbers(values: &[f32]) -> Result<Vec<i64>> {
    let one = |&value: &f32| match value.abs() <= (1 << 24) as f32 {
        true => Ok(value as i64),
        false => Err(Error::invalid("integers", "at most 2^24", value)),
    };
    values.iter().map(one).collect()
}
