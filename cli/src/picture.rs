//! Picture files.

use anyhow::Context;
use dsconv_net::model::Preprocessing;
use image::RgbImage;
use std::path::{Path, PathBuf};

/// Decodes a file: PNG or JPEG.
pub(crate) fn read(path: &Path) -> anyhow::Result<RgbImage> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    decode(&bytes).with_context(|| format!("{}: not a picture", path.display()))
}

/// Decodes a picture's bytes.
pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    Ok(image::load_from_memory(bytes)?.to_rgb8())
}

/// Pictures as one input of a network, a batch of them: dims and elements.
pub(crate) fn batch(
    paths: &[PathBuf],
    how: &Preprocessing,
) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
    let mut dims = how.dims();
    dims[0] = paths.len();
    let mut values = Vec::new();
    for path in paths {
        values.extend(dsconv_net::picture::input(&read(path)?, how)?);
    }
    Ok((dims, values))
}
