//! The specification of a quantisation, which comes from TypeScript as JSON.

use dsconv_net::model::{ChannelOrder, Fit as PictureFit, Preprocessing};
use dsconv_net::picture::VIEWS;
use dsconv_net::{Fit, QuantizeOptions, Target};
use dsconv_web_common::spec::MethodName;
use serde::Deserialize;

/// How a network is quantised, without its calibration's pictures.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct QuantizeSpec {
    bits: Option<u8>,
    block_size: Option<u32>,
    method: Option<MethodName>,
    #[serde(default)]
    keep_float: Vec<String>,
    #[serde(default)]
    fit: FitName,
    views: Option<u8>,
    mean_bits: Option<f64>,
    pub(crate) labels: Option<Vec<String>>,
    preprocessing: Option<PreprocessingSpec>,
}

/// What is fitted on pictures.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FitName {
    Moments,
    #[default]
    Gptq,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PreprocessingSpec {
    size: [u32; 2],
    fit: FitSpec,
    mean: Vec<f32>,
    std: Vec<f32>,
    #[serde(default)]
    channels: ChannelsName,
    #[serde(default)]
    channels_last: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum FitSpec {
    Stretch,
    Crop(f32),
    Pad(f32),
    PadBottomRight(f32),
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChannelsName {
    #[default]
    Rgb,
    Bgr,
    Grey,
}

impl QuantizeSpec {
    pub(crate) fn options(&self) -> QuantizeOptions {
        let default = QuantizeOptions::default();
        QuantizeOptions {
            bits: self.bits.unwrap_or(default.bits),
            block: self.block_size.unwrap_or(default.block),
            method: self.method.map_or(default.method, MethodName::method),
            keep_float: self.keep_float.clone(),
            ..default
        }
    }

    /// What is fitted on pictures.
    pub(crate) fn fit(&self) -> Fit {
        match self.fit {
            FitName::Moments => Fit::Moments,
            FitName::Gptq => Fit::Gptq { method: self.options().method, sweeps: 0 },
        }
    }

    /// The number of views of each picture.
    pub(crate) fn views(&self) -> usize {
        self.views.unwrap_or(VIEWS).into()
    }

    /// The aim of automatic widths.
    pub(crate) fn target(&self) -> Option<Target> {
        self.mean_bits.map(Target::MeanBits)
    }

    pub(crate) fn preprocessing(&self) -> Option<Preprocessing> {
        let spec = self.preprocessing.clone()?;
        Some(Preprocessing {
            size: spec.size,
            fit: match spec.fit {
                FitSpec::Stretch => PictureFit::Stretch,
                FitSpec::Crop(share) => PictureFit::Crop(share),
                FitSpec::Pad(level) => PictureFit::Pad(level),
                FitSpec::PadBottomRight(level) => PictureFit::PadBottomRight(level),
            },
            mean: spec.mean,
            std: spec.std,
            channels: match spec.channels {
                ChannelsName::Rgb => ChannelOrder::Rgb,
                ChannelsName::Bgr => ChannelOrder::Bgr,
                ChannelsName::Grey => ChannelOrder::Grey,
            },
            channels_last: spec.channels_last,
        })
    }
}
