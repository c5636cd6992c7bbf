//! Nodes that hold graphs (If, Loop, Scan), and calls of a model's own functions. All of them become the nodes of what
//! they hold: a branch whose condition is known, or both where the input's size decides; a body once for each turn.

use super::attributes::{Converted, refuse};
use super::context::NodeContext;
use super::importer::{Call, Scope};
use crate::Error;
use crate::ir::graph::{Op, Parts, ValueId};
use crate::ir::tensor::{Tensor, axis_of};
use crate::lower;
use crate::onnx::proto::{FunctionProto, GraphProto, NodeProto};

/// The most nodes that bodies and functions may become.
const MOST_NODES: usize = 1 << 16;

/// The deepest nesting of bodies and functions.
const DEEPEST: usize = 32;

/// Counts nodes that may come again, and opens a scope for them.
fn enter<'a>(
    context: &mut NodeContext<'_, 'a>,
    nodes: &[NodeProto],
    scope: Scope<'a>,
) -> Converted<()> {
    let importer = &mut *context.importer;
    importer.repeated = importer.repeated.saturating_add(nodes.len().max(1));
    if importer.repeated > MOST_NODES {
        return refuse(format!("more than {MOST_NODES} nodes, with every turn counted"));
    }
    if importer.scopes.len() > DEEPEST {
        return refuse(format!("more than {DEEPEST} graphs inside of each other"));
    }
    importer.scopes.push(scope);
    Ok(())
}

/// Converts nodes in the scope that was opened, and closes it.
fn convert<'a>(
    context: &mut NodeContext<'_, 'a>,
    nodes: &'a [NodeProto],
    outputs: &[&'a str],
) -> Converted<Vec<ValueId>> {
    let node = context.importer.node.clone();
    let convert_nodes = context.importer.convert_nodes;
    let done = convert_nodes(context.importer, nodes, outputs);
    let values = done.and_then(|()| {
        outputs.iter().map(|name| context.importer.value(name)).collect::<Result<Vec<_>, _>>()
    });
    context.importer.scopes.pop();
    context.importer.node = node;
    Ok(values?)
}

/// The outputs of a body for these inputs.
fn body<'a>(
    context: &mut NodeContext<'_, 'a>,
    body: &'a GraphProto,
    inputs: &[ValueId],
) -> Converted<Vec<ValueId>> {
    let mut scope = Scope::default();
    for tensor in &body.initializer {
        scope.tensors.insert(&tensor.name, tensor);
    }
    if body.input.len() != inputs.len() {
        let got = body.input.len();
        return Err(Error::invalid("inputs of the body", inputs.len().to_string(), got).into());
    }
    for (info, &value) in body.input.iter().zip(inputs) {
        scope.names.insert(&info.name, value);
    }
    enter(context, &body.node, scope)?;
    let outputs: Vec<&str> = body.output.iter().map(|info| info.name.as_str()).collect();
    convert(context, &body.node, &outputs)
}

/// A call of a function of the model.
pub(crate) fn call<'a>(
    context: &mut NodeContext<'_, 'a>,
    function: &'a FunctionProto,
) -> Converted<Vec<ValueId>> {
    let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let opset = function.opset_import.iter().find(|set| own(&set.domain)).map(|set| set.version);
    let defaults = function.attribute_proto.iter().map(|a| (a.name.as_str(), a));
    let given: Vec<_> = context.attributes.all().collect();
    let names: Vec<&str> = given.iter().map(|(name, _)| *name).collect();
    context.attributes.ignore(&names);
    let mut call = Call {
        opset: opset.unwrap_or_else(|| context.opset()),
        attributes: defaults.chain(given).collect(),
        ..Call::default()
    };
    let mut scope = Scope::default();
    for (index, name) in function.input.iter().enumerate() {
        let passed = context.node.input.get(index).map_or("", String::as_str);
        // A constant may be wanted as the model holds it.
        if let Some(tensor) = context.importer.raw_tensor(passed) {
            scope.tensors.insert(name, tensor);
        }
        match context.optional(index)? {
            Some(value) => {
                scope.names.insert(name, value);
            }
            None => {
                call.absent.insert(name);
            }
        }
    }
    scope.function = Some(call);
    enter(context, &function.node, scope)?;
    let outputs: Vec<&str> = function.output.iter().map(String::as_str).collect();
    convert(context, &function.node, &outputs)
}

/// The value of a bool or number that is known, if need be by the dims that the model declares.
fn known(context: &mut NodeContext<'_, '_>, value: ValueId) -> Option<i64> {
    let tensor = match context.constant(value) {
        Some(tensor) => Some(tensor.clone()),
        None => lowered(context, value).and_then(|(_, tensor)| tensor),
    };
    match tensor?.integers("condition") {
        Ok(&[value]) => Some(value),
        _ => None,
    }
}

/// The dims of a value by those that the model declares, and its elements if they follow from dims. Each answer lowers
/// the graph so far, and all of them may lower so many nodes.
fn lowered(
    context: &mut NodeContext<'_, '_>,
    value: ValueId,
) -> Option<(Vec<usize>, Option<Tensor>)> {
    const MOST_LOWERED: usize = 1 << 20;
    let importer = &mut *context.importer;
    importer.lowered = importer.lowered.saturating_add(importer.graph.nodes.len());
    if importer.lowered > MOST_LOWERED {
        return None;
    }
    lower::known(&importer.graph, value)
}

/// One of two branches.
pub(crate) fn branch(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let condition = context.input(0)?;
    let attributes = context.attributes;
    let (holds, fails) = (attributes.graph("then_branch")?, attributes.graph("else_branch")?);
    match known(context, condition) {
        Some(0) => body(context, fails, &[]),
        Some(_) => body(context, holds, &[]),
        None => {
            let (a, b) = (body(context, holds, &[])?, body(context, fails, &[])?);
            if a.len() != b.len() {
                let (expected, got) = (format!("{} outputs", a.len()), b.len());
                return Err(Error::invalid("else_branch", expected, got).into());
            }
            let pairs = a.into_iter().zip(b);
            pairs.map(|(a, b)| context.push(Op::Choose, [condition, a, b])).collect()
        }
    }
}

/// A body again and again, as often as is known.
pub(crate) fn repeat(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    let turn = context.attributes.graph("body")?;
    let most = match context.optional(0)? {
        None => None,
        Some(value) => match known(context, value) {
            Some(count) => Some(count.max(0)),
            None => return refuse("a number of turns that the run computes"),
        },
    };
    let mut condition = match context.optional(1)? {
        Some(value) => value,
        None => context.importer.list([1]),
    };
    let mut carried = Vec::new();
    for index in 2..context.node.input.len() {
        carried.push(context.input(index)?);
    }
    let count = carried.len();
    let mut scanned: Vec<Vec<ValueId>> =
        vec![Vec::new(); turn.output.len().saturating_sub(1 + count)];
    let mut at = 0;
    while most.is_none_or(|most| at < most) {
        match known(context, condition) {
            Some(0) => break,
            Some(_) => {}
            None => return refuse("a condition that the run computes"),
        }
        let number = context.importer.number(at)?;
        let inputs = [&[number, condition][..], &carried].concat();
        let mut outputs = body(context, turn, &inputs)?.into_iter();
        condition = outputs.next().unwrap_or(condition);
        carried = outputs.by_ref().take(count).collect();
        for (all, value) in scanned.iter_mut().zip(outputs) {
            all.push(context.push(Op::Unsqueeze { axes: vec![0] }, [value])?);
        }
        at += 1;
    }
    for all in scanned {
        if all.is_empty() {
            return refuse("a result of no turns");
        }
        carried.push(context.push(Op::Concat { axis: 0 }, all)?);
    }
    Ok(carried)
}

/// A body for each part of its inputs.
pub(crate) fn scan(context: &mut NodeContext<'_, '_>) -> Converted<Vec<ValueId>> {
    if context.opset() < 9 {
        return refuse("the form before opset 9");
    }
    let attributes = context.attributes;
    let turn = attributes.graph("body")?;
    let inputs = context.inputs()?;
    let count = attributes.int("num_scan_inputs")?.and_then(|count| usize::try_from(count).ok());
    let count = count.filter(|count| (1..=inputs.len()).contains(count));
    let Some(count) = count else {
        let expected = format!("1 to {}", inputs.len());
        return Err(Error::invalid("num_scan_inputs", expected, "another number").into());
    };
    let list = |name, count: usize| -> Converted<Vec<i64>> {
        let given = attributes.ints(name)?.map(<[i64]>::to_vec);
        Ok(given.unwrap_or_else(|| vec![0; count]))
    };
    let outputs = turn.output.len().saturating_sub(inputs.len() - count);
    let axes = list("scan_input_axes", count)?;
    let backwards = list("scan_input_directions", count)?;
    let output_axes = list("scan_output_axes", outputs)?;
    let output_backwards = list("scan_output_directions", outputs)?;
    let lengths = [axes.len(), backwards.len(), output_axes.len(), output_backwards.len()];
    if lengths != [count, count, outputs, outputs] {
        let expected = format!("{count} inputs' and {outputs} outputs'");
        return Err(Error::invalid("scan axes", expected, format!("{lengths:?}")).into());
    }
    let (state, scanned) = inputs.split_at(inputs.len() - count);
    let mut state = state.to_vec();
    let mut length = None;
    for (&value, &axis) in scanned.iter().zip(&axes) {
        let dims = match context.constant(value) {
            Some(tensor) => Some(tensor.dims().to_vec()),
            None => lowered(context, value).map(|(dims, _)| dims),
        };
        let Some(dims) = dims else { return refuse("a length that the input's size decides") };
        let here = dims[axis_of(axis, dims.len())?];
        if *length.get_or_insert(here) != here {
            return Err(Error::invalid("scan inputs", "one length", here).into());
        }
    }
    let length = length.unwrap_or(0);
    let mut results: Vec<Vec<ValueId>> = vec![Vec::new(); outputs];
    for step in 0..length {
        let mut passed = state.clone();
        for ((&value, &axis), &backwards) in scanned.iter().zip(&axes).zip(&backwards) {
            let start = if backwards == 0 { step } else { length - 1 - step };
            let part = Parts::Range { start, length: 1, whole: length };
            let part = context.push(Op::Part { axis, part }, [value])?;
            passed.push(context.push(Op::Squeeze { axes: vec![axis] }, [part])?);
        }
        let mut values = body(context, turn, &passed)?.into_iter();
        state = values.by_ref().take(state.len()).collect();
        for ((all, value), &axis) in results.iter_mut().zip(values).zip(&output_axes) {
            all.push(context.push(Op::Unsqueeze { axes: vec![axis] }, [value])?);
        }
    }
    let mut values = state;
    for ((mut all, axis), backwards) in results.into_iter().zip(output_axes).zip(output_backwards) {
        if all.is_empty() {
            return refuse("a result of no turns");
        }
        if backwards != 0 {
            all.reverse();
        }
        values.push(context.push(Op::Concat { axis }, all)?);
    }
    Ok(values)
}
