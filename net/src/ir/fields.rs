//! The fields of operators: small enums, and structs of those that have many.

use super::op::Unary;
use serde::{Deserialize, Serialize};

/// What few models ask of a resize.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResizeOptions {
    /// Whether a smaller picture is a mean over all of the larger one.
    pub antialias: bool,
    /// Whether samples outside of the picture have no weight, and the others share it.
    pub exclude_outside: bool,
    /// What sizes mean.
    pub aspect: Aspect,
    /// The value outside of the picture, for [`Coordinates::Crop`].
    pub outside: f32,
}

/// What the sizes of a resize mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aspect {
    /// They are the output's.
    #[default]
    Stretch,
    /// One scale for all axes, so that none gets larger than its size.
    NotLarger,
    /// One scale for all axes, so that none gets smaller than its size.
    NotSmaller,
}

/// The way that samples of a grid come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GridInterpolation {
    /// One sample.
    Nearest,
    /// Two samples per axis.
    Linear,
    /// Four samples per axis, with the coefficient -0.75.
    Cubic,
}

/// What a grid reads outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GridPadding {
    /// 0.
    Zeros,
    /// The nearest pixel.
    Border,
    /// The image mirrored.
    Reflection,
}

/// How boxes are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoiAlign {
    /// Height and width of the output.
    pub size: [u32; 2],
    /// Samples along each side of an output's cell; 0 for as many as the cell has pixels.
    pub samples: u32,
    /// The scale from the boxes to x.
    pub scale: f32,
    /// Whether pixel centres lie at halves.
    pub half_pixel: bool,
    /// Whether the largest sample counts, and not the mean.
    pub max: bool,
}

/// The cell of a recurrent network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cell {
    /// One layer.
    Rnn,
    /// A gated recurrent unit.
    Gru {
        /// Whether the reset gate comes behind the product with the state.
        reset_after: bool,
    },
    /// Long short-term memory.
    Lstm {
        /// Whether the forget gate is 1 minus the input gate.
        coupled: bool,
    },
}

/// A recurrent network: its cell, and how it goes through the sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// The cell.
    pub cell: Cell,
    /// For each direction whether it goes from the end to the start.
    pub reverse: Vec<bool>,
    /// The length of the state.
    pub hidden: usize,
    /// The functions of each direction, in ONNX's order.
    pub functions: Vec<Unary>,
    /// The bound of what the functions get.
    pub clip: Option<f32>,
    /// Whether there are lengths, a first state and a first cell.
    pub given: [bool; 3],
}

/// The axis of a convolution's input that the channels are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channels {
    /// The input is (N, C, H, W).
    First,
    /// The input has any rank, its last axis are the channels, and the kernel is 1x1: a matrix product.
    Last,
}

/// Padding that depends on the input's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AutoPad {
    /// The padding is given.
    #[default]
    None,
    /// The output is the input over the stride, rounded up; an odd rest of padding goes behind.
    SameUpper,
    /// The same, but an odd rest goes in front.
    SameLower,
}

/// The way that values between samples come about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Interpolation {
    /// One sample.
    Nearest(Rounding),
    /// Two samples per axis.
    Linear,
    /// Four samples per axis, with this coefficient.
    Cubic(f32),
}

/// The rule by which a sample is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rounding {
    /// The nearest, half down.
    PreferFloor,
    /// The nearest, half up.
    PreferCeil,
    /// The one below.
    Floor,
    /// The one above.
    Ceil,
}

/// The way that an output coordinate maps to the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coordinates {
    /// Pixel centres: `(x + 0.5) / scale - 0.5`.
    HalfPixel,
    /// The same, but 0 for an output of one element.
    PytorchHalfPixel,
    /// `x / scale`.
    Asymmetric,
    /// Ends on ends: `x * (input - 1) / (output - 1)`.
    AlignCorners,
    /// Pixel centres, symmetric for scales that do not divide.
    HalfPixelSymmetric,
    /// A part of the picture, from its third input, ends on ends.
    Crop,
}

/// One part of a tensor that is split along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parts {
    /// The `index`th of `count` equal parts, the last one shorter.
    Equal {
        /// The number of the part, from 0.
        index: usize,
        /// The number of parts.
        count: usize,
    },
    /// `length` elements from `start` of an axis of `whole`.
    Range {
        /// First element.
        start: usize,
        /// The number of elements.
        length: usize,
        /// Length of the axis, checked.
        whole: usize,
    },
}

/// The kinds of elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// f32.
    #[default]
    Float,
    /// i64.
    Integer,
    /// An i64 that is 0 or 1.
    Bool,
}

impl Kind {
    /// Whether it is that of floats.
    pub(crate) fn is_float(&self) -> bool {
        *self == Self::Float
    }
}

/// A value of one of the two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// f32.
    Float(f32),
    /// i64.
    Integer(i64),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Comparison {
    /// `a == b`.
    Equal,
    /// `a < b`.
    Less,
    /// `a > b`.
    Greater,
    /// `a <= b`.
    LessOrEqual,
    /// `a >= b`.
    GreaterOrEqual,
    /// `a` and `b` are both not 0.
    And,
    /// `a` or `b` is not 0.
    Or,
}
