//! The options that say how weights become integers, for every command that quantises.

use dsconv::Method;

/// Bits, blocks and the method.
#[derive(clap::Args)]
pub(crate) struct WeightOptions {
    /// Give every weight so many bits, 2 to 8.
    #[arg(long, default_value_t = 4)]
    pub(crate) bits: u8,
    /// Let so many input channels share a scale.
    #[arg(long, default_value_t = 32)]
    pub(crate) block: u32,
    /// Find integers and scales by this method.
    #[arg(long, default_value = "min-mse")]
    method: MethodName,
}

/// The methods of [`dsconv::Quantizer`].
#[derive(Clone, Copy, clap::ValueEnum)]
enum MethodName {
    SignedExtreme,
    AbsMax,
    MinMse,
}

impl WeightOptions {
    /// The chosen method.
    pub(crate) fn method(&self) -> Method {
        match self.method {
            MethodName::SignedExtreme => Method::SignedExtreme,
            MethodName::AbsMax => Method::AbsMax,
            MethodName::MinMse => Method::MinMse,
        }
    }
}
