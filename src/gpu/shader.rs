//! The only place that reads shader files.

use super::kernel::Kernel;

const SHARED: &str = include_str!("../../shaders/shared.wgsl");

impl Kernel {
    /// The WGSL of this kernel: its file, then the shared one (so that line numbers in messages stay
    /// those of the kernel's file).
    pub fn wgsl(self) -> String {
        let file = match self {
            Self::ConvDirect => include_str!("../../shaders/conv_direct.wgsl"),
            Self::ConvGemm => include_str!("../../shaders/conv_gemm.wgsl"),
            Self::ConvDepthwise => include_str!("../../shaders/conv_depthwise.wgsl"),
        };
        format!("{file}\n{SHARED}")
    }
}
