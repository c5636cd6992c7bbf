//! Every operation on random shapes, on the GPU against the CPU.

use super::seed::seed;
use super::{ProgramBuilder, gpu, random, run_in_random_layouts, run_on_cpu, run_on_gpu, worst};
use crate::gpu::NetworkOptions;
use crate::ir::op::{Binary, PadMode, PoolKind, Reduction, Unary};
use crate::ir::program::{ConvTranspose, Pool, Program, Source, StepOp, Taps};
use crate::tensor;
use dsconv::Activation;
use fastrand::Rng;
use std::sync::Arc;

/// Single steps of a kind, each of its own program, on the GPU and the CPU; those of images in other layouts, too.
/// `bound` is the worst difference allowed, as a share of the magnitude that `case` tells; 0 asks for the same bits.
pub(super) fn check(
    bound: f64,
    cases: usize,
    case: impl Fn(&mut Rng) -> (Program, Vec<Vec<f32>>, f64),
) {
    let Some(gpu) = gpu() else { return };
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    for _ in 0..cases {
        let (program, inputs, magnitude) = case(&mut rng);
        let mut on_gpu = run_on_gpu(gpu, &program, &inputs, NetworkOptions::default());
        let mut on_cpu = run_on_cpu(&program, &inputs);
        if program.values().iter().any(|value| value.dims.len() == 4) {
            on_gpu.extend(run_in_random_layouts(gpu, &mut rng, &inside(&program), &inputs));
            on_cpu.extend_from_within(..);
        }
        for (a, b) in on_gpu.iter().zip(&on_cpu) {
            if bound == 0.0 {
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(a) == bits(b), "seed {seed}: {:?}", program.steps());
            } else {
                let error = worst(a, b) / magnitude;
                assert!(error <= bound, "{error:e}, seed {seed}: {:?}", program.steps());
            }
        }
    }
}

/// The same program with copies behind its inputs and before its output, so that the tensors of its step lie as is
/// wished.
fn inside(program: &Program) -> Program {
    let mut builder = ProgramBuilder::default();
    let copy = |builder: &mut ProgramBuilder, x| {
        let dims = builder.dims(x);
        let (start, step) = (vec![0; dims.len()], vec![1; dims.len()]);
        builder.step(StepOp::Slice { start, step }, &[x], &dims)
    };
    let step = &program.steps()[0];
    let inputs = step.inputs.iter().map(|&id| {
        let value = program.value(id);
        if let Source::Constant(values) = &value.source {
            return builder.constant(&value.dims, values.to_vec());
        }
        let input = builder.input(&value.dims);
        copy(&mut builder, input)
    });
    let inputs: Vec<_> = inputs.collect();
    let y = builder.step(step.op.clone(), &inputs, &program.value(step.output).dims);
    let y = copy(&mut builder, y);
    builder.output(&[y])
}

/// Dims of that rank, odd ones often, of some thousand elements at most.
pub(super) fn dims(rng: &mut Rng, rank: usize) -> Vec<usize> {
    let largest = [0, 3000, 60, 17, 9, 6, 4][rank];
    (0..rank).map(|_| if rng.u8(0..4) == 0 { 1 } else { rng.usize(1..=largest) }).collect()
}

/// One step on one input of random elements.
fn single(rng: &mut Rng, op: StepOp, x: &[usize], y: &[usize]) -> (Program, Vec<Vec<f32>>, f64) {
    let mut builder = ProgramBuilder::default();
    let input = builder.input(x);
    let output = builder.step(op, &[input], y);
    let values = random(rng, x.iter().product());
    (builder.output(&[output]), vec![values], 1.0)
}

#[test]
fn unary_functions() {
    let functions = [
        (Unary::Activation(Activation::Identity), 10.0),
        (Unary::Activation(Activation::Relu), 10.0),
        (Unary::Activation(Activation::Relu6), 10.0),
        (Unary::Activation(Activation::LeakyRelu(0.1)), 10.0),
        (Unary::Activation(Activation::Silu), 200.0),
        (Unary::Activation(Activation::HardSwish), 10.0),
        (Unary::Activation(Activation::Sigmoid), 200.0),
        (Unary::Activation(Activation::Clamp { low: -0.3, high: 0.2 }), 1.0),
        (Unary::HardSigmoid { alpha: 0.2, beta: 0.4 }, 10.0),
        (Unary::Elu(1.3), 100.0),
        (Unary::Softplus, 200.0),
        (Unary::Exp, 5.0),
        (Unary::Log, 10.0),
        (Unary::Sqrt, 10.0),
        (Unary::Reciprocal, 1.0),
        (Unary::Neg, 10.0),
        (Unary::Abs, 10.0),
        (Unary::Tanh, 100.0),
        (Unary::Tanh, 1e-3),
        (Unary::Erf, 4.0),
        (Unary::Erf, 1e4),
        (Unary::Floor, 10.0),
        (Unary::Ceil, 10.0),
        (Unary::Round, 10.0),
        (Unary::Sin, 10.0),
        (Unary::Cos, 1000.0),
        (Unary::Atan, 1.0),
        (Unary::Atan, 100.0),
        (Unary::Sign, 1.0),
        (Unary::Trunc, 10.0),
        (Unary::Not, 1.0),
        (Unary::Stepped { step: 0.25, low: -7.0, high: 9.0 }, 4.0),
    ];
    for (function, range) in functions {
        check(1e-6, 4, |rng| {
            let rank = rng.usize(0..=6);
            let dims = dims(rng, rank);
            let (program, mut inputs, _) = single(rng, StepOp::Unary(function), &dims, &dims);
            let positive = matches!(function, Unary::Log | Unary::Sqrt | Unary::Reciprocal);
            for x in &mut inputs[0] {
                *x *= range;
                if positive {
                    *x = x.abs() + 1e-2;
                }
                if matches!(function, Unary::Not | Unary::Sign) && rng.bool() {
                    *x = 0.0;
                }
                if function == Unary::Round && rng.bool() {
                    *x = x.floor() + 0.5;
                }
            }
            let y = run_on_cpu(&program, &inputs);
            let magnitude = y[0].iter().fold(1e-6f64, |m, y| m.max(f64::from(y.abs())));
            (program, inputs, magnitude)
        });
    }
}

#[test]
fn binary_functions_broadcast() {
    let functions = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Pow,
        Binary::Min,
        Binary::Max,
        Binary::PRelu,
        Binary::Remainder,
        Binary::Equal,
        Binary::Less,
        Binary::LessOrEqual,
        Binary::Gate,
    ];
    for function in functions {
        check(1e-6, 12, |rng| {
            let rank = rng.usize(0..=6);
            let full = dims(rng, rank);
            // Missing leading axes on one side, axes of 1 on either.
            let mut part = |keep: usize| -> Vec<usize> {
                full[keep..].iter().map(|&d| if rng.u8(0..3) == 0 { 1 } else { d }).collect()
            };
            let (a, b) = (part(0), part(if rank > 0 { rank / 2 } else { 0 }));
            let (a, b) = if rng.bool() { (a, b) } else { (b, a) };
            let y = tensor::broadcast(&a, &b).unwrap();
            let mut builder = ProgramBuilder::default();
            let ids = [builder.input(&a), builder.input(&b)];
            let output = builder.step(StepOp::Binary(function), &ids, &y);
            let program = builder.output(&[output]);
            let mut inputs = vec![random(rng, a.iter().product()), random(rng, b.iter().product())];
            if function == Binary::Div {
                inputs[1].iter_mut().for_each(|x| *x += 2.0 * x.signum());
            }
            if function == Binary::Remainder {
                // Whole numbers of either sign, none of them 0.
                inputs[0].iter_mut().for_each(|x| *x = (*x * 1e5).round());
                inputs[1]
                    .iter_mut()
                    .for_each(|x| *x = x.signum() * (x.abs() * 99.0).ceil().max(1.0));
            }
            if matches!(function, Binary::Equal | Binary::LessOrEqual | Binary::Gate) {
                inputs.iter_mut().flatten().for_each(|x| *x = (*x * 2.0).round());
            }
            if function == Binary::Pow {
                let whole = rng.bool();
                for x in &mut inputs[1] {
                    *x = if whole { (*x * 4.0).round() } else { *x * 3.0 };
                }
                for x in &mut inputs[0] {
                    *x = if whole { x.signum() * (x.abs() + 0.3) } else { x.abs() + 0.3 };
                }
            }
            let y = run_on_cpu(&program, &inputs);
            let magnitude = y[0].iter().fold(1e-6f64, |m, y| m.max(f64::from(y.abs())));
            (program, inputs, magnitude)
        });
    }
}

/// A GPU's own power is not, and cut to an integer it would be one too small.
#[test]
fn powers_of_whole_numbers_are_exact() {
    check(1e-9, 6, |rng| {
        let mut builder = ProgramBuilder::default();
        let ids = [builder.input(&[40]), builder.input(&[40])];
        let output = builder.step(StepOp::Binary(Binary::Pow), &ids, &[40]);
        let program = builder.output(&[output]);
        // Below 2^24, the last integer whose neighbours are floats.
        let pairs = (0..40).map(|_| {
            let exponent = rng.u32(0..8);
            let most = 2f64.powf(23.9 / f64::from(exponent.max(1))) as i32;
            (rng.i32(-most.min(4096)..=most.min(4096)) as f32, exponent as f32)
        });
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.unzip();
        (program, vec![a, b], 1.0)
    });
}

#[test]
fn pools() {
    check(1e-6, 60, |rng| {
        let kind = match rng.u8(0..5) {
            0 => PoolKind::Max,
            1 => PoolKind::Average { count_padding: false },
            2 => PoolKind::Average { count_padding: true },
            3 => PoolKind::Sum,
            _ => PoolKind::PlaceOfMax,
        };
        let mut pair = |range: std::ops::Range<u32>| [rng.u32(range.clone()), rng.u32(range)];
        let (kernel, stride, dilation) = (pair(1..5), pair(1..4), pair(1..3));
        let reach = [0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1) + 1);
        let padding = [0, 1, 0, 1].map(|axis: usize| rng.u32(0..reach[axis]));
        let input = [0, 1].map(|axis: usize| reach[axis] + rng.u32(0..12));
        let output = [0, 1].map(|axis: usize| {
            let room = input[axis] + padding[axis] + padding[axis + 2] - reach[axis];
            let floor = room / stride[axis] + 1;
            // The window reaching past the end, as with ceil_mode.
            let starts_inside = floor * stride[axis] < input[axis] + padding[axis];
            floor + u32::from(starts_inside && rng.bool())
        });
        let (n, c) = (rng.usize(1..3), rng.usize(1..5));
        let x = [n, c, input[0] as usize, input[1] as usize];
        let y = [n, c, output[0] as usize, output[1] as usize];
        single(rng, StepOp::Pool(Pool { kind, kernel, stride, dilation, padding }), &x, &y)
    });
}

#[test]
fn reductions() {
    use Reduction::{Max, Mean, Min, Product, Sum};
    for reduction in [Mean, Sum, Max, Min, Product] {
        check(2e-6, 20, |rng| {
            let rank = rng.usize(1..=6);
            let x = dims(rng, rank);
            let mut axes: Vec<usize> = (0..rank).filter(|_| rng.bool()).collect();
            if axes.is_empty() {
                axes.push(rng.usize(0..rank));
            }
            let y: Vec<_> = (0..rank).map(|i| if axes.contains(&i) { 1 } else { x[i] }).collect();
            let length: usize = axes.iter().map(|&axis| x[axis]).product();
            let (program, inputs, _) = single(rng, StepOp::Reduce { reduction, axes }, &x, &y);
            let magnitude = if reduction == Sum { length as f64 } else { 1.0 };
            (program, inputs, magnitude)
        });
    }
}

#[test]
fn softmaxes() {
    check(2e-6, 40, |rng| {
        let rank = rng.usize(1..=6);
        let x = dims(rng, rank);
        let axis = rng.usize(0..rank);
        let (program, mut inputs, _) = single(rng, StepOp::Softmax { axis }, &x, &x);
        let scale = [1.0, 30.0, 1e4][rng.usize(0..3)];
        inputs[0].iter_mut().for_each(|x| *x *= scale);
        (program, inputs, 1.0)
    });
}

#[test]
fn elements_move_bit_for_bit() {
    check(0.0, 200, |rng| {
        let rank = rng.usize(1..=6);
        let x = dims(rng, rank);
        let (op, y) = match rng.u8(0..6) {
            0 => {
                let y: Vec<_> = x.iter().map(|&d| rng.usize(1..=d)).collect();
                let mut step = vec![1i64; rank];
                let mut start = vec![0; rank];
                for axis in 0..rank {
                    let most = if y[axis] > 1 { (x[axis] - 1) / (y[axis] - 1) } else { 3 };
                    let by = rng.usize(1..=most.max(1));
                    let span = (y[axis] - 1) * by;
                    start[axis] = rng.usize(0..x[axis] - span);
                    step[axis] = by as i64;
                    if rng.bool() {
                        start[axis] += span;
                        step[axis] = -step[axis];
                    }
                }
                (StepOp::Slice { start, step }, y)
            }
            1 => {
                let mut permutation: Vec<usize> = (0..rank).collect();
                rng.shuffle(&mut permutation);
                let y = permutation.iter().map(|&axis| x[axis]).collect();
                (StepOp::Transpose { permutation }, y)
            }
            2 => {
                let axis = rng.usize(0..rank);
                let indices: Vec<u32> =
                    (0..rng.usize(1..20)).map(|_| rng.u32(0..x[axis] as u32)).collect();
                let mut y = x.clone();
                y[axis] = indices.len();
                (StepOp::Gather { axis, indices: Arc::new(indices) }, y)
            }
            3 => {
                let mut y: Vec<_> =
                    x.iter().map(|&d| if d == 1 { rng.usize(1..4) } else { d }).collect();
                if rank < 6 {
                    y.insert(0, rng.usize(1..4));
                }
                (StepOp::Expand, y)
            }
            4 => {
                let mode = match rng.u8(0..4) {
                    0 => PadMode::Constant(rng.f32()),
                    1 => PadMode::Edge,
                    2 => PadMode::Wrap,
                    _ => PadMode::Reflect,
                };
                let mut width = |d: usize| {
                    let most = if mode == PadMode::Reflect { d - 1 } else { 3 };
                    if rng.bool() { 0 } else { rng.usize(0..=most.min(3)) }
                };
                let before: Vec<_> = x.iter().map(|&d| width(d)).collect();
                let y = x.iter().zip(&before).map(|(&d, before)| before + d + width(d)).collect();
                (StepOp::Pad { before, mode }, y)
            }
            _ => {
                let axis = rng.usize(0..rank);
                let mut builder = ProgramBuilder::default();
                let mut y = x.clone();
                y[axis] = 0;
                let mut inputs = Vec::new();
                let mut ids = Vec::new();
                for _ in 0..rng.usize(2..6) {
                    let mut part = x.clone();
                    part[axis] = rng.usize(1..5);
                    y[axis] += part[axis];
                    inputs.push(special(rng, part.iter().product()));
                    ids.push(builder.input(&part));
                }
                let output = builder.step(StepOp::Concat { axis }, &ids, &y);
                return (builder.output(&[output]), inputs, 1.0);
            }
        };
        let (program, _, _) = single(rng, op, &x, &y);
        let inputs = vec![special(rng, x.iter().product())];
        (program, inputs, 1.0)
    });
}

/// Any bits at all now and then: NaN, infinities, subnormals.
fn special(rng: &mut Rng, count: usize) -> Vec<f32> {
    let word = |rng: &mut Rng| {
        if rng.u8(0..8) == 0 { f32::from_bits(rng.u32(..)) } else { rng.f32() }
    };
    (0..count).map(|_| word(rng)).collect()
}

#[test]
fn matrix_products() {
    check(1e-6, 40, |rng| {
        let [rows, depth, columns] = [70, 90, 70].map(|most| rng.usize(1..most));
        let batch: Vec<usize> = (0..rng.usize(0..=4)).map(|_| rng.usize(1..4)).collect();
        let mut part = |matrix: [usize; 2]| {
            let keep = rng.usize(0..=batch.len());
            let mut dims: Vec<usize> =
                batch[keep..].iter().map(|&d| if rng.bool() { 1 } else { d }).collect();
            dims.extend(matrix);
            dims
        };
        let (a, b) = (part([rows, depth]), part([depth, columns]));
        let mut y = tensor::broadcast(&a[..a.len() - 2], &b[..b.len() - 2]).unwrap();
        y.extend([rows, columns]);
        let mut builder = ProgramBuilder::default();
        let ids = [builder.input(&a), builder.input(&b)];
        let output = builder.step(StepOp::MatMul, &ids, &y);
        let inputs = vec![random(rng, a.iter().product()), random(rng, b.iter().product())];
        (builder.output(&[output]), inputs, depth as f64)
    });
}

#[test]
fn transposed_convolutions() {
    check(1e-6, 40, |rng| {
        let mut pair = |range: std::ops::Range<u32>| [rng.u32(range.clone()), rng.u32(range)];
        let (kernel, stride, dilation, padding) = (pair(1..5), pair(1..4), pair(1..3), pair(0..3));
        let groups = rng.u32(1..4);
        let (channels, outputs) = (rng.usize(1..5), rng.usize(1..5));
        let input = [rng.usize(1..8), rng.usize(1..8)];
        let output = [0, 1].map(|axis: usize| {
            let full = stride[axis] as usize * (input[axis] - 1)
                + dilation[axis] as usize * (kernel[axis] as usize - 1)
                + 1;
            (full + rng.usize(0..3)).saturating_sub(padding[axis] as usize + rng.usize(0..2)).max(1)
        });
        let (batch, of) = (rng.usize(1..3), groups as usize);
        let weights = [channels * of, outputs, kernel[0] as usize, kernel[1] as usize];
        let mut builder = ProgramBuilder::default();
        let x = builder.input(&[batch, channels * of, input[0], input[1]]);
        let constant = random(rng, weights.iter().product());
        let mut ids = vec![x, builder.constant(&weights, constant)];
        if rng.bool() {
            let bias = random(rng, outputs * of);
            ids.push(builder.constant(&[outputs * of], bias));
        }
        let conv = ConvTranspose { kernel, stride, dilation, padding, groups };
        let dims = [batch, outputs * of, output[0], output[1]];
        let y = builder.step(StepOp::ConvTranspose(conv), &ids, &dims);
        let inputs = vec![random(rng, batch * channels * of * input[0] * input[1])];
        let taps = kernel[0] * kernel[1];
        (builder.output(&[y]), inputs, (channels * taps as usize) as f64)
    });
}

#[test]
fn resampling() {
    check(1e-6, 40, |rng| {
        let rank = rng.usize(1..=5);
        let x = dims(rng, rank);
        let mut y = x.clone();
        let mut axes: Vec<usize> = (0..rank).collect();
        rng.shuffle(&mut axes);
        axes.truncate(rng.usize(1..=2));
        axes.sort_unstable();
        let axes: Vec<Taps> = axes
            .into_iter()
            .map(|axis| {
                y[axis] = rng.usize(1..12);
                let count = rng.usize(1..5);
                let taps = y[axis] * count;
                let indices = (0..taps).map(|_| rng.u32(0..x[axis] as u32)).collect();
                Taps { axis, count, indices, weights: random(rng, taps) }
            })
            .collect();
        let (program, inputs, _) = single(rng, StepOp::Resize { axes }, &x, &y);
        (program, inputs, 4.0)
    });
}
