//! Resolves a question to records: static RRsets, aliases, referrals, negatives, services.
//!
//! The algorithm is that of RFC 1034, section 4.3.2, amended by RFC 2308 (negatives), 4592
//! (wildcards), 6672 (DNAME) and 8482 (ANY), with one addition: a name may be bound to a service.

use std::net::IpAddr;

use rand::Rng;

use super::options::ExtendedError;
use super::{ResponseKind, ServiceAnswer, size};
use crate::name;
use crate::pool::Family;
use crate::selection::Picked;
use crate::service::{Route, ServiceId, WhenDown};
use crate::table::{Decision, Draw, ServiceView, Table};
use crate::wire::writer::Section;
use crate::wire::{Full, Question, Writer, rcode};
use crate::zone::{Lookup, NodeRef, Rrset, Zone, rtype};

/// The most aliases (CNAME, DNAME) in one answer; the resolver follows the rest itself.
const CHAIN_LIMIT: usize = 16;

/// TTL of the answer to ANY. It says nothing about the name (RFC 8482, section 4.2), so it may be
/// cached for a long time.
const ANY_TTL: u32 = 3600;
/// HINFO data with the CPU "RFC8482" and no operating system (RFC 8482, section 4.2).
const ANY_DATA: &[u8] = b"\x07RFC8482\x00";

/// The parts of an answer outside its sections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolution {
    pub(super) rcode: u16,
    pub(super) authoritative: bool,
    pub(super) served: Option<ServiceAnswer>,
    pub(super) explanation: Option<ExtendedError>,
}

impl Resolution {
    fn answer() -> Self {
        Self { rcode: rcode::NOERROR, authoritative: true, served: None, explanation: None }
    }

    fn error(rcode: u16, explanation: Option<ExtendedError>) -> Self {
        Self { rcode, authoritative: false, served: None, explanation }
    }
}

/// The state of resolving one question.
pub(super) struct Resolver<'t, 'w, 'b, R> {
    table: &'t Table,
    rng: &'w mut R,
    picked: &'w mut Picked,
    writer: &'w mut Writer<'b>,
    /// The time of arrival in seconds since 1970.
    time: u32,
    /// The address of the client for which the answer is made.
    client: IpAddr,
    /// The number of its leading bits on which the answer depends.
    scope: u8,
    /// The kind of response for the first name.
    kind: Option<ResponseKind<'t>>,
    /// The DNAME records applied since the last CNAME.
    rewritten: Option<Rewritten<'t>>,
}

/// DNAME records that were applied one after the other: each leads to a name at or below the next.
/// They suffice to find loops: a name that reaches one of them again reaches all of them again.
struct Rewritten<'t> {
    by: [&'t [u8]; CHAIN_LIMIT],
    count: usize,
    /// The target of the last one.
    target: NameBuffer,
}

impl<'t> Rewritten<'t> {
    fn leads_to(&self, node: &[u8]) -> bool {
        name::is_within(self.target.wire(), node)
    }

    fn is_by(&self, node: &'t [u8]) -> bool {
        self.by.iter().take(self.count).any(|by| std::ptr::eq(*by, node))
    }

    fn push(&mut self, node: &'t [u8], target: NameBuffer) {
        if let Some(place) = self.by.get_mut(self.count) {
            *place = node;
            self.count += 1;
        }
        self.target = target;
    }
}

/// The result of looking up one name.
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation on the query path")]
enum LookupStep {
    Done(Resolution),
    /// Continue with this name.
    Alias(NameBuffer),
}

/// A copy of a name in lower-case wire form.
struct NameBuffer {
    bytes: [u8; name::MAX_NAME],
    length: usize,
}

impl NameBuffer {
    fn root() -> Self {
        Self { bytes: [0; name::MAX_NAME], length: 1 }
    }

    /// Copies a name; `None` if it is too long.
    fn of(wire: &[u8]) -> Option<Self> {
        Self::joined(wire, &[])
    }

    /// Concatenates a prefix and a name; `None` if the result is too long.
    fn joined(prefix: &[u8], suffix: &[u8]) -> Option<Self> {
        let mut bytes = [0; name::MAX_NAME];
        let length = prefix.len() + suffix.len();
        let whole = bytes.get_mut(..length)?;
        let (start, end) = whole.split_at_mut_checked(prefix.len())?;
        start.copy_from_slice(prefix);
        end.copy_from_slice(suffix);
        whole.make_ascii_lowercase();
        Some(Self { bytes, length })
    }

    fn wire(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[0])
    }
}

impl<'t, 'w, 'b, R: Rng> Resolver<'t, 'w, 'b, R> {
    pub(super) fn new(
        table: &'t Table,
        rng: &'w mut R,
        picked: &'w mut Picked,
        writer: &'w mut Writer<'b>,
        (client, time): (IpAddr, u32),
    ) -> Self {
        Self { table, rng, picked, writer, time, client, scope: 0, kind: None, rewritten: None }
    }

    /// The kind of response for the first name; `None` if it is not in a zone here.
    pub(super) fn kind(&self) -> Option<ResponseKind<'t>> {
        self.kind
    }

    /// The number of leading bits of the client's address on which the answer depends.
    pub(super) fn scope(&self) -> u8 {
        self.scope
    }

    /// Answers the question, and follows aliases within the zones here.
    pub(super) fn resolve(&mut self, question: &Question<'_>) -> Result<Resolution, Full> {
        let Some(mut current) = NameBuffer::of(question.name()) else {
            return Ok(Resolution::error(rcode::FORMERR, None));
        };
        for followed in 0..=CHAIN_LIMIT {
            let Some(zone) = self.zone_of(current.wire(), question.qtype) else {
                // An alias to a name outside all zones here ends the answer. If there was no alias,
                // the name of the question is outside.
                let refused = Resolution::error(rcode::REFUSED, Some(ExtendedError::NOT_AUTHORITATIVE));
                return Ok(if followed > 0 { Resolution::answer() } else { refused });
            };
            let before = self.writer.mark();
            match self.step(zone, current.wire(), question.qtype, followed > 0)? {
                LookupStep::Done(resolution) => return Ok(resolution),
                LookupStep::Alias(_) if followed == CHAIN_LIMIT => {
                    self.writer.rewind(before);
                    break;
                }
                // A loop: its records are already in the answer.
                LookupStep::Alias(next) if self.writer.has_answer(next.wire(), rtype::CNAME) => break,
                LookupStep::Alias(next) => current = next,
            }
        }
        Ok(Resolution::answer())
    }

    /// The zone that answers. DS records belong to the parent zone at the cut, if it is here (RFC
    /// 4035, section 3.1.4.1).
    fn zone_of(&self, name: &[u8], qtype: u16) -> Option<&'t Zone> {
        let catalog = &self.table.catalog;
        if qtype == rtype::DS
            && let Some(parent) = catalog.find(name, true)
            && matches!(parent.find(name), Lookup::Referral { .. })
        {
            return Some(parent);
        }
        catalog.find(name, false)
    }

    fn step(&mut self, zone: &'t Zone, owner: &[u8], qtype: u16, aliased: bool) -> Result<LookupStep, Full> {
        let lookup = zone.find(owner);
        self.kind.get_or_insert(match &lookup {
            Lookup::Found(node) | Lookup::Wildcard(node) | Lookup::Dname(node) => {
                ResponseKind::Answer(node.name())
            }
            Lookup::Referral { .. } => ResponseKind::Referral(zone.apex_name()),
            Lookup::NoName => ResponseKind::NoName(zone.apex_name()),
        });
        match lookup {
            Lookup::Found(node) | Lookup::Wildcard(node) => self.found(zone, node, owner, qtype),
            Lookup::Referral { cut, exact: true } if qtype == rtype::DS => {
                self.static_answer(zone, cut, owner, qtype).map(LookupStep::Done)
            }
            Lookup::Referral { cut, .. } => self.referral(zone, cut, aliased).map(LookupStep::Done),
            Lookup::Dname(node) => self.dname(node, owner, qtype),
            Lookup::NoName => {
                self.negative(zone, None)?;
                Ok(LookupStep::Done(Resolution { rcode: rcode::NXDOMAIN, ..Resolution::answer() }))
            }
        }
    }

    fn found(
        &mut self,
        zone: &'t Zone,
        node: NodeRef<'t>,
        owner: &[u8],
        qtype: u16,
    ) -> Result<LookupStep, Full> {
        let family = match qtype {
            rtype::A => Some(Family::Ipv4),
            rtype::AAAA => Some(Family::Ipv6),
            _ => None,
        };
        if let (Some(id), Some(family)) = (node.service(), family)
            && let Some(view) = self.table.service(id)
        {
            return self.service(zone, id, view, family, owner).map(LookupStep::Done);
        }
        // Records that may exist together with an alias (RFC 4034, section 3) are answered
        // directly, like the alias itself.
        if let Some(cname) = node.cname().filter(|_| node.rrset(qtype).is_none()) {
            self.rewritten = None;
            self.writer.rrset(Section::Answer, owner, cname, cname.ttl)?;
            return Ok(match NameBuffer::of(cname.first()) {
                Some(target) if qtype != rtype::ANY => LookupStep::Alias(target),
                _ => LookupStep::Done(Resolution::answer()),
            });
        }
        if qtype == rtype::ANY && (node.service().is_some() || node.rrsets().next().is_some()) {
            self.writer.record(Section::Answer, owner, rtype::HINFO, ANY_TTL, ANY_DATA)?;
            return Ok(LookupStep::Done(Resolution::answer()));
        }
        self.static_answer(zone, node, owner, qtype).map(LookupStep::Done)
    }

    /// Answers with the RRset of the type, or NODATA.
    fn static_answer(
        &mut self,
        zone: &'t Zone,
        node: NodeRef<'t>,
        owner: &[u8],
        qtype: u16,
    ) -> Result<Resolution, Full> {
        match node.rrset(qtype) {
            Some(rrset) => {
                self.writer.rrset(Section::Answer, owner, rrset, rrset.ttl)?;
                self.additional(zone, rrset);
            }
            None => self.negative(zone, None)?,
        }
        Ok(Resolution::answer())
    }

    /// Writes the SOA of a negative answer (RFC 2308, section 3), with a TTL of at most `longest`.
    fn negative(&mut self, zone: &Zone, longest: Option<u32>) -> Result<(), Full> {
        match zone.negative_soa() {
            Some((soa, ttl)) => {
                let ttl = longest.map_or(ttl, |longest| ttl.min(longest));
                self.writer.rrset(Section::Authority, zone.apex_name(), soa, ttl)
            }
            None => Ok(()),
        }
    }

    /// Writes the name servers of a delegated zone. Glue for servers below the cut is part of the
    /// referral and must fit (RFC 9471). Other addresses are added if there is room.
    fn referral(&mut self, zone: &'t Zone, cut: NodeRef<'t>, aliased: bool) -> Result<Resolution, Full> {
        if let Some(servers) = cut.rrset(rtype::NS) {
            self.writer.rrset(Section::Authority, cut.name(), servers, servers.ttl)?;
            for required in [true, false] {
                for server in servers.records() {
                    let Some(server) = NameBuffer::of(server) else { continue };
                    let server = server.wire();
                    if name::is_within(server, cut.name()) != required {
                        continue;
                    }
                    let Some(node) = zone.node(server) else { continue };
                    for glue in [rtype::A, rtype::AAAA].into_iter().filter_map(|rtype| node.rrset(rtype)) {
                        if required {
                            self.writer.rrset(Section::Additional, server, glue, glue.ttl)?;
                        } else {
                            self.optional(Section::Additional, server, glue);
                        }
                    }
                }
            }
        }
        Ok(Resolution { authoritative: aliased, ..Resolution::answer() })
    }

    /// Applies a DNAME (RFC 6672, section 3.1): writes the DNAME and the synthesized CNAME, and
    /// continues with the new name.
    fn dname(&mut self, node: NodeRef<'t>, owner: &[u8], qtype: u16) -> Result<LookupStep, Full> {
        let Some(dname) = node.rrset(rtype::DNAME) else { return Ok(LookupStep::Done(Resolution::answer())) };
        let answer = Ok(LookupStep::Done(Resolution::answer()));
        let (by, Some(target)) = (node.name(), NameBuffer::of(dname.first())) else { return answer };
        match self.rewritten.as_mut().filter(|rewritten| rewritten.leads_to(by)) {
            Some(rewritten) if rewritten.is_by(by) => return answer,
            Some(rewritten) => rewritten.push(by, target),
            None => {
                let mut rewritten =
                    Rewritten { by: [&[]; CHAIN_LIMIT], count: 0, target: NameBuffer::root() };
                rewritten.push(by, target);
                self.rewritten = Some(rewritten);
            }
        }
        if !self.writer.has_answer(node.name(), rtype::DNAME) {
            self.writer.rrset(Section::Answer, node.name(), dname, dname.ttl)?;
        }
        let prefix = owner.get(..owner.len() - node.name().len()).unwrap_or(&[]);
        let Some(target) = NameBuffer::joined(prefix, dname.first()) else {
            return Ok(LookupStep::Done(Resolution { rcode: rcode::YXDOMAIN, ..Resolution::answer() }));
        };
        self.writer.record(Section::Answer, owner, rtype::CNAME, dname.ttl, target.wire())?;
        let wanted = qtype == rtype::CNAME || qtype == rtype::ANY;
        Ok(if wanted { LookupStep::Done(Resolution::answer()) } else { LookupStep::Alias(target) })
    }

    /// Adds addresses that save the client a further query, if there is room.
    fn additional(&mut self, zone: &'t Zone, rrset: Rrset<'t>) {
        let skip = match rrset.rtype {
            rtype::NS => 0,
            rtype::MX => 2,
            rtype::SRV => 6,
            _ => return,
        };
        for record in rrset.records() {
            let Some(target) = record.get(skip..).and_then(NameBuffer::of) else { continue };
            let target = target.wire();
            if !name::is_within(target, zone.apex_name()) {
                continue;
            }
            if let Lookup::Found(node) = zone.find(target) {
                for addresses in [rtype::A, rtype::AAAA].into_iter().filter_map(|rtype| node.rrset(rtype)) {
                    self.optional(Section::Additional, target, addresses);
                }
            }
        }
    }

    fn optional(&mut self, section: Section, owner: &[u8], rrset: Rrset<'_>) {
        let before = self.writer.mark();
        if self.writer.rrset(section, owner, rrset, rrset.ttl).is_err() {
            self.writer.rewind(before);
        }
    }

    fn service(
        &mut self,
        zone: &Zone,
        id: ServiceId,
        view: &'t ServiceView,
        family: Family,
        owner: &[u8],
    ) -> Result<Resolution, Full> {
        let (route, scope) = self.table.route(view, || self.client);
        self.scope = self.scope.max(scope);
        let ttl = self.table.ttl(route, self.time);
        let down_column = view.down_column();
        let served = |column, pool| Some(ServiceAnswer { service: id, route: route.index, column, pool });
        let (column, pool, draw) = match self.table.decision(route, family) {
            Decision::Tier { tier, pool, draw, .. } => (route.column(*tier, *pool), *pool, draw),
            Decision::FailOpen { pool, draw } => (down_column, *pool, draw),
            Decision::NoAddress => {
                self.negative(zone, self.table.nodata_ttl(route, family, self.time))?;
                return Ok(Resolution { served: served(None, None), ..Resolution::answer() });
            }
            Decision::Down { .. } => {
                let resolution = self.all_down(zone, (route.route, ttl), family, owner)?;
                return Ok(Resolution { served: served(Some(down_column), None), ..resolution });
            }
        };
        self.addresses(draw, family, owner, ttl)?;
        Ok(Resolution { served: served(Some(column), Some(pool)), ..Resolution::answer() })
    }

    fn addresses(&mut self, draw: &Draw, family: Family, owner: &[u8], ttl: u32) -> Result<(), Full> {
        // Checked first, because a draw that does not fit costs as much as one that does.
        let owner_length = owner.len().min(2);
        if draw.answers() * (owner_length + size::after_owner(family)) > self.writer.room() {
            return Err(Full);
        }
        let scope = draw.select(|| self.client, self.rng, self.picked);
        self.scope = self.scope.max(scope);
        for index in self.picked.indices_mut() {
            if let Some(address) = draw.addresses.get(*index as usize) {
                address_record(self.writer, owner, address.member.address, ttl)?;
                *index = address.member.backend;
            }
        }
        Ok(())
    }

    fn all_down(
        &mut self,
        zone: &Zone,
        (Route { when_down, .. }, ttl): (&Route, u32),
        family: Family,
        owner: &[u8],
    ) -> Result<Resolution, Full> {
        if let WhenDown::Addresses { ipv4, ipv6 } = when_down {
            let addresses: &mut dyn Iterator<Item = IpAddr> = match family {
                Family::Ipv4 => &mut ipv4.iter().copied().map(IpAddr::V4),
                Family::Ipv6 => &mut ipv6.iter().copied().map(IpAddr::V6),
            };
            let mut any = false;
            for address in addresses {
                address_record(self.writer, owner, address, ttl)?;
                any = true;
            }
            if any {
                return Ok(Resolution::answer());
            }
        }
        if *when_down == WhenDown::ServFail {
            return Ok(Resolution::error(rcode::SERVFAIL, Some(ExtendedError::ALL_DOWN)));
        }
        // The pool may recover at any time, so NODATA must not be cached for longer than an answer.
        self.negative(zone, Some(ttl))?;
        Ok(Resolution::answer())
    }
}

fn address_record(writer: &mut Writer<'_>, owner: &[u8], address: IpAddr, ttl: u32) -> Result<(), Full> {
    match address {
        IpAddr::V4(address) => writer.record(Section::Answer, owner, rtype::A, ttl, &address.octets()),
        IpAddr::V6(address) => writer.record(Section::Answer, owner, rtype::AAAA, ttl, &address.octets()),
    }
}
