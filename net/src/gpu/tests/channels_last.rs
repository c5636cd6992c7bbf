//! The layouts that tensors get, and the copies between them.

use super::networks::float_weights;
use super::{ProgramBuilder, gpu, random, random_inputs, run_on_cpu, run_poisoned, worst};
use crate::gpu::channels_last::Layouts;
use crate::gpu::{Network, NetworkOptions};
use crate::ir::op::{Binary, PoolKind, Reduction, Unary};
use crate::ir::program::{Pool, Program, StepOp, TensorId};
use dsconv::{Activation, ConvDescriptor, Layout};
use fastrand::Rng;

/// Checks a program's outputs and returns the names of its kernels.
fn kernels(program: &Program) -> Vec<&'static str> {
    let Some(gpu) = gpu() else { return Vec::new() };
    let inputs = random_inputs(&mut Rng::new(), program);
    let mut network = Network::new(&gpu.1, NetworkOptions::default()).unwrap();
    let plan = network.plan(program).unwrap();
    let (got, expected) = (run_poisoned(&gpu.0, &plan, &inputs), run_on_cpu(program, &inputs));
    for (got, expected) in got.iter().zip(&expected) {
        let largest = expected.iter().fold(1.0f64, |m, y| m.max(f64::from(y.abs())));
        assert!(worst(got, expected) < 1e-5 * largest, "{:e}", worst(got, expected));
    }
    plan.steps().iter().map(|step| step.kernel).collect()
}

fn copies(kernels: &[&str]) -> usize {
    kernels.iter().filter(|&&kernel| kernel == "copy").count()
}

/// A square convolution that keeps every pixel.
fn same(channels: u32, outputs: u32, kernel: u32) -> ConvDescriptor {
    ConvDescriptor::new(channels, outputs, [kernel; 2]).with_padding([(kernel - 1) / 2; 4])
}

impl ProgramBuilder {
    fn layer(&mut self, rng: &mut Rng, descriptor: ConvDescriptor, x: TensorId) -> TensorId {
        self.conv(&float_weights(rng, descriptor), x, Activation::Relu6, None)
    }

    fn transpose(&mut self, permutation: [usize; 4], x: TensorId) -> TensorId {
        let dims = permutation.map(|axis| self.dims(x)[axis]);
        self.step(StepOp::Transpose { permutation: permutation.to_vec() }, &[x], &dims)
    }
}

/// Inverted residuals with squeeze and excitation, pooled to scores.
#[test]
fn a_classifier_takes_no_copies() {
    let mut rng = Rng::new();
    let rng = &mut rng;
    let mut builder = ProgramBuilder::default();
    let image = builder.input(&[2, 3, 15, 15]);
    let stem = same(3, 16, 3).with_stride([2, 2]);
    let mut x = builder.layer(rng, stem, image);
    for _ in 0..2 {
        let wide = builder.layer(rng, same(16, 24, 1), x);
        let deep = builder.layer(rng, same(24, 24, 3).with_groups(24), wide);
        let mean = StepOp::Reduce { reduction: Reduction::Mean, axes: vec![2, 3] };
        let squeezed = builder.step(mean, &[deep], &[2, 24, 1, 1]);
        let squeezed = builder.layer(rng, same(24, 6, 1), squeezed);
        let gate = builder.layer(rng, same(6, 24, 1), squeezed);
        let gated = builder.binary(Binary::Mul, deep, gate);
        let weights = float_weights(rng, same(24, 16, 1));
        x = builder.conv(&weights, gated, Activation::Identity, Some(x));
    }
    let mean = StepOp::Reduce { reduction: Reduction::Mean, axes: vec![2, 3] };
    let mean = builder.step(mean, &[x], &[2, 16, 1, 1]);
    let mean = builder.view(mean, &[2, 16]);
    let values = random(rng, 16 * 10);
    let head = builder.constant(&[16, 10], values);
    let scores = builder.step(StepOp::MatMul, &[mean, head], &[2, 10]);
    let program = builder.output(&[scores]);

    let layouts = Layouts::new(&program);
    for step in program.steps().iter().filter(|step| matches!(step.op, StepOp::Conv { .. })) {
        let first = step.inputs[0] == image;
        let expected = if first { Layout::Nchw } else { Layout::Nhwc };
        assert_eq!(layouts.of_input(step, 0), expected, "{}", step.name);
        assert_eq!(layouts.of_output(step), Layout::Nhwc, "{}", step.name);
    }
    assert_eq!(copies(&kernels(&program)), 0);
}

#[test]
fn transposes_of_what_lies_so_take_nothing() {
    let mut rng = Rng::new();
    let mut builder = ProgramBuilder::default();
    let image = builder.input(&[1, 9, 8, 3]);
    let x = builder.transpose([0, 3, 1, 2], image);
    let x = builder.layer(&mut rng, same(3, 16, 3), x);
    // As around a normalisation of the channels.
    let rows = builder.transpose([0, 2, 3, 1], x);
    let largest = StepOp::Reduce { reduction: Reduction::Max, axes: vec![3] };
    let largest = builder.step(largest, &[rows], &[1, 9, 8, 1]);
    let rows = builder.binary(Binary::Sub, rows, largest);
    let y = builder.transpose([0, 3, 1, 2], rows);
    let y = builder.layer(&mut rng, same(16, 4, 1), y);
    let y = builder.transpose([0, 2, 3, 1], y);
    let program = builder.output(&[y, rows]);
    let kernels = kernels(&program);
    assert!(kernels.is_empty() || kernels.len() == 4, "{kernels:?}");
    assert_eq!(copies(&kernels), 0);
}

#[test]
fn what_only_reshapes_read_stays_row_major() {
    let mut rng = Rng::new();
    let mut builder = ProgramBuilder::default();
    let image = builder.input(&[1, 3, 8, 8]);
    let x = builder.layer(&mut rng, same(3, 8, 3), image);
    let pool = Pool {
        kind: PoolKind::Max,
        kernel: [2; 2],
        stride: [2; 2],
        dilation: [1; 2],
        padding: [0; 4],
    };
    let y = builder.layer(&mut rng, same(8, 8, 3), x);
    let y = builder.unary(Unary::Tanh, y);
    let y = builder.step(StepOp::Pool(pool), &[y], &[1, 8, 4, 4]);
    let y = builder.view(y, &[1, 128]);
    let y = builder.unary(Unary::Neg, y);
    let program = builder.output(&[y]);
    assert_eq!(copies(&kernels(&program)), 0);
}

#[test]
fn readers_share_a_copy() {
    let mut rng = Rng::new();
    let mut builder = ProgramBuilder::default();
    let image = builder.input(&[1, 3, 5, 6]);
    let x = builder.layer(&mut rng, same(3, 8, 3), image);
    let y = builder.layer(&mut rng, same(8, 8, 1), x);
    let rows = builder.view(x, &[8, 30]);
    let pairs = builder.view(x, &[4, 60]);
    let values = random(&mut rng, 6 * 6);
    let square = builder.constant(&[6, 6], values);
    let product = builder.step(StepOp::MatMul, &[x, square], &[1, 8, 5, 6]);
    let a = builder.unary(Unary::Neg, rows);
    let b = builder.unary(Unary::Abs, pairs);
    let program = builder.output(&[y, a, b, product]);
    let kernels = kernels(&program);
    assert_eq!(copies(&kernels), usize::from(!kernels.is_empty()));
}
