//! Turns a query into a reply: the single function that all transports, tests and benchmarks call.
//!
//! It reads only the published table. It returns facts about the reply, which the caller counts and
//! logs.

#![warn(clippy::indexing_slicing)]

mod explain;
mod fast;
mod options;
mod plain;
mod resolve;
pub mod size;
pub mod transfer;

use std::net::IpAddr;

use rand::Rng;

pub use self::explain::{Asked, DrawnAddress, Explained, RouteExplained, TierVerdict, explain};
pub use self::options::CookieProof;

use self::options::ExtendedError;
use self::plain::NameScratch;
use self::resolve::{Resolution, Resolver};
use crate::name;
use crate::pool::PoolId;
use crate::selection::Picked;
use crate::service::{RouteIndex, ServiceId};
use crate::settings::{Chaos, Settings};
use crate::table::Table;
use crate::wire::edns::{Edns, OPT_LENGTH, OptRecord};
use crate::wire::query::{Header, Malformed, find_edns};
use crate::wire::{Full, MAX_MESSAGE, PLAIN_UDP, Query, Question, Writer, class, flag, opcode, rcode};
use crate::zone::rtype;

/// The answer to `version.bind`.
const VERSION: &str = concat!("steerd ", env!("CARGO_PKG_VERSION"));

/// The transport of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A stream with length prefixes.
    Tcp,
}

/// The client of a query.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Source address.
    pub address: IpAddr,
    /// Source port.
    pub port: u16,
    /// The transport of the query.
    pub transport: Transport,
    /// The time of arrival in seconds since 1970, for cookies; read once per batch.
    pub time: u32,
}

/// The kind of a response, for counting similar responses together. Names are in lower-case wire
/// form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseKind<'n> {
    /// The name exists, with or without data. The value is its owner in the zone: that of the
    /// wildcard or DNAME if one was used.
    Answer(&'n [u8]),
    /// NXDOMAIN, with the apex of the zone.
    NoName(&'n [u8]),
    /// A referral, with the apex of the referring zone.
    Referral(&'n [u8]),
    /// Any other response code.
    Error(u16),
}

/// The result of handling a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition<'t> {
    /// No reply is due.
    Drop(DropReason),
    /// The reply is in the buffer.
    Reply(Reply<'t>),
}

/// The reason why a message gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Shorter than a header.
    Short,
    /// A response, not a query.
    Response,
    /// Sent from port 0, which no reply can reach.
    PortZero,
}

/// Facts about a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'t> {
    /// The length of the reply in the buffer.
    pub length: usize,
    /// The response code, with the extended bits of EDNS.
    pub rcode: u16,
    /// Whether TC is set.
    pub truncated: bool,
    /// The kind of the response, for counting.
    pub kind: ResponseKind<'t>,
    /// Whether a cookie proves the client's address.
    pub cookie: CookieProof,
    /// Whether the query has a TSIG record. Then the reply leaves room for one, as far as the
    /// question and the OPT record allow.
    pub signed: bool,
    /// The maximum length of the reply, including a TSIG record.
    pub limit: usize,
    /// The service that answered.
    pub service: Option<ServiceAnswer>,
}

/// How a service answered. [`Responder::picked`] has the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// The service.
    pub service: ServiceId,
    /// The route that answered.
    pub route: RouteIndex,
    /// The column of its counters: see `RouteView::column` and `ServiceView::down_column`; `None` for NODATA because the
    /// tier in use has no address of the family.
    pub column: Option<usize>,
    /// The pool from which backends were picked.
    pub pool: Option<PoolId>,
}

/// The per-thread state for answering: a random number generator and scratch space.
#[derive(Debug)]
pub struct Responder<R> {
    rng: R,
    picked: Picked,
    name: NameScratch,
}

impl<R: Rng> Responder<R> {
    /// Takes the random number generator for draws.
    pub fn new(rng: R) -> Self {
        Self { rng, picked: Picked::default(), name: [0; name::MAX_NAME + 1] }
    }

    /// Answers one query into `reply`, which must have room for 65,535 bytes over TCP and for the
    /// configured payload over UDP.
    pub fn respond<'t>(
        &mut self,
        query: &[u8],
        client: &Client,
        table: &'t Table,
        reply: &mut [u8],
    ) -> Disposition<'t> {
        self.picked.clear();
        if client.port != 0 {
            let draw = (&mut self.rng, &mut self.picked);
            if let Some(reply) = fast::respond(query, client, table, reply, &mut self.name, draw) {
                return Disposition::Reply(reply);
            }
            self.picked.clear();
        }
        self.respond_in_full(query, client, table, reply)
    }

    /// Answers any query. [`Responder::respond`] answers most queries without it, with the same
    /// result.
    #[inline(never)]
    fn respond_in_full<'t>(
        &mut self,
        query: &[u8],
        client: &Client,
        table: &'t Table,
        reply: &mut [u8],
    ) -> Disposition<'t> {
        let Some(header) = Header::read(query) else { return Disposition::Drop(DropReason::Short) };
        if header.is_response() {
            return Disposition::Drop(DropReason::Response);
        }
        if client.port == 0 {
            return Disposition::Drop(DropReason::PortZero);
        }
        let mut draft = Draft::new(header, client.transport, reply);
        let settings = &table.settings;
        if !matches!(header.opcode(), opcode::QUERY | opcode::NOTIFY) {
            // Other operations define their own sections. Only the OPT record is read.
            draft.begin_opt(find_edns(&header, query).as_ref(), settings);
            return draft.error(rcode::NOTIMP);
        }
        match Query::read(&header, query) {
            Ok(query) => self.answer(&query, client, table, draft),
            Err(Malformed { question, edns, is_edns_alone }) => {
                draft.begin(question.as_ref(), edns.as_ref(), None, settings);
                let proof = draft.heed(edns.as_ref(), client, settings);
                // A client may request only a cookie (RFC 7873, section 5.4).
                draft.error(match proof {
                    _ if is_edns_alone && edns.is_some_and(|edns| edns.version != 0) => rcode::BADVERS,
                    Some(CookieProof::Unproven | CookieProof::Proven) if is_edns_alone => rcode::NOERROR,
                    _ => rcode::FORMERR,
                })
            }
        }
    }

    fn answer<'d, 't: 'd>(
        &mut self,
        query: &Query<'_>,
        client: &Client,
        table: &'t Table,
        mut draft: Draft<'d>,
    ) -> Disposition<'t> {
        let settings = &table.settings;
        draft.begin(Some(&query.question), query.edns.as_ref(), query.signature, settings);
        let proof = draft.heed(query.edns.as_ref(), client, settings);
        let Some(proof) = proof else { return draft.error(rcode::FORMERR) };
        draft.cookie = proof;
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return draft.error(rcode::BADVERS);
        }
        if draft.header.opcode() == opcode::NOTIFY {
            return draft.notified(&query.question, table);
        }
        if client.transport == Transport::Udp
            && settings.cookies.as_ref().is_some_and(|cookies| cookies.required)
        {
            match proof {
                CookieProof::None => return draft.truncate(ResponseKind::Error(rcode::BADCOOKIE)),
                CookieProof::Unproven => return draft.error(rcode::BADCOOKIE),
                CookieProof::Proven => {}
            }
        }
        if query.question.qclass == class::CH {
            return draft.chaos(&query.question, settings);
        }
        if let Some((rcode, explanation)) = refusal(&query.question) {
            draft.explanation = explanation;
            return draft.error(rcode);
        }
        let start = draft.writer.mark();
        let address = options::steered_address(draft.opt.as_ref(), client);
        let mut resolver =
            Resolver::new(table, &mut self.rng, &mut self.picked, &mut draft.writer, (address, client.time));
        let resolved = resolver.resolve(&query.question);
        let (kind, scope) = (resolver.kind(), resolver.scope());
        if let Some(opt) = &mut draft.opt {
            opt.extend_scope(scope);
        }
        match resolved {
            Ok(resolution) => draft.reply(resolution, kind),
            Err(Full) => {
                // Never send part of an RRset: the client retries over TCP (RFC 2181, section 9).
                draft.writer.rewind(start);
                self.picked.clear();
                draft.truncate(kind.unwrap_or(ResponseKind::Error(rcode::NOERROR)))
            }
        }
    }

    /// The backends in the last reply, as indices within their pool.
    pub fn picked(&self) -> &[u32] {
        self.picked.indices()
    }
}

/// Writes an empty truncated reply instead of a full one. It is no longer than the query, and a
/// client whose address is genuine retries over TCP.
pub fn slip<'t>(query: &[u8], client: &Client, table: &'t Table, reply: &mut [u8]) -> Disposition<'t> {
    match Draft::bare(query, client, table, reply) {
        Some(draft) => draft.truncate(ResponseKind::Error(rcode::NOERROR)),
        None => Disposition::Drop(DropReason::Short),
    }
}

/// Writes a reply with only a response code, for queries that other code handles. Returns its
/// length.
pub fn refuse(query: &[u8], client: &Client, table: &Table, rcode: u16, reply: &mut [u8]) -> usize {
    match Draft::bare(query, client, table, reply).map(|draft| draft.error(rcode)) {
        Some(Disposition::Reply(reply)) => reply.length,
        _ => 0,
    }
}

/// The response code for questions that are never answered, whatever the name.
fn refusal(question: &Question<'_>) -> Option<(u16, Option<ExtendedError>)> {
    match (question.qclass, question.qtype) {
        (class::IN, rtype::OPT | rtype::TKEY | rtype::TSIG) => Some((rcode::FORMERR, None)),
        (class::IN, rtype::MAILA | rtype::MAILB) => Some((rcode::NOTIMP, None)),
        (class::IN, rtype::AXFR | rtype::IXFR) => Some((rcode::REFUSED, Some(ExtendedError::PROHIBITED))),
        (class::IN, _) => None,
        // Data of one class never answers queries for another class.
        _ => Some((rcode::REFUSED, Some(ExtendedError::NOT_AUTHORITATIVE))),
    }
}

/// A reply under construction.
///
/// ```text
/// header | question | records        | OPT record: head | options         | TSIG record
///                     what is left     reserved first     reserved third    reserved second
/// ```
struct Draft<'b> {
    header: Header,
    writer: Writer<'b>,
    transport: Transport,
    /// The maximum length of the reply, bytes.
    limit: usize,
    /// If a query has an OPT record, so has the reply, even an error (RFC 6891, section 7).
    opt: Option<OptRecord<'b>>,
    /// The extended error that explains a missing answer.
    explanation: Option<ExtendedError>,
    /// Whether a cookie proves the client's address.
    cookie: CookieProof,
    /// Whether the query has a TSIG record.
    signed: bool,
}

impl<'b> Draft<'b> {
    fn new(header: Header, transport: Transport, reply: &'b mut [u8]) -> Self {
        let limit = match transport {
            Transport::Udp => PLAIN_UDP,
            Transport::Tcp => MAX_MESSAGE,
        };
        Self {
            header,
            limit: limit.min(reply.len()),
            writer: Writer::new(reply, limit),
            transport,
            opt: None,
            explanation: None,
            cookie: CookieProof::None,
            signed: false,
        }
    }

    /// A draft with the question, and with an OPT record without options if the query has one.
    /// `None` if the message is not a valid query.
    fn bare(query: &[u8], client: &Client, table: &'b Table, reply: &'b mut [u8]) -> Option<Self> {
        let header = Header::read(query)?;
        let query = Query::read(&header, query).ok()?;
        let mut draft = Self::new(header, client.transport, reply);
        draft.begin(Some(&query.question), query.edns.as_ref(), query.signature, &table.settings);
        Some(draft)
    }

    /// Writes the question, and reserves room for the OPT and TSIG records. `signature` is the
    /// length of the query's TSIG record; the reply's has the same length, because it uses the same
    /// key.
    fn begin(
        &mut self,
        question: Option<&Question<'_>>,
        edns: Option<&Edns<'_>>,
        signature: Option<usize>,
        settings: &'b Settings,
    ) {
        if let Some(question) = question {
            // The question fits: the smallest limit is 512 bytes, enough for the longest question
            // and an OPT record. Only a TSIG record with two long names may not fit.
            let _ = self.writer.question(question.bytes);
        }
        self.begin_opt(edns, settings);
        self.signed = signature.is_some();
        self.writer.reserve(signature.unwrap_or(0));
    }

    /// Starts the OPT record of the reply if the client sent one, and applies the client's payload
    /// size.
    fn begin_opt(&mut self, edns: Option<&Edns<'_>>, settings: &'b Settings) {
        let Some(edns) = edns else { return };
        if self.transport == Transport::Udp {
            // A payload size below 512 counts as 512 (RFC 6891, section 6.2.3).
            self.limit = self.writer.limit_to(edns.payload.clamp(512, settings.udp_payload.max(512)).into());
        }
        self.writer.reserve(OPT_LENGTH);
        self.opt = Some(OptRecord::new(settings.udp_payload, edns.dnssec_ok));
    }

    /// Answers the client's options, in the room that the TSIG record leaves. `None` if one is
    /// malformed.
    fn heed(
        &mut self,
        edns: Option<&Edns<'_>>,
        client: &Client,
        settings: &'b Settings,
    ) -> Option<CookieProof> {
        let (Some(edns), Some(opt)) = (edns, &mut self.opt) else { return Some(CookieProof::None) };
        opt.make_room(self.writer.room());
        let proof = options::heed(&edns.asked, client, settings, opt);
        self.writer.reserve(opt.length() - OPT_LENGTH);
        proof
    }

    /// Answers a query for the version or identity, if configured.
    fn chaos<'t>(mut self, question: &Question<'_>, settings: &Settings) -> Disposition<'t> {
        let asked = matches!(question.qtype, rtype::TXT | rtype::ANY) && settings.chaos == Chaos::Version;
        let text: Option<&[u8]> = match question.name() {
            b"\x07version\x04bind\x00" | b"\x07version\x06server\x00" => Some(VERSION.as_bytes()),
            b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => settings.nsid.as_deref(),
            _ => None,
        };
        match text.filter(|_| asked).map(|text| self.writer.chaos_text(question.name(), text)) {
            Some(Ok(())) => self.finish(rcode::NOERROR, flag::AA, ResponseKind::Error(rcode::NOERROR), None),
            Some(Err(Full)) => self.truncate(ResponseKind::Error(rcode::NOERROR)),
            None => self.error(rcode::REFUSED),
        }
    }

    /// Answers a notification (RFC 1996), which announces a change at the primary of a zone. This
    /// server is the primary of its zones, so it only acknowledges the notification.
    fn notified<'t>(self, question: &Question<'_>, table: &Table) -> Disposition<'t> {
        if question.qtype != rtype::SOA {
            return self.error(rcode::NOTIMP);
        }
        let zone = table.catalog.find(question.name(), false);
        let is_ours =
            question.qclass == class::IN && zone.is_some_and(|zone| zone.apex_name() == question.name());
        if !is_ours {
            return self.error(rcode::NOTAUTH);
        }
        self.finish(rcode::NOERROR, flag::AA, ResponseKind::Error(rcode::NOERROR), None)
    }

    fn error<'t>(self, rcode: u16) -> Disposition<'t> {
        self.finish(rcode, 0, ResponseKind::Error(rcode), None)
    }

    /// Replies that the answer does not fit. AA is set only if the answer is authoritative.
    fn truncate(self, kind: ResponseKind<'_>) -> Disposition<'_> {
        let ours = matches!(kind, ResponseKind::Answer(_) | ResponseKind::NoName(_));
        self.finish(rcode::NOERROR, flag::TC | if ours { flag::AA } else { 0 }, kind, None)
    }

    fn reply(mut self, resolution: Resolution, kind: Option<ResponseKind<'_>>) -> Disposition<'_> {
        let kind = kind.unwrap_or(ResponseKind::Error(resolution.rcode));
        self.explanation = resolution.explanation;
        let flags = if resolution.authoritative { flag::AA } else { 0 };
        self.finish(resolution.rcode, flags, kind, resolution.served)
    }

    fn finish(
        mut self,
        rcode: u16,
        flags: u16,
        kind: ResponseKind<'_>,
        service: Option<ServiceAnswer>,
    ) -> Disposition<'_> {
        if let Some(opt) = &mut self.opt {
            if let Some(explanation) = self.explanation {
                opt.make_room(self.writer.room());
                explanation.write(opt);
            }
            // The room was reserved, or is known to be free, so this cannot fail.
            let _ = self.writer.reserved_room(opt.length()).map(|room| opt.write(rcode, room));
        }
        // Z, AD and CD are cleared (RFC 4035, section 3.1.6). So is RD, unless the operation
        // defines it.
        let defined = if self.header.opcode() == opcode::QUERY { flag::RD } else { 0 };
        let copied = self.header.flags & (flag::OPCODE | defined);
        let length = self.writer.finish(self.header.id, flag::QR | copied | flags | (rcode & 0xf));
        let truncated = flags & flag::TC != 0;
        let Self { cookie, signed, limit, .. } = self;
        Disposition::Reply(Reply { length, rcode, truncated, kind, cookie, signed, limit, service })
    }
}

#[cfg(test)]
mod tests;
