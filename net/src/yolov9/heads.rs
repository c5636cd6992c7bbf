//! The detection heads, and the decoding of their boxes.

use super::trace::{FeatureMap, OperationCount, SquareConv, Trace};
use crate::ir::graph::{Kind, Op, Parts, ValueId};
use crate::ir::op::{Binary, Reduction, Unary};
use crate::ir::tensor::Tensor;
use crate::{Error, Result};
use dsconv::Activation;

/// Bins of the distribution of each side's distance.
const BINS: usize = 16;

/// Decoded predictions: (N, 4 + classes, anchors).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Predictions {
    pub(super) main: ValueId,
    /// The predictions of the branch that only training needs.
    pub(super) auxiliary: Option<ValueId>,
}

/// DDetect: one branch of heads, for three sizes or however many.
pub(super) fn single(
    trace: &mut Trace,
    name: &str,
    maps: &[FeatureMap],
    classes: usize,
) -> Result<Predictions> {
    trace.modules += 1;
    let main = branch(trace, name, ["cv2", "cv3", "dfl"], maps, classes)?;
    Ok(Predictions { main, auxiliary: None })
}

/// DualDDetect: the first half of the maps belongs to the auxiliary branch.
pub(super) fn dual(
    trace: &mut Trace,
    name: &str,
    maps: &[FeatureMap],
    classes: usize,
) -> Result<Predictions> {
    trace.modules += 1;
    if !maps.len().is_multiple_of(2) {
        return Err(Error::invalid("inputs", "as many auxiliary as main ones", maps.len()));
    }
    let (auxiliary, main) = maps.split_at(maps.len() / 2);
    let auxiliary = branch(trace, name, ["cv2", "cv3", "dfl"], auxiliary, classes)?;
    let main = branch(trace, name, ["cv4", "cv5", "dfl2"], main, classes)?;
    Ok(Predictions { main, auxiliary: Some(auxiliary) })
}

/// Heads for boxes and classes at each size, decoded.
fn branch(
    trace: &mut Trace,
    name: &str,
    [boxes, scores, dfl]: [&str; 3],
    maps: &[FeatureMap],
    classes: usize,
) -> Result<ValueId> {
    let first = maps.first().ok_or_else(|| Error::invalid("inputs", "at least one map", 0))?;
    let sides = 4 * BINS;
    let box_channels = (first.channels / 4).max(sides).next_multiple_of(4);
    let class_channels = first.channels.max((2 * classes).min(128));
    // Two lists of sequences, and the module around the projection.
    trace.modules += 2 + 2 * maps.len() + 2;
    let (mut distances, mut logits) = (Vec::new(), Vec::new());
    for (index, &map) in maps.iter().enumerate() {
        let path = format!("{name}.{boxes}.{index}");
        let y = trace.conv(&format!("{path}.0"), map, SquareConv::new(box_channels, 3, 1))?;
        let y = trace.conv(
            &format!("{path}.1"),
            y,
            SquareConv::new(box_channels, 3, 1).with_groups(4),
        )?;
        let y = trace.plain_conv(
            &format!("{path}.2"),
            y,
            SquareConv::new(sides, 1, 1).with_groups(4),
        )?;
        distances.push(flat(trace, &path, y, sides));
        let path = format!("{name}.{scores}.{index}");
        let y = trace.conv(&format!("{path}.0"), map, SquareConv::new(class_channels, 3, 1))?;
        let y = trace.conv(&format!("{path}.1"), y, SquareConv::new(class_channels, 3, 1))?;
        let y = trace.plain_conv(&format!("{path}.2"), y, SquareConv::new(classes, 1, 1))?;
        logits.push(flat(trace, &path, y, classes));
        // The projection of the distributions is a convolution too.
        trace.operation_counts.push(OperationCount {
            operations: 2 * sides as u64,
            stride: map.stride,
            dsconv: false,
        });
    }
    trace.ramps.push((format!("{name}.{dfl}.conv.weight"), BINS));
    trace.parameters += BINS as u64;
    trace.frozen += BINS as u64;
    let path = format!("{name}.{dfl}");
    let distances = trace.push(&format!("{path}.concat"), Op::Concat { axis: 2 }, distances);
    let boxes = decode(trace, &path, distances, maps)?;
    let logits = trace.push(&format!("{path}.logits"), Op::Concat { axis: 2 }, logits);
    let sigmoid = Op::Unary(Unary::Activation(Activation::Sigmoid));
    let scores = trace.push(&format!("{path}.scores"), sigmoid, [logits]);
    Ok(trace.push(&format!("{path}.predictions"), Op::Concat { axis: 1 }, [boxes, scores]))
}

/// (N, C, H, W) as (N, C, H * W).
fn flat(trace: &mut Trace, name: &str, x: FeatureMap, channels: usize) -> ValueId {
    let dims = trace.constant(&format!("{name}.dims"), Tensor::list([0, channels as i64, -1]));
    trace.push(&format!("{name}.flat"), Op::Reshape { allow_zero: false }, [x.value, dims])
}

/// Boxes (N, 4, anchors), centre and size in pixels of the picture, from (N, 4 * BINS, anchors): the distance of each
/// side from the anchor is the expectation of its distribution, in pixels of the map.
fn decode(trace: &mut Trace, name: &str, x: ValueId, maps: &[FeatureMap]) -> Result<ValueId> {
    let named = |part: &str| format!("{name}.{part}");
    let dims = trace.constant(&named("dims"), Tensor::list([0, 4, BINS as i64, -1]));
    let y = trace.push(&named("bins"), Op::Reshape { allow_zero: false }, [x, dims]);
    let y = trace.push(&named("softmax"), Op::Softmax { axis: 2, flatten: false }, [y]);
    let bins = (0..BINS).map(|bin| bin as f32).collect();
    let bins = trace.constant(&named("projection"), Tensor::f32([1, 1, BINS, 1], bins)?);
    let y = trace.binary(&named("weighted"), Binary::Mul, y, bins);
    let sum = Op::Reduce { reduction: Reduction::Sum, axes: vec![2], keep: false };
    let distances = trace.push(&named("distances"), sum, [y]);
    let side = |trace: &mut Trace, part: &str, start| {
        let part_of = Parts::Range { start, length: 2, whole: 4 };
        trace.push(&named(part), Op::Part { axis: 1, part: part_of }, [distances])
    };
    let (before, behind) = (side(trace, "before", 0), side(trace, "behind", 2));
    let (anchors, strides) = anchors(trace, name, maps)?;
    let half = trace.constant(&named("half"), Tensor::scalar(0.5));
    let shift = trace.binary(&named("shift"), Binary::Sub, behind, before);
    let shift = trace.binary(&named("half shift"), Binary::Mul, shift, half);
    let centre = trace.binary(&named("centre in cells"), Binary::Add, anchors, shift);
    let centre = trace.binary(&named("centre"), Binary::Mul, centre, strides);
    let size = trace.binary(&named("size in cells"), Binary::Add, before, behind);
    let size = trace.binary(&named("size"), Binary::Mul, size, strides);
    Ok(trace.push(&named("boxes"), Op::Concat { axis: 1 }, [centre, size]))
}

/// The centres of all cells, (1, 2, anchors) in pixels of their map, and pixels of the picture in one of theirs,
/// (1, 1, anchors). They depend on the picture's size, and are constants of a program.
fn anchors(trace: &mut Trace, name: &str, maps: &[FeatureMap]) -> Result<(ValueId, ValueId)> {
    let line = trace.constant(&format!("{name}.line"), Tensor::list([1, 1, -1]));
    let column = trace.constant(&format!("{name}.column"), Tensor::list([-1, 1]));
    let [start, step] = [0, 1].map(|i| trace.constant(&format!("{name}.{i}"), Tensor::list([i])));
    let half = trace.constant(&format!("{name}.cell centre"), Tensor::scalar(0.5));
    let zero = trace.constant(&format!("{name}.zero"), Tensor::scalar(0.0));
    let reshape = Op::Reshape { allow_zero: false };
    let (mut anchors, mut strides) = (Vec::new(), Vec::new());
    for (index, &map) in maps.iter().enumerate() {
        let name = format!("{name}.anchors.{index}");
        let size = trace.size(&name, map);
        let mut coordinates = Vec::new();
        // The width, then the height.
        for axis in [1, 0] {
            let name = format!("{name}.{axis}");
            let part = Parts::Range { start: axis, length: 1, whole: 2 };
            let extent = trace.push(&name, Op::Part { axis: 0, part }, [size]);
            let mut y = trace.push(&name, Op::Range, [start, extent, step]);
            y = trace.push(&name, Op::Cast { to: Kind::Float }, [y]);
            y = trace.binary(&name, Binary::Add, y, half);
            if axis == 0 {
                y = trace.push(&name, reshape.clone(), [y, column]);
            }
            y = trace.push(&name, Op::Expand, [y, size]);
            coordinates.push(trace.push(&name, reshape.clone(), [y, line]));
        }
        let stride = trace.constant(&format!("{name}.stride"), Tensor::scalar(map.stride as f32));
        let zeros = trace.binary(&name, Binary::Mul, coordinates[0], zero);
        strides.push(trace.binary(&name, Binary::Add, zeros, stride));
        anchors.push(trace.push(&name, Op::Concat { axis: 1 }, coordinates));
    }
    let anchors = trace.push(&format!("{name}.anchors"), Op::Concat { axis: 2 }, anchors);
    let strides = trace.push(&format!("{name}.strides"), Op::Concat { axis: 2 }, strides);
    Ok((anchors, strides))
}
