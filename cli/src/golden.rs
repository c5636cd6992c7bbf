//! Golden cases: a DSConv layer, its input and its f64 outputs in one safetensors file.

use anyhow::{Context, bail, ensure};
use dsconv::{BlockFormat, Cds, ConvDescriptor, DsConvWeights, Partition, Shape};
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// The case as the file's metadata describes it.
#[derive(serde::Deserialize)]
struct Metadata {
    name: String,
    in_channels: u32,
    out_channels: u32,
    kernel: [u32; 2],
    stride: [u32; 2],
    pads: [u32; 4],
    dilation: [u32; 2],
    groups: u32,
    block_size: u32,
    bits: u8,
    exact: bool,
}

/// A case: one input and the outputs that it must give.
pub(crate) struct Case {
    pub(crate) name: String,
    /// True if f32 arithmetic in any order gives the output bit for bit.
    pub(crate) exact: bool,
    pub(crate) input: Shape,
    pub(crate) x: Vec<f32>,
    pub(crate) checks: Vec<Check>,
}

/// One reading of a case's weights, and its output.
pub(crate) struct Check {
    pub(crate) reading: String,
    pub(crate) weights: DsConvWeights,
    pub(crate) y: Vec<f64>,
}

/// Reads a case.
pub(crate) fn read(path: &Path) -> anyhow::Result<Case> {
    let bytes = std::fs::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let tensors = SafeTensors::deserialize(&bytes)?;
    let text = header.metadata().as_ref().and_then(|m| m.get("case"));
    let case: Metadata = serde_json::from_str(text.context("metadata has no \"case\"")?)
        .context("metadata \"case\"")?;
    let descriptor = ConvDescriptor::new(case.in_channels, case.out_channels, case.kernel)
        .with_stride(case.stride)
        .with_padding(case.pads)
        .with_dilation(case.dilation)
        .with_groups(case.groups);
    let (x, x_shape) = floats(&tensors, "x")?.context("tensor x is missing")?;
    let [n, c, h, w] = x_shape[..] else {
        bail!("tensor x: expected 4 dimensions, got {x_shape:?}")
    };
    let extent = |v: usize| u32::try_from(v).context("tensor x is too large");
    let input = Shape::new(extent(n)?, extent(c)?, extent(h)?, extent(w)?);

    let q = tensors.tensor("q")?;
    ensure!(q.dtype() == Dtype::I8, "tensor q: expected I8, got {:?}", q.dtype());
    let q: Vec<i32> = q.data().iter().map(|&byte| i32::from(byte as i8)).collect();
    let (alpha, _) = floats(&tensors, "alpha")?.context("tensor alpha is missing")?;
    let weights = |partition| -> anyhow::Result<DsConvWeights> {
        let format = BlockFormat::new(case.bits, case.block_size)?.with_partition(partition);
        let mut weights = DsConvWeights::from_integers(descriptor, format, &q, alpha.clone())?;
        if let Some((kds_bias, _)) = floats(&tensors, "kds")? {
            weights = weights.with_kds_bias(kds_bias)?;
        }
        if let Some((bias, _)) = floats(&tensors, "bias")? {
            weights = weights.with_bias(bias)?;
        }
        Ok(weights)
    };
    let cds = match (floats(&tensors, "cdsw")?, floats(&tensors, "cdsb")?) {
        (Some((scale, _)), Some((shift, _))) => Some((scale, shift)),
        _ => None,
    };
    let mut checks = Vec::new();
    for (reading, tensor) in
        [("", "y"), ("cds output", "y_cds_output"), ("cds kernel", "y_cds_weight")]
    {
        let Some(even) = doubles(&tensors, tensor)? else { continue };
        // Without a tensor of its own, the fixed partition must give the same.
        let fixed = doubles(&tensors, &format!("{tensor}_fixed"))?.unwrap_or_else(|| even.clone());
        for (name, partition, y) in
            [("even", Partition::Even, even), ("fixed", Partition::Fixed, fixed)]
        {
            let mut weights = weights(partition)?;
            if !reading.is_empty() {
                let (scale, shift) = cds.clone().context("cdsw and cdsb are missing")?;
                weights = weights.with_cds(match reading {
                    "cds output" => Cds::Output { scale, shift },
                    _ => Cds::Kernel { scale, shift },
                })?;
            }
            let reading = format!("{reading} {name}").trim().to_string();
            checks.push(Check { reading, weights, y });
        }
    }
    ensure!(!checks.is_empty(), "tensor y is missing");
    Ok(Case { name: case.name, exact: case.exact, input, x, checks })
}

/// The elements and dims of a tensor of f32, if there is one of that name.
fn floats(tensors: &SafeTensors<'_>, name: &str) -> anyhow::Result<Option<(Vec<f32>, Vec<usize>)>> {
    let Ok(tensor) = tensors.tensor(name) else { return Ok(None) };
    ensure!(tensor.dtype() == Dtype::F32, "tensor {name}: expected F32, got {:?}", tensor.dtype());
    let (values, _) = tensor.data().as_chunks::<4>();
    let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(Some((values, tensor.shape().to_vec())))
}

/// The elements of a tensor of f64, if there is one of that name.
fn doubles(tensors: &SafeTensors<'_>, name: &str) -> anyhow::Result<Option<Vec<f64>>> {
    let Ok(tensor) = tensors.tensor(name) else { return Ok(None) };
    ensure!(tensor.dtype() == Dtype::F64, "tensor {name}: expected F64, got {:?}", tensor.dtype());
    let (values, _) = tensor.data().as_chunks::<8>();
    Ok(Some(values.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()))
}
