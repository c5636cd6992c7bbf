//! Random programs on the GPU against the CPU.

use super::networks::float_weights;
use super::seed::seed;
use super::{
    ProgramBuilder, gpu, random, random_inputs, run_in_random_layouts, run_on_cpu, run_on_gpu,
    worst,
};
use crate::gpu::NetworkOptions;
use crate::gpu::channels_last::Layouts;
use crate::gpu::kernels::{Dispatch, OpKernel};
use crate::gpu::schedule::{Schedule, Task, TaskKind};
use crate::ir::op::{Binary, PadMode, PoolKind, Reduction, Unary};
use crate::ir::program::{ConvTranspose, Pool, Program, StepOp, Taps, TensorId};
use dsconv::gpu::Pipelines;
use dsconv::{Activation, ConvDescriptor, Weights};
use fastrand::Rng;
use std::sync::Arc;

/// A program that grows, all of whose tensors that later steps may read have the same dims.
struct Growing {
    builder: ProgramBuilder,
    dims: [usize; 4],
    weights: Vec<Arc<Weights>>,
    matrix: TensorId,
    kernel: TensorId,
}

impl Growing {
    fn same(&mut self, op: StepOp, inputs: &[TensorId]) -> TensorId {
        self.builder.step(op, inputs, &self.dims)
    }

    /// An operation of any kind on one or two tensors; elements may grow tenfold.
    fn operation(&mut self, rng: &mut Rng, a: TensorId, b: TensorId) -> TensorId {
        let dims @ [n, c, h, w] = self.dims;
        match rng.u8(0..16) {
            0 => self.builder.binary(Binary::Add, a, b),
            1 => self.builder.binary(Binary::Max, a, b),
            2..=4 => {
                let weights = self.weights[rng.usize(0..self.weights.len())].clone();
                let second = rng.bool().then_some(b);
                self.builder.conv(&weights, a, Activation::Relu6, second)
            }
            5 => self.same(StepOp::Softmax { axis: rng.usize(0..4) }, &[a]),
            6 => {
                let view = self.builder.view(a, &[n * c, h * w]);
                let permutation = StepOp::Transpose { permutation: vec![1, 0] };
                let turned = self.builder.step(permutation, &[view], &[h * w, n * c]);
                self.builder.view(turned, &dims)
            }
            7 => {
                let wide =
                    self.builder.step(StepOp::Concat { axis: 1 }, &[a, b], &[n, 2 * c, h, w]);
                let start = vec![0, rng.usize(0..=c), 0, 0];
                self.same(StepOp::Slice { start, step: vec![1; 4] }, &[wide])
            }
            8 => {
                let average = PoolKind::Average { count_padding: rng.bool() };
                let kind = [PoolKind::Max, average][rng.usize(0..2)];
                let pool = Pool {
                    kind,
                    kernel: [3; 2],
                    stride: [1; 2],
                    dilation: [1; 2],
                    padding: [1; 4],
                };
                self.same(StepOp::Pool(pool), &[a])
            }
            9 => {
                let axes = match rng.bool() {
                    true => vec![2, 3],
                    false => vec![rng.usize(0..4)],
                };
                let kept = |axis| if axes.contains(&axis) { 1 } else { dims[axis] };
                let small = [0, 1, 2, 3].map(kept);
                let op = StepOp::Reduce { reduction: Reduction::Mean, axes };
                let gate = self.builder.step(op, &[a], &small);
                match rng.bool() {
                    true => self.builder.binary(Binary::Mul, b, gate),
                    false => self.same(StepOp::Expand, &[gate]),
                }
            }
            10 => {
                let taps = |axis: usize, rng: &mut Rng| {
                    let (extent, count) = (dims[axis], 2);
                    let indices = (0..extent * count).map(|_| rng.u32(0..extent as u32)).collect();
                    Taps { axis, count, indices, weights: random(rng, extent * count) }
                };
                let first = rng.usize(0..3);
                let axes = vec![taps(first, rng), taps(rng.usize(first + 1..4), rng)];
                self.same(StepOp::Resize { axes }, &[a])
            }
            11 => {
                let modes = [PadMode::Constant(0.5), PadMode::Edge, PadMode::Reflect];
                let pad = StepOp::Pad { before: vec![0, 2, 1, 0], mode: modes[rng.usize(0..3)] };
                let wide = self.builder.step(pad, &[a], &[n, c + 3, h + 2, w + 1]);
                let start = vec![0, rng.usize(0..4), rng.usize(0..3), rng.usize(0..2)];
                self.same(StepOp::Slice { start, step: vec![1; 4] }, &[wide])
            }
            12 => {
                let last = StepOp::Transpose { permutation: vec![0, 2, 3, 1] };
                let turned = self.builder.step(last, &[a], &[n, h, w, c]);
                let turned = match rng.bool() {
                    true => self.builder.unary(Unary::Neg, turned),
                    false => turned,
                };
                self.same(StepOp::Transpose { permutation: vec![0, 3, 1, 2] }, &[turned])
            }
            13 => {
                let conv = ConvTranspose {
                    kernel: [3; 2],
                    stride: [1; 2],
                    dilation: [1; 2],
                    padding: [1; 2],
                    groups: 1,
                };
                self.same(StepOp::ConvTranspose(conv), &[a, self.kernel])
            }
            14 => {
                let axis = rng.usize(0..4);
                let indices = (0..dims[axis]).map(|_| rng.u32(0..dims[axis] as u32)).collect();
                self.same(StepOp::Gather { axis, indices: Arc::new(indices) }, &[a])
            }
            _ => self.same(StepOp::MatMul, &[a, self.matrix]),
        }
    }
}

/// A chain of steps that read one or two of the last few tensors; elements stay around 1.
fn random_program(rng: &mut Rng, steps: usize) -> Program {
    let dims = [rng.usize(1..3), 8, 6, 7];
    let mut builder = ProgramBuilder::default();
    let mut tensors = vec![builder.input(&dims), builder.input(&dims)];
    let values = random(rng, dims.iter().product());
    tensors.push(builder.constant(&dims, values));
    let same =
        |kernel: u32| ConvDescriptor::new(8, 8, [kernel; 2]).with_padding([(kernel - 1) / 2; 4]);
    let descriptors = [same(3), same(1), same(3).with_groups(8), same(1).with_groups(2)];
    let weights = descriptors.map(|descriptor| float_weights(rng, descriptor)).to_vec();
    let values = random(rng, 7 * 7);
    let matrix = builder.constant(&[7, 7], values);
    let values = random(rng, 8 * 8 * 9);
    let kernel = builder.constant(&[8, 8, 3, 3], values);
    let mut growing = Growing { builder, dims, weights, matrix, kernel };
    for _ in 0..steps {
        let recent = tensors.len().saturating_sub(6);
        let mut pick = || tensors[rng.usize(recent..tensors.len())];
        let (a, b) = (pick(), pick());
        let made = growing.operation(rng, a, b);
        tensors.push(growing.builder.unary(Unary::Tanh, made));
    }
    let mut program = growing.builder.output(&[tensors[tensors.len() - 1], tensors[1], tensors[2]]);
    // Only what an output needs is a program's step: give the outputs what nothing reads.
    let read: Vec<TensorId> = program.steps.iter().flat_map(|step| step.inputs.clone()).collect();
    for step in &program.steps {
        let view = |id: &TensorId| program.storage(*id) == step.output;
        if !read.iter().any(view) && !program.outputs.iter().any(view) {
            program.outputs.push(step.output);
        }
    }
    program
}

/// Copies from one layout to another that no step of the program asks for.
pub(super) fn inserted_copies(pipelines: &Pipelines, program: &Program) -> usize {
    let options = NetworkOptions::default();
    let schedule = Schedule::new(Layouts::new(program), options, pipelines.capabilities()).unwrap();
    let inserted = |task: &&Task| {
        let moves = ["Concat", "Slice", "Gather", "Expand", "Transpose", "Pad"];
        let copy = |dispatch: &Dispatch| dispatch.kernel == OpKernel::Copy;
        matches!(&task.kind, TaskKind::Other(dispatch) if copy(dispatch))
            && !moves.contains(&program.steps()[task.step].op.name())
    };
    schedule.tasks.iter().filter(inserted).count()
}

#[test]
fn random_networks_in_any_layouts() {
    let Some(gpu) = gpu() else { return };
    let seed = seed();
    let mut rng = Rng::with_seed(seed);
    let mut copies = 0;
    for _ in 0..12 {
        let program = random_program(&mut rng, 20);
        copies += inserted_copies(&gpu.1, &program);
        let inputs = random_inputs(&mut rng, &program);
        let on_cpu = run_on_cpu(&program, &inputs);
        let as_chosen = run_on_gpu(gpu, &program, &inputs, NetworkOptions::default());
        let any = run_in_random_layouts(gpu, &mut rng, &program, &inputs);
        for on_gpu in [as_chosen, any] {
            assert_eq!(on_gpu.len(), on_cpu.len());
            for (a, b) in on_gpu.iter().zip(&on_cpu) {
                // Convolutions sum 72 products of up to 1, and errors pass through up to 20 steps.
                assert!(worst(a, b) < 1e-4, "{:e}, seed {seed}", worst(a, b));
            }
        }
    }
    assert!(copies > 0, "no tensor was needed in both layouts, seed {seed}");
}
