//! Cases that a Python script computes, and what every program promises.

use dsconv_net::program::{Program, Source, Value};
use dsconv_net::{Graph, Model};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model, its inputs, and the outputs that ONNX Runtime computes.
#[derive(Deserialize, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) inputs: Vec<Array>,
    pub(crate) outputs: Vec<Array>,
    /// The number of steps of a program of it, where that is to be checked.
    pub(crate) steps: Option<usize>,
}

/// Floats in a file.
#[derive(Deserialize, Serialize)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) file: PathBuf,
}

impl Case {
    /// The dims of the inputs.
    pub(crate) fn dims(&self) -> Vec<&[usize]> {
        self.inputs.iter().map(|input| input.dims.as_slice()).collect()
    }

    /// Runs a program on the inputs.
    pub(crate) fn run(&self, program: &Program) -> dsconv_net::Result<Vec<Vec<f32>>> {
        let inputs: Vec<Vec<f32>> = self.inputs.iter().map(Array::read).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        dsconv_net::cpu::run(program, &inputs)
    }
}

impl Array {
    /// The floats.
    pub(crate) fn read(&self) -> Vec<f32> {
        let bytes = std::fs::read(&self.file).unwrap();
        bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

/// The cases that a script made.
pub(crate) fn cases(folder: &Path) -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap()
}

/// The largest difference, as a share of the largest magnitude that was expected.
pub(crate) fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len(), "number of elements");
    let largest = expected.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs())));
    let difference = got.iter().zip(expected).fold(0.0f64, |m, (&a, &b)| {
        let difference = (f64::from(a) - f64::from(b)).abs();
        if a == b {
            m
        } else if difference.is_nan() {
            f64::INFINITY
        } else {
            m.max(difference)
        }
    });
    if difference == 0.0 { 0.0 } else { difference / largest.max(1e-30) }
}

/// Checks what a program promises.
pub(crate) fn check(program: &Program) {
    let mut written = vec![false; program.values().len()];
    for (index, value) in program.values().iter().enumerate() {
        assert!(value.dims.len() <= 6 && value.elements() >= 1, "{value:?}");
        match &value.source {
            Source::Input(at) => {
                assert_eq!(program.inputs()[*at].index(), index);
                written[index] = true;
            }
            Source::Constant(values) => {
                assert_eq!(values.len(), value.elements());
                written[index] = true;
            }
            Source::Step(at) => assert_eq!(program.steps()[*at].output.index(), index),
            Source::View(of) => {
                assert!(!matches!(program.value(*of).source, Source::View(_)));
                assert_eq!(program.value(*of).elements(), value.elements());
            }
        }
    }
    let mut read = vec![false; written.len()];
    for (index, step) in program.steps().iter().enumerate() {
        for &input in &step.inputs {
            let storage = program.storage(input).index();
            assert!(written[storage], "step {index} reads what is not written yet: {step:?}");
            read[storage] = true;
        }
        assert!(!std::mem::replace(&mut written[step.output.index()], true));
        assert_eq!(program.value(step.output).source, Source::Step(index));
    }
    for &output in program.outputs() {
        read[program.storage(output).index()] = true;
    }
    for step in program.steps() {
        assert!(read[step.output.index()], "nothing reads {step:?}");
    }
}

/// The number of steps of each kind that a program has.
pub(crate) fn kinds(program: &Program) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for step in program.steps() {
        *kinds.entry(step.op.name()).or_default() += 1;
    }
    kinds
}

/// A graph that went through a model file, which must be the same.
pub(crate) fn stored(graph: Graph) -> dsconv_net::Result<Graph> {
    let model = Model::from(graph);
    let back = Model::from_bytes(&model.to_bytes()?)?;
    assert!(back == model, "a model file gave back something else");
    Ok(back.graph)
}

/// Runs a graph on a case's inputs and returns the worst relative error of its outputs.
pub(crate) fn error_of(graph: &Graph, case: &Case) -> dsconv_net::Result<f64> {
    let program = graph.specialise(&case.dims())?;
    check(&program);
    let outputs = case.run(&program)?;
    assert_eq!(outputs.len(), case.outputs.len());
    let mut worst: f64 = 0.0;
    for (index, (output, expected)) in outputs.into_iter().zip(&case.outputs).enumerate() {
        let (dims, output) = program.shown(index, output);
        if dims != expected.dims {
            println!("{}: dims {dims:?} instead of {:?}", case.name, expected.dims);
            return Ok(f64::INFINITY);
        }
        worst = worst.max(relative_error(&output, &expected.read()));
    }
    Ok(worst)
}

/// Runs a program that came out of damaged bytes, if it is small: damage may have made it huge.
pub(crate) fn run_if_small(program: &Program) {
    if program.values().iter().map(Value::elements).sum::<usize>() < 10_000 {
        let inputs: Vec<Vec<f32>> =
            program.inputs().iter().map(|&id| vec![0.5; program.value(id).elements()]).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let _ = dsconv_net::cpu::run(program, &inputs);
    }
}
