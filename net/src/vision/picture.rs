//! Pictures as a network's input, and scores as classes: the same natively and in a browser, bit for bit.

use super::placement::Placement;
use super::preprocessing::{ChannelOrder, Fit, Preprocessing};
use crate::{Error, Result};
use image::imageops::{self, FilterType};
use image::{GenericImageView, Rgb, RgbImage};
use serde::Serialize;

/// Resizes, cuts and normalises a picture, and returns the input's elements. A picture that has the input's size is
/// taken whole.
///
/// # Errors
/// A preprocessing that [`Preprocessing::validate`] refuses.
pub fn input(picture: &RgbImage, preprocessing: &Preprocessing) -> Result<Vec<f32>> {
    preprocessing.validate()?;
    if picture.width() == 0 || picture.height() == 0 {
        let got = format!("{}x{}", picture.width(), picture.height());
        return Err(Error::invalid("picture", "a width and a height of at least 1", got));
    }
    let [height, width] = preprocessing.size;
    let planes = match preprocessing.channels {
        ChannelOrder::Rgb => &[0, 1, 2][..],
        ChannelOrder::Bgr => &[2, 1, 0],
        ChannelOrder::Grey => &[0],
        ChannelOrder::Rgba => &[0, 1, 2, 3],
    };
    let picture = fitted(picture, preprocessing);
    let value = |x: u32, y: u32, index: usize| {
        let Rgb([r, g, b]) = *picture.get_pixel(x, y);
        let level = match preprocessing.channels {
            ChannelOrder::Grey => {
                0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
            }
            _ => f32::from([r, g, b, u8::MAX][planes[index]]),
        };
        let (mean, std) = (preprocessing.mean[index], preprocessing.std[index]);
        // Where 0 to 255 are asked for they stay whole, which networks of integers need.
        match mean == 0.0 && 255.0 * std == 1.0 {
            true => level.round(),
            false => (level / 255.0 - mean) / std,
        }
    };
    let channels = 0..planes.len();
    let pixels = || (0..height).flat_map(move |y| (0..width).map(move |x| (x, y)));
    Ok(match preprocessing.channels_last {
        true => {
            pixels().flat_map(|(x, y)| channels.clone().map(move |c| (x, y, c))).collect::<Vec<_>>()
        }
        false => channels.flat_map(|c| pixels().map(move |(x, y)| (x, y, c))).collect(),
    }
    .into_iter()
    .map(|(x, y, c)| value(x, y, c))
    .collect())
}

/// As many [`views`] of a picture do where nobody says otherwise.
pub const VIEWS: u8 = 3;

/// Several views of a picture as inputs, so that a few pictures show a network more: first the input that
/// [`input`] makes, then the whole picture, whatever its shape, then parts of it at random places, from half of the
/// largest part that has the input's shape up to all of it, every other one mirrored. The same `seed` gives the same
/// views.
///
/// # Errors
/// As [`input`].
pub fn views(
    picture: &RgbImage,
    preprocessing: &Preprocessing,
    count: usize,
    seed: u64,
) -> Result<Vec<Vec<f32>>> {
    let stretched = Preprocessing { fit: Fit::Stretch, ..preprocessing.clone() };
    let mut rng = fastrand::Rng::with_seed(seed);
    let view = |index: usize| match index {
        0 => input(picture, preprocessing),
        1 => input(picture, &stretched),
        _ => {
            let [x, y, width, height] = part(picture, preprocessing.size, &mut rng);
            let part = imageops::crop_imm(picture, x, y, width, height).to_image();
            match index % 2 {
                0 => input(&part, &stretched),
                _ => input(&imageops::flip_horizontal(&part), &stretched),
            }
        }
    };
    (0..count).map(view).collect()
}

/// A part of a picture in the shape of `[height, width]`, at a random place: x, y, width, height.
fn part(picture: &RgbImage, [height, width]: [u32; 2], rng: &mut fastrand::Rng) -> [u32; 4] {
    let [height, width] = [height, width].map(f64::from);
    let (across, down) = picture.dimensions();
    let scale = (f64::from(across) / width).min(f64::from(down) / height) * (0.5 + 0.5 * rng.f64());
    let side = |side: f64, all: u32| ((side * scale) as u32).clamp(1, all);
    let (width, height) = (side(width, across), side(height, down));
    [rng.u32(..=across - width), rng.u32(..=down - height), width, height]
}

/// The picture as the input shows it.
fn fitted(picture: &RgbImage, preprocessing: &Preprocessing) -> RgbImage {
    let Placement { cut, place, .. } = Placement::new(picture.dimensions().into(), preprocessing);
    let [x, y, width, height] = cut;
    let part = imageops::crop_imm(picture, x, y, width, height);
    let [x, y, width, height] = place;
    let part = match part.dimensions() == (width, height) {
        true => part.to_image(),
        false => imageops::resize(&*part, width, height, FilterType::CatmullRom),
    };
    match preprocessing.fit {
        Fit::Stretch | Fit::Crop(_) => part,
        Fit::Pad(level) | Fit::PadBottomRight(level) => {
            let [height, width] = preprocessing.size;
            let level = (level * 255.0).round() as u8;
            let mut whole = RgbImage::from_pixel(width, height, Rgb([level; 3]));
            imageops::replace(&mut whole, &part, x.into(), y.into());
            whole
        }
    }
}

/// A class, its name and its score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    /// The place of the class in the network's output.
    pub index: usize,
    /// The name of the class; `class` and the index where the model has none.
    pub label: String,
    /// The probability of the class, 0 to 1.
    pub score: f64,
}

/// The probability of each class: the scores where they are probabilities, else their softmax.
///
/// # Errors
/// Scores that are not finite.
pub fn probabilities(scores: &[f32]) -> Result<Vec<f64>> {
    if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::invalid("the network's scores", "finite numbers", scores[at]));
    }
    let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
    if scores.iter().all(|&s| (0.0..=1.0).contains(&s)) && (sum - 1.0).abs() < 1e-3 {
        return Ok(scores.iter().map(|&s| f64::from(s)).collect());
    }
    let largest = scores.iter().fold(f32::MIN, |m, &s| m.max(s));
    let exp: Vec<f64> = scores.iter().map(|&s| f64::from(s - largest).exp()).collect();
    let total: f64 = exp.iter().sum();
    Ok(exp.into_iter().map(|e| e / total).collect())
}

/// The Kullback-Leibler divergence of the probabilities `q` from `p`, in nats.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    // A probability that f32 rounds to 0 counts as the smallest one it holds.
    let least = f64::from(f32::MIN_POSITIVE);
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q.max(least)).ln()).sum()
}

/// The `count` classes of the highest scores, the highest first.
///
/// # Errors
/// Scores that are not finite.
pub fn top(scores: &[f32], labels: Option<&[String]>, count: usize) -> Result<Vec<Class>> {
    let probabilities = probabilities(scores)?;
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let class = |index: usize| Class {
        index,
        label: labels
            .and_then(|labels| labels.get(index))
            .map_or_else(|| format!("class {index}"), Clone::clone),
        score: probabilities[index],
    };
    Ok(order.into_iter().take(count).map(class).collect())
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
    fn views_begin_with_the_input_and_repeat_by_their_seed() {
        let picture = RgbImage::from_fn(30, 20, |x, y| Rgb([8 * x as u8, 12 * y as u8, 99]));
        let how = how(Fit::Crop(0.5), ChannelOrder::Rgb, false);
        let made = views(&picture, &how, 6, 7).unwrap();
        assert_eq!(made[0], input(&picture, &how).unwrap());
        let whole = Preprocessing { fit: Fit::Stretch, ..how.clone() };
        assert_eq!(made[1], input(&picture, &whole).unwrap());
        assert_eq!(made, views(&picture, &how, 6, 7).unwrap());
        for other in 2..6 {
            assert!(made[..other].iter().all(|view| *view != made[other]), "{other}");
        }
        assert_ne!(made[2..], views(&picture, &how, 6, 8).unwrap()[2..]);
        // A single pixel has parts, too.
        assert_eq!(views(&RgbImage::new(1, 1), &how, 4, 0).unwrap().len(), 4);
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
    fn inputs_have_1_3_or_4_channels_in_both_layouts() {
        let picture = RgbImage::from_fn(8, 4, |x, y| Rgb([10 * x as u8, 20 * y as u8, 200]));
        let colours = Preprocessing {
            mean: vec![0.0; 3],
            std: vec![1.0 / 255.0; 3],
            ..how(Fit::Stretch, ChannelOrder::Rgb, false)
        };
        let levels = |count, last| {
            let how = colours.clone().with_channels(count, last);
            let x = input(&picture, &how).unwrap();
            assert_eq!(x.len(), how.dims().iter().product::<usize>());
            // The pixel in column 3 of row 2, as whole levels; alpha is opaque, 1.
            let at = |c| if last { (2 * 8 + 3) * count + c } else { c * 32 + 2 * 8 + 3 };
            (0..count).map(|c| x[at(c)].round() as u32).collect::<Vec<_>>()
        };
        for last in [false, true] {
            assert_eq!(levels(3, last), [30, 40, 200]);
            assert_eq!(levels(4, last), [30, 40, 200, 1]);
            // 0.299 * 30 + 0.587 * 40 + 0.114 * 200
            assert_eq!(levels(1, last), [55]);
        }
    }

    #[test]
    fn levels_from_0_to_255_stay_whole() {
        let picture = RgbImage::from_fn(8, 4, |x, y| Rgb([8 * (8 * y as u8 + x as u8), 7, 255]));
        for channels in [1, 3, 4] {
            let how = how(Fit::Stretch, ChannelOrder::Rgb, false).with_channels(channels, true);
            let x = input(&picture, &how.levels()).unwrap();
            for (pixel, x) in picture.pixels().zip(x.chunks(channels)) {
                let [r, g, b] = pixel.0.map(f32::from);
                match channels {
                    1 => assert_eq!(x, [(0.299 * r + 0.587 * g + 0.114 * b).round()]),
                    3 => assert_eq!(x, [r, g, b]),
                    _ => assert_eq!(x, [r, g, b, 255.0]),
                }
            }
        }
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
        // A band of one column, half of it on each side or all of it at the right, is filled with white.
        for (white, black) in
            [(Fit::Pad(1.0), Fit::Pad(0.0)), (Fit::PadBottomRight(1.0), Fit::PadBottomRight(0.0))]
        {
            assert!(share(white) > share(black) + 0.05);
        }
    }

    #[test]
    fn what_is_seen_in_the_input_is_found_in_the_picture() {
        // A white rectangle on black, wherever the picture goes.
        let (x0, y0, x1, y1) = (180, 90, 260, 150);
        let white = |x, y| (x0..x1).contains(&x) && (y0..y1).contains(&y);
        let picture =
            RgbImage::from_fn(400, 240, |x, y| Rgb([if white(x, y) { 255 } else { 0 }; 3]));
        for fit in [Fit::Stretch, Fit::Crop(0.875), Fit::Pad(0.0), Fit::PadBottomRight(0.0)] {
            for size in [[96, 128], [320, 64], [240, 400], [500, 700]] {
                let how = Preprocessing { size, ..how(fit, ChannelOrder::Grey, false) };
                let x = input(&picture, &how).unwrap();
                let bright = |at: &(usize, &f32)| *at.1 > 0.0;
                let seen = x.iter().enumerate().filter(bright).map(|(at, _)| {
                    [at % size[1] as usize, at / size[1] as usize].map(|side| side as f32)
                });
                let bbox = seen.fold([f32::MAX, f32::MAX, 0.0, 0.0], |b, [x, y]| {
                    [b[0].min(x), b[1].min(y), b[2].max(x + 1.0), b[3].max(y + 1.0)]
                });
                let placement = Placement::new([400, 240], &how);
                let got = placement.to_picture(bbox);
                // To the nearest input pixel, as far as the input shows it.
                let scale =
                    |axis: usize| placement.cut[axis + 2] as f32 / placement.place[axis + 2] as f32;
                for (side, expected) in [x0, y0, x1, y1].into_iter().enumerate() {
                    let [from, length] = [placement.cut[side % 2], placement.cut[side % 2 + 2]];
                    let error = (got[side] - expected.clamp(from, from + length) as f32).abs();
                    assert!(error <= 0.5 * scale(side % 2) + 1e-3, "{fit:?} {size:?} {got:?}");
                }
            }
        }
    }

    #[test]
    fn divergence_is_that_of_the_formula() {
        let expected = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((divergence(&[0.25, 0.75, 0.0], &[0.5, 0.5, 0.0]) - expected).abs() < 1e-15);
        assert_eq!(divergence(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
        assert!((divergence(&[1.0, 0.0], &[0.0, 1.0]) - 87.3).abs() < 0.1);
    }

    #[test]
    fn scores_become_classes() {
        let labels = ["a", "b", "c"].map(String::from);
        let found = |scores: &[f32], count| top(scores, Some(&labels), count).unwrap();
        let of = |classes: &[Class]| classes.iter().map(|c| c.index).collect::<Vec<_>>();
        // Logits: their softmax, over all of them.
        let classes = found(&[1.0, 3.0, 2.0, 3.0], 3);
        assert_eq!(of(&classes), [1, 3, 2]);
        assert_eq!((classes[0].label.as_str(), classes[1].label.as_str()), ("b", "class 3"));
        let e = std::f64::consts::E;
        let expected = e / (2.0 * e + 1.0 + 1.0 / e);
        assert!((classes[0].score - expected).abs() < 1e-12, "{}", classes[0].score);
        // Probabilities stay what they are.
        assert_eq!(found(&[0.25, 0.5, 0.25], 9)[0].score, 0.5);
        assert_eq!(of(&found(&[0.25, 0.5, 0.25], 9)), [1, 0, 2]);
        assert!(top(&[0.0, f32::NAN], None, 1).unwrap_err().to_string().contains("NaN"));
    }
}
