//! Fusion of a program's steps: activations and residual additions into the convolutions before them, and what
//! quantises and dequantises into one function.

use crate::ir::op::{Binary, Unary};
use crate::ir::program::{Program, Source, Step, StepOp, TensorId};
use dsconv::{Activation, Residual};

/// Fuses what can be. Leaves steps in an order they can run in, and tensors that nothing needs any more.
pub(crate) fn fuse(mut program: Program) -> Program {
    let mut readers = vec![0; program.values.len()];
    for &id in program.steps.iter().flat_map(|step| &step.inputs).chain(&program.outputs) {
        readers[program.storage(id).0] += 1;
    }
    let steps = std::mem::take(&mut program.steps).into_iter().map(Some).collect();
    let mut fuser = Fuser { program, steps, readers };
    for index in 0..fuser.steps.len() {
        fuser.gate(index);
        fuser.stepped(index);
        fuser.activation(index);
        fuser.residual(index);
    }
    Program { steps: fuser.steps.into_iter().flatten().collect(), ..fuser.program }
}

struct Fuser {
    program: Program,
    steps: Vec<Option<Step>>,
    /// The number of times that each tensor, or a view of it, is read.
    readers: Vec<usize>,
}

impl Fuser {
    /// The step that writes a tensor, or the tensor it is a view of.
    fn writer(&self, id: TensorId) -> Option<(usize, &Step)> {
        match self.program.value(self.program.storage(id)).source {
            Source::Step(index) => Some((index, self.steps[index].as_ref()?)),
            _ => None,
        }
    }

    fn same(&self, a: TensorId, b: TensorId) -> bool {
        self.program.storage(a) == self.program.storage(b)
            && self.program.value(a).dims == self.program.value(b).dims
    }

    fn scalar(&self, id: TensorId) -> Option<f32> {
        match &self.program.value(id).source {
            Source::Constant(values) if values.len() == 1 => Some(values[0]),
            _ => None,
        }
    }

    /// One reader less; what is not read any more goes.
    fn release(&mut self, id: TensorId) {
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            let storage = self.program.storage(id);
            self.readers[storage.0] -= 1;
            if self.readers[storage.0] == 0
                && let Source::Step(index) = self.program.value(storage).source
                && let Some(step) = self.steps[index].take()
            {
                left.extend(step.inputs);
            }
        }
    }

    /// `x * sigmoid(x)` and `x * hard sigmoid(x)`, in the forms that exporters write, as one function of x.
    fn gate(&mut self, index: usize) {
        let Some((x, activation)) = self.gated(index) else { return };
        let Some(mut step) = self.steps[index].take() else { return };
        self.readers[self.program.storage(x).0] += 1;
        for id in std::mem::replace(&mut step.inputs, vec![x]) {
            self.release(id);
        }
        step.op = StepOp::Unary(Unary::Activation(activation));
        self.steps[index] = Some(step);
    }

    fn gated(&self, index: usize) -> Option<(TensorId, Activation)> {
        let step = self.steps[index].as_ref()?;
        let StepOp::Binary(binary) = step.op else { return None };
        let [a, b] = step.inputs[..] else { return None };
        let sixth = |id: TensorId, binary: Binary| {
            self.scalar(id).is_some_and(|value| match binary {
                Binary::Div => value == 6.0,
                Binary::Mul => (value * 6.0 - 1.0).abs() < 1e-6,
                _ => false,
            })
        };
        let dims = |id: TensorId| &self.program.value(id).dims;
        let output = dims(step.output);
        let either = |pick: &dyn Fn(TensorId, TensorId) -> Option<(TensorId, Activation)>| {
            pick(a, b).or_else(|| pick(b, a))
        };
        let found = if binary == Binary::Mul {
            either(&|x, gate| {
                let (_, gate) = self.writer(gate)?;
                let inner = *gate.inputs.first()?;
                let activation = match gate.op {
                    StepOp::Unary(Unary::Activation(Activation::Sigmoid)) => Activation::Silu,
                    StepOp::Unary(Unary::HardSigmoid { alpha, beta })
                        if (alpha * 6.0 - 1.0).abs() < 1e-6 && beta == 0.5 =>
                    {
                        Activation::HardSwish
                    }
                    StepOp::Binary(binary) if sixth(*gate.inputs.get(1)?, binary) => {
                        // x * (relu6(x + 3) / 6)
                        let x3 = self.relu6_of_plus_3(inner)?;
                        return self.same(x, x3).then_some((x, Activation::HardSwish));
                    }
                    _ => return None,
                };
                self.same(x, inner).then_some((x, activation))
            })
        } else {
            None
        };
        let found = found.or_else(|| {
            // x * relu6(x + 3) / 6
            either(&|product, factor| {
                let turned = product == b;
                if !sixth(factor, binary) || (turned && binary == Binary::Div) {
                    return None;
                }
                let (_, product) = self.writer(product)?;
                let (StepOp::Binary(Binary::Mul), [c, d]) = (&product.op, &product.inputs[..])
                else {
                    return None;
                };
                [(*c, *d), (*d, *c)].into_iter().find_map(|(x, gate)| {
                    let inner = self.relu6_of_plus_3(gate)?;
                    self.same(x, inner).then_some((x, Activation::HardSwish))
                })
            })
        });
        found.filter(|(x, _)| dims(*x) == output)
    }

    /// The x of `relu6(x + 3)`.
    /// QuantizeLinear and DequantizeLinear of one scale, as one function of x.
    fn stepped(&mut self, index: usize) {
        let Some((x, function)) = self.steps_of(index) else { return };
        let Some(mut step) = self.steps[index].take() else { return };
        self.readers[self.program.storage(x).0] += 1;
        for id in std::mem::replace(&mut step.inputs, vec![x]) {
            self.release(id);
        }
        step.op = StepOp::Unary(function);
        self.steps[index] = Some(step);
    }

    /// `(clamp(round(x / scale) + zero) - zero) * scale`, the zero being optional.
    fn steps_of(&self, index: usize) -> Option<(TensorId, Unary)> {
        let step = self.steps[index].as_ref()?;
        let (mut at, scale) = self.by_scalar(step, Binary::Mul)?;
        let mut zero = 0.0;
        if let Some((x, less)) = self.by_scalar(self.whole_writer(at)?, Binary::Sub) {
            (at, zero) = (x, less);
        }
        let clamp = self.whole_writer(at)?;
        let StepOp::Unary(Unary::Activation(Activation::Clamp { low, high })) = clamp.op else {
            return None;
        };
        at = *clamp.inputs.first()?;
        let mut added = 0.0;
        if let Some((x, more)) = self.by_scalar(self.whole_writer(at)?, Binary::Add) {
            (at, added) = (x, more);
        }
        let round = self.whole_writer(at)?;
        let StepOp::Unary(Unary::Round) = round.op else { return None };
        let (x, by) = self.by_scalar(self.whole_writer(*round.inputs.first()?)?, Binary::Div)?;
        let fits = by == scale && added == zero && scale != 0.0;
        let function = Unary::Stepped { step: scale, low: low - zero, high: high - zero };
        fits.then_some((x, function))
    }

    /// The step that writes a tensor that is no view.
    fn whole_writer(&self, id: TensorId) -> Option<&Step> {
        (self.program.storage(id) == id).then(|| self.writer(id)).flatten().map(|(_, step)| step)
    }

    /// The tensor and the number of a function of both, where the result has the tensor's dims.
    fn by_scalar(&self, step: &Step, wanted: Binary) -> Option<(TensorId, f32)> {
        let (StepOp::Binary(binary), &[x, number]) = (&step.op, &step.inputs[..]) else {
            return None;
        };
        let dims = |id: TensorId| &self.program.value(id).dims;
        let fits = *binary == wanted && dims(x) == dims(step.output);
        fits.then_some((x, self.scalar(number)?))
    }

    fn relu6_of_plus_3(&self, id: TensorId) -> Option<TensorId> {
        let (_, step) = self.writer(id)?;
        let StepOp::Unary(Unary::Activation(Activation::Relu6)) = step.op else { return None };
        let (_, step) = self.writer(step.inputs[0])?;
        let (StepOp::Binary(Binary::Add), [a, b]) = (&step.op, &step.inputs[..]) else {
            return None;
        };
        match (self.scalar(*a), self.scalar(*b)) {
            (_, Some(3.0)) => Some(*a),
            (Some(3.0), _) => Some(*b),
            _ => None,
        }
    }

    /// The convolution that only this reader sees.
    fn private_conv(&self, id: TensorId) -> Option<(usize, Activation, Residual)> {
        let (index, step) = self.writer(id)?;
        match step.op {
            StepOp::Conv { activation, residual, .. }
                if self.readers[self.program.storage(id).0] == 1 =>
            {
                Some((index, activation, residual))
            }
            _ => None,
        }
    }

    fn activation(&mut self, index: usize) {
        let Some(step) = &self.steps[index] else { return };
        let StepOp::Unary(Unary::Activation(function)) = step.op else { return };
        let Some((conv, Activation::Identity, residual)) = self.private_conv(step.inputs[0]) else {
            return;
        };
        if residual != Residual::AfterActivation {
            self.merge(conv, index, None, |activation, _| *activation = function);
        }
    }

    fn residual(&mut self, index: usize) {
        let Some(step) = &self.steps[index] else { return };
        let (StepOp::Binary(Binary::Add), &[a, b]) = (&step.op, &step.inputs[..]) else { return };
        let dims = |id: TensorId| &self.program.value(id).dims;
        if dims(a) != dims(b) {
            return;
        }
        let candidate = |conv: TensorId, added: TensorId| match self.private_conv(conv) {
            Some((conv, activation, Residual::None)) => Some((conv, activation, added)),
            _ => None,
        };
        // The later of two: the other is at hand when it runs.
        let Some((conv, activation, added)) =
            [candidate(a, b), candidate(b, a)].into_iter().flatten().max_by_key(|found| found.0)
        else {
            return;
        };
        let order = match activation {
            Activation::Identity => Residual::BeforeActivation,
            _ => Residual::AfterActivation,
        };
        self.merge(conv, index, Some(added), |_, residual| *residual = order);
    }

    /// Lets the convolution compute what the step at `index`, its only reader, does. It takes that step's place.
    fn merge(
        &mut self,
        conv: usize,
        index: usize,
        added: Option<TensorId>,
        change: impl FnOnce(&mut Activation, &mut Residual),
    ) {
        let (Some(mut fused), Some(step)) = (self.steps[conv].take(), self.steps[index].take())
        else {
            return;
        };
        if let StepOp::Conv { activation, residual, .. } = &mut fused.op {
            change(activation, residual);
        }
        let dims = self.program.value(fused.output).dims.clone();
        if let Some(added) = added {
            let id = if self.program.value(added).dims == dims {
                added
            } else {
                self.view(added, dims.clone())
            };
            fused.inputs.push(id);
        }
        let (old, new) = (fused.output, step.output);
        if self.program.value(new).dims == dims {
            fused.output = new;
            self.program.values[new.0].source = Source::Step(index);
        } else {
            // The step worked on a view: what it wrote becomes one.
            self.program.values[old.0].source = Source::Step(index);
            for value in &mut self.program.values {
                if value.source == Source::View(new) {
                    value.source = Source::View(old);
                }
            }
            self.program.values[new.0].source = Source::View(old);
            self.readers[old.0] = self.readers[new.0];
        }
        self.steps[index] = Some(fused);
    }

    fn view(&mut self, of: TensorId, dims: Vec<usize>) -> TensorId {
        let storage = self.program.storage(of);
        let mut value = self.program.value(of).clone();
        value.dims = dims;
        if !matches!(value.source, Source::Constant(_)) {
            value.source = Source::View(storage);
        }
        let constant = matches!(value.source, Source::Constant(_));
        self.program.values.push(value);
        // A constant under other dims is a tensor of its own.
        self.readers.push(usize::from(constant));
        TensorId(self.program.values.len() - 1)
    }
}
