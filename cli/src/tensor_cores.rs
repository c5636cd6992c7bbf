//! Whether a command computes on a GPU's matrix units ("tensor cores").

use dsconv::Error;
use dsconv::gpu::{self, Gpu, Pipelines, Selection, TensorCores};

/// The option `--tensor-cores`.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct UseTensorCores {
    /// Multiply halves on matrix units: `yes`, `no`, or by default on GPUs that prove them.
    #[arg(long, value_name = "yes|no", num_args = 0..=1, require_equals = true, default_missing_value = "yes",
          hide_possible_values = true)]
    tensor_cores: Option<Answer>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
}

impl UseTensorCores {
    /// The answer `yes`, for a look at what there is.
    pub(crate) const YES: Self = Self { tensor_cores: Some(Answer::Yes) };

    /// Opens a GPU, with what matrix units want if it is to use them.
    pub(crate) fn open(self, selection: &Selection) -> dsconv::Result<Gpu> {
        let plain = || pollster::block_on(gpu::open(selection));
        if self.tensor_cores == Some(Answer::No) {
            return plain();
        }
        #[expect(unsafe_code, reason = "wgpu has no safe form of it")]
        // SAFETY: wgpu calls the feature experimental, and its errors are not known. Nothing uses it but the library's
        // kernels, whose indices `trusted.rs` accounts for, and layers only behind the proof of `gpu::tensor_cores`.
        let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        match pollster::block_on(gpu::open_with(selection, experimental_features)) {
            // Nobody asked for them, so they are no reason to fail.
            Err(Error::Gpu { .. }) if self.tensor_cores.is_none() => plain(),
            opened => opened,
        }
    }

    /// The matrix units that an opened GPU is to use, proven.
    pub(crate) fn prove(self, gpu: &Gpu) -> dsconv::Result<Option<TensorCores>> {
        let software = gpu.adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        if self.tensor_cores == Some(Answer::No) || (self.tensor_cores.is_none() && software) {
            return Ok(None);
        }
        // With pipelines of its own: a command's are for what it runs, and are counted.
        let pipelines = Pipelines::new(&gpu.device)?;
        match pollster::block_on(gpu::tensor_cores(&gpu.adapter, &pipelines, &gpu.queue)) {
            // `dsconv devices` says why.
            Err(Error::Unsupported { .. }) if self.tensor_cores.is_none() => Ok(None),
            found => Ok(Some(found?)),
        }
    }
}
