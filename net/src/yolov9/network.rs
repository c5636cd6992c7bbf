//! A description as a network: its modules resolved, their parameters counted, its graph without weights.

use super::description::{Argument, Description, From, Row};
use super::detect::{self, Predictions};
use super::modules::{self, Elan};
use super::trace::{Geometry, Map, Merged, Trace, Work};
use crate::graph::{Graph, Op, Output, WeightsId};
use crate::{Error, Result, fold};
use dsconv::Weights;
use std::collections::HashSet;
use std::sync::Arc;

/// A network as its description says, without weights yet.
#[derive(Debug)]
pub struct Network {
    pub(super) layers: Vec<Layer>,
    pub(super) trace: Trace,
    predictions: Predictions,
    backbone: usize,
    classes: usize,
}

/// A layer of a [`Network`]: a row of its description, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The layers it reads, as the description has them.
    pub from: String,
    /// Copies of the module in a row.
    pub copies: usize,
    /// The module's name.
    pub module: String,
    /// The arguments that the module is made with, input channels first where it has them.
    pub arguments: String,
    /// Parameters, with those that are never trained.
    pub parameters: u64,
    outputs: Vec<Map>,
    /// Index of its first convolution.
    first: usize,
}

/// What a network's graph puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `output0`: the decoded predictions of the main branch, `(N, 4 + classes, anchors)`. What only the auxiliary
    /// branch needs is left out.
    Deployable,
    /// `output0`, and `auxiliary`: those of the branch that only training needs, if there is one.
    Training,
    /// Behind those, the output of every layer of a single map, `model.N`: to compare with another program.
    Layers,
}

/// The parts of a network that a user may care about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Features of the picture.
    Backbone,
    /// What brings the sizes together.
    Neck,
    /// The heads of the last layer.
    Detection,
    /// What only training needs.
    Auxiliary,
}

/// The numbers of the line that YOLO programs print.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// PyTorch modules, the network itself and all inside of it.
    pub layers: usize,
    /// Parameters.
    pub parameters: u64,
    /// Those that are trained.
    pub gradients: u64,
    /// Floating-point operations for the picture, as YOLO programs count them: two a multiply-add of a convolution,
    /// eight an output of a batch norm, two an output of an upsampling.
    pub flops: u64,
    /// The same as the article has it: its counter knows modules by their class, and skips DSConv2D.
    pub counted_flops: u64,
}

impl Network {
    /// Resolves a description.
    ///
    /// # Errors
    /// [`Error::Node`] names the layer: an unknown module, wrong arguments, a layer that is not there, channels or sizes
    /// that do not meet, a last layer that is no detection, a network that is too large.
    pub fn new(description: &Description) -> Result<Self> {
        let mut trace = Trace::default();
        // The network, and the list of its layers.
        trace.modules = 2;
        let picture = trace.input("images");
        let mut layers: Vec<Layer> = Vec::new();
        let mut predictions = None;
        for (index, row) in description.rows.iter().enumerate() {
            let last = index + 1 == description.rows.len();
            let mut at =
                At { trace: &mut trace, description, row, index, picture, layers: &layers };
            let made = at.layer(last).map_err(|e| e.in_node(&format!("model.{index}"), &row.2))?;
            predictions = made.1;
            layers.push(made.0);
        }
        let predictions = predictions
            .ok_or_else(|| Error::invalid("layers", "a detection as the last one", "none"))?;
        let (backbone, classes) = (description.backbone, description.classes);
        Ok(Self { layers, trace, predictions, backbone, classes })
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// What height and width of a picture must be a multiple of.
    pub fn stride(&self) -> u32 {
        self.trace.convolutions.iter().map(|conv| conv.stride).max().unwrap_or(1)
    }

    /// Counts, for a picture of that height and width.
    pub fn summary(&self, [height, width]: [u32; 2]) -> Summary {
        let pixels = u64::from(height) * u64::from(width);
        let flops = |work: &Work| work.operations * (pixels / u64::from(work.stride).pow(2));
        let work = &self.trace.work;
        let Trace { modules, parameters, frozen, .. } = self.trace;
        Summary {
            layers: modules,
            parameters,
            gradients: parameters - frozen,
            flops: work.iter().map(flops).sum(),
            counted_flops: work.iter().filter(|work| !work.dsconv).map(flops).sum(),
        }
    }

    /// Weights and biases of the graph of that form, and floating-point operations of its convolutions, two a multiply-add,
    /// for a picture of that height and width. Batch norms are folded, and so are the two convolutions of RepConvN.
    pub fn cost(&self, form: Form, [height, width]: [u32; 2]) -> (u64, u64) {
        let pixels = u64::from(height) * u64::from(width);
        let cost = |conv: &Merged| {
            let weights = conv.descriptor().weight_count() as u64;
            let flops = 2 * weights * (pixels / u64::from(conv.stride).pow(2));
            (weights + u64::from(conv.descriptor().out_channels), flops)
        };
        let add = |sum: (u64, u64), one: (u64, u64)| (sum.0 + one.0, sum.1 + one.1);
        self.needed_convolutions(form).map(cost).fold((0, 0), add)
    }

    /// Names of the convolutions of the graph of that form, in its order.
    pub fn convolutions(&self, form: Form) -> Vec<&str> {
        self.needed_convolutions(form).map(|conv| conv.name.as_str()).collect()
    }

    /// Names of those that the description wants as DSConv.
    pub fn dsconv_layers(&self, form: Form) -> Vec<&str> {
        let wanted = self.needed_convolutions(form).filter(|conv| conv.dsconv);
        wanted.map(|conv| conv.name.as_str()).collect()
    }

    /// The convolutions of the graph of that form.
    pub(super) fn needed_convolutions(&self, form: Form) -> impl Iterator<Item = &Merged> {
        let needed = self.needed(form);
        let convolutions = self.trace.convolutions.iter().enumerate();
        convolutions.filter(move |(index, _)| needed.contains(index)).map(|(_, conv)| conv)
    }

    /// The part of the network that a convolution of its graph belongs to.
    pub fn part(&self, convolution: &str) -> Option<Part> {
        let index = self.trace.convolutions.iter().position(|conv| conv.name == convolution)?;
        let layer = self.layers.iter().rposition(|layer| layer.first <= index)?;
        Some(if !self.needed(Form::Deployable).contains(&index) {
            Part::Auxiliary
        } else if layer + 1 == self.layers.len() {
            Part::Detection
        } else if layer < self.backbone {
            Part::Backbone
        } else {
            Part::Neck
        })
    }

    fn outputs(&self, form: Form) -> Vec<Output> {
        let output = |name: String, value| Output { name, dims: None, value };
        let mut outputs = vec![output("output0".into(), self.predictions.main)];
        if form != Form::Deployable {
            let auxiliary = self.predictions.auxiliary;
            outputs.extend(auxiliary.map(|value| output("auxiliary".into(), value)));
        }
        if form == Form::Layers {
            for (index, layer) in self.layers.iter().enumerate() {
                if let [map] = layer.outputs[..] {
                    outputs.push(output(format!("model.{index}"), map.value));
                }
            }
        }
        outputs
    }

    /// Indices of the convolutions that a form needs.
    fn needed(&self, form: Form) -> HashSet<usize> {
        let outputs = self.outputs(form);
        let (nodes, _) = fold::needed(&self.trace.graph.nodes, &outputs);
        let index = |op: &Op| match op {
            Op::Conv { weights, .. } => Some(weights.0),
            _ => None,
        };
        nodes.iter().filter_map(|node| index(&node.op)).collect()
    }

    /// The graph of that form, each convolution's weights from `weights`.
    pub(super) fn graph(
        &self,
        form: Form,
        mut weights: impl FnMut(&Merged) -> Result<Weights>,
    ) -> Result<Graph> {
        let Graph { values, inputs, constants, .. } = &self.trace.graph;
        let outputs = self.outputs(form);
        let (mut nodes, needed) = fold::needed(&self.trace.graph.nodes, &outputs);
        let mut made = Vec::new();
        for node in &mut nodes {
            if let Op::Conv { weights: id, .. } = &mut node.op {
                let conv = &self.trace.convolutions[id.0];
                made.push(Arc::new(weights(conv)?));
                *id = WeightsId(made.len() - 1);
            }
        }
        let mut constants = constants.clone();
        constants.retain(|id, _| needed.contains(id));
        let (values, inputs) = (values.clone(), inputs.clone());
        let graph = Graph { values, inputs, outputs, nodes, constants, weights: made };
        graph.validate()?;
        Ok(graph)
    }
}

/// A row while it is resolved.
struct At<'a> {
    trace: &'a mut Trace,
    description: &'a Description,
    row: &'a Row,
    index: usize,
    picture: Map,
    layers: &'a [Layer],
}

impl At<'_> {
    fn layer(&mut self, last: bool) -> Result<(Layer, Option<Predictions>)> {
        let Row(from, number, module, _) = self.row;
        let copies = self.description.copies(*number);
        let (parameters, first) = (self.trace.parameters, self.trace.convolutions.len());
        let name = format!("model.{}", self.index);
        let mut outputs = Vec::new();
        let mut predictions = None;
        let mut arguments = String::new();
        if copies > 1 {
            self.trace.modules += 1;
        }
        for copy in 0..copies {
            let name = if copies > 1 { format!("{name}.{copy}") } else { name.clone() };
            let inputs = if copy == 0 { self.inputs()? } else { outputs };
            let detects = matches!(module.as_str(), "DualDDetect" | "DDetect");
            if detects != last {
                let expected = match last {
                    true => "DualDDetect or DDetect as the last layer",
                    false => "a detection as the last layer only",
                };
                return Err(Error::invalid("module", expected, module));
            }
            if detects {
                let maps = single_maps(&inputs)?;
                self.arguments(&["nc"], 1)?;
                let channels: Vec<_> = maps.iter().map(|map| map.channels).collect();
                let classes = self.description.classes;
                arguments = format!("[{classes}, {channels:?}]");
                let head = if module == "DDetect" { detect::single } else { detect::dual };
                predictions = Some(head(self.trace, &name, &maps, classes)?);
                outputs = Vec::new();
            } else {
                (outputs, arguments) = self.module(&name, &inputs)?;
            }
        }
        let layer = Layer {
            from: from.to_string(),
            copies,
            module: module.clone(),
            arguments,
            parameters: self.trace.parameters - parameters,
            outputs: outputs.into_iter().flatten().collect(),
            first,
        };
        Ok((layer, predictions))
    }

    /// What the layers that this one reads put out.
    fn inputs(&self) -> Result<Vec<Vec<Map>>> {
        let from = match &self.row.0 {
            From::One(from) => std::slice::from_ref(from),
            From::Several(from) => from,
        };
        let input = |&from: &i64| {
            if from == -1 && self.index == 0 {
                return Ok(vec![self.picture]);
            }
            let index = if from < 0 { from.checked_add(self.index as i64) } else { Some(from) };
            let layer = index.and_then(|index| self.layers.get(usize::try_from(index).ok()?));
            let expected = || format!("layers before {}", self.index);
            let layer = layer.ok_or_else(|| Error::invalid("from", expected(), from))?;
            Ok(layer.outputs.clone())
        };
        from.iter().map(input).collect()
    }

    fn wrong(&self, expected: &str) -> Error {
        let arguments: Vec<_> = self.row.3.iter().map(ToString::to_string).collect();
        Error::invalid("arguments", expected, format!("[{}]", arguments.join(", ")))
    }

    /// The arguments, at least `least` of those named.
    fn arguments(&self, names: &[&str], least: usize) -> Result<&[Argument]> {
        if !(least..=names.len()).contains(&self.row.3.len()) {
            return Err(self.wrong(&format!("{least} to {} of {}", names.len(), names.join(", "))));
        }
        Ok(&self.row.3)
    }

    /// Arguments that are positive numbers; `None` for those left out.
    fn numbers(&self, names: &[&str], least: usize) -> Result<Vec<Option<usize>>> {
        let number = |argument: &Argument| match argument {
            Argument::Integer(number) => {
                usize::try_from(*number).ok().filter(|n| (1..=1 << 16).contains(n))
            }
            _ => None,
        };
        let arguments = self.arguments(names, least)?.iter();
        let numbers: Option<Vec<_>> =
            arguments.map(|argument| Some(Some(number(argument)?))).collect();
        let mut numbers = numbers.ok_or_else(|| {
            self.wrong(&format!("whole numbers from 1 to 65536: {}", names.join(", ")))
        })?;
        numbers.resize(names.len(), None);
        Ok(numbers)
    }

    /// Outputs of one module, and the arguments it is made with.
    fn module(&mut self, name: &str, inputs: &[Vec<Map>]) -> Result<(Vec<Vec<Map>>, String)> {
        let module = self.row.2.as_str();
        let x = || match inputs {
            [input] => single_map(input),
            _ => Err(Error::invalid("from", "one layer", inputs.len())),
        };
        let width = |channels: Option<usize>| self.description.width(channels.unwrap_or(1));
        let (y, arguments) = match module {
            "Silence" => {
                self.arguments(&[], 0)?;
                self.trace.modules += 1;
                (x()?, "[]".to_owned())
            }
            "Conv" | "DSConv2D" => {
                let x = x()?;
                let numbers = self.numbers(&["channels", "kernel", "stride"], 1)?;
                let [channels, kernel, stride] = [numbers[0], numbers[1], numbers[2]];
                let (channels, kernel, stride) =
                    (width(channels), kernel.unwrap_or(1), stride.unwrap_or(1));
                if kernel.is_multiple_of(2) || kernel > 15 || stride > 8 {
                    return Err(self.wrong("an odd kernel up to 15, a stride up to 8"));
                }
                let geometry = Geometry::new(channels, kernel as u32, stride as u32)
                    .with_dsconv(module == "DSConv2D");
                let arguments = format!("[{}, {channels}, {kernel}, {stride}]", x.channels);
                (self.trace.conv(name, x, geometry)?, arguments)
            }
            "RepNCSPELAN4" => {
                let x = x()?;
                let numbers = self.numbers(&["channels", "first", "inner", "copies"], 3)?;
                let (channels, copies) = (width(numbers[0]), numbers[3].unwrap_or(1));
                let [first, inner] = [numbers[1], numbers[2]].map(|n| n.unwrap_or(1));
                let elan = Elan { channels, first, inner, copies };
                let arguments = format!("[{}, {channels}, {first}, {inner}, {copies}]", x.channels);
                (modules::rep_ncsp_elan(self.trace, name, x, elan)?, arguments)
            }
            "ADown" => {
                let x = x()?;
                let channels = width(self.numbers(&["channels"], 1)?[0]);
                (
                    modules::adown(self.trace, name, x, channels)?,
                    format!("[{}, {channels}]", x.channels),
                )
            }
            "SPPELAN" => {
                let x = x()?;
                let numbers = self.numbers(&["channels", "inner"], 2)?;
                let (channels, inner) = (width(numbers[0]), numbers[1].unwrap_or(1));
                let arguments = format!("[{}, {channels}, {inner}]", x.channels);
                (modules::sppelan(self.trace, name, x, channels, inner)?, arguments)
            }
            "nn.Upsample" => {
                let text = |text: &str| Argument::Text(text.into());
                if self.row.3 != [text("None"), Argument::Integer(2), text("nearest")] {
                    return Err(self.wrong("[None, 2, nearest]"));
                }
                (modules::upsample(self.trace, name, x()?)?, "[None, 2, 'nearest']".into())
            }
            "Concat" => {
                if self.row.3 != [Argument::Integer(1)] {
                    return Err(self.wrong("[1], the channels"));
                }
                self.trace.modules += 1;
                (self.trace.concat(name, &single_maps(inputs)?)?, "[1]".into())
            }
            "CBLinear" => {
                let x = x()?;
                let channels = self.list(|n| (1..=1 << 16).contains(&n))?;
                let arguments = format!("[{}, {channels:?}]", x.channels);
                return Ok((vec![modules::cb_linear(self.trace, name, x, &channels)?], arguments));
            }
            "CBFuse" => {
                let indices = self.list(|_| true)?;
                let Some((target, others)) =
                    inputs.split_last().filter(|(_, o)| o.len() == indices.len())
                else {
                    return Err(self.wrong(&format!(
                        "{} indices, one for each layer but the last",
                        inputs.len().saturating_sub(1)
                    )));
                };
                let pick = |(maps, &index): (&Vec<Map>, &usize)| {
                    let missing = || self.wrong("indices of maps that the layers have");
                    maps.get(index).copied().ok_or_else(missing)
                };
                let others = others.iter().zip(&indices).map(pick).collect::<Result<Vec<_>>>()?;
                let y = modules::cb_fuse(self.trace, name, &others, single_map(target)?)?;
                (y, format!("[{indices:?}]"))
            }
            _ => {
                let expected = "Silence, Conv, DSConv2D, RepNCSPELAN4, ADown, SPPELAN, nn.Upsample, Concat, CBLinear, CBFuse, DualDDetect or DDetect";
                return Err(Error::invalid("module", expected, module));
            }
        };
        Ok((vec![vec![y]], arguments))
    }

    /// A single argument that is a list of numbers.
    fn list(&self, allowed: impl Fn(i64) -> bool) -> Result<Vec<usize>> {
        let list = match &self.row.3[..] {
            [Argument::List(list)] if !list.is_empty() && list.len() <= 100 => list,
            _ => return Err(self.wrong("one list of 1 to 100 numbers")),
        };
        let number = |&n: &i64| usize::try_from(n).ok().filter(|_| allowed(n));
        list.iter()
            .map(number)
            .collect::<Option<_>>()
            .ok_or_else(|| self.wrong("a list of numbers, at most 65536"))
    }
}

fn single_map(maps: &[Map]) -> Result<Map> {
    match maps {
        [map] => Ok(*map),
        _ => Err(Error::invalid("from", "a layer of one map", format!("one of {}", maps.len()))),
    }
}

fn single_maps(inputs: &[Vec<Map>]) -> Result<Vec<Map>> {
    inputs.iter().map(|maps| single_map(maps)).collect()
}
