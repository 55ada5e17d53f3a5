//! DNS zones in memory: RRsets by owner name. The time for a look-up depends on the number of labels, not on
//! the size of the zone.
//!
//! [`ZoneBuilder`] builds a zone once; then it is immutable. Names and record data are stored in two arenas, so
//! a million records take a few large allocations. `reader` reads master files; `answer` turns a look-up into a
//! reply.

mod advice;
mod builder;
mod catalog;
mod compressed;
mod negative;
pub mod reader;
mod ready;
pub mod rtype;

use hashbrown::HashTable;

pub use advice::{Advice, MAX_TOLD};
pub use builder::{BuildFault, ZoneBuilder, ZoneError};
pub use catalog::{Catalog, Exact};
pub use negative::Negative;
pub use ready::ReadyAnswer;

use crate::name;
use crate::service::ServiceId;

/// A node without a service.
const NO_SERVICE: u32 = u32::MAX;

/// The name is delegated: it has NS records and is not the apex.
const DELEGATION: u8 = 1;
/// A child `*` exists.
const WILDCARD_CHILD: u8 = 2;
/// The name has a DNAME record.
const DNAME: u8 = 4;
/// The name has a CNAME record.
const CNAME: u8 = 8;

/// One zone, complete and immutable.
#[derive(Debug)]
pub struct Zone {
    apex: Box<[u8]>,
    /// Owner names in lower-case wire form, concatenated.
    names: Box<[u8]>,
    /// Every owner name and every empty non-terminal; the apex comes first.
    nodes: Box<[Node]>,
    /// Node indices by the hash of their name.
    index: HashTable<u32>,
    seed: NameHasher,
    /// The RRsets of a node are adjacent, sorted by type.
    rrsets: Box<[RrsetEntry]>,
    /// For each record of an RRset: its length in two bytes, then its data with uncompressed names.
    data: Box<[u8]>,
    negative_ttl: u32,
    records: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    name: u32,
    first_rrset: u32,
    service: u32,
    rrsets: u16,
    name_length: u8,
    flags: u8,
}

#[derive(Clone, Copy, Debug)]
struct RrsetEntry {
    data: u32,
    length: u32,
    ttl: u32,
    rtype: u16,
    count: u16,
}

/// A name of a zone and its records.
#[derive(Clone, Copy, Debug)]
pub struct NodeRef<'z> {
    zone: &'z Zone,
    node: &'z Node,
}

/// All records of one owner, class and type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rrset<'z> {
    /// The type.
    pub rtype: u16,
    /// The TTL of all its records, seconds.
    pub ttl: u32,
    /// The number of records, at least 1.
    pub count: u16,
    /// For each record: its length in two bytes, then its data with uncompressed names.
    pub data: &'z [u8],
}

/// The result of looking up a name in a zone.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'z> {
    /// The name exists; it may be an empty non-terminal.
    Found(NodeRef<'z>),
    /// The name does not exist and is covered by this wildcard (RFC 4592).
    Wildcard(NodeRef<'z>),
    /// The name is at or below this zone cut.
    Referral {
        /// The node with the NS records.
        cut: NodeRef<'z>,
        /// Whether the name equals the cut; then this zone answers DS queries.
        exact: bool,
    },
    /// The name is below this DNAME (RFC 6672).
    Dname(NodeRef<'z>),
    /// The name does not exist.
    NoName,
}

/// A randomly seeded hash of names, so that an attacker cannot prepare collisions.
#[derive(Clone, Debug)]
struct NameHasher(foldhash::fast::RandomState);

impl NameHasher {
    #[inline]
    fn hash(&self, name: &[u8]) -> u64 {
        use std::hash::BuildHasher;
        self.0.hash_one(name)
    }
}

/// The offset of each label of a wire-form name, including the root label.
struct LabelOffsets {
    offsets: [u8; name::MAX_LABELS + 1],
    /// The number of labels without the root.
    count: usize,
}

impl LabelOffsets {
    fn of(wire: &[u8]) -> Self {
        let mut offsets = [0; name::MAX_LABELS + 1];
        let mut at = 0;
        let mut count = 0;
        while let Some(&length) = wire.get(at) {
            if let (Some(slot), Ok(at)) = (offsets.get_mut(count), u8::try_from(at)) {
                *slot = at;
            }
            if length == 0 {
                break;
            }
            at += usize::from(length) + 1;
            count += 1;
        }
        Self { offsets, count }
    }

    /// The last `labels` labels of the name.
    fn suffix<'w>(&self, wire: &'w [u8], labels: usize) -> &'w [u8] {
        let first = self.count.saturating_sub(labels);
        self.offsets.get(first).and_then(|&at| wire.get(usize::from(at)..)).unwrap_or(&[])
    }
}

impl Zone {
    /// The name of the zone, lower-case wire form.
    #[must_use]
    pub fn apex_name(&self) -> &[u8] {
        &self.apex
    }

    /// The node of the apex.
    #[must_use]
    pub fn apex(&self) -> Option<NodeRef<'_>> {
        self.nodes.first().map(|node| NodeRef { zone: self, node })
    }

    /// The SOA record and its TTL in a negative answer: the smaller of its own TTL and its MINIMUM
    /// field (RFC 2308, section 3).
    #[must_use]
    pub fn negative_soa(&self) -> Option<(Rrset<'_>, u32)> {
        Some((self.apex()?.rrset(rtype::SOA)?, self.negative_ttl))
    }

    /// The serial number of the SOA record: the first of the five numbers at its end (RFC 1035,
    /// section 3.3.13).
    #[must_use]
    pub fn serial(&self) -> Option<u32> {
        let (soa, _) = self.negative_soa()?;
        let numbers = soa.first().last_chunk::<20>()?;
        numbers.first_chunk::<4>().copied().map(u32::from_be_bytes)
    }

    /// The number of records in the zone.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records
    }

    /// Looks up `wire`: a name in lower-case wire form, at or below the apex.
    #[must_use]
    pub fn find(&self, wire: &[u8]) -> Lookup<'_> {
        let offsets = LabelOffsets::of(wire);
        let apex_labels = name::labels(&self.apex).count();
        let Some(mut closest) = self.apex() else { return Lookup::NoName };
        for labels in apex_labels + 1..=offsets.count {
            if closest.node.flags & DNAME != 0 {
                return Lookup::Dname(closest);
            }
            let Some(node) = self.node(offsets.suffix(wire, labels)) else {
                return self.wildcard_below(closest).map_or(Lookup::NoName, Lookup::Wildcard);
            };
            if node.node.flags & DELEGATION != 0 {
                return Lookup::Referral { cut: node, exact: labels == offsets.count };
            }
            closest = node;
        }
        Lookup::Found(closest)
    }

    /// The node with exactly this name, even below a zone cut; for glue and additional addresses.
    #[must_use]
    pub fn node(&self, wire: &[u8]) -> Option<NodeRef<'_>> {
        let hash = self.seed.hash(wire);
        let index = self.index.find(hash, |&index| self.name_of(index) == wire)?;
        self.nodes.get(*index as usize).map(|node| NodeRef { zone: self, node })
    }

    /// All nodes, in the order of their first appearance in the file.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        self.nodes.iter().map(|node| NodeRef { zone: self, node })
    }

    fn wildcard_below<'z>(&'z self, closest: NodeRef<'z>) -> Option<NodeRef<'z>> {
        if closest.node.flags & WILDCARD_CHILD == 0 {
            return None;
        }
        let parent = closest.name();
        let mut buffer = [0; name::MAX_NAME];
        let wildcard = buffer.get_mut(..parent.len() + 2)?;
        wildcard.get_mut(..2)?.copy_from_slice(b"\x01*");
        wildcard.get_mut(2..)?.copy_from_slice(parent);
        self.node(wildcard)
    }

    fn name_of(&self, index: u32) -> &[u8] {
        self.nodes.get(index as usize).map_or(&[], |node| name_in(&self.names, node))
    }
}

#[inline]
fn name_in<'n>(names: &'n [u8], node: &Node) -> &'n [u8] {
    let start = node.name as usize;
    names.get(start..start + usize::from(node.name_length)).unwrap_or(&[])
}

impl<'z> NodeRef<'z> {
    /// Its zone.
    #[must_use]
    #[inline]
    pub fn zone(self) -> &'z Zone {
        self.zone
    }

    /// The owner name, lower-case wire form.
    #[must_use]
    #[inline]
    pub fn name(self) -> &'z [u8] {
        name_in(&self.zone.names, self.node)
    }

    /// Whether the name is delegated to other servers.
    #[must_use]
    #[inline]
    pub fn is_delegated(self) -> bool {
        self.node.flags & DELEGATION != 0
    }

    /// Whether a delegation or a DNAME here answers names below this one.
    #[must_use]
    #[inline]
    pub fn hides_children(self) -> bool {
        self.node.flags & (DELEGATION | DNAME) != 0
    }

    /// Whether a wildcard covers names below this one that do not exist.
    #[must_use]
    #[inline]
    pub fn has_wildcard(self) -> bool {
        self.node.flags & WILDCARD_CHILD != 0
    }

    /// The service that answers A and AAAA here.
    #[must_use]
    #[inline]
    pub fn service(self) -> Option<ServiceId> {
        (self.node.service != NO_SERVICE).then_some(ServiceId(self.node.service))
    }

    /// The CNAME record, if the name is an alias.
    #[must_use]
    #[inline]
    pub fn cname(self) -> Option<Rrset<'z>> {
        if self.node.flags & CNAME == 0 { None } else { self.rrset(rtype::CNAME) }
    }

    /// The RRset of a type.
    #[must_use]
    #[inline]
    pub fn rrset(self, rtype: u16) -> Option<Rrset<'z>> {
        self.rrsets().find(|rrset| rrset.rtype == rtype)
    }

    /// All RRsets, sorted by type.
    #[inline]
    pub fn rrsets(self) -> impl Iterator<Item = Rrset<'z>> {
        let first = self.node.first_rrset as usize;
        let entries = self.zone.rrsets.get(first..first + usize::from(self.node.rrsets)).unwrap_or(&[]);
        entries.iter().map(move |entry| {
            let start = entry.data as usize;
            Rrset {
                rtype: entry.rtype,
                ttl: entry.ttl,
                count: entry.count,
                data: self.zone.data.get(start..start + entry.length as usize).unwrap_or(&[]),
            }
        })
    }
}

impl<'z> Rrset<'z> {
    /// The data of each record in wire form, names uncompressed.
    pub fn records(self) -> impl Iterator<Item = &'z [u8]> {
        let mut rest = self.data;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (record, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            rest = after;
            Some(record)
        })
    }

    /// The data of the first record.
    #[must_use]
    pub fn first(self) -> &'z [u8] {
        self.records().next().unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
