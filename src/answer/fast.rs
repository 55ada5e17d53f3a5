//! The fast path: plain queries that one or two look-ups answer.
//!
//! A plain query has one question of class IN, and at most an OPT record without options. If its name exists and is
//! no alias, or does not exist below a name without wildcard, delegation or DNAME, the reply is put together here
//! from parts that are ready: the question, records whose owner points to it, the SOA record of the zone, the
//! OPT record. For all else [`respond`] gives nothing, and `resolve` answers. A test compares the two.

use rand::Rng;

use super::{Client, Reply, ResponseKind, Served, Transport};
use crate::name;
use crate::pool::Family;
use crate::selection::{self, Picked};
use crate::service::{Policy, ServiceId};
use crate::settings::Settings;
use crate::table::{Decision, Table};
use crate::wire::edns::OPT_LENGTH;
use crate::wire::{HEADER, MAX_MESSAGE, PLAIN_UDP, class, flag, rcode};
use crate::zone::{Exact, Negative, NodeRef, Rrset, rtype};

/// Type and class after the name of a question.
const TYPE_AND_CLASS: usize = 4;
/// An owner that points to the name of the question.
const OWNER: [u8; 2] = [0xc0, HEADER as u8];
/// Owner, type, class, TTL and length of data.
const RECORD_HEAD: usize = 12;
/// The most parents of a missing name that are looked up; `resolve` finds deeper ones.
const MOST_PARENTS: usize = 2;

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
        let additional = match counts {
            [0, 1, 0, 0, 0, 0, 0, additional @ 0..=1] => additional,
            _ => return None,
        };
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
    if !is_plain_type(plain.qtype) {
        return None;
    }
    let mut reply = Assembly::begin(&plain, client.transport, settings, reply)?;
    match table.catalog.exact(plain.name) {
        Some(Exact { node, .. }) if !node.is_plain() => None,
        Some(Exact { node, negative, .. }) => {
            let kind = ResponseKind::Answer(node.name());
            match family(plain.qtype).zip(node.service()) {
                Some((family, service)) => {
                    let served = service_answer(table, service, family, &mut reply, (rng, picked))?;
                    if served.is_none() {
                        reply.negative(negative, plain.name)?;
                    }
                    reply.finish(&plain, rcode::NOERROR, kind, served)
                }
                None => {
                    static_answer(node, negative, &plain, &mut reply)?;
                    reply.finish(&plain, rcode::NOERROR, kind, None)
                }
            }
        }
        None => {
            let parent = closest_parent(table, plain.name)?;
            let kind = ResponseKind::NoName(parent.zone.apex_name());
            reply.negative(parent.negative, plain.name)?;
            reply.finish(&plain, rcode::NXDOMAIN, kind, None)
        }
    }
}

/// The closest existing parent of a missing name, if it makes the name not exist.
fn closest_parent<'t>(table: &'t Table, name: &[u8]) -> Option<Exact<'t>> {
    let mut rest = name;
    for _ in 0..MOST_PARENTS {
        let (&length, _) = rest.split_first().filter(|(length, _)| **length > 0)?;
        rest = rest.get(usize::from(length) + 1..)?;
        if let Some(parent) = table.catalog.exact(rest) {
            return Some(parent).filter(|parent| parent.node.has_plain_children());
        }
    }
    None
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

/// Draws addresses and writes their records. The inner value is none if the answer is NODATA; the outer, if the
/// service is down or the records do not fit.
fn service_answer<R: Rng>(
    table: &Table,
    id: ServiceId,
    family: Family,
    reply: &mut Assembly<'_>,
    (rng, picked): (&mut R, &mut Picked),
) -> Option<Option<Served>> {
    let view = table.service(id)?;
    let service = &view.service;
    let (column, pool, choice) = match table.decision(view, family) {
        Decision::Tier { tier, pool, choice, .. } => (*tier, *pool, choice),
        Decision::FailOpen { pool, choice } => (service.tiers.len(), *pool, choice),
        Decision::NoAddress => return Some(None),
        Decision::Down { .. } => return None,
    };
    match service.policy {
        Policy::Weighted => {
            selection::weighted(&choice.candidates, service.answers.limit(), rng, picked);
        }
        Policy::All => selection::uniform(choice.members.len(), service.answers.limit(), rng, picked),
    }
    for index in picked.indices_mut() {
        let member = choice.members.get(*index as usize)?;
        reply.address(member.address, service.ttl)?;
        *index = member.backend;
    }
    Some(Some(Served { service: id, column, pool: Some(pool) }))
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
        Some(Self { buffer, length, end, limit, answers: 0, authorities: 0, edns })
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

    fn finish<'t>(
        mut self,
        plain: &Plain<'_, '_>,
        rcode: u16,
        kind: ResponseKind<'t>,
        service: Option<Served>,
    ) -> Option<Reply<'t>> {
        let mut additionals = 0;
        if let Some((edns, payload)) = self.edns {
            self.end = self.limit;
            let [p0, p1] = payload.to_be_bytes();
            let opt = [0, 0, 41, p0, p1, 0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0];
            self.room(OPT_LENGTH)?.copy_from_slice(&opt);
            additionals = 1;
        }
        let [i0, i1] = plain.id;
        let [f0, f1] = (flag::QR | flag::AA | plain.copied | rcode).to_be_bytes();
        let [a0, a1] = self.answers.to_be_bytes();
        let [n0, n1] = self.authorities.to_be_bytes();
        *self.buffer.first_chunk_mut::<HEADER>()? = [i0, i1, f0, f1, 0, 1, a0, a1, n0, n1, 0, additionals];
        let Self { length, limit, .. } = self;
        Some(Reply { length, rcode, truncated: false, kind, proven: false, signed: false, limit, service })
    }
}
