//! What the specifications of layers and of quantisation share. They come from TypeScript as JSON.

use dsconv::{Error, Method, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How a quantiser finds scales.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MethodName {
    #[default]
    /// By the value that is furthest from 0, with its sign.
    SignedExtreme,
    /// By the largest value.
    AbsMax,
    /// By the least squared error.
    MinMse,
}

/// Reads JSON.
///
/// # Errors
/// Another value than the type takes: the error names the field, or `whole` where it is about no single one.
pub fn parse<T: DeserializeOwned>(json: &str, whole: &str) -> Result<T> {
    let mut json = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let message = error.inner().to_string();
        // The place in the JSON says nothing to someone who wrote an object.
        let message = message.split(" at line ").next().unwrap_or_default().to_string();
        let (got, expected) =
            message.split_once(", expected ").unwrap_or((&message, "another value"));
        let path = error.path().to_string();
        let field = if path == "." { whole.into() } else { path };
        Error::Invalid { field, expected: expected.into(), got: got.into() }
    })
}

impl MethodName {
    /// The method of that name.
    pub const fn method(self) -> Method {
        match self {
            Self::SignedExtreme => Method::SignedExtreme,
            Self::AbsMax => Method::AbsMax,
            Self::MinMse => Method::MinMse,
        }
    }
}

/// A tensor's extents.
///
/// # Errors
/// Numbers that are not whole.
pub fn extents(shape: &[f64]) -> Result<Vec<u32>> {
    let extent = |value: &f64| {
        let extent = *value as u32;
        (f64::from(extent) == *value).then_some(extent)
    };
    shape.iter().map(extent).collect::<Option<_>>().ok_or_else(|| Error::Invalid {
        field: "shape".into(),
        expected: "whole numbers".into(),
        got: format!("{shape:?}"),
    })
}
