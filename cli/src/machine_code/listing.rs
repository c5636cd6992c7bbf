//! Basic blocks with counts of instructions by kind, which the machine code of every maker is read into, and the search
//! for the main loop among them.

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;

/// A memory that instructions load from and store to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Memory {
    /// The memory that a workgroup shares.
    Shared,
    /// Buffers, however the chip reaches them.
    Global,
    /// Spilled registers, constants and the like.
    Other,
}

/// The kind of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A dot product of four integers.
    Dot,
    /// A product of matrices, which a subgroup does together.
    Matrix,
    /// A vector instruction that does a floating multiply-add, or several.
    Fma,
    /// Another vector instruction.
    Vector,
    /// An instruction on values that a subgroup has in common, or a barrier.
    Scalar,
    /// A load, store or atomic, of so many bytes a thread.
    Memory(Memory, u32),
    /// A branch, or another change of the threads that are on.
    Branch,
    /// A wait or a hint to the scheduler: it takes a slot, but no work is done.
    Hint,
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) kind: Kind,
    /// Floating multiply-adds: packed and dual instructions do two; of a product of matrices a thread's share.
    pub(super) fused: u32,
    /// Floating products that are added to nothing.
    pub(super) products: u32,
    /// Integer products: what a dot product becomes on chips without an instruction for it.
    pub(super) int_products: u32,
}

impl From<Kind> for Instruction {
    fn from(kind: Kind) -> Self {
        Self { kind, fused: u32::from(kind == Kind::Fma), products: 0, int_products: 0 }
    }
}

/// Numbers of loads and stores, by their bytes a thread.
pub(crate) type Widths = BTreeMap<u32, u32>;

/// Numbers of instructions by kind, and the multiply-adds among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Integer dot products of four.
    pub(crate) dots: u32,
    /// Products of matrices.
    pub(crate) matrices: u32,
    /// Floating multiply-add instructions.
    pub(crate) fmas: u32,
    /// Other vector instructions.
    pub(crate) vector: u32,
    /// Scalar instructions that compute, and barriers.
    pub(crate) scalar: u32,
    /// Loads and stores of the workgroup's memory.
    pub(crate) shared_memory: Widths,
    /// Loads and stores of buffers.
    pub(crate) global_memory: Widths,
    /// Loads and stores of any other memory: spilled registers, constants.
    pub(crate) other_memory: u32,
    pub(crate) branches: u32,
    /// Waits, nops and hints to the scheduler.
    pub(crate) waits: u32,
    /// Cycles from instruction to instruction by the driver's own reckoning, where it tells.
    pub(crate) cycles: Option<u32>,
    /// Multiply-adds of the `fmas` and, as a thread's share, of the `matrices`.
    #[serde(skip)]
    pub(super) fused: u32,
    /// Floating products among `vector`: the start of a sum of products has no sum to add to.
    #[serde(skip)]
    pub(super) products: u32,
    /// Integer products among `vector`.
    #[serde(skip)]
    pub(super) int_products: u32,
}

impl Counts {
    /// Loads and stores of any memory.
    pub(super) fn memory(&self) -> u32 {
        let sum = |widths: &Widths| widths.values().sum::<u32>();
        sum(&self.shared_memory) + sum(&self.global_memory) + self.other_memory
    }

    /// All instructions.
    pub(super) fn instructions(&self) -> u32 {
        let vector = self.dots + self.matrices + self.fmas + self.vector;
        vector + self.scalar + self.memory() + self.branches + self.waits
    }

    /// Multiply-adds as they are written in the code. `dot_products`: whether the source has integer dot products; only
    /// then are a loop's integer products more than addresses.
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

    /// Counts an instruction that is executed so many times.
    pub(super) fn count(&mut self, instruction: Instruction, times: u32) {
        match instruction.kind {
            Kind::Dot => self.dots += times,
            Kind::Matrix => self.matrices += times,
            Kind::Fma => self.fmas += times,
            Kind::Vector => self.vector += times,
            Kind::Scalar => self.scalar += times,
            Kind::Memory(Memory::Shared, bytes) => {
                *self.shared_memory.entry(bytes).or_default() += times;
            }
            Kind::Memory(Memory::Global, bytes) => {
                *self.global_memory.entry(bytes).or_default() += times;
            }
            Kind::Memory(Memory::Other, _) => self.other_memory += times,
            Kind::Branch => self.branches += times,
            Kind::Hint => self.waits += times,
        }
        self.fused += times * instruction.fused;
        self.products += times * instruction.products;
        self.int_products += times * instruction.int_products;
    }
}

impl AddAssign<&Self> for Counts {
    fn add_assign(&mut self, other: &Self) {
        self.dots += other.dots;
        self.matrices += other.matrices;
        self.fmas += other.fmas;
        self.vector += other.vector;
        self.scalar += other.scalar;
        for (widths, others) in [
            (&mut self.shared_memory, &other.shared_memory),
            (&mut self.global_memory, &other.global_memory),
        ] {
            for (bytes, count) in others {
                *widths.entry(*bytes).or_default() += count;
            }
        }
        self.other_memory += other.other_memory;
        self.branches += other.branches;
        self.waits += other.waits;
        if let Some(cycles) = other.cycles {
            *self.cycles.get_or_insert_default() += cycles;
        }
        self.fused += other.fused;
        self.products += other.products;
        self.int_products += other.int_products;
    }
}

/// A basic block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) counts: Counts,
    /// The blocks that may come after it, by their places in the program.
    pub(super) successors: Vec<usize>,
}

/// Builds the blocks of a listing that has labels and branches to them.
pub(super) struct Labelled<'a> {
    blocks: Vec<LabelledBlock<'a>>,
}

#[derive(Default)]
struct LabelledBlock<'a> {
    label: Option<&'a str>,
    counts: Counts,
    target: Option<&'a str>,
    /// True if nothing but the target can come next.
    leaves: bool,
}

impl<'a> Labelled<'a> {
    pub(super) fn new() -> Self {
        Self { blocks: vec![LabelledBlock::default()] }
    }

    /// Begins a block.
    pub(super) fn label(&mut self, label: &'a str) {
        self.blocks.push(LabelledBlock { label: Some(label), ..LabelledBlock::default() });
    }

    /// Counts an instruction, executed so many times.
    pub(super) fn count(&mut self, instruction: Instruction, times: u32) {
        if let Some(block) = self.blocks.last_mut() {
            block.counts.count(instruction, times);
        }
    }

    /// Ends a block with a branch. `always`: nothing but the target comes next.
    pub(super) fn branch(&mut self, target: Option<&'a str>, always: bool) {
        if let Some(block) = self.blocks.last_mut() {
            (block.target, block.leaves) = (target, always);
        }
        self.blocks.push(LabelledBlock::default());
    }

    /// Forgets all blocks so far.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    pub(super) fn finish(self) -> Vec<Block> {
        let places = self.blocks.iter().enumerate().filter_map(|(at, b)| Some((b.label?, at)));
        let places: HashMap<_, _> = places.collect();
        let count = self.blocks.len();
        let blocks = self.blocks.into_iter().enumerate();
        let block = |(at, block): (usize, LabelledBlock<'_>)| {
            let next = (!block.leaves && at + 1 < count).then_some(at + 1);
            let target = block.target.and_then(|target| places.get(target).copied());
            Block { counts: block.counts, successors: next.into_iter().chain(target).collect() }
        };
        blocks.map(block).collect()
    }
}

/// Counts the main loop: the one with the most multiply-adds outside of loops inside it, integer dot products first.
/// What it holds counts once, inner loops and rare branches too. A program whose loops do no multiply-adds counts
/// whole.
///
/// With a number of trips, the loop around the main one is counted, with the loops in it that often.
pub(super) fn main_loop(
    blocks: &[Block],
    dot_products: bool,
    trips: Option<u32>,
) -> anyhow::Result<Counts> {
    let all = || 0..blocks.len();
    let instructions = all().any(|index| blocks[index].counts.instructions() > 0);
    ensure!(instructions, "no instructions in the driver's assembly");
    let loops = loops(blocks);
    let mut own = vec![Counts::default(); loops.len()];
    for (index, block) in blocks.iter().enumerate() {
        let around = loops.iter().enumerate().filter(|(_, body)| body.contains(&index));
        if let Some((innermost, _)) = around.min_by_key(|(_, body)| body.len()) {
            own[innermost] += &block.counts;
        }
    }
    let scores = own.iter().map(|counts| (counts.dots, counts.macs(dot_products)));
    let best = scores.zip(&loops).max_by_key(|(score, _)| *score);
    let main = match best {
        Some((score, body)) if score > (0, 0) => body.clone(),
        _ => all().collect(),
    };
    let contains = |outer: &[usize], inner: &[usize]| {
        outer.len() > inner.len() && inner.iter().all(|index| outer.binary_search(index).is_ok())
    };
    let around = loops.iter().filter(|body| contains(body, &main)).min_by_key(|body| body.len());
    let (chosen, trips) = match (around, trips) {
        (Some(around), Some(trips)) => (around.clone(), trips),
        _ => (main, 1),
    };
    let inner = |index: usize| loops.iter().any(|l| contains(&chosen, l) && l.contains(&index));
    let mut sum = Counts::default();
    for &index in &chosen {
        for _ in 0..if inner(index) { trips } else { 1 } {
            sum += &blocks[index].counts;
        }
    }
    Ok(sum)
}

/// The natural loops, each as the places of its blocks in order: one for every block that a block goes back to which is
/// reached through it only. Compilers put a loop's last block before its first, too, so places say nothing.
fn loops(blocks: &[Block]) -> Vec<Vec<usize>> {
    let mut predecessors = vec![Vec::new(); blocks.len()];
    for (index, block) in blocks.iter().enumerate() {
        for &successor in &block.successors {
            predecessors[successor].push(index);
        }
    }
    let reachable = reached_without(blocks, None);
    let mut loops = Vec::new();
    for (header, before) in predecessors.iter().enumerate() {
        let reached = reached_without(blocks, Some(header));
        let goes_back = |tail: &usize| reachable[*tail] && !reached[*tail];
        let mut open: Vec<usize> = before.iter().copied().filter(goes_back).collect();
        if open.is_empty() {
            continue;
        }
        let mut body = vec![false; blocks.len()];
        body[header] = true;
        while let Some(index) = open.pop() {
            if !std::mem::replace(&mut body[index], true) {
                open.extend(predecessors[index].iter().filter(|before| reachable[**before]));
            }
        }
        loops.push((0..blocks.len()).filter(|index| body[*index]).collect());
    }
    loops
}

/// The blocks that the program can reach, without passing a block.
fn reached_without(blocks: &[Block], without: Option<usize>) -> Vec<bool> {
    let mut reached = vec![false; blocks.len()];
    let mut open = vec![0];
    while let Some(index) = open.pop() {
        if Some(index) != without && !std::mem::replace(&mut reached[index], true) {
            open.extend(&blocks[index].successors);
        }
    }
    reached
}

#[cfg(test)]
#[path = "tests/listing.rs"]
mod tests;
