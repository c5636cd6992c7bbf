//! Numbers of records, checked as they are read.

use serde::de::{Deserialize, Deserializer, Error};

/// Reads a number that times are divided by or logarithms taken of.
pub(super) fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let number = f64::deserialize(deserializer)?;
    if number > 0.0 && number.is_finite() {
        return Ok(number);
    }
    Err(D::Error::custom(format!("expected a positive number, got {number}")))
}
