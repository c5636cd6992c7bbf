//! Kernels chosen by measuring.

mod common;

use common::{Extras, gpu, random_weights};
use dsconv::gpu::{ActivationFormat, ConvProblem, LayerOptions, Tuner};
use dsconv::{BlockFormat, ConvDescriptor, Error, Shape};

#[test]
fn choices_are_measured_once_per_class_and_remembered_in_a_file() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let mut rng = fastrand::Rng::new();
    let descriptor = ConvDescriptor::new(32, 24, [3, 3]).with_padding([1; 4]);
    let extras = Extras { kds_bias: false, bias: true, cds: 0 };
    let format = BlockFormat::new(4, 32).unwrap();
    let weights = random_weights(&mut rng, descriptor, format, extras);
    let adapter = gpu.adapter.get_info();
    let mut tuner = Tuner::new(&adapter);
    let choose = |tuner: &mut Tuner, input_format, shape: Shape| {
        let options = LayerOptions::default().with_input_format(input_format);
        pollster::block_on(tuner.choose(pipelines, &gpu.queue, &weights, shape, &options))
    };
    let shape = Shape::new(1, 32, 6, 6);
    for input_format in [ActivationFormat::Float, ActivationFormat::Int8] {
        let choice = choose(&mut tuner, input_format, shape).unwrap();
        let problem = ConvProblem::new(&weights, input_format);
        choice.kernel.supports(&problem, pipelines.capabilities()).unwrap();
        assert!(!choice.time.is_zero());
        // The same class again, with another number of pixels below the same power of two.
        let again = choose(&mut tuner, input_format, Shape::new(1, 32, 7, 7)).unwrap();
        assert_eq!(again, choice);
    }
    // The packed dot product is a choice like the others, and told again without measuring.
    let told = |tuner: &mut Tuner| {
        pollster::block_on(tuner.packed_dot_product(pipelines, &gpu.queue)).unwrap()
    };
    let before = tuner.clone();
    let first = told(&mut tuner);
    assert_ne!(tuner, before);
    let known = tuner.clone();
    assert_eq!((told(&mut tuner), &tuner), (first, &known));
    let wrong = choose(&mut tuner, ActivationFormat::Float, Shape::new(1, 31, 6, 6));
    assert!(matches!(wrong, Err(Error::Invalid { .. })), "{wrong:?}");

    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tuned.txt");
    tuner.save(&path).unwrap();
    let loaded = Tuner::load(&adapter, &path);
    assert_eq!(loaded, tuner);
    let empty = Tuner::new(&adapter);
    assert_ne!(loaded, empty);
    // Of another driver, damaged, missing: as if there were none.
    let mut other = adapter.clone();
    other.driver_info.push('+');
    assert_eq!(Tuner::load(&other, &path), Tuner::new(&other));
    std::fs::write(&path, b"\xff\x00 nonsense").unwrap();
    assert_eq!(Tuner::load(&adapter, &path), empty);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(Tuner::load(&adapter, &path), empty);
}

/// A device may be opened with matrix units today and without them tomorrow.
#[test]
fn what_was_measured_with_matrix_units_is_not_taken_without() {
    let Some((gpu, pipelines)) = gpu() else { return };
    let without = pipelines.clone().with_tensor_cores(None);
    let mut rng = fastrand::Rng::new();
    let descriptor = ConvDescriptor::new(32, 32, [1, 1]);
    let extras = Extras { kds_bias: false, bias: false, cds: 0 };
    let weights = random_weights(&mut rng, descriptor, BlockFormat::new(4, 32).unwrap(), extras);
    let mut tuner = Tuner::new(&gpu.adapter.get_info());
    let options = LayerOptions::default();
    for pipelines in [pipelines, &without] {
        let shape = Shape::new(1, 32, 8, 8);
        let choice = tuner.choose(pipelines, &gpu.queue, &weights, shape, &options);
        let kernel = pollster::block_on(choice).unwrap().kernel;
        let problem = ConvProblem::new(&weights, ActivationFormat::Float);
        kernel.supports(&problem, pipelines.capabilities()).unwrap();
    }
    // One class where there are no matrix units, else two.
    let lines = if pipelines.capabilities().tensor_cores.is_some() { 2 } else { 1 };
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("tuned-matrix.txt");
    tuner.save(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), lines + 2);
}
