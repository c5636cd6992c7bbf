//! The options that tell which pictures a network takes.

use dsconv_net::Model;
use dsconv_net::detect::{Detector, Head};
use dsconv_net::model::{ChannelOrder, Fit, Preprocessing};

#[derive(clap::Args)]
pub(crate) struct PictureOptions {
    /// Make the input of pictures in this way; without it, a detection network's output tells, and other networks take
    /// `efficientnet-lite`.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Make the input so high and wide, in pixels, where the network leaves it open.
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = size)]
    size: Option<[u32; 2]>,
    /// Fit pictures of another shape in this way.
    #[arg(long, value_enum)]
    picture_fit: Option<FitName>,
    /// Subtract this from each channel of pixels between 0 and 1.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_negative_numbers = true)]
    mean: Option<Vec<f32>>,
    /// Then divide each channel by this.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    std: Option<Vec<f32>>,
    /// Order channels blue, green, red, also those of --mean and --std.
    #[arg(long)]
    bgr: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Preset {
    /// The centre is taken, 7/8 of the shorter side, with pixels from about -1 to 1.
    EfficientnetLite,
    /// The centre is taken, 7/8 of the shorter side, with torchvision's mean and standard deviation of ImageNet.
    Imagenet,
    /// Pictures are padded at both sides with grey, RGB from 0 to 1, for detections.
    Yolov9,
    /// Pictures are padded at the right and the bottom with grey, BGR from 0 to 255, for detections.
    Yolox,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum FitName {
    /// Both sides are resized, whatever their ratio.
    Stretch,
    /// The centre is taken, 7/8 of the shorter side.
    Crop,
    /// The whole picture is taken, with grey at both sides.
    Pad,
    /// The whole picture is taken, with grey at the right and the bottom.
    PadBottomRight,
}

impl Preset {
    fn head(self) -> Option<Head> {
        match self {
            Self::EfficientnetLite | Self::Imagenet => None,
            Self::Yolov9 => Some(Head::Yolov9),
            Self::Yolox => Some(Head::Yolox),
        }
    }

    fn preprocessing(self, size: [u32; 2]) -> Preprocessing {
        let usual = Preprocessing::imagenet(size);
        match self {
            Self::EfficientnetLite => usual,
            Self::Imagenet => Preprocessing {
                mean: vec![0.485, 0.456, 0.406],
                std: vec![0.229, 0.224, 0.225],
                ..usual
            },
            Self::Yolov9 => Head::Yolov9.preprocessing(size),
            Self::Yolox => Head::Yolox.preprocessing(size),
        }
    }
}

impl PictureOptions {
    /// Puts into the model what was said, and for the rest what its file or its output tells. Networks that take no
    /// pictures stay as they are.
    pub(crate) fn apply(&self, model: &mut Model) -> anyhow::Result<()> {
        let said = self.preset.is_some()
            || self.size.is_some()
            || self.picture_fit.is_some()
            || self.mean.is_some()
            || self.std.is_some()
            || self.bgr;
        let mut preprocessing = match model.picture_input() {
            Err(_) if !said => return Ok(()),
            preprocessing => preprocessing?,
        };
        preprocessing.size = self.size.unwrap_or(preprocessing.size);
        if let Some(preset) = self.preset {
            let (channels, last) = (preprocessing.mean.len(), preprocessing.channels_last);
            preprocessing = preset.preprocessing(preprocessing.size).with_channels(channels, last);
            model.detection = preset.head().map(Detector::new);
        }
        preprocessing.fit = match self.picture_fit {
            None => preprocessing.fit,
            Some(FitName::Stretch) => Fit::Stretch,
            Some(FitName::Crop) => Preprocessing::imagenet(preprocessing.size).fit,
            Some(FitName::Pad) => Head::Yolov9.preprocessing(preprocessing.size).fit,
            Some(FitName::PadBottomRight) => Head::Yolox.preprocessing(preprocessing.size).fit,
        };
        if self.bgr {
            preprocessing.channels = ChannelOrder::Bgr;
        }
        if let Some(mean) = &self.mean {
            preprocessing.mean.clone_from(mean);
        }
        if let Some(std) = &self.std {
            preprocessing.std.clone_from(std);
        }
        preprocessing.validate()?;
        if self.size.is_some() {
            // The network must take it.
            model.graph.specialise(&[&preprocessing.dims()])?;
        }
        model.detection = model.detector(preprocessing.size);
        model.preprocessing = Some(preprocessing);
        Ok(())
    }
}

fn size(text: &str) -> Result<[u32; 2], String> {
    let sides = text.split_once('x').and_then(|(height, width)| {
        Some([height.trim().parse().ok()?, width.trim().parse().ok()?])
    });
    sides.ok_or_else(|| format!("expected HEIGHTxWIDTH, as 416x416, got {text:?}"))
}
