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
    /// The angle whose tangent it is, in radians.
    Atan,
    /// -1, 0 or 1.
    Sign,
    /// The whole part, towards 0.
    Trunc,
    /// 1 for 0, else 0: the negation of a bool.
    Not,
    /// 1 for what is not a number, else 0.
    IsNan,
    /// 1 for infinities, else 0.
    IsInf {
        /// Whether minus infinity counts.
        negative: bool,
        /// Whether plus infinity counts.
        positive: bool,
    },
    /// The nearest multiple of a step, half to even, within bounds: what QuantizeLinear and DequantizeLinear leave.
    Stepped {
        /// The step; not 0.
        step: f32,
        /// The fewest steps.
        low: f32,
        /// The most steps.
        high: f32,
    },
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
            Self::Atan => x.atan(),
            Self::Sign => {
                if x == 0.0 {
                    0.0
                } else {
                    x.signum()
                }
            }
            Self::Trunc => x.trunc(),
            Self::Not => truth(x == 0.0),
            Self::IsNan => truth(x.is_nan()),
            Self::Stepped { step, low, high } => {
                // The quotient is one of 32-bit floats: where it lies half between two steps, that decides.
                let steps = f64::from((x / f64::from(step)) as f32).round_ties_even();
                steps.max(f64::from(low)).min(f64::from(high)) * f64::from(step)
            }
            Self::IsInf { negative, positive } => {
                truth(x.is_infinite() && if x > 0.0 { positive } else { negative })
            }
        }
    }
}

impl Unary {
    /// The function's slope, where it has one: 0 at the ends of a clamp, that of the left side at other kinks. `None`
    /// for what rounds or decides, which no gradient goes through.
    pub fn derivative(self, x: f64) -> Option<f64> {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let inside = |low: f64, high: f64| truth(x > low && x < high);
        Some(match self {
            Self::Activation(activation) => match activation {
                Activation::Identity => 1.0,
                Activation::Relu => truth(x > 0.0),
                Activation::Relu6 => inside(0.0, 6.0),
                Activation::Clamp { low, high } => inside(low.into(), high.into()),
                Activation::LeakyRelu(_) if x > 0.0 => 1.0,
                Activation::LeakyRelu(slope) => slope.into(),
                Activation::Sigmoid => sigmoid(x) * sigmoid(-x),
                Activation::Silu => sigmoid(x) * (1.0 + x * sigmoid(-x)),
                Activation::HardSwish if x >= 3.0 => 1.0,
                Activation::HardSwish if x <= -3.0 => 0.0,
                Activation::HardSwish => (2.0 * x + 3.0) / 6.0,
                _ => return None,
            },
            Self::HardSigmoid { alpha, beta } => {
                let (alpha, y) = (f64::from(alpha), f64::from(alpha) * x + f64::from(beta));
                alpha * truth(y > 0.0 && y < 1.0)
            }
            Self::Elu(_) if x > 0.0 => 1.0,
            Self::Elu(alpha) => f64::from(alpha) * x.exp(),
            Self::Softplus => sigmoid(x),
            Self::Exp => x.exp(),
            Self::Log => x.recip(),
            Self::Sqrt => 0.5 / x.sqrt(),
            Self::Reciprocal => -(x * x).recip(),
            Self::Neg => -1.0,
            Self::Abs => Self::Sign.apply(x),
            Self::Tanh => 1.0 - x.tanh() * x.tanh(),
            Self::Erf => std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
            Self::Sin => x.cos(),
            Self::Cos => -x.sin(),
            Self::Atan => (1.0 + x * x).recip(),
            Self::Floor
            | Self::Ceil
            | Self::Round
            | Self::Sign
            | Self::Trunc
            | Self::Not
            | Self::IsNan
            | Self::IsInf { .. }
            | Self::Stepped { .. } => return None,
        })
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
    /// The remainder of a division that rounds towards 0; it has the sign of `a`.
    Remainder,
    /// 1 where `a == b`, else 0.
    Equal,
    /// 1 where `a < b`, else 0.
    Less,
    /// 1 where `a <= b`, else 0.
    LessOrEqual,
    /// `a` where `b` is not 0, else 0, whatever `a` is there.
    Gate,
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
            Self::Remainder => a % b,
            Self::Equal => truth(a == b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Gate => {
                if b == 0.0 {
                    0.0
                } else {
                    a
                }
            }
        }
    }
}

/// A bool as a number.
fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
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
    /// The product.
    Product,
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
    /// The sum.
    Sum,
    /// The place of the largest in its plane, counted row by row; of equals the first.
    PlaceOfMax,
}

/// What becomes of an element that several updates go to, or of one and an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Combination {
    /// The last update wins.
    Replace,
    /// The sum.
    Add,
    /// The product.
    Mul,
    /// The smaller.
    Min,
    /// The larger.
    Max,
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
    /// The tensor over and over.
    Wrap,
}

impl PadMode {
    /// The place in an axis of `extent` elements that a place outside of it repeats; none where a constant stands.
    pub(crate) fn inside(self, at: i64, extent: i64) -> Option<i64> {
        match self {
            _ if (0..extent).contains(&at) => Some(at),
            Self::Constant(_) => None,
            Self::Edge => Some(at.clamp(0, extent - 1)),
            Self::Reflect if at < 0 => Some(-at),
            Self::Reflect => Some(2 * (extent - 1) - at),
            Self::Wrap => Some(at.rem_euclid(extent)),
        }
    }
}
