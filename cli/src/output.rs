//! What the command prints. A terminal obeys nothing that is in strangers' names, and what can't be written, to a full
//! disk or a closed pipe, is an error when the command ends.

use anyhow::bail;
use dsconv::shown;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::OnceLock;

/// Why standard output could not be written, at the first time.
static FAILED: OnceLock<io::Error> = OnceLock::new();

/// Prints a line to standard output, as `println!` does.
macro_rules! say {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}

/// Prints a line to standard error, as `eprintln!` does.
macro_rules! tell {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

pub(crate) use {say, tell};

pub(crate) fn line(text: Arguments<'_>) {
    let text = printable(&format!("{text}\n"));
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The first one is told.
        let _ = FAILED.set(error);
    }
}

pub(crate) fn note(text: Arguments<'_>) {
    // There is nowhere else to tell it.
    let _ = io::stderr().write_all(printable(&format!("{text}\n")).as_bytes());
}

/// Says whether all that was printed has been written.
pub(crate) fn finish() -> anyhow::Result<()> {
    match FAILED.get() {
        None => Ok(()),
        Some(error) => bail!("standard output: {error}"),
    }
}

/// Lines of text in which a terminal obeys nothing else.
pub(crate) fn printable(text: &str) -> String {
    text.split('\n').map(shown).collect::<Vec<_>>().join("\n")
}
