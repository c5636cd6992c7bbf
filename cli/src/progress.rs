//! Progress bars for work that takes seconds.

use dsconv::shown;
use indicatif::{ProgressBar, ProgressStyle};

/// A progress bar with room for the name of what is being done.
pub(crate) fn progress(steps: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?;
    Ok(ProgressBar::new(steps as u64).with_style(style))
}

/// Runs a long work, and shows what it reports: the number of a step, of how many, and its name.
pub(crate) fn with_progress<T>(
    what: &str,
    work: impl FnOnce(&mut dyn FnMut(usize, usize, &str)) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let bar = progress(1)?;
    let result = work(&mut |number, count, name| {
        bar.set_length(count as u64);
        bar.set_position(number as u64);
        bar.set_message(format!("{what} {}", shown(name)));
    });
    bar.finish_and_clear();
    result
}
