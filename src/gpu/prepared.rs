//! What a layer needs for inputs of one shape, whatever buffers they lie in.

use super::format::{ActivationFormat, TensorFormat, WeightFormat};
use super::kernel::Kernel;
use super::layer::{Layer, with_label};
use super::memory::{MemoryUse, check_buffer, float_bytes};
use super::params::{Geometry, Params};
use super::pipelines::Pipelines;
use super::variant::Variant;
use crate::error::Labelled;
use crate::{ActivationScale, Error, Result, Shape};
use std::sync::Arc;

/// A layer prepared for inputs of one shape: its compiled pipeline, its uniform and its grid. It lives as long as the
/// shape, and [`bind`](Self::bind) makes a [`Plan`](super::Plan) of it for each set of buffers. A clone is the same
/// thing.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) pipelines: Pipelines,
    pub(super) label: Option<Arc<str>>,
    pub(super) variant: Variant,
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) uniform: wgpu::Buffer,
    pub(super) weights: wgpu::Buffer,
    pub(super) grid: [u32; 2],
    pub(super) tensors: [TensorFormat; 2],
    pub(super) memory: MemoryUse,
}

/// What follows from a layer and a shape, before anything is made.
#[derive(Clone, Copy)]
pub(super) struct Blueprint {
    pub(super) variant: Variant,
    params: Params,
    /// Input and output.
    tensors: [TensorFormat; 2],
    memory: MemoryUse,
}

impl Layer {
    /// Prepares the convolution for inputs of that shape: it compiles the pipeline, where no layer has needed it yet,
    /// and uploads the uniform. The rest is [`Prepared::bind`], which takes the tensors.
    ///
    /// # Errors
    /// A shape that does not fit; [`Error::Limit`] for tensors or grids over the device's limits; or what the device
    /// reports.
    pub fn prepare(&self, input: Shape) -> Result<Prepared> {
        let blueprint = self.convolution(input).labelled(self.label())?;
        blueprint.prepare(self, &self.weights).labelled(self.label())
    }

    /// Prepares the quantisation of this layer's input: from floats in the options' layout to integer activations in
    /// the layer's blocks, as the layer takes them. Its [`Tensors`](super::Tensors) are the floats as the input, the
    /// integers as the output, and no residual. Layers whose input has the same groups and blocks can share the result.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare); [`Error::Unsupported`] for a layer whose options say float activations.
    pub fn prepare_quantization(&self, input: Shape, scale: ActivationScale) -> Result<Prepared> {
        let blueprint = self.quantization(input, scale).labelled(self.label())?;
        blueprint.prepare(self, self.pipelines.nothing()).labelled(self.label())
    }

    /// The pipeline that runs this layer on inputs of that shape. Nothing is compiled.
    ///
    /// # Errors
    /// As [`plan_memory_use`](Self::plan_memory_use).
    pub fn variant(&self, input: Shape) -> Result<Variant> {
        Ok(self.convolution(input).labelled(self.label())?.variant)
    }

    /// The device memory that a plan for inputs of that shape takes, and the tensors that the host brings to it.
    /// Nothing is made.
    ///
    /// # Errors
    /// As [`ConvDescriptor::output_shape`](crate::ConvDescriptor::output_shape); [`Error::Overflow`] for integer
    /// activations that can't be addressed with 32 bits.
    pub fn plan_memory_use(&self, input: Shape) -> Result<MemoryUse> {
        Ok(self.convolution(input).labelled(self.label())?.memory)
    }

    pub(super) fn convolution(&self, input: Shape) -> Result<Blueprint> {
        let (descriptor, Self { options, layout, .. }) = (self.descriptor(), self);
        let output = descriptor.output_shape(input)?;
        let memory = MemoryUse::plan(descriptor, &layout.blocks, input, output, options)?;
        let kernel = match options.kernel {
            None => {
                let capabilities = self.pipelines.capabilities();
                self.kernel.for_output(descriptor, &layout.blocks, output, capabilities)
            }
            Some(chosen) => chosen,
        };
        let mut params = Params::new(&Geometry {
            kernel,
            descriptor,
            weights: layout,
            input: (input, options.layout_of_input()),
            output: (output, options.output_layout),
            activation: options.activation,
            residual: options.residual,
            residual_in_place: options.residual_in_place,
        });
        if let Some(int8) = &options.int8_output {
            params = params.with_int8_output(kernel, output, int8);
        }
        let variant = Variant::of(kernel, self.format, descriptor, layout, options)
            .on(self.pipelines.capabilities());
        let integers = TensorFormat::int8(input, descriptor.groups, layout.blocks);
        let floats =
            |shape, layout| TensorFormat::Float { shape, layout, format: options.float_format };
        let input = match options.input_format {
            ActivationFormat::Float => floats(input, options.input_layout),
            ActivationFormat::Int8 => integers,
        };
        let output = match &options.int8_output {
            None => floats(output, options.output_layout),
            Some(int8) => TensorFormat::int8(output, 1, int8.blocks),
        };
        Ok(Blueprint { variant, params, tensors: [input, output], memory })
    }

    pub(super) fn quantization(&self, input: Shape, scale: ActivationScale) -> Result<Blueprint> {
        let (descriptor, Self { options, layout, .. }) = (self.descriptor(), self);
        if options.input_format != ActivationFormat::Int8 {
            return Err(Error::Unsupported {
                what: "quantising the input of a layer that takes floats".into(),
                remedy: "make the layer with LayerOptions::input_format = Int8".into(),
            });
        }
        let output = descriptor.output_shape(input)?;
        let integers = MemoryUse::plan(descriptor, &layout.blocks, input, output, options)?.input;
        let memory = MemoryUse {
            uniform: size_of::<Params>() as u64,
            input: float_bytes(input, options),
            output: integers,
            ..MemoryUse::default()
        };
        let params =
            Params::quantize_input(descriptor, layout, (input, options.input_layout), scale);
        let kernel = Kernel::QuantizeActivations;
        let variant = Variant::of(kernel, WeightFormat::F32, descriptor, layout, options);
        let floats = TensorFormat::Float {
            shape: input,
            layout: options.input_layout,
            format: options.float_format,
        };
        let integers = TensorFormat::int8(input, descriptor.groups, layout.blocks);
        Ok(Blueprint { variant, params, tensors: [floats, integers], memory })
    }
}

impl Blueprint {
    #[cfg_attr(
        target_arch = "wasm32",
        expect(clippy::arc_with_non_send_sync, reason = "in a browser there is one thread")
    )]
    fn prepare(self, layer: &Layer, weights: &wgpu::Buffer) -> Result<Prepared> {
        let Self { variant, params, tensors, memory } = self;
        let pipelines = &layer.pipelines;
        let limits = pipelines.limits();
        for (name, bytes) in
            [("input", memory.input), ("residual", memory.residual), ("output", memory.output)]
        {
            check_buffer(limits, name, bytes)?;
        }
        let grid = grid(params.workgroups(), limits)?;
        let label = with_label("dsconv params", layer.label());
        let usage = wgpu::BufferUsages::UNIFORM;
        let uniform = pipelines.upload(&label, usage, &[params])?;
        let inner = Inner {
            pipelines: pipelines.clone(),
            label: layer.label.clone(),
            variant,
            pipeline: pipelines.get(variant)?,
            uniform,
            weights: weights.clone(),
            grid,
            tensors,
            memory,
        };
        Ok(Prepared { inner: Arc::new(inner) })
    }
}

impl Prepared {
    /// The pipeline that runs.
    pub fn variant(&self) -> Variant {
        self.inner.variant
    }

    /// The kernel that runs: the layer's, or its form for so large an output.
    pub fn kernel(&self) -> Kernel {
        self.inner.variant.kernel
    }

    /// The workgroups of its dispatch, along x and y; there is one along z.
    pub fn workgroups(&self) -> [u32; 2] {
        self.inner.grid
    }

    /// The shape of the output.
    pub fn output_shape(&self) -> Shape {
        self.output_format().shape()
    }

    /// What its input must be.
    pub fn input_format(&self) -> TensorFormat {
        self.inner.tensors[0]
    }

    /// What its output is: for [`Tensors::with_input_format`](super::Tensors::with_input_format) of the next layer.
    pub fn output_format(&self) -> TensorFormat {
        self.inner.tensors[1]
    }

    /// The memory of the uniform, and that of the tensors that a host is to bring.
    pub fn memory_use(&self) -> MemoryUse {
        self.inner.memory
    }

    /// The layer's label.
    pub fn label(&self) -> Option<&str> {
        self.inner.label.as_deref()
    }

    /// Frees the uniform when what was submitted is done, if no clone and no plan has it any longer; else the last of
    /// them can free it. A browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        if let Some(inner) = Arc::into_inner(self.inner) {
            inner.uniform.destroy();
        }
    }
}

/// Workgroups in two dimensions, for counts beyond the limit of one. The product may be a little more than the
/// count: a kernel numbers its workgroups `x + y * num_workgroups.x` and skips those past the end.
///
/// # Errors
/// [`Error::Limit`] for a count beyond the square of the limit.
pub fn grid(count: u32, limits: &wgpu::Limits) -> Result<[u32; 2]> {
    let limit = limits.max_compute_workgroups_per_dimension;
    let rows = count.div_ceil(limit);
    if rows > limit {
        return Err(Error::Limit {
            what: "workgroups".into(),
            needed: rows.into(),
            limit_name: "max_compute_workgroups_per_dimension",
            limit: limit.into(),
        });
    }
    Ok([count.div_ceil(rows), rows])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_every_count_and_waste_less_than_a_row() {
        let limits =
            wgpu::Limits { max_compute_workgroups_per_dimension: 100, ..Default::default() };
        for count in [1, 99, 100, 101, 5050, 9999, 10000] {
            let [x, y] = grid(count, &limits).unwrap();
            assert!(x <= 100 && y <= 100 && x * y >= count && x * y < count + y);
        }
        assert!(matches!(grid(10001, &limits), Err(Error::Limit { .. })));
    }
}
