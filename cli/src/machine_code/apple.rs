//! Reads the code of Apple's chips, as the compiler of Mesa's Honeykrisp prints it for its developers.
//!
//! It prints a shader several times on its way, in blocks that tell where they lead: `block5 {`, instructions,
//! `} -> block6 from block4`. The last before the first line of machine code, `   0: f2050000 mov …`, has an
//! instruction for each of that code; what follows is the preamble, which runs once for all workgroups.

use super::listing::{Block, Instruction, Kind, Memory};
use std::collections::HashMap;
use std::io::BufRead;

/// The last listings of every shader that a driver prints.
pub(super) fn listings(mut printed: impl BufRead) -> Vec<String> {
    let mut listings: Vec<String> = Vec::new();
    let mut line = Vec::new();
    // Whether the shader's machine code has been reached.
    let mut ended = true;
    while let Ok(1..) = printed.read_until(b'\n', &mut line) {
        let text = String::from_utf8_lossy(&line);
        if text.starts_with("shader: ") {
            listings.push(String::new());
            ended = false;
        } else if text.trim_start().starts_with("0: ") {
            ended = true;
        } else if let (false, Some(listing)) = (ended, listings.last_mut()) {
            if text.starts_with("block0 {") {
                listing.clear();
            }
            *listing += &text;
        }
        line.clear();
    }
    listings
}

/// The blocks of a listing.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut names = HashMap::new();
    let mut successors = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(" {").filter(|line| line.starts_with("block")) {
            names.insert(name, blocks.len());
            blocks.push(Block::default());
        } else if let Some(after) = line.strip_prefix('}') {
            let after = after.split(" from ").next().unwrap_or("");
            let after = after.split_whitespace().filter(|word| word.starts_with("block"));
            let from = blocks.len().saturating_sub(1);
            successors.extend(after.map(|name| (from, name)));
        } else if let (Some(block), Some(instruction)) = (blocks.last_mut(), instruction(line)) {
            block.counts.count(instruction, 1);
        }
    }
    for (from, name) in successors {
        if let Some(to) = names.get(name) {
            blocks[from].successors.push(*to);
        }
    }
    blocks
}

fn instruction(line: &str) -> Option<Instruction> {
    let (set, code) = line.split_once(" = ").unwrap_or(("", line));
    let (name, operands) = code.trim().split_once(' ').unwrap_or((code.trim(), ""));
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return None;
    }
    // A load sets the register that a store names first.
    let register = if set.is_empty() { operands.split(',').next().unwrap_or("") } else { set };
    let bytes = bytes(register, operands);
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let kind = match name {
        "wait" | "wait_pix" | "nop" | "signal_pix" => Kind::Hint,
        "stop" | "trap" | "begin_cf" | "break" => Kind::Branch,
        _ if starts(&["if_", "else_", "while_", "jmp_", "pop_exec", "push_exec", "break_"]) => {
            Kind::Branch
        }
        _ if name.ends_with("_barrier") => Kind::Scalar,
        _ if starts(&["local_"]) => Kind::Memory(Memory::Shared, bytes),
        _ if starts(&["device_", "atomic", "texture_", "image_"]) => {
            Kind::Memory(Memory::Global, bytes)
        }
        _ if starts(&["stack_", "uniform_store"]) => Kind::Memory(Memory::Other, bytes),
        "ffma" | "hfma" => Kind::Fma,
        _ => Kind::Vector,
    };
    Some(Instruction {
        products: u32::from(matches!(name, "fmul" | "hmul")),
        int_products: u32::from(matches!(name, "imad" | "imul")),
        ..kind.into()
    })
}

/// Bytes that a load or store moves for a thread: components as in `xyz`, of 16 bits in registers as `r1h` or `r1l`.
fn bytes(register: &str, operands: &str) -> u32 {
    let is_mask = |word: &&str| !word.is_empty() && word.chars().all(|c| "xyzw".contains(c));
    let components = operands.split(", ").map(str::trim).find(is_mask).map_or(1, str::len);
    let half = register.trim().ends_with(['h', 'l']);
    components as u32 * if half { 2 } else { 4 }
}

#[cfg(test)]
#[path = "tests/apple.rs"]
mod tests;
