//! Convolutions to measure: written out, or those of a network. The lists in cli/layers have their one home here; the
//! library's benchmarks read them at run time.

use anyhow::{Context, anyhow, ensure};
use dsconv::{ConvDescriptor, Shape};

/// The distinct dense convolutions of yolov9-c, for a picture of 320x320.
const YOLOV9_C: &str = include_str!("../layers/yolov9-c.txt");
/// The distinct dense convolutions of EfficientNet-Lite0, for a picture of 224x224.
const EFFICIENTNET_LITE0: &str = include_str!("../layers/efficientnet-lite0.txt");

/// A named convolution and the shape of its input.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LayerSpec {
    pub(crate) name: String,
    pub(crate) descriptor: ConvDescriptor,
    pub(crate) input: Shape,
}

impl std::str::FromStr for LayerSpec {
    type Err = anyhow::Error;

    /// Parses `64x128k3s1@80x80`: input and output channels, kernel, stride, input size. The padding
    /// is half the kernel.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        let parse = || {
            let (conv, size) = text.split_once('@')?;
            let (channels, kernel) = conv.split_once('k')?;
            let (inputs, outputs) = channels.split_once('x')?;
            let (kernel, stride) = kernel.split_once('s')?;
            let (height, width) = size.split_once('x')?;
            let numbers =
                [inputs, outputs, kernel, stride, height, width].map(|n| n.parse::<u32>().ok());
            let [
                Some(inputs),
                Some(outputs),
                Some(kernel),
                Some(stride),
                Some(height),
                Some(width),
            ] = numbers
            else {
                return None;
            };
            let descriptor = ConvDescriptor::new(inputs, outputs, [kernel; 2])
                .with_stride([stride; 2])
                .with_padding([kernel / 2; 4]);
            Some((descriptor, Shape::new(1, inputs, height, width)))
        };
        let (descriptor, input) = parse().with_context(|| {
            format!("{text:?}: expected INxOUTkKERNELsSTRIDE@HxW, as 64x128k3s1@80x80")
        })?;
        descriptor.output_shape(input).map_err(|e| anyhow!("{text:?}: {e}"))?;
        Ok(Self { name: text.into(), descriptor, input })
    }
}

/// The layers of a network by name, for a square picture of that size.
pub(crate) fn layers_of(name: &str, size: Option<u32>) -> anyhow::Result<Vec<LayerSpec>> {
    let (list, native) = match name {
        "yolov9-c" => (YOLOV9_C, 320),
        "efficientnet-lite0" => (EFFICIENTNET_LITE0, 224),
        _ => anyhow::bail!("--layers: expected yolov9-c or efficientnet-lite0, got {name:?}"),
    };
    let size = size.unwrap_or(native);
    ensure!(size >= 32 && size.is_multiple_of(32), "--size: expected a multiple of 32, got {size}");
    let scaled = |line: &str| -> anyhow::Result<LayerSpec> {
        let spec: LayerSpec = line.parse()?;
        let scale =
            |extent: u32| (u64::from(extent) * u64::from(size)).div_ceil(native.into()) as u32;
        let input = Shape {
            height: scale(spec.input.height),
            width: scale(spec.input.width),
            ..spec.input
        };
        let conv = line.split('@').next().unwrap_or(line);
        format!("{conv}@{}x{}", input.height, input.width).parse()
    };
    list.lines().map(scaled).collect()
}
