//! The operators of a graph, in ONNX's semantics: [`Op`], and the table of names and numbers of inputs.

use super::fields::{
    AutoPad, Channels, Comparison, Coordinates, GridInterpolation, GridPadding, Interpolation,
    Kind, Parts, Recurrent, ResizeOptions, RoiAlign, Scalar,
};
use super::op::{Binary, Combination, PadMode, PoolKind, Reduction, Unary};
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
    /// Resampling. Inputs: x, then scales (floats) or sizes (integers), optionally starts and ends of the part.
    Resize {
        /// The way that values between samples come about.
        interpolation: Interpolation,
        /// The way that an output coordinate maps to the input.
        coordinates: Coordinates,
        /// The axes that scales or sizes are for; none means all.
        axes: Vec<i64>,
        /// What few models ask for.
        #[serde(default)]
        options: ResizeOptions,
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
    /// A comparison. Inputs: a, b.
    Compare(Comparison),
    /// The negation of a bool. Input: x.
    Not,
    /// Elements of a where the condition holds, else of b. Inputs: condition, a, b.
    Where,
    /// The value of one of two branches, by a condition that the input's size decides: the other branch may be wrong
    /// for it. Inputs: condition, a value where it holds, a value where not.
    Choose,
    /// The place of the largest element along an axis. Input: x.
    ArgMax {
        /// The axis, negative from the end.
        axis: i64,
        /// Whether the axis stays, as 1.
        keep: bool,
        /// Whether it is the last of equals.
        last: bool,
        /// Whether it is the smallest element instead.
        smallest: bool,
    },
    /// 1 at the first of the largest elements along an axis, else 0. Input: x.
    Hardmax {
        /// The axis, negative from the end.
        axis: i64,
        /// Whether it runs over this axis and all behind it together (ONNX before opset 13).
        flatten: bool,
    },
    /// The places of the first elements along an axis, in order of their values. Inputs: x, how many.
    Order {
        /// The axis, negative from the end.
        axis: i64,
        /// Whether the largest come first.
        descending: bool,
    },
    /// Elements picked along an axis, each by an index of its own. Inputs: x, indices.
    GatherElements {
        /// The axis, negative from the end.
        axis: i64,
    },
    /// Slices picked by the coordinates along the indices' last axis. Inputs: x, indices.
    GatherNd {
        /// Leading axes that x and the indices share.
        batch: usize,
    },
    /// Elements changed along an axis, each at an index of its own. Inputs: x, indices, updates.
    ScatterElements {
        /// The axis, negative from the end.
        axis: i64,
        /// What becomes of an element and its update.
        combination: Combination,
    },
    /// Slices changed at the coordinates along the indices' last axis. Inputs: x, indices, updates.
    ScatterNd {
        /// What becomes of an element and its update.
        combination: Combination,
    },
    /// The sum of the elements up to each one along an axis. Inputs: x, the axis.
    CumulativeSum {
        /// Whether the element itself is left out.
        exclusive: bool,
        /// Whether it is the sum from each one on.
        reverse: bool,
    },
    /// A new axis that has one value at the place that an index tells, and another elsewhere. Inputs: indices, the
    /// axis's length, both values (off, on).
    OneHot {
        /// The axis, counted in the output.
        axis: i64,
    },
    /// A triangle of the matrices along the last two axes; the rest becomes 0. Inputs: x, optionally the diagonal.
    Triangle {
        /// Whether it is the upper one.
        upper: bool,
    },
    /// A sum of products along named axes. Inputs: one for each term.
    Einsum {
        /// The equation, such as `bij,bjk->bik`.
        equation: String,
    },
    /// Samples of an image at places from -1 to 1. Inputs: x (N, C, ...), places (N, ..., axes, innermost first).
    GridSample {
        /// The way that values between samples come about, nearest by rounding half to even.
        interpolation: GridInterpolation,
        /// What lies outside.
        padding: GridPadding,
        /// Whether -1 and 1 are the centres of the outermost pixels, and not their edges.
        align_corners: bool,
    },
    /// Pooled samples of boxes. Inputs: x (N, C, H, W), boxes (R, 4), the image of each box (R).
    RoiAlign(RoiAlign),
    /// Boxes that do not overlap better ones of their class: rows of image, class and box, which no other node reads.
    /// Inputs: boxes (N, B, 4), scores (N, C, B), the most boxes of a class, the overlap, the score that all exceed.
    Suppress {
        /// Whether boxes are given by their centre and size, and not by two corners.
        centre: bool,
    },
    /// A recurrent network. Inputs: x (T, N, I), weights (D, G, I), weights of the state (D, G, H), bias (D, 2 G), for
    /// an LSTM the peepholes (D, 3 H), and those of the further inputs that there are: lengths, first state, first
    /// cell. Output: (T + 2, D, N, H), the states, then the last state and the last cell.
    Recurrent(Recurrent),
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
            Self::Resize { .. } => ("Resize", 2, 3),
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
            Self::Choose => ("Choose", 3, 3),
            Self::ArgMax { .. } => ("ArgMax", 1, 1),
            Self::Hardmax { .. } => ("Hardmax", 1, 1),
            Self::Order { .. } => ("Order", 2, 2),
            Self::GatherElements { .. } => ("GatherElements", 2, 2),
            Self::GatherNd { .. } => ("GatherNd", 2, 2),
            Self::ScatterElements { .. } => ("ScatterElements", 3, 3),
            Self::ScatterNd { .. } => ("ScatterNd", 3, 3),
            Self::CumulativeSum { .. } => ("CumulativeSum", 2, 2),
            Self::OneHot { .. } => ("OneHot", 3, 3),
            Self::Triangle { .. } => ("Triangle", 1, 2),
            Self::Einsum { .. } => ("Einsum", 1, usize::MAX),
            Self::GridSample { .. } => ("GridSample", 2, 2),
            Self::RoiAlign(_) => ("RoiAlign", 3, 3),
            Self::Suppress { .. } => ("Suppress", 5, 5),
            Self::Recurrent(_) => ("Recurrent", 4, 8),
        };
        Signature { name, least, most }
    }
}

impl Op {
    /// The kind of the output, from those of the inputs.
    pub(crate) fn kind(&self, inputs: &[Kind]) -> Kind {
        let first = inputs.first().copied().unwrap_or_default();
        match self {
            Self::Shape { .. } | Self::Size | Self::ArgMax { .. } | Self::Order { .. } => {
                Kind::Integer
            }
            Self::Suppress { .. } => Kind::Integer,
            Self::Pool { kind: PoolKind::PlaceOfMax, .. } => Kind::Integer,
            Self::Compare(_) | Self::Not => Kind::Bool,
            Self::Unary(Unary::IsNan | Unary::IsInf { .. }) => Kind::Bool,
            Self::Cast { to } => *to,
            Self::ConstantOfShape { value: Scalar::Integer(_) } => Kind::Integer,
            Self::ConstantOfShape { value: Scalar::Float(_) } => Kind::Float,
            Self::Where | Self::Choose => inputs.get(1).copied().unwrap_or_default(),
            Self::OneHot { .. } => inputs.get(2).copied().unwrap_or_default(),
            _ => first,
        }
    }
}
