//! Pictures as a network's input, and scores as classes: the same natively and in a browser, bit for bit.

use crate::model::{ChannelOrder, Fit, Preprocessing};
use crate::{Error, Model, Result};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use serde::Serialize;

/// Resizes, cuts and normalises: the input's elements. A picture that has the input's size is taken whole.
///
/// # Errors
/// A preprocessing that [`Preprocessing::validate`] refuses.
pub fn input(picture: &RgbImage, how: &Preprocessing) -> Result<Vec<f32>> {
    how.validate()?;
    if picture.width() == 0 || picture.height() == 0 {
        let got = format!("{}x{}", picture.width(), picture.height());
        return Err(Error::invalid("picture", "a width and a height of at least 1", got));
    }
    let [height, width] = how.size;
    let planes = match how.channels {
        ChannelOrder::Rgb => &[0, 1, 2][..],
        ChannelOrder::Bgr => &[2, 1, 0],
        ChannelOrder::Grey => &[0],
    };
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

impl Preprocessing {
    /// What EfficientNet-Lite was trained with: a centre crop of 7/8 of the shorter side, pixels to about -1 to 1.
    ///
    /// `size` is the input's `[height, width]` in pixels.
    pub fn imagenet(size: [u32; 2]) -> Self {
        Self {
            size,
            fit: Fit::Crop(0.875),
            mean: vec![127.0 / 255.0; 3],
            std: vec![128.0 / 255.0; 3],
            channels: ChannelOrder::Rgb,
            channels_last: false,
        }
    }

    /// The dims of the input of one picture.
    pub fn dims(&self) -> Vec<usize> {
        let [height, width] = self.size.map(|side| side as usize);
        match self.channels_last {
            true => vec![1, height, width, self.mean.len()],
            false => vec![1, self.mean.len(), height, width],
        }
    }
}

impl Model {
    /// The model's own preprocessing, or else ImageNet's usual one for a network of one input that is a picture,
    /// 224 pixels where its size is open.
    ///
    /// # Errors
    /// A network of another kind.
    pub fn picture_input(&self) -> Result<Preprocessing> {
        if let Some(known) = &self.preprocessing {
            return Ok(known.clone());
        }
        let [input] = self.graph.inputs() else {
            let got = format!("{} inputs", self.graph.inputs().len());
            return Err(Error::invalid("network", "one input, a picture", got));
        };
        let side = |dim: Option<usize>| u32::try_from(dim.unwrap_or(224)).unwrap_or(u32::MAX);
        match input.dims[..] {
            [_, Some(3) | None, height, width] => {
                let how = Preprocessing::imagenet([side(height), side(width)]);
                how.validate().map(|()| how)
            }
            _ => {
                let field = format!("input {:?}", input.name);
                let got = format!("{:?}", input.dims);
                Err(Error::invalid(field, "a picture (N, 3, H, W)", got))
            }
        }
    }
}

/// A class, its name and its score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    /// Its place in the network's output.
    pub index: usize,
    /// Its name, `class` and the index where the model has none.
    pub label: String,
    /// Its probability, 0 to 1.
    pub score: f64,
}

/// The `count` classes of the highest scores, the highest first. Where the scores are no probabilities, their softmax
/// is taken.
///
/// # Errors
/// Scores that are not finite.
pub fn top(scores: &[f32], labels: Option<&[String]>, count: usize) -> Result<Vec<Class>> {
    if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::invalid("the network's scores", "finite numbers", scores[at]));
    }
    let sum: f64 = scores.iter().map(|&s| f64::from(s)).sum();
    let probabilities =
        scores.iter().all(|&s| (0.0..=1.0).contains(&s)) && (sum - 1.0).abs() < 1e-3;
    let largest = scores.iter().fold(f32::MIN, |m, &s| m.max(s));
    let exp = |s: f32| f64::from(s - largest).exp();
    let total: f64 = scores.iter().map(|&s| exp(s)).sum();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let class = |index: usize| Class {
        index,
        label: labels
            .and_then(|labels| labels.get(index))
            .map_or_else(|| format!("class {index}"), Clone::clone),
        score: if probabilities { scores[index].into() } else { exp(scores[index]) / total },
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

    #[test]
    fn a_network_of_one_picture_needs_no_preprocessing_of_its_own() {
        let bytes = include_bytes!("../tests/data/small.onnx");
        let model = Model::from(crate::onnx::from_bytes(bytes, None).unwrap());
        let message = model.picture_input().unwrap_err().to_string();
        assert!(message.contains("a picture (N, 3, H, W)"), "{message}");
        let preprocessing = how(Fit::Stretch, ChannelOrder::Bgr, true);
        let model = Model { preprocessing: Some(preprocessing.clone()), ..model };
        assert_eq!(model.picture_input().unwrap(), preprocessing);
        assert_eq!(preprocessing.dims(), [1, 4, 8, 3]);
        assert_eq!(Preprocessing::imagenet([4, 8]).dims(), [1, 3, 4, 8]);
        let none = RgbImage::new(0, 4);
        assert!(input(&none, &preprocessing).unwrap_err().to_string().contains("0x4"));
    }
}
