//! Which pictures a training learns from, and in which order.

use fastrand::Rng;

/// The places of pictures that are learned from, and of those that are held out to judge by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Places to learn from; at least one of every class.
    pub learned: Vec<usize>,
    /// Places to judge by; all of the first where there are too few pictures to hold any out.
    pub held_out: Vec<usize>,
}

/// Holds out a share, 0 to 1, of the pictures of each class, chosen by the seed. `classes` has the class of each.
pub fn split(classes: &[usize], share: f64, seed: u64) -> Split {
    let mut rng = Rng::with_seed(seed);
    let (mut learned, mut held_out) = (Vec::new(), Vec::new());
    let count = classes.iter().max().map_or(0, |&class| class + 1);
    for class in 0..count {
        let mut places: Vec<usize> =
            (0..classes.len()).filter(|&at| classes[at] == class).collect();
        rng.shuffle(&mut places);
        let kept = (share * places.len() as f64).round() as usize;
        let kept = kept.min(places.len().saturating_sub(1));
        held_out.extend_from_slice(&places[..kept]);
        learned.extend_from_slice(&places[kept..]);
    }
    learned.sort_unstable();
    held_out.sort_unstable();
    if held_out.is_empty() {
        held_out.clone_from(&learned);
    }
    Split { learned, held_out }
}

/// The places in the order of an epoch: shuffled by the seed and the epoch's number alone.
pub fn order(places: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut places = places.to_vec();
    Rng::with_seed(mixed(seed, epoch)).shuffle(&mut places);
    places
}

/// One seed of two numbers: neighbours give seeds that have nothing in common.
pub fn mixed(seed: u64, number: u64) -> u64 {
    // The generator's own mixing; the odd factor keeps different pairs apart.
    Rng::with_seed(seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_split_by_the_share() {
        let seed = Rng::new().u64(..);
        let classes: Vec<usize> = (0..60).map(|at| [0, 0, 0, 1, 1, 2][at % 6]).collect();
        let Split { learned, held_out } = split(&classes, 0.2, seed);
        let count =
            |places: &[usize], class| places.iter().filter(|&&p| classes[p] == class).count();
        assert_eq!([0, 1, 2].map(|class| count(&held_out, class)), [6, 4, 2], "seed {seed}");
        let mut all = [learned, held_out].concat();
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(split(&classes, 0.2, seed), split(&classes, 0.2, seed));
        assert_ne!(split(&classes, 0.2, seed), split(&classes, 0.2, seed ^ 1), "seed {seed}");
        // One picture of a class is learned from, whatever the share.
        let few = split(&[0, 1, 0, 2], 1.0, seed);
        assert_eq!((few.learned.len(), few.held_out.len()), (3, 1), "seed {seed}");
        let none = split(&[1, 0], 0.5, seed);
        assert_eq!((none.learned, none.held_out), (vec![0, 1], vec![0, 1]));
    }

    #[test]
    fn orders_differ_by_seed_and_epoch() {
        let seed = Rng::new().u64(..);
        let places: Vec<usize> = (5..45).collect();
        let first = order(&places, seed, 0);
        assert_eq!(first, order(&places, seed, 0));
        for other in [order(&places, seed, 1), order(&places, seed ^ 1, 0)] {
            assert_ne!(first, other, "seed {seed}");
            let mut sorted = other;
            sorted.sort_unstable();
            assert_eq!(sorted, places, "seed {seed}");
        }
    }
}
