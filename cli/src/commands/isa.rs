//! `dsconv isa`: what the kernels become on AMD chips, compiled by Mesa's driver without a GPU.

use crate::display::table;
use crate::radv::{self, Shader};
use dsconv::gpu::{
    ActivationFormat, Capabilities, ConvProblem, Kernel, Specialization, Variant, WeightFormat,
};
use dsconv::{BlockFormat, ConvDescriptor};
use std::process::ExitCode;

// What is known of the kernels; all matches over them are these.

/// Pixels times outputs of a thread, and channels of a step of the main loop.
fn step(kernel: Kernel) -> Option<(u32, u32)> {
    match kernel {
        Kernel::ConvGemm => Some((4 * 8, 16)),
        Kernel::ConvGemmWide => Some((8 * 8, 16)),
        Kernel::ConvGemmInt8 => Some((4 * 8, 32)),
        _ => None,
    }
}

/// Says whether AMD's subgroups, of 32 or 64, can run the kernel: those for subgroups of eight are not for them.
fn runs_on_amd(kernel: Kernel) -> bool {
    !matches!(kernel, Kernel::ConvSubgroup | Kernel::ConvSubgroupInt8)
}

/// The kernel that takes the place of this one for large outputs, or itself.
fn for_large_outputs(kernel: Kernel) -> Kernel {
    match kernel {
        Kernel::ConvGemm => Kernel::ConvGemmWide,
        other => other,
    }
}

/// Says whether the kernel makes activations, and is no convolution.
fn quantizes(kernel: Kernel) -> bool {
    kernel == Kernel::QuantizeActivations
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compile for this chip by Mesa's name, as navi21, gfx1100, vega20, navi10, polaris10; can be repeated.
    #[arg(long, default_values = ["navi21", "gfx1100"])]
    chip: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A variant on a chip. Instructions are those of the main loop: loading, unpacking and multiplying a step's 16
/// channels of floats or 32 of integers, and, where a block is named, its share of what comes once per block: loading
/// scales, scaling integer sums.
#[derive(serde::Serialize)]
struct Row {
    chip: String,
    variant: String,
    weights: String,
    activations: String,
    bits: u8,
    /// Channels of a block; null for floats, which have none.
    block: Option<u32>,
    /// True if `Kernel::choose` picks the kernel for GPUs.
    chosen: bool,
    vgprs: u64,
    sgprs: u64,
    lds_bytes: u64,
    spills: u64,
    scratch_bytes: u64,
    waves: u64,
    code_bytes: u64,
    /// Vector, scalar and memory instructions, and branches, over multiply-adds.
    instructions_per_mac: Option<f64>,
    /// The same with waits and other hints to the scheduler, which take a slot and do no work.
    with_waits_per_mac: Option<f64>,
    dot_share: f64,
}

/// Blocks to count for, where weights have them.
const BLOCKS: [u32; 2] = [32, 128];

/// Compiles every variant that AMD's subgroups can run, and prints what became of it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let blocks = |variant: Variant| {
        let blocks = match step(variant.kernel) {
            Some(_) if variant.specialization == Specialization::OneStep => vec![Some(BLOCKS[0])],
            Some(_) if variant.weights != WeightFormat::F32 => BLOCKS.map(Some).to_vec(),
            _ => vec![None],
        };
        blocks.into_iter().map(move |block| (variant, block))
    };
    let variants: Vec<_> =
        Variant::all().filter(|v| runs_on_amd(v.kernel)).flat_map(blocks).collect();
    let shaders: Vec<Shader> = variants.iter().map(|(v, block)| shader(v, *block)).collect();
    let mut rows = Vec::new();
    for (chip, reports) in options.chip.iter().zip(radv::compile_for(&options.chip, &shaders)?) {
        for ((variant, block), report) in variants.iter().zip(reports) {
            rows.push(Row {
                chip: chip.clone(),
                variant: variant.to_string(),
                weights: variant.weights.to_string(),
                activations: variant.activations.to_string(),
                bits: variant.weights.bits(),
                block: *block,
                chosen: chosen(variant),
                vgprs: report.vgprs,
                sgprs: report.sgprs,
                lds_bytes: report.lds_bytes,
                spills: report.spills,
                scratch_bytes: report.scratch_bytes,
                waves: report.waves,
                code_bytes: report.code_bytes,
                instructions_per_mac: report.work_per_mac,
                with_waits_per_mac: report.instructions_per_mac,
                dot_share: report.dot_share,
            });
        }
    }
    sigpipe::reset();
    match options.json {
        true => println!("{}", serde_json::to_string(&rows)?),
        false => print(&rows),
    }
    Ok(ExitCode::SUCCESS)
}

/// The variant as the driver is to compile it.
fn shader(variant: &Variant, block: Option<u32>) -> Shader {
    Shader {
        name: variant.to_string(),
        wgsl: variant.wgsl(),
        constants: variant.constants().into_iter().map(|(name, v)| (name.into(), v)).collect(),
        macs_per_iteration: step(variant.kernel).map(|(tile, channels)| tile * channels),
        // The loop over blocks is around that over steps, but where both are one.
        trips: match variant.specialization {
            Specialization::OneStep => None,
            _ => step(variant.kernel).zip(block).map(|((_, channels), block)| block / channels),
        },
        // As the library compiles them, see `Pipelines`.
        checks: false,
    }
}

/// Says whether a GPU would be given this variant for an ordinary layer, or for the kind it is for.
fn chosen(variant: &Variant) -> bool {
    let gpu = Capabilities {
        subgroup_size: Some(32),
        packed_dot_product: true,
        shader_f16: true,
        software: false,
    };
    let dense = ConvDescriptor::new(64, 64, [3, 3]);
    let depthwise = ConvDescriptor::new(64, 64, [3, 3]).with_groups(64);
    let narrow = ConvDescriptor::new(64, 4, [3, 3]);
    let blocks = match variant.weights {
        WeightFormat::F32 => None,
        WeightFormat::Packed(bits) => BlockFormat::new(bits, 32).ok(),
    };
    let activations = variant.activations;
    [dense, depthwise, narrow].iter().any(|&descriptor| {
        let problem = ConvProblem {
            descriptor,
            blocks,
            activations,
            int8_output: None,
            float_format: variant.float_format,
        };
        let kernel = Kernel::choose(&problem, &gpu);
        kernel == variant.kernel || for_large_outputs(kernel) == variant.kernel
    }) || (quantizes(variant.kernel) && activations == ActivationFormat::Float)
}

fn print(rows: &[Row]) {
    for rows in rows.chunk_by(|a, b| a.chip == b.chip) {
        println!("{}", rows[0].chip);
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
            "dot share",
        ]);
        for row in rows {
            out.add_row([
                row.variant.clone(),
                row.block.map_or(String::new(), |block| block.to_string()),
                if row.chosen { "yes".into() } else { String::new() },
                row.vgprs.to_string(),
                row.sgprs.to_string(),
                row.lds_bytes.to_string(),
                row.spills.to_string(),
                row.scratch_bytes.to_string(),
                row.waves.to_string(),
                row.code_bytes.to_string(),
                ratio(row.instructions_per_mac),
                ratio(row.with_waits_per_mac),
                format!("{:.0}%", 100.0 * row.dot_share),
            ]);
        }
        println!("{out}");
    }
    println!(
        "Instructions of the main loop per multiply-add: tiles' loads included and, by block, what comes once per\n\
         block (scales, scaling of integer sums). Waits and other hints to the scheduler are counted apart."
    );
}

fn ratio(value: Option<f64>) -> String {
    value.map_or("-".into(), |ratio| format!("{ratio:.3}"))
}
