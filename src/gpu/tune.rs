//! Kernels chosen by measuring them, for hosts that ask for it. Nothing here runs by itself. Not in browsers, whose clocks are
//! coarse on purpose.

use super::capabilities::{Capabilities, PackedDotProduct};
use super::choose::ConvProblem;
use super::format::ActivationFormat;
use super::kernel::Kernel;
use super::layer::Layer;
use super::memory::{MemoryUse, check_buffer};
use super::options::LayerOptions;
use super::pipelines::Pipelines;
use super::plan::{Plan, Tensors};
use super::scope::checked;
use super::transfer::{Scratch, finished, read, read_floats, upload};
use crate::{
    BlockFormat, ConvDescriptor, DsConvWeights, Error, Layout, Residual, Result, Shape, WeightsRef,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Measured choices of kernels on one adapter, by class of layer: the weights' format, the geometry, and the number of
/// pixels by powers of two.
///
/// [`Kernel::choose`] needs none of this. On a device that it was not measured on, a tuner may find better; and the
/// times tell whether integer activations pay there at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuner {
    /// What the measurements hold for: this version of the kernels, adapter and driver.
    header: String,
    choices: BTreeMap<String, Choice>,
}

/// The fastest kernel for a class of layers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choice {
    /// The kernel, for [`LayerOptions::kernel`].
    pub kernel: Kernel,
    /// The median time of a run.
    pub time: Duration,
}

/// Outputs may differ between kernels by this share of the largest: sums are of another order.
const AGREE: f32 = 1e-3;

/// Timed submissions per kernel; the median counts.
const ROUNDS: usize = 5;

/// How long a submission should take at least, so that its own cost does not hide the kernel's.
const SUBMISSION: Duration = Duration::from_millis(2);

/// Longer files of measured kernels are none.
const LARGEST_FILE: u64 = 1 << 24;

impl Tuner {
    /// A tuner that has measured nothing, for the adapter of a device.
    pub fn new(adapter: &wgpu::AdapterInfo) -> Self {
        let wgpu::AdapterInfo { name, vendor, device, backend, driver_info, .. } = adapter;
        let version = env!("CARGO_PKG_VERSION");
        let header = format!(
            "dsconv {version} kernels on {name:?}, {vendor:04x}:{device:04x}, {backend:?}, driver {driver_info:?}"
        );
        Self { header, choices: BTreeMap::new() }
    }

    /// Reads what [`save`](Self::save) wrote. A file that is missing, damaged, or of another version, adapter or
    /// driver is like an empty one; a warning says so.
    pub fn load(adapter: &wgpu::AdapterInfo, path: &std::path::Path) -> Self {
        let empty = Self::new(adapter);
        let text = match crate::file::read_kept(path, LARGEST_FILE) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return empty;
            }
            Err(error) => {
                log::warn!("measured kernels ignored: {error}");
                return empty;
            }
        };
        match Self::parse(&text) {
            Some(tuner) if tuner.header == empty.header => tuner,
            Some(_) => {
                log::warn!("{}: measured on something else, ignored", path.display());
                empty
            }
            None => {
                log::warn!("{}: not a file of measured kernels, ignored", path.display());
                empty
            }
        }
    }

    /// Writes the choices, beside the file's place and then renamed.
    ///
    /// # Errors
    /// A failure of the file system.
    pub fn save(&self, path: &std::path::Path) -> Result<()> {
        crate::file::keep(path, self.text().as_bytes())
    }

    /// A header, then a line per class: nanoseconds, kernel, class.
    fn text(&self) -> String {
        let line = |(class, choice): (&String, &Choice)| {
            format!("{}\t{}\t{class}\n", choice.time.as_nanos(), choice.kernel.name())
        };
        let lines: String = self.choices.iter().map(line).collect();
        format!("{}\n{lines}end\n", self.header)
    }

    fn parse(text: &str) -> Option<Self> {
        let (header, lines) = text.strip_suffix("end\n")?.split_once('\n')?;
        let choice = |line: &str| {
            let mut fields = line.splitn(3, '\t');
            let time = Duration::from_nanos(fields.next()?.parse().ok()?);
            let name = fields.next()?;
            let kernel = Kernel::from_name(name)?;
            Some((fields.next()?.to_owned(), Choice { kernel, time }))
        };
        let choices = lines.lines().map(choice).collect::<Option<_>>()?;
        Some(Self { header: header.to_owned(), choices })
    }

    /// The choice for a layer on inputs of a shape: measured at the first call of its class, remembered after.
    ///
    /// Measuring compiles every kernel that can run the layer, and takes buffers of the layer's size for the time. A
    /// kernel that the GPU refuses, or whose outputs differ from the others', is left out with a warning. This blocks
    /// while the GPU works.
    ///
    /// # Errors
    /// As [`Layer::new`] and [`Layer::plan`]; a lost device.
    pub async fn choose<'a>(
        &mut self,
        pipelines: &Pipelines,
        queue: &wgpu::Queue,
        weights: impl Into<WeightsRef<'a>>,
        input: Shape,
        options: &LayerOptions,
    ) -> Result<Choice> {
        let weights = weights.into();
        let options = (*options).with_kernel(None);
        let class = class(weights, input, &options, pipelines.capabilities())?;
        if let Some(choice) = self.choices.get(&class) {
            return Ok(*choice);
        }
        let problem = ConvProblem::of_layer(weights, &options);
        let capabilities = pipelines.capabilities();
        // An error of the layer's own, and not one per kernel.
        Layer::new(pipelines, weights, options)?.destroy();
        let fits = |kernel: &Kernel| kernel.supports(&problem, capabilities).is_ok();
        let mut candidates: Vec<Kernel> = Kernel::CONVOLUTIONS.into_iter().filter(fits).collect();
        // One thread per output is the check of the others, and too slow to measure where they can run.
        let narrow = problem.descriptor.outputs_per_group() <= 8;
        let small = small_picture(&problem.descriptor, input);
        let mut outputs = Vec::new();
        for &kernel in &candidates {
            let options = options.with_kernel(kernel);
            let bench = match Bench::new(pipelines, weights, small, options) {
                // Its pipeline: drivers' compilers have errors of their own.
                Err(error @ Error::Gpu { .. }) => {
                    log::warn!("{} is left out: {error}", kernel.name());
                    continue;
                }
                bench => bench?,
            };
            outputs.push((kernel, bench.output(pipelines, queue, &options).await?));
            bench.destroy();
        }
        let check = agreeing(&outputs);
        candidates.retain(|kernel| {
            check.contains(kernel) && (*kernel != Kernel::ConvDirect || narrow || check.len() == 1)
        });
        let mut best: Option<Choice> = None;
        for kernel in candidates {
            let options = options.with_kernel(kernel);
            let bench = Bench::new(pipelines, weights, input, options)?;
            let time = bench.time(pipelines, queue).await?;
            bench.destroy();
            log::debug!("{class}: {} takes {time:?}", kernel.name());
            if best.is_none_or(|best| time < best.time) {
                best = Some(Choice { kernel, time });
            }
        }
        let best = best.ok_or_else(|| Error::Unsupported {
            what: format!("measuring kernels for {problem}"),
            remedy: "no kernel's outputs can be trusted on this device".into(),
        })?;
        self.choices.insert(class, best);
        Ok(best)
    }

    /// The packed dot product that is the fastest for integer activations, if any is faster than floats, by a layer of
    /// 64 to 64 channels on 40 x 40 pixels. [`Pipelines::with_packed_dot_product`] gives it to every layer. Where
    /// another kernel is faster than all of them, it is the device's own.
    ///
    /// # Errors
    /// As [`choose`](Self::choose).
    pub async fn packed_dot_product(
        &mut self,
        pipelines: &Pipelines,
        queue: &wgpu::Queue,
    ) -> Result<PackedDotProduct> {
        let descriptor = ConvDescriptor::new(64, 64, [3, 3]).with_padding([1; 4]);
        let format = BlockFormat::new(8, 32)?;
        let q: Vec<i32> = (0..descriptor.weight_count() as i32).map(|i| i % 255 - 127).collect();
        let alpha = vec![1.0; crate::blocks::scale_count(&descriptor, &format)];
        let weights = DsConvWeights::from_integers(descriptor, format, &q, alpha)?;
        let options = LayerOptions::default()
            .with_input_format(ActivationFormat::Int8)
            .with_input_layout(Layout::Nhwc)
            .with_output_layout(Layout::Nhwc);
        let input = Shape::new(1, 64, 40, 40);
        let choice = self.choose(pipelines, queue, &weights, input, &options).await?;
        Ok(match choice.kernel {
            Kernel::ConvGemm | Kernel::ConvGemmWide => PackedDotProduct::None,
            Kernel::ConvGemmInt8 => PackedDotProduct::Signed,
            Kernel::ConvGemmInt8Unsigned => PackedDotProduct::Unsigned,
            _ => pipelines.capabilities().packed_dot_product,
        })
    }
}

/// The class of a layer, in words.
fn class(
    weights: WeightsRef<'_>,
    input: Shape,
    options: &LayerOptions,
    capabilities: &Capabilities,
) -> Result<String> {
    let problem = ConvProblem::of_layer(weights, options);
    let output = problem.descriptor.output_shape(input)?;
    let pixels = (output.pixels() as u64).next_power_of_two();
    let LayerOptions { float_format, scale_format, .. } = options;
    let int8_output = options.int8_output.map(|int8| int8.blocks);
    // Not every host of a device has them.
    let units = capabilities
        .tensor_cores
        .map_or(String::new(), |units| format!(", matrix units of {}", units.size));
    Ok(format!(
        "{problem}, {:?}, {pixels} pixels, {float_format:?}, {scale_format:?}, {int8_output:?}{units}",
        problem.descriptor
    ))
}

/// The input's shape, cut to a few pixels more than the kernel reaches.
fn small_picture(descriptor: &ConvDescriptor, input: Shape) -> Shape {
    let reach = |axis: usize| descriptor.dilation[axis] * (descriptor.kernel[axis] - 1) + 8;
    Shape {
        batch: 1,
        height: input.height.min(reach(0)),
        width: input.width.min(reach(1)),
        ..input
    }
}

/// The kernels whose outputs agree with most others. The first in the list is the judge of two.
fn agreeing(outputs: &[(Kernel, Vec<f32>)]) -> Vec<Kernel> {
    let agree = |a: &[f32], b: &[f32]| {
        let largest = a.iter().chain(b).fold(0.0f32, |m, v| m.max(v.abs()));
        a.iter().zip(b).all(|(a, b)| (a - b).abs() <= AGREE * largest)
    };
    let votes = |a: &[f32]| outputs.iter().filter(|(_, b)| agree(a, b)).count();
    let most = outputs.iter().map(|(_, output)| votes(output)).max().unwrap_or(0);
    let Some((_, judge)) = outputs.iter().find(|(_, output)| votes(output) == most) else {
        return Vec::new();
    };
    let trusted = |(kernel, output): &(Kernel, Vec<f32>)| {
        let trusted = agree(judge, output);
        if !trusted {
            log::warn!("{} computes something else on this device; left out", kernel.name());
        }
        trusted.then_some(*kernel)
    };
    outputs.iter().filter_map(trusted).collect()
}

/// A layer with tensors of its own. Freed by `destroy`.
struct Bench {
    layer: Layer,
    plan: Plan,
    output: Scratch,
    /// Bound by the plan.
    tensors: Vec<Scratch>,
}

impl Bench {
    fn new(
        pipelines: &Pipelines,
        weights: WeightsRef<'_>,
        input: Shape,
        options: LayerOptions,
    ) -> Result<Self> {
        let device = pipelines.device();
        let layer = Layer::new(pipelines, weights, options)?;
        let memory = MemoryUse::of_plan(weights, input, &options)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let tensor = |label: &str, bytes: u64, values: fn(u32) -> u32| {
            check_buffer(pipelines.limits(), label, bytes)?;
            let words: Vec<u32> = (0..bytes.div_ceil(4) as u32).map(values).collect();
            upload(device, label, usage, &words).map(Scratch)
        };
        // Words that are small numbers as floats, as halves and as mantissas with their scales alike.
        let x = tensor("dsconv tuning input", memory.input, small_number)?;
        let residual = match options.residual {
            Residual::None => None,
            _ => Some(tensor("dsconv tuning residual", memory.residual, small_number)?),
        };
        let output = tensor("dsconv tuning output", memory.output, |_| 0)?;
        let plan = layer.plan(
            input,
            Tensors::new(x.slice(..), output.slice(..))
                .with_residual(residual.as_ref().map(|residual| residual.slice(..))),
        )?;
        let tensors = std::iter::once(x).chain(residual).collect();
        Ok(Self { layer, plan, output, tensors })
    }

    /// Submits so many runs and waits for them.
    async fn run(&self, pipelines: &Pipelines, queue: &wgpu::Queue, runs: u32) -> Result<()> {
        let device = pipelines.device();
        checked(device, "the submission", || {
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for _ in 0..runs {
                self.plan.encode(&mut encoder);
            }
            queue.submit([encoder.finish()]);
        })?;
        finished(device, queue).await
    }

    /// The median time of a run.
    async fn time(&self, pipelines: &Pipelines, queue: &wgpu::Queue) -> Result<Duration> {
        self.run(pipelines, queue, 1).await?;
        let started = Instant::now();
        self.run(pipelines, queue, 1).await?;
        let once = started.elapsed().max(Duration::from_nanos(1));
        let runs = (SUBMISSION.as_nanos() / once.as_nanos()).clamp(1, 64) as u32;
        let mut times = [Duration::ZERO; ROUNDS];
        for time in &mut times {
            let started = Instant::now();
            self.run(pipelines, queue, runs).await?;
            *time = started.elapsed() / runs;
        }
        times.sort();
        Ok(times[ROUNDS / 2])
    }

    /// The output of a run as numbers; of integer activations the upper halves of their words.
    async fn output(
        &self,
        pipelines: &Pipelines,
        queue: &wgpu::Queue,
        options: &LayerOptions,
    ) -> Result<Vec<f32>> {
        self.run(pipelines, queue, 1).await?;
        let (device, output) = (pipelines.device(), self.output.slice(..));
        match options.int8_output {
            Some(_) => {
                let words = read::<u32>(device, queue, output).await?;
                Ok(words.into_iter().map(|word| (word >> 16) as f32).collect())
            }
            None => {
                let count = self.plan.output_shape().elements();
                read_floats(device, queue, output, options.float_format, count).await
            }
        }
    }

    fn destroy(self) {
        self.plan.destroy();
        self.layer.destroy();
        drop(self.tensors);
    }
}

/// Words that are small as floats, 2^-15 to 2^-7, and as pairs of halves, 1/2 to 1.
fn small_number(index: u32) -> u32 {
    let random = index.wrapping_mul(0x9e37_79b9).rotate_left(13).wrapping_mul(0x85eb_ca6b);
    // Random signs and fractions of both halves; their exponents are also the top of the float's.
    (random & 0x83ff_83ff) | 0x3800_3800
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_come_back_from_text_and_damage_does_not() {
        let choice = |kernel| Choice { kernel, time: Duration::from_micros(12) };
        let choices = [("a, b", Kernel::ConvGemmWide), ("c\td", Kernel::ConvDirect)];
        let tuner = Tuner {
            header: "dsconv on x".into(),
            choices: choices.map(|(class, kernel)| (class.into(), choice(kernel))).into(),
        };
        let text = tuner.text();
        assert_eq!(Tuner::parse(&text), Some(tuner));
        for end in 0..text.len() {
            assert_eq!(Tuner::parse(&text[..end]), None, "cut off at {end}");
        }
        assert_eq!(Tuner::parse(&text.replace("conv_direct", "conv_magic")), None);
        assert_eq!(Tuner::parse(&text.replace("12000", "a while")), None);
    }

    #[test]
    fn kernels_that_differ_from_most_others_are_left_out() {
        let [a, b, c] = [Kernel::ConvDirect, Kernel::ConvGemm, Kernel::ConvSubgroup];
        let (right, wrong) = (vec![1.0, -2.0], vec![1.0, -2.1]);
        let outputs = [(a, wrong.clone()), (b, right.clone()), (c, vec![1.0, -2.0001])];
        assert_eq!(agreeing(&outputs), [b, c]);
        assert_eq!(agreeing(&[(a, right), (b, wrong)]), [a], "the first is the judge of two");
        assert_eq!(agreeing(&[]), []);
    }

    #[test]
    fn words_for_measuring_are_tame_in_every_format() {
        for word in (0..1000).map(small_number) {
            let half = |bits: u32| f64::from(half::f16::from_bits(bits as u16).to_f32()).abs();
            let float = f64::from(f32::from_bits(word)).abs();
            for value in [float, half(word), half(word >> 16)] {
                assert!((2e-5..1.0).contains(&value), "{word:08x}: {value}");
            }
        }
    }
}
