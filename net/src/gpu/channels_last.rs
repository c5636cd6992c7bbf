//! Which tensors of a program lie channels last (NHWC) in device memory, so that kernels load neighbouring channels
//! with one load. The program knows nothing of it: its tensors are row-major, and so is what the host writes and reads.
//!
//! Convolutions read and write any layout, each side its own, and most other operations walk through memory by steps
//! per axis, so a change of layout costs nothing there. Two passes use this:
//!
//! - Backwards, every tensor learns what its readers wish: convolutions wish channels last, matrix products and
//!   reshapes row-major, and other operations what is wished of their outputs, or nothing if they can turn one into the
//!   other. Convolutions win.
//! - Forwards, every step writes its output as is wished, or as its inputs lie where nobody minds. Operations whose
//!   input and output must lie alike pass on what they get.
//!
//! Where a step needs another layout than a tensor has, the schedule inserts a copy, which all its readers share.

use crate::ir::program::{Program, Source, Step, StepOp, TensorId};
use dsconv::Layout;

/// The permutation from (N, C, H, W) to (N, H, W, C).
const TO_LAST: [usize; 4] = [0, 2, 3, 1];
/// The permutation from (N, H, W, C) to (N, C, H, W).
const FROM_LAST: [usize; 4] = [0, 3, 1, 2];

/// The layout of every storage of a program.
#[derive(Debug)]
pub(crate) struct Layouts<'a> {
    program: &'a Program,
    /// By the storage's index.
    layouts: Vec<Layout>,
}

/// What the readers of a tensor wish it to be; later ones win over earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    Any,
    RowMajor,
    ChannelsLast,
}

/// What an operation demands of the layouts of its inputs and output.
enum Demand {
    /// Nothing: it walks by steps per axis.
    Nothing,
    /// That its input lies as its output does.
    Alike,
    /// Row-major inputs and output.
    RowMajor,
}

impl<'a> Layouts<'a> {
    /// Finds the layouts.
    pub(crate) fn new(program: &'a Program) -> Self {
        let mut this = Self { program, layouts: vec![Layout::Nchw; program.values().len()] };
        let wishes = this.wishes();
        for step in program.steps() {
            let output = step.output;
            if this.is_free(output) {
                this.layouts[output.index()] = this.written(step, wishes[output.index()]);
            }
        }
        this
    }

    /// Layouts of someone's choice.
    #[cfg(test)]
    pub(crate) fn chosen(program: &'a Program, mut choose: impl FnMut() -> Layout) -> Self {
        let mut this = Self { program, layouts: vec![Layout::Nchw; program.values().len()] };
        for step in program.steps() {
            if this.is_free(step.output) {
                this.layouts[step.output.index()] = choose();
            }
        }
        this
    }

    pub(crate) fn program(&self) -> &'a Program {
        self.program
    }

    /// The layout of a tensor as its storage has it; row-major for a reshape, whatever the storage's.
    pub(crate) fn of(&self, id: TensorId) -> Layout {
        match self.is_whole(id) {
            true => self.layouts[self.program.storage(id).index()],
            false => Layout::Nchw,
        }
    }

    /// The layout that a step writes its output in.
    pub(crate) fn of_output(&self, step: &Step) -> Layout {
        match (&step.op, demand(&step.op)) {
            (_, Demand::Alike) if self.is_either(step.output) => self.of(step.inputs[0]),
            (StepOp::Conv { .. } | StepOp::ConvInputGradient { .. }, _) => {
                self.of_image(step.output)
            }
            _ => self.of(step.output),
        }
    }

    /// The layout that a step reads an input in.
    pub(crate) fn of_input(&self, step: &Step, index: usize) -> Layout {
        let id = step.inputs[index];
        match (&step.op, demand(&step.op)) {
            (StepOp::Conv { .. } | StepOp::ConvInputGradient { .. }, _) if index == 0 => {
                self.of_image(id)
            }
            // The residual.
            (StepOp::Conv { .. }, _) | (_, Demand::Alike) => self.of_output(step),
            (_, Demand::Nothing) => self.of(id),
            (_, Demand::RowMajor) => Layout::Nchw,
        }
    }

    /// The layout that a convolution knows a tensor by. Where both are the same, it is the one that has kernels for
    /// whole vectors.
    fn of_image(&self, id: TensorId) -> Layout {
        if self.is_either(id) { Layout::Nhwc } else { self.of(id) }
    }

    /// Whether both orders of a tensor's elements are the same.
    pub(crate) fn is_either(&self, id: TensorId) -> bool {
        matches!(*self.program.value(id).dims, [_, c, h, w] if c == 1 || h * w == 1)
    }

    /// Whether a tensor has the dims of its storage, so that the storage's layout is its own.
    pub(crate) fn is_whole(&self, id: TensorId) -> bool {
        let program = self.program;
        program.value(id).dims == program.value(program.storage(id)).dims
    }

    /// Whether the layout of a step's output is ours to choose, and matters.
    fn is_free(&self, id: TensorId) -> bool {
        let program = self.program;
        let value = program.value(id);
        let Source::Step(step) = value.source else { return false };
        value.dims.len() == 4
            && !matches!(demand(&program.steps()[step].op), Demand::RowMajor)
            && !self.is_either(id)
            && !program.outputs().iter().any(|&output| program.storage(output) == id)
    }

    /// The wishes of the readers of each storage.
    fn wishes(&self) -> Vec<Wish> {
        let mut wishes = vec![Wish::Any; self.layouts.len()];
        for step in self.program.steps().iter().rev() {
            let output = if self.is_free(step.output) {
                wishes[step.output.index()]
            } else if self.is_either(step.output) {
                Wish::Any
            } else {
                Wish::RowMajor
            };
            for (index, &id) in step.inputs.iter().enumerate() {
                let wish = match &step.op {
                    _ if !self.is_whole(id) => Wish::RowMajor,
                    StepOp::Conv { .. } | StepOp::ConvInputGradient { .. } if index == 0 => {
                        Wish::ChannelsLast
                    }
                    StepOp::Transpose { permutation } if *permutation == TO_LAST => {
                        Wish::ChannelsLast // Nothing has to move then.
                    }
                    StepOp::Transpose { .. } => Wish::Any,
                    // The residual.
                    StepOp::Conv { .. } => output,
                    op => match demand(op) {
                        Demand::Nothing if output == Wish::RowMajor => Wish::Any,
                        Demand::Nothing | Demand::Alike => output,
                        Demand::RowMajor => Wish::RowMajor,
                    },
                };
                let all = &mut wishes[self.program.storage(id).index()];
                *all = wish.max(*all);
            }
        }
        wishes
    }

    /// The layout that a step writes a free output in.
    fn written(&self, step: &Step, wish: Wish) -> Layout {
        let x = step.inputs[0];
        // A convolution's input may lie as it will, its residual may not.
        let convolves = matches!(step.op, StepOp::Conv { .. } | StepOp::ConvInputGradient { .. });
        let minded = &step.inputs[usize::from(convolves)..];
        let chosen = match wish {
            Wish::ChannelsLast => Layout::Nhwc,
            Wish::Any if minded.iter().any(|&id| self.of(id) == Layout::Nhwc) => Layout::Nhwc,
            Wish::Any | Wish::RowMajor => Layout::Nchw,
        };
        match (&step.op, demand(&step.op)) {
            (StepOp::Transpose { permutation }, _) => match self.of(x) {
                Layout::Nhwc if *permutation == TO_LAST => Layout::Nchw,
                Layout::Nchw if *permutation == FROM_LAST => Layout::Nhwc,
                _ => chosen,
            },
            (_, Demand::Alike) if !self.is_either(x) => self.of(x),
            _ => chosen,
        }
    }
}

fn demand(op: &StepOp) -> Demand {
    match op {
        StepOp::Unary(_)
        | StepOp::UnaryGradient(_)
        | StepOp::Softmax { .. }
        | StepOp::Resize { .. } => Demand::Alike,
        StepOp::MatMul
        | StepOp::Pick { .. }
        | StepOp::Scatter { .. }
        | StepOp::Order { .. }
        | StepOp::Suppress { .. } => Demand::RowMajor,
        StepOp::Conv { .. }
        | StepOp::ConvInputGradient { .. }
        | StepOp::ConvWeightGradient { .. }
        | StepOp::PoolGradient(_)
        | StepOp::ConvTranspose(_)
        | StepOp::Binary(_)
        | StepOp::Pool(_)
        | StepOp::Reduce { .. }
        | StepOp::Concat { .. }
        | StepOp::Slice { .. }
        | StepOp::Gather { .. }
        | StepOp::Expand
        | StepOp::Transpose { .. }
        | StepOp::Pad { .. } => Demand::Nothing,
    }
}
