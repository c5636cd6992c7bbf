//! The way from a picture to a network's input: its size, how other shapes are fitted, and how pixels become numbers.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// The way from an image to an input: resized, cropped, `(pixel / 255 - mean) / std` per channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocessing {
    /// The input's height and width in pixels.
    pub size: [u32; 2],
    /// The way to fit an image of another shape.
    pub fit: Fit,
    /// One per channel, of pixels between 0 and 1.
    pub mean: Vec<f32>,
    /// One per channel, of pixels between 0 and 1.
    pub std: Vec<f32>,
    /// The channels' order.
    pub channels: ChannelOrder,
    /// Whether channels are the input's last axis (NHWC) and not its second (NCHW).
    pub channels_last: bool,
}

/// The way to fit an image of another shape than the input's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fit {
    /// Resize both sides, whatever their ratio.
    Stretch,
    /// Resize so that this share of the shorter side is the input, and cut the centre.
    Crop(f32),
    /// Resize so that all of it fits, and fill the rest with this value, 0 to 1.
    Pad(f32),
    /// Resize so that all of it fits at the top and the left, and fill the rest with this value, 0 to 1.
    PadBottomRight(f32),
}

/// The order of an image's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel.
    Grey,
    /// Red, green, blue and alpha, which is opaque everywhere.
    Rgba,
}

impl Preprocessing {
    /// The preprocessing that EfficientNet-Lite was trained with: a centre crop of 7/8 of the shorter side, pixels to
    /// about -1 to 1.
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

    /// The same for an input of 1, 3 or 4 channels, which are its last axis or its second. Grey takes the mean of what
    /// the colours have.
    pub fn with_channels(self, count: usize, channels_last: bool) -> Self {
        let grey = |numbers: &[f32]| vec![numbers.iter().sum::<f32>() / numbers.len() as f32];
        let with_alpha = |numbers: &[f32], alpha: f32| [numbers, &[alpha]].concat();
        let (channels, mean, std) = match count {
            1 => (ChannelOrder::Grey, grey(&self.mean), grey(&self.std)),
            4 => (ChannelOrder::Rgba, with_alpha(&self.mean, 0.0), with_alpha(&self.std, 1.0)),
            _ => (self.channels, self.mean, self.std),
        };
        Self { channels, mean, std, channels_last, ..self }
    }

    /// The same with pixels from 0 to 255 as they are, for an input of integers.
    pub fn levels(self) -> Self {
        let count = self.mean.len();
        Self { mean: vec![0.0; count], std: vec![1.0 / 255.0; count], ..self }
    }

    /// The dims of the input of one picture.
    pub fn dims(&self) -> Vec<usize> {
        let [height, width] = self.size.map(|side| side as usize);
        match self.channels_last {
            true => vec![1, height, width, self.mean.len()],
            false => vec![1, self.mean.len(), height, width],
        }
    }

    /// Checks sizes, and that the numbers can be computed with.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the field.
    pub fn validate(&self) -> Result<()> {
        const LONGEST: u32 = 1 << 15;
        if let Some(side) = self.size.into_iter().find(|side| !(1..=LONGEST).contains(side)) {
            return Err(Error::invalid("preprocessing size", format!("1..={LONGEST}"), side));
        }
        let channels = match self.channels {
            ChannelOrder::Grey => 1,
            ChannelOrder::Rgb | ChannelOrder::Bgr => 3,
            ChannelOrder::Rgba => 4,
        };
        for (field, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            let zero = field == "std" && numbers.contains(&0.0);
            if numbers.len() != channels || zero || !numbers.iter().all(|n| n.is_finite()) {
                let expected = format!("{channels} finite numbers, std not 0");
                return Err(Error::invalid(
                    format!("preprocessing {field}"),
                    expected,
                    format!("{numbers:?}"),
                ));
            }
        }
        match self.fit {
            Fit::Crop(share) if !(share > 0.0 && share <= 1.0) => {
                Err(Error::invalid("preprocessing crop", "above 0, at most 1", share))
            }
            Fit::Pad(value) | Fit::PadBottomRight(value) if !(0.0..=1.0).contains(&value) => {
                Err(Error::invalid("preprocessing pad", "0 to 1", value))
            }
            _ => Ok(()),
        }
    }
}
