//! Files of NumPy: a tensor each, behind a header in Python's words.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use anyhow::{Context, bail, ensure};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The dims and elements of a file's bytes, which may come from anybody. Integers and bools come as floats that hold
/// them.
pub(crate) fn parse(bytes: &[u8]) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
    let (header, data) = split(bytes).context("expected a file of numpy.save")?;
    let value = |key: &str| -> anyhow::Result<&str> {
        let (_, rest) = header.split_once(&format!("'{key}':")).with_context(|| {
            format!("header: expected the key '{key}', got {:?}", header.trim_end())
        })?;
        Ok(rest.trim_start())
    };
    let kind = value("descr")?;
    let kind = kind.get(1..).and_then(|rest| rest.split_once(kind.get(..1)?)).map(|(kind, _)| kind);
    let (dtype, bytes) = match kind.unwrap_or("a structure") {
        "|b1" => (Dtype::BOOL, 1),
        "|u1" => (Dtype::U8, 1),
        "|i1" => (Dtype::I8, 1),
        "<u2" => (Dtype::U16, 2),
        "<i2" => (Dtype::I16, 2),
        "<f2" => (Dtype::F16, 2),
        "<u4" => (Dtype::U32, 4),
        "<i4" => (Dtype::I32, 4),
        "<f4" => (Dtype::F32, 4),
        "<u8" => (Dtype::U64, 8),
        "<i8" => (Dtype::I64, 8),
        "<f8" => (Dtype::F64, 8),
        other if other.starts_with('>') => {
            bail!("expected bytes in little-endian order, got {other:?}; astype(\"<f4\") makes it")
        }
        other => bail!("expected an array of real numbers or bools, got elements {other:?}"),
    };
    ensure!(
        value("fortran_order")?.starts_with("False"),
        "expected C's order of elements, got Fortran's; numpy.ascontiguousarray makes it"
    );
    let shape = value("shape")?;
    let dims = || -> Option<Vec<usize>> {
        let (inside, _) = shape.strip_prefix('(')?.split_once(')')?;
        let dims = inside.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        dims.map(|dim| dim.parse().ok()).collect()
    };
    let dims = dims().context("header: expected a shape of whole numbers")?;
    let needed = dims.iter().try_fold(bytes, |product: usize, &dim| product.checked_mul(dim));
    ensure!(
        needed == Some(data.len()),
        "expected {} bytes of elements for the shape {dims:?}, got {}",
        needed.map_or("too many".into(), |needed| needed.to_string()),
        data.len()
    );
    let tensor = TensorView::new(dtype, dims.clone(), data)?;
    Ok((dims, dsconv_net::tensor::floats_of(&tensor, "elements")?))
}

/// The header and the elements behind it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = match bytes.strip_prefix(b"\x93NUMPY")? {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            (usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?, rest)
        }
        _ => return None,
    };
    let (header, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(header).ok()?, data))
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests know what they read"
)]
mod tests {
    use super::parse;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), data].concat()
    }

    fn header(kind: &str, shape: &str) -> String {
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}   \n")
    }

    #[test]
    fn numbers_of_each_kind_become_floats() {
        let read = |kind, shape, data: &[u8]| parse(&file(&header(kind, shape), data)).unwrap();
        let floats = [1.5f32, -2.0].map(f32::to_le_bytes).concat();
        assert_eq!(read("<f4", "(1, 2)", &floats), (vec![1, 2], vec![1.5, -2.0]));
        assert_eq!(read("<f8", "(1,)", &0.25f64.to_le_bytes()), (vec![1], vec![0.25]));
        assert_eq!(read("<i8", "()", &(-7i64).to_le_bytes()), (vec![], vec![-7.0]));
        assert_eq!(read("|u1", "(3,)", &[0, 7, 255]), (vec![3], vec![0.0, 7.0, 255.0]));
        assert_eq!(read("<f4", "(0, 4)", &[]), (vec![0, 4], vec![]));
        // The second version differs in the length's bytes.
        let mut second = file(&header("|b1", "(2,)"), &[0, 1]);
        second.splice(6..7, [2]);
        second.splice(10..10, [0, 0]);
        assert_eq!(parse(&second).unwrap(), (vec![2], vec![0.0, 1.0]));
    }

    #[test]
    fn what_is_no_such_file_is_refused_in_words() {
        let whole = file(&header("<f4", "(2, 3)"), &[0; 24]);
        assert!(parse(&whole).is_ok());
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
        for (kind, shape, words) in [
            (">f4", "(2, 3)", "little-endian"),
            ("<c8", "(3,)", "real numbers"),
            ("|O", "(3,)", "got elements \"|O\""),
            ("<f4", "(2, 4)", "expected 32 bytes of elements"),
            ("<f4", "(4611686018427387904, 4)", "too many"),
            ("<f4", "(0, 18446744073709551615)", "expected 0 bytes"),
            ("<f4", "(-1, 2)", "a shape of whole numbers"),
            ("<f4", "2, 3", "a shape of whole numbers"),
        ] {
            let error = parse(&file(&header(kind, shape), &[0; 24])).unwrap_err();
            let message = format!("{error:#}");
            assert!(message.contains(words), "{kind} {shape}: {message}");
        }
        for (header, words) in [
            (header("<f4", "(2, 3)").replace("False", "True"), "ascontiguousarray"),
            (header("<f4", "(2, 3)").replace("descr", "what"), "'descr'"),
            (String::new(), "'descr'"),
        ] {
            let message = format!("{:#}", parse(&file(&header, &[0; 24])).unwrap_err());
            assert!(message.contains(words), "{header}: {message}");
        }
    }
}
