//! Pictures that are changed a little each time that a network learns from them.

use super::picture::input;
use super::preprocessing::{Fit, Preprocessing};
use crate::Result;
use fastrand::Rng;
use image::{Rgb, RgbImage, imageops};

/// What may be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Augmentation {
    /// Every other picture is mirrored, left and right exchanged. Not for letters and digits.
    pub flip: bool,
    /// A part of the picture is taken, of at least four fifths of its width and height, at a random place.
    pub crop: bool,
    /// Brightness, contrast and the balance of the colours vary by up to a fifth.
    pub colour: bool,
}

/// A picture as a network's input, changed as the seed says. Nothing is changed where `how` allows nothing.
///
/// # Errors
/// As [`input`].
pub fn augmented(
    picture: &RgbImage,
    preprocessing: &Preprocessing,
    how: Augmentation,
    seed: u64,
) -> Result<Vec<f32>> {
    let mut rng = Rng::with_seed(seed);
    let mut picture = picture.clone();
    let mut preprocessing = preprocessing.clone();
    if how.crop {
        let [width, height] = [picture.width(), picture.height()];
        let mut side = |all: u32| {
            let part = f64::from(all) * (0.8 + 0.2 * rng.f64());
            (part.round() as u32).clamp(1, all.max(1))
        };
        let [across, down] = [side(width), side(height)];
        let left = rng.u32(..=width.saturating_sub(across));
        let top = rng.u32(..=height.saturating_sub(down));
        picture = imageops::crop_imm(&picture, left, top, across, down).to_image();
        // The part is the crop.
        if let Fit::Crop(share) = &mut preprocessing.fit {
            *share = 1.0;
        }
    }
    if how.flip && rng.bool() {
        imageops::flip_horizontal_in_place(&mut picture);
    }
    if how.colour {
        let mut factor = || 0.8 + 0.4 * rng.f32();
        let (contrast, brightness) = (factor(), factor());
        let tints = [(); 3].map(|()| 1.0 + 0.25 * (factor() - 1.0));
        for Rgb(levels) in picture.pixels_mut() {
            for (level, tint) in levels.iter_mut().zip(tints) {
                let changed = (f32::from(*level) * brightness - 128.0) * contrast + 128.0;
                *level = (changed * tint).round().clamp(0.0, 255.0) as u8;
            }
        }
    }
    input(&picture, &preprocessing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> RgbImage {
        RgbImage::from_fn(40, 30, |x, y| Rgb([6 * x as u8, 8 * y as u8, (x * y % 251) as u8]))
    }

    fn levels(size: [u32; 2]) -> Preprocessing {
        Preprocessing { fit: Fit::Stretch, ..Preprocessing::imagenet(size).levels() }
    }

    #[test]
    fn nothing_changes_unless_it_may() {
        let how = Preprocessing::imagenet([20, 20]);
        let got = augmented(&picture(), &how, Augmentation::default(), 7).unwrap();
        assert_eq!(got, input(&picture(), &how).unwrap());
    }

    #[test]
    fn half_of_the_pictures_are_mirrored() {
        let (how, flip) = (levels([30, 40]), Augmentation { flip: true, ..Default::default() });
        let whole = input(&picture(), &how).unwrap();
        let mirrored = input(&imageops::flip_horizontal(&picture()), &how).unwrap();
        let flipped = |seed| augmented(&picture(), &how, flip, seed).unwrap();
        let count = (0..200).filter(|&seed| flipped(seed) == mirrored).count();
        assert!((70..130).contains(&count), "{count}");
        assert!((0..20).all(|seed| [&whole, &mirrored].contains(&&flipped(seed))));
    }

    #[test]
    fn parts_are_large_and_lie_everywhere() {
        // Of a ramp from left to right: its ends tell what was cut.
        let ramp = RgbImage::from_fn(100, 10, |x, _| Rgb([2 * x as u8; 3]));
        let (how, crop) = (levels([10, 100]), Augmentation { crop: true, ..Default::default() });
        let mut lefts = Vec::new();
        for seed in 0..200 {
            let x = augmented(&ramp, &how, crop, seed).unwrap();
            let (left, right) = (x[0] / 2.0, x[99] / 2.0);
            assert!(right - left >= 78.0, "{seed}: {left} {right}");
            lefts.push(left);
        }
        assert!(lefts.iter().any(|&left| left < 1.0) && lefts.iter().any(|&left| left > 12.0));
    }

    #[test]
    fn colours_vary_and_seeds_repeat() {
        let grey = RgbImage::from_pixel(8, 8, Rgb([150; 3]));
        let (how, colour) = (levels([8, 8]), Augmentation { colour: true, ..Default::default() });
        let of = |seed| augmented(&grey, &how, colour, seed).unwrap();
        let levels: Vec<f32> = (0..200).map(|seed| of(seed)[0]).collect();
        assert!(levels.iter().all(|level| (95.0..205.0).contains(level)), "{levels:?}");
        assert!(levels.iter().any(|&level| level < 135.0) && levels.iter().any(|&l| l > 165.0));
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }
}
