//! The parts that modules are made of: one walk through a network gives its graph, its convolutions with the names of
//! their tensors, and how many modules and parameters PyTorch counts.

use crate::ir::graph::{
    AutoPad, Channels, Coordinates, Graph, Input, Interpolation, Kind, Node, Op, ResizeOptions,
    Rounding, ValueId, WeightsId,
};
use crate::ir::op::{Binary, PoolKind, Unary};
use crate::ir::tensor::Tensor;
use crate::{Error, Result};
use dsconv::{Activation, ConvDescriptor};

/// The most parameters of a network: 4 GiB of floats.
const MAX_PARAMETERS: u64 = 1 << 30;
/// The most convolutions.
const MAX_CONVOLUTIONS: usize = 10_000;

/// A convolution with weights of its own, as PyTorch has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TorchConvolution {
    /// The module's name: its tensors' names start so.
    pub(super) name: String,
    pub(super) descriptor: ConvDescriptor,
    /// Whether a batch norm follows; else it has a bias.
    pub(super) norm: bool,
}

impl TorchConvolution {
    /// Names and shapes of its tensors in a state dict.
    pub(super) fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Self { name, descriptor, norm } = self;
        let [outputs, channels, height, width] = [
            descriptor.out_channels,
            descriptor.channels_per_group(),
            descriptor.kernel[0],
            descriptor.kernel[1],
        ]
        .map(|extent| extent as usize);
        let kernel = vec![outputs, channels, height, width];
        if *norm {
            let norms = ["weight", "bias", "running_mean", "running_var"];
            let norms = norms.map(|part| (format!("{name}.bn.{part}"), vec![outputs]));
            [(format!("{name}.conv.weight"), kernel)].into_iter().chain(norms).collect()
        } else {
            vec![(format!("{name}.weight"), kernel), (format!("{name}.bias"), vec![outputs])]
        }
    }

    /// The number of parameters that training would change: kernel, and scale and shift of the norm or bias.
    fn parameters(&self) -> u64 {
        let per_channel = if self.norm { 2 } else { 1 };
        self.descriptor.weight_count() as u64
            + per_channel * u64::from(self.descriptor.out_channels)
    }
}

/// A convolution of the graph: the sum of one or two of PyTorch's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MergedConvolution {
    /// The node's name.
    pub(super) name: String,
    pub(super) parts: Vec<TorchConvolution>,
    /// Whether the description says DSConv.
    pub(super) dsconv: bool,
    /// Pixels of the picture along one side of a pixel of the output.
    pub(super) stride: u32,
}

impl MergedConvolution {
    /// The geometry of the sum: that of the first, largest kernel.
    pub(super) fn descriptor(&self) -> ConvDescriptor {
        self.parts[0].descriptor
    }
}

/// A feature map while a network is traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FeatureMap {
    pub(super) value: ValueId,
    pub(super) channels: usize,
    /// Pixels of the picture along one side of a pixel of the map.
    pub(super) stride: u32,
}

/// A module with a function of its own behind it, which PyTorch's programs share between all modules of that class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum SharedActivation {
    Conv,
    RepConv,
}

/// A network while it is walked through.
#[derive(Debug, Default)]
pub(super) struct Trace {
    /// The network, its weights still to come: `WeightsId(i)` is the convolution `i`.
    pub(super) graph: Graph,
    pub(super) convolutions: Vec<MergedConvolution>,
    /// Modules as PyTorch counts them.
    pub(super) modules: usize,
    pub(super) parameters: u64,
    /// Parameters that are never trained.
    pub(super) frozen: u64,
    /// Tensors of the state dict that hold 0, 1, 2, …, and how many elements they have.
    pub(super) ramps: Vec<(String, usize)>,
    pub(super) operation_counts: Vec<OperationCount>,
    shared: Vec<SharedActivation>,
}

/// Floating-point operations for each pixel of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct OperationCount {
    pub(super) operations: u64,
    /// Pixels of the picture along one side of a pixel of the map.
    pub(super) stride: u32,
    /// Whether a DSConv2D does it.
    pub(super) dsconv: bool,
}

impl Trace {
    /// The picture: (N, 3, H, W).
    pub(super) fn input(&mut self, name: &str) -> FeatureMap {
        let value = self.fresh(name);
        let dims = vec![None, Some(3), None, None];
        self.graph.inputs.push(Input { name: name.into(), dims, kind: Kind::Float, value });
        FeatureMap { value, channels: 3, stride: 1 }
    }

    fn fresh(&mut self, name: &str) -> ValueId {
        self.graph.values.push(name.into());
        ValueId(self.graph.values.len() - 1)
    }

    pub(super) fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let value = self.fresh(name);
        self.graph.constants.insert(value, tensor);
        value
    }

    pub(super) fn push(&mut self, name: &str, op: Op, inputs: impl Into<Vec<ValueId>>) -> ValueId {
        let output = self.fresh(name);
        self.graph.nodes.push(Node { name: name.into(), op, inputs: inputs.into(), output });
        output
    }

    pub(super) fn binary(&mut self, name: &str, op: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.push(name, Op::Binary(op), [a, b])
    }

    /// A function that modules share is one module.
    fn share(&mut self, function: SharedActivation) {
        if !self.shared.contains(&function) {
            self.shared.push(function);
            self.modules += 1;
        }
    }

    /// Convolutions of one input, summed.
    fn merged(&mut self, x: FeatureMap, merged: MergedConvolution) -> Result<FeatureMap> {
        let descriptor = merged.descriptor();
        for part in &merged.parts {
            part.descriptor.validate()?;
            self.parameters += part.parameters();
            let multiply_adds = part.descriptor.weight_count() as u64;
            let MergedConvolution { stride, dsconv, .. } = merged;
            self.operation_counts.push(OperationCount {
                operations: 2 * multiply_adds,
                stride,
                dsconv,
            });
            if part.norm {
                let operations = 8 * u64::from(part.descriptor.out_channels);
                self.operation_counts.push(OperationCount { operations, stride, dsconv: false });
            }
        }
        if self.parameters > MAX_PARAMETERS {
            let expected = format!("at most {MAX_PARAMETERS}");
            return Err(Error::invalid("parameters of the network", expected, self.parameters));
        }
        if self.convolutions.len() == MAX_CONVOLUTIONS {
            let expected = format!("at most {MAX_CONVOLUTIONS}");
            return Err(Error::invalid("convolutions of the network", expected, "more"));
        }
        let op = Op::Conv {
            weights: WeightsId(self.convolutions.len()),
            auto_pad: AutoPad::None,
            channels: Channels::First,
        };
        let value = self.push(&merged.name, op, [x.value]);
        let stride = merged.stride;
        self.convolutions.push(merged);
        Ok(FeatureMap { value, channels: descriptor.out_channels as usize, stride })
    }

    fn silu(&mut self, name: &str, x: FeatureMap) -> FeatureMap {
        let op = Op::Unary(Unary::Activation(Activation::Silu));
        FeatureMap { value: self.push(&format!("{name}.act"), op, [x.value]), ..x }
    }

    /// Conv or DSConv2D: a convolution without bias that keeps the size but for its stride, batch norm, SiLU.
    pub(super) fn conv(
        &mut self,
        name: &str,
        x: FeatureMap,
        geometry: SquareConv,
    ) -> Result<FeatureMap> {
        // Itself, the convolution, the norm.
        self.modules += 3;
        self.share(SharedActivation::Conv);
        let part =
            TorchConvolution { name: name.into(), descriptor: geometry.descriptor(x)?, norm: true };
        let stride = geometry.stride(x)?;
        let dsconv = geometry.dsconv;
        let y = self.merged(
            x,
            MergedConvolution { name: name.into(), parts: vec![part], dsconv, stride },
        )?;
        Ok(self.silu(name, y))
    }

    /// RepConvN: a 3x3 and a 1x1 convolution, each with its batch norm, and SiLU of their sum. The graph has one 3x3
    /// convolution, into which both fold.
    pub(super) fn rep_conv(
        &mut self,
        name: &str,
        x: FeatureMap,
        channels: usize,
    ) -> Result<FeatureMap> {
        // Itself, and twice: a Conv, its convolution, its norm, and the identity behind it.
        self.modules += 1 + 2 * 4;
        self.share(SharedActivation::RepConv);
        let part = |part: &str, kernel| -> Result<TorchConvolution> {
            let descriptor = SquareConv::new(channels, kernel, 1).descriptor(x)?;
            Ok(TorchConvolution { name: format!("{name}.{part}"), descriptor, norm: true })
        };
        let parts = vec![part("conv1", 3)?, part("conv2", 1)?];
        let merged =
            MergedConvolution { name: name.into(), parts, dsconv: false, stride: x.stride };
        let y = self.merged(x, merged)?;
        Ok(self.silu(name, y))
    }

    /// A convolution with bias, and nothing behind it.
    pub(super) fn plain_conv(
        &mut self,
        name: &str,
        x: FeatureMap,
        geometry: SquareConv,
    ) -> Result<FeatureMap> {
        self.modules += 1;
        let descriptor = geometry.descriptor(x)?;
        let part = TorchConvolution { name: name.into(), descriptor, norm: false };
        let stride = geometry.stride(x)?;
        self.merged(
            x,
            MergedConvolution { name: name.into(), parts: vec![part], dsconv: false, stride },
        )
    }

    pub(super) fn concat(&mut self, name: &str, maps: &[FeatureMap]) -> Result<FeatureMap> {
        let (&first, rest) = maps
            .split_first()
            .ok_or_else(|| Error::invalid("inputs of a concatenation", "at least one", 0))?;
        if let Some(other) = rest.iter().find(|map| map.stride != first.stride) {
            let expected = format!("maps of 1/{} of the picture", first.stride);
            return Err(Error::invalid("inputs", expected, format!("1/{}", other.stride)));
        }
        let values: Vec<_> = maps.iter().map(|map| map.value).collect();
        let channels = maps.iter().map(|map| map.channels).sum();
        Ok(FeatureMap { value: self.push(name, Op::Concat { axis: 1 }, values), channels, ..first })
    }

    /// Channels from `start` on.
    pub(super) fn part(
        &mut self,
        name: &str,
        x: FeatureMap,
        start: usize,
        length: usize,
    ) -> FeatureMap {
        let part = crate::ir::graph::Parts::Range { start, length, whole: x.channels };
        let value = self.push(name, Op::Part { axis: 1, part }, [x.value]);
        FeatureMap { value, channels: length, ..x }
    }

    /// Two halves of the channels.
    pub(super) fn halves(&mut self, name: &str, x: FeatureMap) -> Result<[FeatureMap; 2]> {
        if !x.channels.is_multiple_of(2) {
            return Err(Error::invalid("channels", "an even number", x.channels));
        }
        let half = x.channels / 2;
        Ok([0, 1].map(|index| self.part(&format!("{name}.{index}"), x, index * half, half)))
    }

    /// A square pooling window.
    pub(super) fn pool(
        &mut self,
        name: &str,
        kind: PoolKind,
        x: FeatureMap,
        window: [u32; 3],
    ) -> FeatureMap {
        let [kernel, stride, padding] = window;
        let op = Op::Pool {
            kind,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            padding: [padding; 4],
            auto_pad: AutoPad::None,
            ceil: false,
        };
        FeatureMap { value: self.push(name, op, [x.value]), stride: x.stride * stride, ..x }
    }

    /// The nearest samples, to scales (four floats) or to the height and width of another map.
    pub(super) fn nearest(
        &mut self,
        name: &str,
        x: ValueId,
        size: ValueId,
        axes: &[i64],
    ) -> ValueId {
        let op = Op::Resize {
            interpolation: Interpolation::Nearest(Rounding::Floor),
            coordinates: Coordinates::Asymmetric,
            axes: axes.to_vec(),
            options: ResizeOptions::default(),
        };
        self.push(name, op, [x, size])
    }

    /// Height and width of a map.
    pub(super) fn size(&mut self, name: &str, x: FeatureMap) -> ValueId {
        self.push(&format!("{name}.size"), Op::Shape { start: 2, end: None }, [x.value])
    }
}

/// Geometry of a square convolution that keeps the size but for its stride.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SquareConv {
    channels: usize,
    kernel: u32,
    stride: u32,
    groups: u32,
    dsconv: bool,
}

impl SquareConv {
    pub(super) fn new(channels: usize, kernel: u32, stride: u32) -> Self {
        Self { channels, kernel, stride, groups: 1, dsconv: false }
    }

    pub(super) fn with_groups(self, groups: u32) -> Self {
        Self { groups, ..self }
    }

    pub(super) fn with_dsconv(self, dsconv: bool) -> Self {
        Self { dsconv, ..self }
    }

    fn descriptor(&self, x: FeatureMap) -> Result<ConvDescriptor> {
        let count = |field: &str, channels: usize| {
            u32::try_from(channels).map_err(|_| Error::invalid(field, "32 bits", channels))
        };
        let (inputs, outputs) =
            (count("input channels", x.channels)?, count("output channels", self.channels)?);
        Ok(ConvDescriptor::new(inputs, outputs, [self.kernel; 2])
            .with_stride([self.stride; 2])
            .with_padding([self.kernel / 2; 4])
            .with_groups(self.groups))
    }

    fn stride(&self, x: FeatureMap) -> Result<u32> {
        const MOST: u32 = 1 << 10;
        let stride = x.stride.saturating_mul(self.stride);
        if stride > MOST {
            return Err(Error::invalid("stride of the network", format!("at most {MOST}"), stride));
        }
        Ok(stride)
    }
}
