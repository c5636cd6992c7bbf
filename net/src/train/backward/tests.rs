//! Every operation's gradient against differences of the program's outputs.

use super::*;
use crate::cpu;
use crate::ir::op::{PadMode, PoolKind, Reduction};
use crate::ir::program::{ConvTranspose, Pool, Source, Taps, Value};
use dsconv::{Activation, ConvDescriptor, FloatWeights, Partition, Quantizer};
use fastrand::Rng;

/// A program under construction, whose inputs are all wanted.
#[derive(Default)]
struct Draft(Program);

impl Draft {
    fn value(&mut self, dims: &[usize], source: Source) -> TensorId {
        let id = TensorId(self.0.values.len());
        self.0.values.push(Value { name: format!("t{}", id.0), dims: dims.to_vec(), source });
        id
    }

    fn input(&mut self, dims: &[usize]) -> TensorId {
        let id = self.value(dims, Source::Input(self.0.inputs.len()));
        self.0.inputs.push(id);
        id
    }

    fn step(&mut self, op: StepOp, inputs: &[TensorId], dims: &[usize]) -> TensorId {
        let output = self.value(dims, Source::Step(self.0.steps.len()));
        let name = format!("s{}", self.0.steps.len());
        self.0.steps.push(Step { name, op, inputs: inputs.to_vec(), output });
        output
    }
}

/// A program of one step.
fn single(op: StepOp, inputs: &[&[usize]], dims: &[usize]) -> Program {
    let mut draft = Draft::default();
    let ids: Vec<_> = inputs.iter().map(|dims| draft.input(dims)).collect();
    let y = draft.step(op, &ids, dims);
    draft.0.outputs = vec![y];
    draft.0
}

/// Numbers of a size that functions are smooth at: apart from each other and from the whole numbers, where kinks are.
fn smooth(rng: &mut Rng, count: usize) -> Vec<f32> {
    let mut places: Vec<usize> = (0..count).collect();
    rng.shuffle(&mut places);
    let place = |at: usize| (at as f32 + 0.5) / count as f32 * 3.6 - 1.8;
    let away = |x: f32| x.floor() + 0.1 + 0.8 * (x - x.floor());
    places.into_iter().map(|at| away(place(at))).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Compares the gradients of all inputs with differences, `reach` wide, of the outputs' product with a random slope.
/// Where the program is smooth, an extrapolation to a width of 0 leaves errors of the fourth order.
fn check(program: &Program, inputs: &[Vec<f32>], reach: f32, rng: &mut Rng, name: &str) {
    let y = program.outputs()[0];
    let count = program.value(y).elements();
    let slope: Vec<f32> = (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let wanted = Wanted { layer: &|_| [false; 2], inputs: &program.inputs };
    let made = differentiate(program.clone(), y, &Slope::Given, &wanted).unwrap();
    let mut backward = made.program;
    backward.outputs = made.inputs.iter().map(|id| id.expect("a gradient")).collect();
    let all: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).chain([&slope[..]]).collect();
    let gradients = cpu::run(&backward, &all).unwrap();
    for (index, gradient) in gradients.iter().enumerate() {
        let scale = gradient.iter().fold(1.0f64, |most, g| most.max(f64::from(g.abs())));
        for _ in 0..12 {
            let at = rng.usize(..gradient.len());
            let difference = |reach: f32| {
                let ends = [reach, -reach].map(|by| {
                    let mut inputs = inputs.to_vec();
                    inputs[index][at] += by;
                    let moved = f64::from(inputs[index][at]);
                    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                    (dot(&cpu::run(program, &inputs).unwrap()[0], &slope), moved)
                });
                (ends[0].0 - ends[1].0) / (ends[0].1 - ends[1].1)
            };
            let expected = (4.0 * difference(reach) - difference(2.0 * reach)) / 3.0;
            let got = f64::from(gradient[at]);
            assert!(
                (got - expected).abs() < 1e-3 * scale,
                "{name}: {at} of {index}: {got} {expected}"
            );
        }
    }
}

/// Less than half of the distance from a kink.
const NEAR: f32 = 0.02;

#[test]
fn functions_of_one_float() {
    let seed = Rng::new().u64(..);
    let rng = &mut Rng::with_seed(seed);
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Relu6,
        Activation::LeakyRelu(0.3),
        Activation::LeakyRelu(-0.3),
        Activation::Silu,
        Activation::HardSwish,
        Activation::Sigmoid,
        Activation::Clamp { low: -1.0, high: 1.0 },
    ];
    let functions = [
        Unary::HardSigmoid { alpha: 0.5, beta: 0.5 },
        Unary::Elu(0.7),
        Unary::Softplus,
        Unary::Exp,
        Unary::Neg,
        Unary::Abs,
        Unary::Tanh,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Atan,
        Unary::Reciprocal,
        Unary::Log,
        Unary::Sqrt,
    ];
    for function in activations.map(Unary::Activation).into_iter().chain(functions) {
        let dims = [2, 3, 5];
        let positive = matches!(function, Unary::Log | Unary::Sqrt | Unary::Reciprocal);
        let mut x = smooth(rng, 30);
        if positive {
            x.iter_mut().for_each(|x| *x = x.abs() + 0.5);
        }
        let name = format!("{function:?} of seed {seed}");
        // In f64, where nothing rounds: a factor that is wrong in the fifth digit shows.
        for &x in &x {
            let (x, reach) = (f64::from(x), 1e-5);
            let expected = (function.apply(x + reach) - function.apply(x - reach)) / (2.0 * reach);
            let got = function.derivative(x).unwrap();
            assert!((got - expected).abs() < 1e-5 * (1.0 + got.abs()), "{name}: {got} {expected}");
        }
        check(&single(StepOp::Unary(function), &[&dims], &dims), &[x], NEAR, rng, &name);
    }
    for function in [Unary::Floor, Unary::Round, Unary::Sign] {
        let program = single(StepOp::Unary(function), &[&[2]], &[2]);
        let wanted = Wanted { layer: &|_| [false; 2], inputs: &program.inputs };
        let y = program.outputs()[0];
        let error = differentiate(program.clone(), y, &Slope::Given, &wanted).err().unwrap();
        assert!(error.to_string().contains("s0"), "{error}");
    }
}

#[test]
fn functions_of_two_floats() {
    let seed = Rng::new().u64(..);
    let rng = &mut Rng::with_seed(seed);
    let shapes: [[&[usize]; 3]; 4] = [
        [&[2, 3, 4], &[2, 3, 4], &[2, 3, 4]],
        [&[2, 3, 4], &[3, 1], &[2, 3, 4]],
        [&[1, 4], &[2, 3, 1], &[2, 3, 4]],
        [&[], &[2, 3], &[2, 3]],
    ];
    for [a, b, y] in shapes {
        for function in [
            Binary::Add,
            Binary::Sub,
            Binary::Mul,
            Binary::Div,
            Binary::Min,
            Binary::Max,
            Binary::PRelu,
        ] {
            let (m, n) = (a.iter().product(), b.iter().product::<usize>());
            let mut both = smooth(rng, m + n);
            let mut b_values = both.split_off(m);
            if function == Binary::Div {
                b_values.iter_mut().for_each(|b| *b = b.signum() * (b.abs() + 0.5));
            }
            let reach = if function == Binary::PRelu { NEAR } else { 0.01 };
            let name = format!("{function:?} {a:?} {b:?} of seed {seed}");
            check(
                &single(StepOp::Binary(function), &[a, b], y),
                &[both, b_values],
                reach,
                rng,
                &name,
            );
        }
    }
    // One tensor as both.
    let mut draft = Draft::default();
    let x = draft.input(&[7]);
    let y = draft.step(StepOp::Binary(Binary::Mul), &[x, x], &[7]);
    draft.0.outputs = vec![y];
    check(&draft.0, &[smooth(rng, 7)], NEAR, rng, "square");
    // The power of a constant, and a gate that is a comparison.
    let mut draft = Draft::default();
    let x = draft.input(&[7]);
    let three = draft.value(&[], Source::Constant(Arc::new(vec![3.0])));
    let cube = draft.step(StepOp::Binary(Binary::Pow), &[x, three], &[7]);
    let above = draft.step(StepOp::Binary(Binary::Less), &[x, three], &[7]);
    let y = draft.step(StepOp::Binary(Binary::Gate), &[cube, above], &[7]);
    draft.0.outputs = vec![y];
    let x: Vec<f32> = smooth(rng, 7).iter().map(|x| 2.0 + x.abs() * 0.4).collect();
    check(&draft.0, &[x], NEAR, rng, "gated power");
}

#[test]
fn pools_and_reductions() {
    let seed = Rng::new().u64(..);
    let rng = &mut Rng::with_seed(seed);
    for round in 0..12 {
        let kinds = [
            PoolKind::Max,
            PoolKind::Sum,
            PoolKind::Average { count_padding: true },
            PoolKind::Average { count_padding: false },
        ];
        let kernel = [rng.u32(1..=3), rng.u32(1..=3)];
        let padding = [0, 1, 2, 3].map(|side: usize| rng.u32(0..kernel[side % 2].min(2)));
        let (stride, dilation) = ([rng.u32(1..=3), 1], [1, rng.u32(1..=2)]);
        let (h, w) = (rng.usize(6..9), rng.usize(6..9));
        let out = |extent: usize, axis: usize| {
            let padded = extent as u32 + padding[axis] + padding[axis + 2];
            ((padded - dilation[axis] * (kernel[axis] - 1) - 1) / stride[axis] + 1) as usize
        };
        let pool = Pool { kind: kinds[round % 4], kernel, stride, dilation, padding };
        let (x, y) = ([2, 2, h, w], [2, 2, out(h, 0), out(w, 1)]);
        // A window that lies in the padding alone has no mean and no largest.
        let mut values: Vec<f32> = (0..4 * h * w).map(|at| at as f32 * 0.01).collect();
        rng.shuffle(&mut values);
        let name = format!("{pool:?} of seed {seed}");
        let program = single(StepOp::Pool(pool), &[&x], &y);
        if cpu::run(&program, &[&values]).unwrap()[0].iter().all(|y| y.is_finite()) {
            check(&program, &[values], 0.002, rng, &name);
        }
    }
    for reduction in [Reduction::Sum, Reduction::Mean, Reduction::Max, Reduction::Min] {
        for (axes, y) in [(vec![1], [2, 1, 5]), (vec![0, 2], [1, 3, 1]), (vec![2], [2, 3, 1])] {
            let values = smooth(rng, 30);
            let name = format!("{reduction:?} {axes:?} of seed {seed}");
            let op = StepOp::Reduce { reduction, axes };
            check(&single(op, &[&[2, 3, 5]], &y), &[values], 0.001, rng, &name);
        }
    }
    for axis in 0..3 {
        let program = single(StepOp::Softmax { axis }, &[&[2, 3, 4]], &[2, 3, 4]);
        check(&program, &[smooth(rng, 24)], 0.05, rng, "softmax");
    }
}

#[test]
fn what_moves_elements() {
    let seed = Rng::new().u64(..);
    let rng = &mut Rng::with_seed(seed);
    let x: &[usize] = &[2, 5, 4];
    let gather = Arc::new(vec![4, 0, 0, 2, 4, 4]);
    let taps = Taps {
        axis: 1,
        count: 2,
        indices: vec![0, 1, 1, 2, 4, 4, 3, 0],
        weights: vec![0.25, 0.75, 0.5, 0.5, 0.3, 0.4, -1.0, 2.0],
    };
    let other = Taps { axis: 2, count: 1, indices: vec![3, 3, 0], weights: vec![1.0, 2.0, -1.0] };
    let pad = |mode| StepOp::Pad { before: vec![0, 2, 1], mode };
    let cases: Vec<(StepOp, &[usize])> = vec![
        (StepOp::Slice { start: vec![0, 1, 3], step: vec![1, 2, -1] }, &[2, 2, 4]),
        (StepOp::Slice { start: vec![1, 0, 1], step: vec![1, 1, 2] }, &[1, 5, 1]),
        (StepOp::Gather { axis: 1, indices: gather }, &[2, 6, 4]),
        (StepOp::Transpose { permutation: vec![2, 0, 1] }, &[4, 2, 5]),
        (StepOp::Expand, &[3, 2, 5, 4]),
        (pad(PadMode::Constant(7.0)), &[2, 8, 7]),
        (pad(PadMode::Edge), &[2, 8, 7]),
        (pad(PadMode::Reflect), &[2, 8, 7]),
        (pad(PadMode::Wrap), &[2, 8, 7]),
        (StepOp::Resize { axes: vec![taps, other] }, &[2, 4, 3]),
    ];
    for (op, y) in cases {
        let name = format!("{op:?} of seed {seed}");
        check(&single(op, &[x], y), &[smooth(rng, 40)], 0.5, rng, &name);
    }
    let op = StepOp::Concat { axis: 1 };
    let program = single(op, &[&[2, 1, 3], &[2, 3, 3], &[2, 2, 3]], &[2, 6, 3]);
    check(&program, &[smooth(rng, 6), smooth(rng, 18), smooth(rng, 12)], 0.5, rng, "concat");
    // A view of a tensor that is read twice.
    let mut draft = Draft::default();
    let x = draft.input(&[2, 6]);
    let view = draft.value(&[3, 4], Source::View(x));
    let flipped = StepOp::Transpose { permutation: vec![1, 0] };
    let flipped = draft.step(flipped, &[view], &[4, 3]);
    let again = draft.value(&[2, 6], Source::View(flipped));
    let y = draft.step(StepOp::Binary(Binary::Mul), &[again, x], &[2, 6]);
    draft.0.outputs = vec![y];
    check(&draft.0, &[smooth(rng, 12)], 0.1, rng, "views");
}

#[test]
fn products() {
    let seed = Rng::new().u64(..);
    let rng = &mut Rng::with_seed(seed);
    let shapes: [[&[usize]; 3]; 4] = [
        [&[3, 4], &[4, 5], &[3, 5]],
        [&[2, 3, 4], &[2, 4, 5], &[2, 3, 5]],
        [&[2, 3, 4], &[4, 5], &[2, 3, 5]],
        [&[3, 1, 3, 4], &[2, 4, 1], &[3, 2, 3, 1]],
    ];
    for [a, b, y] in shapes {
        let values = [a, b].map(|dims| smooth(rng, dims.iter().product()));
        let name = format!("{a:?} {b:?} of seed {seed}");
        check(&single(StepOp::MatMul, &[a, b], y), &values, 0.25, rng, &name);
    }
    for output_padding in 0..2 {
        let conv = ConvTranspose {
            kernel: [3, 2],
            stride: [2, 3],
            dilation: [1, 2],
            padding: [1, 0],
            groups: 2,
        };
        let mut draft = Draft::default();
        let x = draft.input(&[2, 4, 3, 4]);
        let weights = smooth(rng, 4 * 3 * 6);
        let weights = draft.value(&[4, 3, 3, 2], Source::Constant(Arc::new(weights)));
        let dims = [2, 6, 5 + output_padding, 12 + output_padding];
        let y = draft.step(StepOp::ConvTranspose(conv), &[x, weights], &dims);
        draft.0.outputs = vec![y];
        let name = format!("transposed convolution of seed {seed}");
        check(&draft.0, &[smooth(rng, 96)], 0.25, rng, &name);
    }
}

fn weights(rng: &mut Rng, descriptor: ConvDescriptor, packed: bool) -> Arc<Weights> {
    let values = smooth(rng, descriptor.weight_count());
    let bias = smooth(rng, descriptor.out_channels as usize);
    Arc::new(match packed {
        true => {
            let quantizer = Quantizer::new(4, 2).unwrap().partition(Partition::Fixed);
            let weights = quantizer.weights(&descriptor, &values).unwrap();
            weights.with_bias(bias).unwrap().into()
        }
        false => FloatWeights::new(descriptor, values).unwrap().with_bias(bias).unwrap().into(),
    })
}

#[test]
fn convolutions_with_what_is_fused() {
    let seed = Rng::new().u64(..);
    let rng = &mut Rng::with_seed(seed);
    let activations = [
        Activation::Identity,
        Activation::Relu,
        Activation::Clamp { low: -1.0, high: 1.5 },
        Activation::LeakyRelu(0.25),
        Activation::LeakyRelu(-0.25),
        Activation::Silu,
        Activation::HardSwish,
        Activation::Sigmoid,
    ];
    for residual in [Residual::None, Residual::BeforeActivation, Residual::AfterActivation] {
        for (index, activation) in activations.into_iter().enumerate() {
            let mut geometry = ConvDescriptor::new(4, 4, [3, 3]).with_padding([1; 4]);
            geometry.groups = [1, 4][index % 2];
            let weights = weights(rng, geometry, index % 3 == 0);
            let dims: [&[usize]; 2] = [&[2, 4, 3, 5]; 2];
            let program = |activation, residual| {
                let count = if residual == Residual::None { 1 } else { 2 };
                let op = StepOp::Conv { weights: weights.clone(), activation, residual };
                single(op, &dims[..count], dims[0])
            };
            // Sums that are not near a kink.
            let before = match residual {
                Residual::BeforeActivation => residual,
                _ => Residual::None,
            };
            let before = program(Activation::Identity, before);
            let inputs = std::iter::repeat_with(|| [0, 1].map(|_| smooth(rng, 120)));
            let inputs = inputs.take(10_000).find(|inputs| {
                let read: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
                let sums = cpu::run(&before, &read[..before.inputs.len()]).unwrap().concat();
                let near =
                    |y: f32| [-3.0, -1.0, 0.0, 1.5, 3.0].iter().any(|k| (y - k).abs() < 0.01);
                !sums.into_iter().any(near)
            });
            let program = program(activation, residual);
            let inputs = inputs.expect("sums apart from kinks")[..program.inputs.len()].to_vec();
            let kinks = !matches!(
                activation,
                Activation::Identity | Activation::Silu | Activation::Sigmoid
            );
            // An input moves a sum by at most 1.9 times twice the reach.
            let reach = if kinks { 2.5e-3 } else { 0.03 };
            let name = format!("{activation:?} {residual:?} of seed {seed}");
            check(&program, &inputs, reach, rng, &name);
        }
    }
}
