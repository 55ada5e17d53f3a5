//! From the bytes of a query to the bytes of its reply: the one function that every transport,
//! test and benchmark calls.
//!
//! It reads the published table and nothing else. What it has to say beyond the reply it returns
//! as facts; counting and logging them is the caller's.

#![warn(clippy::indexing_slicing)]

mod resolve;

use std::net::IpAddr;

use rand::Rng;

use self::resolve::{Resolution, Resolver};
use crate::pool::PoolId;
use crate::selection::Picked;
use crate::service::ServiceId;
use crate::table::Table;
use crate::wire::edns::{Edns, OPT_LENGTH, opt_record};
use crate::wire::query::Header;
use crate::wire::{Full, MAX_MESSAGE, PLAIN_UDP, Query, Question, Writer, class, flag, opcode, rcode};
use crate::zone::rtype;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A stream with length prefixes.
    Tcp,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Source address.
    pub address: IpAddr,
    /// Source port.
    pub port: u16,
    /// How the query came.
    pub transport: Transport,
}

/// What becomes of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No reply is due.
    Drop(DropReason),
    /// The reply stands in the buffer.
    Reply(Reply),
}

/// Why a message gets no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Shorter than a header.
    Short,
    /// A response, not a query.
    Response,
    /// Sent from port 0, to which no reply can go.
    PortZero,
}

/// The facts of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Bytes of the reply in the buffer.
    pub length: usize,
    /// The response code, with the extended bits of EDNS.
    pub rcode: u16,
    /// Whether TC is set.
    pub truncated: bool,
    /// The service that answered.
    pub service: Option<Served>,
}

/// How a service answered. The backends are in [`Responder::picked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The service.
    pub service: ServiceId,
    /// Column of its counters: the tier, or the number of tiers when no tier was usable.
    pub column: usize,
    /// The pool whose backends were picked.
    pub pool: Option<PoolId>,
}

/// One thread's means to answer: its generator and its scratch space.
#[derive(Debug)]
pub struct Responder<R> {
    rng: R,
    udp_payload: u16,
    picked: Picked,
}

impl<R: Rng> Responder<R> {
    /// `udp_payload` is the largest UDP reply, 512 to 4096.
    pub fn new(rng: R, udp_payload: u16) -> Self {
        Self { rng, udp_payload, picked: Picked::default() }
    }

    /// Answers one query into `reply`, which has room for 65,535 bytes over TCP and for
    /// `udp_payload` over UDP.
    pub fn respond(&mut self, query: &[u8], client: &Client, table: &Table, reply: &mut [u8]) -> Verdict {
        self.picked.clear();
        let Some(header) = Header::read(query) else { return Verdict::Drop(DropReason::Short) };
        if header.is_response() {
            return Verdict::Drop(DropReason::Response);
        }
        if client.port == 0 {
            return Verdict::Drop(DropReason::PortZero);
        }
        let mut draft = Draft::new(header, client.transport, self.udp_payload, reply);
        if header.opcode() != opcode::QUERY {
            // Other operations have sections of their own, so nothing but the header is looked at.
            return draft.error(rcode::NOTIMP);
        }
        let query = match Query::read(&header, query) {
            Ok(query) => query,
            Err(malformed) => {
                draft.edns(malformed.edns.as_ref());
                return match malformed.question.map(|question| draft.question(&question)) {
                    None | Some(Ok(())) => draft.error(rcode::FORMERR),
                    Some(Err(Full)) => draft.truncate(),
                };
            }
        };
        draft.edns(query.edns.as_ref());
        if draft.question(&query.question).is_err() {
            return draft.truncate();
        }
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return draft.error(rcode::BADVERS);
        }
        if let Some(refusal) = refusal(&query.question) {
            return draft.error(refusal);
        }
        let start = draft.writer.mark();
        let mut resolver = Resolver::new(table, &mut self.rng, &mut self.picked, &mut draft.writer);
        match resolver.resolve(&query.question) {
            Ok(resolution) => draft.reply(resolution),
            Err(Full) => {
                // Never a part of an RRset: the client asks again over TCP (RFC 2181, section 9).
                draft.writer.rewind(start);
                self.picked.clear();
                draft.truncate()
            }
        }
    }

    /// The backends, as indices within their pool, that the last reply holds addresses of.
    pub fn picked(&self) -> impl Iterator<Item = u32> {
        self.picked.indices().iter().copied()
    }
}

/// The code for a question that is understood and not answered, whatever the name.
fn refusal(question: &Question<'_>) -> Option<u16> {
    match (question.qclass, question.qtype) {
        (class::IN, rtype::OPT | rtype::TKEY | rtype::TSIG) => Some(rcode::FORMERR),
        (class::IN, rtype::MAILA | rtype::MAILB) => Some(rcode::NOTIMP),
        (class::IN, rtype::AXFR | rtype::IXFR) => Some(rcode::REFUSED),
        (class::IN, _) => None,
        // Data of one class is never an answer for another.
        _ => Some(rcode::REFUSED),
    }
}

/// A reply in the making: what the header and the OPT record will say.
struct Draft<'b> {
    header: Header,
    writer: Writer<'b>,
    transport: Transport,
    udp_payload: u16,
    /// The client's DO bit, if it sent an OPT record: then the reply has one too.
    edns: Option<bool>,
}

impl<'b> Draft<'b> {
    fn new(header: Header, transport: Transport, udp_payload: u16, reply: &'b mut [u8]) -> Self {
        let limit = match transport {
            Transport::Udp => PLAIN_UDP,
            Transport::Tcp => MAX_MESSAGE,
        };
        Self { header, writer: Writer::new(reply, limit), transport, udp_payload, edns: None }
    }

    /// Takes note of the client's OPT record: how much may be sent, and that one is sent back.
    fn edns(&mut self, edns: Option<&Edns<'_>>) {
        let Some(edns) = edns else { return };
        if self.transport == Transport::Udp {
            // A payload size below 512 is taken as 512 (RFC 6891, section 6.2.3).
            self.writer.limit_to(edns.payload.clamp(512, self.udp_payload.max(512)).into());
        }
        self.edns = Some(edns.dnssec_ok);
        self.writer.reserve(OPT_LENGTH);
    }

    fn question(&mut self, question: &Question<'_>) -> Result<(), Full> {
        self.writer.question(question.bytes)
    }

    fn error(self, rcode: u16) -> Verdict {
        self.finish(rcode, 0, None)
    }

    fn truncate(self) -> Verdict {
        self.finish(rcode::NOERROR, flag::AA | flag::TC, None)
    }

    fn reply(self, resolution: Resolution) -> Verdict {
        let flags = if resolution.authoritative { flag::AA } else { 0 };
        self.finish(resolution.rcode, flags, resolution.served)
    }

    fn finish(mut self, rcode: u16, flags: u16, served: Option<Served>) -> Verdict {
        if let Some(dnssec_ok) = self.edns {
            let opt = opt_record(self.udp_payload, rcode, dnssec_ok);
            // The room was kept back, so this cannot fail.
            let _ = self.writer.reserved(&opt);
        }
        let copied = self.header.flags & (flag::OPCODE | flag::RD | flag::CD);
        let length = self.writer.finish(self.header.id, flag::QR | copied | flags | (rcode & 0xf));
        Verdict::Reply(Reply { length, rcode, truncated: flags & flag::TC != 0, service: served })
    }
}

#[cfg(test)]
mod tests;
