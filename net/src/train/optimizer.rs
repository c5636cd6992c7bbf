//! Adam with decoupled weight decay, its learning rate over time, and gradient clipping.

use crate::{Error, Result};

/// How an [`Optimizer`] steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerOptions {
    /// The learning rate at its highest: how far a step moves a parameter, as a share of the root mean square that its
    /// values have at first. So one rate suits scales of a hundredth, biases of one, and weights.
    pub rate: f64,
    /// The share of every value that a step takes off, times the learning rate.
    pub decay: f64,
    /// The largest norm of all gradients together; longer ones are shortened to it.
    pub clip: f64,
    /// Steps over which the rate rises from 0.
    pub warm_up: u64,
    /// Steps in all; the rate falls to 0 along half a cosine.
    pub steps: u64,
}

impl OptimizerOptions {
    /// The learning rate of a step, counted from 0.
    pub fn rate_at(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let rest = self.steps.saturating_sub(self.warm_up).max(1) as f64;
        let passed = ((step - self.warm_up) as f64 / rest).min(1.0);
        self.rate * 0.5 * (1.0 + (std::f64::consts::PI * passed).cos())
    }

    fn validate(&self) -> Result<()> {
        let numbers = [
            ("learning rate", self.rate, self.rate > 0.0, "a finite number above 0"),
            ("weight decay", self.decay, self.decay >= 0.0, "a finite number, 0 or above"),
            ("largest norm of gradients", self.clip, self.clip > 0.0, "a finite number above 0"),
        ];
        for (field, number, allowed, expected) in numbers {
            if !(number.is_finite() && allowed) {
                return Err(Error::invalid(field, expected, number));
            }
        }
        Ok(())
    }
}

/// The least that a step is measured by: parameters that are 0 at first, as a new bias, must move too.
const LEAST_SCALE: f64 = 1e-2;

/// Adam. Its moments are 32-bit floats, as a checkpoint keeps them; it computes in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    options: OptimizerOptions,
    /// What a step of each parameter is measured by.
    scales: Vec<f64>,
    pub(super) first: Vec<Vec<f32>>,
    pub(super) second: Vec<Vec<f32>>,
    pub(super) step: u64,
}

impl Optimizer {
    /// An optimiser of parameters that have these values at first.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number of the options that makes no sense.
    pub fn new(options: OptimizerOptions, values: &[Vec<f32>]) -> Result<Self> {
        options.validate()?;
        let zeros = || values.iter().map(|values| vec![0.0; values.len()]).collect();
        let scale = |values: &Vec<f32>| {
            let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
            (squares / values.len().max(1) as f64).sqrt().max(LEAST_SCALE)
        };
        let scales = values.iter().map(scale).collect();
        Ok(Self { options, scales, first: zeros(), second: zeros(), step: 0 })
    }

    /// The steps in all.
    pub(super) fn all_steps(&self) -> u64 {
        self.options.steps
    }

    /// The steps so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Moves the values against their gradients, one step.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the step and the parameter whose gradient, or new value, is not finite, or a length
    /// that differs. Then no value has changed.
    pub fn update(&mut self, values: &mut [Vec<f32>], gradients: &[Vec<f32>]) -> Result<()> {
        const DECAYS: [f64; 2] = [0.9, 0.999];
        const EPSILON: f64 = 1e-8;
        let lengths = |tensors: &[Vec<f32>]| tensors.iter().map(Vec::len).collect::<Vec<_>>();
        let expected = lengths(&self.first);
        for (field, got) in [("values", lengths(values)), ("gradients", lengths(gradients))] {
            if got != expected {
                let (expected, got) = (format!("lengths {expected:?}"), format!("{got:?}"));
                return Err(Error::invalid(field, expected, got));
            }
        }
        let number = self.step + 1;
        let not_finite = |what: &str, index: usize, value: f64| {
            let field = format!("step {number}: {what} of parameter {index}");
            Error::invalid(field, "finite numbers; a lower learning rate may help", value)
        };
        let mut squares = 0.0;
        for (index, gradient) in gradients.iter().enumerate() {
            for &g in gradient {
                if !g.is_finite() {
                    return Err(not_finite("the gradient", index, g.into()));
                }
                squares += f64::from(g).powi(2);
            }
        }
        let shortened = (self.options.clip / squares.sqrt()).min(1.0);
        let rate = self.options.rate_at(self.step);
        let exponent = i32::try_from(number).unwrap_or(i32::MAX);
        let unbias = DECAYS.map(|decay| 1.0 / (1.0 - decay.powi(exponent)));
        let mut moved = self.clone();
        let mut new_values = values.to_vec();
        for (index, gradient) in gradients.iter().enumerate() {
            let scale = self.scales[index];
            let moments = moved.first[index].iter_mut().zip(&mut moved.second[index]);
            for ((value, (first, second)), &g) in
                new_values[index].iter_mut().zip(moments).zip(gradient)
            {
                let g = f64::from(g) * shortened;
                let mean = DECAYS[0] * f64::from(*first) + (1.0 - DECAYS[0]) * g;
                let square = DECAYS[1] * f64::from(*second) + (1.0 - DECAYS[1]) * g * g;
                (*first, *second) = (mean as f32, square as f32);
                let direction = mean * unbias[0] / ((square * unbias[1]).sqrt() + EPSILON);
                let old = f64::from(*value);
                *value = (old - rate * (scale * direction + self.options.decay * old)) as f32;
                if !value.is_finite() {
                    return Err(not_finite("the new value", index, (*value).into()));
                }
            }
        }
        moved.step = number;
        *self = moved;
        values.clone_from_slice(&new_values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> OptimizerOptions {
        OptimizerOptions { rate: 0.1, decay: 0.0, clip: f64::MAX, warm_up: 4, steps: 12 }
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let how = options();
        let rates: Vec<f64> = (0..14).map(|step| how.rate_at(step)).collect();
        assert!((rates[0] - 0.025).abs() < 1e-15 && (rates[3] - 0.1).abs() < 1e-15);
        assert!((rates[4] - 0.1).abs() < 1e-15 && (rates[8] - 0.05).abs() < 1e-15, "{rates:?}");
        assert!(rates[4..].windows(2).all(|pair| pair[1] <= pair[0]), "{rates:?}");
        assert!(rates[12].abs() < 1e-15 && rates[13].abs() < 1e-15, "{rates:?}");
        assert_eq!(OptimizerOptions { warm_up: 0, ..how }.rate_at(0), 0.1);
    }

    #[test]
    fn two_steps_are_those_of_the_formula() {
        // Values of a root mean square of 1, and gradients that don't keep their ratio.
        let how = OptimizerOptions { decay: 0.5, warm_up: 0, ..options() };
        let mut values = vec![vec![1.0, -1.0]];
        let mut adam = Optimizer::new(how, &values).unwrap();
        adam.update(&mut values, &[vec![2.0, -0.5]]).unwrap();
        // At first the direction is the gradient's sign.
        let first = [1.0 - 0.1 * (1.0 + 0.5), -1.0 + 0.1 * (1.0 + 0.5)];
        for (got, expected) in values[0].iter().zip(first) {
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{values:?}");
        }
        adam.update(&mut values, &[vec![1.0, 0.5]]).unwrap();
        let rate = how.rate_at(1);
        let second = |old: f64, a: f64, b: f64| {
            let mean = (0.9 * 0.1 * a + 0.1 * b) / (1.0 - 0.9f64.powi(2));
            let square = (0.999 * 0.001 * a * a + 0.001 * b * b) / (1.0 - 0.999f64.powi(2));
            old - rate * (mean / square.sqrt() + 0.5 * old)
        };
        let expected = [second(first[0], 2.0, 1.0), second(first[1], -0.5, 0.5)];
        for (got, expected) in values[0].iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() < 1e-6, "{values:?} {expected}");
        }
        assert_eq!(adam.steps(), 2);
    }

    #[test]
    fn a_step_is_a_share_of_a_parameters_size() {
        let how = OptimizerOptions { warm_up: 0, ..options() };
        let before = vec![vec![0.25, -0.25], vec![8.0], vec![0.0]];
        let mut after = before.clone();
        let mut adam = Optimizer::new(how, &before).unwrap();
        adam.update(&mut after, &[vec![1e-3, 1e-3], vec![-1e3], vec![1.0]]).unwrap();
        let moved: Vec<f32> = before.iter().zip(&after).map(|(a, b)| b[0] - a[0]).collect();
        for (got, expected) in moved.iter().zip([-0.025, 0.8, -1e-3]) {
            assert!((got - expected).abs() < 1e-4 * f32::abs(expected), "{moved:?}");
        }
    }

    #[test]
    fn long_gradients_are_shortened_together() {
        // The norm of both is 5; shortened to 1, the moments are a fifth.
        let values = vec![vec![1.0], vec![1.0]];
        let gradients = [vec![3.0], vec![4.0]];
        let of = |clip| {
            let mut adam = Optimizer::new(OptimizerOptions { clip, ..options() }, &values).unwrap();
            adam.update(&mut values.clone(), &gradients).unwrap();
            adam.first.concat()
        };
        for (short, long) in of(1.0).iter().zip(of(5.0)) {
            assert!((5.0 * short - long).abs() < 1e-6, "{short} {long}");
        }
        assert_eq!(of(5.0), of(50.0));
    }

    #[test]
    fn what_is_not_finite_names_the_step_and_changes_nothing() {
        let mut values = vec![vec![1.0], vec![2.0, 3.0]];
        let mut adam = Optimizer::new(options(), &values).unwrap();
        adam.update(&mut values, &[vec![1.0], vec![1.0, -1.0]]).unwrap();
        let before = (adam.clone(), values.clone());
        let error = adam.update(&mut values, &[vec![1.0], vec![1.0, f32::NAN]]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("step 2") && text.contains("parameter 1"), "{text}");
        assert!(adam.update(&mut values, &[vec![1.0]]).is_err());
        assert_eq!((adam, values), before);
        for wrong in [
            OptimizerOptions { rate: 0.0, ..options() },
            OptimizerOptions { rate: f64::NAN, ..options() },
            OptimizerOptions { decay: -1.0, ..options() },
            OptimizerOptions { clip: 0.0, ..options() },
        ] {
            assert!(Optimizer::new(wrong, &[]).is_err(), "{wrong:?}");
        }
    }
}
