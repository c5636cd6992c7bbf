//! Programs on the CPU: plain loops with sums in f64. The reference that other executors are checked
//! against, and the folding of constants.

mod gradient;
mod indexed;
mod memory;
mod walk;

pub use memory::memory;
pub(crate) use memory::{memory_of_samples, readers};
pub(crate) use walk::Operand;

use crate::ir::op::{Binary, PadMode, PoolKind, Reduction};
use crate::ir::program::{ConvTranspose, Pool, Program, Source, StepOp, Taps, TensorId};
use crate::ir::tensor::{broadcast_strides, strides};
use crate::{Error, Result};
use dsconv::{Residual, Shape, Weights, reference};
use rayon::prelude::*;
use std::sync::Arc;
use walk::Offsets;

/// The [`memory`] that [`run`] takes at most.
pub const MEMORY: u64 = 4 << 30;

/// Runs a program: its inputs' elements in, its outputs' elements out. Tensors are f32 between steps.
///
/// # Errors
/// Inputs of another number or length than the program's, or a program that needs more than [`MEMORY`].
pub fn run(program: &Program, inputs: &[&[f32]]) -> Result<Vec<Vec<f32>>> {
    let needed = memory(program);
    if needed > MEMORY {
        let expected = format!("at most {MEMORY} bytes at once; run_with takes any");
        return Err(Error::invalid("tensors of a run", expected, needed));
    }
    run_with(program, inputs, |_, _| ())
}

/// Runs a program as [`run`] does, whatever memory it needs, and shows `watch` the index and the output of every step.
///
/// # Errors
/// Inputs of another number or length than the program's.
pub fn run_with(
    program: &Program,
    inputs: &[&[f32]],
    mut watch: impl FnMut(usize, &[f32]),
) -> Result<Vec<Vec<f32>>> {
    program.check_inputs(inputs)?;
    let mut tensors: Vec<Option<Arc<Vec<f32>>>> = program
        .values()
        .iter()
        .map(|value| match &value.source {
            Source::Input(index) => Some(Arc::new(inputs[*index].to_vec())),
            Source::Constant(values) => Some(values.clone()),
            Source::Step(_) | Source::View(_) => None,
        })
        .collect();
    let mut readers = readers(program);
    let missing = |id: TensorId| {
        Error::invalid(&program.value(id).name, "a tensor computed before it is read", "none")
    };
    for (index, step) in program.steps().iter().enumerate() {
        let operands: Vec<_> = step
            .inputs
            .iter()
            .map(|&id| {
                let values = tensors[program.storage(id).index()].clone();
                Ok((program.value(id).dims.as_slice(), values.ok_or_else(|| missing(id))?))
            })
            .collect::<Result<_>>()?;
        let operands: Vec<Operand<'_, f32>> =
            operands.iter().map(|(dims, values)| Operand { dims, values }).collect();
        let y = evaluate(&step.op, &operands, &program.value(step.output).dims)
            .map_err(|e| e.in_node(&step.name, "step"))?;
        drop(operands);
        watch(index, &y);
        tensors[step.output.index()] = Some(Arc::new(y));
        for &id in &step.inputs {
            let storage = program.storage(id).index();
            readers[storage] -= 1;
            if readers[storage] == 0 {
                tensors[storage] = None;
            }
        }
    }
    let output = |&id: &TensorId| {
        let values = tensors[program.storage(id).index()].as_ref();
        values.map(|values| values.to_vec()).ok_or_else(|| missing(id))
    };
    program.outputs().iter().map(output).collect()
}

/// The elements that a step writes.
pub(crate) fn evaluate(
    op: &StepOp,
    inputs: &[Operand<'_, f32>],
    dims: &[usize],
) -> Result<Vec<f32>> {
    if let Some(moved) = rearrange(op, inputs, dims) {
        return Ok(moved);
    }
    let x = inputs[0];
    Ok(match op {
        StepOp::Conv { weights, activation, residual } => {
            let shape = shape(x.dims)?;
            let y = match weights.as_ref() {
                Weights::DsConv(weights) => reference::convolve(weights, shape, x.values),
                Weights::Float(weights) => reference::convolve(weights, shape, x.values),
            }?;
            let added = if *residual == Residual::None { &[][..] } else { inputs[1].values };
            let y = y.with_epilogue(*activation, *residual, added)?;
            y.values.into_iter().map(|y| y as f32).collect()
        }
        StepOp::ConvTranspose(conv) => conv_transpose(conv, inputs, dims),
        StepOp::Unary(unary) => {
            x.values.iter().map(|&x| unary.apply(f64::from(x)) as f32).collect()
        }
        StepOp::Binary(binary) => {
            binary_map(inputs, dims, |a, b| binary.apply(f64::from(a), f64::from(b)) as f32)
        }
        StepOp::Pool(window) => pool(window, x, dims),
        StepOp::Reduce { reduction, axes } => reduce(*reduction, axes, x, dims),
        StepOp::Softmax { axis } => softmax(*axis, x),
        StepOp::Resize { axes } => resize(axes, x, dims),
        StepOp::MatMul => matmul(inputs[0], inputs[1], dims),
        StepOp::Pad { mode: mode @ PadMode::Constant(value), before } => {
            pad(x, dims, before, *mode)
                .into_iter()
                .map(|at| at.map_or(*value, |at| x.values[at]))
                .collect()
        }
        StepOp::Pick { axis } => indexed::pick(*axis, x, inputs[1], dims),
        StepOp::Scatter { axis, combination } => {
            indexed::scatter(*axis, *combination, [x, inputs[1], inputs[2]])
        }
        StepOp::Order { axis, descending } => indexed::order(*axis, *descending, x, dims),
        StepOp::Suppress { centre, overlap, least } => {
            let rule = indexed::Suppression { centre: *centre, overlap: *overlap, least: *least };
            indexed::suppress(&rule, [x, inputs[1], inputs[2]], dims[0])
        }
        StepOp::ConvInputGradient { weights } => gradient::conv_input(weights, x, shape(dims)?)?,
        StepOp::ConvWeightGradient { weights } => {
            gradient::conv_weights(weights, shape(x.dims)?, x, inputs[1])?
        }
        StepOp::UnaryGradient(unary) => gradient::unary(*unary, x, inputs[1])?,
        StepOp::PoolGradient(window) => gradient::pool(window, x, inputs[1]),
        // All others only move elements.
        _ => return Err(Error::invalid("step", "an operation on floats", format!("{op:?}"))),
    })
}

/// The output of a step that only moves elements, of whatever type; `None` for another step.
pub(crate) fn rearrange<T: Copy>(
    op: &StepOp,
    inputs: &[Operand<'_, T>],
    dims: &[usize],
) -> Option<Vec<T>> {
    let x = inputs[0];
    let read = |steps: Vec<i64>, start: usize| -> Vec<T> {
        Offsets::new(dims, steps, start).map(|at| x.values[at]).collect()
    };
    let signed = |steps: Vec<usize>| steps.into_iter().map(|s| s as i64).collect::<Vec<_>>();
    Some(match op {
        StepOp::Concat { axis } => {
            let inner = |dims: &[usize]| dims[*axis..].iter().product::<usize>();
            let outer: usize = dims[..*axis].iter().product();
            let mut y = Vec::with_capacity(dims.iter().product());
            for row in 0..outer {
                for part in inputs {
                    let length = inner(part.dims);
                    y.extend_from_slice(&part.values[row * length..][..length]);
                }
            }
            y
        }
        StepOp::Slice { start, step } => {
            let own = strides(x.dims);
            let first = start.iter().zip(&own).map(|(start, own)| start * own).sum();
            read(step.iter().zip(&own).map(|(step, &own)| step * own as i64).collect(), first)
        }
        StepOp::Gather { axis, indices } => {
            let inner: usize = x.dims[axis + 1..].iter().product();
            let outer: usize = x.dims[..*axis].iter().product();
            let mut y = Vec::with_capacity(dims.iter().product());
            for row in 0..outer {
                for &index in indices.iter() {
                    let at = (row * x.dims[*axis] + index as usize) * inner;
                    y.extend_from_slice(&x.values[at..at + inner]);
                }
            }
            y
        }
        StepOp::Expand => read(signed(broadcast_strides(x.dims, dims)), 0),
        StepOp::Transpose { permutation } => {
            let own = strides(x.dims);
            read(permutation.iter().map(|&axis| own[axis] as i64).collect(), 0)
        }
        StepOp::Pad { mode, before } if !matches!(mode, PadMode::Constant(_)) => {
            pad(x, dims, before, *mode).into_iter().flatten().map(|at| x.values[at]).collect()
        }
        _ => return None,
    })
}

/// Applies `f` to the broadcast operands.
pub(crate) fn binary_map<T: Copy, U>(
    inputs: &[Operand<'_, T>],
    dims: &[usize],
    f: impl Fn(T, T) -> U,
) -> Vec<U> {
    let read = |x: Operand<'_, T>| {
        let steps = broadcast_strides(x.dims, dims).into_iter().map(|s| s as i64).collect();
        Offsets::new(dims, steps, 0)
    };
    let (a, b) = (inputs[0], inputs[1]);
    read(a).zip(read(b)).map(|(i, j)| f(a.values[i], b.values[j])).collect()
}

/// The place in x of each element of the padded tensor.
fn pad<T>(
    x: Operand<'_, T>,
    dims: &[usize],
    before: &[usize],
    mode: PadMode,
) -> Vec<Option<usize>> {
    let tables: Vec<Vec<Option<usize>>> = (0..dims.len())
        .map(|axis| {
            let (extent, front) = (x.dims[axis] as i64, before[axis] as i64);
            let place = |i: usize| mode.inside(i as i64 - front, extent).map(|at| at as usize);
            (0..dims[axis]).map(place).collect()
        })
        .collect();
    let (own, to) = (strides(x.dims), strides(dims));
    (0..dims.iter().product())
        .map(|i: usize| {
            (0..dims.len()).try_fold(0, |at, axis| {
                Some(at + tables[axis][i / to[axis] % dims[axis]]? * own[axis])
            })
        })
        .collect()
}

pub(crate) fn shape(dims: &[usize]) -> Result<Shape> {
    let wrong = || Error::invalid("input", "(N, C, H, W) in 32 bits", format!("{dims:?}"));
    let &[n, c, h, w] = dims else { return Err(wrong()) };
    let int = |dim: usize| u32::try_from(dim).map_err(|_| wrong());
    Ok(Shape::new(int(n)?, int(c)?, int(h)?, int(w)?))
}

fn conv_transpose(conv: &ConvTranspose, inputs: &[Operand<'_, f32>], dims: &[usize]) -> Vec<f32> {
    let (x, weights) = (inputs[0], inputs[1]);
    let (channels, outputs) = (x.dims[1], dims[1]);
    let groups = conv.groups as usize;
    let (per_group, outputs_per_group) = (channels / groups, outputs / groups);
    let [kernel_height, kernel_width] = conv.kernel.map(|k| k as usize);
    let (in_plane, plane) = (x.dims[2] * x.dims[3], dims[2] * dims[3]);
    let place = |at: usize, tap: usize, axis: usize| {
        let at = at * conv.stride[axis] as usize + tap * conv.dilation[axis] as usize;
        at.checked_sub(conv.padding[axis] as usize).filter(|&at| at < dims[2 + axis])
    };
    (0..dims[0] * outputs)
        .into_par_iter()
        .flat_map_iter(|index| {
            let (image, output) = (index / outputs, index % outputs);
            let bias = inputs.get(2).map_or(0.0, |bias| f64::from(bias.values[output]));
            let mut y = vec![bias; plane];
            for c in 0..per_group {
                let channel = output / outputs_per_group * per_group + c;
                let kernel = (channel * outputs_per_group + output % outputs_per_group)
                    * kernel_height
                    * kernel_width;
                for at in 0..in_plane {
                    let value = f64::from(x.values[(image * channels + channel) * in_plane + at]);
                    for tap in 0..kernel_height * kernel_width {
                        let row = place(at / x.dims[3], tap / kernel_width, 0);
                        let column = place(at % x.dims[3], tap % kernel_width, 1);
                        if let (Some(row), Some(column)) = (row, column) {
                            y[row * dims[3] + column] +=
                                value * f64::from(weights.values[kernel + tap]);
                        }
                    }
                }
            }
            y.into_iter().map(|y| y as f32)
        })
        .collect()
}

fn pool(window: &Pool, x: Operand<'_, f32>, dims: &[usize]) -> Vec<f32> {
    let (height, width) = (x.dims[2] as i64, x.dims[3] as i64);
    let [kernel_height, kernel_width] = window.kernel.map(i64::from);
    let [top, left, bottom, right] = window.padding.map(i64::from);
    let plane = dims[2] * dims[3];
    (0..dims[0] * dims[1])
        .into_par_iter()
        .flat_map_iter(|channel| {
            (0..plane).map(move |at| {
                let place = |at: usize, tap: i64, axis: usize, front: i64| {
                    at as i64 * i64::from(window.stride[axis])
                        + tap * i64::from(window.dilation[axis])
                        - front
                };
                let (mut sum, mut largest, mut inside, mut padded) = (0.0, f32::NEG_INFINITY, 0, 0);
                let mut place_of_largest = 0;
                for ky in 0..kernel_height {
                    let iy = place(at / dims[3], ky, 0, top);
                    for kx in 0..kernel_width {
                        let ix = place(at % dims[3], kx, 1, left);
                        padded += i32::from(iy < height + bottom && ix < width + right);
                        if (0..height).contains(&iy) && (0..width).contains(&ix) {
                            let place = iy * width + ix;
                            let value =
                                x.values[(channel as i64 * height * width + place) as usize];
                            sum += f64::from(value);
                            if inside == 0 || value > largest {
                                place_of_largest = place;
                            }
                            largest = largest.max(value);
                            inside += 1;
                        }
                    }
                }
                match window.kind {
                    PoolKind::Max => largest,
                    PoolKind::PlaceOfMax => place_of_largest as f32,
                    PoolKind::Sum => sum as f32,
                    PoolKind::Average { count_padding } => {
                        (sum / f64::from(if count_padding { padded } else { inside })) as f32
                    }
                }
            })
        })
        .collect()
}

fn reduce(reduction: Reduction, axes: &[usize], x: Operand<'_, f32>, dims: &[usize]) -> Vec<f32> {
    let first = match reduction {
        Reduction::Mean | Reduction::Sum => 0.0,
        Reduction::Max => f64::NEG_INFINITY,
        Reduction::Min => f64::INFINITY,
        Reduction::Product => 1.0,
    };
    let mut y = vec![first; dims.iter().product()];
    let steps = broadcast_strides(dims, x.dims).into_iter().map(|s| s as i64).collect();
    for (at, &value) in Offsets::new(x.dims, steps, 0).zip(x.values) {
        let value = f64::from(value);
        y[at] = match reduction {
            Reduction::Mean | Reduction::Sum => y[at] + value,
            Reduction::Max => y[at].max(value),
            Reduction::Min => y[at].min(value),
            Reduction::Product => y[at] * value,
        };
    }
    let count: usize = axes.iter().map(|&axis| x.dims[axis]).product();
    let divisor = if reduction == Reduction::Mean { count as f64 } else { 1.0 };
    y.into_iter().map(|y| (y / divisor) as f32).collect()
}

fn softmax(axis: usize, x: Operand<'_, f32>) -> Vec<f32> {
    let inner: usize = x.dims[axis + 1..].iter().product();
    let length = x.dims[axis];
    let mut y = vec![0.0; x.values.len()];
    for row in 0..x.values.len() / length {
        let first = row / inner * inner * length + row % inner;
        let at = |i: usize| first + i * inner;
        let largest = (0..length).map(|i| x.values[at(i)]).fold(f32::NEG_INFINITY, f32::max);
        let exp = |i: usize| (f64::from(x.values[at(i)]) - f64::from(largest)).exp();
        let sum: f64 = (0..length).map(exp).sum();
        for i in 0..length {
            y[at(i)] = (exp(i) / sum) as f32;
        }
    }
    y
}

fn resize(axes: &[Taps], x: Operand<'_, f32>, dims: &[usize]) -> Vec<f32> {
    // One axis after the other, in f64: the weights of a pair multiply.
    let mut values: Vec<f64> = x.values.iter().map(|&x| f64::from(x)).collect();
    let mut current = x.dims.to_vec();
    for taps in axes {
        let inner: usize = current[taps.axis + 1..].iter().product();
        let outer: usize = current[..taps.axis].iter().product();
        let length = current[taps.axis];
        current[taps.axis] = dims[taps.axis];
        let mut y = Vec::with_capacity(outer * dims[taps.axis] * inner);
        for row in 0..outer {
            for i in 0..dims[taps.axis] {
                let taps: Vec<(usize, f64)> = (i * taps.count..(i + 1) * taps.count)
                    .map(|t| (taps.indices[t] as usize, f64::from(taps.weights[t])))
                    .collect();
                y.extend((0..inner).map(|column| {
                    let value = |at: usize| values[(row * length + at) * inner + column];
                    taps.iter().map(|&(at, weight)| weight * value(at)).sum::<f64>()
                }));
            }
        }
        values = y;
    }
    values.into_iter().map(|y| y as f32).collect()
}

fn matmul(a: Operand<'_, f32>, b: Operand<'_, f32>, dims: &[usize]) -> Vec<f32> {
    let batch = &dims[..dims.len() - 2];
    let (rows, columns) = (dims[dims.len() - 2], dims[dims.len() - 1]);
    let depth = a.dims[a.dims.len() - 1];
    let matrices = |x: Operand<'_, f32>| -> Vec<usize> {
        let steps = broadcast_strides(&x.dims[..x.dims.len() - 2], batch);
        let steps = steps.into_iter().map(|s| s as i64).collect();
        Offsets::new(batch, steps, 0).collect()
    };
    let (first, second) = (matrices(a), matrices(b));
    (0..first.len() * rows)
        .into_par_iter()
        .flat_map_iter(|index| {
            let (matrix, row) = (index / rows, index % rows);
            let a = &a.values[(first[matrix] * rows + row) * depth..][..depth];
            let b = &b.values[second[matrix] * depth * columns..];
            (0..columns).map(move |column| {
                let products = a.iter().enumerate();
                let product =
                    |(k, &a): (usize, &f32)| f64::from(a) * f64::from(b[k * columns + column]);
                products.map(product).sum::<f64>() as f32
            })
        })
        .collect()
}

/// The value of a function of integers, which shape arithmetic needs; `None` where 64 bits don't hold it.
pub(crate) fn integer(op: Binary, a: i64, b: i64) -> Option<i64> {
    match op {
        Binary::Add => a.checked_add(b),
        Binary::Sub => a.checked_sub(b),
        Binary::Mul => a.checked_mul(b),
        Binary::Div => a.checked_div(b),
        Binary::Pow => a.checked_pow(u32::try_from(b).ok()?),
        Binary::Min => Some(a.min(b)),
        Binary::Max => Some(a.max(b)),
        Binary::Remainder => a.checked_rem(b),
        Binary::Equal => Some(i64::from(a == b)),
        Binary::Less => Some(i64::from(a < b)),
        Binary::LessOrEqual => Some(i64::from(a <= b)),
        Binary::Gate => Some(if b == 0 { 0 } else { a }),
        Binary::PRelu => None,
    }
}
