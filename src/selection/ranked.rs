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
}

/// Rules candidates out by their hash, which is cheaper than to compute a logarithm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// A score, rounded up.
    score: u64,
}

impl Bound {
    /// Rules nobody out.
    pub(super) const NONE: Self = Self { score: u64::MAX };

    /// Rules out candidates that are certainly behind this one, if it is the last one of a full list.
    #[inline]
    pub(super) fn of(last: Option<&Ranked>) -> Self {
        last.map_or(Self::NONE, |last| Self { score: last.logarithm.div_ceil(u64::from(last.weight.max(1))) })
    }

    /// Whether the score of a candidate with this hash is certainly higher: `-log2(x)` is above `1 - x`, by more than the
    /// error of `logarithm`. This is true of most candidates.
    #[inline]
    pub(super) fn rules_out(self, hash: u64, weight: u32) -> bool {
        let least = !hash >> (u64::BITS - LOG_BITS);
        least >= self.score.saturating_mul(u64::from(weight))
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
    pub(super) fn last_if_full(&self) -> Option<&Ranked> {
        if self.length < self.limit { None } else { self.kept().last() }
    }

    /// Inserts a candidate at its rank; without room, the last one leaves, or it is not inserted.
    pub(super) fn insert(&mut self, new: Ranked) {
        if self.length < self.limit {
            self.length += 1;
        } else if !self.kept().last().is_some_and(|last| new.is_before(last)) {
            return;
        }
        self.put(self.length - 1, new);
    }

    /// Inserts a candidate unless its site has a better one. A worse one of its site leaves.
    pub(super) fn insert_best_of_site(&mut self, new: Ranked) {
        match self.kept().iter().position(|kept| kept.site == new.site) {
            None => self.insert(new),
            Some(own) if self.kept().get(own).is_some_and(|own| new.is_before(own)) => self.put(own, new),
            Some(_) => {}
        }
    }

    /// Replaces the entry at `gap`, and moves the new one ahead to its rank.
    fn put(&mut self, gap: usize, new: Ranked) {
        let Some(entries) = self.entries.get_mut(..=gap) else { return };
        let mut place = gap;
        while let Some([ahead, here]) = place.checked_sub(1).and_then(|ahead| entries.get_mut(ahead..=place))
        {
            if !new.is_before(ahead) {
                break;
            }
            *here = *ahead;
            place -= 1;
        }
        if let Some(here) = entries.get_mut(place) {
            *here = new;
        }
    }
}
