//! The modules of the public networks, made from their mathematics. Names of parts are those of the public state dicts.

use super::trace::{FeatureMap, OperationCount, SquareConv, Trace};
use crate::ir::op::{Binary, PoolKind};
use crate::ir::tensor::Tensor;
use crate::{Error, Result};

const AVERAGE: PoolKind = PoolKind::Average { count_padding: true };

/// A residual bottleneck: x + Conv 3x3 of RepConvN of x.
fn bottleneck(trace: &mut Trace, name: &str, x: FeatureMap) -> Result<FeatureMap> {
    trace.modules += 1;
    let y = trace.rep_conv(&format!("{name}.cv1"), x, x.channels)?;
    let y = trace.conv(&format!("{name}.cv2"), y, SquareConv::new(x.channels, 3, 1))?;
    Ok(FeatureMap {
        value: trace.binary(&format!("{name}.add"), Binary::Add, x.value, y.value),
        ..x
    })
}

/// Cross-stage partial block: one path goes through bottlenecks, the other past them.
fn rep_ncsp(
    trace: &mut Trace,
    name: &str,
    x: FeatureMap,
    channels: usize,
    copies: usize,
) -> Result<FeatureMap> {
    // Itself and the list of bottlenecks.
    trace.modules += 2;
    let half = SquareConv::new(channels / 2, 1, 1);
    let mut through = trace.conv(&format!("{name}.cv1"), x, half)?;
    for index in 0..copies {
        through = bottleneck(trace, &format!("{name}.m.{index}"), through)?;
    }
    let past = trace.conv(&format!("{name}.cv2"), x, half)?;
    let y = trace.concat(&format!("{name}.concat"), &[through, past])?;
    trace.conv(&format!("{name}.cv3"), y, SquareConv::new(channels, 1, 1))
}

/// Channels of a [`rep_ncsp_elan`]: out, first, inner; and bottlenecks in a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elan {
    pub(super) channels: usize,
    pub(super) first: usize,
    pub(super) inner: usize,
    pub(super) copies: usize,
}

/// Layer aggregation: two blocks in a row behind half of a 1x1 convolution; all of them meet in another.
pub(super) fn rep_ncsp_elan(
    trace: &mut Trace,
    name: &str,
    x: FeatureMap,
    elan: Elan,
) -> Result<FeatureMap> {
    let Elan { channels, first, inner, copies } = elan;
    trace.modules += 1;
    let y = trace.conv(&format!("{name}.cv1"), x, SquareConv::new(first, 1, 1))?;
    let [a, b] = trace.halves(&format!("{name}.chunk"), y)?;
    let mut parts = vec![a, b];
    let mut last = b;
    for part in ["cv2", "cv3"] {
        // A sequence of the block and a convolution.
        trace.modules += 1;
        last = rep_ncsp(trace, &format!("{name}.{part}.0"), last, inner, copies)?;
        last = trace.conv(&format!("{name}.{part}.1"), last, SquareConv::new(inner, 3, 1))?;
        parts.push(last);
    }
    let y = trace.concat(&format!("{name}.concat"), &parts)?;
    trace.conv(&format!("{name}.cv4"), y, SquareConv::new(channels, 1, 1))
}

/// Halves the size: of the smoothed map, one half of the channels by a strided convolution, the other by the
/// largest of nine.
pub(super) fn adown(
    trace: &mut Trace,
    name: &str,
    x: FeatureMap,
    channels: usize,
) -> Result<FeatureMap> {
    trace.modules += 1;
    let y = trace.pool(&format!("{name}.smooth"), AVERAGE, x, [2, 1, 0]);
    let [a, b] = trace.halves(&format!("{name}.chunk"), y)?;
    let a = trace.conv(&format!("{name}.cv1"), a, SquareConv::new(channels / 2, 3, 2))?;
    let b = trace.pool(&format!("{name}.max"), PoolKind::Max, b, [3, 2, 1]);
    let b = trace.conv(&format!("{name}.cv2"), b, SquareConv::new(channels / 2, 1, 1))?;
    trace.concat(name, &[a, b])
}

/// Pyramid pooling: three windows of 5x5 in a row.
pub(super) fn sppelan(
    trace: &mut Trace,
    name: &str,
    x: FeatureMap,
    channels: usize,
    inner: usize,
) -> Result<FeatureMap> {
    trace.modules += 1;
    let mut parts = vec![trace.conv(&format!("{name}.cv1"), x, SquareConv::new(inner, 1, 1))?];
    for part in ["cv2", "cv3", "cv4"] {
        // A module around the window.
        trace.modules += 2;
        let last = parts[parts.len() - 1];
        parts.push(trace.pool(&format!("{name}.{part}"), PoolKind::Max, last, [5, 1, 2]));
    }
    let y = trace.concat(&format!("{name}.concat"), &parts)?;
    trace.conv(&format!("{name}.cv5"), y, SquareConv::new(channels, 1, 1))
}

/// Twice the size, each pixel four times.
pub(super) fn upsample(trace: &mut Trace, name: &str, x: FeatureMap) -> Result<FeatureMap> {
    trace.modules += 1;
    if !x.stride.is_multiple_of(2) {
        return Err(Error::invalid("input", "a map smaller than the picture", "one as large"));
    }
    let scales =
        trace.constant(&format!("{name}.scales"), Tensor::f32([4], vec![1.0, 1.0, 2.0, 2.0])?);
    let y =
        FeatureMap { value: trace.nearest(name, x.value, scales, &[]), stride: x.stride / 2, ..x };
    let operations = 2 * x.channels as u64;
    trace.operation_counts.push(OperationCount { operations, stride: y.stride, dsconv: false });
    Ok(y)
}

/// One 1x1 convolution whose output is cut into maps for several sizes.
pub(super) fn cb_linear(
    trace: &mut Trace,
    name: &str,
    x: FeatureMap,
    channels: &[usize],
) -> Result<Vec<FeatureMap>> {
    trace.modules += 1;
    let whole = channels.iter().fold(0usize, |sum, &part| sum.saturating_add(part));
    let y = trace.plain_conv(&format!("{name}.conv"), x, SquareConv::new(whole, 1, 1))?;
    let mut start = 0;
    let mut parts = Vec::new();
    for (index, &length) in channels.iter().enumerate() {
        parts.push(trace.part(&format!("{name}.{index}"), y, start, length));
        start += length;
    }
    Ok(parts)
}

/// The sum of a map and of others at its size.
pub(super) fn cb_fuse(
    trace: &mut Trace,
    name: &str,
    others: &[FeatureMap],
    x: FeatureMap,
) -> Result<FeatureMap> {
    trace.modules += 1;
    let size = trace.size(name, x);
    let mut resized = others
        .iter()
        .enumerate()
        .map(|(index, other)| {
            if other.channels != x.channels {
                let expected = format!("{} channels", x.channels);
                return Err(Error::invalid(format!("input {index}"), expected, other.channels));
            }
            Ok(trace.nearest(&format!("{name}.resize.{index}"), other.value, size, &[2, 3]))
        })
        .collect::<Result<Vec<_>>>()?;
    resized.push(x.value);
    let first = resized[0];
    let sum =
        |sum, (index, &next)| trace.binary(&format!("{name}.add.{index}"), Binary::Add, sum, next);
    Ok(FeatureMap { value: resized.iter().enumerate().skip(1).fold(first, sum), ..x })
}
