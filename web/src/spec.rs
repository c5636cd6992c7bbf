//! What comes as JSON.

use dsconv::gpu::{ActivationFormat, Kernel, LayerOptions};
use dsconv::{
    Activation, ConvDescriptor, Error, Layout, Method, Partition, Residual, Result, Shape,
};
use serde::Deserialize;

/// A layer without its tensors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LayerSpec {
    pub(crate) geometry: Geometry,
    /// How the weights are blocked; none for floats that stay floats.
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

impl LayerSpec {
    /// From JSON; an error names the field.
    pub(crate) fn parse(json: &str) -> Result<Self> {
        let mut json = serde_json::Deserializer::from_str(json);
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let message = error.inner().to_string();
            // The place in the JSON says nothing to someone who wrote an object.
            let message = message.split(" at line ").next().unwrap_or_default().to_string();
            let (got, expected) =
                message.split_once(", expected ").unwrap_or((&message, "another value"));
            let path = error.path().to_string();
            let field = if path == "." { "the layer".into() } else { path };
            Error::Invalid { field, expected: expected.into(), got: got.into() }
        })
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
        match self.method {
            MethodName::SignedExtreme => Method::SignedExtreme,
            MethodName::AbsMax => Method::AbsMax,
            MethodName::MinMse => Method::MinMse,
        }
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
        Ok(LayerOptions {
            activation: match self.activation {
                ActivationName::Identity => Activation::Identity,
                ActivationName::Relu => Activation::Relu,
                ActivationName::Relu6 => Activation::Relu6,
                ActivationName::LeakyRelu(slope) => Activation::LeakyRelu(slope),
                ActivationName::Silu => Activation::Silu,
                ActivationName::HardSwish => Activation::HardSwish,
                ActivationName::Sigmoid => Activation::Sigmoid,
                ActivationName::Clamp(low, high) => Activation::Clamp { low, high },
            },
            residual: match self.residual {
                None => Residual::None,
                Some(ResidualName::BeforeActivation) => Residual::BeforeActivation,
                Some(ResidualName::AfterActivation) => Residual::AfterActivation,
            },
            input_format: match self.input_format {
                FormatName::F32 => ActivationFormat::Float,
                FormatName::Int8 => ActivationFormat::Int8,
            },
            input_layout: layout(self.input_layout),
            output_layout: layout(self.output_layout),
            kernel,
            ..LayerOptions::default()
        })
    }
}

fn kernel(name: &str) -> Result<Kernel> {
    let found = Kernel::CONVOLUTIONS.into_iter().find(|kernel| kernel.name() == name);
    found.ok_or_else(|| Error::Invalid {
        field: "options.kernel".into(),
        expected: format!("one of {}", Kernel::CONVOLUTIONS.map(Kernel::name).join(", ")),
        got: format!("{name:?}"),
    })
}

/// A tensor's shape, `[batch, channels, height, width]`.
pub(crate) fn shape(shape: &[f64]) -> Result<Shape> {
    let extent = |value: &f64| {
        let extent = *value as u32;
        if f64::from(extent) == *value {
            return Ok(extent);
        }
        Err(Error::Invalid {
            field: "shape".into(),
            expected: "whole numbers".into(),
            got: format!("{shape:?}"),
        })
    };
    match shape {
        [n, c, h, w] => Ok(Shape::new(extent(n)?, extent(c)?, extent(h)?, extent(w)?)),
        _ => Err(Error::Invalid {
            field: "shape".into(),
            expected: "[batch, channels, height, width]".into(),
            got: format!("{shape:?}"),
        }),
    }
}
