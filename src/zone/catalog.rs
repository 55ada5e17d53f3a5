//! Finds the zone of a name, and looks up names in all zones at once.

use hashbrown::HashTable;

use super::negative::Negative;
use super::ready::{ReadyAnswer, ReadyAnswers};
use super::{DELEGATION, DNAME, LabelOffsets, Lookup, NameHasher, NodeRef, Zone};
use crate::name;

/// All zones of the server.
#[derive(Debug)]
pub struct Catalog {
    zones: Vec<Zone>,
    by_apex: HashTable<usize>,
    seed: NameHasher,
    /// The most labels of any apex. Longer suffixes need no look-up.
    most_labels: usize,
    /// The names of all zones, except those that another zone answers, or that are below a cut or a DNAME.
    exact: HashTable<NodeIndex>,
    /// One per zone; empty if a zone has no SOA record.
    negatives: Vec<Negative>,
    ready: ReadyAnswers,
}

/// The location of a name: the indices of its zone and its node.
#[derive(Clone, Copy, Debug)]
struct NodeIndex {
    zone: u32,
    node: u32,
}

/// A name that exists.
#[derive(Clone, Copy, Debug)]
pub struct Exact<'c> {
    /// Its node, perhaps a zone cut, in the zone that answers it.
    pub node: NodeRef<'c>,
    /// The SOA record of negative answers.
    pub negative: &'c Negative,
    index: NodeIndex,
}

impl Catalog {
    /// Takes the zones. If two have the same apex, the second is never found; the configuration rejects this.
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
        let negative = |zone: &Zone| {
            let (soa, ttl) = zone.negative_soa()?;
            Negative::new(&zone.apex, soa.first(), ttl)
        };
        let negatives = zones.iter().map(negative).collect::<Option<_>>().unwrap_or_default();
        let (exact, ready) = (HashTable::new(), ReadyAnswers::default());
        let mut catalog = Self { zones, by_apex, seed, most_labels, exact, negatives, ready };
        catalog.exact = catalog.exact_names();
        catalog.ready = catalog.ready_answers();
        catalog
    }

    fn exact_names(&self) -> HashTable<NodeIndex> {
        let mut exact = HashTable::with_capacity(self.zones.iter().map(|zone| zone.nodes.len()).sum());
        let parents = self.parents();
        for ((zone_index, zone), is_parent) in (0..).zip(&self.zones).zip(parents) {
            let hides_names =
                is_parent || zone.nodes.iter().any(|node| node.flags & (DELEGATION | DNAME) != 0);
            for (node_index, node) in (0..).zip(zone.nodes()) {
                let name = node.name();
                let is_answered_here = || {
                    self.find(name, false).is_some_and(|found| std::ptr::eq(found, zone))
                        && matches!(zone.find(name), Lookup::Found(_) | Lookup::Referral { exact: true, .. })
                };
                if !hides_names || is_answered_here() {
                    let index = NodeIndex { zone: zone_index, node: node_index };
                    exact.insert_unique(self.seed.hash(name), index, |other| {
                        self.seed.hash(self.at(*other).map_or(&[][..], |(_, node)| node.name()))
                    });
                }
            }
        }
        exact
    }

    /// For each zone, whether another zone is below it. It is enough to mark the closest zone above
    /// each one, because that zone marks the next.
    fn parents(&self) -> Vec<bool> {
        let mut parents = vec![false; self.zones.len()];
        for zone in &self.zones {
            if let Some(parent) = self.find_index(&zone.apex, true).and_then(|index| parents.get_mut(index)) {
                *parent = true;
            }
        }
        parents
    }

    fn ready_answers(&self) -> ReadyAnswers {
        let mut ready = ReadyAnswers::default();
        for index in &self.exact {
            if let Some((zone, node)) = self.at(*index) {
                ready.add((index.zone, index.node), zone, node);
            }
        }
        ready.shrink();
        ready
    }

    #[inline]
    fn at(&self, NodeIndex { zone, node }: NodeIndex) -> Option<(&Zone, NodeRef<'_>)> {
        let zone = self.zones.get(zone as usize)?;
        Some((zone, NodeRef { zone, node: zone.nodes.get(node as usize)? }))
    }

    /// Whether [`Catalog::exact`] finds every name that exists. It does not if a zone has no SOA record;
    /// `config` rejects such a zone.
    #[must_use]
    #[inline]
    pub fn is_exact(&self) -> bool {
        self.negatives.len() == self.zones.len()
    }

    /// Finds an existing name with one look-up over all zones; `wire` is in lower case. `None` if the name does
    /// not exist, or is below a zone cut or a DNAME.
    #[must_use]
    #[inline]
    pub fn exact(&self, wire: &[u8]) -> Option<Exact<'_>> {
        let hash = self.seed.hash(wire);
        let is_it =
            |index: &NodeIndex| self.at(*index).is_some_and(|(_, node)| name::is_equal(node.name(), wire));
        let index = *self.exact.find(hash, is_it)?;
        let (_, node) = self.at(index)?;
        let negative = self.negatives.get(index.zone as usize)?;
        Some(Exact { node, negative, index })
    }

    /// The prepared answer to a query for exactly this name and type, if there is one.
    #[must_use]
    pub fn ready(&self, found: &Exact<'_>, rtype: u16) -> Option<ReadyAnswer<'_>> {
        self.ready.get(found.index.zone, found.index.node, rtype)
    }

    /// The zone with the longest apex that `wire` (lower-case) is at or below. `above` skips the
    /// zone whose own name is `wire`: DS records belong to the parent (RFC 4035, section 3.1.4.1).
    #[must_use]
    pub fn find(&self, wire: &[u8], above: bool) -> Option<&Zone> {
        self.zones.get(self.find_index(wire, above)?)
    }

    fn find_index(&self, wire: &[u8], above: bool) -> Option<usize> {
        let offsets = LabelOffsets::of(wire);
        let longest = if above { offsets.count.checked_sub(1)? } else { offsets.count };
        (0..=longest.min(self.most_labels)).rev().find_map(|labels| {
            let suffix = offsets.suffix(wire, labels);
            let is_it = |&index: &usize| self.zones.get(index).is_some_and(|zone| *zone.apex == *suffix);
            self.by_apex.find(self.seed.hash(suffix), is_it).copied()
        })
    }

    /// All zones, in configuration order.
    #[must_use]
    pub fn zones(&self) -> &[Zone] {
        &self.zones
    }
}
