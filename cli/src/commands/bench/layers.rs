//! Layers measured one by one, below the roofline of the device.

use super::layer::LayerBench;
use super::layers_report::{Clock, Conditions, LayersReport};
use super::roofline::Roofline;
use crate::device::{self, Device};
use crate::layer_spec::LayerSpec;
use crate::progress::progress;
use crate::timing::has_timestamps;
use anyhow::Context;

/// A measurement of layers, as the user wants it.
pub(super) struct LayersBench<'a> {
    pub(super) layers: &'a [LayerSpec],
    /// Widths of the weights, in turn.
    pub(super) bits: &'a [u8],
    /// Channels of a block.
    pub(super) block: u32,
    /// Times that each measurement is repeated; the median counts.
    pub(super) rounds: usize,
    /// True to measure which kernel is the fastest, instead of choosing by rule.
    pub(super) tune: bool,
}

impl LayersBench<'_> {
    /// Measures the roofline, then every layer.
    pub(super) fn measure(&self, device: &Device) -> anyhow::Result<LayersReport> {
        let &Self { layers, bits, block, rounds, tune } = self;
        let progress = progress(layers.len() + 1)?;
        progress.set_message("the device's roofline");
        let roofline = Roofline::measure(device, rounds)?;
        progress.inc(1);
        let tuner = tune.then(|| device::tuner(&device.gpu));
        let mut bench = LayerBench { device, roofline, bits, block, rounds, tuner };
        let mut rows = Vec::new();
        for layer in layers {
            progress.set_message(layer.name.clone());
            rows.extend(bench.measure(layer).with_context(|| layer.name.clone())?);
            progress.inc(1);
        }
        progress.finish_and_clear();
        device.save_cache();
        if let Some(tuner) = &bench.tuner {
            device::save_tuner(&device.gpu, tuner);
        }
        let clock = if has_timestamps(device) { Clock::GpuTimestamps } else { Clock::Wall };
        let device = device::describe(Some(device));
        Ok(LayersReport::new(Conditions { device, clock, roofline, block, bits }, rows))
    }
}
