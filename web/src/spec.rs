//! The specifications of layers, which come from TypeScript as JSON.

use dsconv::gpu::{ActivationFormat, FloatFormat, Kernel, LayerOptions};
use dsconv::{
    Activation, ConvDescriptor, Error, Layout, Method, Partition, Residual, Result, Shape,
};
use dsconv_web_common::spec::{MethodName, extents};
use serde::Deserialize;

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
