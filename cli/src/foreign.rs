//! Files that people have instead of the one they mean, told apart by their first bytes and their names.

// Counts and sizes here are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use anyhow::{Context, bail};
use std::io::Read;
use std::path::Path;

/// Says whether a name ends in one of these, in capitals or not.
pub(crate) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    extensions.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

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
    if let Some(what) = archive(&head) {
        bail!("{}: this is {what}; unpack it first, expected an ONNX file", name());
    }
    if let Some((format, what)) = converted(path, &head) {
        bail!("{}: this is a network of {format}; expected {what}", name());
    }
    Ok(())
}

/// What to say of a folder in a network's place.
pub(crate) fn folder(path: &Path) -> &'static str {
    if path.join("saved_model.pb").exists() {
        "this is a network of TensorFlow; export it to ONNX first, as `python -m tf2onnx.convert --saved-model FOLDER \
         --output model.onnx`"
    } else {
        "expected a file named *.safetensors or *.onnx, got a folder"
    }
}

/// An archive of files.
pub(crate) fn archive(head: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 5] = [
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "an archive of gzip"),
        (b"BZh", "an archive of bzip2"),
        (b"\xfd7zXZ\0", "an archive of xz"),
        (b"\x28\xb5\x2f\xfd", "an archive of zstd"),
    ];
    kinds.into_iter().find(|(start, _)| head.starts_with(start)).map(|(_, what)| what)
}

/// The program whose own form of a network a file is, and what to take instead of it.
fn converted(path: &Path, head: &[u8]) -> Option<(&'static str, &'static str)> {
    const SOURCE: &str = "the ONNX file that it was made from";
    let text = head.trim_ascii_start();
    // A drawing is XML too.
    let xml = (text.starts_with(b"<?xml") && text.windows(4).any(|word| word == b"<net"))
        || text.starts_with(b"<net");
    let named = |names: &[&str]| has_extension(path, names);
    if head.starts_with(b"GGUF") {
        Some(("llama.cpp", "a convolution network in ONNX"))
    } else if head.get(4..8) == Some(b"ORTM") || named(&["ort"]) {
        Some(("ONNX Runtime, in its own format", SOURCE))
    } else if xml {
        Some(("OpenVINO", SOURCE))
    } else if named(&["engine", "plan", "trt"]) {
        Some(("TensorRT", SOURCE))
    } else if named(&["mlmodel", "mlpackage"]) {
        Some(("Core ML", SOURCE))
    } else if named(&["param"]) {
        Some(("ncnn", SOURCE))
    } else if named(&["caffemodel", "prototxt"]) {
        Some(("Caffe", "an ONNX file"))
    } else {
        None
    }
}

/// What stands in a file's place where a download went wrong, by its first bytes.
pub(crate) fn placeholder(bytes: &[u8]) -> Option<&'static str> {
    let head = bytes.get(..512).unwrap_or(bytes);
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
    let zip = head.starts_with(b"PK\x03\x04");
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "pt" | "pth" | "ckpt" | "torchscript" => Some(PYTORCH),
        "tflite" | "lite" => Some(TFLITE),
        "h5" | "hdf5" | "keras" => Some(KERAS),
        "pb" => Some(TENSORFLOW),
        // A zip or a pickle under a name that is no framework's: torch.save makes both, the zip with a pickle in it.
        _ if zip && head.windows(9).any(|window| window == b"/data.pkl") => Some(PYTORCH),
        _ if head.starts_with(b"\x80\x02") => Some(PYTORCH),
        _ => None,
    }
}
