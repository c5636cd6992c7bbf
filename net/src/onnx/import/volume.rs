//! Three axes by two: what lies along the depth becomes channels or another axis, so that the operators of images do
//! the rest. Sizes stay open, as they are computed from those of the input.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::{AutoPad, Op, ValueId};
use crate::ir::op::{Binary, PadMode};
use crate::ir::tensor::Tensor;

/// The geometry of a window along the depth.
#[derive(Clone, Copy)]
pub(crate) struct Depth {
    pub(crate) kernel: u32,
    pub(crate) stride: u32,
    pub(crate) dilation: u32,
    /// In front and behind.
    pub(crate) padding: [u32; 2],
    pub(crate) auto_pad: AutoPad,
}

impl Depth {
    /// Elements that the window reaches over, less 1.
    fn reach(self) -> i64 {
        i64::from(self.dilation) * (i64::from(self.kernel) - 1)
    }
}

/// The widths in front of and behind the depth of x: given, or as that depth needs them.
fn widths(context: &mut NodeContext<'_, '_>, x: ValueId, depth: Depth) -> Converted<[ValueId; 2]> {
    if depth.auto_pad == AutoPad::None {
        let list = |context: &mut NodeContext<'_, '_>, width: u32| {
            context.importer.list([i64::from(width)])
        };
        let [front, back] = depth.padding;
        return Ok([list(context, front), list(context, back)]);
    }
    let number = |context: &mut NodeContext<'_, '_>, value: i64| context.importer.list([value]);
    // (ceil(size / stride) - 1) * stride + reach + 1 - size, at least 0.
    let size = context.dims(x, 2, Some(3))?;
    let stride = number(context, i64::from(depth.stride));
    let less_1 = number(context, i64::from(depth.stride) - 1);
    let reach = number(context, depth.reach() + 1 - i64::from(depth.stride));
    let (zero, two) = (number(context, 0), number(context, 2));
    let up = context.binary(Binary::Add, size, less_1)?;
    let count = context.binary(Binary::Div, up, stride)?;
    let whole = context.binary(Binary::Mul, count, stride)?;
    let needed = context.binary(Binary::Add, whole, reach)?;
    let total = context.binary(Binary::Sub, needed, size)?;
    let total = context.binary(Binary::Max, total, zero)?;
    let half = context.binary(Binary::Div, total, two)?;
    let rest = context.binary(Binary::Sub, total, half)?;
    Ok(if depth.auto_pad == AutoPad::SameUpper { [half, rest] } else { [rest, half] })
}

/// Images of (N D', C kernel, H, W): for each place of the window along the depth the slices that it covers, as
/// channels.
pub(crate) fn windows(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    depth: Depth,
    channels: u32,
) -> Converted<ValueId> {
    if depth.kernel == 0 || depth.stride == 0 || depth.dilation == 0 || depth.kernel > 1 << 10 {
        return refuse("a depth of the kernel of 0 or over 1024");
    }
    let [front, back] = widths(context, x, depth)?;
    let widths = context.push(Op::Concat { axis: 0 }, [front, back])?;
    let axes = context.importer.list([2]);
    let padded = context.push(Op::Pad { mode: PadMode::Constant(0.0) }, [x, widths, axes])?;
    let mut taps = Vec::new();
    for tap in 0..i64::from(depth.kernel) {
        let start = tap * i64::from(depth.dilation);
        let end = match depth.reach() - start {
            0 => i64::MAX,
            behind => -behind,
        };
        let bounds = [start, end, 2, i64::from(depth.stride)];
        let mut inputs = vec![padded];
        inputs.extend(bounds.map(|bound| context.importer.list([bound])));
        let slice = context.push(Op::Slice, inputs)?;
        taps.push(context.push(Op::Unsqueeze { axes: vec![2] }, [slice])?);
    }
    // From (N, C, kernel, D', H, W) to (N, D', C, kernel, H, W).
    let taps = context.push(Op::Concat { axis: 2 }, taps)?;
    let taps = context.push(Op::Transpose { permutation: vec![0, 3, 1, 2, 4, 5] }, [taps])?;
    let image = context.dims(x, 3, None)?;
    let lead = context.importer.list([-1, i64::from(channels)]);
    context.reshape(taps, &[lead, image])
}

/// The slices (N D', O, H, W) of what x became as (N, O, D', H, W).
pub(crate) fn joined(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    y: ValueId,
    channels: u32,
) -> Converted<ValueId> {
    let batch = context.dims(x, 0, Some(1))?;
    let lead = context.importer.list([-1, i64::from(channels)]);
    let image = context.dims(y, 2, None)?;
    let y = context.reshape(y, &[batch, lead, image])?;
    context.push(Op::Transpose { permutation: vec![0, 2, 1, 3, 4] }, [y])
}

/// A pool along the depth and one of images, `[depth, image]`, of (N, C, D, H, W).
pub(crate) fn pooled(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    [along, image]: [Op; 2],
) -> Converted<ValueId> {
    let (lead, size) = (context.dims(x, 0, Some(1))?, context.dims(x, 3, None)?);
    let rest = context.importer.list([-1]);
    let flat = context.reshape(x, &[lead, rest, size])?;
    let y = context.push(image, [flat])?;
    let size = context.dims(y, 2, None)?;
    let lead = context.dims(x, 0, Some(3))?;
    let columns = context.reshape(y, &[lead, rest])?;
    let y = context.push(along, [columns])?;
    let lead = context.dims(x, 0, Some(2))?;
    context.reshape(y, &[lead, rest, size])
}

/// What a transposed convolution does along the depth.
pub(crate) struct Spread<'a> {
    pub(crate) depth: Depth,
    /// The dims of the weights.
    pub(crate) dims: &'a [usize],
    pub(crate) groups: u32,
    pub(crate) output_padding: u32,
    /// That of the depth, and height times width.
    pub(crate) output_size: Option<[u32; 2]>,
}

/// A transposed convolution: of images with an output for each tap along the depth, then one along the depth that puts
/// each tap's output at its place.
pub(crate) fn transposed(
    context: &mut NodeContext<'_, '_>,
    x: ValueId,
    op: Op,
    weights: ValueId,
    bias: Option<ValueId>,
    spread: &Spread<'_>,
) -> Converted<ValueId> {
    let depth = spread.depth;
    let &[inputs, outputs, taps, height, width] = spread.dims else {
        return refuse("weights of other axes");
    };
    let all = outputs.checked_mul(spread.groups as usize);
    let channels = all.and_then(|all| all.checked_mul(taps));
    let (Some(all), Some(channels)) =
        (all, channels.filter(|&count| count.saturating_mul(taps) <= 1 << 22))
    else {
        return Err(Error::invalid("channels", "at most 2^22 with all taps twice", outputs).into());
    };
    let dims = [inputs, outputs * taps, height, width].map(|dim| dim as i64);
    let weights = context.reshape_to(weights, &dims)?;
    // As slices, then the slices' outputs as columns.
    let turned = context.push(Op::Transpose { permutation: vec![0, 2, 1, 3, 4] }, [x])?;
    let image = context.dims(x, 3, None)?;
    let lead = context.importer.list([-1, (inputs) as i64]);
    let slices = context.reshape(turned, &[lead, image])?;
    let y = context.push(op, [slices, weights])?;
    let size = context.dims(y, 2, None)?;
    let (batch, length) = (context.dims(x, 0, Some(1))?, context.dims(x, 2, Some(3))?);
    let lead = context.importer.list([channels as i64, -1]);
    let y = context.reshape(y, &[batch, length, lead])?;
    let y = context.push(Op::Transpose { permutation: vec![0, 2, 1, 3] }, [y])?;
    // Of tap t, 1 at place t.
    let one_hot = (0..channels * taps).map(|at| f32::from(u8::from(at / taps % taps == at % taps)));
    let one_hot = Tensor::f32([channels, 1, taps, 1], one_hot.collect())?;
    let name = context.importer.node.clone();
    let one_hot = context.importer.constant(name, one_hot);
    let [front, back] = depth.padding;
    let along = Op::ConvTranspose {
        stride: [depth.stride, 1],
        dilation: [depth.dilation, 1],
        padding: [front, 0, back, 0],
        output_padding: [spread.output_padding, 0],
        output_size: spread.output_size,
        auto_pad: depth.auto_pad,
        groups: all as u32,
    };
    let inputs = [Some(y), Some(one_hot), bias].into_iter().flatten().collect::<Vec<_>>();
    let y = context.push(along, inputs)?;
    let lead = context.dims(y, 0, Some(3))?;
    context.reshape(y, &[lead, size])
}
