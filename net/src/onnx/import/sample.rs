//! Samples at places that the run may compute.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use crate::ir::graph::{GridInterpolation, GridPadding, Op, RoiAlign};

/// Samples of a grid.
pub(crate) fn grid_sample(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    let interpolation = match attributes.string("mode", "linear")? {
        "nearest" => GridInterpolation::Nearest,
        "linear" | "bilinear" => GridInterpolation::Linear,
        "cubic" | "bicubic" => GridInterpolation::Cubic,
        mode => return refuse(format!("mode {mode}")),
    };
    let padding = match attributes.string("padding_mode", "zeros")? {
        "zeros" => GridPadding::Zeros,
        "border" => GridPadding::Border,
        "reflection" => GridPadding::Reflection,
        mode => return refuse(format!("padding_mode {mode}")),
    };
    Ok(Op::GridSample { interpolation, padding, align_corners: attributes.flag("align_corners")? })
}

/// Pooled samples of boxes.
pub(crate) fn roi_align(context: &mut NodeContext<'_, '_>) -> Converted<Op> {
    let attributes = context.attributes;
    let size = |name, default: i64| -> Converted<u32> {
        let value = attributes.int(name)?.unwrap_or(default);
        match u32::try_from(value).ok().filter(|&value| value <= 1 << 12) {
            Some(value) => Ok(value),
            None => refuse(format!("{name} {value}")),
        }
    };
    let max = match attributes.string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        mode => return refuse(format!("mode {mode}")),
    };
    // Before opset 16 there was no such attribute, and the old form.
    let default = if context.opset() < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match attributes.string("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        mode => return refuse(format!("coordinate_transformation_mode {mode}")),
    };
    Ok(Op::RoiAlign(RoiAlign {
        size: [size("output_height", 1)?.max(1), size("output_width", 1)?.max(1)],
        samples: size("sampling_ratio", 0)?,
        scale: attributes.float("spatial_scale")?.unwrap_or(1.0),
        half_pixel,
        max,
    }))
}
