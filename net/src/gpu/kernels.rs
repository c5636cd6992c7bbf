//! The kernels besides convolutions: one WGSL file each, and their pipelines.

use dsconv::Result;
use dsconv::gpu::{Pipelines, checked, grid, upload};
use dsconv::shader_text;
use std::borrow::Cow;
use std::collections::HashMap;

/// The kernel of an operation besides convolution: one WGSL file in `shaders/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum OpKernel {
    Binary,
    ConvTranspose,
    ConvWeightGradient,
    ConvWeightGradientNarrow,
    Copy,
    MatMul,
    Order,
    Pick,
    Pool,
    PoolGradient,
    Reduce,
    Resize,
    ScaleGradient,
    Scatter,
    Softmax,
    Suppress,
    Unary,
}

/// The table of kernels, in the order of [`OpKernel`]: name and source.
const KERNELS: [(OpKernel, &str, &str); 17] = [
    (OpKernel::Binary, "binary", shader_text!("../../shaders/binary.wgsl")),
    (OpKernel::ConvTranspose, "conv_transpose", shader_text!("../../shaders/conv_transpose.wgsl")),
    (
        OpKernel::ConvWeightGradient,
        "conv_weight_gradient",
        shader_text!("../../shaders/conv_weight_gradient.wgsl"),
    ),
    (
        OpKernel::ConvWeightGradientNarrow,
        "conv_weight_gradient_narrow",
        shader_text!("../../shaders/conv_weight_gradient_narrow.wgsl"),
    ),
    (OpKernel::Copy, "copy", shader_text!("../../shaders/copy.wgsl")),
    (OpKernel::MatMul, "matmul", shader_text!("../../shaders/matmul.wgsl")),
    (OpKernel::Order, "order", shader_text!("../../shaders/order.wgsl")),
    (OpKernel::Pick, "pick", shader_text!("../../shaders/pick.wgsl")),
    (OpKernel::Pool, "pool", shader_text!("../../shaders/pool.wgsl")),
    (OpKernel::PoolGradient, "pool_gradient", shader_text!("../../shaders/pool_gradient.wgsl")),
    (OpKernel::Reduce, "reduce", shader_text!("../../shaders/reduce.wgsl")),
    (OpKernel::Resize, "resize", shader_text!("../../shaders/resize.wgsl")),
    (OpKernel::ScaleGradient, "scale_gradient", shader_text!("../../shaders/scale_gradient.wgsl")),
    (OpKernel::Scatter, "scatter", shader_text!("../../shaders/scatter.wgsl")),
    (OpKernel::Softmax, "softmax", shader_text!("../../shaders/softmax.wgsl")),
    (OpKernel::Suppress, "suppress", shader_text!("../../shaders/suppress.wgsl")),
    (OpKernel::Unary, "unary", shader_text!("../../shaders/unary.wgsl")),
];

const _: () = {
    let mut row = 0;
    while row < KERNELS.len() {
        assert!(KERNELS[row].0 as usize == row, "the table is in the order of the enum");
        row += 1;
    }
};

/// Invocations of a workgroup, in every kernel.
pub(crate) const WORKGROUP: usize = 64;

/// Workgroups for so many invocations: at most 2^30 elements, times 64 threads over 64.
pub(crate) fn workgroups(invocations: usize) -> u32 {
    invocations.div_ceil(WORKGROUP) as u32
}

/// The line that says what an element is, in kernels that come in both forms: of one word, and of four.
const ELEMENTS: [[&str; 2]; 2] = [
    ["alias Element = f32;", "alias Element = vec4<f32>;"],
    ["alias Element = u32;", "alias Element = vec4<u32>;"],
];

impl OpKernel {
    /// The kernel's name.
    pub(crate) const fn name(self) -> &'static str {
        KERNELS[self as usize].1
    }

    /// The kernel's source, where an element is a float or four of them.
    pub(crate) fn wgsl(self, fours: bool) -> Cow<'static, str> {
        let (_, _, source) = KERNELS[self as usize];
        match (fours, ELEMENTS.iter().find(|[one, _]| source.contains(one))) {
            (true, Some([one, four])) => source.replace(one, four).into(),
            _ => source.into(),
        }
    }
}

/// A kernel with its geometry, before it is bound to tensors.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dispatch {
    pub(crate) kernel: OpKernel,
    /// Whether an element is four neighbouring floats, which one load brings; counts and steps are in elements.
    pub(crate) fours: bool,
    /// The words of the kernel's `Params`.
    pub(crate) params: Vec<u32>,
    /// Places, indices or taps; may be empty.
    pub(crate) table: Vec<u32>,
    pub(crate) workgroups: u32,
}

impl Dispatch {
    /// Device memory besides the tensors, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        4 * (self.params.len() + self.table.len()) as u64
    }
}

/// A kernel bound to tensors.
#[derive(Debug)]
pub(crate) struct BoundKernel {
    pub(crate) kernel: OpKernel,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    grid: [u32; 2],
    uniform: wgpu::Buffer,
    table: Option<wgpu::Buffer>,
}

impl BoundKernel {
    /// Records the dispatch.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }

    /// Frees the geometry; the tensors are the plan's.
    pub(crate) fn destroy(self) {
        self.uniform.destroy();
        if let Some(table) = self.table {
            table.destroy();
        }
    }
}

/// The layout of bindings that all kernels share, and the pipelines compiled so far.
#[derive(Debug)]
pub(crate) struct OpKernels {
    pipelines: Pipelines,
    bind_group_layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    /// BoundKernel where a kernel reads fewer tensors than there are bindings.
    nothing: wgpu::Buffer,
    compiled: HashMap<(OpKernel, bool), wgpu::ComputePipeline>,
}

/// Bytes of [`OpKernels::nothing`].
pub(crate) const NOTHING: u64 = 16;

/// Bindings that read tensors.
const READS: usize = 3;

impl OpKernels {
    pub(crate) fn new(pipelines: &Pipelines) -> Result<Self> {
        let device = pipelines.device();
        let buffer = |binding, ty| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
            count: None,
        };
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let entries = [
            buffer(0, wgpu::BufferBindingType::Uniform),
            buffer(1, storage(true)),
            buffer(2, storage(true)),
            buffer(3, storage(true)),
            buffer(4, storage(false)),
        ];
        let usage = wgpu::BufferUsages::STORAGE;
        let nothing = upload(device, "dsconv-net nothing", usage, &[0u8; NOTHING as usize])?;
        checked(device, "the bind group layout", || {
            let bind_group_layout =
                device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                    label: Some("dsconv-net"),
                    entries: &entries,
                });
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some("dsconv-net"),
                bind_group_layouts: &[Some(&bind_group_layout)],
                immediate_size: 0,
            });
            let (pipelines, compiled) = (pipelines.clone(), HashMap::new());
            Self { pipelines, bind_group_layout, pipeline_layout, nothing, compiled }
        })
    }

    /// The number of pipelines that have been compiled so far.
    pub(crate) fn compiled(&self) -> usize {
        self.compiled.len()
    }

    pub(crate) fn destroy(self) {
        self.nothing.destroy();
    }

    /// The pipeline of a kernel, compiled at its first use.
    fn get(&mut self, kernel: OpKernel, fours: bool) -> Result<wgpu::ComputePipeline> {
        if let Some(pipeline) = self.compiled.get(&(kernel, fours)) {
            return Ok(pipeline.clone());
        }
        let device = self.pipelines.device();
        let label = format!("dsconv-net {}", kernel.name());
        let pipeline = checked(device, &label, || {
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(kernel.wgsl(fours)),
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&self.pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // Every thread writes its place before any reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: self.pipelines.cache(),
            })
        })?;
        self.compiled.insert((kernel, fours), pipeline.clone());
        Ok(pipeline)
    }

    /// Binds a kernel to the tensors that it reads and writes. A third tensor takes the table's place.
    pub(crate) fn bind(
        &mut self,
        dispatch: &Dispatch,
        reads: &[wgpu::BufferSlice<'_>],
        write: wgpu::BufferSlice<'_>,
    ) -> Result<BoundKernel> {
        let grid = grid(dispatch.workgroups, self.pipelines.limits())?;
        let pipeline = self.get(dispatch.kernel, dispatch.fours)?;
        let device = self.pipelines.device();
        let label = dispatch.kernel.name();
        let uniform = upload(device, label, wgpu::BufferUsages::UNIFORM, &dispatch.params)?;
        let table = match dispatch.table.is_empty() {
            true => None,
            false => Some(upload(device, label, wgpu::BufferUsages::STORAGE, &dispatch.table)?),
        };
        let mut resources = [const { None }; READS];
        for (resource, slice) in resources.iter_mut().zip(reads) {
            *resource = Some(binding(*slice));
        }
        if let Some(table) = &table {
            resources[READS - 1] = Some(table.as_entire_binding());
        }
        let entry = |binding, resource| wgpu::BindGroupEntry { binding, resource };
        let reads = resources
            .into_iter()
            .map(|resource| resource.unwrap_or_else(|| self.nothing.as_entire_binding()));
        let mut entries = vec![entry(0, uniform.as_entire_binding())];
        entries.extend((1..).zip(reads).map(|(at, resource)| entry(at, resource)));
        entries.push(entry(1 + READS as u32, binding(write)));
        let bind_group = checked(device, "a bind group", || {
            device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(label),
                layout: &self.bind_group_layout,
                entries: &entries,
            })
        })?;
        Ok(BoundKernel { kernel: dispatch.kernel, pipeline, bind_group, grid, uniform, table })
    }
}

fn binding(slice: wgpu::BufferSlice<'_>) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: slice.buffer(),
        offset: slice.offset(),
        size: wgpu::BufferSize::new(slice.size()),
    })
}
