//! Whole programs on the GPU against the CPU.

use super::{
    ProgramBuilder, gpu, open, random, random_inputs, run_on_cpu, run_on_gpu, run_poisoned, worst,
};
use crate::cpu;
use crate::gpu::channels_last::Layouts;
use crate::gpu::layout::MemoryLayout;
use crate::gpu::schedule::Schedule;
use crate::gpu::{Activations, Clock, Network, NetworkOptions};
use crate::ir::op::{Binary, PoolKind, Reduction, Unary};
use crate::ir::program::{Pool, Program, StepOp, TensorId};
use dsconv::gpu::{FloatFormat, Gpu};
use dsconv::{
    Activation, ActivationScale, ConvDescriptor, FloatWeights, Int8Activations, Quantizer,
    Residual, Shape, Weights, reference,
};
use fastrand::Rng;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const INT8: NetworkOptions =
    NetworkOptions { activations: Activations::Int8, scale_format: FloatFormat::F32 };

pub(super) fn float_weights(rng: &mut Rng, descriptor: ConvDescriptor) -> Arc<Weights> {
    let values = random(rng, descriptor.weight_count());
    let weights = FloatWeights::new(descriptor, values).unwrap();
    let bias = random(rng, descriptor.out_channels as usize);
    Arc::new(Weights::Float(weights.with_bias(bias).unwrap()))
}

pub(super) fn packed_weights(
    rng: &mut Rng,
    descriptor: ConvDescriptor,
    block: u32,
) -> Arc<Weights> {
    let values = random(rng, descriptor.weight_count());
    let weights = Quantizer::new(4, block).unwrap().weights(&descriptor, &values).unwrap();
    let bias = random(rng, descriptor.out_channels as usize);
    Arc::new(Weights::DsConv(weights.with_bias(bias).unwrap()))
}

#[test]
fn a_tensor_over_a_limit_is_refused_with_the_layer_that_makes_it() {
    let Some((_, pipelines)) = gpu() else { return };
    let mut rng = Rng::new();
    let mut builder = ProgramBuilder::default();
    let x = builder.input(&[1, 4, 8, 8]);
    let weights = float_weights(&mut rng, ConvDescriptor::new(4, 16, [1, 1]));
    let y = builder.unary(Unary::Exp, x);
    let y = builder.conv(&weights, y, Activation::Identity, None);
    let program = builder.output(&[y]);
    let refused = |bytes: u64| {
        let options = NetworkOptions::default();
        let schedule = Schedule::new(Layouts::new(&program), options, pipelines.capabilities());
        let schedule = schedule.unwrap();
        let limits =
            wgpu::Limits { max_storage_buffer_binding_size: bytes, ..pipelines.limits().clone() };
        MemoryLayout::new(&program, &schedule, &limits).map(|_| ()).map_err(|e| e.to_string())
    };
    let limit = "the device's limit max_storage_buffer_binding_size is";
    assert_eq!(refused(4 * 16 * 64), Ok(()));
    let words = format!("node \"s1\" (step): a tensor: needs 4096, {limit} 4095");
    assert_eq!(refused(4095), Err(words));
    let words = format!("node \"t0\" (input): a tensor: needs 1024, {limit} 1000");
    assert_eq!(refused(1000), Err(words));
}

impl ProgramBuilder {
    /// A convolution of an image; `second` is a residual behind the activation.
    pub(super) fn conv(
        &mut self,
        weights: &Arc<Weights>,
        x: TensorId,
        activation: Activation,
        second: Option<TensorId>,
    ) -> TensorId {
        let input = cpu::shape(&self.dims(x)).unwrap();
        let y = crate::ir::graph::descriptor(weights).output_shape(input).unwrap();
        let dims = [y.batch, y.channels, y.height, y.width].map(|dim| dim as usize);
        let residual = if second.is_some() { Residual::AfterActivation } else { Residual::None };
        let op = StepOp::Conv { weights: weights.clone(), activation, residual };
        let inputs: Vec<_> = [x].into_iter().chain(second).collect();
        self.step(op, &inputs, &dims)
    }

    pub(super) fn unary(&mut self, function: Unary, x: TensorId) -> TensorId {
        let dims = self.dims(x);
        self.step(StepOp::Unary(function), &[x], &dims)
    }

    pub(super) fn binary(&mut self, function: Binary, a: TensorId, b: TensorId) -> TensorId {
        let dims = crate::ir::tensor::broadcast(&self.dims(a), &self.dims(b)).unwrap();
        self.step(StepOp::Binary(function), &[a, b], &dims)
    }
}

/// Images through convolutions with residuals and pooling to scores.
fn classifier(rng: &mut Rng) -> impl Fn(usize) -> Program + use<> {
    let same = |inputs, outputs, kernel: u32| {
        ConvDescriptor::new(inputs, outputs, [kernel; 2]).with_padding([(kernel - 1) / 2; 4])
    };
    let stem = float_weights(rng, same(3, 16, 3));
    let blocks: Vec<_> = (0..6).map(|_| packed_weights(rng, same(16, 16, 3), 8)).collect();
    let head: Arc<Vec<f32>> = Arc::new(random(rng, 160));
    move |batch| {
        let mut builder = ProgramBuilder::default();
        let x = builder.input(&[batch, 3, 20, 20]);
        let mut y = builder.conv(&stem, x, Activation::Relu6, None);
        for pair in blocks.chunks(2) {
            let middle = builder.conv(&pair[0], y, Activation::Relu, None);
            y = builder.conv(&pair[1], middle, Activation::Sigmoid, Some(y));
        }
        let pool = Pool {
            kind: PoolKind::Max,
            kernel: [2, 2],
            stride: [2, 2],
            dilation: [1, 1],
            padding: [0; 4],
        };
        let y = builder.step(StepOp::Pool(pool), &[y], &[batch, 16, 10, 10]);
        let mean = StepOp::Reduce { reduction: Reduction::Mean, axes: vec![2, 3] };
        let y = builder.step(mean, &[y], &[batch, 16, 1, 1]);
        let y = builder.view(y, &[batch, 16]);
        let head = builder.value(&[16, 10], crate::ir::program::Source::Constant(head.clone()));
        let y = builder.step(StepOp::MatMul, &[y, head], &[batch, 10]);
        let y = builder.step(StepOp::Softmax { axis: 1 }, &[y], &[batch, 10]);
        builder.output(&[y])
    }
}

#[test]
fn plans_of_several_batches_share_one_network() {
    let Some(gpu) = gpu() else { return };
    let mut rng = Rng::new();
    let program = classifier(&mut rng);
    let mut network = Network::new(&gpu.1, NetworkOptions::default()).unwrap();
    let plans: Vec<_> = [1, 3, 2]
        .map(|batch| (program(batch), network.plan(&program(batch)).unwrap()))
        .into_iter()
        .collect();
    for (program, plan) in plans.iter().rev().chain(&plans) {
        let inputs = random_inputs(&mut rng, program);
        let on_cpu = run_on_cpu(program, &inputs);
        let on_gpu = run_poisoned(&gpu.0, plan, &inputs);
        assert!(worst(&on_gpu[0], &on_cpu[0]) < 1e-4, "{:e}", worst(&on_gpu[0], &on_cpu[0]));
        let all: usize = program.values().iter().map(|value| 4 * value.elements()).sum();
        let memory = plan.memory_use();
        // Three tensors of the largest size are needed at a time, out of ten.
        assert!(2 * memory.tensors < all as u64, "{} of {all}", memory.tensors);
        let weights = plans[0].1.memory_use().weights;
        assert_eq!(memory.weights, weights);
    }
}

/// Bytes of device memory in use, once the device has seen that its work is done; `None` where it can't tell.
fn allocated(gpu: &Gpu) -> Option<u64> {
    gpu.queue.submit([]);
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let report = gpu.device.generate_allocator_report()?;
    Some(report.allocations.iter().map(|allocation| allocation.size).sum())
}

#[test]
fn scales_as_halves_change_little_and_take_less() {
    let Some(gpu) = gpu() else { return };
    let mut rng = Rng::new();
    let program = classifier(&mut rng)(2);
    let inputs = random_inputs(&mut rng, &program);
    let on_cpu = run_on_cpu(&program, &inputs);
    let halves = NetworkOptions { scale_format: FloatFormat::F16, ..NetworkOptions::default() };
    let on_gpu = run_on_gpu(gpu, &program, &inputs, halves);
    let error = worst(&on_gpu[0], &on_cpu[0]);
    // Each weight may be off by 2^-11 of itself, through some layers.
    assert!(error < 5e-3, "{error:e}");
    // And some are: not by how much, for a sure classifier's probabilities hardly change.
    assert_ne!(on_gpu, run_on_gpu(gpu, &program, &inputs, NetworkOptions::default()));
    let weights = |options| {
        let network = Network::new(&gpu.1, options).unwrap();
        network.memory_use(&program).unwrap().weights
    };
    assert!(weights(halves) < weights(NetworkOptions::default()));
}

#[test]
fn memory_is_told_beforehand() {
    // A device of its own: other tests allocate too.
    let Some((gpu, pipelines)) = open() else { return };
    let mut rng = Rng::new();
    let program = classifier(&mut rng);
    let halves = NetworkOptions { scale_format: FloatFormat::F16, ..INT8 };
    for options in [NetworkOptions::default(), INT8, halves] {
        // Pipelines first, and what drivers keep for themselves.
        let mut network = Network::new(&pipelines, options).unwrap();
        let first = network.plan(&program(1)).unwrap();
        run_poisoned(&gpu, &first, &random_inputs(&mut rng, &program(1)));
        drop((first, network));
        let Some(before) = allocated(&gpu) else { return };
        let mut network = Network::new(&pipelines, options).unwrap();
        let told = network.memory_use(&program(16)).unwrap();
        let plan = network.plan(&program(16)).unwrap();
        assert_eq!(plan.memory_use(), told);
        let made = allocated(&gpu).unwrap() - before;
        let ratio = made as f64 / told.total() as f64;
        assert!((0.99..1.01).contains(&ratio), "{made} bytes, told {told:?}");
    }
}

#[test]
fn integer_activations_pass_from_layer_to_layer() {
    let Some(gpu) = gpu() else { return };
    let mut rng = Rng::new();
    let input = Shape::new(2, 24, 9, 7);
    let weights = [
        packed_weights(&mut rng, ConvDescriptor::new(24, 40, [3, 3]).with_padding([1; 4]), 16),
        packed_weights(&mut rng, ConvDescriptor::new(40, 32, [1, 1]), 8),
        packed_weights(&mut rng, ConvDescriptor::new(32, 12, [3, 3]).with_stride([2, 2]), 16),
    ];
    let activations = [Activation::Silu, Activation::Relu, Activation::Identity];
    let mut builder = ProgramBuilder::default();
    let x = builder.input(&[2, 24, 9, 7]);
    let y = weights
        .iter()
        .zip(activations)
        .fold(x, |x, (weights, activation)| builder.conv(weights, x, activation, None));
    let program = builder.output(&[y]);
    let inputs = random_inputs(&mut rng, &program);

    let mut network = Network::new(&gpu.1, INT8).unwrap();
    let plan = network.plan(&program).unwrap();
    // One quantisation, then convolutions only.
    assert_eq!(plan.steps().len(), 4);
    let on_gpu = run_poisoned(&gpu.0, &plan, &inputs);

    let (mut shape, mut values, mut magnitude) = (input, inputs[0].clone(), 0.0);
    for (weights, activation) in weights.iter().zip(activations) {
        let Weights::DsConv(weights) = weights.as_ref() else { unreachable!("packed above") };
        let scale = ActivationScale::PowerOfTwo;
        let (descriptor, format) = (weights.descriptor(), weights.format());
        let x = Int8Activations::quantize(descriptor, format, shape, &values, scale).unwrap();
        let y = reference::convolve_int8(weights, &x).unwrap();
        let y = y.with_epilogue(activation, Residual::None, &[]).unwrap();
        (shape, magnitude) = (y.shape, y.magnitude);
        values = y.values.iter().map(|&y| y as f32).collect();
    }
    // A float sum that rounds differently may move a mantissa by one, 1/127 of a block's largest at most: rare,
    // and one of hundreds of products.
    let errors: Vec<f64> =
        on_gpu[0].iter().zip(&values).map(|(a, b)| f64::from((a - b).abs()) / magnitude).collect();
    let mut sorted = errors.clone();
    sorted.sort_by(f64::total_cmp);
    assert!(sorted[sorted.len() / 2] < 4e-6, "median {:e}", sorted[sorted.len() / 2]);
    assert!(sorted[sorted.len() - 1] < 2e-3, "worst {:e}", sorted[sorted.len() - 1]);
}

#[test]
fn integer_activations_are_shared_and_floats_kept_where_read() {
    let Some(gpu) = gpu() else { return };
    let mut rng = Rng::new();
    let one = ConvDescriptor::new(16, 16, [1, 1]);
    let [a, b, c] = [16, 16, 8].map(|block| packed_weights(&mut rng, one, block));
    let mut builder = ProgramBuilder::default();
    let x = builder.input(&[1, 16, 5, 5]);
    let first = builder.conv(&a, x, Activation::Identity, None);
    // Two readers with the same blocks share; a third has others, and an addition reads the floats.
    let left = builder.conv(&a, first, Activation::Identity, None);
    let right = builder.conv(&b, first, Activation::Identity, Some(first));
    let other = builder.conv(&c, first, Activation::Identity, None);
    let sum = builder.binary(Binary::Add, left, right);
    let sum = builder.binary(Binary::Add, sum, other);
    let program = builder.output(&[sum]);
    let inputs = random_inputs(&mut rng, &program);
    let mut network = Network::new(&gpu.1, INT8).unwrap();
    let plan = network.plan(&program).unwrap();
    // x, and `first` in blocks of 16 and of 8: three quantisations, four convolutions, two sums.
    assert_eq!(plan.steps().len(), 9);
    let on_gpu = run_poisoned(&gpu.0, &plan, &inputs);
    let floats = run_on_cpu(&program, &inputs);
    let largest = floats[0].iter().fold(0.0f64, |m, y| m.max(f64::from(y.abs())));
    let error = worst(&on_gpu[0], &floats[0]) / largest;
    assert!(error < 0.05 && error > 0.0, "{error}");
}

/// A convolution, a depthwise one with a residual, and what is around them: every kind of dispatch.
fn mixed_program(rng: &mut Rng) -> Program {
    let descriptor = ConvDescriptor::new(8, 8, [3, 3]).with_padding([1; 4]);
    let packed = packed_weights(rng, descriptor, 8);
    let depthwise = float_weights(rng, descriptor.with_groups(8));
    let mut builder = ProgramBuilder::default();
    let x = builder.input(&[1, 8, 6, 5]);
    let a = builder.conv(&packed, x, Activation::Relu, None);
    let b = builder.conv(&depthwise, a, Activation::Identity, Some(a));
    let c = builder.unary(Unary::Neg, b);
    let y = builder.conv(&packed, c, Activation::Identity, None);
    builder.output(&[y, b])
}

#[test]
fn steps_have_names_and_run_one_by_one() {
    let Some(gpu) = gpu() else { return };
    let mut rng = Rng::new();
    let program = mixed_program(&mut rng);
    let inputs = random_inputs(&mut rng, &program);
    let mut network = Network::new(&gpu.1, INT8).unwrap();
    let plan = network.plan(&program).unwrap();
    let steps: Vec<_> = plan.steps().iter().map(|step| (step.name.as_str(), step.kernel)).collect();
    let convolution = steps[1].1;
    assert!(convolution.starts_with("conv_") && convolution.ends_with("_int8"), "{steps:?}");
    let depthwise = steps[3].1;
    assert!(depthwise.starts_with("conv_depthwise"), "{steps:?}");
    let expected = [
        ("s0", "quantize_activations"),
        ("s0", convolution),
        // The residual lies channels last, and the output is the program's.
        ("s1", "copy"),
        ("s1", depthwise),
        ("s2", "unary"),
        ("s3", "quantize_activations"),
        ("s3", convolution),
    ];
    assert_eq!(steps, expected);

    let whole = run_poisoned(&gpu.0, &plan, &inputs);
    plan.poison(&gpu.0.queue);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    for clock in [Clock::Wall, Clock::Gpu] {
        let timestamps = gpu.0.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        if clock == Clock::Gpu && !timestamps {
            eprintln!("skipped: the adapter has no timestamps");
            continue;
        }
        let profile = pollster::block_on(plan.profile_by(clock, &gpu.0.queue, &inputs)).unwrap();
        assert_eq!((profile.clock, profile.times.len()), (clock, steps.len()));
        assert!(clock == Clock::Gpu || profile.times.iter().all(|time| !time.is_zero()));
        // Steps one by one compute what the whole does.
        let slices = (0..2).map(|index| plan.output(index).unwrap());
        for (slice, expected) in slices.zip(&whole) {
            let got = dsconv::gpu::download(&gpu.0.device, &gpu.0.queue, slice);
            assert_eq!(&pollster::block_on(got).unwrap(), expected);
        }
    }
    let wrong = pollster::block_on(plan.profile(&gpu.0.queue, &[])).unwrap_err().to_string();
    assert_eq!(wrong, "inputs: expected 1, got 0");
}

#[test]
fn runs_that_overlap_do_not_meet() {
    let Some(gpu) = gpu() else { return };
    let mut rng = Rng::new();
    let program = mixed_program(&mut rng);
    let inputs = [random_inputs(&mut rng, &program), random_inputs(&mut rng, &program)];
    let mut network = Network::new(&gpu.1, NetworkOptions::default()).unwrap();
    let plan = network.plan(&program).unwrap();
    let expected = inputs.each_ref().map(|inputs| run_poisoned(&gpu.0, &plan, inputs));
    // As in a browser: each submits all that it has to before anyone waits.
    let mut context = Context::from_waker(Waker::noop());
    let slices = inputs.each_ref().map(|inputs| [inputs[0].as_slice()]);
    let [first, second] = slices.each_ref().map(|slices| plan.run(&gpu.0.queue, slices));
    let (mut first, mut second) = (pin!(first), pin!(second));
    let polled = [first.as_mut().poll(&mut context), second.as_mut().poll(&mut context)];
    for (polled, expected) in polled.into_iter().zip(&expected) {
        // Natively waiting blocks, so both are ready.
        let Poll::Ready(outputs) = polled else { panic!("a native run waits without an end") };
        assert_eq!(&outputs.unwrap(), expected);
    }
}

#[test]
fn destroyed_networks_leave_no_memory() {
    let Some((gpu, pipelines)) = open() else { return };
    let mut rng = Rng::new();
    let program = mixed_program(&mut rng);
    let inputs = random_inputs(&mut rng, &program);
    let before = allocated(&gpu);
    for run in 0..3 {
        let mut network = Network::new(&pipelines, INT8).unwrap();
        let plan = network.plan(&program).unwrap();
        run_poisoned(&gpu, &plan, &inputs);
        let other = mixed_program(&mut rng);
        let second = network.plan(&other).unwrap();
        second.destroy();
        let with_other = allocated(&gpu);
        // Weights that nobody holds any longer go, the others stay and still compute.
        drop(other);
        network.destroy_unused();
        assert!(with_other.is_none() || allocated(&gpu) < with_other, "{run}: {with_other:?}");
        run_poisoned(&gpu, &plan, &inputs);
        // As a browser does, which drops nothing.
        let _held = plan.input(0).unwrap().buffer().clone();
        plan.destroy();
        network.destroy();
        assert_eq!(allocated(&gpu), before, "{run}");
    }
}

#[test]
fn inputs_are_checked() {
    let Some(gpu) = gpu() else { return };
    let mut builder = ProgramBuilder::default();
    let x = builder.input(&[2, 3]);
    let y = builder.unary(Unary::Neg, x);
    let program = builder.output(&[y, x]);
    let mut network = Network::new(&gpu.1, NetworkOptions::default()).unwrap();
    let plan = network.plan(&program).unwrap();
    let run = |inputs: &[&[f32]]| pollster::block_on(plan.run(&gpu.0.queue, inputs));
    let missing = run(&[]).unwrap_err().to_string();
    assert_eq!(missing, "inputs: expected 1, got 0");
    let short = run(&[&[1.0]]).unwrap_err().to_string();
    assert_eq!(short, "input \"t0\": expected 6 elements, [2, 3], got 1");
    assert_eq!(run(&[&[1.0; 6]]).unwrap(), [[-1.0; 6], [1.0; 6]]);
}
