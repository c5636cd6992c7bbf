//! The convolution on a GPU: the WGSL kernels and their host layer.
//!
//! # The formula
//!
//! A weight is an integer times the scale of its block, and a block is a run of input channels at one tap of the kernel
//! window. The channel distribution shift (CDS) is folded into alpha, KDS bias and bias, so the kernels compute
//!
//! ```text
//! weight[o, c, tap] = alpha[o, block(c), tap] * q[o, c, tap] + kds_bias[o, block(c), tap]
//! output[o, pixel]  = activation(sum of weight * input over channels and taps + bias[o])
//! ```
//!
//! `conv_gemm` and `conv_subgroup` make the float weight in registers or in workgroup memory and multiply. The others
//! sum products over a block first, and multiply the sum once: `conv_direct` by alpha, `conv_gemm_int8` and
//! `conv_subgroup_int8` by alpha and the activations' scale. Kernels for depthwise layers take float weights, which
//! have no alpha.
//!
//! # What lies where in device memory
//!
//! - **Packed integers** ([`WeightFormat::Packed`]): a width is a sum of powers of two (7 = 4 + 2 + 1), and each power
//!   has a *plane* of words. A word holds bits of several *quads*, runs of four channels of one block. Output channels
//!   lie side by side, so that neighbouring threads load neighbouring words. `shaders/shared/unpack_weights.wgsl` draws
//!   the words.
//! - **Alpha, KDS bias and bias**: `[tap][block][output channel]` twice, then `[output channel]`, in floats or halves.
//! - **Float tensors**: NCHW or NHWC, in floats or halves.
//! - **Integer activations**: quads of int8 mantissas, `[pixel][group][quad]`, then a scale and a scaled sum per
//!   `[pixel][group][block]`, all in one buffer.
//!
//! # The life of a layer
//!
//! Each type has its lifetime. The host owns device, queue, encoders and tensors; nothing here submits, except
//! [`Layer::run`], which is for first steps and tests.
//!
//! 1. [`Pipelines`] lives as long as the device: bind group layout, shader modules, compiled pipelines.
//! 2. A [`Layer`] lives as long as the model. [`Layer::new`] takes weights and [`LayerOptions`], chooses a [`Kernel`]
//!    by the rules of [`Kernel::choose`], packs the weights and uploads them.
//! 3. A [`Prepared`] lives as long as one input shape. [`Layer::prepare`] compiles the pipeline of the [`Variant`] that
//!    is needed, if nobody needed it before, and uploads the uniform. Here `conv_gemm` gives way to `conv_gemm_wide` if
//!    the output is large, which is not known earlier.
//! 4. A [`Plan`] lives as long as the buffers. [`Prepared::bind`] checks the host's tensors and makes a bind group.
//!    [`Plan::record`] can't fail and allocates nothing. [`Layer::plan`] is both steps in one.
//!
//! # Where to read
//!
//! `kernel.rs` is the table of kernels and `choose.rs` says which one runs; `shader.rs` puts WGSL files together;
//! `planes.rs` packs weights; `params.rs` is the uniform. Dependencies point one way: formats, then the table, options
//! and rules, then memory and pipelines, then layers, what is
//! prepared of them, plans and runs.

mod cache;
mod capabilities;
mod choose;
mod device;
mod format;
mod kernel;
mod layer;
mod memory;
mod once;
mod options;
mod packed;
mod params;
mod pipelines;
mod plan;
mod planes;
mod prepared;
mod run;
mod scope;
mod shader;
mod shader_text;
mod tensor_cores;
mod timestamps;
mod transfer;
mod trusted;
#[cfg(not(target_arch = "wasm32"))]
mod tune;
mod variant;
mod warm_up;

pub use capabilities::{Capabilities, PackedDotProduct, TensorCores};
pub use choose::ConvProblem;
pub use device::{
    Gpu, Selection, TENSOR_CORE_FEATURES, WANTED_FEATURES, adapters, open, open_with, wanted_limits,
};
pub use format::{ActivationFormat, FloatFormat, Int8Output, TensorFormat, WeightFormat};
pub use kernel::{
    AcceptedInput, AcceptedWeights, KERNELS, Kernel, KernelSpec, Specialization, Tile, Work,
};
pub use layer::Layer;
pub use memory::{MemoryUse, check_buffer};
pub use options::LayerOptions;
pub use pipelines::Pipelines;
pub use plan::{Plan, Tensors};
pub use prepared::{Prepared, grid};
pub use scope::checked;
pub use shader_text::stripped;
pub use tensor_cores::tensor_cores;
pub use timestamps::Timestamps;
pub use transfer::{download, finished, upload};
#[cfg(not(target_arch = "wasm32"))]
pub use tune::{Choice, Tuner};
pub use variant::{Parts, Variant};
pub use warm_up::WarmUp;
