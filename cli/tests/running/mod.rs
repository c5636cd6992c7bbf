//! Running the command, as its tests do.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

pub mod onnx;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Says whether tests are to go without a GPU. Without an adapter they fail, unless `DSCONV_GPU=skip`.
pub fn skip_gpu() -> bool {
    std::env::var("DSCONV_GPU").as_deref() == Ok("skip")
}

/// The option that runs a command on the CPU reference where there is no GPU to test on.
pub fn device() -> Vec<&'static str> {
    if skip_gpu() { vec!["--device", "cpu"] } else { Vec::new() }
}

/// The command, with a cache of its own: tests leave the user's alone.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dsconv"));
    command.args(arguments).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// What the command did.
pub fn dsconv(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// A folder of a test's own, empty.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// All that the command printed.
pub fn text(output: &Output) -> String {
    let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    of(&output.stdout) + &of(&output.stderr)
}

/// What a command that must succeed prints.
pub fn printed(arguments: &[&str]) -> String {
    let output = dsconv(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The JSON that a command that must succeed prints.
pub fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}
