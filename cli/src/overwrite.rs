//! What a command may write over: nothing that it reads, and nothing of another kind than it writes.

use crate::foreign::has_extension;
use anyhow::{Context, ensure};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The option `--force`, for the commands that write files.
#[derive(clap::Args, Default)]
pub(crate) struct Overwrite {
    /// Write over a file of another kind too. Files that the command reads are never written over.
    #[arg(long)]
    force: bool,
}

/// The kind of a file, as its first bytes tell it.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Safetensors,
    Onnx,
    Png,
    Svg,
}

impl Overwrite {
    /// Refuses an output at whose place a file is that must stay. Commands ask before the work.
    ///
    /// # Errors
    /// One of the inputs, a file of another kind without `--force`, a folder, a file that can't be looked at, a name
    /// with another ending than the kind's, or a folder that is not there.
    pub(crate) fn check<'a>(
        &self,
        output: &Path,
        kind: Kind,
        inputs: impl IntoIterator<Item = &'a Path>,
    ) -> anyhow::Result<()> {
        let named = output.display();
        let Ok(found) = std::fs::metadata(output) else { return check_new(output, kind) };
        for input in inputs.into_iter().flat_map(with_parts) {
            ensure!(
                !dsconv::file::same(output, &input),
                "{named}: this would write over {}, which the command reads; expected another name",
                input.display()
            );
        }
        ensure!(!found.is_dir(), "{named}: expected the name of a file, got a folder");
        // Devices and pipes hold nothing that could be lost.
        if !found.is_file() {
            return Ok(());
        }
        check_ending(output, kind)?;
        if self.force {
            return Ok(());
        }
        let mut head = Vec::new();
        std::fs::File::open(output)
            .and_then(|file| file.take(HEAD).read_to_end(&mut head))
            .with_context(|| named.to_string())?;
        ensure!(
            head.is_empty() || kind.is(&head),
            "{named}: there is a file that is not {}; expected another name, or --force to replace it",
            kind.name()
        );
        Ok(())
    }
}

/// Refuses a new file that could not be written, or not be read again.
fn check_new(output: &Path, kind: Kind) -> anyhow::Result<()> {
    check_ending(output, kind)?;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    ensure!(
        folder.is_none_or(Path::is_dir),
        "{}: expected a folder that exists, got {}; make it first",
        output.display(),
        folder.unwrap_or(output).display()
    );
    Ok(())
}

/// Refuses a name by which no program would know the kind.
fn check_ending(output: &Path, kind: Kind) -> anyhow::Result<()> {
    let (named, ending) = (output.display(), kind.ending());
    ensure!(
        has_extension(output, &[ending]),
        "{named}: expected a name that ends in .{ending}, because this command writes {}",
        kind.name()
    );
    Ok(())
}

/// An input, and the files that its tensors lie in if it is an ONNX file. One that is no such file is refused where it
/// is read.
pub(crate) fn with_parts(input: &Path) -> Vec<PathBuf> {
    let parts = match input.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
        true => dsconv_net::onnx::external_files(input).unwrap_or_default(),
        false => Vec::new(),
    };
    [vec![input.to_owned()], parts].concat()
}

/// So many bytes tell a kind.
const HEAD: u64 = 256;

impl Kind {
    fn is(self, head: &[u8]) -> bool {
        match self {
            // The length of a JSON object, in eight bytes, and the object.
            Self::Safetensors => matches!(head, [_, _, _, _, 0, 0, 0, 0, b'{', ..]),
            // Every writer begins with the field ir_version, a number below 128.
            Self::Onnx => {
                matches!(head, [0x08, 0..=127, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
            }
            Self::Png => head.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Svg => {
                let text = head.trim_ascii_start();
                text.starts_with(b"<svg") || text.starts_with(b"<?xml")
            }
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Onnx => "onnx",
            Self::Png => "png",
            Self::Svg => "svg",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "a safetensors file",
            Self::Onnx => "an ONNX file",
            Self::Png => "a PNG",
            Self::Svg => "an SVG",
        }
    }
}
