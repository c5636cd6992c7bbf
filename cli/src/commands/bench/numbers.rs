//! Numbers of records, checked as they are read.

use serde::de::{Deserialize, Deserializer, Error};

/// Measured times, bytes and their ratios lie well inside: what is outside would make pictures of it endless.
const MEASURABLE: std::ops::RangeInclusive<f64> = 1e-9..=1e15;

/// Reads a number that times are divided by or logarithms taken of.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if MEASURABLE.contains(&number) {
        return Ok(number);
    }
    let (least, most) = (MEASURABLE.start(), MEASURABLE.end());
    Err(D::Error::custom(format!("expected a number from {least:e} to {most:e}, got {number:e}")))
}
