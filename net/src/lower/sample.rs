//! Lowering of samples at places that the run may compute: grids and boxes. Places become indices of the flattened
//! image and weights, which fold where the places are known.

use super::builder::{Context, Lowered};
use super::order::remainder_of_floor;
use crate::ir::graph::{GridInterpolation, GridPadding, Kind, Op, RoiAlign};
use crate::ir::op::{Binary, Reduction, Unary};
use crate::ir::program::StepOp;
use crate::ir::tensor::{elements, strides};
use crate::{Error, Result};

/// The most samples of a box along one side.
const MOST_SAMPLES: usize = 1 << 16;

/// The coefficient of cubic samples.
const CUBIC: f32 = -0.75;

/// Arithmetic of floats with numbers.
impl Context<'_> {
    fn by(&mut self, op: Binary, x: &Lowered, number: f32) -> Result<Lowered> {
        let number = self.number(number)?;
        self.binary(op, [x, &number], Kind::Float)
    }

    fn with(&mut self, op: Binary, a: &Lowered, b: &Lowered) -> Result<Lowered> {
        self.binary(op, [a, b], Kind::Float)
    }

    /// `number - x`.
    fn less(&mut self, number: f32, x: &Lowered) -> Result<Lowered> {
        let negative = self.unary(Unary::Neg, x, Kind::Float)?;
        self.by(Binary::Add, &negative, number)
    }

    fn clamped(&mut self, x: &Lowered, low: f32, high: f32) -> Result<Lowered> {
        let y = self.by(Binary::Max, x, low)?;
        self.by(Binary::Min, &y, high)
    }
}

/// A sample along one axis: whole places inside of the image, and their weight.
#[derive(Clone)]
struct Tap {
    place: Lowered,
    weight: Option<Lowered>,
}

/// Samples of an image at the places of a grid.
pub(crate) fn grid_sample(
    context: &mut Context<'_>,
    op: &Op,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let &Op::GridSample { interpolation, padding, align_corners } = op else {
        return Err(Error::invalid("operator", "GridSample", op.name()));
    };
    let (dims, grid) = (context.dims(&inputs[0]), context.dims(&inputs[1]));
    let axes = dims.len().saturating_sub(2);
    let fits = (1..=3).contains(&axes)
        && grid.len() == dims.len()
        && grid[0] == dims[0]
        && grid[axes + 1] == axes;
    if !fits {
        let expected = format!("places (N, .., {axes}) in an image (N, C, ..) of {dims:?}");
        return Err(Error::invalid("grid", expected, format!("{grid:?}")));
    }
    let (batch, channels) = (dims[0], dims[1]);
    let count = elements("grid", &grid[1..=axes])?;
    let places = context.view(&inputs[1], vec![batch, count, axes])?;
    let mut taps = Vec::new();
    for axis in 0..axes {
        let length = dims[axis + 2];
        // The innermost axis comes first.
        let slice = StepOp::Slice { start: vec![0, 0, axes - 1 - axis], step: vec![1; 3] };
        let at = vec![batch, count, 1];
        let at = context.compute(slice, std::slice::from_ref(&places), at, Kind::Float)?;
        let at = context.view(&at, vec![batch, 1, count])?;
        let at = context.by(Binary::Add, &at, 1.0)?;
        let at = if align_corners {
            context.by(Binary::Mul, &at, 0.5 * (length as f32 - 1.0))?
        } else {
            let at = context.by(Binary::Mul, &at, length as f32)?;
            let at = context.by(Binary::Sub, &at, 1.0)?;
            context.by(Binary::Mul, &at, 0.5)?
        };
        let mut along = Vec::new();
        for (place, weight) in around(context, &at, interpolation)? {
            along.push(padded(context, Tap { place, weight }, length, padding, align_corners)?);
        }
        taps.push(along);
    }
    let flat = vec![batch, channels, elements("input", &dims[2..])?];
    let image = context.view(&inputs[0], flat)?;
    let to = vec![batch, channels, count];
    let taps = combined(context, &dims[2..], &taps)?;
    let y = weighted(context, &image, &taps, to)?;
    context.view(&y, [&dims[..2], &grid[1..=axes]].concat())
}

/// The whole places around places, with their weights.
fn around(
    context: &mut Context<'_>,
    at: &Lowered,
    interpolation: GridInterpolation,
) -> Result<Vec<(Lowered, Option<Lowered>)>> {
    if interpolation == GridInterpolation::Nearest {
        return Ok(vec![(context.unary(Unary::Round, at, Kind::Float)?, None)]);
    }
    let low = context.unary(Unary::Floor, at, Kind::Float)?;
    let part = context.with(Binary::Sub, at, &low)?;
    if interpolation == GridInterpolation::Linear {
        let high = context.by(Binary::Add, &low, 1.0)?;
        let rest = context.less(1.0, &part)?;
        return Ok(vec![(low, Some(rest)), (high, Some(part))]);
    }
    let mut taps = Vec::new();
    for tap in [-1.0, 0.0, 1.0, 2.0] {
        let place = context.by(Binary::Add, &low, tap)?;
        // The distance to the tap, and the kernel there.
        let distance = if tap <= 0.0 {
            context.by(Binary::Add, &part, -tap)?
        } else {
            context.less(tap, &part)?
        };
        let far = [CUBIC, -5.0 * CUBIC, 8.0 * CUBIC, -4.0 * CUBIC];
        let near = [CUBIC + 2.0, -(CUBIC + 3.0), 0.0, 1.0];
        let coefficients = if tap == 0.0 || tap == 1.0 { near } else { far };
        let mut weight = context.number(coefficients[0])?;
        for coefficient in &coefficients[1..] {
            weight = context.with(Binary::Mul, &weight, &distance)?;
            weight = context.by(Binary::Add, &weight, *coefficient)?;
        }
        taps.push((place, Some(weight)));
    }
    Ok(taps)
}

/// A tap that may lie outside, brought inside.
fn padded(
    context: &mut Context<'_>,
    tap: Tap,
    length: usize,
    padding: GridPadding,
    align_corners: bool,
) -> Result<Tap> {
    let last = length as f32 - 1.0;
    let Tap { place, weight } = tap;
    match padding {
        GridPadding::Border => Ok(Tap { place: context.clamped(&place, 0.0, last)?, weight }),
        GridPadding::Zeros => {
            let inside = context.clamped(&place, 0.0, last)?;
            let is_inside = context.with(Binary::Equal, &inside, &place)?;
            let weight = match weight {
                Some(weight) => context.with(Binary::Mul, &weight, &is_inside)?,
                None => is_inside,
            };
            Ok(Tap { place: inside, weight: Some(weight) })
        }
        GridPadding::Reflection => {
            let low = if align_corners { 0.0 } else { -0.5 };
            let range = last - 2.0 * low;
            let mut y = place;
            if range > 0.0 {
                // Twice the range is a period, whose second half runs back.
                y = context.by(Binary::Sub, &y, low)?;
                y = remainder_of_floor(context, &y, 2.0 * range)?;
                y = context.by(Binary::Sub, &y, range)?;
                y = context.unary(Unary::Abs, &y, Kind::Float)?;
                y = context.less(low + range, &y)?;
            }
            Ok(Tap { place: context.clamped(&y, 0.0, last)?, weight })
        }
    }
}

/// Every choice of one tap per axis, as a place in the flattened image.
fn combined(context: &mut Context<'_>, dims: &[usize], axes: &[Vec<Tap>]) -> Result<Vec<Tap>> {
    let steps = strides(dims);
    let mut all: Vec<Tap> = Vec::new();
    for (taps, &step) in axes.iter().zip(&steps) {
        let mut next = Vec::new();
        for tap in taps {
            let place = context.by(Binary::Mul, &tap.place, step as f32)?;
            if all.is_empty() {
                next.push(Tap { place: place.clone(), weight: tap.weight.clone() });
            }
            for outer in &all {
                let place = context.with(Binary::Add, &outer.place, &place)?;
                let weight = match (&outer.weight, &tap.weight) {
                    (Some(a), Some(b)) => Some(context.with(Binary::Mul, a, b)?),
                    (one, other) => one.clone().or_else(|| other.clone()),
                };
                next.push(Tap { place, weight });
            }
        }
        all = next;
    }
    Ok(all)
}

/// The weighted sum of the elements of a flattened image (N, C, places) at taps (N, 1, samples).
fn weighted(
    context: &mut Context<'_>,
    image: &Lowered,
    taps: &[Tap],
    to: Vec<usize>,
) -> Result<Lowered> {
    let mut sum: Option<Lowered> = None;
    for tap in taps {
        let pair = [image.clone(), tap.place.clone()];
        let mut value =
            context.compute(StepOp::Pick { axis: 2 }, &pair, to.clone(), Kind::Float)?;
        if let Some(weight) = &tap.weight {
            value = context.with(Binary::Mul, &value, weight)?;
        }
        sum = Some(match sum {
            None => value,
            Some(sum) => context.with(Binary::Add, &sum, &value)?,
        });
    }
    sum.ok_or_else(|| Error::invalid("samples", "at least one", 0))
}

/// Pooled samples of boxes.
pub(crate) fn roi_align(
    context: &mut Context<'_>,
    roi: &RoiAlign,
    inputs: &[Lowered],
) -> Result<Lowered> {
    let [x, boxes, images] = inputs else {
        return Err(Error::invalid("inputs", "3", inputs.len()));
    };
    let &[batch, channels, height, width] = &context.dims(x)[..] else {
        let got = format!("{:?}", context.dims(x));
        return Err(Error::invalid("input", "(N, C, H, W)", got));
    };
    let &[count, 4] = &context.dims(boxes)[..] else {
        let got = format!("{:?}", context.dims(boxes));
        return Err(Error::invalid("rois", "(R, 4)", got));
    };
    if roi.samples == 0 {
        let expected = "a number of samples, as the size of the boxes is known to the run only";
        return Err(Error::invalid("sampling_ratio", expected, 0));
    }
    let samples = roi.samples as usize;
    // From (N, C, places) to (1, C, all places).
    let plane = height * width;
    let image = context.view(x, vec![batch, channels, plane])?;
    let op = StepOp::Transpose { permutation: vec![1, 0, 2] };
    let image = context.compute(op, &[image], vec![channels, batch, plane], Kind::Float)?;
    let image = context.view(&image, vec![1, channels, batch * plane])?;
    let offset = if roi.half_pixel { 0.5 } else { 0.0 };
    let side = |context: &mut Context<'_>, column: usize| -> Result<Lowered> {
        let slice = StepOp::Slice { start: vec![0, column], step: vec![1; 2] };
        let side =
            context.compute(slice, std::slice::from_ref(boxes), vec![count, 1], Kind::Float)?;
        let side = context.by(Binary::Mul, &side, roi.scale)?;
        context.by(Binary::Sub, &side, offset)
    };
    let mut axes = Vec::new();
    let lengths = [height, width];
    for (axis, &length) in lengths.iter().enumerate() {
        let (start, end) = (side(context, 1 - axis)?, side(context, 3 - axis)?);
        let mut extent = context.with(Binary::Sub, &end, &start)?;
        if !roi.half_pixel {
            extent = context.by(Binary::Max, &extent, 1.0)?;
        }
        let cells = roi.size[axis] as usize;
        let steps = cells.saturating_mul(samples);
        if steps > MOST_SAMPLES {
            return Err(Error::invalid("samples", format!("at most {MOST_SAMPLES}"), steps));
        }
        let shares = (0..steps).map(|i| (i as f32 + 0.5) / steps as f32).collect();
        let shares = context.float(vec![1, steps], shares)?;
        let at = context.with(Binary::Mul, &extent, &shares)?;
        let at = context.with(Binary::Add, &at, &start)?;
        // Along its axis of (R, 1, rows, columns).
        let along = if axis == 0 { vec![count, 1, steps, 1] } else { vec![count, 1, 1, steps] };
        let at = context.view(&at, along)?;
        axes.push(box_taps(context, &at, length)?);
    }
    let image_of = context.view(images, vec![count, 1, 1, 1])?;
    let first = context.by(Binary::Mul, &image_of, plane as f32)?;
    let mut taps = combined(context, &lengths, &axes)?;
    let [rows, columns] = roi.size.map(|cells| cells as usize * samples);
    let flat = vec![count, 1, elements("samples", &[rows, columns])?];
    for tap in &mut taps {
        let place = context.with(Binary::Add, &tap.place, &first)?;
        tap.place = context.view(&place, flat.clone())?;
        if let Some(weight) = &tap.weight {
            tap.weight = Some(context.view(weight, flat.clone())?);
        }
    }
    let all = vec![count, channels, flat[2]];
    let values = if roi.max {
        let mut largest: Option<Lowered> = None;
        for tap in &taps {
            let value = weighted(context, &image, std::slice::from_ref(tap), all.clone())?;
            largest = Some(match largest {
                None => value,
                Some(other) => context.with(Binary::Max, &other, &value)?,
            });
        }
        largest.ok_or_else(|| Error::invalid("samples", "at least one", 0))?
    } else {
        weighted(context, &image, &taps, all)?
    };
    let [cell_rows, cell_columns] = roi.size.map(|cells| cells as usize);
    let rows_of_cells = count * channels * cell_rows;
    let split = vec![rows_of_cells, samples, cell_columns, samples];
    let values = context.view(&values, split)?;
    let reduction = if roi.max { Reduction::Max } else { Reduction::Mean };
    let op = StepOp::Reduce { reduction, axes: vec![1, 3] };
    let y = context.compute(op, &[values], vec![rows_of_cells, 1, cell_columns, 1], Kind::Float)?;
    context.view(&y, vec![count, channels, cell_rows, cell_columns])
}

/// The two taps of places along an axis; those more than a pixel outside count nothing.
fn box_taps(context: &mut Context<'_>, at: &Lowered, length: usize) -> Result<Vec<Tap>> {
    let last = length as f32 - 1.0;
    let bounded = context.clamped(at, -1.0, length as f32)?;
    let inside = context.with(Binary::Equal, &bounded, at)?;
    let at = context.clamped(at, 0.0, last)?;
    let low = context.unary(Unary::Floor, &at, Kind::Float)?;
    let high = context.by(Binary::Add, &low, 1.0)?;
    let high = context.by(Binary::Min, &high, last)?;
    let part = context.with(Binary::Sub, &at, &low)?;
    let rest = context.less(1.0, &part)?;
    let mut taps = Vec::new();
    for (place, weight) in [(low, rest), (high, part)] {
        let weight = context.with(Binary::Mul, &weight, &inside)?;
        taps.push(Tap { place, weight: Some(weight) });
    }
    Ok(taps)
}
