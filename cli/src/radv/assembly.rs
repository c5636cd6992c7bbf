//! The final assembly: basic blocks, loops, and what the main loop is made of.

use anyhow::ensure;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Numbers of instructions by kind, and the multiply-adds among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// `v_dot4*`: four integer multiply-adds each.
    pub(super) dots: u32,
    /// Floating multiply-add instructions.
    pub(super) fmas: u32,
    /// Other vector instructions.
    pub(super) vector: u32,
    /// Scalar instructions that compute, and barriers.
    pub(super) scalar: u32,
    /// Loads and stores of any memory.
    pub(super) memory: u32,
    pub(super) branches: u32,
    /// Waits and hints to the scheduler: they take a slot, but no work is done.
    pub(super) hints: u32,
    /// Multiply-adds of the `fmas`: packed and dual ones are two.
    pub(super) fused: u32,
    /// Floating products among `vector`: the start of a sum of products has no sum to add to.
    pub(super) products: u32,
    /// Integer products among `vector`: what a dot product becomes on chips without `v_dot4`.
    pub(super) int_products: u32,
}

impl Counts {
    /// All instructions.
    pub(super) fn instructions(&self) -> u32 {
        self.dots + self.fmas + self.vector + self.scalar + self.memory + self.branches + self.hints
    }

    /// Multiply-adds as they are written in the code. `dot_products`: whether the source has integer
    /// dot products; only then are a loop's integer products more than addresses.
    pub(super) fn macs(&self, dot_products: bool) -> u32 {
        match (self.dots, dot_products) {
            (0, true) => self.fused.max(self.int_products),
            (0, false) => self.fused,
            (dots, _) => 4 * dots,
        }
    }

    /// Multiplications of the sums, for a guess at how often the source's loop is unrolled.
    fn multiplications(&self, dot_products: bool) -> u32 {
        let macs = self.macs(dot_products);
        if self.dots > 0 || macs > self.fused {
            return macs;
        }
        // `dot` of four is a product and three multiply-adds; more products are not of the sums.
        macs + self.products.min(self.fused.div_ceil(3))
    }

    /// Multiply-adds, given how many the source's loop does per iteration.
    pub(super) fn macs_of(&self, dot_products: bool, per_iteration: u32) -> u32 {
        let times = f64::from(self.multiplications(dot_products)) / f64::from(per_iteration.max(1));
        per_iteration * (times.round() as u32).max(1)
    }

    fn add(&mut self, mnemonic: &str, operands: &str) {
        match Kind::of(mnemonic) {
            Kind::Dot => self.dots += 1,
            Kind::Hint => self.hints += 1,
            Kind::Branch => self.branches += 1,
            Kind::Memory => self.memory += 1,
            Kind::Scalar => self.scalar += 1,
            Kind::Vector => {
                // A dual instruction: `v_dual_fmac_f32 … :: v_dual_mul_f32 …`.
                let second = operands.split("::").nth(1).unwrap_or("").trim_start();
                let second = second.split_whitespace().next().unwrap_or("");
                let fused = fused(mnemonic) + fused(second);
                self.fused += fused;
                self.products += products(mnemonic) + products(second);
                self.int_products += u32::from(is_int_product(mnemonic));
                match fused {
                    0 => self.vector += 1,
                    _ => self.fmas += 1,
                }
            }
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        self.dots += other.dots;
        self.fmas += other.fmas;
        self.vector += other.vector;
        self.scalar += other.scalar;
        self.memory += other.memory;
        self.branches += other.branches;
        self.hints += other.hints;
        self.fused += other.fused;
        self.products += other.products;
        self.int_products += other.int_products;
        self
    }
}

enum Kind {
    Dot,
    Vector,
    Scalar,
    Memory,
    Branch,
    Hint,
}

impl Kind {
    fn of(mnemonic: &str) -> Self {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| mnemonic.starts_with(prefix));
        if starts(&["v_dot4"]) {
            Self::Dot
        } else if starts(&["s_wait", "s_nop", "s_delay_alu", "s_clause", "s_inst_prefetch"])
            || starts(&["s_set_inst_prefetch", "s_sleep", "s_code_end"])
        {
            Self::Hint
        } else if starts(&["s_branch", "s_cbranch", "s_endpgm", "s_setpc", "s_swappc", "s_call"]) {
            Self::Branch
        } else if starts(&["global_", "buffer_", "tbuffer_", "flat_", "scratch_", "image_", "ds_"])
            || starts(&["s_load", "s_buffer_", "s_store", "s_scratch_", "s_dcache", "s_atomic"])
        {
            Self::Memory
        } else if starts(&["s_"]) {
            Self::Scalar
        } else {
            Self::Vector
        }
    }
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

/// Counts the main loop: the one with the most multiply-adds outside of loops inside it, integer dot
/// products first. What it holds counts once, inner loops and rare branches too. A program whose
/// loops do no multiply-adds counts whole.
///
/// With a number of trips, the loop around the main one is counted, with the loops in it that often.
pub(super) fn main_loop(
    text: &str,
    dot_products: bool,
    trips: Option<u32>,
) -> anyhow::Result<Counts> {
    let blocks = blocks(text);
    ensure!(
        blocks.iter().any(|block| block.counts.instructions() > 0),
        "no instructions in the driver's assembly: {:?}",
        text.lines().next().unwrap_or("")
    );
    let loops = loops(&blocks);
    let mut own = vec![Counts::default(); loops.len()];
    for (index, block) in blocks.iter().enumerate() {
        let around = loops.iter().enumerate().filter(|(_, range)| range.contains(&index));
        if let Some((innermost, _)) = around.min_by_key(|(_, range)| range.len()) {
            own[innermost] = own[innermost].plus(&block.counts);
        }
    }
    let scores = own.iter().map(|counts| (counts.dots, counts.macs(dot_products)));
    let best = scores.zip(&loops).max_by_key(|(score, _)| *score);
    let main = match best {
        Some((score, range)) if score > (0, 0) => range.clone(),
        _ => 0..blocks.len(),
    };
    let contains = |outer: &Range<usize>, inner: &Range<usize>| {
        outer.start <= inner.start && inner.end <= outer.end && outer != inner
    };
    let around =
        loops.iter().filter(|range| contains(range, &main)).min_by_key(|range| range.len());
    let (chosen, trips) = match (around, trips) {
        (Some(around), Some(trips)) => (around.clone(), trips),
        _ => (main, 1),
    };
    let inner = |index: usize| loops.iter().any(|l| contains(&chosen, l) && l.contains(&index));
    Ok(chosen.clone().fold(Counts::default(), |sum, index| {
        let times = if inner(index) { trips } else { 1 };
        (0..times).fold(sum, |sum, _| sum.plus(&blocks[index].counts))
    }))
}

#[derive(Default)]
struct Block<'a> {
    label: &'a str,
    counts: Counts,
    targets: Vec<&'a str>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![Block::default()];
    let mut last = ("", "");
    for line in text.lines() {
        // The encoding follows the semicolon.
        let line = line.split(';').next().unwrap_or("").trim();
        if let Some(label) = line.strip_suffix(':') {
            blocks.push(Block { label, ..Block::default() });
            continue;
        }
        let Some(block) = blocks.last_mut() else { continue };
        // Equal instructions in a row: `(then repeated 3 times)`.
        let repeats = line.strip_prefix("(then repeated ").and_then(|rest| rest.split(' ').next());
        if let Some(repeats) = repeats {
            for _ in 0..repeats.parse().unwrap_or(0u32) {
                block.counts.add(last.0, last.1);
            }
            continue;
        }
        let (mnemonic, operands) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if !is_mnemonic(mnemonic) {
            continue;
        }
        block.counts.add(mnemonic, operands);
        if let Kind::Branch = Kind::of(mnemonic) {
            block.targets.push(operands.trim());
        }
        last = (mnemonic, operands);
    }
    blocks
}

/// Says whether a word is an instruction and no remark of the disassembler.
fn is_mnemonic(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.contains('_') && word.chars().all(plain) || word == "(invalid"
}

/// Loops: from the target of a backward branch to the last branch to it.
fn loops(blocks: &[Block<'_>]) -> Vec<Range<usize>> {
    let labels: HashMap<_, _> = blocks.iter().enumerate().map(|(at, b)| (b.label, at)).collect();
    let mut ends = BTreeMap::new();
    for (index, block) in blocks.iter().enumerate() {
        let targets = block.targets.iter().filter_map(|target| labels.get(target));
        for &target in targets.filter(|target| **target <= index) {
            // Blocks come in order: the last branch wins.
            ends.insert(target, index + 1);
        }
    }
    ends.into_iter().map(|(start, end)| start..end).collect()
}

#[cfg(test)]
mod tests;
