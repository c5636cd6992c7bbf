//! Files that are either whole or not there.

use crate::{Error, Result};
use std::fs::{Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes the file that a path leads to. A new file, or one that takes another's place, is written beside it and then
/// renamed: a reader sees the old file or the new one, never half of it. The old file's permissions stay. A link
/// stays too, and what it leads to is written. Devices and pipes are written to as they are.
///
/// # Errors
/// A failure of the file system, or a folder or a socket at that path.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(path, bytes, true)
}

/// [`write()`] for files that a program keeps for itself: devices and pipes are refused, because nobody means them and
/// a pipe may wait forever.
///
/// # Errors
/// As [`write()`], or anything but a file at that path.
pub fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(path, bytes, false)
}

fn write_as(path: &Path, bytes: &[u8], streams: bool) -> Result<()> {
    let written = match std::fs::metadata(path) {
        Ok(old) if old.is_file() => std::fs::canonicalize(path)
            .and_then(|target| replace(&target, bytes, Some(old.permissions()))),
        Ok(old) if is_stream(&old) && streams => {
            OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(bytes))
        }
        Ok(old) => Err(not_a_file(&old)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            end_of_links(path).and_then(|target| replace(&target, bytes, None))
        }
        Err(error) => Err(error),
    };
    written.map_err(|source| Error::Io { path: path.into(), source })
}

/// The names of files that are being written.
const PREFIX: &str = ".dsconv-";
const SUFFIX: &str = ".tmp";

/// No writer takes so long.
const STALE: Duration = Duration::from_secs(3600);

/// Removes what killed writers left in a folder. Whatever can't be looked at or removed stays.
fn clean(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let named = name.to_str().is_some_and(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX));
        // Of the entry itself, not of what a link leads to.
        let stale = || {
            let found = entry.metadata().ok()?;
            let age = found.modified().ok()?.elapsed().ok()?;
            Some(found.is_file() && age > STALE)
        };
        if named && stale() == Some(true) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Writes beside the path, under a name that nobody can have prepared, then renames.
fn replace(path: &Path, bytes: &[u8], permissions: Option<Permissions>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    clean(folder);
    let mut options = tempfile::Builder::new();
    options.prefix(PREFIX).suffix(SUFFIX);
    // The system takes off what the user's mask forbids.
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // tempfile tells a path of its own behind the system's words.
    let mut file = options.tempfile_in(folder).map_err(|error| {
        let text = error.to_string();
        let words = text.split(" at path").next().unwrap_or_default();
        io::Error::new(error.kind(), words)
    })?;
    file.as_file_mut().write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The place that links lead to where nothing is yet.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    /// More than any system follows.
    const MOST: usize = 64;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match std::fs::read_link(&path) {
            Ok(target) => {
                path.pop();
                path.push(target);
            }
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("links lead in a circle"))
}

/// Says whether bytes go to a program or a device here.
fn is_stream(file: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = file.file_type();
        kind.is_char_device() || kind.is_block_device() || kind.is_fifo()
    }
    #[cfg(not(unix))]
    {
        !file.is_file() && !file.is_dir()
    }
}

fn not_a_file(found: &Metadata) -> io::Error {
    let what = match (found.is_dir(), is_stream(found)) {
        (true, _) => "a folder",
        (_, true) => "a device or a pipe",
        _ => "a socket",
    };
    io::Error::new(ErrorKind::InvalidInput, format!("expected a file, got {what}"))
}

/// Reads a whole file.
///
/// # Errors
/// A failure of the file system.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}

/// Reads a file that a program keeps for itself, if it has at most that many bytes.
///
/// # Errors
/// A failure of the file system, a longer file, or anything but a file at that path.
pub fn read_kept(path: &Path, most: u64) -> Result<Vec<u8>> {
    let read = || {
        // A pipe would be waited for, so it isn't even opened.
        let found = std::fs::metadata(path)?;
        if !found.is_file() {
            return Err(not_a_file(&found));
        }
        let too_large = |size: u64| {
            let text = format!("expected at most {most} bytes, got {size}");
            Err(io::Error::new(ErrorKind::InvalidData, text))
        };
        if found.len() > most {
            return too_large(found.len());
        }
        // It may grow meanwhile.
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        match bytes.len() as u64 <= most {
            true => Ok(bytes),
            false => too_large(bytes.len() as u64),
        }
    };
    read().map_err(|source| Error::Io { path: path.into(), source })
}

/// Says whether two paths lead to the same file, however they are written. A path that leads nowhere is no file.
pub fn same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
    };
    #[cfg(not(unix))]
    let identity = |path: &Path| std::fs::canonicalize(path).ok();
    identity(one).is_some_and(|one| identity(other) == Some(one))
}
