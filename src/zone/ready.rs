//! Answers that are prepared in advance: RRsets whose data has compressible names, with the additional addresses.

use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::RandomState;

use super::compressed::Compressed;
use super::{Lookup, NodeRef, Rrset, Zone, rtype};
use crate::name;

/// The most prepared answers in a catalog; they take about 16 MB. `answer` assembles all others when they are
/// queried.
pub(super) const MOST_READY: usize = 65_536;
/// The longest answer that is prepared, bytes.
const LONGEST: usize = 4096;

/// All prepared answers of a catalog.
#[derive(Debug, Default)]
pub(super) struct ReadyAnswers {
    bytes: Vec<u8>,
    /// Keyed by zone, node and type.
    index: HashMap<(u32, u32, u16), ReadyRange, RandomState>,
}

#[derive(Clone, Debug)]
struct ReadyRange {
    bytes: Range<usize>,
    answers: u16,
    additionals: u16,
}

/// The records of an answer, which must directly follow a question for their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyAnswer<'c> {
    /// The records: all of the answer section, then all of the additional section.
    pub bytes: &'c [u8],
    /// The number of records in the answer section.
    pub answers: u16,
    /// The number of records in the additional section.
    pub additionals: u16,
}

/// How many bytes of record data precede the first name, and how many names follow; `None` for types whose records
/// are copied as stored.
fn names_in(rtype: u16) -> Option<(usize, usize)> {
    match rtype {
        rtype::NS => Some((0, 1)),
        rtype::SOA => Some((0, 2)),
        rtype::MX => Some((2, 1)),
        // Its name is not compressed (RFC 2782), but it has additional addresses.
        rtype::SRV => Some((0, 0)),
        _ => None,
    }
}

impl ReadyAnswers {
    /// Prepares the answers of a node whose own records answer for its name.
    pub(super) fn add(&mut self, (zone_index, node_index): (u32, u32), zone: &Zone, node: NodeRef<'_>) {
        if node.is_delegated() || node.name().starts_with(b"\x01*") {
            return;
        }
        for rrset in node.rrsets() {
            let Some(names) = names_in(rrset.rtype).filter(|_| self.index.len() < MOST_READY) else {
                continue;
            };
            if let Some((bytes, additionals)) = written(zone, node.name(), rrset, names)
                && bytes.len() <= LONGEST
            {
                let begin = self.bytes.len();
                self.bytes.extend(bytes);
                let entry = ReadyRange { bytes: begin..self.bytes.len(), answers: rrset.count, additionals };
                self.index.insert((zone_index, node_index, rrset.rtype), entry);
            }
        }
    }

    pub(super) fn get(&self, zone: u32, node: u32, rtype: u16) -> Option<ReadyAnswer<'_>> {
        let ReadyRange { bytes, answers, additionals } = self.index.get(&(zone, node, rtype))?;
        let bytes = self.bytes.get(bytes.clone())?;
        Some(ReadyAnswer { bytes, answers: *answers, additionals: *additionals })
    }

    /// Frees unused capacity.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.index.shrink_to_fit();
    }
}

/// The encoded records of an RRset, and the number of additional records after them.
fn written(zone: &Zone, owner: &[u8], rrset: Rrset<'_>, names: (usize, usize)) -> Option<(Vec<u8>, u16)> {
    let mut records = Compressed::after(owner);
    for data in rrset.records() {
        records.record(owner, (rrset.rtype, rrset.ttl), data, names)?;
    }
    let mut additionals = 0;
    let before_target = match rrset.rtype {
        rtype::NS => 0,
        rtype::MX => 2,
        rtype::SRV => 6,
        _ => return Some((records.bytes, additionals)),
    };
    for data in rrset.records() {
        let target = data.get(before_target..)?.to_ascii_lowercase();
        if !name::is_within(&target, zone.apex_name()) {
            continue;
        }
        let Lookup::Found(node) = zone.find(&target) else { continue };
        for addresses in [rtype::A, rtype::AAAA].into_iter().filter_map(|rtype| node.rrset(rtype)) {
            for data in addresses.records() {
                records.record(node.name(), (addresses.rtype, addresses.ttl), data, (0, 0))?;
            }
            additionals += addresses.count;
        }
    }
    Some((records.bytes, additionals))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::{Catalog, ZoneBuilder};

    fn wire(name: &str) -> Vec<u8> {
        name::Name::parse(name).unwrap().wire().to_vec()
    }

    fn zone() -> Zone {
        let mut builder = ZoneBuilder::new(&wire("example"));
        let soa = [wire("ns.example"), wire("host.example"), vec![0; 20]].concat();
        let mut add =
            |owner: &str, rtype, data: &[u8]| builder.add(&wire(owner), rtype, 300, data, 0).unwrap();
        add("example", rtype::SOA, &soa);
        add("example", rtype::NS, &wire("ns.example"));
        add("example", rtype::MX, &[&[0, 5], &wire("mail.example")[..]].concat());
        add("mail.example", rtype::A, &[192, 0, 2, 1]);
        add("sub.example", rtype::NS, &wire("ns.example"));
        add("*.example", rtype::MX, &[&[0, 5], &wire("mail.example")[..]].concat());
        builder.finish().unwrap()
    }

    #[test]
    fn names_point_into_the_question_and_addresses_follow() {
        let catalog = Catalog::new(vec![zone()]);
        let found = catalog.exact(&wire("example")).unwrap();
        let ready = catalog.ready(&found, rtype::MX).unwrap();
        assert_eq!((ready.answers, ready.additionals), (1, 1));
        // The question takes 12 bytes of header, 9 of the name and 4 of type and class.
        let mail = 25 + 12 + 2;
        let mut expected = vec![0xc0, 12, 0, 15, 0, 1, 0, 0, 1, 44, 0, 9, 0, 5];
        expected.extend(b"\x04mail\xc0\x0c");
        expected.extend([0xc0, mail, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
        assert_eq!(ready.bytes, expected);
        assert!(catalog.ready(&found, rtype::A).is_none());
    }

    #[test]
    fn delegations_and_wildcards_have_none() {
        let catalog = Catalog::new(vec![zone()]);
        for (name, rtype) in [("sub.example", rtype::NS), ("*.example", rtype::MX)] {
            assert!(catalog.ready(&catalog.exact(&wire(name)).unwrap(), rtype).is_none(), "{name}");
        }
    }
}
