//! A prepared layer bound to tensors, ready to be recorded any number of times.

use super::kernel::Kernel;
use super::layer::{Layer, with_label};
use super::memory::MemoryUse;
use super::prepared::{Inner, Prepared};
use super::scope::checked;
use crate::error::Labelled;
use crate::{ActivationScale, Error, Result, Shape};

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

/// A prepared layer bound to tensors, ready to be recorded any number of times.
#[derive(Debug)]
pub struct Plan {
    prepared: Prepared,
    bind_group: wgpu::BindGroup,
}

impl Layer {
    /// Prepares the convolution of one input shape between tensors of the host: [`prepare`](Self::prepare) and
    /// [`bind`](Prepared::bind) in one step. All that can fail fails here.
    ///
    /// # Errors
    /// As those two.
    pub fn plan(&self, input: Shape, tensors: Tensors<'_>) -> Result<Plan> {
        self.prepare(input)?.bind(tensors)
    }

    /// Prepares the quantisation of this layer's input: [`prepare_quantization`](Self::prepare_quantization) and
    /// [`bind`](Prepared::bind) in one step.
    ///
    /// # Errors
    /// As those two.
    pub fn plan_quantization(
        &self,
        input: Shape,
        scale: ActivationScale,
        floats: wgpu::BufferSlice<'_>,
        integers: wgpu::BufferSlice<'_>,
    ) -> Result<Plan> {
        let tensors = Tensors { input: floats, residual: None, output: integers };
        self.prepare_quantization(input, scale)?.bind(tensors)
    }
}

impl Prepared {
    /// Binds tensors of the host. This makes a bind group and nothing else, so an engine whose buffers change from run
    /// to run can afford it each time. Output and input must lie in different buffers, as WebGPU demands.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the tensor that is too small, misaligned, missing, without `BufferUsages::STORAGE`, in
    /// the output's buffer, or of another device; or what the device reports.
    pub fn bind(&self, tensors: Tensors<'_>) -> Result<Plan> {
        let bind_group = self.inner.bind_group(tensors).labelled(self.label())?;
        Ok(Plan { prepared: self.clone(), bind_group })
    }
}

impl Inner {
    fn bind_group(&self, tensors: Tensors<'_>) -> Result<wgpu::BindGroup> {
        let Self { pipelines, memory, variant, .. } = self;
        let limits = pipelines.limits();
        let input = bind(limits, "input", tensors.input, memory.input)?;
        let nothing = pipelines.nothing();
        let residual = match (memory.residual, tensors.residual) {
            (0, None) => nothing.as_entire_buffer_binding(),
            (needed @ 1.., Some(slice)) => bind(limits, "residual", slice, needed)?,
            (0, Some(_)) => {
                let expected = "none, as the layer's options say";
                return Err(Error::invalid("residual", expected, "a tensor"));
            }
            (_, None) => {
                let expected = "a tensor, as the layer's options say";
                return Err(Error::invalid("residual", expected, "none"));
            }
        };
        let output = bind(limits, "output", tensors.output, memory.output)?;
        for (name, read) in [("input", &input), ("residual", &residual)] {
            if read.buffer == output.buffer {
                return Err(Error::invalid(
                    format!("{name} buffer"),
                    "another buffer than the output's (WebGPU forbids reading and writing one buffer in a dispatch)",
                    "the same",
                ));
            }
        }
        // Fours of words are read by bindings of their own: one buffer has two types.
        let input_vectors = match variant.input_fours() {
            true => input.clone(),
            false => nothing.as_entire_buffer_binding(),
        };
        let weight_vectors = if variant.weight_fours() { &self.weights } else { nothing };
        let device = pipelines.device();
        let label = with_label("dsconv plan", self.label.as_deref());
        checked(device, "a bind group", || {
            let resources = [
                self.uniform.as_entire_binding(),
                self.weights.as_entire_binding(),
                self.scales.as_entire_binding(),
                wgpu::BindingResource::Buffer(input),
                wgpu::BindingResource::Buffer(residual),
                wgpu::BindingResource::Buffer(output),
                wgpu::BindingResource::Buffer(input_vectors),
                weight_vectors.as_entire_binding(),
            ];
            let entries: Vec<_> = (0..)
                .zip(resources)
                .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                .collect();
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&label),
                layout: pipelines.bind_group_layout(),
                entries: &entries,
            })
        })
    }
}

impl Plan {
    /// Records the convolution into a compute pass of its own. Allocates nothing, submits nothing.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            label: Some(self.prepared.label().unwrap_or("dsconv")),
            timestamp_writes: None,
        });
        self.record(&mut pass);
    }

    /// Records the convolution into the host's pass. It sets pipeline and bind group 0; of a layer with a label, it is
    /// a debug group of that name.
    ///
    /// The pass must be of the layer's device: recording tells no errors, and wgpu reports those of a pass to the
    /// device of its encoder.
    pub fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let Inner { pipeline, grid: [x, y], label, .. } = &*self.prepared.inner;
        if let Some(label) = label {
            pass.push_debug_group(label);
        }
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(*x, *y, 1);
        if label.is_some() {
            pass.pop_debug_group();
        }
    }

    /// Frees the plan's own memory as [`Prepared::destroy`] does: the uniform, if nothing else shares it. Commands that
    /// are recorded but not submitted become invalid then.
    pub fn destroy(self) {
        self.prepared.destroy();
    }

    /// What the plan was bound from, for other tensors of the same shapes.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// The kernel that runs: the layer's, or its form for so large an output.
    pub fn kernel(&self) -> Kernel {
        self.prepared.kernel()
    }

    /// The workgroups of its dispatch, along x and y; there is one along z.
    pub fn workgroups(&self) -> [u32; 2] {
        self.prepared.workgroups()
    }

    /// The shape of the output.
    pub fn output_shape(&self) -> Shape {
        self.prepared.output_shape()
    }

    /// The plan's own memory and that of the tensors it is bound to.
    pub fn memory_use(&self) -> MemoryUse {
        self.prepared.memory_use()
    }
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
