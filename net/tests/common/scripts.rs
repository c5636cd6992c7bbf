//! Python scripts, in an environment of their own below `target`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether the tests with Python are skipped, which must be asked for.
pub(crate) fn skipped() -> bool {
    let skip = std::env::var("DSCONV_PYTHON").is_ok_and(|python| python == "skip");
    if skip {
        eprintln!("skipped: DSCONV_PYTHON=skip");
    }
    skip
}

/// The folder of the scripts, seen from the tests of any crate of the workspace.
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
