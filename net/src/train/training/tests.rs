//! Gradients of whole networks against differences of their loss.

use super::*;
use dsconv::Quantizer;
use fastrand::Rng;

const SMALL: &[u8] = include_bytes!("../../../tests/data/small.onnx");
const ALL: Learned =
    Learned { scales: true, biases: true, depthwise: true, floats: true, head: true };

/// A network whose convolutions are packed, or floats.
fn network(rng: &mut Rng, is_packed: bool) -> Graph {
    let mut graph = crate::onnx::from_bytes(SMALL, None).unwrap();
    let ids: Vec<_> = graph.convolutions().map(|(_, id)| id).collect();
    for id in ids {
        let Weights::Float(floats) = graph.weights(id).as_ref().clone() else { continue };
        if is_packed {
            let quantizer = Quantizer::new(4, 2).unwrap();
            let packed = quantizer.weights(floats.descriptor(), floats.values()).unwrap();
            let count = packed.alpha().len();
            let packed = packed.with_kds_bias((0..count).map(|_| rng.f32() * 0.1).collect());
            let bias = vec![0.1; floats.descriptor().out_channels as usize];
            graph.set_weights(id, packed.unwrap().with_bias(bias).unwrap()).unwrap();
        }
    }
    graph
}

fn random(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

#[test]
fn gradients_of_all_parameters_are_those_of_differences_of_the_loss() {
    // A fixed seed: at others a difference may go over a kink.
    let rng = &mut Rng::with_seed(3);
    let losses = [Loss::CrossEntropy { smoothing: 0.1 }, Loss::SquaredError];
    for (loss, is_packed) in losses.into_iter().flat_map(|loss| [(loss, true), (loss, false)]) {
        let graph = network(rng, is_packed);
        let mut training = Training::new(&graph, &[&[2, 5, 4, 4]], loss, ALL).unwrap();
        let x = random(rng, 160);
        let scores = training.step_of_any(&x).scores;
        let targets = training.any_targets(scores.len());
        let first = training.step(&[&x], &targets).unwrap();
        assert_eq!(first.gradients.len(), training.parameters().len());
        let parts: Vec<Part> = training.parameters().iter().map(|p| p.part).collect();
        let expected: &[Part] = match is_packed {
            true => &[Part::Alpha, Part::KdsBias, Part::Bias],
            false => &[Part::Values],
        };
        assert!(expected.iter().all(|part| parts.contains(part)), "{parts:?}");
        let values = training.values();
        for (index, gradient) in first.gradients.iter().enumerate() {
            assert_eq!(gradient.len(), values[index].len());
            let most = gradient.iter().fold(0.01f64, |m, g| m.max(f64::from(g.abs())));
            for _ in 0..4 {
                let at = rng.usize(..gradient.len());
                let mut ends = [1e-3f32, -1e-3].map(|by| {
                    let mut values = values.clone();
                    values[index][at] += by;
                    training.set(&values).unwrap();
                    (training.step(&[&x], &targets).unwrap().loss, values[index][at])
                });
                ends.reverse();
                let expected =
                    (ends[1].0 - ends[0].0) / (f64::from(ends[1].1) - f64::from(ends[0].1));
                let got = f64::from(gradient[at]);
                let parameter = &training.parameters()[index];
                assert!(
                    (got - expected).abs() < 0.02 * most,
                    "{parameter:?} {loss:?}: {got} {expected}"
                );
            }
        }
        // Down the slope the loss falls, and the graph has what was learned.
        let mut values = values;
        let mut before = f64::INFINITY;
        for _ in 0..10 {
            training.set(&values).unwrap();
            let step = training.step(&[&x], &targets).unwrap();
            assert!(step.loss < before, "{} {before}", step.loss);
            before = step.loss;
            for (values, gradient) in values.iter_mut().zip(&step.gradients) {
                values.iter_mut().zip(gradient).for_each(|(v, g)| *v -= 0.002 * g);
            }
        }
        let again = training.graph().specialise(&[&[2, 5, 4, 4]]).unwrap();
        let run = cpu::run(&again, &[&x]).unwrap();
        assert_eq!(run[0].len(), scores.len());
        assert_ne!(run, cpu::run(&graph.specialise(&[&[2, 5, 4, 4]]).unwrap(), &[&x]).unwrap());
        // What does not fit changes nothing.
        let kept = training.values();
        assert!(training.set(&kept[1..]).is_err());
        let mut wrong = kept.clone();
        wrong[0].pop();
        assert!(training.set(&wrong).is_err());
        wrong[0].push(f32::NAN);
        assert!(training.set(&wrong).is_err());
        assert_eq!(training.values(), kept);
        assert!(training.step(&[&x], &targets[1..]).is_err());
    }
    let graph = network(rng, true);
    let none = Training::new(&graph, &[&[2, 5, 4, 4]], Loss::SquaredError, Learned::default());
    assert!(none.unwrap_err().to_string().contains("what learns"));
}

impl Training {
    /// Targets of one class in every row.
    fn any_targets(&self, count: usize) -> Vec<f32> {
        let mut targets = vec![0.0; count];
        self.rows().enumerate().for_each(|(row, mut places)| {
            let classes = places.clone().count();
            if let Some(at) = places.nth(row * 7 % classes) {
                targets[at] = 1.0;
            }
        });
        targets
    }

    fn step_of_any(&self, x: &[f32]) -> Gradients {
        let count = self.program.value(self.program.outputs()[0]).elements();
        self.step(&[x], &self.any_targets(count)).unwrap()
    }
}

/// What the GPU gives for a training, before and after its numbers have changed, is what the CPU gives.
#[cfg(feature = "gpu")]
fn check_on_gpu(graph: &Graph, dims: &[usize], rng: &mut Rng) {
    use crate::train::TrainingPlan;
    let Some((gpu, pipelines)) = crate::gpu::tests::gpu() else { return };
    let loss = Loss::CrossEntropy { smoothing: 0.1 };
    let mut training = Training::new(graph, &[dims], loss, ALL).unwrap();
    let told = TrainingPlan::memory_use(pipelines, &training).unwrap();
    assert!(told.total() > 0);
    let plan = TrainingPlan::new(pipelines, &training).unwrap();
    let x = random(rng, dims.iter().product());
    for round in 0..3 {
        let on_cpu = training.step_of_any(&x);
        let targets = training.any_targets(on_cpu.scores.len());
        let inputs: [&[f32]; 1] = [&x];
        let step = plan.step(&gpu.queue, &training, &inputs, &targets);
        let on_gpu = pollster::block_on(step).unwrap();
        assert!((on_gpu.loss - on_cpu.loss).abs() < 1e-4 * on_cpu.loss.abs().max(1.0));
        // Roundings may take an element over a kink, whose gradient then goes another way: of all, few do.
        let square = |values: &[f32]| values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        for (index, parameter) in training.parameters().iter().enumerate() {
            let (gpu, cpu) = (&on_gpu.gradients[index], &on_cpu.gradients[index]);
            let apart: Vec<f32> = gpu.iter().zip(cpu).map(|(a, b)| a - b).collect();
            let error = (square(&apart) / square(cpu).max(1e-20)).sqrt();
            assert!(error < 1e-3, "round {round}, {parameter:?}: {error:e}");
        }
        let mut values = training.values();
        for (values, gradient) in values.iter_mut().zip(&on_cpu.gradients) {
            let size = square(gradient).sqrt().max(1e-6) as f32;
            values.iter_mut().zip(gradient).for_each(|(v, g)| *v -= 0.05 * g / size);
        }
        training.set(&values).unwrap();
        plan.update(&gpu.queue, &training).unwrap();
    }
    plan.destroy();
}

#[cfg(feature = "gpu")]
#[test]
fn the_gpu_gives_the_gradients_of_the_cpu() {
    let rng = &mut Rng::with_seed(7);
    for is_packed in [true, false] {
        check_on_gpu(&network(rng, is_packed), &[2, 5, 4, 4], rng);
    }
}

/// Depthwise layers, strides, residuals, and pools, in a whole network of 4 bits.
#[cfg(feature = "gpu")]
#[test]
fn the_gpu_gives_the_gradients_of_a_whole_network() {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/models/efficientnet-lite0-i4.safetensors");
    let model = crate::Model::from_bytes(&std::fs::read(file).unwrap())
        .unwrap()
        .with_picture_size([32; 2])
        .unwrap();
    check_on_gpu(&model.graph, &[2, 3, 32, 32], &mut Rng::with_seed(8));
}
