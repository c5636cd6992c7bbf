//! Random weights for benchmarks and tests, of a scale that keeps activations near 1 through the network.

use super::architecture::{Architecture, GraphOutputs};
use crate::ir::graph::Graph;
use crate::quantize::{Convolve, Walk, shifted};
use crate::{Error, Result};
use dsconv::{ConvDescriptor, FloatWeights, Shape};

/// The share of a convolution's output that its input makes; the biases make the other. Without those, a little more or
/// less in one layer would multiply through all others.
const HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;

impl Architecture {
    /// The graph with those outputs with random weights: normally distributed, then scaled, with biases added, so that
    /// each convolution's output, before its activation, has a mean square of 1 on noise. Batch norms do this in a
    /// trained network; without it activations vanish or overflow. The same seed gives the same weights.
    ///
    /// `progress` hears of every convolution: its number, how many there are, its name.
    ///
    /// # Errors
    /// What `convolve` says.
    pub fn random(
        &self,
        which: GraphOutputs,
        seed: u64,
        convolve: &mut Convolve<'_>,
        mut progress: impl FnMut(usize, usize, &str),
    ) -> Result<Graph> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut graph = self.graph(which, |conv| {
            let descriptor = conv.descriptor();
            let inputs = descriptor.channels_per_group() * descriptor.taps();
            let deviation = f64::from(inputs).sqrt().recip();
            let values =
                (0..descriptor.weight_count()).map(|_| (deviation * normal(&mut rng)) as f32);
            Ok(FloatWeights::new(descriptor, values.collect())?.into())
        })?;
        // Two pixels a side in the smallest map.
        let side = 2 * self.stride() as usize;
        let noise = (0..3 * side * side).map(|_| rng.f32()).collect();
        let mut walk = Walk::new(&graph, &[vec![noise]], &[&[1, 3, side, side]])?;
        let count = graph.convolutions().count();
        let mut done = 0;
        while let Some(step) = walk.next_convolution()? {
            let name = &step.name;
            progress(done, count, name);
            done += 1;
            let descriptor = crate::ir::graph::descriptor(&step.weights);
            let outputs = walk.convolve(&step, &step.weights, convolve)?;
            let values = || outputs.iter().flatten().map(|&y| f64::from(y));
            let squares = values().map(|y| y * y).sum::<f64>() / values().count() as f64;
            // In larger pictures fewer windows reach into the padding.
            let magnitude = (squares / inside(&descriptor, step.input, step.output)).sqrt();
            if !(magnitude > 0.0 && magnitude.is_finite()) {
                let expected = "a finite number above 0";
                return Err(Error::invalid(format!("output of {name}"), expected, magnitude));
            }
            let fit: Vec<_> = (0..step.output.channels)
                .map(|_| ((HALF / magnitude) as f32, (HALF * normal(&mut rng)) as f32))
                .collect();
            let found = graph.convolutions().find(|(node, _)| node.name == *name);
            let (_, id) =
                found.ok_or_else(|| Error::invalid("graph", "the convolution of a step", name))?;
            graph.set_weights(id, shifted(graph.weights(id), &fit)?)?;
            walk.finish_convolution(Some(&fit))?;
        }
        Ok(graph)
    }
}

/// The share of the taps that fall into the input and not into its padding.
fn inside(descriptor: &ConvDescriptor, input: Shape, output: Shape) -> f64 {
    let along = |axis: usize, extent: u32, places: u32| {
        let falls = |at: u32, tap: u32| {
            let place = at * descriptor.stride[axis] + tap * descriptor.dilation[axis];
            place.checked_sub(descriptor.padding[axis]).is_some_and(|place| place < extent)
        };
        let taps = descriptor.kernel[axis];
        let all = (0..places).flat_map(|at| (0..taps).map(move |tap| (at, tap)));
        let count = all.filter(|&(at, tap)| falls(at, tap)).count();
        count as f64 / f64::from(places * taps)
    };
    along(0, input.height, output.height) * along(1, input.width, output.width)
}

/// A normally distributed number, mean 0, deviation 1 (Box and Muller).
fn normal(rng: &mut fastrand::Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}
