//! Picture files.

use anyhow::Context;
use image::RgbImage;
use std::path::Path;

/// Decodes a file: PNG or JPEG.
pub(crate) fn read(path: &Path) -> anyhow::Result<RgbImage> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    decode(&bytes).with_context(|| format!("{}: not a picture", path.display()))
}

/// Decodes a picture's bytes.
pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    Ok(image::load_from_memory(bytes)?.to_rgb8())
}
