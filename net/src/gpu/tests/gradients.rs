//! The gradients of convolutions on the GPU against the CPU, and networks that are given new numbers.

use super::networks::float_weights;
use super::seed::seed;
use super::{ProgramBuilder, gpu, random, run_on_cpu, run_poisoned, steps, worst};
use crate::gpu::{Network, NetworkOptions};
use crate::ir::op::{PoolKind, Unary};
use crate::ir::program::{Pool, StepOp};
use dsconv::{Activation, ConvDescriptor, Partition, Quantizer, Shape, Weights};
use fastrand::Rng;
use std::sync::Arc;

/// A convolution of any geometry, and the shape of an input.
fn geometry(rng: &mut Rng) -> (ConvDescriptor, Shape) {
    let groups = [1, 1, 1, 2, 3, 9][rng.usize(0..6)];
    let (channels, outputs) = match groups {
        9 => (1, rng.u32(1..=2)),
        _ => (rng.u32(1..=40), rng.u32(1..=40)),
    };
    let descriptor =
        ConvDescriptor::new(groups * channels, groups * outputs, [rng.u32(1..=3), rng.u32(1..=4)])
            .with_groups(groups)
            .with_stride([rng.u32(1..=3), rng.u32(1..=2)])
            .with_dilation([rng.u32(1..=2), rng.u32(1..=3)])
            .with_padding([0; 4].map(|_| rng.u32(0..=3)));
    (descriptor, Shape::new(rng.u32(1..=3), groups * channels, rng.u32(5..=9), rng.u32(10..=13)))
}

/// Floats, or integers of 2 to 8 bits with or without a KDS bias.
fn weights(rng: &mut Rng, descriptor: ConvDescriptor) -> Arc<Weights> {
    if rng.u8(0..4) == 0 {
        return float_weights(rng, descriptor);
    }
    let values = random(rng, descriptor.weight_count());
    let quantizer = Quantizer::new(rng.u8(2..=8), rng.u32(1..=33)).unwrap().kds_bias(rng.bool());
    let partition = if rng.bool() { Partition::Even } else { Partition::Fixed };
    Arc::new(quantizer.partition(partition).weights(&descriptor, &values).unwrap().into())
}

fn dims(shape: Shape) -> [usize; 4] {
    [shape.batch, shape.channels, shape.height, shape.width].map(|dim| dim as usize)
}

#[test]
fn gradients_of_inputs() {
    steps::check(4e-7, 60, |rng| {
        let (descriptor, input) = geometry(rng);
        let weights = weights(rng, descriptor);
        let output = descriptor.output_shape(input).unwrap();
        let mut builder = ProgramBuilder::default();
        let dy = builder.input(&dims(output));
        let dx = builder.step(StepOp::ConvInputGradient { weights }, &[dy], &dims(input));
        let values = random(rng, output.elements());
        let terms = descriptor.outputs_per_group() * descriptor.taps();
        (builder.output(&[dx]), vec![values], f64::from(terms) + 1.0)
    });
}

#[test]
fn gradients_of_weights() {
    steps::check(4e-7, 60, |rng| {
        let (descriptor, input) = geometry(rng);
        let weights = weights(rng, descriptor);
        let output = descriptor.output_shape(input).unwrap();
        let (length, largest) = match &*weights {
            Weights::Float(floats) => (floats.values().len(), 1.0),
            Weights::DsConv(packed) => {
                let parts = 1 + usize::from(packed.kds_bias().is_some());
                let most = f64::from(packed.blocks().size) * f64::from(packed.format().max() + 1);
                (parts * packed.alpha().len(), most)
            }
        };
        let mut builder = ProgramBuilder::default();
        let (x, dy) = (builder.input(&dims(input)), builder.input(&dims(output)));
        let op = StepOp::ConvWeightGradient { weights };
        let gradient = builder.step(op, &[x, dy], &[length]);
        let values = vec![random(rng, input.elements()), random(rng, output.elements())];
        let terms = f64::from(output.batch * output.height * output.width);
        (builder.output(&[gradient]), values, largest * terms)
    });
}

#[test]
fn gradients_of_functions() {
    let functions = [
        (Unary::Activation(Activation::Identity), 10.0),
        (Unary::Activation(Activation::Relu), 10.0),
        (Unary::Activation(Activation::Relu6), 10.0),
        (Unary::Activation(Activation::LeakyRelu(0.1)), 10.0),
        (Unary::Activation(Activation::Silu), 100.0),
        (Unary::Activation(Activation::HardSwish), 5.0),
        (Unary::Activation(Activation::Sigmoid), 100.0),
        (Unary::Activation(Activation::Clamp { low: -0.3, high: 0.2 }), 1.0),
        (Unary::HardSigmoid { alpha: 0.2, beta: 0.4 }, 5.0),
        (Unary::Elu(1.3), 20.0),
        (Unary::Softplus, 100.0),
        (Unary::Exp, 3.0),
        (Unary::Log, 10.0),
        (Unary::Sqrt, 10.0),
        (Unary::Reciprocal, 1.0),
        (Unary::Neg, 10.0),
        (Unary::Abs, 10.0),
        (Unary::Tanh, 100.0),
        (Unary::Erf, 4.0),
        (Unary::Sin, 10.0),
        (Unary::Cos, 100.0),
        (Unary::Atan, 10.0),
    ];
    for (function, range) in functions {
        steps::check(2e-6, 3, |rng| {
            let rank = rng.usize(0..=6);
            let dims = steps::dims(rng, rank);
            let mut builder = ProgramBuilder::default();
            let (x, dy) = (builder.input(&dims), builder.input(&dims));
            let dx = builder.step(StepOp::UnaryGradient(function), &[x, dy], &dims);
            let count = dims.iter().product();
            let mut values = vec![random(rng, count), random(rng, count)];
            for x in &mut values[0] {
                *x *= range;
                if matches!(function, Unary::Log | Unary::Sqrt | Unary::Reciprocal) {
                    *x = x.abs() + 0.1;
                }
            }
            // The largest slope there.
            let magnitude = match function {
                Unary::Exp => 20.0,
                Unary::Log | Unary::Sqrt => 10.0,
                Unary::Reciprocal => 100.0,
                _ => 1.0,
            };
            (builder.output(&[dx]), values, magnitude)
        });
    }
}

#[test]
fn gradients_of_pools() {
    let kinds = [
        PoolKind::Max,
        PoolKind::Sum,
        PoolKind::Average { count_padding: false },
        PoolKind::Average { count_padding: true },
    ];
    for kind in kinds {
        steps::check(1e-6, 12, |rng| {
            let kernel = [0; 2].map(|_| rng.u32(1..=4));
            let dilation = [0; 2].map(|_| rng.u32(1..=2));
            let reach = [0, 1].map(|axis| (kernel[axis] - 1) * dilation[axis] + 1);
            let window = Pool {
                kind,
                kernel,
                stride: [0; 2].map(|_| rng.u32(1..=3)),
                dilation,
                // No window lies in the padding alone.
                padding: [0, 1, 2, 3].map(|side| rng.u32(0..kernel[side % 2])),
            };
            let x = [rng.usize(1..=2), rng.usize(1..=9), rng.usize(8..=12), rng.usize(8..=12)];
            let extent = |axis: usize| {
                let padded = x[2 + axis] as u32 + window.padding[axis] + window.padding[axis + 2];
                ((padded - reach[axis]) / window.stride[axis] + 1) as usize
            };
            let y = [x[0], x[1], extent(0), extent(1)];
            let mut builder = ProgramBuilder::default();
            let (input, dy) = (builder.input(&x), builder.input(&y));
            let dx = builder.step(StepOp::PoolGradient(window), &[input, dy], &x);
            // Few values, so that some are equal.
            let values = (0..x.iter().product()).map(|_| f32::from(rng.i8(-3..=3))).collect();
            let gradient = random(rng, y.iter().product());
            (builder.output(&[dx]), vec![values, gradient], 4.0)
        });
    }
}

#[test]
fn a_plan_reads_the_numbers_that_its_network_is_given() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let seed = seed();
    let rng = &mut Rng::with_seed(seed);
    let descriptor = ConvDescriptor::new(8, 12, [3, 3]).with_padding([1; 4]);
    for bits in [0, 3, 8] {
        let draw = |rng: &mut Rng, integers: Option<&Weights>| -> Weights {
            let new = random(rng, descriptor.weight_count());
            let Some(Weights::DsConv(old)) = integers else {
                return match bits {
                    0 => dsconv::FloatWeights::new(descriptor, new).unwrap().into(),
                    _ => {
                        Quantizer::new(bits, 5).unwrap().weights(&descriptor, &new).unwrap().into()
                    }
                };
            };
            let q: Vec<i32> = old.q().iter().map(|&q| q.into()).collect();
            let alpha = random(rng, old.alpha().len());
            let format = *old.format();
            dsconv::DsConvWeights::from_integers(descriptor, format, &q, alpha).unwrap().into()
        };
        let old = Arc::new(draw(rng, None));
        let new = Arc::new(draw(rng, Some(&old).filter(|_| bits > 0).map(|old| &**old)));
        // Forward and backward, of the same weights.
        let program = |weights: &Arc<Weights>| {
            let mut builder = ProgramBuilder::default();
            let x = builder.input(&[2, 8, 6, 5]);
            let y = builder.conv(weights, x, Activation::Identity, None);
            let op = StepOp::ConvInputGradient { weights: weights.clone() };
            let dx = builder.step(op, &[y], &[2, 8, 6, 5]);
            builder.output(&[y, dx])
        };
        let inputs = vec![random(rng, 2 * 8 * 6 * 5)];
        let mut network = Network::new(pipelines, NetworkOptions::default()).unwrap();
        let first = program(&old);
        let plan = network.plan(&first).unwrap();
        for weights in [&old, &new] {
            network.update(&gpu.queue, &old, weights).unwrap();
            let on_gpu = run_poisoned(gpu, &plan, &inputs);
            let on_cpu = run_on_cpu(&program(weights), &inputs);
            for (gpu, cpu) in on_gpu.iter().zip(&on_cpu) {
                let largest = cpu.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let error = worst(gpu, cpu) / f64::from(largest);
                assert!(error <= 1e-5, "seed {seed}, {bits} bits: {error:e}");
            }
        }
    }
}
