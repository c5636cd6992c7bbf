//! Resize as tables of taps: for each output coordinate a few input coordinates and their weights.

use super::builder::{Context, Lowered, integers};
use crate::ir::graph::{Coordinates, Interpolation, Rounding};
use crate::ir::program::{StepOp, Taps};
use crate::ir::tensor::{axis_of, elements};
use crate::{Error, Result};

/// The longest axis that is resampled: its table is made in full.
const LONGEST: usize = 1 << 20;

/// Resamples the axes that change, one or two of them in a step.
pub(crate) fn resize(
    context: &mut Context<'_>,
    interpolation: Interpolation,
    coordinates: Coordinates,
    axes: &[i64],
    inputs: &[Lowered],
) -> Result<Lowered> {
    let dims = context.dims(&inputs[0]);
    let axes = if axes.is_empty() {
        (0..dims.len()).collect::<Vec<_>>()
    } else {
        axes.iter().map(|&axis| axis_of(axis, dims.len())).collect::<Result<_>>()?
    };
    let given = context.dims(&inputs[1]);
    if given != [axes.len()] {
        return Err(Error::invalid(
            "scales or sizes",
            format!("{} numbers", axes.len()),
            format!("dims {given:?}"),
        ));
    }
    let (mut to, mut scales) = (dims.clone(), vec![1.0f32; dims.len()]);
    let factors = context.constant(&inputs[1]);
    for (index, &axis) in axes.iter().enumerate() {
        // In f32, as ONNX Runtime computes it: where a coordinate falls on an edge, that decides.
        (to[axis], scales[axis]) = match (&factors, &inputs[1]) {
            (Some(factors), _) => {
                let factor = factors[index];
                let size = (factor * dims[axis] as f32).floor();
                if !(size >= 1.0 && size <= LONGEST as f32) {
                    return Err(Error::invalid(
                        "scale",
                        format!("a size of 1 to {LONGEST}"),
                        factor,
                    ));
                }
                (size as usize, factor)
            }
            (None, sizes) => {
                let size = integers(sizes, "sizes")?[index];
                let fits = usize::try_from(size).ok().filter(|&size| (1..=LONGEST).contains(&size));
                let fits =
                    fits.ok_or_else(|| Error::invalid("size", format!("1 to {LONGEST}"), size))?;
                (fits, fits as f32 / dims[axis] as f32)
            }
        };
    }
    elements("output", &to)?;
    let tables: Vec<Taps> = (0..dims.len())
        .filter(|&axis| to[axis] != dims[axis] || scales[axis] != 1.0)
        .map(|axis| {
            let mapping = AxisMapping {
                coordinates,
                scale: scales[axis],
                input: dims[axis],
                output: to[axis],
            };
            mapping.taps(axis, interpolation)
        })
        .collect();
    let mut y = inputs[0].clone();
    let mut current = dims;
    for pair in tables.chunks(2) {
        pair.iter().for_each(|taps| current[taps.axis] = to[taps.axis]);
        y = context.emit(StepOp::Resize { axes: pair.to_vec() }, &[y], current.clone())?;
    }
    Ok(y)
}

/// Coordinates so near to the middle between two pixels lie in it, as for ONNX Runtime.
const HALF: f32 = 1e-6;

/// The way that one axis of an output maps to the input.
struct AxisMapping {
    coordinates: Coordinates,
    scale: f32,
    input: usize,
    output: usize,
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
        }
    }

    fn taps(&self, axis: usize, interpolation: Interpolation) -> Taps {
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
                    weights.extend(cubic(a, part));
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
