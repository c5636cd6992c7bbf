use super::Options;
use super::roofline::Roofline;
use crate::device::Device;
use crate::layers::LayerSpec;
use crate::timing::{medians, ms};
use anyhow::Context;
use dsconv::gpu::{
    ActivationFormat, Kernel, Layer, LayerOptions, MemoryUse, Plan, Tensors, Tuner, upload,
};
use dsconv::{ActivationScale, FloatWeights, Layout, Quantizer, Shape, WeightsRef};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::time::Duration;

/// A layer with weights of one width.
pub(crate) struct Row {
    pub(crate) layer: String,
    pub(crate) bits: u8,
    pub(crate) multiply_adds: u64,
    pub(crate) f32: Measured,
    /// DSConv weights, float activations.
    pub(crate) weight_only: Measured,
    /// DSConv weights, with integer activations that are there already, as behind another layer.
    pub(crate) int8: Measured,
    /// Making them of floats.
    pub(crate) quantize_ms: f64,
    /// Weights in device memory.
    pub(crate) f32_bytes: u64,
    /// Weights with their scales in device memory.
    pub(crate) dsconv_bytes: u64,
}

/// One way to compute a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) kernel: Kernel,
    pub(crate) ms: f64,
    /// Two operations a multiply-add.
    pub(crate) gops: f64,
    /// The least that has to be moved: weights, input and output once.
    pub(crate) moved_bytes: u64,
    /// Operations per moved byte.
    pub(crate) intensity: f64,
    /// `gops` over what the device gives at that intensity. Tensors that caches hold can bring it above 1.
    pub(crate) roofline_share: f64,
}

impl Row {
    /// How many times faster than f32.
    pub(crate) fn ratio(&self, path: &Measured) -> f64 {
        self.f32.ms / path.ms
    }
}

impl Serialize for Row {
    /// Flat: a path's fields begin with its name.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("layer", &self.layer)?;
        map.serialize_entry("bits", &self.bits)?;
        map.serialize_entry("multiply_adds", &self.multiply_adds)?;
        let paths = [("f32", &self.f32), ("weight_only", &self.weight_only), ("int8", &self.int8)];
        for (name, path) in paths {
            map.serialize_entry(&format!("{name}_ms"), &path.ms)?;
            map.serialize_entry(&format!("{name}_kernel"), path.kernel.name())?;
            map.serialize_entry(&format!("{name}_gops"), &path.gops)?;
            map.serialize_entry(&format!("{name}_moved_bytes"), &path.moved_bytes)?;
            map.serialize_entry(&format!("{name}_intensity"), &path.intensity)?;
            map.serialize_entry(&format!("{name}_roofline_share"), &path.roofline_share)?;
            if name != "f32" {
                map.serialize_entry(&format!("{name}_ratio"), &self.ratio(path))?;
            }
        }
        map.serialize_entry("quantize_ms", &self.quantize_ms)?;
        map.serialize_entry("f32_bytes", &self.f32_bytes)?;
        map.serialize_entry("dsconv_bytes", &self.dsconv_bytes)?;
        map.end()
    }
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
        let mut options =
            LayerOptions { input_format, input_layout, output_layout, ..LayerOptions::default() };
        if let Some(tuner) = tuner {
            let (pipelines, queue) = (&device.pipelines, &device.gpu.queue);
            let choice = tuner.choose(pipelines, queue, weights, input, &options);
            options.kernel = Some(pollster::block_on(choice)?.kernel);
        }
        let of_plan = MemoryUse::of_plan(weights, input, &options)?;
        let layer = Layer::new(&device.pipelines, weights, options)?;
        let of_layer = layer.memory_use();
        let memory = MemoryUse { weights: of_layer.weights, scales: of_layer.scales, ..of_plan };
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
        Measured { kernel, ms, gops, moved_bytes, intensity, roofline_share }
    }
}

/// Bits, with float and with integer activations.
type OfWidth = (u8, Path, Path);

/// Measures a layer: f32, making integer activations, and every width, in turn.
pub(crate) fn layer(
    device: &Device,
    spec: &LayerSpec,
    options: &Options,
    roofline: &Roofline,
    tuner: &mut Option<Tuner>,
) -> anyhow::Result<Vec<Row>> {
    let LayerSpec { descriptor, input, .. } = spec;
    let mut rng = fastrand::Rng::with_seed(1);
    let values: Vec<f32> = (0..descriptor.weight_count()).map(|_| rng.f32() - 0.5).collect();
    let floats = FloatWeights::new(*descriptor, values)?;
    let mut path =
        |weights: WeightsRef<'_>, format| Path::new(device, weights, *input, format, tuner);
    let float_path = path((&floats).into(), ActivationFormat::Float)?;
    let paths = options
        .bits
        .iter()
        .map(|&bits| {
            let quantizer = Quantizer::new(bits, options.block)?;
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
        let tensors =
            Tensors { input: input_buffer.slice(..), residual: None, output: y.slice(..) };
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
    let times = medians(device, &plans.iter().collect::<Vec<_>>(), options.rounds)?;
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
