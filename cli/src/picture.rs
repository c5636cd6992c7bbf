//! Picture files: read, listed, and made into the input of a network.

use crate::foreign::{self, has_extension};
use anyhow::{Context, bail, ensure};
use dsconv_net::model::Preprocessing;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use std::io::Cursor;
use std::path::{Path, PathBuf};

/// The names of files that are pictures.
pub(crate) const EXTENSIONS: [&str; 8] =
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];

/// The most bytes that a decoded picture may take in memory, before it becomes three bytes a pixel.
const LARGEST: u64 = 1 << 29;

/// The most pixels of a picture: 400 MB at three bytes each.
const PIXELS: u64 = 1 << 27;

/// Decodes a file: PNG, JPEG, WebP, GIF (its first picture), BMP or TIFF.
pub(crate) fn read(path: &Path) -> anyhow::Result<RgbImage> {
    let name = || path.display().to_string();
    ensure!(!path.is_dir(), "{}: expected a picture, got a folder; name the files in it", name());
    let bytes = std::fs::read(path).with_context(name)?;
    if let Some(what) = foreign::placeholder(&bytes) {
        bail!("{}: {what}", name());
    }
    decode(&bytes).with_context(name)
}

/// Decodes a picture's bytes, and turns it as its EXIF data says.
pub(crate) fn decode(bytes: &[u8]) -> anyhow::Result<RgbImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let format = reader.format();
    let known = format.filter(ImageFormat::reading_enabled);
    ensure!(
        known.is_some(),
        "expected a picture, PNG, JPEG, WebP, GIF, BMP or TIFF, got {}; convert it first",
        match format {
            Some(format) => format!("{format:?}"),
            None => foreign::archive(bytes).unwrap_or("another kind of file").into(),
        }
    );
    // The decoder would fill the rest with grey and say nothing.
    if format == Some(ImageFormat::Jpeg) {
        ensure!(jpeg_ends(bytes), "the JPEG is cut off: its end is missing; copy it again");
    }
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(LARGEST);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().context("the picture can't be read")?;
    let (size, (width, height)) = (decoder.total_bytes(), decoder.dimensions());
    ensure!(
        u64::from(width) * u64::from(height) <= PIXELS && size <= LARGEST,
        "the picture has {width}x{height} pixels, of {size} bytes; expected at most {PIXELS} pixels, of {LARGEST} \
         bytes; make it smaller first"
    );
    // Damaged data about a picture does not damage the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).context("the picture can't be read")?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

/// Says whether the marker of a JPEG's end is there. Segments are skipped, because EXIF data holds a JPEG of its own.
fn jpeg_ends(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(is_marker) {
        match rest.get(at + 1..).unwrap_or_default() {
            [0xd9, ..] => return true,
            [0x01 | 0xd8, after @ ..] => rest = after,
            [_, segment @ ..] => {
                let length = segment.first_chunk().map_or(0, |&length| u16::from_be_bytes(length));
                rest = segment.get(usize::from(length)..).unwrap_or_default();
            }
            [] => return false,
        }
    }
    false
}

/// Markers begin with 0xff; what follows it in coded data is 0 or a restart, and padding is more of 0xff.
fn is_marker(pair: &[u8]) -> bool {
    matches!(pair, [0xff, code] if !matches!(code, 0 | 0xd0..=0xd7 | 0xff))
}

/// The pictures of a folder, in the order of their names.
pub(crate) fn of_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths = files_in(folder, &EXTENSIONS)?;
    ensure!(!paths.is_empty(), "{}: no *.{} in it", folder.display(), EXTENSIONS.join(", *."));
    Ok(paths)
}

/// The files of a folder whose names end so, in the order of their names.
pub(crate) fn files_in(folder: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let name = || folder.display().to_string();
    let entries = std::fs::read_dir(folder).with_context(name)?;
    let paths: std::io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.with_context(name)?;
    paths.retain(|path| has_extension(path, extensions));
    paths.sort();
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

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    const COLOURS: [[u8; 3]; 4] = [[250, 20, 20], [20, 250, 20], [20, 20, 250], [240, 240, 240]];

    /// A picture with a colour in each quarter: top left, top right, bottom left, bottom right.
    fn quarters() -> RgbImage {
        RgbImage::from_fn(48, 32, |x, y| {
            Rgb(COLOURS[usize::from(x >= 24) + 2 * usize::from(y >= 16)])
        })
    }

    /// The colours that are in a picture's quarters.
    fn seen(picture: &RgbImage) -> [usize; 4] {
        let (width, height) = picture.dimensions();
        [(1, 1), (3, 1), (1, 3), (3, 3)].map(|(x, y)| {
            let Rgb(got) = *picture.get_pixel(x * width / 4, y * height / 4);
            let off = |colour: &[u8; 3]| -> u32 {
                colour.iter().zip(got).map(|(&a, b)| u32::from(a.abs_diff(b))).sum()
            };
            (0..4).min_by_key(|&colour| off(&COLOURS[colour])).unwrap()
        })
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        quarters().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A JPEG with EXIF data of an orientation.
    fn turned(orientation: u8) -> Vec<u8> {
        let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = encoded(ImageFormat::Jpeg);
        let segment = [&[0xff, 0xe1, 0, exif.len() as u8 + 2], &exif[..]].concat();
        bytes.splice(2..2, segment);
        bytes
    }

    #[test]
    fn pictures_are_turned_as_exif_says() {
        // By EXIF's table of where the stored first row and first column belong.
        let expected = [
            [0, 1, 2, 3],
            [1, 0, 3, 2],
            [3, 2, 1, 0],
            [2, 3, 0, 1],
            [0, 2, 1, 3],
            [2, 0, 3, 1],
            [3, 1, 2, 0],
            [1, 3, 0, 2],
        ];
        for (orientation, expected) in (1..).zip(expected) {
            let picture = decode(&turned(orientation)).unwrap();
            let size = if orientation < 5 { (48, 32) } else { (32, 48) };
            assert_eq!((picture.dimensions(), seen(&picture)), (size, expected), "{orientation}");
        }
        assert_eq!(seen(&decode(&turned(77)).unwrap()), [0, 1, 2, 3]);
    }

    #[test]
    fn each_format_is_read() {
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
        for format in [Bmp, Gif, Jpeg, Png, Tiff, WebP] {
            let picture = decode(&encoded(format)).unwrap();
            assert_eq!(
                (picture.dimensions(), seen(&picture)),
                ((48, 32), [0, 1, 2, 3]),
                "{format:?}"
            );
        }
    }

    #[test]
    fn a_jpeg_that_is_cut_off_is_refused() {
        // Also where EXIF data holds the end of another JPEG.
        let mut whole = turned(1);
        whole.splice(2..2, [0xff, 0xe2, 0, 6, 0xff, 0xd8, 0xff, 0xd9]);
        for length in [whole.len() / 2, whole.len() - 40, whole.len() - 2] {
            let message = decode(&whole[..length]).unwrap_err().to_string();
            assert!(message.contains("cut off"), "{length}: {message}");
        }
        whole.extend(b"what a camera adds");
        assert_eq!(seen(&decode(&whole).unwrap()), [0, 1, 2, 3]);
        for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP] {
            let bytes = encoded(format);
            assert!(decode(&bytes[..bytes.len() / 2]).is_err(), "{format:?}");
        }
    }
}
