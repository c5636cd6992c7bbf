//! Picture files: read, listed, and made into the input of a network.

use anyhow::{Context, ensure};
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

/// The pictures of a folder, in the order of their names.
pub(crate) fn of_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .with_context(|| folder.display().to_string())?;
    let named = |path: &PathBuf| {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
        matches!(extension.as_str(), "png" | "jpg" | "jpeg")
    };
    paths.retain(named);
    paths.sort();
    ensure!(!paths.is_empty(), "{}: no *.png, *.jpg or *.jpeg in it", folder.display());
    Ok(paths)
}

/// Pictures as one input of a network, a batch of them: dims and elements.
pub(crate) fn batch(
    paths: &[PathBuf],
    preprocessing: &Preprocessing,
) -> anyhow::Result<(Vec<usize>, Vec<f32>)> {
    let mut dims = preprocessing.dims();
    dims[0] = paths.len();
    let mut values = Vec::new();
    for path in paths {
        values.extend(dsconv_net::picture::input(&read(path)?, preprocessing)?);
    }
    Ok((dims, values))
}
