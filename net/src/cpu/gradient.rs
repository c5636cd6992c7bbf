//! The steps of training programs: gradients of what steps read, from those of what they wrote.

use super::walk::Operand;
use crate::ir::op::{PoolKind, Unary};
use crate::ir::program::Pool;
use crate::{Error, Result};
use dsconv::{Shape, Weights, reference};

fn rounded(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

pub(super) fn conv_input(
    weights: &Weights,
    dy: Operand<'_, f32>,
    shape: Shape,
) -> Result<Vec<f32>> {
    Ok(rounded(reference::input_gradient(weights, shape, dy.values)?))
}

pub(super) fn conv_weights(
    weights: &Weights,
    shape: Shape,
    x: Operand<'_, f32>,
    dy: Operand<'_, f32>,
) -> Result<Vec<f32>> {
    Ok(rounded(reference::weight_gradient(weights, shape, x.values, dy.values)?))
}

pub(super) fn unary(
    function: Unary,
    x: Operand<'_, f32>,
    dy: Operand<'_, f32>,
) -> Result<Vec<f32>> {
    let one = |(&x, &dy): (&f32, &f32)| {
        let slope = function.derivative(x.into())?;
        Some((slope * f64::from(dy)) as f32)
    };
    let values: Option<Vec<f32>> = x.values.iter().zip(dy.values).map(one).collect();
    values.ok_or_else(|| {
        Error::invalid("step", "a function that has a slope", format!("{function:?}"))
    })
}

pub(super) fn pool(window: &Pool, x: Operand<'_, f32>, dy: Operand<'_, f32>) -> Vec<f32> {
    let [height, width] = [x.dims[2], x.dims[3]].map(|dim| dim as i64);
    let plane = (height * width) as usize;
    let outputs = dy.dims[2] * dy.dims[3];
    let mut gradient = vec![0.0f64; x.values.len()];
    let place = |at: usize, tap: u32, axis: usize| {
        at as i64 * i64::from(window.stride[axis]) + i64::from(tap * window.dilation[axis])
            - i64::from(window.padding[axis])
    };
    for (index, &dy_value) in dy.values.iter().enumerate() {
        let (channel, at) = (index / outputs, index % outputs);
        let first = channel * plane;
        let (mut inside, mut padded) = (Vec::new(), 0u32);
        for ky in 0..window.kernel[0] {
            let iy = place(at / dy.dims[3], ky, 0);
            for kx in 0..window.kernel[1] {
                let ix = place(at % dy.dims[3], kx, 1);
                let [bottom, right] = [window.padding[2], window.padding[3]].map(i64::from);
                padded += u32::from(iy < height + bottom && ix < width + right);
                if (0..height).contains(&iy) && (0..width).contains(&ix) {
                    inside.push(first + (iy * width + ix) as usize);
                }
            }
        }
        let share = match window.kind {
            PoolKind::Sum => 1.0,
            PoolKind::Average { count_padding: true } => 1.0 / f64::from(padded),
            PoolKind::Average { count_padding: false } => 1.0 / inside.len() as f64,
            PoolKind::Max => {
                let larger = |best: usize, at: usize| {
                    if x.values[at] > x.values[best] { at } else { best }
                };
                inside = inside.into_iter().reduce(larger).into_iter().collect();
                1.0
            }
            PoolKind::PlaceOfMax => 0.0,
        };
        for at in inside {
            gradient[at] += share * f64::from(dy_value);
        }
    }
    rounded(gradient)
}
