//! The proof that a device's matrix units compute rightly, before any layer is given to them.

use super::capabilities::TensorCores;
use super::device::TENSOR_CORE_FEATURES;
use super::kernel::{KERNELS, Kernel, KernelSpec};
use super::layer::Layer;
use super::options::LayerOptions;
use super::pipelines::Pipelines;
use crate::{ConvDescriptor, Error, FloatWeights, Result, Shape, reference};

/// Finds the matrix units of a device, and proves them: it multiplies small integers, once as they are and once as the
/// smallest halves there are, and compares every bit. The integers differ in rows and columns, so that exchanged factors
/// or transposed ones show. Give what it finds to [`Pipelines::with_tensor_cores`]. It compiles a pipeline, and blocks
/// while the GPU works; in a browser there are none.
///
/// # Errors
/// [`Error::Unsupported`] with the reason why there are none for the library: the device lacks
/// [`TENSOR_CORE_FEATURES`], has no matrices of 8 x 8 or 16 x 16 halves with sums of 32 bits, has too low limits or too
/// large subgroups, or is "not proven" because it does not compute what it should. [`Error::DeviceLost`], or what the
/// device reports.
pub async fn tensor_cores(
    adapter: &wgpu::Adapter,
    pipelines: &Pipelines,
    queue: &wgpu::Queue,
) -> Result<TensorCores> {
    let refuse = |what: String, remedy: &str| {
        Err(Error::Unsupported { what: format!("tensor cores: {what}"), remedy: remedy.into() })
    };
    let missing = TENSOR_CORE_FEATURES - pipelines.device().features();
    if !missing.is_empty() {
        let remedy = match (missing - adapter.features()).is_empty() {
            true => "request dsconv::gpu::TENSOR_CORE_FEATURES, with experimental features enabled",
            false => "the adapter has no such feature; use other kernels",
        };
        let names: Vec<&str> = missing.iter_names().map(|(name, _)| name).collect();
        return refuse(format!("the device lacks {}", names.join(", ")), remedy);
    }
    let mut reasons = Vec::new();
    for spec in KERNELS.iter().rev().filter(|spec| spec.matrix.is_some()) {
        match units(adapter, spec, pipelines.limits()) {
            Err(reason) => reasons.push(reason),
            Ok(units) => {
                let pipelines = pipelines.clone().with_tensor_cores(units);
                match wrong_products(&pipelines, queue, spec.kernel).await {
                    Ok(0) => return Ok(units),
                    Ok(wrong) => reasons.push(format!(
                        "not proven: {} gives {wrong} wrong sums of products, of {}",
                        spec.name,
                        2 * OUTPUTS * PIXELS
                    )),
                    // A driver's compiler may have an error of its own.
                    Err(Error::Gpu { message, .. }) => {
                        reasons.push(format!("not proven: {message}"));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }
    refuse(reasons.join("; "), "use other kernels, or a newer driver")
}

/// The matrix units that a kernel would use, or why it can't.
fn units(
    adapter: &wgpu::Adapter,
    spec: &KernelSpec,
    limits: &wgpu::Limits,
) -> std::result::Result<TensorCores, String> {
    let KernelSpec { name, matrix, threads, workgroup_bytes, .. } = *spec;
    let size = matrix.unwrap_or(0);
    let fits = |matrix: &wgpu::CooperativeMatrixProperties| {
        [matrix.m_size, matrix.n_size, matrix.k_size] == [size; 3]
            && matrix.ab_type == wgpu::CooperativeScalarType::F16
            && matrix.cr_type == wgpu::CooperativeScalarType::F32
            && !matrix.saturating_accumulation
    };
    if !adapter.cooperative_matrix_properties().iter().any(fits) {
        return Err(format!("{name} wants {size} x {size} halves with sums of 32 bits"));
    }
    let most =
        limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
    let bytes = limits.max_compute_workgroup_storage_size;
    if threads > most || workgroup_bytes > bytes {
        return Err(format!(
            "{name} wants workgroups of {threads} threads and {workgroup_bytes} bytes; the device was made for {most} and {bytes}"
        ));
    }
    let (info, largest) = (adapter.get_info(), threads / 2);
    // For Metal wgpu names the largest size there is, not the device's. Where that is the device's, products are wrong.
    if info.backend != wgpu::Backend::Metal && info.subgroup_max_size > largest {
        let found = info.subgroup_max_size;
        return Err(format!("{name} wants subgroups of at most {largest}, got up to {found}"));
    }
    Ok(TensorCores::new(size))
}

/// A little more than a tile each way.
const OUTPUTS: u32 = 136;
const PIXELS: u32 = 136;
const CHANNELS: u32 = 32;

/// How many sums of products differ from the right ones.
async fn wrong_products(
    pipelines: &Pipelines,
    queue: &wgpu::Queue,
    kernel: Kernel,
) -> Result<usize> {
    // From -7 to 8: products and sums are exact in whatever order.
    let small = |index: usize| (0x9e37_79b9u32.wrapping_mul(index as u32 + 1) >> 28) as f32 - 7.0;
    let descriptor = ConvDescriptor::new(CHANNELS, OUTPUTS, [1, 1]);
    let weights: Vec<f32> = (0..descriptor.weight_count()).map(small).collect();
    let weights = FloatWeights::new(descriptor, weights)?;
    let layer = Layer::new(pipelines, &weights, LayerOptions::default().with_kernel(kernel))?;
    let shape = Shape::new(1, CHANNELS, 1, PIXELS);
    let mut wrong = 0;
    for exponent in [0, -24] {
        let input: Vec<f32> =
            (0..shape.elements()).map(|i| small(7 * i) * 2f32.powi(exponent)).collect();
        let right = reference::convolve(&weights, shape, &input)?.values;
        let sums = layer.run(queue, shape, &input, &[]).await?;
        wrong += sums.iter().zip(right).filter(|(sum, right)| f64::from(**sum) != *right).count();
    }
    layer.destroy();
    Ok(wrong)
}
