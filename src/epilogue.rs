//! What is fused behind a convolution.

#[cfg(feature = "gpu")]
use crate::{Error, Result};

/// A fused activation function.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "storage", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` where positive, else the slope times `x`.
    LeakyRelu(f32),
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `min(max(x, low), high)`.
    Clamp {
        /// The lower end.
        low: f32,
        /// The upper end.
        high: f32,
    },
}

impl Activation {
    /// The function's value, in f64.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Relu => x.max(0.0),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::LeakyRelu(slope) => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(slope) * x
                }
            }
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::HardSwish => x * (x + 3.0).clamp(0.0, 6.0) / 6.0,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Clamp { low, high } => x.max(f64::from(low)).min(f64::from(high)),
        }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Self::LeakyRelu(slope) if !slope.is_finite() => {
                Err(Error::invalid("activation slope", "a finite number", slope))
            }
            Self::Clamp { low, high } if low > high || low.is_nan() || high.is_nan() => {
                Err(Error::invalid("activation range", "low <= high", format!("{low}..{high}")))
            }
            _ => Ok(()),
        }
    }
}

/// Where a second tensor of the output's shape and layout is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "storage", derive(serde::Serialize, serde::Deserialize))]
pub enum Residual {
    /// Nowhere.
    #[default]
    None,
    /// `activation(convolution + residual)`, as in ResNet.
    BeforeActivation,
    /// `activation(convolution) + residual`, as in MobileNet's and YOLO's bottlenecks.
    AfterActivation,
}
