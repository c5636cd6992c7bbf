//! Resampling.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::Error;
use crate::ir::graph::{Aspect, Coordinates, Interpolation, Op, ResizeOptions, Rounding, ValueId};
use crate::ir::tensor::Tensor;

/// Resampling.
pub(crate) fn resize(context: &mut NodeContext<'_, '_>) -> Converted<ValueId> {
    let attributes = context.attributes;
    let x = context.input(0)?;
    let mode = attributes.string("mode", "nearest")?;
    let old = context.opset() < 11 || context.node.op_type == "Upsample";
    if old {
        let scales = match attributes.floats("scales")? {
            Some(scales) => {
                let scales = Tensor::f32([scales.len()], scales.to_vec())?;
                context.importer.constant(context.importer.node.clone(), scales)
            }
            None => context.input(1)?,
        };
        let shrinks = context.constant(scales).is_some_and(|scales| {
            scales.floats("scales").is_ok_and(|scales| scales.iter().any(|&scale| scale < 1.0))
        });
        let interpolation = match mode {
            "nearest" if !shrinks => Interpolation::Nearest(Rounding::Floor),
            "linear" | "bilinear" if !shrinks => Interpolation::Linear,
            mode => return refuse(format!("mode {mode}, shrinking, before opset 11")),
        };
        let op = Op::Resize {
            interpolation,
            coordinates: Coordinates::Asymmetric,
            axes: Vec::new(),
            options: ResizeOptions::default(),
        };
        return context.push(op, [x, scales]);
    }
    let rounding = match attributes.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return refuse(format!("nearest_mode {other}")),
    };
    let coefficient = attributes.float("cubic_coeff_a")?.unwrap_or(-0.75);
    let interpolation = match mode {
        "nearest" => Interpolation::Nearest(rounding),
        "linear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic(coefficient),
        mode => return refuse(format!("mode {mode}")),
    };
    let coordinates = match attributes.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "asymmetric" => Coordinates::Asymmetric,
        "align_corners" => Coordinates::AlignCorners,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "tf_crop_and_resize" => Coordinates::Crop,
        other => return refuse(format!("coordinate_transformation_mode {other}")),
    };
    let aspect = match attributes.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => Aspect::Stretch,
        "not_larger" => Aspect::NotLarger,
        "not_smaller" => Aspect::NotSmaller,
        other => return refuse(format!("keep_aspect_ratio_policy {other}")),
    };
    let options = ResizeOptions {
        antialias: attributes.flag("antialias")?,
        exclude_outside: attributes.flag("exclude_outside")?,
        aspect,
        outside: attributes.float("extrapolation_value")?.unwrap_or(0.0),
    };
    let axes = attributes.ints("axes")?.unwrap_or_default().to_vec();
    // An empty tensor stands for a missing one.
    let given = |context: &NodeContext<'_, '_>, value: &ValueId| {
        context.constant(*value).is_none_or(|t| !t.is_empty())
    };
    let (scales, sizes) = (context.optional(2)?, context.optional(3)?);
    let (scales, sizes) =
        (scales.filter(|v| given(context, v)), sizes.filter(|v| given(context, v)));
    let by = match (scales, sizes) {
        (Some(by), None) | (None, Some(by)) => by,
        _ => return Err(Error::invalid("inputs", "scales or sizes", "both or none").into()),
    };
    let mut inputs = vec![x, by];
    if coordinates == Coordinates::Crop {
        inputs.push(context.input(1)?);
    }
    context.push(Op::Resize { interpolation, coordinates, axes, options }, inputs)
}
