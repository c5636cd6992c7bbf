//! The loop of a training: batches, epochs, what is told of them, and what is kept.

use super::learner::{Batch, Learned, Learner, Scored};
use crate::output::say;
use crate::progress::progress;
use anyhow::Context;
use dsconv_net::augment::Augmentation;
use dsconv_net::picture::{divergence, probabilities};
use dsconv_net::train::{Course, Epoch, Split, mixed, order};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long and on what a network learns.
pub(super) struct Plan {
    pub(super) split: Split,
    pub(super) augmentation: Augmentation,
    pub(super) seed: u64,
    pub(super) epochs: usize,
    /// Stop after so many epochs without a gain.
    pub(super) patience: usize,
    /// Pictures of a step.
    pub(super) batch: usize,
    /// Where the course is kept after each epoch, and what it is of.
    pub(super) checkpoint: Option<(PathBuf, String)>,
}

impl Plan {
    /// Steps of an epoch, each of a whole batch.
    pub(super) fn steps(&self) -> usize {
        self.split.learned.len() / self.batch
    }

    /// Right answers of the pictures that were held out, in words.
    pub(super) fn right(&self, right: usize) -> String {
        let count = self.split.held_out.len();
        let share = 100.0 * right as f64 / count.max(1) as f64;
        format!("{right} of {count} right ({share:.1}%)")
    }
}

/// Learns until the epochs are over, nothing is gained any more, or `stop` is set.
pub(super) fn teach(
    plan: &Plan,
    learner: &mut dyn Learner,
    course: &mut Course,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let bar = progress(plan.steps() * plan.epochs)?;
    bar.set_position(course.steps());
    while course.epochs().len() < plan.epochs && !course.has_settled(plan.patience) {
        let epoch = course.epochs().len();
        // All that an epoch is made of follows from its number, so that it is the same after a pause.
        let seed = mixed(plan.seed, epoch as u64);
        let (started, mut losses) = (Instant::now(), 0.0);
        let places = order(&plan.split.learned, plan.seed, epoch as u64);
        for (done, places) in (1..).zip(places.chunks_exact(plan.batch)) {
            if stop.load(Ordering::Relaxed) {
                bar.finish_and_clear();
                return Ok(());
            }
            let batch = Batch { places, how: plan.augmentation, seed };
            let Learned { scored, gradients } = learner.learn(course.values(), &batch)?;
            let (loss, _) = judged(&scored, places.len())
                .with_context(|| format!("step {}", course.steps() + 1))?;
            course.step(loss, &gradients)?;
            losses += loss;
            let speed = (done * plan.batch) as f64 / started.elapsed().as_secs_f64();
            let steps = (plan.steps() * plan.epochs) as u64;
            let left = steps.saturating_sub(course.steps()) as f64 * plan.batch as f64 / speed;
            bar.set_position(course.steps());
            bar.set_message(format!(
                "epoch {} of {}: loss {:.4}, {}{speed:.1} pictures/s, at most {} left",
                epoch + 1,
                plan.epochs,
                losses / done as f64,
                course.epochs().last().map_or(String::new(), |e| plan.right(e.right) + ", "),
                humantime::format_duration(Duration::from_secs(left as u64))
            ));
        }
        let speed = (plan.steps() * plan.batch) as f64 / started.elapsed().as_secs_f64();
        let loss = (losses / plan.steps() as f64) as f32;
        let held_out = &plan.split.held_out;
        let scored = learner.judge(course.values(), held_out)?;
        let (held_out_loss, right) = judged(&scored, held_out.len())?;
        course.end_epoch(Epoch { loss, held_out_loss: held_out_loss as f32, right })?;
        bar.suspend(|| {
            say!(
                "epoch {} of {}: loss {loss:.4}, held out {held_out_loss:.4}, {}, {speed:.1} pictures/s",
                epoch + 1,
                plan.epochs,
                plan.right(right)
            );
        });
        if let Some((path, about)) = &plan.checkpoint {
            dsconv::file::keep(path, &course.to_bytes(about)?)?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// The mean divergence of answers from their targets, and how many have the same first class.
fn judged(scored: &Scored, rows: usize) -> anyhow::Result<(f64, usize)> {
    let Scored { scores, targets } = scored;
    let width = targets.len() / rows;
    let first = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let (mut loss, mut right) = (0.0, 0);
    for (scores, target) in scores.chunks(width).zip(targets.chunks(width)) {
        let wanted: Vec<f64> = target.iter().map(|&p| f64::from(p)).collect();
        loss += divergence(&wanted, &probabilities(scores)?) / rows as f64;
        right += usize::from(first(scores) == first(target));
    }
    Ok((loss, right))
}
