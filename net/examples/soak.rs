//! Makes and drops networks, and runs them, on four threads and two devices at once, and checks every result. Memory
//! and open files must stay flat from the first tenth on, which Linux tells of.
//!
//! `cargo run --release -p dsconv-net --example soak -- [NETWORKS] [RUNS OF EACH]`, by default 1,000 and 10

use dsconv::gpu::{self, Gpu, Pipelines, Selection};
use dsconv_net::gpu::{Network, NetworkOptions};
use dsconv_net::{Program, QuantizeOptions, cpu, onnx, quantize};
use std::sync::atomic::{AtomicUsize, Ordering};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// So much may memory grow: what allocators keep, not 16 KiB of each of a thousand networks.
const GROWTH: u64 = 16 << 20;
/// So many more files may be open: drivers open some when they come to it.
const FILES: usize = 8;
const THREADS: usize = 4;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut count = |default: usize| -> Result<usize> {
        Ok(arguments.next().map(|text| text.parse()).transpose()?.unwrap_or(default).max(1))
    };
    let (networks, runs) = (count(1000)?, count(10)?);

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/small.onnx");
    let options = QuantizeOptions { bits: 4, block: 8, ..QuantizeOptions::default() };
    let graph = quantize(&onnx::read(file)?, &options, |_, _, _| ())?;
    let program = graph.specialise(&[&[1, 5, 4, 4]])?;
    let input: Vec<f32> = (0..5 * 4 * 4).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect();
    let expected = cpu::run(&program, &[&input])?;
    let job = Job { program, input, expected, runs };

    let devices = [
        pollster::block_on(gpu::open(&Selection::Best))?,
        pollster::block_on(gpu::open(&Selection::Best))?,
    ];
    let pipelines = [Pipelines::new(&devices[0].device)?, Pipelines::new(&devices[1].device)?];
    println!("on {}, {networks} networks, {runs} runs of each", devices[0].adapter.get_info().name);
    let round = |networks: usize| -> Result<()> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (gpu, pipelines) = (&devices[thread % 2], &pipelines[thread % 2]);
                    let (job, next) = (&job, &next);
                    scope.spawn(move || -> Result<()> {
                        while next.fetch_add(1, Ordering::Relaxed) < networks {
                            job.run(gpu, pipelines)?;
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
        })
    };
    round(networks.div_ceil(10))?;
    let before = Use::now();
    round(networks)?;
    match (before, Use::now()) {
        (Some(before), Some(after)) => {
            println!(
                "memory: {} before, {} after; files: {} and {}",
                before.bytes, after.bytes, before.files, after.files
            );
            if after.bytes > before.bytes + GROWTH || after.files > before.files + FILES {
                return Err(
                    format!("expected at most {GROWTH} bytes and {FILES} files more").into()
                );
            }
        }
        _ => println!("this system does not tell memory and files; the results were right"),
    }
    Ok(())
}

/// A network with an input, and what must come out.
struct Job {
    program: Program,
    input: Vec<f32>,
    expected: Vec<Vec<f32>>,
    runs: usize,
}

impl Job {
    /// Makes the network, runs it, and drops it.
    fn run(&self, gpu: &Gpu, pipelines: &Pipelines) -> Result<()> {
        let plan = Network::new(pipelines, NetworkOptions::default())?.plan(&self.program)?;
        for _ in 0..self.runs {
            let outputs = pollster::block_on(plan.run(&gpu.queue, &[&self.input]))?;
            let lengths = |tensors: &[Vec<f32>]| tensors.iter().map(Vec::len).collect::<Vec<_>>();
            if lengths(&outputs) != lengths(&self.expected) {
                return Err("outputs of other sizes".into());
            }
            let mut pairs = outputs.iter().flatten().zip(self.expected.iter().flatten());
            if let Some((got, expected)) = pairs.find(|(got, expected)| !close(**got, **expected)) {
                return Err(format!("expected {expected}, got {got}").into());
            }
        }
        Ok(())
    }
}

/// Whether they are alike; NaN is like nothing.
fn close(got: f32, expected: f32) -> bool {
    (got - expected).abs() < 1e-5
}

/// What the process holds.
struct Use {
    bytes: u64,
    files: usize,
}

impl Use {
    /// Now; `None` where the system has no `/proc`.
    fn now() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Self { bytes: 1024 * kib, files: std::fs::read_dir("/proc/self/fd").ok()?.count() })
    }
}
