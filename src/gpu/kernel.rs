//! The table of kernels: everything that the host, the tests, the benchmarks and the machine-code reports know of one.
//!
//! A kernel is a WGSL file in `shaders/kernels`, a variant of [`Kernel`] and its entry in [`KERNELS`]. Which layers it can
//! compute, and when it is chosen, stands in `choose.rs`.

use super::format::ActivationFormat;
use crate::ConvDescriptor;

/// An algorithm: one WGSL file in `shaders/kernels`, or one of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kernel {
    /// `conv_direct` computes one output per thread, for any geometry. It is the fallback.
    ConvDirect,
    /// `conv_gemm` is the implicit matrix product in floats, 32 pixels x 64 output channels a workgroup. Integer
    /// activations become floats on the way into workgroup memory, for devices without an instruction for packed dot
    /// products.
    ConvGemm,
    /// `conv_gemm_wide` is `conv_gemm` with 64 x 64 a workgroup: it takes fewer instructions, where there is work for a
    /// whole device.
    ConvGemmWide,
    /// `conv_subgroup` is for software devices with subgroups of eight lanes; 32 x 32 a workgroup.
    ConvSubgroup,
    /// `conv_depthwise` takes float weights and one input channel per group.
    ConvDepthwise,
    /// `conv_depthwise_window` is for square windows of 3, 5 or 7 with a stride of 1 or 2 and no dilation: eight outputs
    /// a thread, which share what they load.
    ConvDepthwiseWindow,
    /// `conv_depthwise_nhwc` is for the same windows on channels-last tensors: four channels of seven outputs a thread,
    /// loaded and stored in fours.
    ConvDepthwiseNhwc,
    /// `conv_gemm_int8` is the matrix product with integer activations, on the packed dot product.
    ConvGemmInt8,
    /// `conv_gemm_int8_unsigned` is `conv_gemm_int8` on the packed dot product of unsigned bytes, which Qualcomm's GPUs
    /// have in the place of the signed one.
    ConvGemmInt8Unsigned,
    /// `conv_subgroup_int8` is the subgroup form with integer activations, in exact float arithmetic.
    ConvSubgroupInt8,
    /// `quantize_activations` turns floats into integer activations. It is not a convolution.
    QuantizeActivations,
    /// `conv_matrix_8` is the matrix product in halves on matrix units that multiply 8 x 8 by 8 x 8, 64 x 64 a
    /// workgroup.
    ConvMatrix8,
    /// `conv_matrix_16` is `conv_matrix_8` for units that multiply 16 x 16 by 16 x 16, with 128 x 128 a workgroup.
    ConvMatrix16,
}

/// The facts about a kernel.
#[derive(Debug)]
#[non_exhaustive]
pub struct KernelSpec {
    /// The kernel that this is the entry of.
    pub kernel: Kernel,
    /// The name of its file, or of its form where a file has two.
    pub name: &'static str,
    /// The text of its file. The first lines name the shared files that it is put together with.
    pub source: &'static str,
    /// The inputs that it takes, each with the specializations that it has for it.
    pub inputs: &'static [AcceptedInput],
    /// The weights that it takes.
    pub weights: AcceptedWeights,
    /// How its work is cut into threads and workgroups.
    pub work: Work,
    /// Threads of a workgroup.
    pub threads: u32,
    /// Channels of a step of the main loop, where blocks of whole steps have a specialization.
    pub step: Option<u32>,
    /// The subgroup size that it is written for, if for one only.
    pub subgroup_size: Option<u32>,
    /// Rows and columns of the matrices that it multiplies, if it is for a device's matrix units.
    pub matrix: Option<u32>,
    /// Whether its pipelines are compiled for the [`Parts`](super::Parts) that a layer has, and not for all.
    pub compiled_parts: bool,
    /// Workgroup memory in bytes.
    pub workgroup_bytes: u32,
    /// Overrides that are the same for all its variants.
    pub constants: &'static [(&'static str, f64)],
}

/// A kind of input that a kernel takes.
#[derive(Debug)]
#[non_exhaustive]
pub struct AcceptedInput {
    /// The format of the input.
    pub format: ActivationFormat,
    /// The specializations that the kernel has for it, the narrowest first.
    pub specializations: &'static [Specialization],
}

/// Which weights a kernel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptedWeights {
    /// It takes floats and, with any input, packed integers. Integer activations come in the blocks of packed weights only.
    Any,
    /// It takes floats only, or reads no weights.
    Floats,
}

/// How a kernel's work is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// A thread computes one output.
    Outputs,
    /// A workgroup computes a tile.
    Tiles(Tile),
    /// A thread computes a patch of one channel, and a workgroup has threads of one channel only.
    Patches {
        /// Output rows.
        rows: u32,
        /// Output columns.
        columns: u32,
    },
    /// A thread computes a strip of neighbouring outputs of a row, four neighbouring channels each.
    Strips {
        /// Output columns.
        columns: u32,
    },
    /// A thread quantises one block of a pixel's channels.
    Blocks,
}

/// A tile of the output, which one workgroup computes: so many pixels times so many output channels of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tile {
    /// Output pixels.
    pub pixels: u32,
    /// Output channels.
    pub outputs: u32,
}

/// What a pipeline may take for granted of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Specialization {
    /// It takes nothing for granted.
    General,
    /// Every block is a whole number of the kernel's steps: nothing is cut off at a block's end.
    WholeSteps,
    /// Blocks are whole steps, and the channels of the input are neighbours, so that a load brings four.
    WholeStepsNhwc,
    /// Weights have at most 4 bits, and the integer sum over a block fits into 16 bits: two of them share a register.
    ShortSums,
    /// Every block is one step, so that its integer sums need no registers of their own.
    OneStep,
    /// The window is square, of that size, moves on by that stride in both directions, and has no dilation.
    Window {
        /// Rows and columns.
        size: u32,
        /// Input pixels from one window to the next.
        stride: u32,
    },
}

impl Specialization {
    /// The window of a convolution, if it is square and has one stride and no dilation.
    pub(super) fn of_window(descriptor: &ConvDescriptor) -> Option<Self> {
        let &ConvDescriptor { kernel: [size, width], stride: [stride, across], .. } = descriptor;
        let regular = size == width && stride == across && descriptor.dilation == [1, 1];
        regular.then_some(Self::Window { size, stride })
    }
}

use Specialization::{General, OneStep, ShortSums, WholeSteps, WholeStepsNhwc, Window};

const FLOAT: AcceptedInput =
    AcceptedInput { format: ActivationFormat::Float, specializations: &[General] };
const INT8: AcceptedInput =
    AcceptedInput { format: ActivationFormat::Int8, specializations: &[General] };

/// What `conv_gemm` takes. The channels of integer activations are always neighbours.
const GEMM_INPUTS: &[AcceptedInput] = &[
    AcceptedInput { specializations: &[WholeStepsNhwc, WholeSteps, General], ..FLOAT },
    AcceptedInput { specializations: &[WholeStepsNhwc, General], ..INT8 },
];

/// The windows of networks that are made of depthwise layers.
const WINDOWS: &[Specialization] = &[
    Window { size: 3, stride: 1 },
    Window { size: 3, stride: 2 },
    Window { size: 5, stride: 1 },
    Window { size: 5, stride: 2 },
    Window { size: 7, stride: 1 },
    Window { size: 7, stride: 2 },
];

/// The file of a kernel.
macro_rules! file {
    ($name:literal) => {
        crate::shader_text!(concat!("../../shaders/kernels/", $name, ".wgsl"))
    };
}

/// The form for signed bytes.
const GEMM_INT8: KernelSpec = KernelSpec {
    kernel: Kernel::ConvGemmInt8,
    name: "conv_gemm_int8",
    source: file!("conv_gemm_int8"),
    inputs: &[AcceptedInput { specializations: &[OneStep, WholeSteps, General], ..INT8 }],
    weights: AcceptedWeights::Any,
    work: Work::Tiles(Tile { pixels: 32, outputs: 64 }),
    threads: 64,
    step: Some(32),
    subgroup_size: None,
    matrix: None,
    compiled_parts: false,
    workgroup_bytes: (2 * 32 + 256) * 16 + (128 + 64 + 128) * 4,
    constants: &[("UNSIGNED", 0.0)],
};

/// The form for matrices of 8 x 8.
const MATRIX_8: KernelSpec = KernelSpec {
    kernel: Kernel::ConvMatrix8,
    name: "conv_matrix_8",
    source: file!("conv_matrix"),
    inputs: &[AcceptedInput { specializations: &[WholeStepsNhwc, WholeSteps, General], ..FLOAT }],
    weights: AcceptedWeights::Any,
    work: Work::Tiles(Tile { pixels: 64, outputs: 64 }),
    threads: 64,
    step: Some(16),
    subgroup_size: None,
    matrix: Some(8),
    compiled_parts: false,
    workgroup_bytes: 3072 * 2 + 256 * 4,
    constants: &[],
};

/// Every kernel, in the order of [`Kernel`].
pub static KERNELS: [KernelSpec; 13] = [
    KernelSpec {
        kernel: Kernel::ConvDirect,
        name: "conv_direct",
        source: file!("conv_direct"),
        inputs: &[FLOAT],
        weights: AcceptedWeights::Any,
        work: Work::Outputs,
        threads: 64,
        step: None,
        subgroup_size: None,
        matrix: None,
        compiled_parts: false,
        workgroup_bytes: 0,
        constants: &[],
    },
    KernelSpec {
        kernel: Kernel::ConvGemm,
        name: "conv_gemm",
        source: file!("conv_gemm"),
        inputs: GEMM_INPUTS,
        weights: AcceptedWeights::Any,
        work: Work::Tiles(Tile { pixels: 32, outputs: 64 }),
        threads: 64,
        step: Some(16),
        subgroup_size: None,
        matrix: None,
        compiled_parts: false,
        workgroup_bytes: 4 * (64 + 64) * 16,
        constants: &[("TILE_PIXELS", 32.0)],
    },
    KernelSpec {
        kernel: Kernel::ConvGemmWide,
        name: "conv_gemm_wide",
        source: file!("conv_gemm"),
        inputs: GEMM_INPUTS,
        weights: AcceptedWeights::Any,
        work: Work::Tiles(Tile { pixels: 64, outputs: 64 }),
        threads: 64,
        step: Some(16),
        subgroup_size: None,
        matrix: None,
        compiled_parts: false,
        workgroup_bytes: 4 * (64 + 64) * 16,
        constants: &[("TILE_PIXELS", 64.0)],
    },
    KernelSpec {
        kernel: Kernel::ConvSubgroup,
        name: "conv_subgroup",
        source: file!("conv_subgroup"),
        inputs: &[AcceptedInput {
            specializations: &[WholeStepsNhwc, WholeSteps, General],
            ..FLOAT
        }],
        weights: AcceptedWeights::Any,
        work: Work::Tiles(Tile { pixels: 32, outputs: 32 }),
        threads: 8,
        step: Some(4),
        subgroup_size: Some(8),
        matrix: None,
        compiled_parts: true,
        workgroup_bytes: 0,
        constants: &[],
    },
    KernelSpec {
        kernel: Kernel::ConvDepthwise,
        name: "conv_depthwise",
        source: file!("conv_depthwise"),
        inputs: &[FLOAT],
        weights: AcceptedWeights::Floats,
        work: Work::Outputs,
        threads: 64,
        step: None,
        subgroup_size: None,
        matrix: None,
        compiled_parts: false,
        workgroup_bytes: 0,
        constants: &[],
    },
    KernelSpec {
        kernel: Kernel::ConvDepthwiseWindow,
        name: "conv_depthwise_window",
        source: file!("conv_depthwise_window"),
        inputs: &[AcceptedInput { specializations: WINDOWS, ..FLOAT }],
        weights: AcceptedWeights::Floats,
        work: Work::Patches { rows: 2, columns: 4 },
        threads: 32,
        step: None,
        subgroup_size: None,
        matrix: None,
        compiled_parts: true,
        workgroup_bytes: 0,
        constants: &[],
    },
    KernelSpec {
        kernel: Kernel::ConvDepthwiseNhwc,
        name: "conv_depthwise_nhwc",
        source: file!("conv_depthwise_nhwc"),
        inputs: &[AcceptedInput { specializations: WINDOWS, ..FLOAT }],
        weights: AcceptedWeights::Floats,
        work: Work::Strips { columns: 7 },
        threads: 64,
        step: None,
        subgroup_size: None,
        matrix: None,
        compiled_parts: true,
        workgroup_bytes: 0,
        constants: &[],
    },
    GEMM_INT8,
    KernelSpec {
        kernel: Kernel::ConvGemmInt8Unsigned,
        name: "conv_gemm_int8_unsigned",
        constants: &[("UNSIGNED", 1.0)],
        ..GEMM_INT8
    },
    KernelSpec {
        kernel: Kernel::ConvSubgroupInt8,
        name: "conv_subgroup_int8",
        source: file!("conv_subgroup_int8"),
        inputs: &[AcceptedInput { specializations: &[ShortSums, General], ..INT8 }],
        weights: AcceptedWeights::Any,
        work: Work::Tiles(Tile { pixels: 32, outputs: 32 }),
        threads: 8,
        step: None,
        subgroup_size: Some(8),
        matrix: None,
        compiled_parts: true,
        workgroup_bytes: 0,
        constants: &[],
    },
    KernelSpec {
        kernel: Kernel::QuantizeActivations,
        name: "quantize_activations",
        source: file!("quantize_activations"),
        inputs: &[AcceptedInput { specializations: &[WholeStepsNhwc, General], ..FLOAT }],
        weights: AcceptedWeights::Floats,
        work: Work::Blocks,
        threads: 64,
        step: Some(4),
        subgroup_size: None,
        matrix: None,
        compiled_parts: false,
        workgroup_bytes: 0,
        constants: &[],
    },
    MATRIX_8,
    KernelSpec {
        kernel: Kernel::ConvMatrix16,
        name: "conv_matrix_16",
        work: Work::Tiles(Tile { pixels: 128, outputs: 128 }),
        threads: 128,
        matrix: Some(16),
        workgroup_bytes: 1536 * 8 + 1024 * 4,
        ..MATRIX_8
    },
];

/// How many entries are convolutions.
const fn convolutions() -> usize {
    let (mut count, mut i) = (0, 0);
    while i < KERNELS.len() {
        count += KERNELS[i].is_convolution() as usize;
        i += 1;
    }
    count
}

impl Kernel {
    /// Every convolution kernel. Tests and benchmarks run them all.
    pub const CONVOLUTIONS: [Self; convolutions()] = {
        let mut kernels = [Self::ConvDirect; convolutions()];
        let (mut count, mut i) = (0, 0);
        while i < KERNELS.len() {
            if KERNELS[i].is_convolution() {
                kernels[count] = KERNELS[i].kernel;
                count += 1;
            }
            i += 1;
        }
        kernels
    };

    /// The facts about this kernel.
    pub const fn spec(self) -> &'static KernelSpec {
        &KERNELS[self as usize]
    }

    /// The name of the kernel's file, or of its form where a file has two.
    pub const fn name(self) -> &'static str {
        self.spec().name
    }

    /// The convolution kernel of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::CONVOLUTIONS.into_iter().find(|kernel| kernel.name() == name)
    }

    /// Every convolution kernel with each kind of input that it takes.
    pub fn convolutions() -> impl Iterator<Item = (Self, ActivationFormat)> {
        let inputs = |kernel: Self| kernel.spec().inputs.iter().map(move |i| (kernel, i.format));
        Self::CONVOLUTIONS.into_iter().flat_map(inputs)
    }
}

impl KernelSpec {
    /// Whether it is a convolution.
    pub const fn is_convolution(&self) -> bool {
        !matches!(self.work, Work::Blocks)
    }

    /// The tile of a workgroup, for kernels that compute tiles.
    pub const fn tile(&self) -> Option<Tile> {
        match self.work {
            Work::Tiles(tile) => Some(tile),
            Work::Outputs | Work::Patches { .. } | Work::Strips { .. } | Work::Blocks => None,
        }
    }

    /// Whether it takes such an input.
    pub(super) fn takes_input(&self, format: ActivationFormat) -> bool {
        self.inputs.iter().any(|input| input.format == format)
    }

    /// The specializations that it has for such an input; none if it does not take it.
    pub(super) fn specializations(&self, format: ActivationFormat) -> &'static [Specialization] {
        let input = self.inputs.iter().find(|input| input.format == format);
        input.map_or(&[], |input| input.specializations)
    }

    /// Whether it has that specialization for any input: then its shader declares the override that tells it.
    pub(super) fn has(&self, specialization: Specialization) -> bool {
        self.inputs.iter().any(|input| input.specializations.contains(&specialization))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_in_the_order_of_the_kernels_and_names_differ() {
        for (index, spec) in KERNELS.iter().enumerate() {
            assert_eq!(spec.kernel as usize, index);
            assert_eq!(spec.kernel.spec().name, spec.name);
            let same = KERNELS.iter().filter(|other| other.name == spec.name);
            assert_eq!(same.count(), 1, "{}", spec.name);
        }
    }

    #[test]
    fn every_input_has_a_general_specialization_or_windows_and_steps_have_others() {
        for spec in &KERNELS {
            for input in spec.inputs {
                let [.., last] = input.specializations else { panic!("{} has none", spec.name) };
                assert!(matches!(last, General | Window { .. }), "{}", spec.name);
                let others = input.specializations.contains(&WholeSteps)
                    || input.specializations.contains(&WholeStepsNhwc);
                assert_eq!(others, spec.step.is_some(), "{}", spec.name);
            }
        }
    }
}
