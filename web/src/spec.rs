//! The specifications of layers and of quantisation, which come from TypeScript as JSON.

use dsconv::gpu::{ActivationFormat, FloatFormat, Kernel, LayerOptions};
use dsconv::{
    Activation, ConvDescriptor, Error, Layout, Method, Partition, Residual, Result, Shape,
};
use dsconv_net::model::{ChannelOrder, Fit as PictureFit, Preprocessing};
use dsconv_net::picture::VIEWS;
use dsconv_net::{Fit, QuantizeOptions, Target};
use serde::Deserialize;
use serde::de::DeserializeOwned;

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

/// A layer without its tensors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LayerSpec {
    pub(crate) geometry: Geometry,
    /// How the weights are blocked, or none for floats that stay floats.
    pub(crate) format: Option<Format>,
    #[serde(default)]
    pub(crate) options: Options,
}

/// A convolution's geometry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Geometry {
    in_channels: u32,
    out_channels: u32,
    kernel: [u32; 2],
    #[serde(default = "ones")]
    stride: [u32; 2],
    #[serde(default)]
    padding: [u32; 4],
    #[serde(default = "ones")]
    dilation: [u32; 2],
    #[serde(default = "one")]
    groups: u32,
}

fn one() -> u32 {
    1
}

fn ones() -> [u32; 2] {
    [1, 1]
}

/// A weight format, and how the quantiser makes it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Format {
    pub(crate) bits: u8,
    pub(crate) block_size: u32,
    #[serde(default)]
    pub(crate) partition: PartitionName,
    #[serde(default)]
    pub(crate) method: MethodName,
    #[serde(default)]
    pub(crate) fit_kds_bias: bool,
    /// The reading of the channel distribution shift.
    #[serde(default)]
    pub(crate) cds: CdsReading,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PartitionName {
    #[default]
    Fixed,
    Even,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MethodName {
    #[default]
    SignedExtreme,
    AbsMax,
    MinMse,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CdsReading {
    #[default]
    Output,
    Kernel,
}

/// How a layer runs.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Options {
    #[serde(default)]
    activation: ActivationName,
    residual: Option<ResidualName>,
    #[serde(default)]
    input_format: FormatName,
    #[serde(default)]
    input_layout: LayoutName,
    #[serde(default)]
    output_layout: LayoutName,
    kernel: Option<String>,
    #[serde(default)]
    float_format: FloatName,
    #[serde(default)]
    scale_format: FloatName,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FloatName {
    #[default]
    F32,
    F16,
}

impl From<FloatName> for FloatFormat {
    fn from(name: FloatName) -> Self {
        match name {
            FloatName::F32 => Self::F32,
            FloatName::F16 => Self::F16,
        }
    }
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ActivationName {
    #[default]
    Identity,
    Relu,
    Relu6,
    LeakyRelu(f32),
    Silu,
    HardSwish,
    Sigmoid,
    Clamp(f32, f32),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ResidualName {
    BeforeActivation,
    AfterActivation,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    #[default]
    F32,
    Int8,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LayoutName {
    #[default]
    Nchw,
    Nhwc,
}

/// Reads JSON. An error names the field, or `whole` where it is about no single one.
pub(crate) fn parse<T: DeserializeOwned>(json: &str, whole: &str) -> Result<T> {
    let mut json = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let message = error.inner().to_string();
        // The place in the JSON says nothing to someone who wrote an object.
        let message = message.split(" at line ").next().unwrap_or_default().to_string();
        let (got, expected) =
            message.split_once(", expected ").unwrap_or((&message, "another value"));
        let path = error.path().to_string();
        let field = if path == "." { whole.into() } else { path };
        Error::Invalid { field, expected: expected.into(), got: got.into() }
    })
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

impl MethodName {
    const fn method(self) -> Method {
        match self {
            Self::SignedExtreme => Method::SignedExtreme,
            Self::AbsMax => Method::AbsMax,
            Self::MinMse => Method::MinMse,
        }
    }
}

impl Geometry {
    pub(crate) fn descriptor(&self) -> ConvDescriptor {
        ConvDescriptor::new(self.in_channels, self.out_channels, self.kernel)
            .with_stride(self.stride)
            .with_padding(self.padding)
            .with_dilation(self.dilation)
            .with_groups(self.groups)
    }
}

impl Format {
    pub(crate) fn partition(&self) -> Partition {
        match self.partition {
            PartitionName::Fixed => Partition::Fixed,
            PartitionName::Even => Partition::Even,
        }
    }

    pub(crate) fn method(&self) -> Method {
        self.method.method()
    }
}

impl Options {
    pub(crate) fn layer_options(&self) -> Result<LayerOptions> {
        let layout = |name| match name {
            LayoutName::Nchw => Layout::Nchw,
            LayoutName::Nhwc => Layout::Nhwc,
        };
        let kernel = match &self.kernel {
            None => None,
            Some(name) => Some(kernel(name)?),
        };
        Ok(LayerOptions::default()
            .with_activation(match self.activation {
                ActivationName::Identity => Activation::Identity,
                ActivationName::Relu => Activation::Relu,
                ActivationName::Relu6 => Activation::Relu6,
                ActivationName::LeakyRelu(slope) => Activation::LeakyRelu(slope),
                ActivationName::Silu => Activation::Silu,
                ActivationName::HardSwish => Activation::HardSwish,
                ActivationName::Sigmoid => Activation::Sigmoid,
                ActivationName::Clamp(low, high) => Activation::Clamp { low, high },
            })
            .with_float_format(self.float_format.into())
            .with_scale_format(self.scale_format.into())
            .with_residual(match self.residual {
                None => Residual::None,
                Some(ResidualName::BeforeActivation) => Residual::BeforeActivation,
                Some(ResidualName::AfterActivation) => Residual::AfterActivation,
            })
            .with_input_format(match self.input_format {
                FormatName::F32 => ActivationFormat::Float,
                FormatName::Int8 => ActivationFormat::Int8,
            })
            .with_input_layout(layout(self.input_layout))
            .with_output_layout(layout(self.output_layout))
            .with_kernel(kernel))
    }
}

fn kernel(name: &str) -> Result<Kernel> {
    // Browsers have no matrix units, by wgpu.
    let kernels =
        || Kernel::CONVOLUTIONS.into_iter().filter(|kernel| kernel.spec().matrix.is_none());
    kernels().find(|kernel| kernel.name() == name).ok_or_else(|| Error::Invalid {
        field: "options.kernel".into(),
        expected: format!("one of {}", kernels().map(Kernel::name).collect::<Vec<_>>().join(", ")),
        got: format!("{name:?}"),
    })
}

/// A tensor's shape, `[batch, channels, height, width]`.
pub(crate) fn shape(shape: &[f64]) -> Result<Shape> {
    match extents(shape)?[..] {
        [n, c, h, w] => Ok(Shape::new(n, c, h, w)),
        _ => Err(Error::Invalid {
            field: "shape".into(),
            expected: "[batch, channels, height, width]".into(),
            got: format!("{shape:?}"),
        }),
    }
}

/// A tensor's extents.
pub(crate) fn extents(shape: &[f64]) -> Result<Vec<u32>> {
    let extent = |value: &f64| {
        let extent = *value as u32;
        (f64::from(extent) == *value).then_some(extent)
    };
    shape.iter().map(extent).collect::<Option<_>>().ok_or_else(|| Error::Invalid {
        field: "shape".into(),
        expected: "whole numbers".into(),
        got: format!("{shape:?}"),
    })
}
