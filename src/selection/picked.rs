//! The result of a draw or of a ranking, with room for any answer.

use super::inclusion::MAX_ANSWERS;
use super::ranked::Best;

/// The drawn candidates as indices, in the order of the answer, with room for [`MAX_ANSWERS`].
#[derive(Clone, Debug)]
pub struct Picked {
    indices: [u32; MAX_ANSWERS],
    length: usize,
    /// Room for a ranking.
    pub(super) ranked: RankedLists,
}

/// The lists that a ranking fills.
#[derive(Clone, Debug, Default)]
pub(super) struct RankedLists {
    /// The best of each site.
    pub(super) of_sites: Best,
    /// The best of all.
    pub(super) best: Best,
}

impl Default for Picked {
    fn default() -> Self {
        Self { indices: [0; MAX_ANSWERS], length: 0, ranked: RankedLists::default() }
    }
}

impl Picked {
    /// The indices, in the order of the answer.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        self.indices.get(..self.length).unwrap_or_default()
    }

    /// The indices, for a caller that has other numbers for its candidates.
    #[inline]
    pub fn indices_mut(&mut self) -> &mut [u32] {
        self.indices.get_mut(..self.length).unwrap_or_default()
    }

    /// Discards the last draw.
    #[inline]
    pub fn clear(&mut self) {
        self.length = 0;
    }

    pub(super) fn push(&mut self, index: u32) {
        if let Some(slot) = self.indices.get_mut(self.length) {
            *slot = index;
            self.length += 1;
        }
    }

    /// Takes the best candidates of the sites, and then the best of the others, in all at most `answers`.
    pub(super) fn take_ranked(&mut self, answers: usize) {
        self.clear();
        let RankedLists { of_sites, best } = &self.ranked;
        let is_other = |index: u32| of_sites.kept().iter().all(|kept| kept.index != index);
        let others = best.kept().iter().filter(|kept| is_other(kept.index));
        for (slot, ranked) in self.indices.iter_mut().zip(of_sites.kept().iter().chain(others)).take(answers)
        {
            *slot = ranked.index;
            self.length += 1;
        }
    }
}
