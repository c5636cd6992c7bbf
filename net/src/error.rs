//! The errors of this crate: they name the place, what was expected and what came.

use dsconv::shown;
use std::path::PathBuf;

/// Everything that can go wrong with a network. Messages name the place, what was expected and what came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Weights or geometry that the library refuses.
    #[error(transparent)]
    Layer(#[from] dsconv::Error),
    /// A value that makes no sense.
    #[error("{}: expected {}, got {}", shown(field), shown(expected), shown(got))]
    Invalid {
        /// The argument, attribute or tensor at fault.
        field: String,
        /// The values that would have been accepted.
        expected: String,
        /// The value that came.
        got: String,
    },
    /// An error inside one node.
    #[error("node {node:?} ({}): {source}", shown(op))]
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

/// Each operator once for each reason, with the first of its nodes and how many there are.
fn list(nodes: &[Unsupported]) -> String {
    let mut groups: Vec<(&Unsupported, usize)> = Vec::new();
    for node in nodes {
        let same = |(first, _): &&mut (&Unsupported, usize)| {
            (&first.op, first.opset, &first.reason) == (&node.op, node.opset, &node.reason)
        };
        match groups.iter_mut().find(same) {
            Some((_, count)) => *count += 1,
            None => groups.push((node, 1)),
        }
    }
    let one = |(first, count): &(&Unsupported, usize)| {
        let Unsupported { node, opset, .. } = first;
        let (op, reason) = (shown(&first.op), shown(&first.reason));
        match count {
            1 => format!("{op} (opset {opset}, node {node:?}): {reason}"),
            count => format!("{op} (opset {opset}, {count} nodes, first {node:?}): {reason}"),
        }
    };
    groups.iter().map(one).collect::<Vec<_>>().join("; ")
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
        // It may have been told already, further inside.
        if matches!(&self, Self::Node { node: told, .. } if told == node) {
            return self;
        }
        Self::Node { node: node.into(), op: op.into(), source: Box::new(self) }
    }
}
