//! Files that people have instead of the one they mean, told apart by their first bytes and their names.

use anyhow::{Context, bail};
use std::io::Read;
use std::path::Path;

/// Refuses a network's file that is something else, and says what it is and what to do.
pub(crate) fn check_network(path: &Path) -> anyhow::Result<()> {
    let name = || path.display().to_string();
    let mut head = Vec::new();
    let file = std::fs::File::open(path).with_context(name)?;
    file.take(512).read_to_end(&mut head).with_context(name)?;
    if let Some(what) = placeholder(&head) {
        bail!("{}: {what}", name());
    }
    if let Some((format, how)) = framework(path, &head) {
        bail!("{}: this is a network of {format}; export it to ONNX first, as {how}", name());
    }
    Ok(())
}

/// What stands in a file's place where a download went wrong.
pub(crate) fn placeholder(head: &[u8]) -> Option<&'static str> {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    if head.is_empty() {
        Some("the file is empty; copy or download it again")
    } else if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        Some("this is a pointer of Git LFS and not the file itself; `git lfs pull` fetches it")
    } else if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") {
        Some(
            "this is an HTML page and not the file itself; download the file that the page is about",
        )
    } else {
        None
    }
}

/// The framework that a file is of, and a line that exports to ONNX from there.
fn framework(path: &Path, head: &[u8]) -> Option<(&'static str, &'static str)> {
    const PYTORCH: (&str, &str) = (
        "PyTorch",
        "`torch.onnx.export(model.eval(), (example_input,), \"model.onnx\")` in Python",
    );
    const TFLITE: (&str, &str) = (
        "TensorFlow Lite",
        "`python -m tf2onnx.convert --tflite model.tflite --output model.onnx`",
    );
    const KERAS: (&str, &str) = (
        "Keras",
        "`model.export(\"saved\")` in Python, then `python -m tf2onnx.convert --saved-model saved --output model.onnx`",
    );
    const TENSORFLOW: (&str, &str) = (
        "TensorFlow",
        "`python -m tf2onnx.convert --graphdef model.pb --inputs NAME:0 --outputs NAME:0 --output model.onnx`",
    );
    // What the bytes say goes before what the name says.
    if head.get(4..8) == Some(b"TFL3") {
        return Some(TFLITE);
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") {
        return Some(KERAS);
    }
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "pt" | "pth" | "ckpt" | "torchscript" => Some(PYTORCH),
        "tflite" | "lite" => Some(TFLITE),
        "h5" | "hdf5" | "keras" => Some(KERAS),
        "pb" => Some(TENSORFLOW),
        // A zip or a pickle under a name that is no framework's: torch.save makes both.
        _ if head.starts_with(b"PK\x03\x04") || head.starts_with(b"\x80\x02") => Some(PYTORCH),
        _ => None,
    }
}
