//! The fast path: answers usual queries with one lookup of the whole name.
//!
//! A usual query has one question of class IN, and at most an OPT record. If its name has records, a service or an
//! alias, is covered by a wildcard, or does not exist, this module assembles the reply from prepared parts: the
//! question, records whose owner points to it, the SOA record of the zone, the OPT record. In all other cases, such as
//! referrals, long chains of aliases and names in two zones, [`respond`] returns `None`, and `resolve` answers.
//! `tests/fast.rs` compares the two.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::Rng;

use super::options::{self, CookieProof, ExtendedError};
use super::plain::{NameScratch, Plain};
use super::{Client, Reply, ResponseKind, ServiceAnswer, Transport, size};
use crate::name;
use crate::pool::Family;
use crate::selection::Picked;
use crate::service::{Route, ServiceId, WhenDown};
use crate::settings::Settings;
use crate::table::{Decision, Draw, Table};
use crate::wire::edns::{OPT_LENGTH, OptRecord, QueryOptions};
use crate::wire::{HEADER, MAX_MESSAGE, PLAIN_UDP, flag, rcode};
use crate::zone::{Catalog, Exact, Negative, ReadyAnswer, Rrset, rtype};

/// The length of owner, type, class, TTL and data length.
const RECORD_HEAD: usize = 12;
/// The most parents of a missing name that are looked up; for more, `resolve` answers.
const MOST_PARENTS: usize = 4;
/// The flags of most answers.
const AUTHORITATIVE: u16 = flag::AA | rcode::NOERROR;
/// The most aliases that are followed. Longer chains, which may be loops, are left to `resolve`.
const MOST_ALIASES: u16 = 2;

/// Why a reply cannot be assembled.
enum FastStop {
    /// The query needs the general path.
    LongWay,
    /// The answer does not fit.
    Full,
}

/// Whether the records of one node answer the type: it is neither a query type nor a meta type, and does not belong to
/// the parent.
fn is_plain_type(qtype: u16) -> bool {
    !matches!(qtype, rtype::OPT | rtype::DS | 249..=255)
}

/// Whether records of a type are copied as stored: they need no additional records, and the names in their data are
/// rarely names in the question.
fn is_copied(rrset: &Rrset<'_>) -> bool {
    !matches!(rrset.rtype, rtype::NS | rtype::SOA | rtype::MX | rtype::SRV)
}

/// Answers a usual query; `None` leaves it to the general path.
pub(super) fn respond<'t, R: Rng>(
    query: &[u8],
    client: &Client,
    table: &'t Table,
    reply: &mut [u8],
    scratch: &mut NameScratch,
    (rng, picked): (&mut R, &mut Picked),
) -> Option<Reply<'t>> {
    let settings = &*table.settings;
    let plain = Plain::read(query, scratch)?;
    if !is_plain_type(plain.qtype) || !table.catalog.is_exact() {
        return None;
    }
    let mut opt = OptRecord::new(settings.udp_payload, plain.edns.is_some_and(|edns| edns.dnssec_ok));
    let mut reply = Assembly::begin(&plain, client, settings, reply, &mut opt)?;
    let catalog = &table.catalog;
    let (mut found, mut exists) = (catalog.exact(plain.name), true);
    if found.is_none() {
        (found, exists) = covering(catalog, plain.name).ok()?;
    }
    let (flags, kind) = match found {
        // No zone has the name, so the type does not matter.
        None => {
            reply.explanation = Some(ExtendedError::NOT_AUTHORITATIVE);
            (rcode::REFUSED, ResponseKind::Error(rcode::REFUSED))
        }
        Some(parent) if !exists => {
            reply.negative(parent.negative, plain.name, None).ok()?;
            (flag::AA | rcode::NXDOMAIN, ResponseKind::NoName(parent.node.zone().apex_name()))
        }
        Some(found) => {
            let flags = match answer(table, &found, &plain, &mut reply, (rng, &mut *picked)) {
                Ok(flags) => flags,
                Err(FastStop::LongWay) => return None,
                // On the general path, the owner of a record may be shorter: the root name is, and so are targets that
                // share more labels.
                Err(FastStop::Full) if plain.name.len() == 1 || reply.aliases > 0 => return None,
                Err(FastStop::Full) => {
                    // Never send part of an RRset: the client retries over TCP (RFC 2181, section 9).
                    picked.clear();
                    reply.rewind(&plain);
                    flag::AA | flag::TC
                }
            };
            (flags, ResponseKind::Answer(found.node.name()))
        }
    };
    reply.finish(&plain, flags, kind)
}

/// The wildcard that covers a missing name, or else its closest existing parent, and whether it is a wildcard.
fn covering<'t>(catalog: &'t Catalog, name: &[u8]) -> Result<(Option<Exact<'t>>, bool), FastStop> {
    let Some(parent) = closest_parent(catalog, name)? else { return Ok((None, false)) };
    if parent.node.hides_children() {
        return Err(FastStop::LongWay);
    }
    Ok(match wildcard(catalog, &parent)? {
        Some(wildcard) => (Some(wildcard), true),
        None => (Some(parent), false),
    })
}

/// Writes the records of an existing name. Returns AA and the response code.
fn answer<R: Rng>(
    table: &Table,
    found: &Exact<'_>,
    plain: &Plain<'_, '_>,
    reply: &mut Assembly<'_, '_>,
    draw: (&mut R, &mut Picked),
) -> Result<u16, FastStop> {
    let node = found.node;
    if node.is_delegated() {
        return Err(FastStop::LongWay);
    }
    if let Some((family, service)) = family(plain.qtype).zip(node.service()) {
        return service_answer(table, (service, family), (plain, found.negative), reply, draw);
    }
    if let Some(alias) = node.cname() {
        let is_asked_for = plain.qtype == rtype::CNAME;
        if is_asked_for || node.rrset(plain.qtype).is_none() {
            return alias_answer(table, (found, &alias), plain, reply, draw);
        }
    }
    static_answer(&table.catalog, found, plain, reply)?;
    Ok(AUTHORITATIVE)
}

/// Writes an alias and the records of its target.
#[inline(never)]
fn alias_answer<R: Rng>(
    table: &Table,
    (found, alias): (&Exact<'_>, &Rrset<'_>),
    plain: &Plain<'_, '_>,
    reply: &mut Assembly<'_, '_>,
    draw: (&mut R, &mut Picked),
) -> Result<u16, FastStop> {
    if reply.aliases == MOST_ALIASES {
        return Err(FastStop::LongWay);
    }
    // The question ends with the apex of the first alias's zone, but perhaps not with that of a later one.
    let zone = if reply.aliases == 0 { found.node.zone().apex_name() } else { &[0] };
    reply.alias(alias.first(), alias.ttl, &QuestionInZone { name: plain.name, zone })?;
    if plain.qtype == rtype::CNAME {
        return Ok(AUTHORITATIVE);
    }
    match target(&table.catalog, alias.first())? {
        Some(target) => answer(table, &target, plain, reply, draw),
        None => Ok(AUTHORITATIVE),
    }
}

/// The target of an alias; `None` if it is outside the zones here, which ends the answer.
fn target<'t>(catalog: &'t Catalog, name: &[u8]) -> Result<Option<Exact<'t>>, FastStop> {
    let mut buffer = [0; name::MAX_NAME];
    let lowered = buffer.get_mut(..name.len()).ok_or(FastStop::LongWay)?;
    lowered.copy_from_slice(name);
    lowered.make_ascii_lowercase();
    match catalog.exact(lowered) {
        Some(found) => Ok(Some(found)),
        None if catalog.find(lowered, false).is_none() => Ok(None),
        None => Err(FastStop::LongWay),
    }
}

/// The closest existing parent of a missing name; `None` if no parent exists.
fn closest_parent<'t>(catalog: &'t Catalog, name: &[u8]) -> Result<Option<Exact<'t>>, FastStop> {
    let mut rest = name;
    for _ in 0..MOST_PARENTS {
        let Some((&length, _)) = rest.split_first().filter(|(length, _)| **length > 0) else {
            return Ok(None);
        };
        rest = rest.get(usize::from(length) + 1..).ok_or(FastStop::LongWay)?;
        if let Some(parent) = catalog.exact(rest) {
            return Ok(Some(parent));
        }
    }
    Err(FastStop::LongWay)
}

/// The wildcard below a name, if it has one.
fn wildcard<'t>(catalog: &'t Catalog, parent: &Exact<'t>) -> Result<Option<Exact<'t>>, FastStop> {
    if !parent.node.has_wildcard() {
        return Ok(None);
    }
    let mut buffer = [0; name::MAX_NAME + 2];
    let wildcard = buffer.get_mut(..parent.node.name().len() + 2).ok_or(FastStop::LongWay)?;
    let (label, rest) = wildcard.split_first_chunk_mut::<2>().ok_or(FastStop::LongWay)?;
    *label = *b"\x01*";
    rest.copy_from_slice(parent.node.name());
    catalog.exact(wildcard).map(Some).ok_or(FastStop::LongWay)
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
    catalog: &Catalog,
    found: &Exact<'_>,
    plain: &Plain<'_, '_>,
    reply: &mut Assembly<'_, '_>,
) -> Result<(), FastStop> {
    let Some(rrset) = found.node.rrset(plain.qtype) else {
        return reply.negative(found.negative, plain.name, None);
    };
    if !is_copied(&rrset) {
        let ready = catalog.ready(found, plain.qtype).filter(|_| reply.answers == 0);
        return reply.ready(&ready.ok_or(FastStop::LongWay)?);
    }
    if rrset.rtype == rtype::A
        && let (records, []) = rrset.data.as_chunks()
    {
        let addresses = records.iter().map(|[_, _, a, b, c, d]| [*a, *b, *c, *d]);
        return reply.addresses((rtype::A, rrset.ttl), records.len(), addresses);
    }
    let [o0, o1] = reply.owner;
    let [t0, t1] = rrset.rtype.to_be_bytes();
    let [l0, l1, l2, l3] = rrset.ttl.to_be_bytes();
    let head = [o0, o1, t0, t1, 0, 1, l0, l1, l2, l3];
    let mut rest = rrset.data;
    while let Some((&[d0, d1], _)) = rest.split_first_chunk::<2>() {
        let length = 2 + usize::from(u16::from_be_bytes([d0, d1]));
        let (data, after) = rest.split_at_checked(length).ok_or(FastStop::LongWay)?;
        // Names in PTR data may be compressed, so the records may still fit.
        let is_exact = rrset.rtype != rtype::PTR;
        reply.copied(&head, data).map_err(|stop| if is_exact { stop } else { FastStop::LongWay })?;
        rest = after;
    }
    Ok(())
}

/// Writes the addresses of a service, or its answer without addresses.
fn service_answer<R: Rng>(
    table: &Table,
    (id, family): (ServiceId, Family),
    (plain, negative): (&Plain<'_, '_>, &Negative),
    reply: &mut Assembly<'_, '_>,
    draw: (&mut R, &mut Picked),
) -> Result<u16, FastStop> {
    let view = table.service(id).ok_or(FastStop::LongWay)?;
    let (route, scope) = table.route(view, || reply.steered_address());
    reply.extend_scope(scope);
    let (column, pool, from) = match table.decision(route, family) {
        Decision::Tier { tier, pool, draw, .. } => (route.column(*tier, *pool), *pool, draw),
        Decision::FailOpen { pool, draw } => (view.down_column(), *pool, draw),
        Decision::NoAddress => {
            reply.negative(negative, plain.name, table.nodata_ttl(route, family, reply.time))?;
            reply.served = Some(ServiceAnswer { service: id, route: route.index, column: None, pool: None });
            return Ok(AUTHORITATIVE);
        }
        Decision::Down { .. } => {
            let ttl = table.ttl(route, reply.time);
            let flags = down((route.route, ttl), family, (plain, negative), reply)?;
            reply.served = Some(ServiceAnswer {
                service: id,
                route: route.index,
                column: Some(view.down_column()),
                pool: None,
            });
            return Ok(flags);
        }
    };
    drawn(from, family, table.ttl(route, reply.time), reply, draw)?;
    reply.served =
        Some(ServiceAnswer { service: id, route: route.index, column: Some(column), pool: Some(pool) });
    Ok(AUTHORITATIVE)
}

/// Writes a service's answer when no tier is usable. Returns AA and the response code.
#[inline(never)]
fn down(
    (route, ttl): (&Route, u32),
    family: Family,
    (plain, negative): (&Plain<'_, '_>, &Negative),
    reply: &mut Assembly<'_, '_>,
) -> Result<u16, FastStop> {
    match &route.when_down {
        WhenDown::ServFail => {
            reply.explanation = Some(ExtendedError::ALL_DOWN);
            return Ok(rcode::SERVFAIL);
        }
        WhenDown::Addresses { ipv4, ipv6 } => match family {
            Family::Ipv4 => {
                reply.addresses((rtype::A, ttl), ipv4.len(), ipv4.iter().map(Ipv4Addr::octets))?;
            }
            Family::Ipv6 => {
                reply.addresses((rtype::AAAA, ttl), ipv6.len(), ipv6.iter().map(Ipv6Addr::octets))?;
            }
        },
        WhenDown::NoData | WhenDown::FailOpen => {}
    }
    if reply.answers == reply.aliases {
        // The pool may recover at any time, so NODATA must not be cached for longer than an answer.
        reply.negative(negative, plain.name, Some(ttl))?;
    }
    Ok(flag::AA | rcode::NOERROR)
}

/// Draws addresses and writes their records.
#[inline]
fn drawn<R: Rng>(
    draw: &Draw,
    family: Family,
    ttl: u32,
    reply: &mut Assembly<'_, '_>,
    (rng, picked): (&mut R, &mut Picked),
) -> Result<(), FastStop> {
    // Checked first, because a draw that does not fit costs as much as one that does.
    if draw.answers() * size::of_address(family) > reply.end - reply.length {
        return Err(FastStop::Full);
    }
    let scope = draw.select(|| reply.steered_address(), rng, picked);
    reply.extend_scope(scope);
    // Each index becomes that of its backend in the pool.
    let address = |index: &mut u32| {
        let member = &draw.addresses.get(*index as usize)?.member;
        *index = member.backend;
        Some(member.address)
    };
    let indices = picked.indices_mut();
    let count = indices.len();
    match family {
        Family::Ipv4 => {
            let addresses = indices.iter_mut().map_while(|index| match address(index)? {
                IpAddr::V4(address) => Some(address.octets()),
                IpAddr::V6(_) => None,
            });
            reply.addresses((rtype::A, ttl), count, addresses)
        }
        Family::Ipv6 => {
            let addresses = indices.iter_mut().map_while(|index| match address(index)? {
                IpAddr::V4(_) => None,
                IpAddr::V6(address) => Some(address.octets()),
            });
            reply.addresses((rtype::AAAA, ttl), count, addresses)
        }
    }
}

/// The name of the question. It ends with the apex of its zone.
struct QuestionInZone<'q> {
    name: &'q [u8],
    zone: &'q [u8],
}

/// A reply that is assembled from prepared parts.
struct Assembly<'b, 's> {
    buffer: &'b mut [u8],
    length: usize,
    /// The end of the room for records; the room for the OPT record follows.
    end: usize,
    /// The maximum length of the reply.
    limit: usize,
    /// A pointer to the name that is answered: that of the question, or the target of the last alias.
    owner: [u8; 2],
    answers: u16,
    /// How many of the answers are aliases.
    aliases: u16,
    authorities: u16,
    additionals: u16,
    opt: Option<&'b mut OptRecord<'s>>,
    client: &'b Client,
    /// Explains the reply in the OPT record.
    explanation: Option<ExtendedError>,
    served: Option<ServiceAnswer>,
    cookie: CookieProof,
    /// The time of arrival in seconds since 1970.
    time: u32,
}

impl<'b, 's> Assembly<'b, 's> {
    /// Writes the question, and reserves room for the OPT record with its options. `None` if an option is
    /// malformed, or a cookie is required and missing.
    #[inline]
    fn begin(
        plain: &Plain<'_, '_>,
        client: &'b Client,
        settings: &'s Settings,
        buffer: &'b mut [u8],
        opt: &'b mut OptRecord<'s>,
    ) -> Option<Self> {
        let limit = match (client.transport, plain.edns) {
            (Transport::Tcp, _) => MAX_MESSAGE,
            (Transport::Udp, None) => PLAIN_UDP,
            // A payload size below 512 counts as 512 (RFC 6891, section 6.2.3).
            (Transport::Udp, Some(edns)) => edns.payload.clamp(512, settings.udp_payload.max(512)).into(),
        };
        let limit = limit.min(buffer.len());
        let length = HEADER + plain.question.len();
        let (mut end, mut cookie) = (limit, CookieProof::None);
        if let Some(edns) = plain.edns {
            if !edns.options.is_empty() {
                opt.make_room(limit.checked_sub(length + OPT_LENGTH)?);
                cookie = options::heed(&QueryOptions::read(edns.options)?, client, settings, opt)?;
            }
            end = limit.checked_sub(opt.length())?;
        }
        let opt = plain.edns.map(|_| opt);
        let is_required = || settings.cookies.as_ref().is_some_and(|cookies| cookies.required);
        if client.transport == Transport::Udp && cookie != CookieProof::Proven && is_required() {
            return None;
        }
        buffer.get_mut(HEADER..length)?.copy_from_slice(plain.question);
        let owner = pointer(HEADER)?;
        Some(Self {
            buffer,
            length,
            end,
            limit,
            owner,
            answers: 0,
            aliases: 0,
            authorities: 0,
            additionals: 0,
            opt,
            client,
            explanation: None,
            served: None,
            cookie,
            time: client.time,
        })
    }

    /// The address of the client for which the answer is made.
    fn steered_address(&self) -> IpAddr {
        options::steered_address(self.opt.as_deref(), self.client)
    }

    /// Notes that the answer depends on this many leading bits of that address.
    #[inline]
    fn extend_scope(&mut self, bits: u8) {
        if bits > 0
            && let Some(opt) = self.opt.as_deref_mut()
        {
            opt.extend_scope(bits);
        }
    }

    /// Drops all records.
    fn rewind(&mut self, plain: &Plain<'_, '_>) {
        self.length = HEADER + plain.question.len();
        (self.answers, self.authorities, self.additionals, self.served) = (0, 0, 0, None);
    }

    /// Reserves the next `length` bytes for records.
    #[inline]
    fn room(&mut self, length: usize) -> Result<&mut [u8], FastStop> {
        let end = self.length + length;
        if end > self.end {
            return Err(FastStop::Full);
        }
        let room = self.buffer.get_mut(self.length..end).ok_or(FastStop::LongWay)?;
        self.length = end;
        Ok(room)
    }

    /// Writes the records of `count` addresses, each `N` bytes long, into room that is reserved once.
    #[inline]
    fn addresses<const N: usize>(
        &mut self,
        (rtype, ttl): (u16, u32),
        count: usize,
        mut addresses: impl Iterator<Item = [u8; N]>,
    ) -> Result<(), FastStop> {
        let [o0, o1] = self.owner;
        let [t0, t1] = rtype.to_be_bytes();
        let [l0, l1, l2, l3] = ttl.to_be_bytes();
        let [_, _, d0, d1] = u32::try_from(N).map_err(|_| FastStop::LongWay)?.to_be_bytes();
        let head = [o0, o1, t0, t1, 0, 1, l0, l1, l2, l3, d0, d1];
        let room = self.room(count * (RECORD_HEAD + N))?;
        for record in room.chunks_exact_mut(RECORD_HEAD + N) {
            let (start, data) = record.split_first_chunk_mut().ok_or(FastStop::LongWay)?;
            *start = head;
            *data.first_chunk_mut().ok_or(FastStop::LongWay)? = addresses.next().ok_or(FastStop::LongWay)?;
        }
        self.answers += u16::try_from(count).map_err(|_| FastStop::LongWay)?;
        Ok(())
    }

    /// Writes an answer record: `data` begins with its length.
    fn copied(&mut self, head: &[u8; RECORD_HEAD - 2], data: &[u8]) -> Result<(), FastStop> {
        let room = self.room(head.len() + data.len())?;
        let (start, rest) = room.split_first_chunk_mut().ok_or(FastStop::LongWay)?;
        *start = *head;
        rest.copy_from_slice(data);
        self.answers += 1;
        Ok(())
    }

    /// Writes a CNAME record. The records after it belong to its target.
    fn alias(&mut self, target: &[u8], ttl: u32, question: &QuestionInZone<'_>) -> Result<(), FastStop> {
        let data = self.length + RECORD_HEAD;
        let (before, apex) = match target.len().checked_sub(question.zone.len()) {
            Some(before) if question.zone.len() > 1 && name::is_within_any_case(target, question.zone) => (
                before,
                Some(pointer(HEADER + question.name.len() - question.zone.len()).ok_or(FastStop::LongWay)?),
            ),
            _ => (target.len(), None),
        };
        let labels = target.get(..before).ok_or(FastStop::LongWay)?;
        let length = labels.len() + apex.map_or(0, |pointer| pointer.len());
        let [o0, o1] = self.owner;
        let [l0, l1, l2, l3] = ttl.to_be_bytes();
        let [d0, d1] = u16::try_from(length).map_err(|_| FastStop::LongWay)?.to_be_bytes();
        // If it does not fit, a better compressed name may fit.
        let room = self.room(RECORD_HEAD + length).map_err(|_| FastStop::LongWay)?;
        let (head, rest) = room.split_first_chunk_mut::<RECORD_HEAD>().ok_or(FastStop::LongWay)?;
        *head = [o0, o1, 0, 5, 0, 1, l0, l1, l2, l3, d0, d1];
        let (start, end) = rest.split_at_mut_checked(before).ok_or(FastStop::LongWay)?;
        start.copy_from_slice(labels);
        if let Some(pointer) = apex {
            end.copy_from_slice(&pointer);
        }
        self.owner = pointer(data).ok_or(FastStop::LongWay)?;
        self.answers += 1;
        self.aliases += 1;
        Ok(())
    }

    /// Writes a prepared answer. It must directly follow the question.
    fn ready(&mut self, ready: &ReadyAnswer<'_>) -> Result<(), FastStop> {
        // If it does not fit, it may fit without the additional records.
        let room = self.room(ready.bytes.len()).map_err(|_| FastStop::LongWay)?;
        room.copy_from_slice(ready.bytes);
        self.answers += ready.answers;
        self.additionals += ready.additionals;
        Ok(())
    }

    /// Writes the SOA record, with a TTL of at most `longest`. It must directly follow the question.
    fn negative(&mut self, negative: &Negative, name: &[u8], longest: Option<u32>) -> Result<(), FastStop> {
        if self.answers > 0 {
            return Err(FastStop::LongWay);
        }
        // If it does not fit, a record with better compressed names may fit.
        let room = self.room(negative.length()).map_err(|_| FastStop::LongWay)?;
        negative.write(room, name.len(), longest).ok_or(FastStop::LongWay)?;
        self.authorities += 1;
        Ok(())
    }

    /// Writes the OPT record and the header. `flags` are AA, TC and the response code.
    #[inline]
    fn finish<'t>(&mut self, plain: &Plain<'_, '_>, flags: u16, kind: ResponseKind<'t>) -> Option<Reply<'t>> {
        let rcode = flags & 0xf;
        let (mut length, mut additionals) = (self.length, self.additionals);
        if let Some(opt) = self.opt.as_deref_mut() {
            if let Some(explanation) = self.explanation {
                opt.make_room(self.end - length);
                explanation.write(opt);
            }
            let room = self.buffer.get_mut(length..self.limit)?;
            opt.write(rcode, room)?;
            length += opt.length();
            additionals += 1;
        }
        let [i0, i1] = plain.id;
        let [f0, f1] = (flag::QR | plain.copied | flags).to_be_bytes();
        let [a0, a1] = self.answers.to_be_bytes();
        let [n0, n1] = self.authorities.to_be_bytes();
        let [r0, r1] = additionals.to_be_bytes();
        *self.buffer.first_chunk_mut::<HEADER>()? = [i0, i1, f0, f1, 0, 1, a0, a1, n0, n1, r0, r1];
        let Self { limit, cookie, served: service, .. } = *self;
        let truncated = flags & flag::TC != 0;
        Some(Reply { length, rcode, truncated, kind, cookie, signed: false, limit, service })
    }
}

/// A compression pointer to an offset in the message (RFC 1035, section 4.1.4).
fn pointer(offset: usize) -> Option<[u8; 2]> {
    let offset = u16::try_from(offset).ok().filter(|offset| *offset < 0x4000)?;
    Some((0xc000 | offset).to_be_bytes())
}
