//! Models of other programs that were once refused, on the CPU and on the GPU, with what ONNX Runtime gave for them.

mod common;

use dsconv_net::{Graph, Program, onnx};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// The tensors of a file whose names start so, by the rest of their names.
fn tensors(file: &SafeTensors<'_>, prefix: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let read = |(name, tensor): (String, safetensors::tensor::TensorView<'_>)| {
        let name = name.strip_prefix(prefix)?.to_owned();
        let bytes = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            Dtype::I64 => {
                bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f32).collect()
            }
            Dtype::U8 => bytes.iter().map(|&byte| f32::from(byte)).collect(),
            other => panic!("{name}: {other:?}"),
        };
        Some((name, tensor.shape().to_vec(), values))
    };
    file.tensors().into_iter().filter_map(read).collect()
}

/// The worst relative error of the outputs that a run gives.
fn compare(
    graph: &Graph,
    program: &Program,
    outputs: &[Vec<f32>],
    expected: &[(String, Vec<usize>, Vec<f32>)],
) -> f64 {
    let named = graph.outputs().iter().zip(outputs).enumerate();
    let error = |(index, (output, values)): (usize, (&dsconv_net::graph::Output, &Vec<f32>))| {
        let (_, dims, expected) =
            expected.iter().find(|(name, ..)| *name == output.name).expect("an output's name");
        let (shown, values) = program.shown(index, values.clone());
        assert_eq!(shown, *dims, "{}", output.name);
        common::relative_error(&values, expected)
    };
    named.map(error).fold(0.0, f64::max)
}

fn gpu_outputs(program: &Program, inputs: &[&[f32]]) -> Option<Vec<Vec<f32>>> {
    if std::env::var("DSCONV_GPU").is_ok_and(|gpu| gpu == "skip") {
        return None;
    }
    let selection = match std::env::var("DSCONV_DEVICE") {
        Ok(name) => dsconv::gpu::Selection::Name(name),
        Err(_) => dsconv::gpu::Selection::Best,
    };
    let gpu = pollster::block_on(dsconv::gpu::open(&selection)).unwrap();
    let pipelines = dsconv::gpu::Pipelines::new(&gpu.device).unwrap();
    let mut network =
        dsconv_net::gpu::Network::new(&pipelines, dsconv_net::gpu::NetworkOptions::default())
            .unwrap();
    let plan = network.plan(program).unwrap();
    Some(pollster::block_on(plan.run(&gpu.queue, inputs)).unwrap())
}

#[test]
fn models_that_were_refused_give_what_onnx_runtime_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/strangers");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    names.sort();
    let mut failures = Vec::new();
    for path in &names {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(path.with_extension("safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (given, expected) = (tensors(&file, "in."), tensors(&file, "out."));
        let run = || -> dsconv_net::Result<[f64; 2]> {
            let graph = common::stored(onnx::read(path)?)?;
            let input = |input: &dsconv_net::graph::Input| {
                given.iter().find(|(name, ..)| *name == input.name).expect("an input's name")
            };
            let inputs: Vec<_> = graph.inputs().iter().map(input).collect();
            let dims: Vec<&[usize]> = inputs.iter().map(|(_, dims, _)| dims.as_slice()).collect();
            let values: Vec<&[f32]> = inputs.iter().map(|(.., values)| values.as_slice()).collect();
            let program = graph.specialise(&dims)?;
            common::check(&program);
            let on_cpu = dsconv_net::cpu::run(&program, &values)?;
            let cpu = compare(&graph, &program, &on_cpu, &expected);
            let on_gpu = gpu_outputs(&program, &values);
            let gpu = on_gpu.map_or(0.0, |y| compare(&graph, &program, &y, &expected));
            Ok([cpu, gpu])
        };
        // A step of the last activations' quantisation, of 255 to 127 steps of the largest.
        let quantised = name.contains("qdq") || name.contains("qop");
        let bound = if quantised { 1.01 / 127.0 } else { 1e-5 };
        match run() {
            Ok(errors) if errors.iter().all(|error| *error <= bound) => {
                println!("{name}: {:.1e} {:.1e}", errors[0], errors[1]);
            }
            result => failures.push(format!("{name}: {result:?}")),
        }
    }
    assert!(names.len() >= 29, "{}", names.len());
    assert!(failures.is_empty(), "{} of {}: {failures:#?}", failures.len(), names.len());
}
