//! Reads Adreno's assembly, IR3, as Mesa's turnip writes it.
//!
//! Labels are `l12:`, branches `br p0.x, #l12` and `jump #l12`. `(rpt2)` before an instruction means twice more, on the
//! registers that follow, and `(nop2)` that two slots stay empty after it. The preamble, which runs once for all
//! workgroups, is left out.

use super::listing::{Block, Instruction, Kind, Labelled, Memory};

/// The blocks of a listing.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Labelled::new();
    for line in text.lines().skip_while(|line| !is_code(line)) {
        let line = line.trim();
        if !is_code(line) {
            continue;
        }
        if let Some(label) = line.strip_suffix(':') {
            blocks.label(label);
            continue;
        }
        let (flags, code) = flags(line);
        let (name, operands) = code.split_once(char::is_whitespace).unwrap_or((code, ""));
        if name == "shpe" {
            blocks.clear();
            continue;
        }
        let instruction = instruction(name, operands);
        blocks.count(instruction, 1 + flags.repeats);
        blocks.count(Kind::Hint.into(), flags.nops);
        let target = operands.rsplit('#').next().map(str::trim).filter(|_| operands.contains('#'));
        match name {
            "jump" => blocks.branch(target, true),
            "end" | "ret" => {
                blocks.branch(None, true);
                // Nops fill the rest.
                break;
            }
            _ if instruction.kind == Kind::Branch && target.is_some() => {
                blocks.branch(target, false);
            }
            _ => {}
        }
    }
    blocks.finish()
}

/// Says whether a line is code, and no remark or declaration.
fn is_code(line: &str) -> bool {
    !line.is_empty() && !line.starts_with([';', '@']) && !line.starts_with("Native code")
}

/// The numbers in parentheses before an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    repeats: u32,
    nops: u32,
}

fn flags(line: &str) -> (Flags, &str) {
    let mut flags = Flags::default();
    let mut rest = line;
    while let Some((flag, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        let number = |name: &str| flag.strip_prefix(name).and_then(|n| n.parse().ok());
        flags.repeats += number("rpt").unwrap_or(0u32);
        flags.nops += number("nop").unwrap_or(0u32);
        rest = after.trim_start();
    }
    (flags, rest)
}

fn instruction(name: &str, operands: &str) -> Instruction {
    let (base, suffix) = name.split_once('.').unwrap_or((name, ""));
    let kind = match base {
        "nop" => Kind::Hint,
        "br" | "bra" | "brao" | "braa" | "brac" | "brax" | "bany" | "ball" | "jump" | "call"
        | "ret" | "end" | "kill" | "getone" | "getlast" | "predt" | "predf" | "prede"
        | "chmask" | "shps" => Kind::Branch,
        "bar" | "fence" | "sleep" | "ccinv" => Kind::Scalar,
        "dp4acc" => Kind::Dot,
        _ => memory(base, suffix, operands).unwrap_or(match base {
            // Registers from 48 to 55 are those that a subgroup has in common.
            _ if sets_shared_register(operands) => Kind::Scalar,
            "mad" if suffix.starts_with('f') => Kind::Fma,
            _ => Kind::Vector,
        }),
    };
    let vector = kind == Kind::Vector;
    Instruction {
        products: u32::from(vector && base == "mul" && suffix.starts_with('f')),
        // A product of two registers is a `mull` and two `madsh`; a short one `mul.s24` or `mad.s24`.
        int_products: u32::from(
            vector
                && (base == "mull" || (matches!(base, "mul" | "mad") && !suffix.starts_with('f'))),
        ),
        ..kind.into()
    }
}

/// The kind of a load or store.
fn memory(base: &str, suffix: &str, operands: &str) -> Option<Kind> {
    let memory = match base {
        "ldl" | "stl" | "ldlw" | "stlw" | "ldlv" => Memory::Shared,
        "isam" | "ldib" | "stib" | "ldg" | "stg" | "ldgb" | "stgb" | "sam" | "resbase" => {
            Memory::Global
        }
        "ldp" | "stp" | "ldc" | "stc" | "ldlp" | "stlp" | "resinfo" | "getsize" => Memory::Other,
        _ if base.starts_with("atomic") => Memory::Global,
        _ => return None,
    };
    // `isam.v (u32)(xyzw)r1.x, …` tells its type and components before the register, `ldl.u32 r1.x, l[r2.x], 4` the
    // number after all, `ldib.b.untyped.1d.u32.4.imm.base0` both in its name.
    let parts: Vec<&str> = suffix.split('.').collect();
    let bits = |part: &str| part.get(1..)?.parse::<u32>().ok().filter(|bits| bits % 8 == 0);
    let typed = |part: &&str| part.starts_with(['u', 's', 'f', 'b']);
    let flags: Vec<&str> = operands.split(['(', ')']).collect();
    let words = parts.iter().chain(&flags).copied().filter(typed);
    let bytes = words.clone().find_map(bits).map_or(4, |bits| bits / 8);
    let components = match base {
        "isam" | "sam" => {
            let is_mask =
                |flag: &&str| !flag.is_empty() && flag.chars().all(|c| "xyzw".contains(c));
            flags.iter().copied().find(is_mask).map_or(1, |mask| mask.len() as u32)
        }
        "ldib" | "stib" => parts.iter().find_map(|part| part.parse().ok()).unwrap_or(1),
        _ => operands.rsplit(',').next().and_then(|last| last.trim().parse().ok()).unwrap_or(1),
    };
    Some(Kind::Memory(memory, bytes * components))
}

fn sets_shared_register(operands: &str) -> bool {
    // `r50.x`, `(last)r50.x`, `hr50.x`, `up0.x` for the predicate.
    let first = operands.split(',').next().unwrap_or("").trim();
    let first = first.rsplit(')').next().unwrap_or(first);
    let number = first.trim_start_matches('h').strip_prefix('r').and_then(|r| r.split('.').next());
    first.starts_with("up")
        || number.and_then(|n| n.parse().ok()).is_some_and(|n: u32| (48..56).contains(&n))
}

#[cfg(test)]
#[path = "tests/qualcomm.rs"]
mod tests;
