//! The graph while it is made: names, constants that are read when they are needed, and what is known of integers.

use super::data::{self, DataFolder};
use super::integers::{GatheredScales, QuantizedConstant};
use crate::ir::graph::{Graph, Input, Kind, Node, Op, ValueId, WeightsId, descriptor};
use crate::ir::tensor::{Data, MAX_RANK, Tensor};
use crate::lower::{self, FoldingBudget};
use crate::onnx::proto::{
    AttributeProto, FunctionProto, NodeProto, TensorProto, ValueInfoProto, data_type,
};
use crate::{Error, Result, Unsupported};
use dsconv::Weights;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A graph while it is made from a model.
pub(crate) struct Importer<'a> {
    pub(crate) graph: Graph,
    pub(crate) folder: DataFolder<'a>,
    pub(crate) metadata: HashMap<&'a str, &'a str>,
    /// The functions of the model, by domain and name.
    pub(crate) functions: HashMap<(&'a str, &'a str), &'a FunctionProto>,
    /// What names mean: those of the model, and inside of them those of the bodies and functions being converted.
    pub(crate) scopes: Vec<Scope<'a>>,
    /// Values that nodes would have written which are not supported.
    pub(crate) refused: HashSet<ValueId>,
    /// The nodes that are not supported.
    pub(crate) unsupported: Vec<Unsupported>,
    /// Constants that are integers times scales.
    pub(crate) quantized: HashMap<ValueId, QuantizedConstant>,
    /// Constants that are shifts of blocks, spread over channels.
    pub(crate) gathered: HashMap<ValueId, GatheredScales>,
    /// The kinds of values that are no floats.
    kinds: HashMap<ValueId, Kind>,
    /// What converts the nodes of a graph, which may hold graphs.
    pub(crate) convert_nodes: ConvertNodes<'a>,
    /// The name of the node being converted.
    pub(crate) node: String,
    pub(crate) folding: FoldingBudget,
    /// Nodes of bodies and functions that were converted so far: they may come again and again.
    pub(crate) repeated: usize,
    /// Nodes that were lowered so far, to find out what follows from dims.
    pub(crate) lowered: usize,
}

/// Converts the nodes that these outputs need.
type ConvertNodes<'a> = fn(&mut Importer<'a>, &'a [NodeProto], &[&str]) -> Result<()>;

/// The names that a model, a body of a node or a function defines.
#[derive(Default)]
pub(crate) struct Scope<'a> {
    /// Constants that nobody has read as floats or integers yet.
    pub(crate) tensors: HashMap<&'a str, &'a TensorProto>,
    pub(crate) names: HashMap<&'a str, ValueId>,
    /// For a function: what is outside can't be seen.
    pub(crate) function: Option<Call<'a>>,
}

/// A call of a function; or the model, which is not called.
#[derive(Default)]
pub(crate) struct Call<'a> {
    pub(crate) opset: i64,
    pub(crate) attributes: HashMap<&'a str, &'a AttributeProto>,
    /// Inputs that the call leaves out.
    pub(crate) absent: HashSet<&'a str>,
}

impl<'a> Importer<'a> {
    pub(crate) fn new(folder: DataFolder<'a>, opset: i64, convert_nodes: ConvertNodes<'a>) -> Self {
        let call = Call { opset, ..Call::default() };
        Self {
            graph: Graph::default(),
            folder,
            metadata: HashMap::new(),
            functions: HashMap::new(),
            scopes: vec![Scope { function: Some(call), ..Scope::default() }],
            refused: HashSet::new(),
            unsupported: Vec::new(),
            quantized: HashMap::new(),
            gathered: HashMap::new(),
            kinds: HashMap::new(),
            convert_nodes,
            node: String::new(),
            folding: FoldingBudget::default(),
            repeated: 0,
            lowered: 0,
        }
    }

    /// The scopes whose names can be seen, innermost first, with their places.
    fn visible(&self) -> impl Iterator<Item = (usize, &Scope<'a>)> {
        let call = self.scopes.iter().rposition(|scope| scope.function.is_some());
        self.scopes.iter().enumerate().skip(call.unwrap_or(0)).rev()
    }

    /// The call that is being converted.
    fn call(&self) -> Option<&Call<'a>> {
        self.scopes.iter().rev().find_map(|scope| scope.function.as_ref())
    }

    /// The version of the operator set.
    pub(crate) fn opset(&self) -> i64 {
        self.call().map_or(0, |call| call.opset)
    }

    /// The attributes that nodes may refer to.
    pub(crate) fn given_attributes(&self) -> HashMap<&'a str, &'a AttributeProto> {
        self.call().map(|call| call.attributes.clone()).unwrap_or_default()
    }

    /// Whether a name stands for an input that the call leaves out.
    pub(crate) fn is_absent(&self, name: &str) -> bool {
        self.call().is_some_and(|call| call.absent.contains(name))
    }

    /// Whether a name is taken.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.visible().any(|(_, s)| s.tensors.contains_key(name) || s.names.contains_key(name))
            || self.is_absent(name)
    }

    /// The value of a name, if something was computed for it.
    pub(crate) fn named(&self, name: &str) -> Option<ValueId> {
        self.visible().find_map(|(_, scope)| scope.names.get(name).copied())
    }

    /// Adds an input of the graph, whose rank may have been guessed.
    pub(crate) fn input(&mut self, info: &'a ValueInfoProto, guess: Option<usize>) -> Result<()> {
        let field = || format!("input {:?}", info.name);
        let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let tensor = tensor.ok_or_else(|| Error::invalid(field(), "a tensor", "another type"))?;
        let kind = data::kind(tensor.elem_type).ok_or_else(|| {
            let got = data_type::name(tensor.elem_type);
            Error::invalid(field(), "floats, integers or bools", got)
        })?;
        let dims = declared(info).or_else(|| guess.map(|rank| vec![None; rank]));
        let dims = dims.ok_or_else(|| Error::invalid(field(), "a known rank", "no shape"))?;
        if dims.len() > MAX_RANK {
            return Err(Error::invalid(field(), format!("rank 0..={MAX_RANK}"), dims.len()));
        }
        let value = self.fresh(info.name.clone());
        let input = Input { name: info.name.clone(), dims, kind, value };
        self.graph.inputs.push(input);
        self.note_kind(value, kind);
        self.bind(&info.name, value)
    }

    /// The innermost scope.
    fn scope(&mut self) -> Result<&mut Scope<'a>> {
        self.scopes.last_mut().ok_or_else(|| Error::invalid("scope", "the model's", "none"))
    }

    /// Gives a tensor a name; it is read when it is needed.
    pub(crate) fn bind_tensor(&mut self, name: &'a str, tensor: &'a TensorProto) -> Result<()> {
        if self.defines(name) {
            return Err(duplicate(name));
        }
        self.scope()?.tensors.insert(name, tensor);
        Ok(())
    }

    /// The tensor of that name, if it is a constant as the model holds it.
    pub(crate) fn raw_tensor(&self, name: &str) -> Option<&'a TensorProto> {
        self.visible().find_map(|(_, scope)| scope.tensors.get(name).copied())
    }

    /// Gives a value a name of the model.
    pub(crate) fn bind(&mut self, name: &'a str, value: ValueId) -> Result<()> {
        if self.scope()?.names.insert(name, value).is_some() {
            return Err(duplicate(name));
        }
        Ok(())
    }

    /// The value of that name.
    pub(crate) fn value(&mut self, name: &str) -> Result<ValueId> {
        if let Some(value) = self.named(name) {
            return Ok(value);
        }
        let found = self.visible().find_map(|(at, scope)| {
            scope.tensors.get_key_value(name).map(|(&name, &tensor)| (at, name, tensor))
        });
        let (at, name, tensor) = found.ok_or_else(|| {
            Error::invalid(
                format!("value {name:?}"),
                "an input, a constant or a node's output",
                "none",
            )
        })?;
        let tensor = data::tensor(tensor, &self.folder)?;
        self.allow(tensor.len());
        let value = self.constant(name, tensor);
        self.scopes[at].names.insert(name, value);
        Ok(value)
    }

    /// The kind of a value.
    pub(crate) fn kind(&self, value: ValueId) -> Kind {
        self.kinds.get(&value).copied().unwrap_or_default()
    }

    fn note_kind(&mut self, value: ValueId, kind: Kind) {
        if !kind.is_float() {
            self.kinds.insert(value, kind);
        }
    }

    /// Lets folding do more, for a constant of so many elements that the model really holds.
    pub(crate) fn allow(&mut self, elements: usize) {
        let allowed = &mut self.folding.allowed;
        *allowed = allowed.saturating_add(lower::allowance(elements));
    }

    /// Counts bytes of constants and weights: nodes that share a constant each make weights of it.
    fn note_made(&mut self, bytes: u64) {
        self.folding.made = self.folding.made.saturating_add(bytes);
    }

    /// A new value.
    pub(crate) fn fresh(&mut self, name: String) -> ValueId {
        self.graph.values.push(name);
        ValueId(self.graph.values.len() - 1)
    }

    /// Adds a constant of this crate's making, or the model's.
    pub(crate) fn constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let value = self.fresh(name.into());
        if let Data::I64(_) = tensor.data() {
            self.note_kind(value, Kind::Integer);
        }
        let each = if matches!(tensor.data(), Data::I64(_)) { 8 } else { 4 };
        self.note_made(each * tensor.len() as u64);
        self.graph.constants.insert(value, tensor);
        value
    }

    /// Adds a list of integers, for an operator.
    pub(crate) fn list(&mut self, values: impl Into<Vec<i64>>) -> ValueId {
        self.constant(self.node.clone(), Tensor::list(values))
    }

    /// Adds an integer of rank 0, for an operator.
    pub(crate) fn number(&mut self, value: i64) -> Result<ValueId> {
        let tensor = Tensor::i64([], vec![value])?;
        Ok(self.constant(self.node.clone(), tensor))
    }

    /// Adds a float, for an operator.
    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.constant(self.node.clone(), Tensor::scalar(value))
    }

    /// Adds weights of a convolution.
    pub(crate) fn weights(&mut self, weights: impl Into<Weights>) -> WeightsId {
        let weights = weights.into();
        self.note_made(4 * descriptor(&weights).weight_count() as u64);
        self.graph.weights.push(Arc::new(weights));
        WeightsId(self.graph.weights.len() - 1)
    }

    /// Remembers the integers of a constant, by the name it has in the model.
    pub(crate) fn note_quantized(
        &mut self,
        value: ValueId,
        name: &str,
        mut quantized: QuantizedConstant,
    ) {
        let recorded = self.metadata.get(format!("dsconv.{name}").as_str());
        let recorded = recorded.and_then(|text| serde_json::from_str(text).ok());
        quantized.recorded = recorded.or(quantized.recorded);
        self.quantized.insert(value, quantized);
    }

    /// Adds a node, or its result where that is known.
    pub(crate) fn push(&mut self, op: Op, inputs: impl Into<Vec<ValueId>>) -> Result<ValueId> {
        let output = self.fresh(self.node.clone());
        let inputs = inputs.into();
        let kinds: Vec<Kind> = inputs.iter().map(|&input| self.kind(input)).collect();
        self.note_kind(output, op.kind(&kinds));
        let node = Node { name: self.node.clone(), op, inputs, output };
        match lower::evaluate_constant(&self.graph, &node, &mut self.folding)? {
            Some(tensor) => {
                self.graph.constants.insert(output, tensor);
            }
            None => self.graph.nodes.push(node),
        }
        Ok(output)
    }
}

/// The dims that a model declares for an input or output.
pub(crate) fn declared(info: &ValueInfoProto) -> Option<Vec<Option<usize>>> {
    let shape = info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let dim = |value: i64| usize::try_from(value).ok().filter(|&dim| dim > 0);
    Some(shape.dim.iter().map(|dim_proto| dim(dim_proto.dim_value)).collect())
}

/// The error for a name that is given twice.
pub(crate) fn duplicate(name: &str) -> Error {
    Error::invalid(format!("value {name:?}"), "one definition", "another")
}
