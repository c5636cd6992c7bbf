//! What learns: here a network's head, on the features that the rest of the network gives.

use super::pictures::Pictures;
use crate::network::Runner;
use dsconv_net::augment::Augmentation;
use dsconv_net::picture::probabilities;
use dsconv_net::train::{head_gradients, head_scores};
use std::collections::HashMap;

/// The share of a target's probability that all classes get alike.
const SMOOTHING: f32 = 0.1;

/// What scores pictures and says how its values are to change.
pub(super) trait Learner {
    /// The scores of a batch of pictures, each changed by the seed and its place, what they are to be, and the gradient
    /// of each parameter.
    fn learn(&mut self, values: &[Vec<f32>], batch: &Batch<'_>) -> anyhow::Result<Learned>;

    /// The scores of pictures as they are, and what they are to be.
    fn judge(&mut self, values: &[Vec<f32>], places: &[usize]) -> anyhow::Result<Scored>;
}

/// The pictures of a step, and how they are changed.
pub(super) struct Batch<'a> {
    pub(super) places: &'a [usize],
    pub(super) how: Augmentation,
    pub(super) seed: u64,
}

/// Scores and targets, row by row.
#[derive(Default)]
pub(super) struct Scored {
    pub(super) scores: Vec<f32>,
    pub(super) targets: Vec<f32>,
}

/// What a step learns from.
pub(super) struct Learned {
    pub(super) scored: Scored,
    pub(super) gradients: Vec<Vec<f32>>,
}

/// What the network is to answer.
pub(super) enum Targets {
    /// The class of each picture, of so many.
    Classes { of: Vec<usize>, count: usize },
    /// The answers of another network, of so many classes.
    Teacher { runner: Box<Runner>, count: usize },
}

impl Targets {
    /// The number of classes.
    pub(super) fn count(&self) -> usize {
        let (Self::Classes { count, .. } | Self::Teacher { count, .. }) = self;
        *count
    }

    /// The probabilities that the network is to give for pictures and their input, row by row.
    pub(super) fn of(&self, places: &[usize], input: &[f32]) -> anyhow::Result<Vec<f32>> {
        match self {
            Self::Classes { of, count } => {
                let rest = SMOOTHING / *count as f32;
                let row = |&place: &usize| {
                    let class = of[place];
                    (0..*count).map(move |c| if c == class { 1.0 - SMOOTHING + rest } else { rest })
                };
                Ok(places.iter().flat_map(row).collect())
            }
            Self::Teacher { runner, count } => {
                let scores = runner.run(&[input])?.0.concat();
                let rows: Result<Vec<_>, _> = scores.chunks(*count).map(probabilities).collect();
                Ok(rows?.into_iter().flatten().map(|p| p as f32).collect())
            }
        }
    }
}

/// What the head sees of pictures, and what it is to answer, row by row.
#[derive(Default)]
struct Examples {
    features: Vec<f32>,
    targets: Vec<f32>,
}

/// The head, whose values are a [`dsconv_net::train::Head`]'s.
pub(super) struct HeadLearner<'a> {
    pub(super) pictures: &'a Pictures,
    pub(super) targets: &'a Targets,
    /// The network without its head, for `at_a_time` pictures.
    body: Runner,
    at_a_time: usize,
    /// Examples of pictures as they are, by their place: the same each time.
    known: HashMap<usize, Examples>,
}

impl Learner for HeadLearner<'_> {
    fn learn(&mut self, values: &[Vec<f32>], batch: &Batch<'_>) -> anyhow::Result<Learned> {
        let Examples { features, targets } = self.examples(batch)?;
        let (scores, gradients) = head_gradients(values, &features, &targets)?;
        Ok(Learned { scored: Scored { scores, targets }, gradients })
    }

    fn judge(&mut self, values: &[Vec<f32>], places: &[usize]) -> anyhow::Result<Scored> {
        let batch = Batch { places, how: Augmentation::default(), seed: 0 };
        let Examples { features, targets } = self.examples(&batch)?;
        Ok(Scored { scores: head_scores(values, &features)?, targets })
    }
}

impl<'a> HeadLearner<'a> {
    /// The head of pictures and their targets, on what `body` gives for `at_a_time` of them.
    pub(super) fn new(
        pictures: &'a Pictures,
        targets: &'a Targets,
        body: Runner,
        at_a_time: usize,
    ) -> Self {
        Self { pictures, targets, body, at_a_time, known: HashMap::new() }
    }

    /// The examples of these pictures, each changed by the seed and its place.
    fn examples(&mut self, batch: &Batch<'_>) -> anyhow::Result<Examples> {
        let &Batch { places, how, seed } = batch;
        let changes = how != Augmentation::default();
        let missing =
            places.iter().copied().filter(|place| changes || !self.known.contains_key(place));
        let missing: Vec<usize> = missing.collect();
        let mut made = HashMap::new();
        for places in missing.chunks(self.at_a_time) {
            // The last ones are filled up to what runs at a time, and what comes of that is left out.
            let mut filled = places.to_vec();
            filled.resize(self.at_a_time, places[0]);
            let input = self.pictures.input(&filled, how, seed)?;
            let features = self.body.run(&[&input])?.0.concat();
            let targets = self.targets.of(&filled, &input)?;
            let rows = features.chunks(features.len() / filled.len());
            let rows = rows.zip(targets.chunks(targets.len() / filled.len()));
            for (&place, (features, targets)) in places.iter().zip(rows) {
                let (features, targets) = (features.to_vec(), targets.to_vec());
                made.insert(place, Examples { features, targets });
            }
        }
        let mut all = Examples::default();
        for place in places {
            let Some(one) = made.get(place).or_else(|| self.known.get(place)) else { continue };
            all.features.extend_from_slice(&one.features);
            all.targets.extend_from_slice(&one.targets);
        }
        if !changes {
            self.known.extend(made);
        }
        Ok(all)
    }
}
