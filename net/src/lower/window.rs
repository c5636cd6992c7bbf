//! Windows that move over an image: padding that follows from its size, pooling, transposed convolutions.

use super::builder::{Context, Lowered};
use crate::ir::graph::{AutoPad, Kind, Op};
use crate::ir::op::{Binary, PoolKind};
use crate::ir::program::{ConvTranspose, Pool, StepOp};
use crate::ir::tensor::elements;
use crate::{Error, Result, cpu};

/// Geometry that convolutions and pools have in common, `[vertical, horizontal]`.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) kernel: [u32; 2],
    pub(crate) stride: [u32; 2],
    pub(crate) dilation: [u32; 2],
}

impl Window {
    fn check(&self) -> Result<()> {
        // The library's own limits, with channels that don't matter.
        let descriptor = dsconv::ConvDescriptor::new(1, 1, self.kernel)
            .with_stride(self.stride)
            .with_dilation(self.dilation);
        Ok(descriptor.validate()?)
    }

    /// Elements that the window reaches over, along an axis.
    fn reach(&self, axis: usize) -> i64 {
        i64::from(self.dilation[axis]) * (i64::from(self.kernel[axis]) - 1) + 1
    }

    /// `[top, left, bottom, right]` so that the output is the input over the stride, rounded up.
    pub(crate) fn same(&self, auto: AutoPad, input: [u32; 2]) -> Result<[u32; 4]> {
        self.check()?;
        let total = |axis: usize| {
            let output = i64::from(input[axis].div_ceil(self.stride[axis]));
            let needed = (output - 1) * i64::from(self.stride[axis]) + self.reach(axis);
            (needed - i64::from(input[axis])).max(0)
        };
        split(auto, [total(0), total(1)])
    }
}

/// Total padding cut in two: an odd rest goes behind, or in front.
fn split(auto: AutoPad, total: [i64; 2]) -> Result<[u32; 4]> {
    let front =
        total.map(|total| if auto == AutoPad::SameLower { total - total / 2 } else { total / 2 });
    let sides = [front[0], front[1], total[0] - front[0], total[1] - front[1]];
    let mut padding = [0; 4];
    for (padding, side) in padding.iter_mut().zip(sides) {
        *padding = u32::try_from(side)
            .map_err(|_| Error::invalid("padding", "a number in 32 bits, not negative", side))?;
    }
    Ok(padding)
}

/// Lowers a pooling window.
pub(crate) fn pool(context: &mut Context<'_>, op: &Op, x: &Lowered) -> Result<Lowered> {
    let Op::Pool { kind, kernel, stride, dilation, padding, auto_pad, ceil } = *op else {
        return Err(Error::invalid("operator", "Pool", op.name()));
    };
    let dims = context.dims(x);
    let shape = cpu::shape(&dims)?;
    let size = [shape.height, shape.width];
    let window = Window { kernel, stride, dilation };
    window.check()?;
    let padding = if auto_pad == AutoPad::None { padding } else { window.same(auto_pad, size)? };
    let mut to = dims.clone();
    for axis in 0..2 {
        let (front, back) = (i64::from(padding[axis]), i64::from(padding[axis + 2]));
        let (reach, by) = (window.reach(axis), i64::from(stride[axis]));
        if front >= reach || back >= reach {
            // Some window would see padding only.
            let expected = format!("below {reach}, the window's reach");
            return Err(Error::invalid("pads", expected, format!("{padding:?}")));
        }
        let room = i64::from(size[axis]) + front + back - reach;
        if room < 0 {
            let expected = format!("at least {reach} with padding");
            return Err(Error::invalid("input size", expected, format!("{dims:?}")));
        }
        let mut count = if ceil { (room + by - 1) / by + 1 } else { room / by + 1 };
        // A window that starts behind the input sees nothing of it.
        if ceil && (count - 1) * by >= i64::from(size[axis]) + front {
            count -= 1;
        }
        to[axis + 2] = count as usize;
    }
    let op = StepOp::Pool(Pool { kind, kernel, stride, dilation, padding });
    if kind != PoolKind::PlaceOfMax {
        return context.emit(op, std::slice::from_ref(x), to);
    }
    // Places count through the whole tensor, one plane after the other.
    let all = elements("input", &dims)?;
    if all > MOST_PLACES {
        return Err(Error::invalid("places", format!("at most {MOST_PLACES}"), all));
    }
    let places = context.compute(op, std::slice::from_ref(x), to, Kind::Integer)?;
    let planes = dims[0] * dims[1];
    let first = (0..planes).map(|plane| (plane * dims[2] * dims[3]) as f32).collect();
    let first = context.float(vec![dims[0], dims[1], 1, 1], first)?;
    context.binary(Binary::Add, [&places, &first], Kind::Integer)
}

/// The most elements whose places floats can tell apart.
const MOST_PLACES: usize = 1 << 24;

/// Lowers a transposed convolution.
pub(crate) fn conv_transpose(
    context: &mut Context<'_>,
    op: &Op,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let &Op::ConvTranspose {
        stride,
        dilation,
        padding,
        output_padding,
        output_size,
        auto_pad,
        groups,
    } = op
    else {
        return Err(Error::invalid("operator", "ConvTranspose", op.name()));
    };
    let (dims, weights) = (context.dims(&inputs[0]), context.dims(&inputs[1]));
    let input = cpu::shape(&dims)?;
    let kernel = cpu::shape(&weights)?;
    let window = Window { kernel: [kernel.height, kernel.width], stride, dilation };
    window.check()?;
    if groups == 0 || kernel.batch != input.channels || !input.channels.is_multiple_of(groups) {
        let expected = format!("({}, outputs per group, h, w), {groups} groups", input.channels);
        return Err(Error::invalid("weights", expected, format!("{weights:?}")));
    }
    let size = [input.height, input.width].map(i64::from);
    let by = stride.map(i64::from);
    let full = [0, 1].map(|axis| {
        by[axis] * (size[axis] - 1) + window.reach(axis) + i64::from(output_padding[axis])
    });
    let wanted = match output_size {
        Some(wanted) => Some(wanted.map(i64::from)),
        None if auto_pad != AutoPad::None => Some([size[0] * by[0], size[1] * by[1]]),
        None => None,
    };
    let padding = match wanted {
        // Unlike elsewhere, without SAME_UPPER the rest goes in front.
        Some(wanted) => {
            let order = if auto_pad == AutoPad::SameUpper { auto_pad } else { AutoPad::SameLower };
            split(order, [full[0] - wanted[0], full[1] - wanted[1]])?
        }
        None => padding,
    };
    let mut to = vec![dims[0], weights[1].saturating_mul(groups as usize)];
    for axis in 0..2 {
        let extent = full[axis] - i64::from(padding[axis]) - i64::from(padding[axis + 2]);
        let extent = usize::try_from(extent).ok().filter(|&extent| extent > 0);
        to.push(extent.ok_or_else(|| {
            Error::invalid(
                "pads",
                format!("less than {} in all", full[axis]),
                format!("{padding:?}"),
            )
        })?);
    }
    if let Some(bias) = inputs.get(2) {
        let bias = context.dims(bias);
        if bias != to[1..2] {
            return Err(Error::invalid(
                "bias",
                format!("dims {:?}", &to[1..2]),
                format!("{bias:?}"),
            ));
        }
    }
    for known in &inputs[1..] {
        if context.constant(known).is_none() {
            return Err(Error::invalid("weights", "constants", "values of the run"));
        }
    }
    let op = StepOp::ConvTranspose(ConvTranspose {
        kernel: window.kernel,
        stride,
        dilation,
        padding: [padding[0], padding[1]],
        groups,
    });
    context.emit(op, inputs, to)
}
