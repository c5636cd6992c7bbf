//! The course of a training: what is learned, what was the best, and the file that it goes on from.

// Counts and sizes in a checkpoint are strangers'.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation
)]

use super::optimizer::{Optimizer, OptimizerOptions};
use crate::{Error, Result};
use dsconv::{FloatTensor, LayerFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The version of a checkpoint's metadata, under the key `training`.
const VERSION: &str = "1";

/// The figures of one round over all pictures. They are f32, which JSON keeps exactly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// The mean loss of the pictures that it learned from, before each step.
    pub loss: f32,
    /// The mean loss of the pictures that were held out, after it.
    pub held_out_loss: f32,
    /// How many of those were right.
    pub right: usize,
}

impl Epoch {
    /// Whether these figures are better: more right, or as many and a lower loss.
    fn beats(&self, other: &Self) -> bool {
        (self.right, -self.held_out_loss) > (other.right, -other.held_out_loss)
    }
}

/// The course of a training: the values now, the best ones so far, and the figures of each epoch.
///
/// A host alternates between [`step`](Self::step) for every batch and [`end_epoch`](Self::end_epoch). All else that a
/// batch depends on follows from the seed and the numbers of the epoch and the picture ([`super::order`]), so that a
/// course that was read from a file goes on as if it had never ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    values: Vec<Vec<f32>>,
    best: Vec<Vec<f32>>,
    optimizer: Optimizer,
    epochs: Vec<Epoch>,
}

/// The tensors of a checkpoint, by the names that their numbers follow.
const NAMES: [&str; 4] = ["value", "best", "first_moment", "second_moment"];

impl Course {
    /// A course that begins with these values, one tensor per parameter.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn new(options: OptimizerOptions, values: Vec<Vec<f32>>) -> Result<Self> {
        let optimizer = Optimizer::new(options, &values)?;
        Ok(Self { best: values.clone(), values, optimizer, epochs: Vec::new() })
    }

    /// The values now.
    pub fn values(&self) -> &[Vec<f32>] {
        &self.values
    }

    /// The values after the best epoch; the first ones before the first epoch has ended.
    pub fn best(&self) -> &[Vec<f32>] {
        &self.best
    }

    /// The epochs that have ended.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The steps so far.
    pub fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// The epoch of the best values, counted from 0.
    pub fn best_epoch(&self) -> Option<usize> {
        let epochs = self.epochs.iter().enumerate();
        epochs
            .reduce(|best, next| if next.1.beats(best.1) { next } else { best })
            .map(|best| best.0)
    }

    /// Whether the last so many epochs brought no gain.
    pub fn has_settled(&self, patience: usize) -> bool {
        let ended = self.epochs.len();
        self.best_epoch().is_some_and(|best| ended.saturating_sub(best) > patience)
    }

    /// Learns from the mean loss of a batch and the gradient of each parameter.
    ///
    /// # Errors
    /// A loss that is not finite, as a network that has diverged gives, or as [`Optimizer::update`]; they name the
    /// step.
    pub fn step(&mut self, loss: f64, gradients: &[Vec<f32>]) -> Result<()> {
        if !loss.is_finite() {
            let field = format!("step {}: the loss", self.steps().saturating_add(1));
            return Err(Error::invalid(field, "a finite number; try a lower learning rate", loss));
        }
        self.optimizer.update(&mut self.values, gradients)
    }

    /// Ends an epoch, and keeps its values if it was the best so far.
    ///
    /// # Errors
    /// A loss that is not finite, or one that is over four times that of the first epoch: the network diverges. The
    /// best values stay.
    pub fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        const WORST: f32 = 4.0;
        let number = self.steps();
        let first = self.epochs.first().unwrap_or(&epoch).loss;
        let most = WORST * first.max(0.1);
        for (name, loss) in [("the loss", epoch.loss), ("the held-out loss", epoch.held_out_loss)] {
            if !loss.is_finite() || (name == "the loss" && loss > most) {
                let expected =
                    format!("at most {most:.3}, as it diverges beyond; try a lower learning rate");
                return Err(Error::invalid(format!("step {number}: {name}"), expected, loss));
            }
        }
        self.epochs.push(epoch);
        if self.best_epoch() == self.epochs.len().checked_sub(1) {
            self.best.clone_from(&self.values);
        }
        Ok(())
    }

    /// A checkpoint: a safetensors file of the course and of `about`, the text that says what is trained.
    ///
    /// # Errors
    /// None that is known: the format's own.
    pub fn to_bytes(&self, about: &str) -> Result<Vec<u8>> {
        let epochs = serde_json::to_string(&self.epochs)
            .map_err(|error| Error::format("checkpoint", error))?;
        let metadata = HashMap::from([
            ("training".to_owned(), VERSION.to_owned()),
            ("about".to_owned(), about.to_owned()),
            ("epochs".to_owned(), epochs),
            ("steps".to_owned(), self.steps().to_string()),
        ]);
        let Optimizer { first, second, .. } = &self.optimizer;
        let mut tensors = BTreeMap::new();
        for (name, all) in NAMES.iter().zip([&self.values, &self.best, first, second]) {
            for (index, values) in all.iter().enumerate() {
                let tensor = FloatTensor { shape: vec![values.len()], values: values.clone() };
                tensors.insert(format!("{name}.{index}"), tensor);
            }
        }
        Ok(LayerFile { layers: Vec::new(), metadata, tensors }.to_bytes()?)
    }

    /// Goes on from a checkpoint of the same training: this course must be as it was when that one began.
    ///
    /// # Errors
    /// [`Error::Format`] for bytes that are no checkpoint, one that is about something else, or tensors that are
    /// missing or have other lengths.
    pub fn resume(&mut self, bytes: &[u8], about: &str) -> Result<()> {
        let wrong = |message: String| Error::format("checkpoint", message);
        let mut file = LayerFile::from_bytes(bytes)?;
        let text = |key: &str| {
            let found = file.metadata.get(key).cloned();
            found.ok_or_else(|| wrong(format!("metadata has no {key:?}; expected a checkpoint")))
        };
        let version = text("training")?;
        if version != VERSION {
            return Err(wrong(format!("expected version {VERSION}, got {version}")));
        }
        let is_about = text("about")?;
        if is_about != about {
            let message = format!("it is of another training: expected {about}, got {is_about}");
            return Err(wrong(message));
        }
        let epochs = serde_json::from_str(&text("epochs")?);
        let epochs = epochs.map_err(|error| wrong(format!("metadata \"epochs\": {error}")))?;
        let steps = text("steps")?;
        let steps = steps
            .parse()
            .map_err(|_| wrong(format!("metadata \"steps\": expected a number, got {steps:?}")))?;
        let mut read = |name: &str| {
            let tensor = |(index, expected): (usize, &Vec<f32>)| {
                let (name, expected) = (format!("{name}.{index}"), expected.len());
                let tensor = file.tensors.remove(&name);
                let tensor = tensor.ok_or_else(|| wrong(format!("no tensor {name:?}")))?;
                match tensor.values.len() {
                    got if got == expected => Ok(tensor.values),
                    got => Err(wrong(format!("{name}: expected {expected} elements, got {got}"))),
                }
            };
            self.values.iter().enumerate().map(tensor).collect::<Result<Vec<_>>>()
        };
        let [values, best, first, second] = NAMES.map(&mut read);
        let (values, best, first, second) = (values?, best?, first?, second?);
        if steps > self.optimizer.all_steps() {
            let most = self.optimizer.all_steps();
            return Err(wrong(format!("metadata \"steps\": expected at most {most}, got {steps}")));
        }
        if second.iter().flatten().any(|&moment| moment < 0.0) {
            return Err(wrong("second_moment: expected squares, got a negative number".into()));
        }
        (self.optimizer.first, self.optimizer.second) = (first, second);
        self.optimizer.step = steps;
        (self.values, self.best, self.epochs) = (values, best, epochs);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests know what they read")]
mod tests {
    use super::*;

    fn course() -> Course {
        let how = OptimizerOptions { rate: 0.05, decay: 0.01, clip: 1.0, warm_up: 3, steps: 40 };
        Course::new(how, vec![vec![1.0, -2.0, 0.5], vec![4.0]]).unwrap()
    }

    /// Steps towards 0, by gradients that depend on the values and on the step.
    fn train(course: &mut Course, steps: usize) {
        for _ in 0..steps {
            let shift = course.steps() as f32 / 7.0;
            let gradient = |values: &Vec<f32>| values.iter().map(|v| v + shift.sin()).collect();
            let gradients: Vec<_> = course.values().iter().map(gradient).collect();
            course.step(1.0, &gradients).unwrap();
        }
    }

    fn epoch(right: usize, held_out_loss: f32) -> Epoch {
        Epoch { loss: 1.0, held_out_loss, right }
    }

    #[test]
    fn a_course_resumes_bit_for_bit() {
        let mut whole = course();
        train(&mut whole, 9);
        whole.end_epoch(epoch(3, 0.1 + 0.2)).unwrap();
        train(&mut whole, 2);
        let bytes = whole.to_bytes("digits").unwrap();
        let mut resumed = course();
        resumed.resume(&bytes, "digits").unwrap();
        assert_eq!(resumed, whole);
        train(&mut whole, 11);
        train(&mut resumed, 11);
        assert_eq!(resumed, whole);
        assert_ne!(whole.values(), whole.best());
    }

    #[test]
    fn checkpoints_of_others_are_refused() {
        let mut trained = course();
        train(&mut trained, 2);
        let bytes = trained.to_bytes("digits").unwrap();
        let refused = |course: &mut Course, bytes: &[u8], about: &str| {
            let before = course.clone();
            let text = course.resume(bytes, about).unwrap_err().to_string();
            assert_eq!(*course, before, "{text}");
            text
        };
        let text = refused(&mut course(), &bytes, "cats");
        assert!(text.contains("cats") && text.contains("digits"), "{text}");
        let other = |values: Vec<Vec<f32>>| {
            let options =
                OptimizerOptions { rate: 0.05, decay: 0.0, clip: 1.0, warm_up: 0, steps: 1 };
            Course::new(options, values).unwrap()
        };
        let text = refused(&mut other(vec![vec![0.0; 3], vec![0.0; 2]]), &bytes, "digits");
        assert!(text.contains("value.1: expected 2 elements, got 1"), "{text}");
        let text = refused(&mut other(vec![vec![0.0; 3], vec![0.0], vec![]]), &bytes, "digits");
        assert!(text.contains("no tensor \"value.2\""), "{text}");
        let no_training = LayerFile::default().to_bytes().unwrap();
        assert!(refused(&mut course(), &no_training, "digits").contains("expected a checkpoint"));
        refused(&mut course(), &bytes[..bytes.len() - 1], "digits");
    }

    #[test]
    fn the_best_epoch_is_kept() {
        let mut course = course();
        let mut kept = Vec::new();
        for (right, loss) in [(3, 0.9), (5, 0.8), (5, 0.9), (4, 0.1), (5, 0.7), (5, 0.7)] {
            train(&mut course, 1);
            kept.push(course.values().to_vec());
            course.end_epoch(epoch(right, loss)).unwrap();
        }
        assert_eq!(course.best_epoch(), Some(4));
        assert_eq!(course.best(), kept[4]);
        assert!(course.has_settled(1) && !course.has_settled(2));
    }

    #[test]
    fn divergence_names_the_step() {
        let mut course = course();
        train(&mut course, 2);
        let text = course.step(f64::NAN, &[]).unwrap_err().to_string();
        assert!(text.contains("step 3"), "{text}");
        course.end_epoch(epoch(1, 1.0)).unwrap();
        for epoch in [
            Epoch { loss: 4.1, ..epoch(9, 1.0) },
            Epoch { loss: f32::INFINITY, ..epoch(9, 1.0) },
            epoch(9, f32::NAN),
        ] {
            let text = course.end_epoch(epoch).unwrap_err().to_string();
            assert!(text.contains("step 2"), "{text}");
        }
        assert_eq!(course.epochs().len(), 1);
    }
}
