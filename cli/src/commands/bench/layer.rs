//! One layer measured: f32, DSConv weights with float activations, and with int8 activations.

use super::layers_report::{Measured, Row};
use super::roofline::Roofline;
use crate::device::Device;
use crate::layer_spec::LayerSpec;
use crate::timing::{medians, ms};
use anyhow::Context;
use dsconv::gpu::{
    ActivationFormat, Kernel, Layer, LayerOptions, MemoryUse, Plan, Tensors, Tuner, upload,
};
use dsconv::{ActivationScale, FloatWeights, Layout, Quantizer, Shape, WeightsRef};
use std::time::Duration;

/// A bench that layers are measured on, one after the other.
pub(super) struct LayerBench<'a> {
    pub(super) device: &'a Device,
    pub(super) roofline: Roofline,
    /// Widths of the weights, in turn.
    pub(super) bits: &'a [u8],
    /// Channels of a block.
    pub(super) block: u32,
    /// Times that each measurement is repeated.
    pub(super) rounds: usize,
    /// The measurements that choose kernels; without them the rules choose.
    pub(super) tuner: Option<Tuner>,
}

/// A layer on the device, before it is planned.
struct Path {
    layer: Layer,
    memory: MemoryUse,
    integers: bool,
}

impl Path {
    fn new(
        device: &Device,
        weights: WeightsRef<'_>,
        input: Shape,
        input_format: ActivationFormat,
        tuner: &mut Option<Tuner>,
    ) -> dsconv::Result<Self> {
        let (input_layout, output_layout) = (Layout::Nhwc, Layout::Nhwc);
        let mut options = LayerOptions::default()
            .with_input_format(input_format)
            .with_input_layout(input_layout)
            .with_output_layout(output_layout);
        let mut pipelines = device.pipelines.clone();
        if let WeightsRef::Float(_) = weights {
            // What the others are compared with is f32.
            pipelines = pipelines.with_tensor_cores(None);
        }
        if let Some(tuner) = tuner {
            let choice = tuner.choose(&pipelines, &device.gpu.queue, weights, input, &options);
            options.kernel = Some(pollster::block_on(choice)?.kernel);
        }
        let layer = Layer::new(&pipelines, weights, options)?;
        let of_layer = layer.memory_use();
        let mut memory = layer.plan_memory_use(input)?;
        (memory.weights, memory.scales) = (of_layer.weights, of_layer.scales);
        Ok(Self { layer, memory, integers: input_format == ActivationFormat::Int8 })
    }

    fn measured(
        &self,
        kernel: Kernel,
        multiply_adds: u64,
        time: Duration,
        roofline: &Roofline,
    ) -> Measured {
        let (ms, operations) = (ms(time), 2.0 * multiply_adds as f64);
        let MemoryUse { weights, scales, input, output, .. } = self.memory;
        let moved_bytes = weights + scales + input + output;
        let (gops, intensity) = (1e-6 * operations / ms, operations / moved_bytes as f64);
        let roofline_share = gops / roofline.at(intensity, self.integers);
        Measured { kernel: kernel.name().into(), ms, gops, moved_bytes, intensity, roofline_share }
    }
}

/// Bits, with float and with integer activations.
type OfWidth = (u8, Path, Path);

impl LayerBench<'_> {
    /// Measures a layer: f32, making integer activations, and every width, in turn.
    pub(super) fn measure(&mut self, spec: &LayerSpec) -> anyhow::Result<Vec<Row>> {
        let Self { device, roofline, tuner, .. } = self;
        let LayerSpec { descriptor, input, .. } = spec;
        let mut rng = fastrand::Rng::with_seed(1);
        let values: Vec<f32> = (0..descriptor.weight_count()).map(|_| rng.f32() - 0.5).collect();
        let floats = FloatWeights::new(*descriptor, values)?;
        let mut path =
            |weights: WeightsRef<'_>, format| Path::new(device, weights, *input, format, tuner);
        let float_path = path((&floats).into(), ActivationFormat::Float)?;
        let paths = self
            .bits
            .iter()
            .map(|&bits| {
                let quantizer = Quantizer::new(bits, self.block)?;
                let weights = quantizer.weights(descriptor, floats.values())?;
                let weight_only = path((&weights).into(), ActivationFormat::Float)?;
                Ok((bits, weight_only, path((&weights).into(), ActivationFormat::Int8)?))
            })
            .collect::<dsconv::Result<Vec<_>>>()?;
        // Integer activations have the same blocks for all widths.
        let (_, _, quantizing) = paths.first().context("--bits: expected one width at least")?;

        let output = descriptor.output_shape(*input)?;
        let (storage, gpu) = (wgpu::BufferUsages::STORAGE, &device.gpu.device);
        let x: Vec<f32> = (0..input.elements()).map(|_| rng.f32() - 0.5).collect();
        let x = upload(gpu, "input", storage, &x)?;
        let y = upload(gpu, "output", storage, &vec![0.0f32; output.elements()])?;
        let words = vec![0u32; quantizing.memory.input as usize / 4];
        let integers = upload(gpu, "integers", storage, &words)?;
        let plan = |path: &Path| {
            let input_buffer = if path.integers { &integers } else { &x };
            let tensors = Tensors::new(input_buffer.slice(..), y.slice(..));
            path.layer.plan(*input, tensors)
        };
        let scale = ActivationScale::PowerOfTwo;
        let quantization =
            quantizing.layer.plan_quantization(*input, scale, x.slice(..), integers.slice(..))?;
        // Quantisation first: the first run of the others finds real integers.
        let mut plans = vec![quantization, plan(&float_path)?];
        for (_, weight_only, int8) in &paths {
            plans.extend([plan(weight_only)?, plan(int8)?]);
        }
        let times = medians(device, &plans.iter().collect::<Vec<_>>(), self.rounds)?;
        let ([quantize, floats], times) =
            times.split_first_chunk::<2>().context("a time for each plan")?;
        let multiply_adds = descriptor.multiply_adds(output);
        let measured = |path: &Path, plan: &Plan, time| {
            path.measured(plan.kernel(), multiply_adds, time, roofline)
        };
        let float_plan = &plans[1];
        // Behind quantisation and floats, two a width.
        let plans = plans[2..].as_chunks::<2>().0;
        let row = |((of_width, times), plans): ((&OfWidth, &[Duration; 2]), &[Plan; 2])| {
            let (bits, weight_only, int8) = of_width;
            Row {
                layer: spec.name.clone(),
                bits: *bits,
                multiply_adds,
                f32: measured(&float_path, float_plan, *floats),
                weight_only: measured(weight_only, &plans[0], times[0]),
                int8: measured(int8, &plans[1], times[1]),
                quantize_ms: ms(*quantize),
                f32_bytes: float_path.layer.memory_use().total(),
                dsconv_bytes: weight_only.layer.memory_use().total(),
            }
        };
        Ok(paths.iter().zip(times.as_chunks().0).zip(plans).map(row).collect())
    }
}
