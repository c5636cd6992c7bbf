//! A prepared layer bound to tensors, ready to be recorded any number of times.

use super::format::TensorFormat;
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
#[non_exhaustive]
pub struct Tensors<'a> {
    /// The input.
    pub input: wgpu::BufferSlice<'a>,
    /// The residual, if and only if the layer's options ask for one that is not in the output's place.
    pub residual: Option<wgpu::BufferSlice<'a>>,
    /// The output, in another buffer than the rest. With `LayerOptions::residual_in_place` it holds the residual before.
    pub output: wgpu::BufferSlice<'a>,
    /// What the input is, where the host knows: then another one than the layer takes is an error.
    pub input_format: Option<TensorFormat>,
}

impl<'a> Tensors<'a> {
    /// An input and an output, without a residual.
    pub fn new(input: wgpu::BufferSlice<'a>, output: wgpu::BufferSlice<'a>) -> Self {
        Self { input, residual: None, output, input_format: None }
    }

    /// The same with a residual, or with `None` without.
    pub fn with_residual(self, residual: impl Into<Option<wgpu::BufferSlice<'a>>>) -> Self {
        Self { residual: residual.into(), ..self }
    }

    /// The same with an input that is known to be of that format, such as [`Prepared::output_format`] of the layer that
    /// wrote it, or with `None` of one that nothing is known of.
    pub fn with_input_format(self, input_format: impl Into<Option<TensorFormat>>) -> Self {
        Self { input_format: input_format.into(), ..self }
    }
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
        let tensors = Tensors::new(floats, integers);
        self.prepare_quantization(input, scale)?.bind(tensors)
    }
}

impl Prepared {
    /// Binds tensors of the host. This makes a bind group and nothing else, so an engine whose buffers change from run
    /// to run can afford it each time. Output and input must lie in different buffers, as WebGPU demands.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the tensor that is of another format, too small, misaligned, missing, without `BufferUsages::STORAGE`, in
    /// the output's buffer, or of another device; or what the device reports.
    pub fn bind(&self, tensors: Tensors<'_>) -> Result<Plan> {
        let bind_group = self.inner.bind_group(tensors).labelled(self.label())?;
        Ok(Plan { prepared: self.clone(), bind_group })
    }
}

impl Inner {
    fn bind_group(&self, tensors: Tensors<'_>) -> Result<wgpu::BindGroup> {
        let Self { pipelines, memory, .. } = self;
        let limits = pipelines.limits();
        let [wanted, _] = self.tensors;
        if let Some(given) = tensors.input_format.filter(|given| *given != wanted) {
            return Err(Error::invalid("input_format", wanted.to_string(), given));
        }
        let input = bind(limits, "input", tensors.input, memory.input)?;
        let nothing = pipelines.nothing();
        let residual = match (memory.residual, tensors.residual) {
            (0, None) => nothing.as_entire_buffer_binding(),
            (needed @ 1.., Some(slice)) => bind(limits, "residual", slice, needed)?,
            (0, Some(_)) => {
                let expected = "none, as the layer's options say (or that it lies in the output)";
                return Err(Error::invalid("residual", expected, "a tensor"));
            }
            (_, None) => {
                let expected = "a tensor, as the layer's options say";
                return Err(Error::invalid("residual", expected, "none"));
            }
        };
        let output = bind(limits, "output", tensors.output, memory.output)?;
        let of_host = [
            ("input", Some(&input)),
            ("residual", tensors.residual.and(Some(&residual))),
            ("output", Some(&output)),
        ];
        let of_host = of_host.into_iter().filter_map(|(name, tensor)| Some((name, tensor?)));
        for (name, tensor) in of_host.clone() {
            self.not_ours(name, tensor.buffer)?;
        }
        apart("input", input.buffer, output.buffer)?;
        apart("residual", residual.buffer, output.buffer)?;
        let bound = self.create([
            self.weights.as_entire_buffer_binding(),
            input.clone(),
            residual.clone(),
            output.clone(),
        ]);
        let Err(error @ Error::Gpu { .. }) = bound else { return bound };
        // Which tensor is it? Each alone, where the others are the library's own.
        for (name, tensor) in of_host {
            let mut resources = std::array::from_fn(|_| nothing.as_entire_buffer_binding());
            resources[1] = tensor.clone();
            if self.create(resources).is_err() {
                return Err(Error::invalid(
                    format!("{name} buffer"),
                    "a buffer of the layer's device that is not destroyed",
                    "one of another device or wgpu::Instance, or a destroyed one",
                ));
            }
        }
        Err(error)
    }

    /// The bind group of these, behind the uniform, in the order of the shaders' bindings.
    fn create(&self, resources: [wgpu::BufferBinding<'_>; 4]) -> Result<wgpu::BindGroup> {
        let device = self.pipelines.device();
        let label = with_label("dsconv plan", self.label.as_deref());
        checked(device, "a bind group", || {
            let uniform = self.uniform.as_entire_buffer_binding();
            let entries: Vec<_> = (0..)
                .zip(std::iter::once(uniform).chain(resources))
                .map(|(binding, resource)| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(resource),
                })
                .collect();
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&label),
                layout: self.pipelines.bind_group_layout(),
                entries: &entries,
            })
        })
    }

    /// Refuses a tensor that seems to be a buffer of the library's own, which no host has. Then it is of another
    /// instance: wgpu numbers buffers anew in each, and compares the numbers.
    fn not_ours(&self, name: &str, buffer: &wgpu::Buffer) -> Result<()> {
        let ours = [&self.uniform, &self.weights, self.pipelines.nothing()];
        if ours.contains(&buffer) {
            let expected = "a buffer of the layer's device";
            return Err(Error::invalid(format!("{name} buffer"), expected, OF_ANOTHER_INSTANCE));
        }
        Ok(())
    }
}

const OF_ANOTHER_INSTANCE: &str = "one of another wgpu::Instance";

/// Refuses one buffer for a tensor that is read and the one that is written.
fn apart(name: &str, read: &wgpu::Buffer, written: &wgpu::Buffer) -> Result<()> {
    if read != written {
        return Ok(());
    }
    // Buffers of two instances may compare equal.
    let same = (read.size(), read.usage()) == (written.size(), written.usage());
    Err(Error::invalid(
        format!("{name} buffer"),
        "another buffer of the device than the output's (WebGPU forbids reading and writing one in a dispatch; a residual may take the output's place by LayerOptions::residual_in_place)",
        if same { "the same, or one of another wgpu::Instance" } else { OF_ANOTHER_INSTANCE },
    ))
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
