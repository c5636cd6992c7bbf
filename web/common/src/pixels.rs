//! Pictures as the browser gives them.

use crate::error::invalid;
use dsconv_net::Result;
use image::RgbImage;

/// The colours of a picture's pixels, without their alpha.
///
/// # Errors
/// Another number of bytes than four for each pixel.
pub fn rgb(rgba: &[u8], width: u32, height: u32) -> Result<RgbImage> {
    let (pixels, rest) = rgba.as_chunks::<4>();
    let expected = u64::from(width) * u64::from(height);
    if pixels.len() as u64 != expected || !rest.is_empty() {
        return Err(invalid("picture", format!("{width}x{height} pixels of 4 bytes"), rgba.len()));
    }
    let bytes = pixels.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect();
    let wrong = || invalid("picture", "a size that fits", format!("{width}x{height}"));
    RgbImage::from_raw(width, height, bytes).ok_or_else(wrong)
}
