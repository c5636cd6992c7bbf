//! Distribution Shifting Convolution (DSConv, arXiv 1901.01928) as WGSL compute kernels on wgpu.
//!
//! A convolution kernel is split into small integers (2 to 8 bits; the paper's VQK) and a float scale
//! `alpha` per block of input channels at one kernel tap (its KDS), optionally with an offset per block
//! (KDS bias) and a scale and shift per output channel (CDS):
//!
//! ```text
//! weight[o, c, tap] = alpha[o, block(c), tap] * q[o, c, tap] + kds_bias[o, block(c), tap]
//! output[o, pixel]  = cds_scale[o] * (sum of weight * input over channels and taps) + cds_shift[o] + bias[o]
//! ```
//!
//! The kernels keep the integers packed in device memory and multiply by alpha in the shader, so a
//! layer takes 7 to 31% of its f32 memory.
//!
//! # From floats to an output
//!
#![cfg_attr(feature = "gpu", doc = "```")]
#![cfg_attr(not(feature = "gpu"), doc = "```ignore")]
//! use dsconv::gpu::{self, Layer, LayerOptions, Pipelines, Selection};
//! use dsconv::{Activation, ConvDescriptor, Quantizer, Shape, reference};
//! # fn main() -> dsconv::Result<()> { pollster::block_on(async {
//! // A 3x3 convolution of 8 to 16 channels, its weights in PyTorch's and ONNX's order (OIHW).
//! let descriptor = ConvDescriptor::new(8, 16, [3, 3]).with_padding([1; 4]);
//! let floats: Vec<f32> = (0..descriptor.weight_count()).map(|i| (i as f32).sin()).collect();
//! let weights = Quantizer::new(4, 8)?.weights(&descriptor, &floats)?;
//!
//! let gpu = gpu::open(&Selection::Best).await?; // or bring your own device
//! let pipelines = Pipelines::new(&gpu.device)?;
//! let options = LayerOptions::default().with_activation(Activation::Relu);
//! let layer = Layer::new(&pipelines, &weights, options)?;
//!
//! let shape = Shape::new(1, 8, 20, 20);
//! let x = vec![0.5; shape.elements()];
//! let y = layer.run(&gpu.queue, shape, &x, &[]).await?;
//!
//! // Every kernel is checked against this: plain loops in f64.
//! let expected = reference::convolve(&weights, shape, &x)?;
//! assert!((f64::from(y[21]) - expected.values[21].max(0.0)).abs() < 4e-6 * expected.magnitude);
//! # Ok(()) }) }
//! ```
//!
//! An engine records plans into its own encoder instead: see [`gpu::Plan`] and `examples/embed.rs`.
//!
//! # Features
//!
//! - `gpu` (default): the kernels and their host layer, on wgpu. Without it: weights, quantiser, reference.
//! - `storage` (default): layer files in the safetensors format.
//! - `parallel` (default): the quantiser and the reference run on all cores, by rayon. Running layers needs neither.
//! - `vulkan`, `metal`, `dx12`, `webgpu`: wgpu's backends. None is on by default: they are the host's choice, here or
//!   by wgpu's own features.
//!
//! # Versions
//!
//! The interface has types of wgpu 30, which is re-exported as `dsconv::wgpu`. Another major version of wgpu is a
//! breaking change of this crate, so its version says it: 0.2 before 1.0, and 2.0 after. Rust 1.90 is the oldest that
//! builds it; a newer one is not called a breaking change.

#[cfg(feature = "storage")]
mod bitstream;
mod blocks;
mod epilogue;
mod error;
#[cfg(all(any(feature = "gpu", feature = "storage"), not(target_arch = "wasm32")))]
pub mod file;
#[cfg(feature = "gpu")]
pub mod gpu;
mod int8_activations;
mod int8_channels;
mod parallel;
mod quantize;
pub mod reference;
mod shape;
#[cfg(feature = "storage")]
mod storage;
mod text;
mod weights;

pub use blocks::{BlockFormat, Blocks, Partition};
pub use epilogue::{Activation, Residual};
pub use error::{Error, Result};
pub use int8_activations::{ActivationScale, Int8Activations};
pub use quantize::{Method, QuantizedBlock, Quantizer, signal_to_noise_db};
pub use reference::Reference;
pub use shape::{ConvDescriptor, Layout, Shape};
#[cfg(feature = "storage")]
pub use storage::{FloatTensor, LayerFile, stored_bytes};
pub use text::shown;
pub use weights::{Cds, DsConvWeights, FloatWeights, Weights, WeightsRef};

/// wgpu, whose types are in the interface: a host can take it from here, and so has the same version.
#[cfg(feature = "gpu")]
pub use wgpu;

/// The examples of the texts beside the code, as documentation tests.
#[cfg(all(doctest, feature = "gpu", feature = "storage"))]
mod texts {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/library.md")]
    struct Library;
}
