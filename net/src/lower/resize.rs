//! Resize as tables of taps: for each output coordinate a few input coordinates and their weights.

use super::builder::{Context, Lowered, integers};
use crate::ir::graph::{Aspect, Coordinates, Interpolation, Kind, Op, ResizeOptions, Rounding};
use crate::ir::op::{Binary, Unary};
use crate::ir::program::{StepOp, Taps};
use crate::ir::tensor::{axis_of, elements};
use crate::{Error, Result};

/// The longest axis that is resampled: its table is made in full.
const LONGEST: usize = 1 << 20;

/// The most taps of an axis.
const MOST_TAPS: usize = 1 << 24;

/// Resamples the axes that change, one or two of them in a step.
pub(crate) fn resize(context: &mut Context<'_>, op: &Op, inputs: &[Lowered]) -> Result<Lowered> {
    let Op::Resize { interpolation, coordinates, axes, options } = op else {
        return Err(Error::invalid("operator", "Resize", op.name()));
    };
    let dims = context.dims(&inputs[0]);
    let axes = if axes.is_empty() {
        (0..dims.len()).collect::<Vec<_>>()
    } else {
        axes.iter().map(|&axis| axis_of(axis, dims.len())).collect::<Result<_>>()?
    };
    let (to, scales) = output(context, &dims, &axes, options.aspect, &inputs[1])?;
    elements("output", &to)?;
    let part = part(context, dims.len(), &axes, inputs.get(2))?;
    let mapping = |axis: usize| AxisMapping {
        coordinates: *coordinates,
        scale: scales[axis],
        input: dims[axis],
        output: to[axis],
        part: part[axis],
    };
    let crop = *coordinates == Coordinates::Crop;
    let changes = |axis: usize| match crop {
        true => axes.contains(&axis),
        // A mean over all of an axis that stays is the axis.
        false if options.antialias => to[axis] != dims[axis],
        false => to[axis] != dims[axis] || scales[axis] != 1.0,
    };
    let changing: Vec<usize> = (0..dims.len()).filter(|&axis| changes(axis)).collect();
    let mut y = inputs[0].clone();
    let mut current = dims.clone();
    for pair in changing.chunks(2) {
        let tables: Vec<Taps> = pair
            .iter()
            .map(|&axis| {
                let table = mapping(axis).table(axis, *interpolation, *options)?;
                // A place and a weight each.
                context.make(table.indices.len(), 8)?;
                Ok(table)
            })
            .collect::<Result<_>>()?;
        pair.iter().for_each(|&axis| current[axis] = to[axis]);
        y = context.emit(StepOp::Resize { axes: tables }, &[y], current.clone())?;
    }
    if !crop || options.outside == 0.0 {
        return Ok(y);
    }
    // What lies outside has no weight so far.
    let mut inside = context.number(1.0)?;
    for axis in changing {
        let mapping = mapping(axis);
        let mut along = vec![1; dims.len()];
        along[axis] = to[axis];
        let here = (0..to[axis]).map(|x| f32::from(u8::from(mapping.is_inside(x))));
        let here = context.float(along, here.collect())?;
        inside = context.binary(Binary::Mul, [&inside, &here], Kind::Float)?;
    }
    let outside = context.unary(Unary::Not, &inside, Kind::Float)?;
    let value = context.number(options.outside)?;
    let added = context.binary(Binary::Mul, [&outside, &value], Kind::Float)?;
    context.binary(Binary::Add, [&y, &added], Kind::Float)
}

/// The dims of the output, and the scale of each axis. In f32, as ONNX Runtime computes it: where a coordinate falls on
/// an edge, that decides.
fn output(
    context: &Context<'_>,
    dims: &[usize],
    axes: &[usize],
    aspect: Aspect,
    by: &Lowered,
) -> Result<(Vec<usize>, Vec<f32>)> {
    let given = context.dims(by);
    if given != [axes.len()] {
        let expected = format!("{} numbers", axes.len());
        return Err(Error::invalid("scales or sizes", expected, format!("dims {given:?}")));
    }
    let whole = |size: f32, what: f32| match size >= 1.0 && size <= LONGEST as f32 {
        true => Ok(size as usize),
        false => Err(Error::invalid("scale", format!("a size of 1 to {LONGEST}"), what)),
    };
    let (mut to, mut scales) = (dims.to_vec(), vec![1.0f32; dims.len()]);
    if let Some(factors) = context.constant(by) {
        for (&axis, &factor) in axes.iter().zip(factors.iter()) {
            to[axis] = whole((factor * dims[axis] as f32).floor(), factor)?;
            scales[axis] = factor;
        }
        return Ok((to, scales));
    }
    for (&axis, &size) in axes.iter().zip(integers(by, "sizes")?) {
        let fits = usize::try_from(size).ok().filter(|&size| (1..=LONGEST).contains(&size));
        to[axis] = fits.ok_or_else(|| Error::invalid("size", format!("1 to {LONGEST}"), size))?;
        scales[axis] = to[axis] as f32 / dims[axis] as f32;
    }
    let wanted = axes.iter().map(|&axis| scales[axis]);
    let one = match aspect {
        Aspect::Stretch => return Ok((to, scales)),
        Aspect::NotLarger => wanted.fold(f32::INFINITY, f32::min),
        Aspect::NotSmaller => wanted.fold(0.0, f32::max),
    };
    for &axis in axes {
        to[axis] = whole((one * dims[axis] as f32).round(), one)?;
        scales[axis] = one;
    }
    Ok((to, scales))
}

/// Start and end of the part of each axis, as shares of it.
fn part(
    context: &Context<'_>,
    rank: usize,
    axes: &[usize],
    given: Option<&Lowered>,
) -> Result<Vec<[f32; 2]>> {
    let mut part = vec![[0.0, 1.0]; rank];
    let Some(given) = given else { return Ok(part) };
    let values = context.constant(given).filter(|values| values.len() == 2 * axes.len());
    let values = values.ok_or_else(|| {
        let expected = format!("{} floats known beforehand", 2 * axes.len());
        Error::invalid("roi", expected, format!("dims {:?}", context.dims(given)))
    })?;
    for (index, &axis) in axes.iter().enumerate() {
        part[axis] = [values[index], values[index + axes.len()]];
    }
    Ok(part)
}

/// Coordinates so near to the middle between two pixels lie in it, as for ONNX Runtime.
const HALF: f32 = 1e-6;

/// The way that one axis of an output maps to the input.
struct AxisMapping {
    coordinates: Coordinates,
    scale: f32,
    input: usize,
    output: usize,
    /// Start and end of the part that counts, as shares of the axis.
    part: [f32; 2],
}

impl AxisMapping {
    fn coordinate(&self, x: usize) -> f32 {
        let (x, output, input) = (x as f32, self.output as f32, self.input as f32);
        match self.coordinates {
            Coordinates::PytorchHalfPixel if self.output <= 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => (x + 0.5) / self.scale - 0.5,
            Coordinates::Asymmetric => x / self.scale,
            Coordinates::AlignCorners if self.output <= 1 => 0.0,
            Coordinates::AlignCorners => x * (input - 1.0) / (output - 1.0),
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output / (self.scale * input);
                let offset = input / 2.0 * (1.0 - adjustment);
                // This sum in f64, as there.
                (f64::from(offset) + (f64::from(x) + 0.5) / f64::from(self.scale) - 0.5) as f32
            }
            Coordinates::Crop if self.output <= 1 => {
                0.5 * (self.part[0] + self.part[1]) * (input - 1.0)
            }
            Coordinates::Crop => {
                let [start, end] = self.part;
                start * (input - 1.0) + x * (end - start) * (input - 1.0) / (output - 1.0)
            }
        }
    }

    /// Whether an output coordinate lies inside of the picture.
    fn is_inside(&self, x: usize) -> bool {
        (0.0..=self.input as f32 - 1.0).contains(&self.coordinate(x))
    }

    /// The taps of an axis, with what few models ask for.
    fn table(
        &self,
        axis: usize,
        interpolation: Interpolation,
        options: ResizeOptions,
    ) -> Result<Taps> {
        let wide = options.antialias.then(|| filter(interpolation)).flatten();
        let mut taps = match wide {
            Some((filter, support)) => {
                self.means(axis, filter, support, options.exclude_outside)?
            }
            None => self.taps(axis, interpolation, options.exclude_outside),
        };
        if self.coordinates == Coordinates::Crop {
            for (x, weights) in taps.weights.chunks_mut(taps.count).enumerate() {
                if !self.is_inside(x) {
                    weights.fill(0.0);
                }
            }
        }
        Ok(taps)
    }

    /// The taps of a mean over all samples that a filter reaches, whose width grows as the picture shrinks. In f32, as
    /// ONNX Runtime computes them.
    fn means(
        &self,
        axis: usize,
        filter: impl Fn(f32) -> f32,
        support: f32,
        exclude_outside: bool,
    ) -> Result<Taps> {
        let width = (1.0 / self.scale).max(1.0);
        let (support, last) = (support * width, self.input as i64 - 1);
        let count = 2 * support.ceil() as usize + 1;
        let all = count.saturating_mul(self.output);
        if all > MOST_TAPS {
            return Err(Error::invalid("antialias", format!("at most {MOST_TAPS} taps"), all));
        }
        let (mut indices, mut weights) = (Vec::new(), Vec::new());
        for x in 0..self.output {
            let centre = self.coordinate(x) + 0.5;
            let first = (centre - support + 0.5).floor() as i64;
            let end = ((centre + support + 0.5).floor() as i64).min(first + count as i64);
            let weight = |place: i64| match place < end {
                true if exclude_outside && !(0..=last).contains(&place) => 0.0,
                true => filter((place as f32 - centre + 0.5) / width),
                false => 0.0,
            };
            let places = first..first + count as i64;
            let sum: f32 = places.clone().map(weight).sum();
            weights.extend(places.clone().map(|place| match sum == 0.0 {
                true => 0.0,
                false => weight(place) / sum,
            }));
            indices.extend(places.map(|place| place.clamp(0, last) as u32));
        }
        Ok(Taps { axis, count, indices, weights })
    }

    fn taps(&self, axis: usize, interpolation: Interpolation, exclude_outside: bool) -> Taps {
        let last = self.input as i64 - 1;
        let clamp = |at: f32| (at as i64).clamp(0, last) as u32;
        let count = match interpolation {
            Interpolation::Nearest(_) => 1,
            Interpolation::Linear => 2,
            Interpolation::Cubic(_) => 4,
        };
        let (mut indices, mut weights) = (Vec::new(), Vec::new());
        for x in 0..self.output {
            let at = self.coordinate(x);
            match interpolation {
                Interpolation::Nearest(rounding) => {
                    let half = (at - at.floor() - 0.5).abs() <= HALF;
                    indices.push(clamp(match rounding {
                        Rounding::PreferFloor if half => at.floor(),
                        Rounding::PreferCeil if half => at.ceil(),
                        Rounding::PreferFloor | Rounding::PreferCeil => at.round(),
                        Rounding::Floor => at.floor(),
                        Rounding::Ceil => at.ceil(),
                    }));
                    weights.push(1.0);
                }
                Interpolation::Linear => {
                    let at = at.clamp(0.0, last as f32);
                    let low = clamp(at);
                    let part = at - low as f32;
                    indices.extend([low, (low + 1).min(last as u32)]);
                    weights.extend([1.0 - part, part]);
                }
                Interpolation::Cubic(a) => {
                    let part = at - at.floor();
                    indices.extend((-1i8..=2).map(|tap| clamp(at.floor() + f32::from(tap))));
                    let mut here = cubic(a, part);
                    if exclude_outside {
                        for (tap, weight) in (-1i8..=2).zip(&mut here) {
                            let place = (at.floor() + f32::from(tap)) as i64;
                            *weight *= f32::from(u8::from((0..=last).contains(&place)));
                        }
                        let sum: f32 = here.iter().sum();
                        here = here.map(|weight| weight / sum);
                    }
                    weights.extend(here);
                }
            }
        }
        Taps { axis, count, indices, weights }
    }
}

/// The cubic convolution kernel at -1 - s, -s, 1 - s and 2 - s.
fn cubic(a: f32, s: f32) -> [f32; 4] {
    let far = |d: f32| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    let near = |d: f32| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    [far(s + 1.0), near(s), near(1.0 - s), far(2.0 - s)]
}

/// The filter of an interpolation by its distance, and how far it reaches; none for the nearest sample.
fn filter(interpolation: Interpolation) -> Option<(impl Fn(f32) -> f32, f32)> {
    let (a, support) = match interpolation {
        Interpolation::Nearest(_) => return None,
        Interpolation::Linear => (None, 1.0),
        Interpolation::Cubic(a) => (Some(a), 2.0),
    };
    let filter = move |x: f32| match (a, x.abs()) {
        (None, x) => (1.0 - x).max(0.0),
        (Some(a), x) if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        (Some(a), x) if x < 2.0 => a * (((x - 5.0) * x + 8.0) * x - 4.0),
        (Some(_), _) => 0.0,
    };
    Some((filter, support))
}
