use crate::display::table;
use crate::radv::{self, Shader};
use dsconv::gpu::{ActivationFormat, Capabilities, Kernel, Problem, Variant, WeightFormat};
use dsconv::{BlockFormat, ConvDescriptor};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// A chip by Mesa's name, as navi21, gfx1100, vega20, navi10, polaris10; can be repeated.
    #[arg(long, default_values = ["navi21", "gfx1100"])]
    chip: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A variant on a chip. Instructions are those of a full step of the main loop: loading, unpacking and
/// multiplying 16 channels of floats or 32 of integers. What comes once per block is not in it: loading
/// its shifts, and scaling its integer sums.
#[derive(serde::Serialize)]
struct Row {
    chip: String,
    variant: String,
    weights: String,
    activations: String,
    bits: u8,
    /// Channels of a block; null where it is data to the kernel and changes no instruction.
    block: Option<u32>,
    /// Whether `Kernel::choose` picks the kernel for GPUs.
    chosen: bool,
    vgprs: u64,
    sgprs: u64,
    lds_bytes: u64,
    spills: u64,
    scratch_bytes: u64,
    waves: u64,
    code_bytes: u64,
    instructions_per_mac: Option<f64>,
    dot_share: f64,
}

/// Compiles every variant that AMD's subgroups can run, and prints what became of it.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    // Kernels for subgroups of eight are not for these chips, whose subgroups are of 32 or 64.
    let amd = |variant: &Variant| {
        !matches!(variant.kernel, Kernel::ConvSubgroup | Kernel::ConvSubgroupInt8)
    };
    let variants: Vec<Variant> = Variant::all().filter(amd).collect();
    let shaders: Vec<Shader> = variants.iter().map(shader).collect();
    let mut rows = Vec::new();
    for (chip, reports) in options.chip.iter().zip(radv::compile_for(&options.chip, &shaders)?) {
        for (variant, report) in variants.iter().zip(reports) {
            rows.push(Row {
                chip: chip.clone(),
                variant: variant.to_string(),
                weights: variant.weights.to_string(),
                activations: variant.kernel.activations().to_string(),
                bits: variant.weights.bits(),
                block: None,
                chosen: chosen(variant),
                vgprs: report.vgprs,
                sgprs: report.sgprs,
                lds_bytes: report.lds_bytes,
                spills: report.spills,
                scratch_bytes: report.scratch_bytes,
                waves: report.waves,
                code_bytes: report.code_bytes,
                instructions_per_mac: report.instructions_per_mac,
                dot_share: report.dot_share,
            });
        }
    }
    match options.json {
        true => println!("{}", serde_json::to_string(&rows)?),
        false => print(&rows),
    }
    Ok(ExitCode::SUCCESS)
}

fn shader(variant: &Variant) -> Shader {
    let constants = variant.constants();
    Shader {
        name: variant.to_string(),
        wgsl: variant.kernel.wgsl(),
        constants: constants.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        // A thread's tile times 16 channels: a step of conv_gemm, half of one of conv_gemm_int8, whose
        // halves compilers unroll or not.
        macs_per_iteration: match variant.kernel {
            Kernel::ConvGemm | Kernel::ConvGemmInt8 => Some(4 * 8 * 16),
            _ => None,
        },
        trips: if variant.kernel == Kernel::ConvGemm { 4 } else { 1 },
        // As the library compiles them, see `Pipelines`.
        checks: false,
    }
}

/// Whether a GPU would be given this variant for an ordinary layer, or for the kind it is for.
fn chosen(variant: &Variant) -> bool {
    let gpu = Capabilities { subgroup_size: Some(32), packed_dot_product: true, software: false };
    let dense = ConvDescriptor::new(64, 64, [3, 3]);
    let depthwise = ConvDescriptor::new(64, 64, [3, 3]).with_groups(64);
    let narrow = ConvDescriptor::new(64, 4, [3, 3]);
    let blocks = match variant.weights {
        WeightFormat::F32 => None,
        WeightFormat::Packed(bits) => BlockFormat::new(bits, 32).ok(),
    };
    let activations = variant.kernel.activations();
    [dense, depthwise, narrow].iter().any(|&descriptor| {
        let problem = Problem { descriptor, blocks, activations, int8_output: None };
        Kernel::choose(&problem, &gpu) == variant.kernel
    }) || (variant.kernel == Kernel::QuantizeActivations && activations == ActivationFormat::F32)
}

fn print(rows: &[Row]) {
    for rows in rows.chunk_by(|a, b| a.chip == b.chip) {
        println!("{}", rows[0].chip);
        let mut out = table(&[
            "variant",
            "chosen",
            "VGPRs",
            "SGPRs",
            "LDS",
            "spills",
            "scratch",
            "waves",
            "code",
            "instructions / MAC",
            "dot share",
        ]);
        for row in rows {
            out.add_row([
                row.variant.clone(),
                if row.chosen { "yes".into() } else { String::new() },
                row.vgprs.to_string(),
                row.sgprs.to_string(),
                row.lds_bytes.to_string(),
                row.spills.to_string(),
                row.scratch_bytes.to_string(),
                row.waves.to_string(),
                row.code_bytes.to_string(),
                row.instructions_per_mac.map_or("-".into(), |ratio| format!("{ratio:.2}")),
                format!("{:.0}%", 100.0 * row.dot_share),
            ]);
        }
        println!("{out}");
    }
    println!(
        "Instructions of all kinds in a step of the main loop, tiles' loads included, per multiply-add;\nwhat comes once per block (shifts, scaling of integer sums) is not in it."
    );
}
