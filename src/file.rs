//! Files that are either whole or not there.

use crate::{Error, Result};
use std::path::Path;

/// Writes beside the path, then renames: a reader sees the old file or the new one, never half of it.
///
/// # Errors
/// A failure of the file system.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let error = |source| Error::Io { path: path.into(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = std::fs::File::create(&beside)
        .and_then(|mut file| {
            std::io::Write::write_all(&mut file, bytes)?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|source| {
        // Nothing more can be done if this fails too.
        let _ = std::fs::remove_file(&beside);
        error(source)
    })
}

/// Reads a whole file.
///
/// # Errors
/// A failure of the file system.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}
