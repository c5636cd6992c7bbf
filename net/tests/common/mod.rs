//! Cases that a Python script computes with ONNX Runtime or PyTorch, in an environment of its own below `target`.

#![allow(dead_code, reason = "each test binary uses a part")]

use dsconv_net::program::{Program, Source};
use dsconv_net::{Graph, Model};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A model, its inputs and what ONNX Runtime makes of them.
#[derive(Deserialize, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) model: PathBuf,
    pub(crate) inputs: Vec<Array>,
    pub(crate) outputs: Vec<Array>,
}

/// Floats in a file.
#[derive(Deserialize, Serialize)]
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) file: PathBuf,
}

impl Array {
    pub(crate) fn read(&self) -> Vec<f32> {
        let bytes = std::fs::read(&self.file).unwrap();
        bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }
}

/// Whether the tests with Python are skipped, which must be asked for.
pub(crate) fn skipped() -> bool {
    let skip = std::env::var("DSCONV_PYTHON").is_ok_and(|python| python == "skip");
    if skip {
        eprintln!("skipped: DSCONV_PYTHON=skip");
    }
    skip
}

/// Where the scripts are, seen from the tests of any crate of the workspace.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../net/tests/python")
}

/// The interpreter of an environment with what the scripts need.
fn python() -> PathBuf {
    let base = std::env::var("DSCONV_PYTHON").unwrap_or_else(|_| "python3".into());
    let wanted = std::fs::read_to_string(scripts().join("requirements.txt")).unwrap();
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("net-python");
    let (stamp, python) = (environment.join("requirements.txt"), environment.join("bin/python"));
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return python;
    }
    let run = |command: &mut Command| {
        let done = command.output().map_err(|e| e.to_string()).and_then(|output| {
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        });
        if let Err(why) = done {
            panic!(
                "these tests compare with ONNX Runtime and need Python 3.11 or newer with venv and pip, and a \
                 package index (Debian, Ubuntu: apt install python3-venv). DSCONV_PYTHON names the interpreter; \
                 DSCONV_PYTHON=skip goes without. {command:?} said: {why}"
            );
        }
    };
    run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&environment));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    run(pip.arg(scripts().join("requirements.txt")));
    std::fs::write(stamp, wanted).unwrap();
    python
}

/// An interpreter with PyTorch: the one that `DSCONV_PYTHON` names, the system's, or one made below `target`.
fn python_with_torch() -> PathBuf {
    let has_torch = |python: &Path| {
        let run = Command::new(python).args(["-c", "import torch"]).output();
        run.is_ok_and(|output| output.status.success())
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("net-torch");
    let made = folder.join("python");
    let named = std::env::var_os("DSCONV_PYTHON").map(PathBuf::from);
    let mut found =
        named.into_iter().chain([made.clone(), "python3".into(), "/usr/bin/python3".into()]);
    if let Some(python) = found.find(|python| has_torch(python)) {
        return python;
    }
    let output = Command::new(scripts().join("torch-of-debian")).arg(&folder).output();
    let why = match output {
        Ok(output) if output.status.success() => return made,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    panic!(
        "these tests compare with PyTorch, which no interpreter here has, nor could Debian's be fetched. DSCONV_PYTHON \
         names an interpreter that has it; DSCONV_PYTHON=skip goes without. {why}"
    );
}

/// Runs a script that needs PyTorch on a folder.
pub(crate) fn run_torch_script(script: &str, folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(python_with_torch());
    run_to_success(command.arg(scripts().join(script)).arg(folder).args(arguments));
}

/// Runs a script, which writes its files into a fresh folder; returns that folder.
pub(crate) fn run_script(script: &str, arguments: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{script}-{}", arguments.join("-").replace('/', "_")));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    run_script_in(script, &folder, arguments);
    folder
}

/// Runs a script on a folder.
pub(crate) fn run_script_in(script: &str, folder: &Path, arguments: &[&str]) {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let python = {
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        python()
    };
    let mut command = Command::new(python);
    run_to_success(command.arg(scripts().join(script)).arg(folder).args(arguments));
}

fn run_to_success(command: &mut Command) {
    let output = command.output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
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

/// How many steps of each kind a program has.
pub(crate) fn kinds(program: &Program) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for step in program.steps() {
        let text = format!("{:?}", step.op);
        let end = text.find([' ', '{']).unwrap_or(text.len());
        *kinds.entry(text[..end.min(24)].to_owned()).or_default() += 1;
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
    let dims: Vec<&[usize]> = case.inputs.iter().map(|input| input.dims.as_slice()).collect();
    let program = graph.specialise(&dims)?;
    check(&program);
    let inputs: Vec<Vec<f32>> = case.inputs.iter().map(Array::read).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let outputs = dsconv_net::cpu::run(&program, &inputs)?;
    assert_eq!(outputs.len(), case.outputs.len());
    let mut worst: f64 = 0.0;
    for ((output, expected), &id) in outputs.iter().zip(&case.outputs).zip(program.outputs()) {
        let dims = &program.value(id).dims;
        if *dims != expected.dims {
            println!("{}: dims {dims:?} instead of {:?}", case.name, expected.dims);
            return Ok(f64::INFINITY);
        }
        worst = worst.max(relative_error(output, &expected.read()));
    }
    Ok(worst)
}
