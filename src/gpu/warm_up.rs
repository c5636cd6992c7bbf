//! Pipelines that are compiled before they are needed.

use super::format::ActivationFormat;
use super::layer::Layer;
use super::pipelines::Pipelines;
use super::variant::Variant;
use crate::error::Labelled;
use crate::{ActivationScale, Error, Result, Shape};

/// How far [`Pipelines::warm_up`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUp {
    /// The pipelines that are compiled, of those that are wanted.
    pub compiled: usize,
    /// The pipelines that are wanted: each counts once, however many layers share it.
    pub wanted: usize,
}

impl Pipelines {
    /// Compiles every pipeline that those layers need for inputs of those shapes, one after another, and tells
    /// `progress` of each: so a host can compile on a thread of its own, and draw a bar. Plans can be made meanwhile,
    /// and several threads can warm up different layers; what two of them want is compiled once. A layer with int8
    /// activations also gets the pipeline that makes them of floats.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a layer that was made with other pipelines than these, and a shape that does not fit its
    /// layer, both before anything is compiled; or what the device reports. What was compiled until then stays.
    pub fn warm_up<'a>(
        &self,
        layers: impl IntoIterator<Item = (&'a Layer, Shape)>,
        mut progress: impl FnMut(WarmUp),
    ) -> Result<()> {
        let mut variants: Vec<Variant> = Vec::new();
        for (layer, input) in layers {
            if !self.same_device(layer.pipelines()) {
                let expected = "one made with these pipelines, or with a clone of them";
                return Err(Error::invalid("layer", expected, "one made with others"))
                    .labelled(layer.label());
            }
            for variant in layer.variants(input).labelled(layer.label())? {
                if !variants.contains(&variant) {
                    variants.push(variant);
                }
            }
        }
        let wanted = variants.len();
        for (index, variant) in variants.into_iter().enumerate() {
            self.get(variant)?;
            progress(WarmUp { compiled: index + 1, wanted });
        }
        Ok(())
    }
}

impl Layer {
    /// The pipelines that inputs of that shape need.
    fn variants(&self, input: Shape) -> Result<Vec<Variant>> {
        let mut variants = vec![self.convolution(input)?.variant];
        if self.options().input_format == ActivationFormat::Int8 {
            variants.push(self.quantization(input, ActivationScale::default())?.variant);
        }
        Ok(variants)
    }
}
