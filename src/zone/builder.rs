//! Builds a zone record by record, and checks its contents.
//!
//! The builder handles records, not text. The caller tags each record with its origin, and faults
//! carry the tag.

use std::collections::HashSet;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::advice::{self, Added, Advice, CountedAdvice};
use super::{
    CNAME, DELEGATION, DNAME, NO_SERVICE, NameHasher, Node, RrsetEntry, WILDCARD_CHILD, Zone, name_in, rtype,
};
use crate::name;
use crate::printable::quoted;
use crate::service::ServiceId;

/// The name has an address record.
const ADDRESS: u8 = 16;
/// The name has a record that cannot exist together with a CNAME.
const OTHER: u8 = 32;

/// A zone under construction.
#[derive(Debug)]
pub struct ZoneBuilder {
    apex: Box<[u8]>,
    names: Vec<u8>,
    nodes: Vec<Node>,
    index: HashTable<u32>,
    seed: NameHasher,
    records: Vec<ChainedRecord>,
    data: Vec<u8>,
    /// The node of the record added last: records of one owner are usually adjacent.
    last: usize,
    told: CountedAdvice,
    /// The tag and the owner of the first SOA record outside the zone.
    soa_elsewhere: Option<(u32, String)>,
}

#[derive(Clone, Copy, Debug)]
struct ChainedRecord {
    node: u32,
    ttl: u32,
    data: u32,
    tag: u32,
    /// The previous record of the same node, or [`NO_RECORD`].
    previous: u32,
    rtype: u16,
    length: u16,
}

/// Marks the end of a node's chain of records.
const NO_RECORD: u32 = u32::MAX;

/// Up to this many records, duplicates in an RRset are found by comparing; above it, by hashing.
const FEW_RECORDS: usize = 16;

/// Rule violations: records that a zone must not contain, or that it lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// The owner is not at or below the apex.
    #[error("the name is not in the zone")]
    OutOfZone,
    /// A CNAME beside other records (RFC 1034, section 3.6.2).
    #[error("a CNAME cannot stand beside other records of the same name")]
    CnameBesideOther,
    /// Two CNAMEs at one name.
    #[error("a name can have one CNAME only")]
    SecondCname,
    /// Two DNAMEs at one name (RFC 6672, section 2.4).
    #[error("a name can have one DNAME only")]
    SecondDname,
    /// An SOA below the apex.
    #[error("the SOA record belongs to the name of the zone")]
    SoaNotAtApex,
    /// Two SOA records.
    #[error("the zone has a second SOA record")]
    SecondSoa,
    /// No SOA record.
    #[error("the zone has no SOA record")]
    NoSoa,
    /// No SOA record, but one was ignored because its name is not in the zone.
    #[error(
        "the zone {} has no SOA record: this one belongs to {}, which is not in the zone; check $ORIGIN, and the \
         name of the zone in the configuration",
        quoted(.zone), quoted(.owner)
    )]
    SoaElsewhere {
        /// The zone.
        zone: String,
        /// The owner of the ignored record.
        owner: String,
    },
    /// No NS records at the apex.
    #[error("the zone has no NS record at its own name")]
    NoNs,
    /// The zone has A, AAAA or CNAME records at the name of a service.
    #[error("the name belongs to a service, so the zone must not hold A, AAAA or CNAME records for it")]
    ServiceAddress,
    /// The SVCB or HTTPS record of a service has address hints.
    #[error("its SVCB and HTTPS records must not hold ipv4hint or ipv6hint: they would outlive the backends")]
    ServiceAddressHint,
    /// A service below a zone cut or a DNAME: it would never be answered.
    #[error("its zone delegates this name or has a DNAME above it, so the service would never be answered")]
    ServiceOccluded,
    /// An RRset that does not fit into a message.
    #[error("the records of one name and type exceed what one DNS message can hold (65,535 bytes)")]
    TooLarge,
    /// The names or data exceed 32-bit offsets.
    #[error("the zone is larger than 4 GiB")]
    ZoneTooLarge,
}

/// A fault and the tag of its record; no tag if it concerns the whole zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFault {
    /// The tag of the record.
    pub tag: Option<u32>,
    /// The fault.
    pub error: ZoneError,
}

impl ZoneBuilder {
    /// Starts a zone with this apex (lower-case wire form).
    #[must_use]
    pub fn new(apex: &[u8]) -> Self {
        let mut builder = Self {
            apex: apex.into(),
            names: Vec::new(),
            nodes: Vec::new(),
            index: HashTable::new(),
            seed: NameHasher(foldhash::fast::RandomState::default()),
            records: Vec::new(),
            data: Vec::new(),
            last: 0,
            told: CountedAdvice::default(),
            soa_elsewhere: None,
        };
        builder.node(apex);
        builder
    }

    /// The apex, lower-case wire form.
    #[must_use]
    pub fn apex(&self) -> &[u8] {
        &self.apex
    }

    /// The number of added records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.records.len()
    }

    /// Adds a record: owner in lower-case wire form, data in wire form with uncompressed names. If
    /// TTLs differ within one name and type, the first counts (RFC 2181, section 5.2). A repeated
    /// SOA record, as at the end of a transfer, is ignored.
    ///
    /// # Errors
    /// If the record is not allowed in this zone, or conflicts with earlier ones.
    pub fn add(
        &mut self,
        owner: &[u8],
        rtype: u16,
        ttl: u32,
        rdata: &[u8],
        tag: u32,
    ) -> Result<(), ZoneError> {
        if !name::is_within(owner, &self.apex) {
            if rtype == rtype::SOA && self.soa_elsewhere.is_none() {
                self.soa_elsewhere = Some((tag, in_text(owner)));
            }
            return Err(ZoneError::OutOfZone);
        }
        let at_apex = owner == &*self.apex;
        let index = self.node(owner);
        let flags = self.nodes.get(index).map_or(0, |node| node.flags);
        let add = match rtype {
            rtype::CNAME if flags & CNAME != 0 => return Err(ZoneError::SecondCname),
            rtype::CNAME if flags & OTHER != 0 => return Err(ZoneError::CnameBesideOther),
            rtype::CNAME => CNAME,
            rtype::RRSIG | rtype::NSEC => 0,
            _ if flags & CNAME != 0 => return Err(ZoneError::CnameBesideOther),
            rtype::DNAME if flags & DNAME != 0 => return Err(ZoneError::SecondDname),
            rtype::DNAME => DNAME | OTHER,
            rtype::NS if !at_apex => DELEGATION | OTHER,
            rtype::SOA if !at_apex => return Err(ZoneError::SoaNotAtApex),
            rtype::A | rtype::AAAA => ADDRESS | OTHER,
            _ => OTHER,
        };
        let mut ttl = ttl;
        if let Some(earlier) = self.earlier(index, rtype) {
            if rtype == rtype::SOA {
                let is_same = is_same_soa(earlier.data_in(&self.data), rdata);
                return if is_same { Ok(()) } else { Err(ZoneError::SecondSoa) };
            }
            let (written, kept) = (std::mem::replace(&mut ttl, earlier.ttl), earlier.ttl);
            // Each signature has the TTL of the RRset that it covers.
            if written != kept && rtype != rtype::RRSIG {
                self.told.add(advice::AdviceKind::Ttl, Some(tag), || {
                    format!(
                        "the TTL of `{written}` seconds is not used: records of one name and type have one TTL, \
                         and the first has `{kept}` seconds"
                    )
                });
            }
        }
        let length = u16::try_from(rdata.len()).map_err(|_| ZoneError::TooLarge)?;
        let too_large = |_| ZoneError::ZoneTooLarge;
        // The finished zone stores a length before each record; it is included here.
        let stored = self.data.len() + rdata.len() + 2 * (self.records.len() + 1);
        u32::try_from(stored.max(self.names.len())).map_err(too_large)?;
        let data = u32::try_from(self.data.len()).map_err(too_large)?;
        let node = u32::try_from(index).map_err(too_large)?;
        let number = u32::try_from(self.records.len()).map_err(too_large)?;
        self.data.extend_from_slice(rdata);
        if let Some(entry) = self.nodes.get_mut(index) {
            entry.flags |= add;
            let previous = std::mem::replace(&mut entry.first_rrset, number);
            self.records.push(ChainedRecord { node, ttl, data, tag, previous, rtype, length });
        }
        Ok(())
    }

    /// Binds a service to a name: A and AAAA queries for it are then answered from pools.
    ///
    /// # Errors
    /// If the zone cannot have a service at that name.
    pub fn bind_service(&mut self, owner: &[u8], service: ServiceId) -> Result<(), ZoneError> {
        if !name::is_within(owner, &self.apex) {
            return Err(ZoneError::OutOfZone);
        }
        let mut above = Some(owner);
        while let Some(name) = above.filter(|name| name.len() >= self.apex.len()) {
            let occluding = if name == owner { DELEGATION } else { DELEGATION | DNAME };
            if self.existing(name).is_some_and(|node| node.flags & occluding != 0) {
                return Err(ZoneError::ServiceOccluded);
            }
            above = name::parent(name);
        }
        let index = self.node(owner);
        if self.nodes.get(index).is_some_and(|node| node.flags & (ADDRESS | CNAME) != 0) {
            return Err(ZoneError::ServiceAddress);
        }
        if self.records_of(index).any(|record| has_address_hint(record, &self.data)) {
            return Err(ZoneError::ServiceAddressHint);
        }
        if let Some(node) = self.nodes.get_mut(index) {
            node.service = service.0;
        }
        Ok(())
    }

    /// Adds a warning about the record with this tag.
    pub(super) fn tell(&mut self, kind: advice::AdviceKind, tag: u32, message: impl FnOnce() -> String) {
        self.told.add(kind, Some(tag), message);
    }

    /// Completes the zone.
    ///
    /// # Errors
    /// All faults of the zone as a whole.
    pub fn finish(self) -> Result<Zone, Vec<BuildFault>> {
        self.finish_with_advice().map(|(zone, _)| zone)
    }

    /// Completes the zone, and returns warnings about surprising contents.
    ///
    /// # Errors
    /// As [`ZoneBuilder::finish`].
    pub fn finish_with_advice(mut self) -> Result<(Zone, Vec<Advice>), Vec<BuildFault>> {
        let mut faults = Vec::new();
        self.records.sort_by_key(|record| (record.node, record.rtype));
        for node in &mut self.nodes {
            node.first_rrset = 0;
            node.rrsets = 0;
        }
        let mut rrsets: Vec<RrsetEntry> = Vec::new();
        let mut data = Vec::with_capacity(self.data.len() + 2 * self.records.len());
        let mut records = 0;
        for group in self.records.chunk_by(|a, b| (a.node, a.rtype) == (b.node, b.rtype)) {
            let Some(first) = group.first() else { continue };
            let start = data.len();
            let count = self.append_rrset(group, &mut data);
            let length = data.len() - start;
            // In a message each record takes 10 bytes more than stored: its owner (a pointer),
            // type, class, TTL and length. The rest of the message is for the header and a
            // question.
            let on_the_wire = length + 10 * count;
            let room = 65_535 - 12 - name::MAX_NAME - 4 - 11;
            let entry =
                (on_the_wire <= room).then(|| RrsetEntry::try_new(start, length, first, count)).flatten();
            let Some(entry) = entry else {
                faults.push(BuildFault { tag: Some(first.tag), error: ZoneError::TooLarge });
                continue;
            };
            if let Some(node) = self.nodes.get_mut(first.node as usize) {
                if node.rrsets == 0 {
                    node.first_rrset = u32::try_from(rrsets.len()).unwrap_or(u32::MAX);
                }
                node.rrsets += 1;
            }
            records += count;
            rrsets.push(entry);
        }
        self.link_wildcards();
        let zone = Zone {
            apex: self.apex,
            names: self.names.into_boxed_slice(),
            nodes: self.nodes.into_boxed_slice(),
            index: self.index,
            seed: self.seed,
            rrsets: rrsets.into_boxed_slice(),
            data: data.into_boxed_slice(),
            negative_ttl: 0,
            records,
        };
        let zone = check(zone, self.soa_elsewhere, faults)?;
        let added = self.records.iter().filter_map(|record| {
            let owner = name_in(&zone.names, zone.nodes.get(record.node as usize)?);
            let data = record.data_in(&self.data);
            Some(Added { tag: record.tag, owner, rtype: record.rtype, data })
        });
        advice::look(&zone, &added, &mut self.told);
        Ok((zone, self.told.finish()))
    }

    /// Appends the distinct records of one RRset in file order, and returns their number.
    fn append_rrset(&self, group: &[ChainedRecord], data: &mut Vec<u8>) -> usize {
        let mut seen: HashSet<&[u8]> = HashSet::new();
        let mut count = 0;
        for (at, record) in group.iter().enumerate() {
            let rdata = record.data_in(&self.data);
            // A duplicate record is answered only once (RFC 2181, section 5).
            let double = if group.len() <= FEW_RECORDS {
                group.iter().take(at).any(|before| before.data_in(&self.data) == rdata)
            } else {
                !seen.insert(rdata)
            };
            if double {
                continue;
            }
            data.extend_from_slice(&record.length.to_be_bytes());
            data.extend_from_slice(rdata);
            count += 1;
        }
        count
    }

    fn link_wildcards(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(index) else { continue };
            let name = name_in(&self.names, node);
            if name.starts_with(b"\x01*")
                && let Some(parent) = name::parent(name)
                && let Some(parent) = self.position(parent)
                && let Some(node) = self.nodes.get_mut(parent)
            {
                node.flags |= WILDCARD_CHILD;
            }
        }
    }

    /// The last added record of this name and type.
    fn earlier(&self, node: usize, rtype: u16) -> Option<&ChainedRecord> {
        self.records_of(node).find(|record| record.rtype == rtype)
    }

    /// The records of a name, the latest first. While the zone is under construction, `first_rrset`
    /// is the number of the node's latest record, and each record links to the one before it. So
    /// the walk visits only records of this name, wherever they are in the file.
    fn records_of(&self, node: usize) -> impl Iterator<Item = &ChainedRecord> {
        let record = |number: u32| self.records.get(number as usize);
        let latest = self.nodes.get(node).and_then(|node| record(node.first_rrset));
        std::iter::successors(latest, move |later| record(later.previous))
    }

    fn existing(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.get(self.position(name)?)
    }

    fn position(&self, name: &[u8]) -> Option<usize> {
        let found = self.index.find(self.seed.hash(name), |&index| {
            self.nodes.get(index as usize).is_some_and(|node| name_in(&self.names, node) == name)
        })?;
        Some(*found as usize)
    }

    /// Returns the index of the node with this name. If necessary, creates it and all names between
    /// it and the apex, which are empty non-terminals (RFC 8020).
    fn node(&mut self, wire: &[u8]) -> usize {
        if self.nodes.get(self.last).is_some_and(|node| name_in(&self.names, node) == wire) {
            return self.last;
        }
        let mut name = wire;
        let mut wanted = None;
        loop {
            let (names, nodes, seed) = (&mut self.names, &mut self.nodes, &self.seed);
            let entry = self.index.entry(
                seed.hash(name),
                |&index| nodes.get(index as usize).is_some_and(|node| name_in(names, node) == name),
                |&index| seed.hash(nodes.get(index as usize).map_or(&[][..], |node| name_in(names, node))),
            );
            let (index, existed) = match entry {
                Entry::Occupied(entry) => (*entry.get() as usize, true),
                Entry::Vacant(entry) => {
                    let index = nodes.len();
                    entry.insert(u32::try_from(index).unwrap_or(u32::MAX));
                    nodes.push(Node {
                        name: u32::try_from(names.len()).unwrap_or(u32::MAX),
                        first_rrset: NO_RECORD,
                        service: NO_SERVICE,
                        rrsets: 0,
                        name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
                        flags: 0,
                    });
                    names.extend_from_slice(name);
                    (index, false)
                }
            };
            let found = *wanted.get_or_insert(index);
            match name::parent(name) {
                Some(parent) if !existed && name != &*self.apex => name = parent,
                _ => {
                    self.last = found;
                    return found;
                }
            }
        }
    }
}

impl RrsetEntry {
    fn try_new(start: usize, length: usize, first: &ChainedRecord, count: usize) -> Option<Self> {
        Some(Self {
            data: u32::try_from(start).ok()?,
            length: u32::try_from(length).ok()?,
            ttl: first.ttl,
            rtype: first.rtype,
            count: u16::try_from(count).ok()?,
        })
    }
}

impl ChainedRecord {
    fn data_in<'d>(&self, data: &'d [u8]) -> &'d [u8] {
        let start = self.data as usize;
        data.get(start..start + usize::from(self.length)).unwrap_or(&[])
    }
}

/// Whether two SOA records are equal, ignoring the case of names.
fn is_same_soa(a: &[u8], b: &[u8]) -> bool {
    match (a.split_last_chunk::<20>(), b.split_last_chunk::<20>()) {
        (Some((a_names, a_numbers)), Some((b_names, b_numbers))) => {
            a_numbers == b_numbers && a_names.eq_ignore_ascii_case(b_names)
        }
        _ => false,
    }
}

/// Whether a record is a service binding (RFC 9460) with an address hint.
fn has_address_hint(record: &ChainedRecord, data: &[u8]) -> bool {
    const PRIORITY: usize = 2;
    const IPV4_HINT: u16 = 4;
    const IPV6_HINT: u16 = 6;
    let after_priority = record.data_in(data).get(PRIORITY..).unwrap_or(&[]);
    let parameters = name::wire_length(after_priority).and_then(|target| after_priority.get(target..));
    let mut rest = match record.rtype {
        rtype::SVCB | rtype::HTTPS => parameters.unwrap_or(&[]),
        _ => return false,
    };
    while let Some((&[k0, k1, l0, l1], after)) = rest.split_first_chunk::<4>() {
        if matches!(u16::from_be_bytes([k0, k1]), IPV4_HINT | IPV6_HINT) {
            return true;
        }
        rest = after.get(usize::from(u16::from_be_bytes([l0, l1]))..).unwrap_or(&[]);
    }
    false
}

/// Checks the rules that concern the whole zone.
fn check(
    mut zone: Zone,
    soa_elsewhere: Option<(u32, String)>,
    mut faults: Vec<BuildFault>,
) -> Result<Zone, Vec<BuildFault>> {
    let apex = zone.apex();
    let soa = apex.and_then(|apex| apex.rrset(rtype::SOA));
    match soa {
        None => faults.push(match soa_elsewhere {
            None => BuildFault { tag: None, error: ZoneError::NoSoa },
            Some((tag, owner)) => {
                let error = ZoneError::SoaElsewhere { zone: in_text(&zone.apex), owner };
                BuildFault { tag: Some(tag), error }
            }
        }),
        Some(soa) => {
            let minimum = soa.first().last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            zone.negative_ttl = soa.ttl.min(minimum);
        }
    }
    if zone.apex().is_none_or(|apex| apex.rrset(rtype::NS).is_none()) {
        faults.push(BuildFault { tag: None, error: ZoneError::NoNs });
    }
    if faults.is_empty() { Ok(zone) } else { Err(faults) }
}

fn in_text(wire: &[u8]) -> String {
    name::Name::from_wire(wire).map_or_else(String::new, |name| name.to_string())
}
