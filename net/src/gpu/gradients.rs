//! The gradients of convolutions, as what is dispatched for them.
//!
//! The gradient of an input is a convolution of the output's gradient with the weights transposed: taps flipped, inputs
//! and outputs swapped. No block of channels shares a scale in that order, so these weights are floats; the kernels that
//! run them are those of the forward pass. The gradient of alpha comes from that of every weight, which is a tensor of
//! the run.

use super::axes::{Arranged, Axis, axes, signed};
use super::kernels::{Dispatch, OpKernel, workgroups};
use dsconv::{ConvDescriptor, DsConvWeights, FloatWeights, Result, Weights};

/// How the gradient of a convolution's output is convolved to that of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// As it is, with this padding.
    None {
        /// Top, left, bottom, right.
        padding: [u32; 4],
    },
    /// With zeros in between and around it, to this height and width.
    Zeros([usize; 2]),
}

impl Spread {
    /// The cheapest way for a convolution whose input has that height and width.
    pub(crate) fn new(descriptor: &ConvDescriptor, input: [usize; 2]) -> Self {
        let reach = reach(descriptor);
        let fits = (0..4).all(|side| descriptor.padding[side] <= reach[side % 2]);
        if descriptor.stride == [1, 1] && fits {
            let mut padding = [0; 4];
            for (side, padding) in padding.iter_mut().enumerate() {
                *padding = reach[side % 2] - descriptor.padding[side];
            }
            return Self::None { padding };
        }
        Self::Zeros([0, 1].map(|axis| input[axis] + reach[axis] as usize))
    }

    /// The padding of the convolution.
    pub(crate) fn padding(self) -> [u32; 4] {
        match self {
            Self::None { padding } => padding,
            Self::Zeros(_) => [0; 4],
        }
    }
}

/// The distance between the first and the last tap.
fn reach(descriptor: &ConvDescriptor) -> [u32; 2] {
    [0, 1].map(|axis| (descriptor.kernel[axis] - 1) * descriptor.dilation[axis])
}

/// The places of the output's gradient along the axes of the tensor with zeros in between.
pub(crate) fn spread(
    descriptor: &ConvDescriptor,
    dy: &Arranged,
    z: &Arranged,
) -> (Vec<Axis>, Vec<u32>) {
    let mut axes = axes(&z.dims, &z.steps, signed(&dy.steps));
    let mut table = Vec::new();
    let reach = reach(descriptor);
    for axis in 0..2 {
        axes[2 + axis].table = Some(table.len());
        let (stride, extent) = (descriptor.stride[axis], dy.dims[2 + axis]);
        let front = i64::from(reach[axis]) - i64::from(descriptor.padding[axis]);
        table.extend((0..z.dims[2 + axis] as i64).map(|place| {
            let place = place - front;
            let inside = place >= 0 && place % i64::from(stride) == 0;
            let place = place / i64::from(stride);
            if inside && place < extent as i64 { place as u32 } else { u32::MAX }
        }));
    }
    (axes, table)
}

/// The weights that a gradient is convolved with, without a bias.
///
/// # Errors
/// A scale that leaves the range of f32.
pub(crate) fn transposed(weights: &Weights, padding: [u32; 4]) -> Result<FloatWeights> {
    let unpacked;
    let floats = match weights {
        Weights::Float(floats) => floats,
        Weights::DsConv(packed) => {
            unpacked = packed.dequantize()?;
            &unpacked
        }
    };
    let own = floats.descriptor();
    let (channels, outputs) = (own.channels_per_group(), own.outputs_per_group());
    let mut swapped = ConvDescriptor::new(own.out_channels, own.in_channels, own.kernel);
    (swapped.groups, swapped.dilation, swapped.padding) = (own.groups, own.dilation, padding);
    let taps = own.taps() as usize;
    let mut values = Vec::with_capacity(floats.values().len());
    for channel in 0..own.in_channels {
        let (group, channel) = (channel / channels, channel % channels);
        for output in group * outputs..(group + 1) * outputs {
            let at = (output * channels + channel) as usize * taps;
            values.extend(floats.values()[at..at + taps].iter().rev());
        }
    }
    FloatWeights::new(swapped, values)
}

/// The gradient of every weight, OIHW.
pub(crate) fn weights(descriptor: &ConvDescriptor, x: &Arranged, dy: &Arranged) -> Dispatch {
    let rows = descriptor.outputs_per_group();
    let columns = descriptor.channels_per_group() * descriptor.taps();
    let depth = (dy.dims[0] * dy.dims[2] * dy.dims[3]) as u32;
    let groups = descriptor.groups;
    let tiles = [rows.div_ceil(32), columns.div_ceil(32)];
    // A tile of a few rows would stand empty.
    let narrow = rows < 4;
    // No thread gets fewer than some dozens of pixels.
    let threads = (depth / 64).clamp(1, 64).next_power_of_two();
    let cut = if narrow { [0, threads] } else { tiles };
    let mut params = vec![rows, columns, depth, groups, cut[0], cut[1]];
    let [top, left, ..] = descriptor.padding;
    for pair in [descriptor.kernel, descriptor.stride, descriptor.dilation, [top, left]] {
        params.extend(pair);
    }
    for image in [x, dy] {
        params.extend([image.dims[2], image.dims[3]].map(|dim| dim as u32));
    }
    // A vector of three takes the room of four, and begins at a multiple of it.
    params.resize(params.len().next_multiple_of(4), 0);
    for image in [x, dy] {
        let [channels, height, width] = [1, 2, 3].map(|axis| image.dims[axis]);
        let steps = [channels * height * width, image.steps[1], image.steps[3]];
        params.extend(steps.map(|step| step as u32));
        params.push(0);
    }
    let (kernel, workgroups) = match narrow {
        true => {
            let weights = (groups * rows * columns) as usize;
            (OpKernel::ConvWeightGradientNarrow, workgroups(weights * threads as usize))
        }
        false => (OpKernel::ConvWeightGradient, groups * tiles[0] * tiles[1]),
    };
    Dispatch { kernel, fours: false, params, table: Vec::new(), workgroups }
}

/// From the gradient of every weight to those of alpha and KDS bias.
pub(crate) fn scales(weights: &DsConvWeights) -> Dispatch {
    let (blocks, count) = (weights.blocks(), weights.alpha().len());
    let taps = weights.descriptor().taps();
    let kds_bias = u32::from(weights.kds_bias().is_some());
    let params =
        vec![count as u32, blocks.channels, taps, blocks.count, blocks.size, kds_bias, 0, 0];
    let word = |four: &[i8]| {
        let mut bytes = [0; 4];
        bytes.iter_mut().zip(four).for_each(|(byte, &q)| *byte = q as u8);
        u32::from_le_bytes(bytes)
    };
    let table = weights.q().chunks(4).map(word).collect();
    let (kernel, workgroups) = (OpKernel::ScaleGradient, workgroups(count));
    Dispatch { kernel, fours: false, params, table, workgroups }
}
