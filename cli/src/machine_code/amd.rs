//! Reads AMD's assembly, as LLVM's disassembler writes it for Mesa's RADV.

use super::listing::{Block, Instruction, Kind, Labelled, Memory};

/// The blocks of a listing.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Labelled::new();
    let mut last = None;
    for line in text.lines() {
        // The encoding follows the semicolon.
        let line = line.split(';').next().unwrap_or("").trim();
        if let Some(label) = line.strip_suffix(':') {
            blocks.label(label);
            continue;
        }
        // Equal instructions in a row: `(then repeated 3 times)`.
        let repeats = line.strip_prefix("(then repeated ").and_then(|rest| rest.split(' ').next());
        if let (Some(repeats), Some(last)) = (repeats, last) {
            blocks.count(last, repeats.parse().unwrap_or(0));
            continue;
        }
        let (mnemonic, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if !is_mnemonic(mnemonic) {
            continue;
        }
        let instruction = instruction(mnemonic, operands);
        blocks.count(instruction, 1);
        if instruction.kind == Kind::Branch {
            let always = ["s_branch", "s_endpgm", "s_setpc"];
            let always = always.iter().any(|branch| mnemonic.starts_with(branch));
            blocks.branch(Some(operands.trim()), always);
        }
        last = Some(instruction);
    }
    blocks.finish()
}

/// Says whether a word is an instruction and no remark of the disassembler.
fn is_mnemonic(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.contains('_') && word.chars().all(plain) || word == "(invalid"
}

fn instruction(mnemonic: &str, operands: &str) -> Instruction {
    let kind = kind(mnemonic);
    if kind == Kind::Matrix {
        // 16 x 16 x 16 products in a subgroup of 64, which RADV takes for matrices.
        return Instruction { kind, fused: 64, products: 0, int_products: 0 };
    }
    if kind != Kind::Vector {
        return kind.into();
    }
    // A dual instruction: `v_dual_fmac_f32 … :: v_dual_mul_f32 …`.
    let second = operands.split("::").nth(1).unwrap_or("").trim_start();
    let second = second.split_whitespace().next().unwrap_or("");
    let fused = fused(mnemonic) + fused(second);
    Instruction {
        kind: if fused > 0 { Kind::Fma } else { Kind::Vector },
        fused,
        products: products(mnemonic) + products(second),
        int_products: u32::from(is_int_product(mnemonic)),
    }
}

fn kind(mnemonic: &str) -> Kind {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| mnemonic.starts_with(prefix));
    if starts(&["v_dot4"]) {
        Kind::Dot
    } else if starts(&["v_wmma"]) {
        Kind::Matrix
    } else if starts(&["s_wait", "s_nop", "s_delay_alu", "s_clause", "s_inst_prefetch"])
        || starts(&["s_set_inst_prefetch", "s_sleep", "s_code_end"])
    {
        Kind::Hint
    } else if starts(&["s_branch", "s_cbranch", "s_endpgm", "s_setpc", "s_swappc", "s_call"]) {
        Kind::Branch
    } else if starts(&["ds_"]) {
        Kind::Memory(Memory::Shared, bytes(mnemonic))
    } else if starts(&["global_", "buffer_", "tbuffer_", "flat_", "image_"]) {
        Kind::Memory(Memory::Global, bytes(mnemonic))
    } else if starts(&["s_load", "s_buffer_", "s_store", "s_scratch_", "s_dcache", "s_atomic"])
        || starts(&["scratch_"])
    {
        Kind::Memory(Memory::Other, bytes(mnemonic))
    } else if starts(&["s_"]) {
        Kind::Scalar
    } else {
        Kind::Vector
    }
}

/// Bytes that a load or store moves for a thread. `ds_read2_b32` moves two of 4.
fn bytes(mnemonic: &str) -> u32 {
    const WIDTHS: [(&str, u32); 18] = [
        ("b128", 16),
        ("b96", 12),
        ("b64", 8),
        ("b32", 4),
        ("b16", 2),
        ("b8", 1),
        ("u16", 2),
        ("i16", 2),
        ("u8", 1),
        ("i8", 1),
        ("dwordx4", 16),
        ("dwordx3", 12),
        ("dwordx2", 8),
        ("dword", 4),
        ("ushort", 2),
        ("short", 2),
        ("ubyte", 1),
        ("byte", 1),
    ];
    let width = WIDTHS.iter().find(|(name, _)| mnemonic.contains(name)).map_or(4, |(_, w)| *w);
    let two = ["read2", "write2", "load_2addr", "store_2addr"];
    if two.iter().any(|name| mnemonic.contains(name)) { 2 * width } else { width }
}

/// Multiply-adds of a vector instruction.
fn fused(mnemonic: &str) -> u32 {
    let name = mnemonic.strip_prefix("v_dual_").or(mnemonic.strip_prefix("v_")).unwrap_or("");
    let (name, times) = name.strip_prefix("pk_").map_or((name, 1), |name| (name, 2));
    let is_fused = ["fma", "mac", "mad"].iter().any(|prefix| name.starts_with(prefix));
    let is_float = ["_f32", "_f16", "_mix"].iter().any(|part| name.contains(part));
    if is_fused && is_float { times } else { 0 }
}

/// Floating products of a vector instruction.
fn products(mnemonic: &str) -> u32 {
    let starts = |prefix| mnemonic.starts_with(prefix);
    if starts("v_pk_mul_f") {
        2
    } else {
        u32::from(starts("v_mul_f32") || starts("v_mul_f16") || starts("v_dual_mul_f32"))
    }
}

fn is_int_product(mnemonic: &str) -> bool {
    let prefixes = ["v_mul_lo_u32", "v_mul_i32_i24", "v_mad_i32_i24", "v_mad_i32_i16"];
    prefixes.iter().any(|prefix| mnemonic.starts_with(prefix))
}

#[cfg(test)]
#[path = "tests/amd.rs"]
mod tests;
