//! Elementwise functions and small enums shared by [`Graph`](crate::Graph) and [`Program`](crate::Program).

use dsconv::Activation;
use serde::{Deserialize, Serialize};

/// A function of one float.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Unary {
    /// A function that a convolution can fuse: Relu, Clip, LeakyRelu, Sigmoid, HardSwish, Silu.
    Activation(Activation),
    /// `min(max(alpha * x + beta, 0), 1)`.
    HardSigmoid {
        /// The slope.
        alpha: f32,
        /// The value at 0.
        beta: f32,
    },
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu(f32),
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `exp(x)`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / x`.
    Reciprocal,
    /// `-x`.
    Neg,
    /// `|x|`.
    Abs,
    /// Hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// Largest integer not above.
    Floor,
    /// Smallest integer not below.
    Ceil,
    /// Nearest integer, half to even.
    Round,
    /// Sine, of radians.
    Sin,
    /// Cosine, of radians.
    Cos,
}

impl Unary {
    /// The function's value.
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Activation(activation) => activation.apply(x),
            Self::HardSigmoid { alpha, beta } => {
                (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0)
            }
            Self::Elu(alpha) => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(alpha) * x.exp_m1()
                }
            }
            Self::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Reciprocal => x.recip(),
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Tanh => x.tanh(),
            Self::Erf => libm::erf(x),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
        }
    }
}

/// A function of two floats, with broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`.
    Div,
    /// `a` to the power of `b`.
    Pow,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// `a` where positive, else `b * a`.
    PRelu,
}

impl Binary {
    /// The function's value.
    pub fn apply(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
            Self::PRelu => {
                if a > 0.0 {
                    a
                } else {
                    b * a
                }
            }
        }
    }
}

/// The function of a reduction over the axes that it removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// The mean.
    Mean,
    /// The sum.
    Sum,
    /// The largest.
    Max,
    /// The smallest.
    Min,
}

/// The function of a pooling window's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// The largest; padding never wins.
    Max,
    /// The mean over the elements inside of the input, or over those inside of the padded input.
    Average {
        /// Whether padding counts.
        count_padding: bool,
    },
}

/// The values outside of a padded tensor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum PadMode {
    /// This value.
    Constant(f32),
    /// The nearest element of the border.
    Edge,
    /// The tensor mirrored at its border elements, which are not repeated.
    Reflect,
}
