//! Weights from a state dict of PyTorch's, in a safetensors file.

use super::architecture::{Architecture, GraphOutputs};
use super::trace::{MergedConvolution, TorchConvolution};
use crate::ir::graph::Graph;
use crate::ir::tensor::floats_of;
use crate::{Error, Result};
use dsconv::{FloatWeights, Weights};
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use std::collections::HashMap;

/// The number that the public networks add to a batch norm's variance.
const EPSILON: f64 = 1e-3;
/// Names of a kind that an error lists.
const LISTED: usize = 10;

impl Architecture {
    /// Names and shapes of the tensors that training keeps, as PyTorch's state dict has them, without the batch norms'
    /// counters.
    pub fn state_dict(&self) -> Vec<(String, Vec<usize>)> {
        let parts = self.trace.convolutions.iter().flat_map(|conv| &conv.parts);
        let ramps =
            self.trace.ramps.iter().map(|(name, bins)| (name.clone(), vec![1, *bins, 1, 1]));
        parts.flat_map(TorchConvolution::tensors).chain(ramps).collect()
    }

    /// The graph with those outputs with the weights of a state dict, in safetensors: tensors `model.N.…` as the public
    /// YOLOv9 programs call them, in f32, f16 or bf16. A choice of outputs may leave out tensors that it does not need.
    ///
    /// # Errors
    /// [`Error::Format`] for what is no safetensors, and listing all tensors that are missing, unknown, of another
    /// shape or type; an error that names the convolution for weights that are not finite.
    pub fn load(&self, which: GraphOutputs, file: &str, bytes: &[u8]) -> Result<Graph> {
        let state = SafeTensors::deserialize(bytes).map_err(|e| Error::format(file, e))?;
        let state = State { tensors: &state, file };
        state.check(self, which)?;
        self.graph(which, |conv| {
            state.merged(conv).map_err(|e| e.in_node(&conv.name, "convolution"))
        })
    }
}

struct State<'a> {
    tensors: &'a SafeTensors<'a>,
    file: &'a str,
}

impl State<'_> {
    /// Whether the file has what those outputs need, and nothing unknown.
    fn check(&self, network: &Architecture, which: GraphOutputs) -> Result<()> {
        let known: HashMap<_, _> = network.state_dict().into_iter().collect();
        let parts = |conv: &MergedConvolution| conv.parts.clone();
        let needed: Vec<_> = network.needed_convolutions(which).flat_map(parts).collect();
        let names = needed.iter().flat_map(TorchConvolution::tensors).map(|(name, _)| name);
        let counter = |name: &str| {
            let norm = name.strip_suffix(".num_batches_tracked");
            norm.is_some_and(|norm| known.contains_key(&format!("{norm}.running_var")))
        };
        let (mut unknown, mut wrong) = (Vec::new(), Vec::new());
        let missing: Vec<_> = names.filter(|name| self.tensors.tensor(name).is_err()).collect();
        for (name, tensor) in self.tensors.iter() {
            match known.get(name) {
                Some(shape) if tensor.shape() != shape => {
                    wrong.push(format!("{name} (expected {shape:?}, got {:?})", tensor.shape()));
                }
                Some(_) if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
                    wrong.push(format!(
                        "{name} (expected F32, F16 or BF16, got {:?})",
                        tensor.dtype()
                    ));
                }
                None if !counter(name) => unknown.push(name.to_owned()),
                _ => {}
            }
        }
        let kinds = [("missing", missing), ("unknown", unknown), ("wrong", wrong)];
        let parts: Vec<String> = kinds
            .into_iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(kind, mut names)| {
                names.sort();
                let more = names.len().saturating_sub(LISTED);
                names.truncate(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("{kind}: {}{more}", names.join(", "))
            })
            .collect();
        if !parts.is_empty() {
            return Err(Error::format(
                self.file,
                format!("not this network's tensors; {}", parts.join("; ")),
            ));
        }
        for (name, bins) in &network.trace.ramps {
            if let Ok(tensor) = self.tensors.tensor(name)
                && floats_of(&tensor, name)? != (0..*bins).map(|bin| bin as f32).collect::<Vec<_>>()
            {
                let expected = format!("0 to {}, which training leaves as they are", bins - 1);
                return Err(Error::invalid(name, expected, "other values"));
            }
        }
        Ok(())
    }

    fn values(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensors.tensor(name).map_err(|e| Error::format(self.file, e))?;
        floats_of(&tensor, name)
    }

    /// The sum of a convolution's parts, with their batch norms folded in.
    fn merged(&self, merged: &MergedConvolution) -> Result<Weights> {
        let descriptor = merged.descriptor();
        let outputs = descriptor.out_channels as usize;
        let (mut kernel, mut bias) = (vec![0.0; descriptor.weight_count()], vec![0.0; outputs]);
        for part in &merged.parts {
            let (values, shifts) = self.folded(part)?;
            bias.iter_mut().zip(shifts).for_each(|(sum, shift)| *sum += shift);
            // A smaller kernel lies in the middle of the first.
            let [height, width] = part.descriptor.kernel.map(|extent| extent as usize);
            let [rows, columns] = descriptor.kernel.map(|extent| extent as usize);
            let (top, left) = ((rows - height) / 2, (columns - width) / 2);
            for (index, value) in values.into_iter().enumerate() {
                let (row, column) = (index / width % height + top, index % width + left);
                let channel = index / (height * width);
                kernel[(channel * rows + row) * columns + column] += value;
            }
        }
        let single = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        Ok(FloatWeights::new(descriptor, single(kernel))?.with_bias(single(bias))?.into())
    }

    /// Kernel and bias of a convolution with its batch norm, in f64.
    fn folded(&self, conv: &TorchConvolution) -> Result<(Vec<f64>, Vec<f64>)> {
        let tensors = conv.tensors();
        let tensors: Vec<Vec<f64>> = tensors
            .iter()
            .map(|(name, _)| Ok(self.values(name)?.into_iter().map(f64::from).collect()))
            .collect::<Result<_>>()?;
        let (kernel, per_channel) = (&tensors[0], &tensors[1..]);
        Ok(match per_channel {
            [scale, shift, mean, variance] => {
                let scales: Vec<f64> =
                    scale.iter().zip(variance).map(|(s, v)| s / (v + EPSILON).sqrt()).collect();
                let row = kernel.len() / scales.len();
                let scaled = kernel.iter().enumerate().map(|(index, w)| w * scales[index / row]);
                let shifts = shift.iter().zip(mean).zip(&scales).map(|((b, m), s)| b - m * s);
                (scaled.collect(), shifts.collect())
            }
            _ => (kernel.clone(), per_channel[0].clone()),
        })
    }
}
