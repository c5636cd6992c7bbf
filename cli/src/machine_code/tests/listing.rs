//! The finding of loops, on programs of blocks that say only where they lead.

use super::*;

/// Blocks with those successors, each with so many multiply-adds.
fn program(blocks: &[(&[usize], u32)]) -> Vec<Block> {
    let block = |(successors, fmas): &(&[usize], u32)| {
        let mut counts = Counts::default();
        counts.count(Kind::Fma.into(), *fmas);
        Block { counts, successors: successors.to_vec() }
    };
    blocks.iter().map(block).collect()
}

#[test]
fn loops_are_those_of_the_graph_and_not_of_the_order() {
    // The last block of the loop stands before its first.
    let rotated = program(&[(&[2], 0), (&[2], 1), (&[3, 4], 0), (&[1], 5), (&[], 9)]);
    assert_eq!(loops(&rotated), [[1, 2, 3]]);
    assert_eq!(main_loop(&rotated, false, None).unwrap().fused, 6);
    // A way out that stands within it is not of it.
    let left = program(&[(&[1], 0), (&[2, 3], 1), (&[4], 7), (&[1], 2), (&[], 0)]);
    assert_eq!(loops(&left), [[1, 3]]);
}

#[test]
fn a_jump_into_a_loop_makes_it_none() {
    let entered_twice = program(&[(&[1, 2], 0), (&[2], 1), (&[1, 3], 1), (&[], 0)]);
    assert!(loops(&entered_twice).is_empty());
    // Code that nothing reaches neither.
    let unreached = program(&[(&[2], 0), (&[1, 2], 1), (&[], 0)]);
    assert!(loops(&unreached).is_empty());
}

#[test]
fn two_ways_back_are_one_loop() {
    let continued = program(&[(&[1], 0), (&[2, 3], 1), (&[1, 4], 1), (&[1], 1), (&[], 0)]);
    assert_eq!(loops(&continued), [[1, 2, 3]]);
}

#[test]
fn cycles_are_unknown_only_where_no_block_tells_them() {
    let mut blocks = program(&[(&[0, 1], 1), (&[], 0)]);
    assert_eq!(main_loop(&blocks, false, None).unwrap().cycles, None);
    blocks[0].counts.cycles = Some(7);
    assert_eq!(main_loop(&blocks, false, None).unwrap().cycles, Some(7));
}

#[test]
fn branches_to_no_label_lead_nowhere() {
    let mut labelled = Labelled::new();
    labelled.count(Kind::Vector.into(), 2);
    labelled.branch(Some("gone"), true);
    labelled.branch(None, false);
    let blocks = labelled.finish();
    assert_eq!(blocks.len(), 3);
    assert!(blocks[0].successors.is_empty());
    assert_eq!(blocks[1].successors, [2]);
    assert_eq!(blocks[0].counts.vector, 2);
}
