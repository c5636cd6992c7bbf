//! The errors of this crate: they name the place, what was expected and what came.

use std::path::PathBuf;

/// Everything that can go wrong with a network. Messages name the place, what was expected and what came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Weights or geometry that the library refuses.
    #[error(transparent)]
    Layer(#[from] dsconv::Error),
    /// A value that makes no sense.
    #[error("{field}: expected {expected}, got {got}")]
    Invalid {
        /// The argument, attribute or tensor at fault.
        field: String,
        /// The values that would have been accepted.
        expected: String,
        /// The value that came.
        got: String,
    },
    /// An error inside one node.
    #[error("node {node:?} ({op}): {source}")]
    Node {
        /// The node's name.
        node: String,
        /// The node's operator.
        op: String,
        /// The reason.
        source: Box<Error>,
    },
    /// Everything in a model that this crate does not take, all at once.
    #[error("unsupported: {}", list(.0))]
    Unsupported(Vec<Unsupported>),
    /// A file's content is not what its format says.
    #[error("{file}: {message}")]
    Format {
        /// The file, or what stands for it.
        file: String,
        /// The reason, with the tensor or key concerned.
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

/// A node of a model that this crate does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The node's name.
    pub node: String,
    /// The node's operator, with the domain unless that is ONNX's own.
    pub op: String,
    /// The operator set's version.
    pub opset: i64,
    /// The reason why it is not taken.
    pub reason: String,
}

fn list(nodes: &[Unsupported]) -> String {
    let one = |n: &Unsupported| {
        let Unsupported { node, op, opset, reason } = n;
        format!("{op} (opset {opset}, node {node:?}): {reason}")
    };
    nodes.iter().map(one).collect::<Vec<_>>().join("; ")
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

    pub(crate) fn format(file: &str, message: impl std::fmt::Display) -> Self {
        Self::Format { file: file.into(), message: message.to_string() }
    }

    pub(crate) fn in_node(self, node: &str, op: impl Into<String>) -> Self {
        Self::Node { node: node.into(), op: op.into(), source: Box::new(self) }
    }
}
