//! The operators of a graph, in ONNX's semantics: [`Op`], the enums of its fields, and the table of names and numbers
//! of inputs.

use super::op::{Binary, PadMode, PoolKind, Reduction, Unary};
use serde::{Deserialize, Serialize};

/// The weights of a convolution of a [`Graph`](crate::Graph).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WeightsId(pub(crate) usize);

/// The operators, with ONNX's semantics. What ONNX has as an optional or a formerly fixed input
/// and no network computes at run time (axes, bounds of Clip, …) is a field here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// A convolution. Input: x.
    Conv {
        /// Weights, with the geometry.
        weights: WeightsId,
        /// Padding that depends on the input's size replaces that of the weights' descriptor.
        auto_pad: AutoPad,
        /// The axis of x that the channels are.
        channels: Channels,
    },
    /// A transposed convolution. Inputs: x, weights (I, O/groups, kh, kw), optionally bias (O).
    ConvTranspose {
        /// Stride, `[vertical, horizontal]`.
        stride: [u32; 2],
        /// Dilation.
        dilation: [u32; 2],
        /// The rows and columns that are cut off the output, `[top, left, bottom, right]`.
        padding: [u32; 4],
        /// The rows and columns that are added at the output's bottom and right.
        output_padding: [u32; 2],
        /// Height and width of the output, from which the padding follows.
        output_size: Option<[u32; 2]>,
        /// Padding that makes the output `stride` times the input.
        auto_pad: AutoPad,
        /// Groups.
        groups: u32,
    },
    /// A function of every element. Input: x.
    Unary(Unary),
    /// A function of two tensors, with broadcasting. Inputs: a, b. Integers: Add, Sub, Mul, Div, Min, Max.
    Binary(Binary),
    /// A per-channel scale and shift (an inference batch norm). Inputs: x, scale (C), shift (C).
    ChannelAffine,
    /// A pooling window over (N, C, H, W). Input: x.
    Pool {
        /// The function of a window's elements.
        kind: PoolKind,
        /// Size.
        kernel: [u32; 2],
        /// Stride.
        stride: [u32; 2],
        /// Dilation.
        dilation: [u32; 2],
        /// Padding, `[top, left, bottom, right]`.
        padding: [u32; 4],
        /// Padding that depends on the input's size.
        auto_pad: AutoPad,
        /// Whether a last window that reaches past the end counts.
        ceil: bool,
    },
    /// The mean over all axes behind the channels. Input: x.
    GlobalAverage,
    /// The largest over all axes behind the channels. Input: x.
    GlobalMax,
    /// A reduction. Input: x.
    Reduce {
        /// The function of the reduced elements.
        reduction: Reduction,
        /// The axes, negative ones from the end; none means all.
        axes: Vec<i64>,
        /// Whether reduced axes stay, as 1.
        keep: bool,
    },
    /// Softmax along an axis. Input: x.
    Softmax {
        /// The axis, negative from the end.
        axis: i64,
        /// Whether it runs over this axis and all behind it together (ONNX before opset 13).
        flatten: bool,
    },
    /// The tensors side by side. Inputs: any number.
    Concat {
        /// The axis, negative from the end.
        axis: i64,
    },
    /// A part of a tensor. Inputs: x, starts, ends, and with more than three axes, and with four steps.
    Slice,
    /// A part of a tensor along one axis: one output of ONNX's Split. Input: x.
    Part {
        /// The axis, negative from the end.
        axis: i64,
        /// The part.
        part: Parts,
    },
    /// Elements picked along an axis. Inputs: x, indices known beforehand.
    Gather {
        /// The axis, negative from the end.
        axis: i64,
    },
    /// Resampling. Inputs: x, then scales (floats) or sizes (integers).
    Resize {
        /// The way that values between samples come about.
        interpolation: Interpolation,
        /// The way that an output coordinate maps to the input.
        coordinates: Coordinates,
        /// The axes that scales or sizes are for; none means all.
        axes: Vec<i64>,
    },
    /// The same elements under other dims. Inputs: x, dims.
    Reshape {
        /// Whether 0 is a dim of 0, and not the input's.
        allow_zero: bool,
    },
    /// Two dims: those before the axis, and the others. Input: x.
    Flatten {
        /// The axis, negative from the end.
        axis: i64,
    },
    /// Removes axes of 1. Input: x.
    Squeeze {
        /// The axes; none means all of 1.
        axes: Vec<i64>,
    },
    /// Inserts axes of 1. Input: x.
    Unsqueeze {
        /// The axes, counted in the output.
        axes: Vec<i64>,
    },
    /// Permutes axes. Input: x.
    Transpose {
        /// Output axis `i` is input axis `permutation[i]`; none reverses.
        permutation: Vec<i64>,
    },
    /// A margin, or with negative widths a cut. Inputs: x, widths in front then behind, optionally axes.
    Pad {
        /// The values of the margin.
        mode: PadMode,
    },
    /// The matrix product, as numpy's. Inputs: a, b.
    MatMul,
    /// Repeats axes of 1. Inputs: x, dims to broadcast with.
    Expand,
    /// Repeats a tensor. Inputs: x, repeats per axis.
    Tile,
    /// The dims from `start` to before `end`. Input: x.
    Shape {
        /// First axis, negative from the end.
        start: i64,
        /// Axis behind the last.
        end: Option<i64>,
    },
    /// Channels into blocks of pixels. Input: x, (N, C, H, W).
    DepthToSpace {
        /// Height and width of a block.
        block: u32,
        /// Whether the place in the block is outside of the channel (ONNX's DCR), or inside (CRD).
        blocks_first: bool,
    },
    /// Blocks of pixels into channels, the place in the block outside. Input: x, (N, C, H, W).
    SpaceToDepth {
        /// Height and width of a block.
        block: u32,
    },
    /// The number of elements. Input: x.
    Size,
    /// Converts between floats and integers. Input: x.
    Cast {
        /// The kind of the result.
        to: Kind,
    },
    /// A tensor of one value. Input: dims.
    ConstantOfShape {
        /// The value; its kind is the tensor's.
        value: Scalar,
    },
    /// `start, start + step, …` before the limit. Inputs: start, limit, step.
    Range,
    /// A comparison, of values known beforehand. Inputs: a, b.
    Compare(Comparison),
    /// The negation of a bool known beforehand. Input: x.
    Not,
    /// Elements of a where the condition holds, else of b; all known beforehand. Inputs: condition, a, b.
    Where,
}

/// The name of an operator and the number of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The operator's name.
    pub(crate) name: &'static str,
    /// The fewest inputs.
    pub(crate) least: usize,
    /// The most inputs.
    pub(crate) most: usize,
}

impl Op {
    /// The operator's name.
    pub fn name(&self) -> &'static str {
        self.signature().name
    }

    /// The table of names and numbers of inputs.
    pub(crate) fn signature(&self) -> Signature {
        let (name, least, most) = match self {
            Self::Conv { .. } => ("Conv", 1, 1),
            Self::ConvTranspose { .. } => ("ConvTranspose", 2, 3),
            Self::Unary(_) => ("Unary", 1, 1),
            Self::Binary(_) => ("Binary", 2, 2),
            Self::ChannelAffine => ("ChannelAffine", 3, 3),
            Self::Pool { .. } => ("Pool", 1, 1),
            Self::GlobalAverage => ("GlobalAverage", 1, 1),
            Self::GlobalMax => ("GlobalMax", 1, 1),
            Self::Reduce { .. } => ("Reduce", 1, 1),
            Self::Softmax { .. } => ("Softmax", 1, 1),
            Self::Concat { .. } => ("Concat", 1, usize::MAX),
            Self::Slice => ("Slice", 3, 5),
            Self::Part { .. } => ("Part", 1, 1),
            Self::Gather { .. } => ("Gather", 2, 2),
            Self::Resize { .. } => ("Resize", 2, 2),
            Self::Reshape { .. } => ("Reshape", 2, 2),
            Self::Flatten { .. } => ("Flatten", 1, 1),
            Self::Squeeze { .. } => ("Squeeze", 1, 1),
            Self::Unsqueeze { .. } => ("Unsqueeze", 1, 1),
            Self::Transpose { .. } => ("Transpose", 1, 1),
            Self::Pad { .. } => ("Pad", 2, 3),
            Self::MatMul => ("MatMul", 2, 2),
            Self::Expand => ("Expand", 2, 2),
            Self::Tile => ("Tile", 2, 2),
            Self::Shape { .. } => ("Shape", 1, 1),
            Self::DepthToSpace { .. } => ("DepthToSpace", 1, 1),
            Self::SpaceToDepth { .. } => ("SpaceToDepth", 1, 1),
            Self::Size => ("Size", 1, 1),
            Self::Cast { .. } => ("Cast", 1, 1),
            Self::ConstantOfShape { .. } => ("ConstantOfShape", 1, 1),
            Self::Range => ("Range", 3, 3),
            Self::Compare(_) => ("Compare", 2, 2),
            Self::Not => ("Not", 1, 1),
            Self::Where => ("Where", 3, 3),
        };
        Signature { name, least, most }
    }
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

/// The two kinds of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// f32.
    Float,
    /// i64.
    Integer,
    /// An i64 that is 0 or 1.
    Bool,
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
