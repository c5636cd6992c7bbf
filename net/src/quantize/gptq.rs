//! GPTQ: integers that are found column by column, each making up for the rounding of those before it, so that the
//! layer's output is off least on the samples, and not each weight by itself.
//!
//! The method is that of Frantar and others (arXiv 2210.17323), with three changes. The target is what the float network
//! gives, from what the quantised one reads, so that a layer also makes up for the layers before it. The damping is
//! strong and pulls towards the float weights, since a few pictures must do. And a block's scale is found when its
//! first column is reached, from weights that have already moved.
//!
//! With `H = X'X / N`, `G = X'Y / N` and the damping `l`, the weights `w` of an output channel should make
//! `w'(H + l I) w - 2 w'(G + l W)` small. Where `H + l I = L L'`, that is `|L'w - T|`, with `L T = G + l W`, but for a
//! constant. `L'` is an upper triangle, so the last weight can be found first, and each weight before it from those that
//! are already integers. Sweeps of coordinate descent then move single integers, and all scales of a channel together.

use super::descent::Channel;
use super::linear;
use super::patches::Patches;
use super::walk::Convolution;
use crate::Result;
use dsconv::{
    BlockFormat, ConvDescriptor, DsConvWeights, FloatWeights, Method, QuantizedBlock, Quantizer,
};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Fewer output pixels than this say too little of a layer's weights.
const FEWEST: usize = 16;

/// A layer, and what goes in and should come out on samples.
pub(super) struct Layer<'a> {
    floats: &'a FloatWeights,
    patches: Patches,
    inputs: &'a [Arc<Vec<f32>>],
    wanted: &'a [Vec<f32>],
}

impl<'a> Layer<'a> {
    /// The layer of those float weights, which reads what a walk's convolution reads, and should give `wanted`, NCHW, per
    /// sample.
    pub(super) fn new(
        floats: &'a FloatWeights,
        step: &'a Convolution,
        wanted: &'a [Vec<f32>],
    ) -> Self {
        let shapes = [step.input, step.output];
        let patches = Patches::new(floats.descriptor(), shapes, step.inputs.len());
        Self { floats, patches, inputs: &step.inputs, wanted }
    }
}

/// Sums over the output pixels of a group: what the weights read, times itself and times what they should give.
struct Statistics {
    count: f64,
    /// (K, K), the lower triangle.
    xx: DMatrix<f64>,
    /// (K, O)
    xy: DMatrix<f64>,
    x: DVector<f64>,
    y: DVector<f64>,
    yy: f64,
}

impl Statistics {
    fn of(layer: &Layer<'_>, group: usize) -> Self {
        let descriptor = layer.floats.descriptor();
        let inputs = (descriptor.channels_per_group() * descriptor.taps()) as usize;
        let outputs = descriptor.outputs_per_group() as usize;
        let mut sums = Self {
            count: layer.patches.count() as f64,
            xx: DMatrix::zeros(inputs, inputs),
            xy: DMatrix::zeros(inputs, outputs),
            x: DVector::zeros(inputs),
            y: DVector::zeros(outputs),
            yy: 0.0,
        };
        layer.patches.for_each(group, layer.inputs, layer.wanted, |x, y| {
            let xt = x.transpose();
            linear::add_square(&mut sums.xx, &xt, &x);
            linear::add_product(&mut sums.xy, &xt, &y);
            sums.x += xt.column_sum();
            sums.y += y.row_sum_tr();
            sums.yy += y.norm_squared();
        });
        sums.centre();
        sums
    }

    /// Sums become covariances and means.
    fn centre(&mut self) {
        let scale = self.count.recip();
        self.x *= scale;
        self.y *= scale;
        self.xx *= scale;
        self.xy *= scale;
        self.xx.ger(-1.0, &self.x, &self.x, 1.0);
        self.xy.ger(-1.0, &self.x, &self.y, 1.0);
        self.yy = self.yy * scale - self.y.norm_squared();
    }
}

/// The blocks of one group's weights as a matrix: (taps x channels, output channels), tap by tap.
struct Columns {
    /// The rows of each block, and the place of its scale among those of an output channel.
    blocks: Vec<(Range<usize>, usize)>,
}

impl Columns {
    fn new(descriptor: &ConvDescriptor, format: &BlockFormat) -> Self {
        let channels = descriptor.channels_per_group();
        let taps = descriptor.taps() as usize;
        let blocks = format.blocks_of(channels);
        let of_tap = |tap: usize| {
            let start = tap * channels as usize;
            (0..blocks.count).map(move |block| {
                let Range { start: from, end: to } = blocks.range(block);
                (start + from as usize..start + to as usize, block as usize * taps + tap)
            })
        };
        Self { blocks: (0..taps).flat_map(of_tap).collect() }
    }
}

/// Where the weight of a row and an output channel is in OIHW.
fn place(descriptor: &ConvDescriptor, row: usize, output: usize) -> usize {
    let channels = descriptor.channels_per_group() as usize;
    (output * channels + row % channels) * descriptor.taps() as usize + row / channels
}

/// The weights of one group, of OIHW.
fn matrix(descriptor: &ConvDescriptor, group: usize, oihw: &[f32]) -> DMatrix<f64> {
    let outputs = descriptor.outputs_per_group() as usize;
    let rows = (descriptor.channels_per_group() * descriptor.taps()) as usize;
    DMatrix::from_fn(rows, outputs, |row, output| {
        f64::from(oihw[place(descriptor, row, group * outputs + output)])
    })
}

/// The mean squared errors of a layer's output, relative to its variance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Errors {
    /// On the samples.
    pub(super) seen: f64,
    /// On others: weights that were fitted to a few samples do worse there.
    pub(super) expected: f64,
}

/// The least squares of a layer, ready for weights of any format.
pub(super) struct Solver {
    descriptor: ConvDescriptor,
    groups: Vec<Group>,
}

/// The least squares of one group: `|upper w - target|`.
struct Group {
    /// `L'`, (K, K); what is below the diagonal does not count.
    upper: DMatrix<f64>,
    /// `T`, (K, O)
    target: DMatrix<f64>,
    /// What was added to the diagonal.
    damping: f64,
    /// The float weights, (K, O), and the mean variance of what they read.
    floats: DMatrix<f64>,
    variance: f64,
    /// Of the samples; `xx` is used up.
    statistics: Statistics,
}

impl Solver {
    /// Looks at the samples. `damping` is relative to the mean variance of what the weights read. `None` where the
    /// samples say too little: fewer than 16 output pixels, or nothing that varies.
    pub(super) fn new(layer: &Layer<'_>, damping: f64) -> Option<Self> {
        if layer.patches.count() < FEWEST {
            return None;
        }
        let descriptor = *layer.floats.descriptor();
        let group = |index: usize| {
            let floats = matrix(&descriptor, index, layer.floats.values());
            let mut statistics = Statistics::of(layer, index);
            let mut lower = std::mem::replace(&mut statistics.xx, DMatrix::zeros(0, 0));
            let variance = lower.trace() / lower.nrows() as f64;
            let damping = damping * variance;
            if !(damping > 0.0 && damping.is_finite()) {
                return None;
            }
            lower.set_diagonal(&lower.diagonal().add_scalar(damping));
            let mut target = &statistics.xy + &floats * damping;
            linear::factor(&mut lower)?;
            linear::solve_lower(&lower, &mut target);
            let upper = lower.transpose();
            Some(Group { upper, target, damping, floats, variance, statistics })
        };
        let groups = (0..descriptor.groups as usize).map(group).collect::<Option<_>>()?;
        Some(Self { descriptor, groups })
    }

    /// The errors that weights make at the layer's output.
    pub(super) fn errors(&self, weights: &FloatWeights) -> Errors {
        let group = |(index, group): (usize, &Group)| {
            group.errors(&matrix(&self.descriptor, index, weights.values()))
        };
        self.relative(self.groups.iter().enumerate().map(group))
    }

    /// The sum of the groups' errors, relative to the variance of the layer's output.
    fn relative(&self, errors: impl Iterator<Item = Errors>) -> Errors {
        let signal: f64 = self.groups.iter().map(|group| group.statistics.yy).sum();
        let signal = signal.max(f64::MIN_POSITIVE);
        errors.fold(Errors::default(), |sum, errors| Errors {
            seen: sum.seen + errors.seen / signal,
            expected: sum.expected + errors.expected / signal,
        })
    }

    /// Integers, scales and bias, and the errors that they make.
    ///
    /// # Errors
    /// Weights that are out of f32's range.
    pub(super) fn fit(&self, how: &Rounding) -> Result<(DsConvWeights, Errors)> {
        let Self { descriptor, .. } = self;
        let format = &how.format;
        let columns = Columns::new(descriptor, format);
        let blocks = columns.blocks.len();
        let outputs = descriptor.outputs_per_group() as usize;
        let mut q = vec![0i32; descriptor.weight_count()];
        let mut alpha = vec![0.0f32; descriptor.out_channels as usize * blocks];
        let mut kds_bias = alpha.clone();
        let mut bias = vec![0.0f32; descriptor.out_channels as usize];
        let mut errors = Vec::new();
        for (index, group) in self.groups.iter().enumerate() {
            let found = group.round(&columns, how)?;
            errors.push(group.errors(&found.weights));
            for output in 0..outputs {
                let channel = index * outputs + output;
                for row in 0..found.q.nrows() {
                    q[place(descriptor, row, channel)] = found.q[(row, output)];
                }
                for (block, (_, scale)) in columns.blocks.iter().enumerate() {
                    let at = channel * blocks + scale;
                    alpha[at] = found.alpha[(block, output)] as f32;
                    kds_bias[at] = found.kds_bias[(block, output)] as f32;
                }
                // The mean of the output stays what it should be.
                let statistics = &group.statistics;
                let mean = found.weights.column(output).dot(&statistics.x);
                bias[channel] = (statistics.y[output] - mean) as f32;
            }
        }
        let mut weights = DsConvWeights::from_integers(*descriptor, *format, &q, alpha)?;
        if how.kds_bias {
            weights = weights.with_kds_bias(kds_bias)?;
        }
        Ok((weights.with_bias(bias)?, self.relative(errors.into_iter())))
    }
}

/// What a layer's weights become.
pub(super) struct Rounding {
    pub(super) format: BlockFormat,
    pub(super) kds_bias: bool,
    /// How the scale of a block is found.
    pub(super) method: Method,
    /// Sweeps of coordinate descent after the first rounding.
    pub(super) sweeps: u32,
}

/// Integers and scales of a group.
struct Rounded {
    /// (K, O)
    q: DMatrix<i32>,
    /// (K, O), what they stand for.
    weights: DMatrix<f64>,
    /// (blocks, O)
    alpha: DMatrix<f64>,
    kds_bias: DMatrix<f64>,
}

impl Group {
    /// The squared errors of weights (K, O) at the output, summed over output channels.
    fn errors(&self, weights: &DMatrix<f64>) -> Errors {
        let Statistics { xy, yy, count, .. } = &self.statistics;
        let squares = linear::squares(&self.upper, weights) - self.damping * weights.norm_squared();
        let seen = (yy - 2.0 * weights.dot(xy) + squares).max(0.0);
        // As if as many pixels as there are weights had been seen beside, that vary in all directions alike.
        let alike = self.variance * (&self.floats - weights).norm_squared();
        let more = weights.nrows() as f64;
        Errors { seen, expected: (count * seen + more * alike) / (count + more) }
    }

    /// Finds the integers from the last column to the first.
    fn round(&self, columns: &Columns, how: &Rounding) -> Result<Rounded> {
        let quantizer = Quantizer::new(how.format.bits(), how.format.block_size())?
            .partition(how.format.partition())
            .kds_bias(how.kds_bias)
            .method(how.method);
        let (size, outputs) = self.target.shape();
        let blocks = columns.blocks.len();
        let mut rounded = Rounded {
            q: DMatrix::zeros(size, outputs),
            weights: DMatrix::zeros(size, outputs),
            alpha: DMatrix::zeros(blocks, outputs),
            kds_bias: DMatrix::zeros(blocks, outputs),
        };
        for (index, (rows, _)) in columns.blocks.iter().enumerate().rev() {
            let width = rows.len();
            // What is left for this block, when those behind it are what they are.
            let mut left = self.target.rows(rows.start, width).into_owned();
            let behind = self.upper.view((rows.start, rows.end), (width, size - rows.end));
            linear::subtract_product(&mut left, &behind, &rounded.weights, rows.end);
            let upper = self.upper.view((rows.start, rows.start), (width, width)).into_owned();
            let block = |output: usize| {
                let left = left.column(output).into_owned();
                let free = upper.solve_upper_triangular(&left);
                let free = free.expect("the diagonal of a factor is positive");
                RoundedBlock::new(&upper, &left, quantizer.block(free.as_slice()), &how.format)
            };
            let found: Vec<_> = (0..outputs).into_par_iter().map(block).collect();
            for (output, block) in found.into_iter().enumerate() {
                rounded.alpha[(index, output)] = block.alpha;
                rounded.kds_bias[(index, output)] = block.kds_bias;
                rounded.q.view_mut((rows.start, output), (width, 1)).copy_from(&block.q);
                rounded
                    .weights
                    .view_mut((rows.start, output), (width, 1))
                    .copy_from(&block.weights);
            }
        }
        self.descend(columns, how, &mut rounded);
        Ok(rounded)
    }

    /// Sweeps over the integers of every output channel.
    fn descend(&self, columns: &Columns, how: &Rounding, rounded: &mut Rounded) {
        if how.sweeps == 0 {
            return;
        }
        let size = self.upper.nrows();
        let norm = |row: usize| self.upper.view((0, row), (row + 1, 1)).norm_squared();
        let norms: Vec<f64> = (0..size).map(norm).collect();
        let blocks: Vec<Range<usize>> =
            columns.blocks.iter().map(|(rows, _)| rows.clone()).collect();
        let range = [how.format.min(), how.format.max()].map(f64::from);
        let channel = |output: usize| {
            let floats = |matrix: &DMatrix<f64>| matrix.column(output).as_slice().to_vec();
            let q = rounded.q.column(output).iter().map(|&q| q.into()).collect();
            let start = [q, floats(&rounded.alpha), floats(&rounded.kds_bias)];
            let target = &floats(&self.target);
            let mut channel = Channel::new((&self.upper, &norms), (&blocks, range), target, start);
            for _ in 0..how.sweeps {
                channel.sweep();
                channel.rescale();
            }
            channel
        };
        let channels: Vec<_> = (0..rounded.q.ncols()).into_par_iter().map(channel).collect();
        for (output, channel) in channels.into_iter().enumerate() {
            rounded.weights.column_mut(output).copy_from_slice(&channel.weights());
            rounded.alpha.column_mut(output).copy_from_slice(&channel.alpha);
            let q: Vec<i32> = channel.q.iter().map(|&q| q as i32).collect();
            rounded.q.column_mut(output).copy_from_slice(&q);
        }
    }
}

/// One block of one output channel.
struct RoundedBlock {
    q: DVector<i32>,
    weights: DVector<f64>,
    alpha: f64,
    kds_bias: f64,
}

impl RoundedBlock {
    /// Rounds the last weight first, and each before it after taking away what those behind it give.
    fn new(
        upper: &DMatrix<f64>,
        left: &DVector<f64>,
        scale: QuantizedBlock,
        format: &BlockFormat,
    ) -> Self {
        let (min, max) = (f64::from(format.min()), f64::from(format.max()));
        let width = left.len();
        // As they will be stored.
        let [alpha, kds_bias] = [scale.alpha, scale.kds_bias].map(|v| f64::from(v as f32));
        let mut block =
            Self { q: DVector::zeros(width), weights: DVector::zeros(width), alpha, kds_bias };
        for at in (0..width).rev() {
            let given: f64 =
                (at + 1..width).map(|behind| upper[(at, behind)] * block.weights[behind]).sum();
            let wanted = (left[at] - given) / upper[(at, at)] - kds_bias;
            if alpha != 0.0 {
                block.q[at] = (wanted / alpha).round_ties_even().clamp(min, max) as i32;
            }
            block.weights[at] = alpha * f64::from(block.q[at]) + kds_bias;
        }
        block
    }
}
