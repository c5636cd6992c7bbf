//! A network for one set of input shapes: every shape is static, and only operations on floats are left.

use crate::ir::op::{Binary, Combination, PadMode, PoolKind, Reduction, Unary};
use crate::ir::tensor;
use crate::{Error, Result};
use dsconv::{Activation, Residual, Weights};
use std::sync::Arc;

/// A list of steps over float tensors of static shapes: what runs.
///
/// Invariants, which every consumer may rely on:
///
/// - Every tensor holds f32, row-major, of rank 0 to [`MAX_RANK`](tensor::MAX_RANK); every dim is at
///   least 1 and the elements number at most [`MAX_ELEMENTS`](tensor::MAX_ELEMENTS).
/// - Each step writes one tensor, whose [`Source::Step`] names it; it reads tensors that are inputs,
///   constants, outputs of earlier steps, or views of those.
/// - A [`Source::View`] names a tensor that is no view itself, of as many elements: the same memory
///   under other dims. No step writes a view.
/// - Every step's output is needed by an output of the program. Inputs may be unused.
/// - A program output may be an input, a constant or a view; two outputs may be one tensor.
/// - Weights and constants are shared with the [`Graph`](crate::Graph) and its other programs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    pub(crate) values: Vec<Value>,
    pub(crate) inputs: Vec<TensorId>,
    pub(crate) outputs: Vec<TensorId>,
    pub(crate) steps: Vec<Step>,
}

/// A tensor of a [`Program`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub(crate) usize);

impl TensorId {
    /// The index into [`Program::values`].
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Name, dims and origin of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The name in the graph; inputs and outputs have those of the model.
    pub name: String,
    /// The dims, outermost first.
    pub dims: Vec<usize>,
    /// The origin of the elements.
    pub source: Source,
}

impl Value {
    /// Number of elements, at least 1.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

/// The origin of a tensor's elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The program's input of that index.
    Input(usize),
    /// The elements are known beforehand.
    Constant(Arc<Vec<f32>>),
    /// The step of that index.
    Step(usize),
    /// The memory of another tensor, under other dims.
    View(TensorId),
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The name of the node it came from.
    pub name: String,
    /// The operation.
    pub op: StepOp,
    /// The tensors that it reads, in the order that the operation documents.
    pub inputs: Vec<TensorId>,
    /// The tensor that it writes; its dims are part of the operation.
    pub output: TensorId,
}

/// The operations: a small closed set. Dims are those of the step's inputs and output.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOp {
    /// A convolution of (N, C, H, W); the output's shape is that of the weights' descriptor.
    ///
    /// Inputs: x, and with a residual the tensor to add, of the output's dims.
    Conv {
        /// Weights, with the geometry.
        weights: Arc<Weights>,
        /// The activation of the sum.
        activation: Activation,
        /// The place where the second input is added.
        residual: Residual,
    },
    /// A transposed convolution of (N, C, H, W). Inputs: x, constant weights of (in_channels,
    /// out_channels / groups, height, width), and optionally a constant bias of (out_channels).
    ConvTranspose(ConvTranspose),
    /// A function of every element. Input: x; the output has its dims.
    Unary(Unary),
    /// A function of two tensors. Inputs: a, b; the output has the dims that they broadcast to.
    Binary(Binary),
    /// A window over (N, C, H, W). Input: x.
    ///
    /// A window may reach past the padded input at the bottom and right; what lies there never counts.
    Pool(Pool),
    /// A reduction. Input: x; the output has 1 where an axis was reduced.
    Reduce {
        /// The function of the reduced elements.
        reduction: Reduction,
        /// The axes, ascending, each once; at least one.
        axes: Vec<usize>,
    },
    /// `exp(x - max) / sum of exp(x - max)` along an axis. Input: x; the output has its dims.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// The tensors side by side. Inputs: two or more, whose dims differ along the axis only.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// `y[i] = x[start + i * step]` along each axis. Input: x; all indices lie inside of it.
    Slice {
        /// First index, per axis.
        start: Vec<usize>,
        /// Distance, per axis; not 0, may be negative.
        step: Vec<i64>,
    },
    /// Elements picked along one axis. Input: x; its other dims are the output's.
    Gather {
        /// The axis.
        axis: usize,
        /// An index into the axis for each of the output's.
        indices: Arc<Vec<u32>>,
    },
    /// x repeated along the axes where it has 1 (missing leading axes count as 1) and the output more. Input: x.
    Expand,
    /// `y` has axis `i` where x has axis `permutation[i]`. Input: x.
    Transpose {
        /// The permutation.
        permutation: Vec<usize>,
    },
    /// x with a margin. Input: x.
    Pad {
        /// Elements in front, per axis; those behind follow from the output's dims.
        before: Vec<usize>,
        /// The values of the margin, which for `Reflect` is narrower than x.
        mode: PadMode,
    },
    /// A weighted sum of a few elements along one or two axes: nearest, linear or cubic resampling. Input: x.
    Resize {
        /// One or two axes, ascending.
        axes: Vec<Taps>,
    },
    /// The matrix product of the last two axes; leading axes broadcast. Inputs: a `(.., M, K)`, b `(.., K, N)`, of
    /// rank 2 or more.
    MatMul,
    /// Elements picked along one axis by indices that the run computes. Inputs: x, and indices, whole numbers of which
    /// negative ones count from the end and those outside are brought inside. Both have 1 or the output's dim along
    /// every other axis; along this one the indices have the output's.
    Pick {
        /// The axis.
        axis: usize,
    },
    /// x with elements changed along one axis. Inputs: x, indices as in `Pick`, of which those outside change nothing,
    /// and updates, of the indices' dims, which are x's or less. The output has x's dims.
    Scatter {
        /// The axis.
        axis: usize,
        /// What becomes of the element and its updates, in their order.
        combination: Combination,
    },
    /// The places along an axis of its elements in order; equals keep theirs. Input: x; the output has as many along
    /// that axis as are wanted, at most x's.
    Order {
        /// The axis.
        axis: usize,
        /// Whether the largest come first.
        descending: bool,
    },
    /// Rows (image, class, box) of the boxes that do not overlap better ones of their class, in order of their scores.
    /// Inputs: boxes (N, B, 4), scores (N, C, B), and their places in descending order. The output has as many rows for
    /// each class of each image as may be wanted; those that are left over are -1, and [`Program::shown`] drops them.
    Suppress {
        /// Whether boxes are given by their centre and size, and not by two corners.
        centre: bool,
        /// The share of both boxes' area, beyond which the worse one is dropped.
        overlap: f32,
        /// What every score exceeds.
        least: f32,
    },
    /// The gradient of a convolution's input. Input: that of its output, before activation and residual; the output has
    /// the dims of the convolution's input. This and what follows is of training programs only.
    ConvInputGradient {
        /// The convolution's weights, without a channel distribution shift.
        weights: Arc<Weights>,
    },
    /// The gradient of a convolution's weights: that of alpha and, if there is one, of the KDS bias behind it; or that
    /// of float values. Inputs: the convolution's, and the gradient of its output as in `ConvInputGradient`. The output
    /// has one axis.
    ConvWeightGradient {
        /// The convolution's weights, without a channel distribution shift.
        weights: Arc<Weights>,
    },
    /// The gradient of a function's input. Inputs: x, and the gradient of the output; all have the same dims.
    UnaryGradient(Unary),
    /// The gradient of a pooling window's input; of equal largest elements the first has it. Inputs: x, and the
    /// gradient of the output. The output has x's dims.
    PoolGradient(Pool),
}

impl StepOp {
    /// The operation's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "Conv",
            Self::ConvTranspose(_) => "ConvTranspose",
            Self::Unary(_) => "Unary",
            Self::Binary(_) => "Binary",
            Self::Pool(_) => "Pool",
            Self::Reduce { .. } => "Reduce",
            Self::Softmax { .. } => "Softmax",
            Self::Concat { .. } => "Concat",
            Self::Slice { .. } => "Slice",
            Self::Gather { .. } => "Gather",
            Self::Expand => "Expand",
            Self::Transpose { .. } => "Transpose",
            Self::Pad { .. } => "Pad",
            Self::Resize { .. } => "Resize",
            Self::MatMul => "MatMul",
            Self::Pick { .. } => "Pick",
            Self::Scatter { .. } => "Scatter",
            Self::Order { .. } => "Order",
            Self::Suppress { .. } => "Suppress",
            Self::ConvInputGradient { .. } => "ConvInputGradient",
            Self::ConvWeightGradient { .. } => "ConvWeightGradient",
            Self::UnaryGradient(_) => "UnaryGradient",
            Self::PoolGradient(_) => "PoolGradient",
        }
    }
}

/// The resampling of one axis: `y[i] = sum over t < count of weights[i * count + t] * x[indices[i * count + t]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Taps {
    /// The axis.
    pub axis: usize,
    /// Elements of x per element of y.
    pub count: usize,
    /// Indices along x's axis.
    pub indices: Vec<u32>,
    /// The weights of those elements.
    pub weights: Vec<f32>,
}

/// Geometry of a pooling window, `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The function of a window's elements.
    pub kind: PoolKind,
    /// Size.
    pub kernel: [u32; 2],
    /// Stride.
    pub stride: [u32; 2],
    /// Dilation; 1 is none.
    pub dilation: [u32; 2],
    /// Padding, `[top, left, bottom, right]`.
    pub padding: [u32; 4],
}

/// Geometry of a transposed convolution:
/// `y[o, p * stride + tap * dilation - padding] += w[c, o, tap] * x[c, p]`, where that lies inside of y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose {
    /// Kernel size, `[height, width]`.
    pub kernel: [u32; 2],
    /// Stride, `[vertical, horizontal]`.
    pub stride: [u32; 2],
    /// Dilation, `[vertical, horizontal]`; 1 is none.
    pub dilation: [u32; 2],
    /// Rows cut off the top, columns cut off the left; the rest follows from the output's dims.
    pub padding: [u32; 2],
    /// Groups.
    pub groups: u32,
}

impl Program {
    /// The tensors.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// One tensor.
    pub fn value(&self, id: TensorId) -> &Value {
        &self.values[id.0]
    }

    /// The inputs, in the model's order.
    pub fn inputs(&self) -> &[TensorId] {
        &self.inputs
    }

    /// The outputs, in the model's order.
    pub fn outputs(&self) -> &[TensorId] {
        &self.outputs
    }

    /// The steps, in an order they can run in.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The tensor whose memory a tensor is: itself, unless it is a view.
    pub fn storage(&self, id: TensorId) -> TensorId {
        match self.values[id.0].source {
            Source::View(of) => of,
            _ => id,
        }
    }

    /// The dims and elements of an output as the model has them: of a run's elements, those of [`StepOp::Suppress`]
    /// without the rows that are left over. The index is that of an output.
    pub fn shown(&self, index: usize, values: Vec<f32>) -> (Vec<usize>, Vec<f32>) {
        let Some(value) = self.outputs.get(index).map(|&id| self.value(self.storage(id))) else {
            return (vec![values.len()], values);
        };
        let dims = self.value(self.outputs[index]).dims.clone();
        let Source::Step(step) = value.source else { return (dims, values) };
        if !matches!(self.steps[step].op, StepOp::Suppress { .. }) {
            return (dims, values);
        }
        let rows = values.chunks(3).filter(|row| row[0] >= 0.0);
        let values: Vec<f32> = rows.flatten().copied().collect();
        (vec![values.len() / 3, 3], values)
    }

    /// Checks that the inputs are as many as the program's and have their lengths.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the input.
    pub fn check_inputs(&self, inputs: &[&[f32]]) -> Result<()> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::invalid("inputs", self.inputs.len().to_string(), inputs.len()));
        }
        for (&id, input) in self.inputs.iter().zip(inputs) {
            let value = self.value(id);
            let elements = tensor::elements(&value.name, &value.dims)?;
            if input.len() != elements {
                let expected = format!("{elements} elements, {:?}", value.dims);
                return Err(Error::invalid(
                    format!("input {:?}", value.name),
                    expected,
                    input.len(),
                ));
            }
        }
        Ok(())
    }
}
