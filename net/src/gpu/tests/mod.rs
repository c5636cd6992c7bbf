//! Programs on the GPU against the CPU runner.

mod channels_last;
#[path = "../../../../tests/common/dxc.rs"]
mod dxc;
mod gradients;
mod indexed;
mod networks;
mod random;
#[path = "../../../tests/common/seed.rs"]
mod seed;
mod shaders;
mod steps;
mod yolov9;

use super::channels_last::Layouts;
use super::kernels::OpKernels;
use super::layout::MemoryLayout;
use super::schedule::Schedule;
use super::uploads::Uploads;
use super::{Network, NetworkOptions, NetworkPlan};
use crate::cpu;
use crate::ir::program::{Program, Source, Step, StepOp, TensorId, Value};
use dsconv::Layout;
use dsconv::gpu::{self, Gpu, Pipelines};
use std::sync::{Arc, OnceLock};

/// The device that tests run on, opened once. `None` only if the environment says `DSCONV_GPU=skip`.
pub(crate) fn gpu() -> Option<&'static (Gpu, Pipelines)> {
    static GPU: OnceLock<Option<(Gpu, Pipelines)>> = OnceLock::new();
    GPU.get_or_init(open).as_ref()
}

/// A device of its own. `DSCONV_DEVICE` names another than the best.
fn open() -> Option<(Gpu, Pipelines)> {
    if std::env::var("DSCONV_GPU").as_deref() == Ok("skip") {
        eprintln!("GPU tests skipped: DSCONV_GPU=skip");
        return None;
    }
    let selection = match std::env::var("DSCONV_DEVICE") {
        Ok(name) => gpu::Selection::Name(name),
        Err(_) => gpu::Selection::Best,
    };
    let gpu = pollster::block_on(gpu::open(&selection))
        .unwrap_or_else(|e| panic!("{e}; or set DSCONV_GPU=skip to do without GPU tests"));
    let pipelines = Pipelines::new(&gpu.device).unwrap();
    Some((gpu, pipelines))
}

fn random(rng: &mut fastrand::Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

/// A program as a test writes it.
#[derive(Default)]
struct ProgramBuilder(Program);

impl ProgramBuilder {
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

    fn constant(&mut self, dims: &[usize], values: Vec<f32>) -> TensorId {
        assert_eq!(dims.iter().product::<usize>(), values.len());
        self.value(dims, Source::Constant(Arc::new(values)))
    }

    fn view(&mut self, of: TensorId, dims: &[usize]) -> TensorId {
        let of = self.0.storage(of);
        self.value(dims, Source::View(of))
    }

    fn step(&mut self, op: StepOp, inputs: &[TensorId], dims: &[usize]) -> TensorId {
        let index = self.0.steps.len();
        let output = self.value(dims, Source::Step(index));
        self.0.steps.push(Step { name: format!("s{index}"), op, inputs: inputs.to_vec(), output });
        output
    }

    fn dims(&self, id: TensorId) -> Vec<usize> {
        self.0.value(id).dims.clone()
    }

    fn output(mut self, outputs: &[TensorId]) -> Program {
        self.0.outputs = outputs.to_vec();
        self.0
    }
}

fn random_inputs(rng: &mut fastrand::Rng, program: &Program) -> Vec<Vec<f32>> {
    program.inputs().iter().map(|&id| random(rng, program.value(id).elements())).collect()
}

/// Fills all of the plan's tensors with NaN, then runs it.
fn run_poisoned(gpu: &Gpu, plan: &NetworkPlan, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    plan.poison(&gpu.queue);
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    pollster::block_on(plan.run(&gpu.queue, &inputs)).unwrap()
}

fn run_on_gpu(
    (gpu, pipelines): &(Gpu, Pipelines),
    program: &Program,
    inputs: &[Vec<f32>],
    options: NetworkOptions,
) -> Vec<Vec<f32>> {
    let mut network = Network::new(pipelines, options).unwrap();
    run_poisoned(gpu, &network.plan(program).unwrap(), inputs)
}

/// Runs a program whose tensors lie in layouts that are drawn by lot.
fn run_in_random_layouts(
    (gpu, pipelines): &(Gpu, Pipelines),
    rng: &mut fastrand::Rng,
    program: &Program,
    inputs: &[Vec<f32>],
) -> Vec<Vec<f32>> {
    let options = NetworkOptions::default();
    let layouts = Layouts::chosen(program, || [Layout::Nchw, Layout::Nhwc][rng.usize(0..2)]);
    let schedule = Schedule::new(layouts, options, pipelines.capabilities()).unwrap();
    let memory = MemoryLayout::new(program, &schedule, pipelines.limits()).unwrap();
    let (mut uploads, mut kernels) = (Uploads::new(pipelines), OpKernels::new(pipelines).unwrap());
    let plan = NetworkPlan::new(&mut uploads, &mut kernels, program, &schedule, &memory).unwrap();
    run_poisoned(gpu, &plan, inputs)
}

fn run_on_cpu(program: &Program, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    cpu::run(program, &inputs).unwrap()
}

/// The worst difference; infinite where only one side is a number.
fn worst(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference = |(&a, &b): (&f32, &f32)| match (a.is_nan(), b.is_nan()) {
        (true, true) => 0.0,
        (false, false) if a == b => 0.0,
        (false, false) => (f64::from(a) - f64::from(b)).abs(),
        _ => f64::INFINITY,
    };
    a.iter().zip(b).map(difference).fold(0.0, f64::max)
}
