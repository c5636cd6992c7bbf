//! What a device gives at best, measured by kernels that do nothing else: copies, and arithmetic in registers.

use super::numbers::positive;
use crate::device::Device;
use crate::timing::{Work, times};
use anyhow::ensure;
use dsconv::gpu::{checked, download, upload};
use std::time::Duration;

const COPY: &str = include_str!("../../../shaders/copy.wgsl");
const ARITHMETIC: &str = include_str!("../../../shaders/arithmetic.wgsl");

/// Bytes of a copy: more than caches hold.
const COPY_BYTES: u64 = 128 << 20;
/// Workgroups of the arithmetic probe: a large GPU wants many, a software device is busy with few.
const GROUPS: u32 = 4096;
const SOFTWARE_GROUPS: u32 = 512;
/// Steps of each chain in a turn of the loop.
const UNROLLED: u32 = 16;
/// Steps of a thread, all chains and lanes together, or a few less.
const STEPS: u32 = 8192;

/// The device's bounds. An operation is a multiplication or an addition.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Roofline {
    /// Memory bandwidth, read and written, GB/s.
    #[serde(deserialize_with = "positive")]
    pub(super) gb_per_s: f64,
    /// Multiply-adds of floats, GOP/s.
    #[serde(deserialize_with = "positive")]
    pub(super) f32_gops: f64,
    /// Products of int8 summed in i32 by `dot4I8Packed`, GOP/s.
    #[serde(deserialize_with = "positive")]
    pub(super) int8_gops: f64,
}

/// Chains of one operation in each thread, independent of each other. Which are the fastest is the device's affair:
/// some want vectors, some more chains to hide latency, some fewer to keep them in registers.
#[derive(Clone, Copy)]
struct Chains {
    int8: bool,
    /// Lanes of a vector, 1 or 4.
    lanes: u32,
    count: u32,
}

const PROBED: [Chains; 5] = [
    Chains { int8: false, lanes: 1, count: 8 },
    // The most that sixteen vector registers hold, which is what lavapipe has.
    Chains { int8: false, lanes: 1, count: 12 },
    Chains { int8: false, lanes: 4, count: 4 },
    Chains { int8: true, lanes: 1, count: 4 },
    Chains { int8: true, lanes: 1, count: 8 },
];

impl Roofline {
    /// Measures; the fastest round counts.
    pub(super) fn measure(device: &Device, rounds: usize) -> anyhow::Result<Self> {
        let copy_bytes = copy_bytes(&device.gpu.device.limits());
        let copy = Probe::copy(device, copy_bytes)?;
        let software = device.gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        let groups = if software { SOFTWARE_GROUPS } else { GROUPS };
        let arithmetic = PROBED
            .iter()
            .map(|chains| Probe::arithmetic(device, *chains, groups))
            .collect::<Result<Vec<_>, _>>()?;
        let probes: Vec<&Probe> = [&copy].into_iter().chain(&arithmetic).collect();
        let works: Vec<_> = probes
            .iter()
            .map(|probe| move |pass: &mut wgpu::ComputePass<'_>| probe.record(pass))
            .collect();
        let works: Vec<Work<'_>> = works.iter().map(|work| work as Work<'_>).collect();
        let fastest: Vec<Duration> =
            times(device, &works, rounds)?.into_iter().map(|times| times[0]).collect();
        for (chains, probe) in PROBED.iter().zip(&arithmetic) {
            chains.check(&pollster::block_on(download(
                &device.gpu.device,
                &device.gpu.queue,
                probe.output.slice(..),
            ))?)?;
        }
        let per_ns = |count: u64, time: Duration| count as f64 / time.as_nanos().max(1) as f64;
        let best = |int8: bool| {
            let of = PROBED.iter().zip(&fastest[1..]).filter(|(chains, _)| chains.int8 == int8);
            of.map(|(chains, &time)| per_ns(chains.operations(groups), time)).fold(0.0, f64::max)
        };
        Ok(Self {
            gb_per_s: per_ns(2 * copy_bytes, fastest[0]),
            f32_gops: best(false),
            int8_gops: best(true),
        })
    }

    /// The most arithmetic a kernel can do, GOP/s. One that sums integers may use either probe's instructions.
    pub(super) fn arithmetic(&self, integers: bool) -> f64 {
        if integers { self.f32_gops.max(self.int8_gops) } else { self.f32_gops }
    }

    /// The most a kernel of that arithmetic intensity (operations a byte) can do, GOP/s.
    pub(super) fn at(&self, intensity: f64, integers: bool) -> f64 {
        (self.gb_per_s * intensity).min(self.arithmetic(integers))
    }
}

/// Bytes of a copy on this device: less where a buffer can't be as large.
fn copy_bytes(limits: &wgpu::Limits) -> u64 {
    let most = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    COPY_BYTES.min(most / 16 * 16)
}

impl Chains {
    /// Operations of all its threads: a multiply-add is two, a product of four int8 eight.
    fn operations(self, groups: u32) -> u64 {
        let each = if self.int8 { 8 } else { 2 };
        u64::from(each * self.steps() * self.count * self.lanes) * u64::from(64 * groups)
    }

    fn iterations(self) -> u32 {
        STEPS / (self.count * self.lanes * UNROLLED)
    }

    /// Steps of a chain.
    fn steps(self) -> u32 {
        self.iterations() * UNROLLED
    }

    fn wgsl(self) -> String {
        let ty = match (self.int8, self.lanes) {
            (true, _) => "u32",
            (false, 1) => "f32",
            (false, _) => "vec4<f32>",
        };
        let names = || (0..self.count).map(|chain| format!("x{chain}"));
        // They start apart, or a compiler would see that they are the same.
        let declare = names().enumerate().map(|(i, x)| format!("var {x} = start + {ty}({i});"));
        let operate = |x: String| match self.int8 {
            true => format!("{x} = {x} + bitcast<u32>(dot4I8Packed({x}, b));"),
            false => format!("{x} = fma({x}, a, b);"),
        };
        let operate: String = names().map(operate).collect();
        ARITHMETIC
            .replace("TYPE", ty)
            .replace("ITERATIONS", &format!("{}u", self.iterations()))
            .replace("// DECLARE", &declare.collect::<String>())
            .replace("// OPERATE", &operate.repeat(UNROLLED as usize))
            .replace("SUM", &names().collect::<Vec<_>>().join(" + "))
    }

    /// Start and factors, as bits: each operation adds one. With integers that is by the top byte of the
    /// number itself, which is one and stays it.
    fn input(self) -> Vec<u32> {
        let [start, a, b] = match self.int8 {
            true => [0x0100_0000, 0, 0x0100_0000],
            false => [1.0f32.to_bits(); 3],
        };
        [start, a, b].into_iter().flat_map(|bits| vec![bits; self.lanes as usize]).collect()
    }

    /// Refuses an output where something was not computed: sums of chains are whole numbers that floats hold.
    fn check(self, output: &[f32]) -> anyhow::Result<()> {
        let (count, steps) = (self.count, self.steps());
        let sum = |start: u32| count * (start + steps) + (0..count).sum::<u32>();
        let expected = if self.int8 { sum(0x0100_0000) } else { (sum(1) as f32).to_bits() };
        let wrong = output.iter().find(|value| value.to_bits() != expected);
        ensure!(
            wrong.is_none(),
            "the multiply-add probe gave {wrong:?}, expected {}",
            f32::from_bits(expected)
        );
        Ok(())
    }
}

struct Probe {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    output: wgpu::Buffer,
    workgroups: [u32; 2],
}

impl Probe {
    fn copy(device: &Device, bytes: u64) -> anyhow::Result<Self> {
        let gpu = &device.gpu.device;
        let input = checked(gpu, "copy probe", || {
            gpu.create_buffer(&wgpu::BufferDescriptor {
                label: Some("copy probe"),
                size: bytes,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            })
        })?;
        let groups = u32::try_from(bytes.div_ceil(16 * 256))?;
        Self::new(device, COPY, &input, bytes, dsconv::gpu::grid(groups, &gpu.limits())?)
    }

    fn arithmetic(device: &Device, chains: Chains, groups: u32) -> anyhow::Result<Self> {
        let gpu = &device.gpu.device;
        let storage = wgpu::BufferUsages::STORAGE;
        let input = upload(gpu, "multiply-add probe", storage, &chains.input())?;
        let bytes = 4 * u64::from(chains.lanes * 64 * groups);
        Self::new(device, &chains.wgsl(), &input, bytes, [groups, 1])
    }

    fn new(
        device: &Device,
        wgsl: &str,
        input: &wgpu::Buffer,
        output_bytes: u64,
        workgroups: [u32; 2],
    ) -> anyhow::Result<Self> {
        let gpu = &device.gpu.device;
        Ok(checked(gpu, "roofline probe", || {
            let output = gpu.create_buffer(&wgpu::BufferDescriptor {
                label: Some("roofline probe"),
                size: output_bytes,
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            });
            let module = gpu.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some("roofline probe"),
                source: wgpu::ShaderSource::Wgsl(wgsl.into()),
            });
            let pipeline = gpu.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("roofline probe"),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions::default(),
                cache: None,
            });
            let [input, output_binding] = [input, &output].map(wgpu::Buffer::as_entire_binding);
            let bind_group = gpu.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("roofline probe"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[
                    wgpu::BindGroupEntry { binding: 0, resource: input },
                    wgpu::BindGroupEntry { binding: 1, resource: output_binding },
                ],
            });
            Self { pipeline, bind_group, output, workgroups }
        })?)
    }

    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y] = self.workgroups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }
}
