//! Reads NVIDIA's assembly, as NAK, the compiler of Mesa's NVK, writes it.
//!
//! Blocks tell where they lead: `block 5 L7 [4] -> {`, instructions, `} -> [5, 6]`. An instruction is its predicate,
//! what it sets, its name with its operands, and after `//` when the next one may start: `delay=2`.

use super::listing::{Block, Counts, Instruction, Kind, Memory};

/// The blocks of a listing.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in text.lines() {
        if line.starts_with("block") {
            blocks.push(Block::default());
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        if let Some(successors) = line.strip_prefix("} -> [") {
            // Blocks are numbered in their order.
            let successors = successors.trim_end_matches(']').split(',');
            block.successors = successors.filter_map(|number| number.trim().parse().ok()).collect();
        } else {
            count(line, &mut block.counts);
        }
    }
    let count = blocks.len();
    for block in &mut blocks {
        block.successors.retain(|successor| *successor < count);
    }
    blocks
}

fn count(line: &str, counts: &mut Counts) {
    let (code, schedule) = line.split_once("//").unwrap_or((line, ""));
    let Some(instruction) = instruction(code) else { return };
    counts.count(instruction, 1);
    let delay = schedule.split_whitespace().find_map(|word| word.strip_prefix("delay="));
    if let Some(delay) = delay.and_then(|delay| delay.parse::<u32>().ok()) {
        *counts.cycles.get_or_insert_default() += delay;
    }
}

fn instruction(code: &str) -> Option<Instruction> {
    // `r0 p1 = iadd3 …`: what it sets is before the sign.
    let (set, code) = code.split_once(" = ").unwrap_or(("", code));
    let mut words = code.split_whitespace().skip_while(|word| word.starts_with('@'));
    let name = words.next()?;
    let mut set = set.split_whitespace().filter(|word| !word.starts_with('@'));
    // The registers and predicates that a subgroup has in common are `ur1` and `up1`.
    let uniform = set.next().is_some_and(|first| first.starts_with('u'));
    let (base, suffix) = name.split_once('.').unwrap_or((name, ""));
    let kind = match base {
        "idp4" => Kind::Dot,
        "hmma" => Kind::Matrix,
        "nop" => Kind::Hint,
        "bra" | "brx" | "bssy" | "bsync" | "bclear" | "bmov" | "break" | "brk" | "exit"
        | "kill" | "ret" | "cal" | "call" | "warpsync" => Kind::Branch,
        "ld" | "st" | "atom" | "red" | "ldg" | "stg" | "lds" | "sts" | "atomg" | "atoms" => {
            let of = |part| suffix.contains(part);
            let memory = if of("shared") || base == "lds" || base == "sts" || base == "atoms" {
                Memory::Shared
            } else if of("local") {
                Memory::Other
            } else {
                Memory::Global
            };
            Kind::Memory(memory, bytes(suffix))
        }
        // A fragment of a matrix: so many registers a thread.
        "ldsm" => Kind::Memory(Memory::Shared, 4 * registers(suffix)),
        "ldc" | "ldl" | "stl" => Kind::Memory(Memory::Other, bytes(suffix)),
        "suld" | "sust" | "suatom" | "tex" | "tld" => Kind::Memory(Memory::Global, bytes(suffix)),
        "bar" | "membar" | "depbar" => Kind::Scalar,
        _ if uniform => Kind::Scalar,
        "ffma" | "hfma2" | "ffma2" => Kind::Fma,
        _ => Kind::Vector,
    };
    Some(Instruction {
        kind,
        fused: match (kind, base) {
            (Kind::Fma, "ffma") => 1,
            (Kind::Fma, _) => 2,
            (Kind::Matrix, _) => matrix_share(suffix),
            _ => 0,
        },
        products: match (kind, base) {
            (Kind::Vector, "fmul") => 1,
            (Kind::Vector, "hmul2" | "fmul2") => 2,
            _ => 0,
        },
        int_products: u32::from(kind == Kind::Vector && matches!(base, "imad" | "imul")),
    })
}

/// The multiply-adds of a thread in a product of matrices, `m16n8k16`, of a subgroup of 32.
fn matrix_share(suffix: &str) -> u32 {
    let shape = suffix.split('.').find(|part| part.starts_with('m')).unwrap_or("");
    let sides = shape.split(['m', 'n', 'k']).filter_map(|side| side.parse::<u32>().ok());
    sides.product::<u32>() / 32
}

/// The registers of a thread that a load of matrices fills: `.x4`.
fn registers(suffix: &str) -> u32 {
    let count = |part: &str| part.strip_prefix('x')?.parse().ok();
    suffix.split('.').find_map(count).unwrap_or(1)
}

/// Bytes that a load or store moves for a thread: `.b128`, and `.u8` for less than a register.
fn bytes(suffix: &str) -> u32 {
    let bits = |part: &str| part.get(1..)?.parse::<u32>().ok();
    let typed = |part: &&str| part.starts_with(['b', 'u', 'i', 's', 'f']);
    suffix.split('.').filter(typed).find_map(bits).map_or(4, |bits| bits / 8)
}

#[cfg(test)]
#[path = "tests/nvidia.rs"]
mod tests;
