//! The error type of the library, and the checks that several files share.

use std::path::PathBuf;

/// Everything that can go wrong. Messages name the field, what was expected and what came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument has a value that makes no sense.
    #[error("{field}: expected {expected}, got {got}")]
    Invalid {
        /// The argument or field at fault.
        field: String,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// A tensor has the wrong number of elements.
    #[error("{tensor}: expected {expected} elements, got {got}")]
    Length {
        /// The tensor at fault.
        tensor: String,
        /// Elements that the geometry asks for.
        expected: usize,
        /// Elements that came.
        got: usize,
    },
    /// A tensor holds a NaN or an infinity.
    #[error("{tensor}[{index}]: expected a finite number, got {value}")]
    NonFinite {
        /// The tensor at fault.
        tensor: String,
        /// Index of the first such element, in the tensor's own row-major order.
        index: usize,
        /// The element.
        value: f32,
    },
    /// An integer does not fit the bit width.
    #[error("{tensor}[{index}]: expected an integer in {min}..={max}, got {value}")]
    OutOfRange {
        /// The tensor at fault.
        tensor: String,
        /// Index of the first such element, in the tensor's own row-major order.
        index: usize,
        /// The element.
        value: i32,
        /// Smallest integer of the format.
        min: i32,
        /// Largest integer of the format.
        max: i32,
    },
    /// A size does not fit the index type of the kernels.
    #[error("{what} overflows: {detail}")]
    Overflow {
        /// The size that was computed.
        what: String,
        /// The numbers it was computed from.
        detail: String,
    },
    /// Something is over a limit of the device.
    #[error("{what}: needs {needed}, the device's limit {limit_name} is {limit}")]
    Limit {
        /// The thing that is too large.
        what: String,
        /// What it needs.
        needed: u64,
        /// The name of the limit in `wgpu::Limits`.
        limit_name: &'static str,
        /// Its value on this device.
        limit: u64,
    },
    /// The request is meaningful, but this kernel or device can't do it.
    #[error("unsupported: {what}; {remedy}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        remedy: String,
    },
    /// No GPU adapter matches.
    #[error("no GPU adapter: {0}")]
    NoAdapter(String),
    /// The device was lost or destroyed.
    #[error("the GPU device is lost ({0}); make a new device and upload again")]
    DeviceLost(String),
    /// The device has no memory left.
    #[error("the GPU is out of memory while making {0}")]
    OutOfMemory(String),
    /// wgpu refused something that this library believed right.
    #[error("the GPU refused {what}: {message}")]
    Gpu {
        /// What was being made.
        what: String,
        /// wgpu's message.
        message: String,
    },
    /// A file's content is not what its format says.
    #[error("{file}: {message}")]
    Format {
        /// The file, or what stands for it.
        file: String,
        /// What is wrong, with the tensor or key concerned.
        message: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn invalid(
        field: impl Into<String>,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Self::Invalid { field: field.into(), expected: expected.into(), got: got.to_string() }
    }
}

#[cfg(feature = "gpu")]
impl Error {
    /// A lost device, in one line: of wgpu's message, which may have several, the last one, which tells the cause.
    pub(crate) fn lost(message: &dyn std::fmt::Display) -> Self {
        let message = message.to_string();
        Self::DeviceLost(
            message.trim().lines().next_back().unwrap_or("it does not say why").trim().into(),
        )
    }
}

/// Errors that begin with the name that the host gave to a layer.
#[cfg(feature = "gpu")]
pub(crate) trait Labelled {
    /// The same, and where it is an error, of that layer.
    fn labelled(self, label: Option<&str>) -> Self;
}

#[cfg(feature = "gpu")]
impl<T> Labelled for Result<T> {
    fn labelled(self, label: Option<&str>) -> Self {
        let Some(label) = label else { return self };
        self.map_err(|mut error| {
            if let Some(subject) = error.subject() {
                let prefix = format!("{label}: ");
                // Once, where one step is made of others.
                if !subject.starts_with(&prefix) {
                    subject.insert_str(0, &prefix);
                }
            }
            error
        })
    }
}

#[cfg(feature = "gpu")]
impl Error {
    /// What is at fault, where that may be a layer's.
    fn subject(&mut self) -> Option<&mut String> {
        match self {
            Self::Invalid { field, .. } => Some(field),
            Self::Length { tensor, .. }
            | Self::NonFinite { tensor, .. }
            | Self::OutOfRange { tensor, .. } => Some(tensor),
            Self::Overflow { what, .. }
            | Self::Limit { what, .. }
            | Self::Unsupported { what, .. }
            | Self::OutOfMemory(what)
            | Self::Gpu { what, .. } => Some(what),
            Self::NoAdapter(_) | Self::DeviceLost(_) | Self::Format { .. } | Self::Io { .. } => {
                None
            }
        }
    }
}

/// Checks a tensor's length.
pub(crate) fn check_length(tensor: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Length { tensor: tensor.into(), expected, got })
}

/// Checks that a tensor has the expected length and holds finite numbers only.
pub(crate) fn check_tensor(tensor: &str, expected: usize, values: &[f32]) -> Result<()> {
    check_length(tensor, expected, values.len())?;
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NonFinite { tensor: tensor.into(), index, value: values[index] }),
    }
}
