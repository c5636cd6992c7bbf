//! The elements of ONNX's tensors.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use crate::ir::graph::Kind;
use crate::ir::tensor::{Tensor, elements};
use crate::onnx::proto::{TensorProto, data_type};
use crate::{Error, Result};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder that external data may lie in, and how much of each file in it was read.
pub(crate) struct DataFolder<'a> {
    path: Option<&'a Path>,
    read: RefCell<HashMap<PathBuf, u64>>,
}

/// The bytes of a file that may be read again: tensors may share a place, but not many a large one.
const SHARED: u64 = 1 << 28;

impl<'a> DataFolder<'a> {
    pub(crate) fn new(path: Option<&'a Path>) -> Self {
        Self { path, read: RefCell::default() }
    }

    /// Counts bytes that are about to be read.
    fn count(&self, file: &Path, size: u64, bytes: u64) -> Result<()> {
        let mut counts = self.read.borrow_mut();
        let read = counts.entry(file.to_owned()).or_default();
        *read = read.saturating_add(bytes);
        let most = size.saturating_add(SHARED);
        if *read <= most {
            return Ok(());
        }
        let field = format!("external data of {}", file.display());
        let expected = format!("tensors of at most {most} bytes in all, the file's and {SHARED}");
        Err(Error::invalid(field, expected, *read))
    }
}

/// Whether the type is one of floats.
pub(crate) fn is_float(code: i32) -> bool {
    matches!(code, data_type::FLOAT | data_type::FLOAT16 | data_type::DOUBLE | data_type::BFLOAT16)
}

/// The kind that elements of a type are; none for what is no number.
pub(crate) fn kind(code: i32) -> Option<Kind> {
    width(code)?;
    Some(match code {
        data_type::BOOL => Kind::Bool,
        code if is_float(code) => Kind::Float,
        _ => Kind::Integer,
    })
}

/// The dims, checked.
pub(crate) fn dims(tensor: &TensorProto) -> Result<Vec<usize>> {
    let field = || format!("tensor {:?}", tensor.name);
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = dims.ok_or_else(|| {
        Error::invalid(field(), "dims of 0 or more", format!("{:?}", tensor.dims))
    })?;
    elements(&field(), &dims)?;
    Ok(dims)
}

/// Any tensor of numbers.
pub(crate) fn tensor(proto: &TensorProto, folder: &DataFolder<'_>) -> Result<Tensor> {
    let shape = dims(proto)?;
    if is_float(proto.data_type) {
        Tensor::f32(shape, floats(proto, folder)?)
    } else {
        Tensor::i64(shape, integers(proto, folder)?)
    }
}

fn floats(proto: &TensorProto, folder: &DataFolder<'_>) -> Result<Vec<f32>> {
    let elements = elements(&proto.name, &dims(proto)?)?;
    let typed = |count: usize| check_count(proto, elements, count);
    if let Some(raw) = raw(proto, elements, folder)? {
        let half = |bits: &[u8; 2]| u16::from_le_bytes(*bits);
        return Ok(match proto.data_type {
            data_type::FLOAT => raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            data_type::DOUBLE => {
                raw.as_chunks().0.iter().map(|&b| nearest(f64::from_le_bytes(b))).collect()
            }
            data_type::FLOAT16 => {
                let values = raw.as_chunks().0.iter();
                values.map(|b| half::f16::from_bits(half(b)).to_f32()).collect()
            }
            _ => {
                let values = raw.as_chunks().0.iter();
                values.map(|b| half::bf16::from_bits(half(b)).to_f32()).collect()
            }
        });
    }
    let low = |bits: &i32| {
        let [low, high, ..] = bits.to_le_bytes();
        u16::from_le_bytes([low, high])
    };
    let bits = || proto.int32_data.iter().map(low);
    match proto.data_type {
        data_type::FLOAT => typed(proto.float_data.len()).map(|()| proto.float_data.clone()),
        data_type::DOUBLE => typed(proto.double_data.len())
            .map(|()| proto.double_data.iter().map(|&x| nearest(x)).collect()),
        data_type::FLOAT16 => typed(proto.int32_data.len())
            .map(|()| bits().map(|b| half::f16::from_bits(b).to_f32()).collect()),
        _ => typed(proto.int32_data.len())
            .map(|()| bits().map(|b| half::bf16::from_bits(b).to_f32()).collect()),
    }
}

/// The nearest float; infinity beyond their range, as masks of doubles mean it.
#[allow(clippy::cast_possible_truncation, reason = "there is no other conversion")]
fn nearest(double: f64) -> f32 {
    double as f32
}

/// Integers and bools of any width.
pub(crate) fn integers(proto: &TensorProto, folder: &DataFolder<'_>) -> Result<Vec<i64>> {
    let elements = elements(&proto.name, &dims(proto)?)?;
    let typed = |count: usize| check_count(proto, elements, count);
    let refused = || {
        Error::invalid(
            format!("tensor {:?}", proto.name),
            "numbers of a known type",
            data_type::name(proto.data_type),
        )
    };
    // Two to a byte, the lower one first.
    let nibbles = |bytes: &mut dyn Iterator<Item = u8>| -> Vec<i64> {
        let signed = proto.data_type == data_type::INT4;
        let widened = |nibble: u8| match signed {
            true => i64::from((nibble << 4).cast_signed() >> 4),
            false => i64::from(nibble),
        };
        bytes.flat_map(|byte| [byte & 15, byte >> 4]).map(widened).take(elements).collect()
    };
    if width(proto.data_type).is_none() || is_float(proto.data_type) {
        return Err(refused());
    }
    if let Some(raw) = raw(proto, elements, folder)? {
        macro_rules! read {
            ($type:ty) => {
                raw.as_chunks().0.iter().map(|&b| <$type>::from_le_bytes(b) as i64).collect()
            };
        }
        return Ok(match proto.data_type {
            data_type::UINT8 | data_type::BOOL => raw.iter().map(|&b| i64::from(b)).collect(),
            data_type::INT8 => raw.iter().map(|&b| i64::from(b.cast_signed())).collect(),
            data_type::UINT16 => read!(u16),
            data_type::INT16 => read!(i16),
            data_type::UINT32 => read!(u32),
            data_type::INT32 => read!(i32),
            data_type::UINT64 => read!(u64),
            data_type::INT64 => read!(i64),
            _ => nibbles(&mut raw.iter().copied()),
        });
    }
    Ok(match proto.data_type {
        data_type::INT64 => {
            typed(proto.int64_data.len())?;
            proto.int64_data.clone()
        }
        data_type::UINT64 | data_type::UINT32 => {
            typed(proto.uint64_data.len())?;
            proto.uint64_data.iter().map(|&x| x as i64).collect()
        }
        data_type::INT4 | data_type::UINT4 => {
            // Two to each int32.
            check_count(proto, elements.div_ceil(2), proto.int32_data.len())?;
            nibbles(&mut proto.int32_data.iter().map(|pair| pair.to_le_bytes()[0]))
        }
        _ => {
            typed(proto.int32_data.len())?;
            proto.int32_data.iter().map(|&x| i64::from(x)).collect()
        }
    })
}

fn check_count(proto: &TensorProto, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    let expected = format!("{expected} elements for dims {:?}", proto.dims);
    Err(Error::invalid(format!("tensor {:?}", proto.name), expected, got))
}

/// Bits of an element.
fn width(code: i32) -> Option<usize> {
    Some(match code {
        data_type::INT4 | data_type::UINT4 => 4,
        data_type::UINT8 | data_type::INT8 | data_type::BOOL => 8,
        data_type::UINT16 | data_type::INT16 | data_type::FLOAT16 | data_type::BFLOAT16 => 16,
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => 32,
        data_type::INT64 | data_type::UINT64 | data_type::DOUBLE => 64,
        _ => return None,
    })
}

/// The raw bytes, of the model or of its folder; none where the tensor has a typed list instead.
fn raw<'a>(
    proto: &'a TensorProto,
    elements: usize,
    folder: &DataFolder<'_>,
) -> Result<Option<std::borrow::Cow<'a, [u8]>>> {
    let bits = width(proto.data_type).ok_or_else(|| {
        let got = data_type::name(proto.data_type);
        Error::invalid(format!("tensor {:?}", proto.name), "numbers of a known type", got)
    })?;
    let bytes = elements.saturating_mul(bits).div_ceil(8);
    if proto.data_location == 1 {
        return external(proto, bytes, folder).map(|bytes| Some(bytes.into()));
    }
    match &proto.raw_data {
        // Some writers leave an empty field beside a typed list.
        Some(raw) if !raw.is_empty() || bytes == 0 => {
            if raw.len() != bytes {
                let expected = format!("{bytes} bytes for dims {:?}", proto.dims);
                let field = format!("tensor {:?}", proto.name);
                return Err(Error::invalid(field, expected, raw.len()));
            }
            Ok(Some(raw.as_slice().into()))
        }
        _ => Ok(None),
    }
}

fn external(proto: &TensorProto, bytes: usize, folder: &DataFolder<'_>) -> Result<Vec<u8>> {
    let field = |part: &str| format!("{part} of tensor {:?}'s external data", proto.name);
    let entry = |key: &str| {
        proto.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let number = |key: &str| {
        let parse = |text: &str| {
            text.parse::<u64>().map_err(|_| Error::invalid(field(key), "a whole number", text))
        };
        entry(key).map(parse).transpose()
    };
    let location = entry("location")
        .ok_or_else(|| Error::invalid(field("location"), "a file's name", "nothing"))?;
    let outside =
        || Error::invalid(field("location"), "a file inside of the model's folder", location);
    let root = folder.path.ok_or_else(|| {
        Error::invalid(field("location"), "no file: the model came without a folder", location)
    })?;
    let path = Path::new(location);
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(outside());
    }
    let path = root.join(path);
    let io = |source| Error::Io { path: path.clone(), source };
    // A link could lead out.
    let (real, root) = (path.canonicalize().map_err(io)?, root.canonicalize().map_err(io)?);
    if !real.starts_with(root) || !real.is_file() {
        return Err(outside());
    }
    let mut file = std::fs::File::open(&real).map_err(io)?;
    let whole = file.metadata().map_err(io)?.len();
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(whole.saturating_sub(offset));
    if length != bytes as u64 {
        let expected = format!("{bytes} bytes for dims {:?}", proto.dims);
        return Err(Error::invalid(field("length"), expected, length));
    }
    if offset.checked_add(length).is_none_or(|end| end > whole) {
        let got = format!("{length} from {offset}");
        return Err(Error::invalid(field("place"), format!("inside of {whole} bytes"), got));
    }
    folder.count(&real, whole, length)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut data = vec![0; bytes];
    file.read_exact(&mut data).map_err(io)?;
    Ok(data)
}
