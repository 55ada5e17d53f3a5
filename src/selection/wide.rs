//! Lines of many candidates. Weights can change without a new layout of the other candidates.
//!
//! A line has all candidates, including those of weight 0, in an order that only a renewal changes. So the order never
//! depends on weights, and a candidate that returns has its old place. The running sums of the weights are in blocks,
//! and a changed line shares all unchanged blocks with the line before it:
//!
//! ```text
//! order     c7 c2 c9 c4 | c1 c8 c3 c0 | c5 c6
//! blocks     3  3  7  9 |  2  2  4  5 |  1  4      sums within each block; here c2 and c8 have weight 0
//! ends                9            14        18    sums of the blocks
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::chance::Chance;
use super::inclusion::{Candidate, Frame};

/// From this many candidates on the line, changing weights costs less than a new layout.
pub(super) const MANY: usize = 256;

/// Candidates per block. A change copies one block of each line, and the list of its blocks.
const BLOCK: usize = 256;

/// The most changes that are made one by one; for more, all sums are computed again.
const MOST_CHANGES: usize = 16;

/// All lines of a draw.
#[derive(Clone, Debug)]
pub(super) struct WideLines {
    groups: Arc<CandidateGroups>,
    /// The weight of each candidate, 0 for those that are not on the line.
    weights: Box<[u32]>,
    pub(super) lines: Vec<Arc<WideLine>>,
    /// The index of the line to replace next.
    oldest: usize,
}

/// The candidates; those that stay together are adjacent.
#[derive(Debug)]
struct CandidateGroups {
    candidates: Box<[u32]>,
    ranges: Box<[Range<usize>]>,
}

/// Candidates in one order.
#[derive(Clone, Debug)]
pub(super) struct WideLine {
    order: Arc<[u32]>,
    blocks: Box<[Arc<[u64]>]>,
    ends: Box<[u64]>,
}

/// A new weight of a candidate.
struct WeightChange {
    candidate: u32,
    before: u32,
    now: u32,
}

impl WideLines {
    /// Lays out the candidates in random orders. `by_site` keeps the candidates of a site together.
    pub(super) fn new(
        frame: &Frame,
        candidates: &[Candidate],
        by_site: bool,
        lines: usize,
        chance: &mut impl Chance,
    ) -> Self {
        let groups = Arc::new(CandidateGroups::new(candidates, by_site));
        let weights = weights(frame, candidates.len());
        let lines = (0..lines).map(|_| Arc::new(WideLine::random(&groups, &weights, chance))).collect();
        Self { groups, weights, lines, oldest: 0 }
    }

    /// The same orders with the weights of another frame, which has the same candidates.
    pub(super) fn updated(&self, frame: &Frame) -> Self {
        let weights = weights(frame, self.weights.len());
        let changes: Vec<WeightChange> = (0..)
            .zip(self.weights.iter().zip(&weights))
            .filter(|(_, (before, now))| before != now)
            .map(|(candidate, (&before, &now))| WeightChange { candidate, before, now })
            .collect();
        let update = |line: &Arc<WideLine>| {
            Arc::new(if changes.len() <= MOST_CHANGES {
                line.changed(&changes)
            } else {
                WideLine::new(Arc::clone(&line.order), &weights)
            })
        };
        let lines = self.lines.iter().map(update).collect();
        Self { groups: Arc::clone(&self.groups), weights, lines, oldest: self.oldest }
    }

    /// Replaces the oldest line with one in a new random order.
    pub(super) fn renew(&mut self, chance: &mut impl Chance) {
        if let Some(line) = self.lines.get_mut(self.oldest) {
            *line = Arc::new(WideLine::random(&self.groups, &self.weights, chance));
            self.oldest = (self.oldest + 1) % self.lines.len();
        }
    }

    /// Whether it can take the weights of a frame with this many candidates and lines.
    pub(super) fn suits(&self, candidates: usize, lines: usize) -> bool {
        self.weights.len() == candidates && self.lines.len() == lines
    }
}

fn weights(frame: &Frame, candidates: usize) -> Box<[u32]> {
    let mut weights = vec![0; candidates];
    for member in &frame.members {
        if let Some(weight) = weights.get_mut(member.index as usize) {
            *weight = member.weight;
        }
    }
    weights.into()
}

impl CandidateGroups {
    fn new(candidates: &[Candidate], by_site: bool) -> Self {
        let site = |index: &u32| candidates.get(*index as usize).map_or(0, |candidate| candidate.site);
        let mut indices: Vec<u32> = (0..).take(candidates.len()).collect();
        let mut ranges = Vec::new();
        if by_site {
            indices.sort_by_key(site);
            let mut begin = 0;
            for group in indices.chunk_by(|a, b| site(a) == site(b)) {
                ranges.push(begin..begin + group.len());
                begin += group.len();
            }
        }
        // If no candidates stay together, groups are not needed.
        if ranges.len() == candidates.len() || !by_site {
            let all = 0..candidates.len();
            ranges = vec![all];
        }
        Self { candidates: indices.into(), ranges: ranges.into() }
    }
}

impl WideLine {
    fn random(groups: &CandidateGroups, weights: &[u32], chance: &mut impl Chance) -> Self {
        let mut ranges: Vec<&Range<usize>> = groups.ranges.iter().collect();
        chance.shuffle(&mut ranges);
        let mut order: Vec<u32> = Vec::with_capacity(groups.candidates.len());
        for range in ranges {
            let begin = order.len();
            order.extend_from_slice(groups.candidates.get(range.clone()).unwrap_or_default());
            chance.shuffle(order.get_mut(begin..).unwrap_or_default());
        }
        Self::new(order.into(), weights)
    }

    fn new(order: Arc<[u32]>, weights: &[u32]) -> Self {
        let weight = |index: &u32| u64::from(weights.get(*index as usize).copied().unwrap_or(0));
        let mut blocks = Vec::with_capacity(order.len().div_ceil(BLOCK));
        let mut ends = Vec::with_capacity(blocks.capacity());
        let mut end = 0;
        for places in order.chunks(BLOCK) {
            let block: Arc<[u64]> = places
                .iter()
                .scan(0, |sum, index| {
                    *sum += weight(index);
                    Some(*sum)
                })
                .collect();
            end += block.last().copied().unwrap_or(0);
            blocks.push(block);
            ends.push(end);
        }
        Self { order, blocks: blocks.into(), ends: ends.into() }
    }

    /// The same line with new weights for some candidates.
    fn changed(&self, changes: &[WeightChange]) -> Self {
        let mut line = self.clone();
        for change in changes {
            let Some(place) = line.order.iter().position(|candidate| *candidate == change.candidate) else {
                continue;
            };
            let add = |sum: &mut u64| *sum = *sum + u64::from(change.now) - u64::from(change.before);
            if let Some(block) = line.blocks.get_mut(place / BLOCK) {
                Arc::make_mut(block).iter_mut().skip(place % BLOCK).for_each(add);
            }
            line.ends.iter_mut().skip(place / BLOCK).for_each(add);
        }
        line
    }

    /// The candidates at `count` points, `step` apart, on a line where each candidate has `count` times its weight as
    /// length.
    pub(super) fn hits(&self, start: u64, step: u64, count: u64, mut hit: impl FnMut(u32)) {
        let mut point = start;
        for _ in 0..count {
            // The first candidate whose end, times `count`, is beyond the point.
            let position = point / count;
            point += step;
            let index = self.ends.partition_point(|end| *end <= position);
            let before = index.checked_sub(1).and_then(|index| self.ends.get(index)).copied().unwrap_or(0);
            let Some(block) = self.blocks.get(index) else { return };
            let place = block.partition_point(|end| *end <= position - before);
            if let Some(&candidate) = self.order.get(index * BLOCK + place) {
                hit(candidate);
            }
        }
    }

    /// The length of the line, in units of weight.
    #[cfg(test)]
    pub(super) fn weight(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The blocks that two lines share in memory.
    #[cfg(test)]
    pub(super) fn shared_with(&self, other: &Self) -> (usize, usize) {
        let shared =
            self.blocks.iter().zip(&other.blocks).filter(|(own, other)| Arc::ptr_eq(own, other)).count();
        (shared, self.blocks.len())
    }

    /// The candidates, in order.
    #[cfg(test)]
    pub(super) fn order(&self) -> &[u32] {
        &self.order
    }
}
