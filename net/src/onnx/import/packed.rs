//! Matrices of 2, 4 or 8 bits in blocks, as ONNX Runtime packs them.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::conv::{Kernel, KernelValues};
use super::integers::{GatheredScales, QuantizedConstant};
use super::product::linear;
use crate::Error;
use crate::ir::graph::ValueId;
use crate::ir::tensor::{Data, Tensor};

/// A product with a packed matrix: its blocks lie along the inputs, as those of DSConv do.
pub(crate) fn matmul(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    attributes.ignore(&["accuracy_level"]);
    attributes.unset("weight_prepacked")?;
    let size = |name, least: usize| -> Converted<usize> {
        let value = attributes.int(name)?.unwrap_or(0);
        let size = usize::try_from(value).ok().filter(|&size| size >= least && size <= 1 << 24);
        size.ok_or_else(|| Error::invalid(name, format!("{least} to 2^24"), value).into())
    };
    let (inputs, outputs, block) = (size("K", 1)?, size("N", 1)?, size("block_size", 1)?);
    let bits = attributes.int("bits")?.unwrap_or(4);
    let bits = match bits {
        2 | 4 | 8 => bits as usize,
        bits => return refuse(format!("{bits} bits")),
    };
    if context.optional(4)?.is_some() {
        return refuse("an order of its own for the inputs (g_idx)");
    }
    if inputs as u64 * outputs as u64 > 1 << 30 {
        return refuse(format!("{outputs} x {inputs} weights"));
    }
    let blocks = inputs.div_ceil(block);
    let Some(packed) = context.known_ints(1, "B")? else { return refuse("no B") };
    let per_block = (block * bits).div_ceil(8);
    expect("B", outputs * blocks * per_block, packed.len())?;
    let Some(scales) = context.known(2, "scales")? else { return refuse("no scales") };
    let scale = scales.floats("scales")?.to_vec();
    expect("scales", outputs * blocks, scale.len())?;
    let half = 1 << (bits - 1);
    // The first value of a byte is in its lowest bits.
    let value = |bytes: &[i64], index: usize| {
        let shift = index * bits % 8;
        (bytes[index * bits / 8] >> shift & ((1 << bits) - 1)) as i32
    };
    let zero = match context.known(3, "zero points")? {
        None => vec![0; outputs * blocks],
        Some(zeros) => zero_points(&zeros, outputs, blocks, bits)?
            .into_iter()
            .map(|zero| zero - half)
            .collect(),
    };
    let q = (0..outputs * inputs).map(|index| {
        let (row, column) = (index / inputs, index % inputs);
        let start = (row * blocks + column / block) * per_block;
        (value(&packed[start..start + per_block], column % block) - half) as i8
    });
    let integers = QuantizedConstant {
        dims: vec![outputs, inputs],
        q: q.collect(),
        axis: 1,
        block: Some(block),
        scale,
        zero,
        is_transposed: false,
        gathered: GatheredScales::default(),
        recorded: None,
    };
    let bias = context.known(5, "bias")?;
    let bias = bias.map(|bias| bias.floats("bias").map(<[f32]>::to_vec)).transpose()?;
    let matrix = Kernel { dims: vec![outputs, inputs], values: KernelValues::Integers(integers) };
    let x = context.input(0)?;
    linear(context, x, &matrix, bias)
}

fn expect(what: &str, expected: usize, got: usize) -> Converted {
    if expected == got {
        return Ok(());
    }
    Err(Error::invalid(what, format!("{expected} elements"), got).into())
}

/// The zero points of all blocks: packed row by row, or whole numbers as floats.
fn zero_points(zeros: &Tensor, outputs: usize, blocks: usize, bits: usize) -> Converted<Vec<i32>> {
    match zeros.data() {
        Data::F32(values) => {
            expect("zero points", outputs * blocks, values.len())?;
            if values.iter().any(|value| value.fract() != 0.0 || value.abs() > 255.0) {
                return refuse("zero points that are no whole numbers");
            }
            Ok(values.iter().map(|&value| value as i32).collect())
        }
        Data::I64(bytes) => {
            let per_row = (blocks * bits).div_ceil(8);
            expect("zero points", outputs * per_row, bytes.len())?;
            let zero = |index: usize| {
                let (row, block) = (index / blocks, index % blocks);
                let byte = bytes[row * per_row + block * bits / 8];
                (byte >> (block * bits % 8) & ((1 << bits) - 1)) as i32
            };
            Ok((0..outputs * blocks).map(zero).collect())
        }
    }
}
