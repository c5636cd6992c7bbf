//! A row of a description as modules of the trace: its arguments checked, its inputs found.

use super::description::{Argument, Description, Row, Sources};
use super::heads::{self, Predictions};
use super::modules::{self, Elan};
use super::trace::{FeatureMap, SquareConv, Trace};
use crate::{Error, Result};

/// The largest number among arguments.
const MOST: usize = 1 << 16;

/// A layer of an [`Architecture`](super::Architecture): a row of its description, resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedLayer {
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
    pub(super) outputs: Vec<FeatureMap>,
    /// Index of its first convolution.
    pub(super) first: usize,
}

/// A row while it is resolved.
pub(super) struct RowContext<'a> {
    pub(super) trace: &'a mut Trace,
    pub(super) description: &'a Description,
    pub(super) row: &'a Row,
    pub(super) index: usize,
    pub(super) picture: FeatureMap,
    pub(super) layers: &'a [ResolvedLayer],
}

impl RowContext<'_> {
    /// The layer, and what it predicts if it is a detection, which the last one must be.
    pub(super) fn layer(&mut self, last: bool) -> Result<(ResolvedLayer, Option<Predictions>)> {
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
                let head = if module == "DDetect" { heads::single } else { heads::dual };
                predictions = Some(head(self.trace, &name, &maps, classes)?);
                outputs = Vec::new();
            } else {
                (outputs, arguments) = self.module(&name, &inputs)?;
            }
        }
        let layer = ResolvedLayer {
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

    /// The outputs of the layers that this one reads.
    fn inputs(&self) -> Result<Vec<Vec<FeatureMap>>> {
        let from = match &self.row.0 {
            Sources::One(from) => std::slice::from_ref(from),
            Sources::Several(from) => from,
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

    /// Arguments that are whole numbers from 1 on; `defaults` stand for the last ones.
    fn numbers<const N: usize>(&self, names: [&str; N], defaults: &[usize]) -> Result<[usize; N]> {
        let least = N - defaults.len();
        let arguments = self.arguments(&names, least)?;
        let mut numbers = [0; N];
        for (index, number) in numbers.iter_mut().enumerate() {
            let found = match arguments.get(index) {
                Some(Argument::Integer(number)) => usize::try_from(*number).ok(),
                Some(_) => None,
                None => Some(defaults[index - least]),
            };
            *number = found.filter(|number| (1..=MOST).contains(number)).ok_or_else(|| {
                self.wrong(&format!("whole numbers from 1 to {MOST}: {}", names.join(", ")))
            })?;
        }
        Ok(numbers)
    }

    /// Outputs of one module, and the arguments it is made with.
    fn module(
        &mut self,
        name: &str,
        inputs: &[Vec<FeatureMap>],
    ) -> Result<(Vec<Vec<FeatureMap>>, String)> {
        let module = self.row.2.as_str();
        let x = || match inputs {
            [input] => single_map(input),
            _ => Err(Error::invalid("from", "one layer", inputs.len())),
        };
        let width = |channels| self.description.width(channels);
        let (y, arguments) = match module {
            "Silence" => {
                self.arguments(&[], 0)?;
                self.trace.modules += 1;
                (x()?, "[]".to_owned())
            }
            "Conv" | "DSConv2D" => {
                let x = x()?;
                let [channels, kernel, stride] =
                    self.numbers(["channels", "kernel", "stride"], &[1, 1])?;
                let channels = width(channels);
                if kernel.is_multiple_of(2) || kernel > 15 || stride > 8 {
                    return Err(self.wrong("an odd kernel up to 15, a stride up to 8"));
                }
                let geometry = SquareConv::new(channels, kernel as u32, stride as u32)
                    .with_dsconv(module == "DSConv2D");
                let arguments = format!("[{}, {channels}, {kernel}, {stride}]", x.channels);
                (self.trace.conv(name, x, geometry)?, arguments)
            }
            "RepNCSPELAN4" => {
                let x = x()?;
                let [channels, first, inner, copies] =
                    self.numbers(["channels", "first", "inner", "copies"], &[1])?;
                let channels = width(channels);
                let elan = Elan { channels, first, inner, copies };
                let arguments = format!("[{}, {channels}, {first}, {inner}, {copies}]", x.channels);
                (modules::rep_ncsp_elan(self.trace, name, x, elan)?, arguments)
            }
            "ADown" => {
                let x = x()?;
                let [channels] = self.numbers(["channels"], &[])?.map(width);
                let arguments = format!("[{}, {channels}]", x.channels);
                (modules::adown(self.trace, name, x, channels)?, arguments)
            }
            "SPPELAN" => {
                let x = x()?;
                let [channels, inner] = self.numbers(["channels", "inner"], &[])?;
                let channels = width(channels);
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
                let channels = self.list(1)?;
                let arguments = format!("[{}, {channels:?}]", x.channels);
                return Ok((vec![modules::cb_linear(self.trace, name, x, &channels)?], arguments));
            }
            "CBFuse" => {
                let indices = self.list(0)?;
                let one_each = inputs.split_last().filter(|(_, o)| o.len() == indices.len());
                let (target, others) =
                    one_each.ok_or_else(|| self.wrong("an index for each layer but the last"))?;
                let pick = |(maps, &index): (&Vec<FeatureMap>, &usize)| {
                    let missing = || self.wrong("indices of maps that the layers have");
                    maps.get(index).copied().ok_or_else(missing)
                };
                let others = others.iter().zip(&indices).map(pick).collect::<Result<Vec<_>>>()?;
                let y = modules::cb_fuse(self.trace, name, &others, single_map(target)?)?;
                (y, format!("[{indices:?}]"))
            }
            _ => {
                let known = "Silence, Conv, DSConv2D, RepNCSPELAN4, ADown, SPPELAN, nn.Upsample, Concat, \
                             CBLinear, CBFuse, DualDDetect or DDetect";
                return Err(Error::invalid("module", known, module));
            }
        };
        Ok((vec![vec![y]], arguments))
    }

    /// A single argument that is a list of numbers from `least` on.
    fn list(&self, least: usize) -> Result<Vec<usize>> {
        let list = match &self.row.3[..] {
            [Argument::List(list)] if !list.is_empty() && list.len() <= 100 => list,
            _ => return Err(self.wrong("one list of 1 to 100 numbers")),
        };
        let number = |&n: &i64| usize::try_from(n).ok().filter(|n| (least..=MOST).contains(n));
        let list: Option<Vec<_>> = list.iter().map(number).collect();
        list.ok_or_else(|| self.wrong(&format!("a list of numbers from {least} to {MOST}")))
    }
}

fn single_map(maps: &[FeatureMap]) -> Result<FeatureMap> {
    match maps {
        [map] => Ok(*map),
        _ => Err(Error::invalid("from", "a layer of one map", format!("one of {}", maps.len()))),
    }
}

fn single_maps(inputs: &[Vec<FeatureMap>]) -> Result<Vec<FeatureMap>> {
    inputs.iter().map(|maps| single_map(maps)).collect()
}
