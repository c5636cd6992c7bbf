//! The places of tensors: tensors whose lifetimes do not meet share memory.
//!
//! WebGPU forbids to bind one buffer for reading and for writing in the same dispatch, even at places that
//! do not overlap. So tensors lie in a few arenas, a buffer each, such that no step writes into an arena it reads from:
//! a colouring of the graph whose edges are (what a step reads, what it writes). A chain needs two colours, a chain
//! with residuals three; a new one is opened only where no other is free or has room.

use dsconv::{Error, Result};

/// A tensor that wants a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Bytes, at least 1.
    pub(crate) bytes: u64,
    /// The first task in whose time it is needed.
    pub(crate) first: usize,
    /// The last, not before the first.
    pub(crate) last: usize,
}

/// The place of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) arena: usize,
    /// Bytes from the arena's start, aligned.
    pub(crate) offset: u64,
}

/// Arenas with all tensors placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    /// The arenas' sizes in bytes.
    pub(crate) arenas: Vec<u64>,
    /// The place of each request.
    pub(crate) places: Vec<Place>,
}

impl Packing {
    pub(crate) fn total(&self) -> u64 {
        self.arenas.iter().sum()
    }
}

/// Places every tensor. Greedy, in several orders, of which the best counts: finding the optimum is hard (even
/// without colours it is NP-complete).
///
/// # Errors
/// [`Error::Limit`] for a tensor larger than a buffer may be.
pub(crate) fn pack(
    requests: &[Request],
    conflicts: &[(usize, usize)],
    alignment: u64,
    max_buffer_size: u64,
) -> Result<Packing> {
    if let Some(request) = requests.iter().find(|request| request.bytes > max_buffer_size) {
        return Err(Error::Limit {
            what: "a tensor".into(),
            needed: request.bytes,
            limit_name: "max_buffer_size",
            limit: max_buffer_size,
        });
    }
    let mut neighbours = vec![Vec::new(); requests.len()];
    for &(a, b) in conflicts {
        neighbours[a].push(b);
        neighbours[b].push(a);
    }
    let packer = Packer { requests, neighbours: &neighbours, alignment, max_buffer_size };
    let by = |key: &dyn Fn(&Request) -> (u64, usize)| {
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|&index| key(&requests[index]));
        order
    };
    let duration = |request: &Request| (request.last - request.first + 1) as u64;
    let orders = [
        by(&|request| (u64::MAX - request.bytes, request.first)),
        by(&|request| (u64::MAX - request.bytes.saturating_mul(duration(request)), request.first)),
        by(&|request| (request.first as u64, request.last)),
    ];
    let packings = orders.iter().map(|order| packer.pack(order));
    let best = packings.min_by_key(|packing| (packing.total(), packing.arenas.len()));
    Ok(best.unwrap_or(Packing { arenas: Vec::new(), places: Vec::new() }))
}

/// An arena while tensors are placed.
#[derive(Default)]
struct Arena {
    /// Bytes, aligned.
    size: u64,
    /// Indices of the requests that lie in it.
    members: Vec<usize>,
}

struct Packer<'a> {
    requests: &'a [Request],
    neighbours: &'a [Vec<usize>],
    alignment: u64,
    max_buffer_size: u64,
}

impl Packer<'_> {
    fn pack(&self, order: &[usize]) -> Packing {
        let mut arenas: Vec<Arena> = Vec::new();
        let mut places: Vec<Option<Place>> = vec![None; self.requests.len()];
        for &index in order {
            let size = self.requests[index].bytes.next_multiple_of(self.alignment);
            let taken: Vec<usize> =
                self.neighbours[index].iter().filter_map(|&n| Some(places[n]?.arena)).collect();
            // The arena that grows least; of those the one with the tightest gap.
            let mut best: Option<((u64, u64), Place)> = None;
            for arena in (0..arenas.len()).filter(|arena| !taken.contains(arena)) {
                let (offset, waste) = self.gap(index, size, &arenas[arena], &places);
                let end = offset + size;
                // The last bytes of a buffer of that very size may be less than a step of the alignment.
                if offset + self.requests[index].bytes > self.max_buffer_size {
                    continue;
                }
                let cost = (end.saturating_sub(arenas[arena].size), waste);
                if best.is_none_or(|(least, _)| cost < least) {
                    best = Some((cost, Place { arena, offset }));
                }
            }
            let place = best.map_or(Place { arena: arenas.len(), offset: 0 }, |(_, place)| place);
            if place.arena == arenas.len() {
                arenas.push(Arena::default());
            }
            let arena = &mut arenas[place.arena];
            arena.size = arena.size.max(place.offset + size);
            arena.members.push(index);
            places[index] = Some(place);
        }
        let arenas = arenas.iter().map(|arena| arena.size.min(self.max_buffer_size)).collect();
        Packing { arenas, places: places.into_iter().flatten().collect() }
    }

    /// The tightest gap between tensors alive at the same time, else the end: offset, and bytes left over.
    fn gap(&self, index: usize, size: u64, arena: &Arena, places: &[Option<Place>]) -> (u64, u64) {
        let this = self.requests[index];
        let mut alive: Vec<(u64, u64)> = arena
            .members
            .iter()
            .filter(|&&other| {
                let other = self.requests[other];
                other.first <= this.last && this.first <= other.last
            })
            .filter_map(|&other| {
                let offset = places[other]?.offset;
                Some((offset, self.requests[other].bytes.next_multiple_of(self.alignment)))
            })
            .collect();
        alive.sort_unstable();
        let (mut end, mut best) = (0, None);
        for (offset, other) in alive {
            if offset >= end + size {
                let waste = offset - end - size;
                if best.is_none_or(|(_, least)| waste < least) {
                    best = Some((end, waste));
                }
            }
            end = end.max(offset + other);
        }
        match best {
            // What lies behind the last is a gap too, up to the arena's end.
            Some((_, waste)) if arena.size >= end + size && arena.size - end - size < waste => {
                (end, arena.size - end - size)
            }
            Some(best) => best,
            None => (end, arena.size.saturating_sub(end + size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the packing's promises, and returns the most bytes alive at one time.
    fn check(
        packing: &Packing,
        requests: &[Request],
        conflicts: &[(usize, usize)],
        alignment: u64,
        limit: u64,
    ) -> u64 {
        assert_eq!(packing.places.len(), requests.len());
        for (i, (a, at)) in requests.iter().zip(&packing.places).enumerate() {
            assert_eq!(at.offset % alignment, 0);
            assert!(at.offset + a.bytes <= packing.arenas[at.arena]);
            assert!(packing.arenas[at.arena] <= limit);
            for (b, bt) in requests.iter().zip(&packing.places).skip(i + 1) {
                let meet = a.first <= b.last && b.first <= a.last && at.arena == bt.arena;
                let apart = at.offset + a.bytes <= bt.offset || bt.offset + b.bytes <= at.offset;
                assert!(!meet || apart, "{a:?} {at:?} {b:?} {bt:?}");
            }
        }
        for &(a, b) in conflicts {
            assert_ne!(packing.places[a].arena, packing.places[b].arena);
        }
        let end = requests.iter().map(|request| request.last).max().unwrap_or(0);
        let alive = |time| {
            let alive = requests.iter().filter(move |r| r.first <= time && time <= r.last);
            alive.map(|r| r.bytes).sum::<u64>()
        };
        (0..=end).map(alive).max().unwrap_or(0)
    }

    #[test]
    fn random_graphs_are_packed_soundly_and_tightly() {
        let seed = fastrand::u64(..);
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut packed, mut least) = (0, 0);
        for _ in 0..200 {
            let count = rng.usize(1..60);
            let mut requests: Vec<Request> = (0..count)
                .map(|i| Request { bytes: rng.u64(1..100_000), first: i, last: i })
                .collect();
            let mut conflicts = Vec::new();
            for step in 1..count {
                for _ in 0..rng.usize(1..4) {
                    let read = step - 1 - rng.usize(0..step.min(6));
                    requests[read].last = requests[read].last.max(step);
                    conflicts.push((step, read));
                }
            }
            let limit = if rng.bool() { 120_000 } else { u64::MAX };
            let packing = pack(&requests, &conflicts, 256, limit).unwrap();
            least += check(&packing, &requests, &conflicts, 256, limit);
            packed += packing.total();
        }
        assert!(packed < 2 * least, "{packed} bytes for {least}, seed {seed}");
    }

    #[test]
    fn a_chain_takes_two_arenas_of_its_largest_neighbours() {
        let sizes = [1000, 4000, 2000, 4000, 300];
        let requests: Vec<_> = (0..)
            .zip(sizes)
            .map(|(i, bytes)| Request { bytes, first: i, last: (i + 1).min(4) })
            .collect();
        let conflicts: Vec<_> = (1..5).map(|i| (i, i - 1)).collect();
        let packing = pack(&requests, &conflicts, 4, 1 << 20).unwrap();
        assert_eq!(check(&packing, &requests, &conflicts, 4, 1 << 20), 6000);
        assert_eq!((packing.arenas.len(), packing.total()), (2, 6000));
    }

    #[test]
    fn a_tensor_over_the_limit_is_refused() {
        let request = Request { bytes: 101, first: 0, last: 0 };
        assert!(matches!(pack(&[request], &[], 4, 100), Err(Error::Limit { needed: 101, .. })));
        assert_eq!(pack(&[Request { bytes: 99, ..request }], &[], 64, 100).unwrap().arenas, [100]);
    }
}
