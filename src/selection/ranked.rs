//! The best candidates of a ranking, in a list with room for one answer.

use super::inclusion::MAX_ANSWERS;
use super::logarithm::LOG_BITS;

/// A candidate in the ranking of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ranked {
    /// Its index in the list of candidates.
    pub index: u32,
    /// Its weight.
    pub weight: u32,
    /// The negative binary logarithm of the hash, 56 bits after the point. The score is this divided by the weight.
    pub logarithm: u64,
    pub(super) site: u32,
    pub(super) key: u64,
}

/// The best candidates so far, the best one first.
#[derive(Clone, Debug)]
pub(super) struct Best {
    entries: Box<[Ranked]>,
    length: usize,
    /// The most that are kept.
    pub(super) limit: usize,
}

impl Ranked {
    /// Whether the score is lower: `a / v < b / w` is `a * w < b * v`. Candidates of one score, which practically do not
    /// exist, are ordered by their keys, so that the order of the list does not matter.
    #[inline]
    pub(super) fn is_before(&self, other: &Self) -> bool {
        let own = u128::from(self.logarithm) * u128::from(other.weight);
        let others = u128::from(other.logarithm) * u128::from(self.weight);
        (own, self.key, self.index) < (others, other.key, other.index)
    }

    /// Whether a candidate with this hash certainly has a higher score. This is cheaper than its logarithm, and
    /// true for most: `-log2(x)` is above `1 - x`, by more than the error of `logarithm`.
    #[inline]
    pub(super) fn is_surely_before(&self, hash: u64, weight: u32) -> bool {
        let least = !hash >> (u64::BITS - LOG_BITS);
        u128::from(least) * u128::from(self.weight) >= u128::from(self.logarithm) * u128::from(weight)
    }
}

impl Default for Best {
    fn default() -> Self {
        Self { entries: vec![Ranked::default(); MAX_ANSWERS].into(), length: 0, limit: 0 }
    }
}

impl Best {
    /// Discards all, and keeps at most `limit` from now on.
    #[inline]
    pub(super) fn reset(&mut self, limit: usize) {
        (self.length, self.limit) = (0, limit.min(self.entries.len()));
    }

    #[inline]
    pub(super) fn kept(&self) -> &[Ranked] {
        self.entries.get(..self.length).unwrap_or_default()
    }

    /// The last one if there is no room for more.
    #[inline]
    pub(super) fn last_if_full(&self) -> Option<Ranked> {
        if self.length < self.limit { None } else { self.kept().last().copied() }
    }

    /// Inserts a candidate at its rank; without room, the last one leaves, or it is not inserted.
    pub(super) fn insert(&mut self, new: Ranked) {
        let place = self.kept().partition_point(|kept| kept.is_before(&new));
        if place < self.limit {
            self.length = self.limit.min(self.length + 1);
            self.put(place, self.length - 1, new);
        }
    }

    /// Inserts a candidate unless its site has a better one. A worse one of its site leaves.
    pub(super) fn insert_best_of_site(&mut self, new: Ranked) {
        let Some(own) = self.kept().iter().position(|kept| kept.site == new.site) else {
            self.insert(new);
            return;
        };
        let place = self.kept().partition_point(|kept| kept.is_before(&new));
        if place <= own {
            self.put(place, own, new);
        }
    }

    /// Moves the entries from `place` to before `gap` by one, and puts the new one at `place`.
    fn put(&mut self, place: usize, gap: usize, new: Ranked) {
        if let Some(moved) = self.entries.get_mut(place..=gap) {
            moved.copy_within(..gap - place, 1);
            if let Some(slot) = moved.first_mut() {
                *slot = new;
            }
        }
    }
}
