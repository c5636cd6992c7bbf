//! Packing of 2- to 8-bit integers into a dense bit stream, for files. The GPU's layout is in
//! `src/gpu/planes.rs`.

use crate::{Error, Result};

/// Bytes that `count` integers of `bits` bits take in a file.
pub(crate) fn dense_len(count: usize, bits: u8) -> usize {
    (count as u64 * u64::from(bits)).div_ceil(8) as usize
}

/// A dense little-endian bit stream: integer `i` lies in bits `i * bits .. (i + 1) * bits`, two's
/// complement; the last byte is filled with zeros.
pub(crate) fn pack_dense(q: &[i8], bits: u8) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(dense_len(q.len(), bits));
    let (mut buffer, mut filled) = (0u32, 0);
    for &q in q {
        buffer |= (u32::from(q as u8) & ((1 << bits) - 1)) << filled;
        filled += u32::from(bits);
        while filled >= 8 {
            bytes.push(buffer as u8);
            buffer >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        bytes.push(buffer as u8);
    }
    bytes
}

/// The inverse of [`pack_dense`].
///
/// # Errors
/// [`Error::Length`] if the bytes are not those of `count` integers.
pub(crate) fn unpack_dense(bytes: &[u8], bits: u8, count: usize) -> Result<Vec<i32>> {
    crate::error::check_length("packed q (bytes)", dense_len(count, bits), bytes.len())?;
    let sign = 1i32 << (bits - 1);
    let (mut buffer, mut filled) = (0u32, 0);
    let mut bytes = bytes.iter();
    let mut q = Vec::with_capacity(count);
    while q.len() < count {
        while filled < bits {
            // The length was checked: there is a byte for every integer.
            buffer |= u32::from(bytes.next().copied().unwrap_or(0)) << filled;
            filled += 8;
        }
        let value = (buffer & ((1 << bits) - 1)) as i32;
        q.push((value ^ sign) - sign);
        buffer >>= bits;
        filled -= bits;
    }
    if buffer != 0 {
        return Err(Error::invalid("packed q", "zeros after the last integer", buffer));
    }
    Ok(q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_streams_take_exactly_their_bits_and_come_back() {
        let mut rng = fastrand::Rng::new();
        for bits in 2..=8 {
            for count in [0, 1, 3, 7, 8, 31, 33, 100] {
                let (low, high) = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1);
                let q: Vec<i8> = (0..count).map(|_| rng.i32(low..=high) as i8).collect();
                let bytes = pack_dense(&q, bits);
                assert_eq!(bytes.len(), (count * usize::from(bits)).div_ceil(8));
                let back = unpack_dense(&bytes, bits, count).unwrap();
                assert!(back.iter().eq(q.iter().map(|&q| i32::from(q)).collect::<Vec<_>>().iter()));
            }
        }
        assert!(unpack_dense(&[0xff], 3, 1).is_err());
        assert!(unpack_dense(&[0, 0], 3, 1).is_err());
    }
}
