//! Finds the zone that a name belongs to.

use hashbrown::HashTable;

use super::{LabelOffsets, NameHasher, Zone};

/// All zones of the server.
#[derive(Debug)]
pub struct Catalog {
    zones: Vec<Zone>,
    by_apex: HashTable<usize>,
    seed: NameHasher,
    /// The most labels of any apex: longer suffixes need no look-up.
    most_labels: usize,
}

impl Catalog {
    /// Takes the zones. Of two with the same apex the second is never found; the configuration
    /// refuses that.
    #[must_use]
    pub fn new(zones: Vec<Zone>) -> Self {
        let seed = NameHasher(foldhash::fast::RandomState::default());
        let mut by_apex = HashTable::with_capacity(zones.len());
        let mut most_labels = 0;
        for (index, zone) in zones.iter().enumerate() {
            let hash = seed.hash(&zone.apex);
            by_apex.insert_unique(hash, index, |&other: &usize| {
                seed.hash(zones.get(other).map_or(&[][..], |zone| &zone.apex))
            });
            most_labels = most_labels.max(LabelOffsets::of(&zone.apex).count);
        }
        Self { zones, by_apex, seed, most_labels }
    }

    /// The zone with the longest apex that `wire` (lower-case) is at or below. `above` skips the
    /// zone whose own name is `wire`: DS records belong to the parent (RFC 4035, section 3.1.4.1).
    #[must_use]
    pub fn find(&self, wire: &[u8], above: bool) -> Option<&Zone> {
        let offsets = LabelOffsets::of(wire);
        let longest = if above { offsets.count.checked_sub(1)? } else { offsets.count };
        (0..=longest.min(self.most_labels)).rev().find_map(|labels| {
            let suffix = offsets.suffix(wire, labels);
            let index = self.by_apex.find(self.seed.hash(suffix), |&index| {
                self.zones.get(index).is_some_and(|zone| *zone.apex == *suffix)
            })?;
            self.zones.get(*index)
        })
    }

    /// All zones, in configuration order.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }
}
