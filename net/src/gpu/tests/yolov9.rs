//! YOLOv9 on the GPU against the CPU reference.

use super::random::inserted_copies;
use super::seed::seed;
use super::{open, random_inputs, run_on_cpu, run_poisoned};

use crate::gpu::{Activations, Network, NetworkOptions};
use crate::yolov9::{self, Description, GraphOutputs, YOLOV9_C_DSCONV};
use crate::{Graph, QuantizeOptions, on_cpu, quantize};
use dsconv::gpu::{Gpu, Pipelines};
use dsconv::signal_to_noise_db;

const SMALL: &str = include_str!("../../../tests/data/yolov9-small.yaml");

/// A whole network may take this many pipelines: each takes time to compile.
const MOST_PIPELINES: usize = 40;

fn random(yaml: &str, outputs: GraphOutputs) -> (Graph, fastrand::Rng) {
    let seed = seed();
    let network = yolov9::Architecture::new(&Description::parse(yaml).unwrap()).unwrap();
    let graph = network.random(outputs, seed, &mut on_cpu, |_, _, _| ()).unwrap();
    (graph, fastrand::Rng::with_seed(seed))
}

fn packed(graph: &Graph, bits: u8, block: u32) -> Graph {
    // The quicker method: what is compared runs on the same integers.
    let method = dsconv::Method::SignedExtreme;
    let options = QuantizeOptions { bits, block, method, ..QuantizeOptions::default() };
    quantize(graph, &options, |_, _, _| ()).unwrap()
}

/// Runs a graph on both and returns for each output the largest difference of a row (a box's coordinate or a class),
/// over the largest magnitude that the row has; and the output's signal to noise in dB.
fn errors(
    (gpu, pipelines): &(Gpu, Pipelines),
    graph: &Graph,
    dims: [usize; 4],
    options: NetworkOptions,
    rng: &mut fastrand::Rng,
) -> Vec<(f64, f64)> {
    let program = graph.specialise(&[&dims]).unwrap();
    // All that convolutions read of each other lies as they wish.
    assert_eq!(inserted_copies(pipelines, &program), 0);
    let inputs = random_inputs(rng, &program);
    let mut network = Network::new(pipelines, options).unwrap();
    let plan = network.plan(&program).unwrap();
    let (got, expected) = (run_poisoned(gpu, &plan, &inputs), run_on_cpu(&program, &inputs));
    let compiled = pipelines.compiled() + network.compiled();
    println!("{compiled} pipelines, {} dispatches", plan.steps().len());
    assert!(compiled <= MOST_PIPELINES, "{compiled} pipelines");
    let outputs = program.outputs().iter().zip(got.iter().zip(&expected));
    let error = |(&id, (got, expected)): (_, (&Vec<f32>, &Vec<f32>))| {
        let anchors = program.value(id).dims[2];
        let rows = got.chunks(anchors).zip(expected.chunks(anchors));
        let row = |(got, expected): (&[f32], &[f32])| {
            let largest = expected.iter().fold(f64::MIN_POSITIVE, |m, y| m.max(f64::from(y.abs())));
            super::worst(got, expected) / largest
        };
        (rows.map(row).fold(0.0, f64::max), signal_to_noise_db(expected, got))
    };
    outputs.map(error).collect()
}

#[test]
fn small_networks_agree_with_the_reference() {
    // A device of its own, whose pipelines are this test's.
    let Some(gpu) = open() else { return };
    let (floats, mut rng) = random(SMALL, GraphOutputs::Training);
    let int8 = NetworkOptions { activations: Activations::Int8, ..NetworkOptions::default() };
    for dims in [[1, 3, 64, 64], [3, 3, 32, 96]] {
        for graph in [floats.clone(), packed(&floats, 4, 8), packed(&floats, 7, 32)] {
            for (error, _) in errors(&gpu, &graph, dims, NetworkOptions::default(), &mut rng) {
                println!("{dims:?}: {error:.1e}");
                assert!(error < 1e-5, "{error:e}");
            }
        }
        // Integer activations are another network: what 8 bits in blocks of 8 cost shows, and no more.
        for (_, snr) in errors(&gpu, &packed(&floats, 8, 8), dims, int8, &mut rng) {
            println!("{dims:?}: int8 {snr:.1} dB");
            assert!(snr > 30.0, "{snr}");
        }
    }
}

#[test]
fn the_articles_network_agrees_with_the_reference() {
    let Some(gpu) = open() else { return };
    for outputs in [GraphOutputs::Training, GraphOutputs::Deployable] {
        let (floats, mut rng) = random(YOLOV9_C_DSCONV, outputs);
        for graph in [floats.clone(), packed(&floats, 4, 32)] {
            for (error, _) in
                errors(&gpu, &graph, [1, 3, 64, 64], NetworkOptions::default(), &mut rng)
            {
                println!("{outputs:?}: {error:.1e}");
                assert!(error < 1e-5, "{error:e}");
            }
        }
    }
}
