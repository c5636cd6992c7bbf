//! Running the command, as its tests do.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use serde_json::Value;
use std::process::{Command, Output};

/// On the CPU reference where there is no GPU to test on.
pub fn device() -> Vec<&'static str> {
    match std::env::var("DSCONV_GPU").as_deref() {
        Ok("skip") => vec!["--device", "cpu"],
        _ => Vec::new(),
    }
}

/// With a cache of its own: tests leave the user's alone.
pub fn dsconv(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dsconv"));
    command.args(arguments).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR")).output().unwrap()
}

/// All that was printed.
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

/// The same, parsed.
pub fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}
