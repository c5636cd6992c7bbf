//! Weights and constants in device memory, each uploaded at its first use and shared by all plans.

use super::schedule::{ConvTask, Form};
use crate::Result;
use dsconv::Weights;
use dsconv::gpu::{Layer, LayerOptions, Pipelines, check_buffer, upload};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// A layer, made of weights in a form, under options.
type Uploaded = (Form, LayerOptions, Arc<Layer>);

/// Weights, and the layers of them.
type UploadedLayers = (Weak<Weights>, Vec<Uploaded>);

/// The weights and constants that a network has uploaded so far.
#[derive(Debug)]
pub(crate) struct Uploads {
    pipelines: Pipelines,
    /// The layers by the address of their weights, which stays taken as long as the weak reference lives.
    layers: HashMap<usize, UploadedLayers>,
    constants: HashMap<usize, (Weak<Vec<f32>>, wgpu::Buffer)>,
}

impl Uploads {
    /// Starts with nothing, for the device of those pipelines.
    pub(crate) fn new(pipelines: &Pipelines) -> Self {
        let pipelines = pipelines.clone();
        Self { pipelines, layers: HashMap::new(), constants: HashMap::new() }
    }

    /// The device that everything is uploaded to.
    pub(crate) fn device(&self) -> &wgpu::Device {
        self.pipelines.device()
    }

    /// The layer of a convolution, uploaded at its first use.
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "in a browser there is one thread")
    )]
    pub(crate) fn layer(&mut self, conv: &ConvTask) -> Result<Arc<Layer>> {
        let address = Arc::as_ptr(&conv.weights) as usize;
        let (_, layers) = self
            .layers
            .entry(address)
            .or_insert_with(|| (Arc::downgrade(&conv.weights), Vec::new()));
        let known = |(form, options, _): &&Uploaded| (form, options) == (&conv.form, &conv.options);
        if let Some((_, _, layer)) = layers.iter().find(known) {
            return Ok(layer.clone());
        }
        let weights = conv.form.of(&conv.weights)?;
        let layer = Arc::new(Layer::new(&self.pipelines, &*weights, conv.options)?);
        layers.push((conv.form, conv.options, layer.clone()));
        Ok(layer)
    }

    /// Writes new numbers over those of weights, in all layers of them.
    ///
    /// # Errors
    /// As [`Layer::update`].
    pub(crate) fn update(
        &self,
        queue: &wgpu::Queue,
        weights: &Arc<Weights>,
        new: &Weights,
    ) -> Result<()> {
        let address = Arc::as_ptr(weights) as usize;
        let layers = self.layers.get(&address).map_or(&[][..], |(_, layers)| layers);
        for (form, _, layer) in layers {
            layer.update(queue, &*form.of(new)?)?;
        }
        Ok(())
    }

    /// The buffer of a constant, uploaded at its first use.
    pub(crate) fn constant(&mut self, values: &Arc<Vec<f32>>) -> Result<wgpu::Buffer> {
        let address = Arc::as_ptr(values) as usize;
        if let Some((_, buffer)) = self.constants.get(&address) {
            return Ok(buffer.clone());
        }
        check_buffer(self.pipelines.limits(), "a constant", 4 * values.len() as u64)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        let buffer = upload(self.pipelines.device(), "dsconv-net constant", usage, values)?;
        self.constants.insert(address, (Arc::downgrade(values), buffer.clone()));
        Ok(buffer)
    }

    /// Forgets what no program holds any longer. Its memory is free when the plans that use it are gone.
    pub(crate) fn forget_unused(&mut self) {
        self.layers.retain(|_, (weights, _)| weights.strong_count() > 0);
        self.constants.retain(|_, (values, _)| values.strong_count() > 0);
    }

    /// Frees what no program holds any longer.
    pub(crate) fn destroy_unused(&mut self) {
        let unused = self.layers.extract_if(|_, (weights, _)| weights.strong_count() == 0);
        unused.for_each(|(_, (_, layers))| destroy_layers(layers));
        let unused = self.constants.extract_if(|_, (values, _)| values.strong_count() == 0);
        unused.for_each(|(_, (_, buffer))| buffer.destroy());
    }

    /// Frees everything.
    pub(crate) fn destroy(self) {
        self.layers.into_values().for_each(|(_, layers)| destroy_layers(layers));
        self.constants.into_values().for_each(|(_, buffer)| buffer.destroy());
    }
}

fn destroy_layers(layers: Vec<Uploaded>) {
    // Others hold a layer only while a plan is made.
    layers.into_iter().filter_map(|(_, _, layer)| Arc::into_inner(layer)).for_each(Layer::destroy);
}
