//! A layer bound to tensors of one shape, ready to be recorded any number of times.

use super::format::{ActivationFormat, WeightFormat};
use super::kernel::Kernel;
use super::layer::Layer;
use super::memory::{MemoryUse, check_buffer, float_bytes};
use super::params::{Geometry, Params};
use super::pipelines::Pipelines;
use super::scope::checked;
use super::transfer::upload;
use super::variant::Variant;
use crate::{ActivationScale, Error, Residual, Result, Shape};

/// The tensors of a plan: slices of the host's buffers, in the formats and layouts of the layer's options.
///
/// Offsets must be multiples of the device's `min_storage_buffer_offset_alignment`. A slice may be
/// longer than its tensor; what lies behind stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Tensors<'a> {
    /// The input.
    pub input: wgpu::BufferSlice<'a>,
    /// The residual, if and only if the layer's options ask for one.
    pub residual: Option<wgpu::BufferSlice<'a>>,
    /// The output. In another buffer than the rest.
    pub output: wgpu::BufferSlice<'a>,
}

/// A layer bound to tensors of one shape, ready to be recorded any number of times.
#[derive(Debug)]
pub struct Plan {
    kernel: Kernel,
    pipeline: wgpu::ComputePipeline,
    uniform: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
    grid: [u32; 2],
    output: Shape,
    memory: MemoryUse,
}

impl Layer {
    /// Prepares the convolution of one input shape between tensors of the host: all that can fail
    /// fails here. Output and input must lie in different buffers, as WebGPU demands.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) names the tensor that is too small, misaligned, missing,
    /// without `BufferUsages::STORAGE` or in the output's buffer; [`Error::Limit`](crate::Error::Limit)
    /// for tensors or grids over the device's limits; a shape that does not fit; or what the device
    /// reports.
    pub fn plan(&self, input: Shape, tensors: Tensors<'_>) -> Result<Plan> {
        let Self { pipelines, descriptor, options, layout, .. } = self;
        let output = descriptor.output_shape(input)?;
        let memory = MemoryUse::plan(descriptor, &layout.blocks, input, output, options)?;
        let limits = pipelines.limits();
        let bindings = Bindings {
            weights: &self.weights,
            scales: self.scales.as_ref().unwrap_or(pipelines.nothing()),
            input: bind(limits, "input", tensors.input, memory.input)?,
            residual: match (options.residual, tensors.residual) {
                (Residual::None, None) => pipelines.nothing().as_entire_buffer_binding(),
                (Residual::BeforeActivation | Residual::AfterActivation, Some(slice)) => {
                    bind(limits, "residual", slice, memory.residual)?
                }
                (Residual::None, Some(_)) => {
                    return Err(Error::invalid(
                        "residual",
                        "none, as the layer's options say",
                        "a tensor",
                    ));
                }
                (_, None) => {
                    return Err(Error::invalid(
                        "residual",
                        "a tensor, as the layer's options say",
                        "none",
                    ));
                }
            },
            output: bind(limits, "output", tensors.output, memory.output)?,
        };
        let kernel = match options.kernel {
            None => self.kernel.for_output(descriptor, &layout.blocks, output),
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
        });
        if let Some(int8) = &options.int8_output {
            params = params.with_int8_output(kernel, output, int8);
        }
        let variant = Variant::of(kernel, self.format, descriptor, layout, options);
        Dispatch { variant, params, bindings, output, memory }.bind(pipelines)
    }

    /// Prepares the quantisation of this layer's input: from floats in the options' layout to integer
    /// activations in the layer's blocks, as its [`plan`](Self::plan) takes them. Layers whose input has
    /// the same groups and blocks can share the result.
    ///
    /// # Errors
    /// As [`plan`](Self::plan); [`Error::Unsupported`](crate::Error::Unsupported) for a layer whose
    /// options say float activations.
    pub fn plan_quantization(
        &self,
        input: Shape,
        scale: ActivationScale,
        floats: wgpu::BufferSlice<'_>,
        integers: wgpu::BufferSlice<'_>,
    ) -> Result<Plan> {
        let Self { pipelines, descriptor, options, layout, .. } = self;
        if options.input_format != ActivationFormat::Int8 {
            return Err(Error::Unsupported {
                what: "quantising the input of a layer that takes floats".into(),
                remedy: "make the layer with LayerOptions::input_format = Int8".into(),
            });
        }
        let output = descriptor.output_shape(input)?;
        let integer_bytes =
            MemoryUse::plan(descriptor, &layout.blocks, input, output, options)?.input;
        let memory = MemoryUse {
            uniform: size_of::<Params>() as u64,
            input: float_bytes(input, options),
            output: integer_bytes,
            ..MemoryUse::default()
        };
        let limits = pipelines.limits();
        let nothing = pipelines.nothing();
        let bindings = Bindings {
            weights: nothing,
            scales: nothing,
            input: bind(limits, "float input", floats, memory.input)?,
            residual: nothing.as_entire_buffer_binding(),
            output: bind(limits, "integer output", integers, memory.output)?,
        };
        let params =
            Params::quantize_input(descriptor, layout, (input, options.input_layout), scale);
        let variant = Variant::of(
            Kernel::QuantizeActivations,
            WeightFormat::F32,
            descriptor,
            layout,
            options,
        );
        Dispatch { variant, params, bindings, output: input, memory }.bind(pipelines)
    }
}

impl Plan {
    /// Records the convolution into a compute pass of its own. Allocates nothing, submits nothing.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some("dsconv"),
            timestamp_writes: None,
        });
        self.record(&mut pass);
    }

    /// Records the convolution into the host's pass. It sets pipeline and bind group 0.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }

    /// Frees the plan's own memory when what was submitted is done. Commands that are recorded but not
    /// submitted become invalid. A browser frees it otherwise when it collects garbage, so maybe never.
    pub fn destroy(self) {
        self.uniform.destroy();
    }

    /// The kernel that runs: the layer's, or its form for so large an output.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The shape of the output.
    pub fn output_shape(&self) -> Shape {
        self.output
    }

    /// The plan's own memory and that of the tensors it is bound to.
    pub fn memory_use(&self) -> MemoryUse {
        self.memory
    }
}

/// All that a plan is made from, before anything is allocated.
struct Dispatch<'a> {
    variant: Variant,
    params: Params,
    bindings: Bindings<'a>,
    output: Shape,
    memory: MemoryUse,
}

impl Dispatch<'_> {
    fn bind(self, pipelines: &Pipelines) -> Result<Plan> {
        let Self { variant, params, bindings, output, memory } = self;
        for (name, read) in [("input", &bindings.input), ("residual", &bindings.residual)] {
            if read.buffer == bindings.output.buffer {
                return Err(Error::invalid(
                    format!("{name} buffer"),
                    "another buffer than the output's (WebGPU forbids reading and writing one buffer in a dispatch)",
                    "the same",
                ));
            }
        }
        let grid = grid(params.workgroups(), pipelines.limits())?;
        let device = pipelines.device();
        let uniform = upload(device, "dsconv params", wgpu::BufferUsages::UNIFORM, &[params])?;
        let pipeline = pipelines.get(variant)?;
        // Fours of words are read by bindings of their own: one buffer has two types.
        let nothing = pipelines.nothing();
        let input_vectors = match variant.input_fours() {
            true => bindings.input.clone(),
            false => nothing.as_entire_buffer_binding(),
        };
        let weight_vectors = if variant.weight_fours() { bindings.weights } else { nothing };
        let bind_group = checked(device, "a bind group", || {
            let resources = [
                uniform.as_entire_binding(),
                bindings.weights.as_entire_binding(),
                bindings.scales.as_entire_binding(),
                wgpu::BindingResource::Buffer(bindings.input),
                wgpu::BindingResource::Buffer(bindings.residual),
                wgpu::BindingResource::Buffer(bindings.output),
                wgpu::BindingResource::Buffer(input_vectors),
                weight_vectors.as_entire_binding(),
            ];
            let entries: Vec<_> = (0..)
                .zip(resources)
                .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                .collect();
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("dsconv plan"),
                layout: pipelines.bind_group_layout(),
                entries: &entries,
            })
        })?;
        Ok(Plan { kernel: variant.kernel, pipeline, uniform, bind_group, grid, output, memory })
    }
}

/// What a plan binds besides its uniform, in the order of the shaders' bindings.
struct Bindings<'a> {
    weights: &'a wgpu::Buffer,
    scales: &'a wgpu::Buffer,
    input: wgpu::BufferBinding<'a>,
    residual: wgpu::BufferBinding<'a>,
    output: wgpu::BufferBinding<'a>,
}

/// Checks a tensor's slice and binds as much of it as the tensor needs.
fn bind<'a>(
    limits: &wgpu::Limits,
    name: &str,
    slice: wgpu::BufferSlice<'a>,
    needed: u64,
) -> Result<wgpu::BufferBinding<'a>> {
    if !slice.buffer().usage().contains(wgpu::BufferUsages::STORAGE) {
        let usage = format!("{:?}", slice.buffer().usage());
        return Err(Error::invalid(format!("{name} buffer usage"), "STORAGE", usage));
    }
    check_buffer(limits, name, needed)?;
    let alignment = u64::from(limits.min_storage_buffer_offset_alignment);
    if slice.offset() % alignment != 0 {
        let expected = format!("a multiple of {alignment}");
        return Err(Error::invalid(format!("{name} offset"), expected, slice.offset()));
    }
    if slice.size() < needed {
        let expected = format!("at least {needed} bytes");
        return Err(Error::invalid(format!("{name} buffer"), expected, slice.size()));
    }
    let size = wgpu::BufferSize::new(needed);
    Ok(wgpu::BufferBinding { buffer: slice.buffer(), offset: slice.offset(), size })
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
