//! `dsconv isa`: what the kernels become on chips of four makers, compiled by Mesa's drivers without a GPU.

use crate::display::table;
use crate::machine_code::{self, Chip, Counts, Maker, Report, Shader};
use crate::output::{say, tell};
use crate::progress::progress;
use anyhow::{Context, ensure};
use dsconv::gpu::{
    ActivationFormat, Capabilities, ConvProblem, Kernel, Specialization, TensorCores, Variant,
    WeightFormat,
};
use dsconv::{BlockFormat, ConvDescriptor, Layout};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compile for this chip; can be repeated. AMD: polaris10, vega10, vega20, navi10, navi21, navi31, navi33, gfx1201.
    /// NVIDIA: turing, ampere. Qualcomm: adreno660, adreno740. Apple: m1. Without it: one of each maker whose
    /// driver is found.
    #[arg(long)]
    chip: Vec<String>,
    /// Compile this kernel only; can be repeated.
    #[arg(long, value_name = "NAME")]
    kernel: Vec<String>,
    /// Compile for weights of these bits only, 32 for floats.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    bits: Vec<u8>,
    /// Compile this variant only, named as in the table: 'conv_gemm_int8 i4 one step'; can be repeated.
    #[arg(long, value_name = "NAME")]
    variant: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A variant on a chip. Instructions are those of the main loop: loading, unpacking and multiplying a step's 16
/// channels of floats or 32 of integers, and, where a block is named, its share of what comes once per block: loading
/// scales, scaling integer sums. What the driver does not tell is null.
#[derive(serde::Serialize)]
struct Row {
    chip: String,
    /// The chip and the driver in the driver's words.
    device: String,
    variant: String,
    weights: String,
    activations: String,
    bits: u8,
    /// Channels of a block; null for floats, which have none.
    block: Option<u32>,
    /// True if `Kernel::choose` picks the kernel for GPUs.
    chosen: bool,
    #[serde(flatten)]
    statistics: machine_code::Statistics,
    /// Vector, scalar and memory instructions, and branches, over multiply-adds.
    instructions_per_mac: Option<f64>,
    /// The same with waits and other hints to the scheduler, which take a slot and do no work.
    with_waits_per_mac: Option<f64>,
    dot_share: Option<f64>,
    /// The driver's own estimate of the loop's cycles over multiply-adds.
    cycles_per_mac: Option<f64>,
    /// The loop's instructions by kind.
    main_loop: Option<machine_code::MainLoop>,
}

/// Blocks to count for, where weights have them.
const BLOCKS: [u32; 2] = [32, 128];

/// The cases that a child process compiles: not all, so that a chip's are shared out among the cores.
const CHUNK: usize = 16;

/// A variant, and the block size that is counted for.
type Case = (Variant, Option<u32>);

/// Compiles every variant that the chips can run, or those asked for, and prints what became of them.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let cases = cases(options)?;
    let chips = chips(options)?;
    let cases: Vec<_> = chips.iter().map(|(_, chip)| of_chip(&cases, chip)).collect();
    let work: Vec<_> = chips
        .iter()
        .zip(&cases)
        .flat_map(|(chip, cases)| cases.chunks(CHUNK).map(move |cases| (chip, cases)))
        .collect();
    let bar = progress(cases.iter().map(Vec::len).sum())?;
    let compiled = in_parallel(&work, |((name, chip), cases)| {
        let shaders: Vec<Shader> = cases.iter().map(|(v, block)| shader(v, *block)).collect();
        bar.set_message(name.clone());
        machine_code::compile(chip, &shaders, || bar.inc(1)).with_context(|| name.clone())
    });
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for ((chip, cases), reports) in work.iter().zip(compiled) {
        rows.extend(cases.iter().zip(reports?).map(|(case, report)| row(chip, case, report)));
    }
    match options.json {
        true => say!("{}", serde_json::to_string(&rows)?),
        false => print(&rows),
    }
    Ok(ExitCode::SUCCESS)
}

/// The chips that are asked for, each with the name that it is asked for by.
fn chips(options: &Options) -> anyhow::Result<Vec<(String, &'static Chip)>> {
    if !options.chip.is_empty() {
        return options.chip.iter().map(|name| Ok((name.clone(), Chip::find(name)?))).collect();
    }
    let makers = machine_code::found_makers()?;
    let chips: Vec<_> = makers.into_iter().map(machine_code::Maker::default_chip).collect();
    let names = chips.iter().map(|chip| format!("{} ({})", chip.name, chip.maker.name()));
    let names = names.collect::<Vec<_>>().join(", ");
    tell!(
        "Compiling for {names}; --chip names others. --kernel, --bits and --variant choose what to compile."
    );
    Ok(chips.into_iter().map(|chip| (chip.name.to_string(), chip)).collect())
}

/// The variants that are asked for, each with the block sizes to count for.
fn cases(options: &Options) -> anyhow::Result<Vec<Case>> {
    let mut variants: Vec<_> = Variant::all().collect();
    retain(&mut variants, "kernel", &options.kernel, |v| v.kernel.name().to_string())?;
    retain(&mut variants, "variant", &options.variant, ToString::to_string)?;
    variants.retain(|v| options.bits.is_empty() || options.bits.contains(&v.weights.bits()));
    ensure!(
        !variants.is_empty(),
        "--kernel, --variant and --bits: no variant has all that is asked for; expected fewer of them"
    );
    let blocks = |variant: Variant| {
        let blocks = match variant.kernel.spec().step {
            Some(_) if variant.specialization == Specialization::OneStep => vec![Some(BLOCKS[0])],
            Some(_) if variant.weights != WeightFormat::F32 => BLOCKS.map(Some).to_vec(),
            _ => vec![None],
        };
        blocks.into_iter().map(move |block| (variant, block))
    };
    Ok(variants.into_iter().flat_map(blocks).collect())
}

/// Leaves the variants with the names that are wanted, or all.
fn retain(
    variants: &mut Vec<Variant>,
    what: &str,
    wanted: &[String],
    name: impl Fn(&Variant) -> String,
) -> anyhow::Result<()> {
    for wanted in wanted {
        let known = Variant::all().any(|variant| name(&variant) == *wanted);
        ensure!(
            known,
            "there is no {what} {wanted:?}; expected one of the table that dsconv isa prints"
        );
    }
    variants.retain(|variant| wanted.is_empty() || wanted.contains(&name(variant)));
    Ok(())
}

/// The cases that a chip can run: some kernels are for subgroups of one size only, or for matrix units.
fn of_chip(cases: &[Case], chip: &Chip) -> Vec<Case> {
    let runs = |(variant, _): &&Case| {
        let spec = variant.kernel.spec();
        let size = spec.subgroup_size.is_none_or(|size| chip.subgroup_sizes.contains(&size));
        let units = spec.matrix.is_none_or(|size| {
            let fits =
                |units: TensorCores| units.size == size && variant.on(&gpu(chip)) == *variant;
            chip.tensor_cores.is_some_and(fits)
        });
        size && units
    };
    cases.iter().filter(runs).copied().collect()
}

/// Does all the work, as much at a time as there are cores. Results are in the order of the work.
fn in_parallel<W: Sync, T: Send>(work: &[W], each: impl Fn(&W) -> T + Sync) -> Vec<T> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores.min(work.len()) {
            scope.spawn(|| {
                while let Some((index, work)) =
                    work.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = each(work);
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

fn row((name, chip): &(String, &Chip), (variant, block): &Case, report: Report) -> Row {
    let per_mac = |count: fn(&Counts, u32) -> Option<u32>| {
        let main_loop = report.main_loop.as_ref()?;
        main_loop.per_mac(count(&main_loop.counts, main_loop.instructions)?)
    };
    Row {
        chip: name.clone(),
        variant: variant.to_string(),
        weights: variant.weights.to_string(),
        activations: variant.activations.to_string(),
        bits: variant.weights.bits(),
        block: *block,
        chosen: chosen(variant, chip),
        instructions_per_mac: per_mac(|counts, all| Some(all - counts.waits)),
        with_waits_per_mac: per_mac(|_, all| Some(all)),
        dot_share: report.main_loop.as_ref().map(machine_code::MainLoop::dot_share),
        cycles_per_mac: per_mac(|counts, _| counts.cycles),
        device: report.device,
        statistics: report.statistics,
        main_loop: report.main_loop,
    }
}

/// The variant as the driver is to compile it.
fn shader(variant: &Variant, block: Option<u32>) -> Shader {
    let spec = variant.kernel.spec();
    let macs = spec
        .tile()
        .zip(spec.step)
        .map(|(tile, step)| tile.pixels * tile.outputs / spec.threads * step);
    Shader {
        name: variant.to_string(),
        wgsl: variant.wgsl(),
        constants: variant.constants().into_iter().map(|(name, v)| (name.into(), v)).collect(),
        macs_per_iteration: macs,
        // The loop over blocks is around that over steps, but where both are one.
        trips: match variant.specialization {
            Specialization::OneStep => None,
            _ => spec.step.zip(block).map(|(step, block)| block / step),
        },
        // As the library compiles them, see `Pipelines`.
        checks: false,
    }
}

/// Says whether the chip would be given this variant for an ordinary layer, or for the kind it is for.
fn chosen(variant: &Variant, chip: &Chip) -> bool {
    // Not every host asks for matrix units.
    let gpus = [gpu(chip), gpu(chip).with_tensor_cores(None)];
    let dense = ConvDescriptor::new(64, 64, [3, 3]);
    let depthwise = ConvDescriptor::new(64, 64, [3, 3]).with_groups(64);
    let dilated = depthwise.with_dilation([2, 2]);
    let narrow = ConvDescriptor::new(64, 4, [3, 3]);
    let blocks = match variant.weights {
        WeightFormat::F32 => None,
        WeightFormat::Packed(bits) => BlockFormat::new(bits, 32).ok(),
    };
    let activations = variant.activations;
    let planar = [dense, depthwise, dilated, narrow].map(|layer| (layer, Layout::Nchw));
    planar.into_iter().chain([(depthwise, Layout::Nhwc)]).any(|(descriptor, layout)| {
        let problem = ConvProblem::of_format(descriptor, blocks)
            .with_activations(activations)
            .with_float_format(variant.float_format)
            .with_layouts(layout, layout);
        gpus.iter().any(|gpu| {
            let kernel = Kernel::choose(&problem, gpu);
            [kernel, kernel.for_large_outputs(gpu)].contains(&variant.kernel)
        })
    }) || (!variant.kernel.spec().is_convolution() && activations == ActivationFormat::Float)
}

/// What a chip's kernels are chosen by.
fn gpu(chip: &Chip) -> Capabilities {
    let mut gpu = Capabilities::default()
        .with_subgroup_size(32)
        .with_packed_dot_product(chip.maker.packed_dot_product())
        .with_tensor_cores(chip.tensor_cores)
        .with_shader_f16();
    gpu.wide_tiles = chip.maker != Maker::Apple;
    gpu.largest_subgroup = chip.subgroup_sizes.iter().copied().max().unwrap_or(0);
    gpu
}

fn print(rows: &[Row]) {
    for rows in rows.chunk_by(|a, b| a.chip == b.chip) {
        say!("{}: {}", rows[0].chip, rows[0].device);
        let mut out = table(&[
            "variant",
            "block",
            "chosen",
            "VGPRs",
            "SGPRs",
            "LDS",
            "spills",
            "scratch",
            "waves",
            "code",
            "instructions / MAC",
            "with waits",
            "cycles / MAC",
            "dot share",
        ]);
        for row in rows {
            let of = &row.statistics;
            out.add_row([
                row.variant.clone(),
                row.block.map_or(String::new(), |block| block.to_string()),
                if row.chosen { "yes".into() } else { String::new() },
                number(of.vgprs),
                number(of.sgprs),
                number(of.lds_bytes),
                number(of.spills),
                number(of.scratch_bytes),
                number(of.waves),
                number(of.code_bytes),
                ratio(row.instructions_per_mac),
                ratio(row.with_waits_per_mac),
                ratio(row.cycles_per_mac),
                row.dot_share.map_or("-".into(), |share| format!("{:.0}%", 100.0 * share)),
            ]);
        }
        say!("{out}");
    }
    say!(
        "Instructions of the main loop per multiply-add: tiles' loads included and, by block, what comes once per\n\
         block (scales, scaling of integer sums). Waits and other hints to the scheduler are counted apart. Cycles\n\
         are the driver's own estimate. A dash is what a driver does not tell."
    );
}

fn number(value: Option<u64>) -> String {
    value.map_or("-".into(), |value| value.to_string())
}

fn ratio(value: Option<f64>) -> String {
    value.map_or("-".into(), |ratio| format!("{ratio:.3}"))
}
