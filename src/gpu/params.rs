//! The uniform of a plan: its geometry, and where things lie in the buffers.

use super::format::Int8Output;
use super::kernel::Kernel;
use super::planes::row_words;
use crate::{Activation, ActivationScale, Blocks, ConvDescriptor, Layout, Residual, Shape};

/// "There is none", for offsets.
pub(crate) const NONE: u32 = u32::MAX;

/// Where alpha and bias lie in the buffer of the weights, in words, and the KDS bias behind alpha, in elements; and how
/// rows of channels are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightLayout {
    pub(crate) bits: u8,
    pub(crate) blocks: Blocks,
    pub(crate) kds_bias_at: u32,
    pub(crate) scales_at: u32,
    pub(crate) bias_at: u32,
    pub(crate) scale_factor: f32,
    /// What the kernels for matrix units multiply weights by, see `matrix_factor`.
    pub(crate) matrix_factor: f32,
}

/// The uniform of a plan: the twin of `Params` in shaders/shared/params.wgsl (a test compares them).
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct Params {
    batch: u32,
    groups: u32,
    channels: u32,
    outputs: u32,
    input_height: i32,
    input_width: i32,
    output_height: u32,
    output_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_y: u32,
    stride_x: u32,
    dilation_y: u32,
    dilation_x: u32,
    padding_top: i32,
    padding_left: i32,
    input_n: u32,
    input_c: u32,
    input_y: u32,
    input_x: u32,
    output_n: u32,
    output_c: u32,
    output_y: u32,
    output_x: u32,
    block_count: u32,
    block_size: u32,
    block_quads: u32,
    row_quads: u32,
    row_words: u32,
    scales_at: u32,
    kds_bias_at: u32,
    bias_at: u32,
    workgroups: u32,
    activation: u32,
    activation_a: f32,
    activation_b: f32,
    residual: u32,
    residual_in_place: u32,
    taps: u32,
    all_outputs: u32,
    input_scales_at: u32,
    power_of_two_scales: u32,
    output_quads: u32,
    output_blocks: u32,
    output_eights: u32,
    output_scales_at: u32,
    weight_scale_factor: f32,
    matrix_factor: f32,
}

/// Words of the mantissas of integer activations; their scales follow.
fn integer_words(shape: Shape, groups: u32, blocks: &Blocks) -> u32 {
    shape.pixels() as u32 * groups * blocks.quads()
}

/// Bytes of a tensor of integer activations, in whole fours of words, or `None` if they can't be addressed with 32 bits.
pub(crate) fn integer_bytes(shape: Shape, groups: u32, blocks: &Blocks) -> Option<u64> {
    let row = u64::from(blocks.quads()) + 2 * u64::from(blocks.count);
    let bytes = (shape.pixels() as u64).checked_mul(4 * row * u64::from(groups))?;
    let bytes = bytes.checked_next_multiple_of(16)?;
    (bytes <= u64::from(u32::MAX)).then_some(bytes)
}

/// What the uniform of a plan is made from: shapes and a descriptor that have been validated.
pub(crate) struct Geometry<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) descriptor: &'a ConvDescriptor,
    pub(crate) weights: &'a WeightLayout,
    pub(crate) input: (Shape, Layout),
    pub(crate) output: (Shape, Layout),
    pub(crate) activation: Activation,
    pub(crate) residual: Residual,
    pub(crate) residual_in_place: bool,
}

impl Params {
    /// The uniform for quantising a layer's input, a tensor of floats in that layout.
    pub(crate) fn quantize_input(
        descriptor: &ConvDescriptor,
        weights: &WeightLayout,
        input: (Shape, Layout),
        scale: ActivationScale,
    ) -> Self {
        // A 1x1 convolution that keeps every pixel, as far as coordinates go.
        let channels = input.0.channels;
        let pixels = ConvDescriptor::new(channels, channels, [1, 1]).with_groups(descriptor.groups);
        let this = Self::new(&Geometry {
            kernel: Kernel::QuantizeActivations,
            descriptor: &pixels,
            weights,
            input,
            output: input,
            activation: Activation::Identity,
            residual: Residual::None,
            residual_in_place: false,
        });
        Self { power_of_two_scales: (scale == ActivationScale::PowerOfTwo).into(), ..this }
    }

    /// The workgroups of the plan.
    pub(crate) fn workgroups(&self) -> u32 {
        self.workgroups
    }

    /// The uniform for a convolution.
    pub(crate) fn new(geometry: &Geometry<'_>) -> Self {
        let &Geometry { kernel, descriptor, weights, input, output, .. } = geometry;
        let [input_n, input_c, input_y, input_x] = input.1.strides(input.0);
        let [output_n, output_c, output_y, output_x] = output.1.strides(output.0);
        let blocks = weights.blocks;
        // WGSL leaves infinities undefined: the ends of the range stand for them.
        let finite = |v: f32| v.clamp(f32::MIN, f32::MAX);
        // The numbers are those of `activate` in shaders/shared/activation.wgsl.
        let (activation, activation_a, activation_b) = match geometry.activation {
            Activation::Identity => (0, 0.0, 0.0),
            Activation::Relu => (1, 0.0, f32::MAX),
            Activation::Relu6 => (1, 0.0, 6.0),
            Activation::Clamp { low, high } => (1, finite(low), finite(high)),
            Activation::LeakyRelu(slope) => (2, slope, 0.0),
            Activation::Silu => (3, 0.0, 0.0),
            Activation::HardSwish => (4, 0.0, 0.0),
            Activation::Sigmoid => (5, 0.0, 0.0),
        };
        Self {
            batch: output.0.batch,
            groups: descriptor.groups,
            channels: descriptor.channels_per_group(),
            outputs: descriptor.outputs_per_group(),
            input_height: input.0.height as i32,
            input_width: input.0.width as i32,
            output_height: output.0.height,
            output_width: output.0.width,
            kernel_height: descriptor.kernel[0],
            kernel_width: descriptor.kernel[1],
            stride_y: descriptor.stride[0],
            stride_x: descriptor.stride[1],
            dilation_y: descriptor.dilation[0],
            dilation_x: descriptor.dilation[1],
            padding_top: descriptor.padding[0] as i32,
            padding_left: descriptor.padding[1] as i32,
            input_n,
            input_c,
            input_y,
            input_x,
            output_n,
            output_c,
            output_y,
            output_x,
            block_count: blocks.count,
            block_size: blocks.size,
            block_quads: blocks.quads_per_block(),
            row_quads: blocks.quads(),
            row_words: row_words(blocks.quads(), weights.bits),
            kds_bias_at: weights.kds_bias_at,
            scales_at: weights.scales_at,
            bias_at: weights.bias_at,
            workgroups: kernel.workgroups(descriptor, &blocks, output.0),
            activation,
            activation_a,
            activation_b,
            residual: match geometry.residual {
                Residual::None => 0,
                Residual::BeforeActivation => 1,
                Residual::AfterActivation => 2,
            },
            residual_in_place: geometry.residual_in_place.into(),
            taps: descriptor.taps(),
            all_outputs: descriptor.out_channels,
            input_scales_at: integer_words(input.0, descriptor.groups, &blocks),
            power_of_two_scales: 0,
            output_quads: 0,
            output_blocks: 0,
            output_eights: 1,
            output_scales_at: NONE,
            weight_scale_factor: weights.scale_factor,
            matrix_factor: weights.matrix_factor,
        }
    }

    /// The same with an output of integer activations.
    pub(crate) fn with_int8_output(
        mut self,
        kernel: Kernel,
        output: Shape,
        int8: &Int8Output,
    ) -> Self {
        let blocks = &int8.blocks;
        self.power_of_two_scales = (int8.scale == ActivationScale::PowerOfTwo).into();
        self.output_quads = blocks.quads();
        self.output_blocks = blocks.count;
        // One block, however long, is a whole tile.
        let tile = kernel.spec().tile().map_or(0, |tile| tile.outputs);
        let size = if blocks.count == 1 { tile } else { blocks.size };
        self.output_eights = size / 8;
        self.output_scales_at = integer_words(output, 1, blocks);
        self
    }
}
