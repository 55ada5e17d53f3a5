//! The fast path: plain queries, answered by a look-up of the whole name.
//!
//! A plain query has one question of class IN, and at most an OPT record without options. If its name has records or a
//! service, is covered by a wildcard, or does not exist, the reply is put together here from parts that are ready:
//! the question, records whose owner points to it, the SOA record of the zone, the OPT record. For all else, such
//! as aliases, referrals and replies that are too long, [`respond`] gives nothing, and `resolve` answers. `tests/fast.rs` compares the two.

use rand::Rng;

use super::options::ExtendedError;
use super::{Client, Reply, ResponseKind, ServiceAnswer, Transport};
use crate::name;
use crate::pool::Family;
use crate::selection::Picked;
use crate::service::ServiceId;
use crate::settings::Settings;
use crate::table::{Decision, Table};
use crate::wire::edns::{OPT_LENGTH, option};
use crate::wire::{HEADER, MAX_MESSAGE, PLAIN_UDP, class, flag, rcode};
use crate::zone::{Catalog, Exact, Negative, NodeRef, Rrset, rtype};

/// Type and class after the name of a question.
const TYPE_AND_CLASS: usize = 4;
/// An owner that points to the name of the question.
const OWNER: [u8; 2] = [0xc0, 12];
/// Owner, type, class, TTL and length of data.
const RECORD_HEAD: usize = 12;
/// The length of an extended error without text, in an OPT record.
const EXPLAINED: u8 = 6;
/// The most parents of a missing name that are looked up; `resolve` takes names with more.
const MOST_PARENTS: usize = 4;

/// The query is for the long way.
struct LongWay;

/// Scratch space for the name of a question.
pub(super) type NameScratch = [u8; name::MAX_NAME + 1];

/// A plain query.
struct Plain<'q, 's> {
    id: [u8; 2],
    /// RD, as sent.
    copied: u16,
    /// Name, type and class, as sent.
    question: &'q [u8],
    /// In lower case.
    name: &'s [u8],
    qtype: u16,
    edns: Option<PlainEdns>,
}

/// An OPT record without options.
#[derive(Clone, Copy)]
struct PlainEdns {
    payload: u16,
    dnssec_ok: bool,
}

impl<'q, 's> Plain<'q, 's> {
    fn read(query: &'q [u8], scratch: &'s mut NameScratch) -> Option<Self> {
        let (&[i0, i1, f0, f1, counts @ ..], body) = query.split_first_chunk::<HEADER>()?;
        let flags = u16::from_be_bytes([f0, f1]);
        let [0, 1, 0, 0, 0, 0, 0, additional @ 0..=1] = counts else { return None };
        if flags & (flag::QR | flag::OPCODE) != 0 {
            return None;
        }
        let length = name::wire_length(body)?;
        let (question, rest) = body.split_at_checked(length + TYPE_AND_CLASS)?;
        let (wire, numbers) = question.split_at_checked(length)?;
        let &[t0, t1, c0, c1] = numbers.first_chunk()?;
        if u16::from_be_bytes([c0, c1]) != class::IN {
            return None;
        }
        let edns = match (additional, rest) {
            (0, []) => None,
            (1, &[0, 0, 41, p0, p1, 0, 0, z0, _, 0, 0]) => {
                Some(PlainEdns { payload: u16::from_be_bytes([p0, p1]), dnssec_ok: z0 & 0x80 != 0 })
            }
            _ => return None,
        };
        let name = scratch.get_mut(..length)?;
        name.copy_from_slice(wire);
        name.make_ascii_lowercase();
        let qtype = u16::from_be_bytes([t0, t1]);
        Some(Self { id: [i0, i1], copied: flags & flag::RD, question, name, qtype, edns })
    }
}

/// The type is answered with the records of one node: it is no query type, no meta type, and not one of a parent.
fn is_plain_type(qtype: u16) -> bool {
    !matches!(qtype, rtype::OPT | rtype::DS | 249..=255)
}

/// Whether records of a type can be copied as they are stored: they need no other records beside them, and their
/// data has no names that are compressed.
fn is_copied(rrset: &Rrset<'_>) -> bool {
    !matches!(
        rrset.rtype,
        rtype::NS | rtype::CNAME | rtype::SOA | rtype::PTR | rtype::MX | rtype::SRV | rtype::DNAME
    )
}

/// Answers a plain query, or returns `None` and leaves it to the long way.
pub(super) fn respond<'t, R: Rng>(
    query: &[u8],
    client: &Client,
    table: &'t Table,
    reply: &mut [u8],
    scratch: &mut NameScratch,
    (rng, picked): (&mut R, &mut Picked),
) -> Option<Reply<'t>> {
    let settings = &*table.settings;
    if client.transport == Transport::Udp && settings.cookies.as_ref().is_some_and(|cookies| cookies.required)
    {
        return None;
    }
    let plain = Plain::read(query, scratch)?;
    if !is_plain_type(plain.qtype) || !table.catalog.is_exact() {
        return None;
    }
    let mut reply = Assembly::begin(&plain, client.transport, settings, reply)?;
    let catalog = &table.catalog;
    let (found, rcode) = match catalog.exact(plain.name) {
        Some(found) => (found, rcode::NOERROR),
        None => match closest_parent(catalog, plain.name).ok()? {
            // No zone is there for the name, whatever its type.
            None => return reply.refused(&plain),
            Some(parent) if !parent.node.hides_children() => match wildcard(catalog, &parent).ok()? {
                Some(found) => (found, rcode::NOERROR),
                None => (parent, rcode::NXDOMAIN),
            },
            Some(_) => return None,
        },
    };
    let Exact { zone, node, negative } = found;
    if rcode == rcode::NXDOMAIN {
        reply.negative(negative, plain.name)?;
        return reply.finish(&plain, flag::AA | rcode, ResponseKind::NoName(zone.apex_name()), None);
    }
    if !node.is_plain() {
        return None;
    }
    let mut served = None;
    match family(plain.qtype).zip(node.service()) {
        Some((family, service)) => {
            served = service_answer(table, service, family, &mut reply, (rng, picked)).ok()?;
            if served.is_none() {
                reply.negative(negative, plain.name)?;
            }
        }
        None => static_answer(node, negative, &plain, &mut reply)?,
    }
    reply.finish(&plain, flag::AA, ResponseKind::Answer(node.name()), served)
}

/// The closest existing parent of a missing name; `None` if no parent exists.
fn closest_parent<'t>(catalog: &'t Catalog, name: &[u8]) -> Result<Option<Exact<'t>>, LongWay> {
    let mut rest = name;
    for _ in 0..MOST_PARENTS {
        let Some((&length, _)) = rest.split_first().filter(|(length, _)| **length > 0) else {
            return Ok(None);
        };
        rest = rest.get(usize::from(length) + 1..).ok_or(LongWay)?;
        if let Some(parent) = catalog.exact(rest) {
            return Ok(Some(parent));
        }
    }
    Err(LongWay)
}

/// The wildcard below a name, if it has one.
fn wildcard<'t>(catalog: &'t Catalog, parent: &Exact<'t>) -> Result<Option<Exact<'t>>, LongWay> {
    if !parent.node.has_wildcard() {
        return Ok(None);
    }
    let mut buffer = [0; name::MAX_NAME + 2];
    let wildcard = buffer.get_mut(..parent.node.name().len() + 2).ok_or(LongWay)?;
    let (label, rest) = wildcard.split_first_chunk_mut::<2>().ok_or(LongWay)?;
    *label = *b"\x01*";
    rest.copy_from_slice(parent.node.name());
    catalog.exact(wildcard).map(Some).ok_or(LongWay)
}

fn family(qtype: u16) -> Option<Family> {
    match qtype {
        rtype::A => Some(Family::Ipv4),
        rtype::AAAA => Some(Family::Ipv6),
        _ => None,
    }
}

/// Writes the records of the type, or the SOA record of NODATA.
fn static_answer(
    node: NodeRef<'_>,
    negative: &Negative,
    plain: &Plain<'_, '_>,
    reply: &mut Assembly<'_>,
) -> Option<()> {
    let Some(rrset) = node.rrset(plain.qtype) else { return reply.negative(negative, plain.name) };
    if !is_copied(&rrset) {
        return None;
    }
    let [t0, t1] = rrset.rtype.to_be_bytes();
    let [l0, l1, l2, l3] = rrset.ttl.to_be_bytes();
    let head = [OWNER[0], OWNER[1], t0, t1, 0, 1, l0, l1, l2, l3];
    let mut rest = rrset.data;
    while let Some((&[d0, d1], _)) = rest.split_first_chunk::<2>() {
        let (data, after) = rest.split_at_checked(2 + usize::from(u16::from_be_bytes([d0, d1])))?;
        reply.copied(&head, data)?;
        rest = after;
    }
    Some(())
}

/// Draws addresses and writes their records; `None` for NODATA.
fn service_answer<R: Rng>(
    table: &Table,
    id: ServiceId,
    family: Family,
    reply: &mut Assembly<'_>,
    (rng, picked): (&mut R, &mut Picked),
) -> Result<Option<ServiceAnswer>, LongWay> {
    let view = table.service(id).ok_or(LongWay)?;
    let service = &view.service;
    let (column, pool, draw) = match table.decision(view, family) {
        Decision::Tier { tier, pool, draw, .. } => (*tier, *pool, draw),
        Decision::FailOpen { pool, draw } => (service.tiers.len(), *pool, draw),
        Decision::NoAddress => return Ok(None),
        Decision::Down { .. } => return Err(LongWay),
    };
    draw.sampler.draw(rng, picked);
    for index in picked.indices_mut() {
        let member = draw.choice.members.get(*index as usize).ok_or(LongWay)?;
        reply.address(member.address, service.ttl).ok_or(LongWay)?;
        *index = member.backend;
    }
    Ok(Some(ServiceAnswer { service: id, column, pool: Some(pool) }))
}

/// A reply that is put together from ready parts.
struct Assembly<'b> {
    buffer: &'b mut [u8],
    length: usize,
    /// The end of the room for records, before that for the OPT record.
    end: usize,
    /// The maximum length of the reply.
    limit: usize,
    answers: u16,
    authorities: u16,
    edns: Option<(PlainEdns, u16)>,
    /// Explains the reply in the OPT record; without text.
    explanation: Option<ExtendedError>,
}

impl<'b> Assembly<'b> {
    fn begin(
        plain: &Plain<'_, '_>,
        transport: Transport,
        settings: &Settings,
        buffer: &'b mut [u8],
    ) -> Option<Self> {
        let limit = match (transport, plain.edns) {
            (Transport::Tcp, _) => MAX_MESSAGE,
            (Transport::Udp, None) => PLAIN_UDP,
            // A payload size below 512 counts as 512 (RFC 6891, section 6.2.3).
            (Transport::Udp, Some(edns)) => edns.payload.clamp(512, settings.udp_payload.max(512)).into(),
        };
        let limit = limit.min(buffer.len());
        let edns = plain.edns.map(|edns| (edns, settings.udp_payload));
        let end = limit.checked_sub(if edns.is_some() { OPT_LENGTH } else { 0 })?;
        let length = HEADER + plain.question.len();
        buffer.get_mut(HEADER..length)?.copy_from_slice(plain.question);
        Some(Self { buffer, length, end, limit, answers: 0, authorities: 0, edns, explanation: None })
    }

    /// The next `length` bytes of the room for records.
    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let end = self.length + length;
        if end > self.end {
            return None;
        }
        let room = self.buffer.get_mut(self.length..end)?;
        self.length = end;
        Some(room)
    }

    fn address(&mut self, address: std::net::IpAddr, ttl: u32) -> Option<()> {
        let [l0, l1, l2, l3] = ttl.to_be_bytes();
        let [o0, o1] = OWNER;
        match address {
            std::net::IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                let record = [o0, o1, 0, 1, 0, 1, l0, l1, l2, l3, 0, 4, a, b, c, d];
                self.room(record.len())?.copy_from_slice(&record);
            }
            std::net::IpAddr::V6(address) => {
                let room = self.room(RECORD_HEAD + 16)?;
                let (head, data) = room.split_first_chunk_mut::<RECORD_HEAD>()?;
                *head = [o0, o1, 0, 28, 0, 1, l0, l1, l2, l3, 0, 16];
                data.copy_from_slice(&address.octets());
            }
        }
        self.answers += 1;
        Some(())
    }

    /// A record of the answer: `data` begins with its length.
    fn copied(&mut self, head: &[u8; RECORD_HEAD - 2], data: &[u8]) -> Option<()> {
        let room = self.room(head.len() + data.len())?;
        let (start, rest) = room.split_first_chunk_mut()?;
        *start = *head;
        rest.copy_from_slice(data);
        self.answers += 1;
        Some(())
    }

    fn negative(&mut self, negative: &Negative, name: &[u8]) -> Option<()> {
        negative.write(self.room(negative.length())?, name.len())?;
        self.authorities += 1;
        Some(())
    }

    /// The reply to a name of no zone.
    fn refused<'t>(mut self, plain: &Plain<'_, '_>) -> Option<Reply<'t>> {
        if self.edns.is_some() {
            self.explanation = Some(ExtendedError::NOT_AUTHORITATIVE);
        }
        self.finish(plain, rcode::REFUSED, ResponseKind::Error(rcode::REFUSED), None)
    }

    /// Writes the OPT record and the header. `flags` are AA and the response code.
    fn finish<'t>(
        mut self,
        plain: &Plain<'_, '_>,
        flags: u16,
        kind: ResponseKind<'t>,
        service: Option<ServiceAnswer>,
    ) -> Option<Reply<'t>> {
        let mut additionals = 0;
        if let Some((edns, payload)) = self.edns {
            self.end = self.limit;
            let [p0, p1] = payload.to_be_bytes();
            let length = if self.explanation.is_some() { EXPLAINED } else { 0 };
            let opt = [0, 0, 41, p0, p1, 0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, length];
            self.room(OPT_LENGTH)?.copy_from_slice(&opt);
            if let Some(explanation) = self.explanation {
                let [c0, c1] = explanation.code.to_be_bytes();
                let [o0, o1] = option::EXTENDED_ERROR.to_be_bytes();
                self.room(EXPLAINED.into())?.copy_from_slice(&[o0, o1, 0, 2, c0, c1]);
            }
            additionals = 1;
        }
        let [i0, i1] = plain.id;
        let [f0, f1] = (flag::QR | plain.copied | flags).to_be_bytes();
        let [a0, a1] = self.answers.to_be_bytes();
        let [n0, n1] = self.authorities.to_be_bytes();
        *self.buffer.first_chunk_mut::<HEADER>()? = [i0, i1, f0, f1, 0, 1, a0, a1, n0, n1, 0, additionals];
        let Self { length, limit, .. } = self;
        let rcode = flags & 0xf;
        Some(Reply { length, rcode, truncated: false, kind, proven: false, signed: false, limit, service })
    }
}
