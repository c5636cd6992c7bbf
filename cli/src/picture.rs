//! Pictures as a network's input.

use anyhow::{Context, ensure};
use dsconv_net::model::{ChannelOrder, Fit, Preprocessing};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
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

/// Resizes, cuts and normalises: the input's elements. A picture that has the input's size is taken whole.
pub(crate) fn input(picture: &RgbImage, how: &Preprocessing) -> anyhow::Result<Vec<f32>> {
    let [height, width] = how.size;
    let planes = match how.channels {
        ChannelOrder::Rgb => &[0, 1, 2][..],
        ChannelOrder::Bgr => &[2, 1, 0],
        ChannelOrder::Grey => &[0],
    };
    ensure!(
        how.mean.len() == planes.len() && how.std.len() == planes.len(),
        "preprocessing: expected mean and std of {} channels, got {} and {}",
        planes.len(),
        how.mean.len(),
        how.std.len()
    );
    let picture = fitted(picture, [width, height], how.fit);
    let value = |x: u32, y: u32, index: usize| {
        let Rgb([r, g, b]) = *picture.get_pixel(x, y);
        let level = match how.channels {
            ChannelOrder::Grey => {
                0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
            }
            _ => f32::from([r, g, b][planes[index]]),
        };
        (level / 255.0 - how.mean[index]) / how.std[index]
    };
    let channels = 0..planes.len();
    let pixels = || (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)));
    Ok(match how.channels_last {
        true => {
            pixels().flat_map(|(x, y)| channels.clone().map(move |c| (x, y, c))).collect::<Vec<_>>()
        }
        false => channels.flat_map(|c| pixels().map(move |(x, y)| (x, y, c))).collect(),
    }
    .into_iter()
    .map(|(x, y, c)| value(x, y, c))
    .collect())
}

fn fitted(picture: &RgbImage, [width, height]: [u32; 2], fit: Fit) -> RgbImage {
    let (w, h) = picture.dimensions();
    if (w, h) == (width, height) {
        return picture.clone();
    }
    let resize = |picture: &RgbImage, width: u32, height: u32| {
        imageops::resize(picture, width.max(1), height.max(1), FilterType::CatmullRom)
    };
    let scale = [f64::from(width) / f64::from(w), f64::from(height) / f64::from(h)];
    match fit {
        Fit::Stretch => resize(picture, width, height),
        Fit::Crop(share) => {
            // The part of the picture that becomes the input, cut before it is resized.
            let scale = scale[0].max(scale[1]) / f64::from(share);
            let side =
                |length: u32, of: u32| ((f64::from(length) / scale).round() as u32).clamp(1, of);
            let (cut_w, cut_h) = (side(width, w), side(height, h));
            let cut = imageops::crop_imm(picture, (w - cut_w) / 2, (h - cut_h) / 2, cut_w, cut_h);
            resize(&cut.to_image(), width, height)
        }
        Fit::Pad(level) => {
            let scale = scale[0].min(scale[1]);
            let side = |length: u32| (f64::from(length) * scale).round() as u32;
            let small = resize(picture, side(w).min(width), side(h).min(height));
            let level = (level * 255.0).round() as u8;
            let mut whole = RgbImage::from_pixel(width, height, Rgb([level; 3]));
            let at = |whole: u32, part: u32| i64::from((whole - part.min(whole)) / 2);
            imageops::overlay(
                &mut whole,
                &small,
                at(width, small.width()),
                at(height, small.height()),
            );
            whole
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(fit: Fit, channels: ChannelOrder, channels_last: bool) -> Preprocessing {
        let count = if channels == ChannelOrder::Grey { 1 } else { 3 };
        let (mean, std) = (vec![0.5; count], vec![0.25; count]);
        Preprocessing { size: [4, 8], fit, mean, std, channels, channels_last }
    }

    #[test]
    fn pictures_of_the_inputs_size_are_taken_as_they_are() {
        let picture = RgbImage::from_fn(8, 4, |x, y| Rgb([x as u8, 10 * y as u8, 255]));
        let normal = |level: u32| (level as f32 / 255.0 - 0.5) / 0.25;
        let x = input(&picture, &how(Fit::Crop(0.5), ChannelOrder::Rgb, false)).unwrap();
        assert_eq!((x[3], x[32 + 8 * 2], x[64]), (normal(3), normal(20), normal(255)));
        let x = input(&picture, &how(Fit::Stretch, ChannelOrder::Bgr, true)).unwrap();
        assert_eq!((x[0], x[3 * 3 + 2], x[3 * 16 + 1]), (normal(255), normal(3), normal(20)));
    }

    #[test]
    fn other_pictures_are_cut_stretched_or_padded() {
        // Black with a white middle of half its width and height.
        let white = |x, y| (25..75).contains(&x) && (15..45).contains(&y);
        let picture =
            RgbImage::from_fn(100, 60, |x, y| Rgb([if white(x, y) { 255 } else { 0 }; 3]));
        let share = |fit| {
            let x = input(&picture, &how(fit, ChannelOrder::Grey, false)).unwrap();
            assert_eq!(x.len(), 32);
            x.iter().map(|x| x * 0.25 + 0.5).sum::<f32>() / 32.0
        };
        assert!((share(Fit::Stretch) - 0.25).abs() < 0.03);
        assert!((share(Fit::Crop(0.5)) - 1.0).abs() < 0.1, "{}", share(Fit::Crop(0.5)));
        // A band of one column on each side is filled with white.
        assert!(share(Fit::Pad(1.0)) > share(Fit::Pad(0.0)) + 0.05);
    }
}
