//! Checks the reply to arbitrary bytes.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steerd::answer::{self, Client, CookieProof, Disposition, DropReason, Responder, Transport};
use steerd::keys::Keys;
use steerd::settings::Settings;
use steerd::table::Table;
use steerd::wire::edns::option;
use steerd::wire::tsig::{self, TsigError};
use steerd::wire::{MAX_MESSAGE, PLAIN_UDP, flag, rcode};
use steerd::zone::rtype;

use super::allocation;
use super::query::{Asked, are_options};
use super::reply::Reply;
use super::world::{self, World};

/// The circumstances of a query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) client: Client,
    pub(crate) seed: u64,
}

impl Setting {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { client: Client { address: IPV4.into(), port: 5353, transport, time: world::NOW }, seed: 1 }
    }
}

/// Client addresses; client-subnet options of the first one may be believed.
pub(crate) const IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 200);

/// Answers an input of the fuzz target `respond` and checks the reply. Two bytes precede the query:
///
/// ```text
/// 0  bit 0: TCP                     bits 1-2: size of UDP replies
///    bit 3: source port 0           bit 4: NSID, version and client subnet are answered
///    bits 5-6: cookies              bit 7: the client has an IPv6 address
/// 1  seed of the generator
/// ```
pub(crate) fn check(world: &World, input: &[u8]) {
    let [bits, seed, query @ ..] = input else { return };
    let bit = |number: u8| bits >> number & 1 == 1;
    let mut setting = Setting::new(if bit(0) { Transport::Tcp } else { Transport::Udp });
    setting.seed = (*seed).into();
    if bit(3) {
        setting.client.port = 0;
    }
    if bit(7) {
        setting.client.address = IPV6.into();
    }
    let table = world.table_under(bits >> 1 & 3, bit(4), bits >> 5 & 3);
    ask(table, setting, query, |_| ());
    slip(table, &setting.client, query);
    verify(&world.keys, &setting.client, table, query);
}

/// The reply to a rate-limited client is empty and no longer than the query.
pub(crate) fn slip(table: &Table, client: &Client, query: &[u8]) {
    let mut buffer = [0xff; PLAIN_UDP];
    let (verdict, allocations) = allocation::calls_during(|| answer::slip(query, client, table, &mut buffer));
    assert_eq!(allocations, 0, "slipping allocates");
    let Disposition::Reply(facts) = verdict else { return };
    let asked = Asked::read(query).expect("less than a header gets no reply");
    let reply = Reply::read(&buffer[..facts.length]);
    assert_eq!((reply.id, reply.question, reply.rcode()), (asked.id, asked.question, rcode::NOERROR));
    assert!(reply.flags & flag::TC != 0 && facts.truncated && facts.length <= query.len());
    check_sections(&reply);
}

/// No key is known, so no signature is accepted, and the reply to a signature is well formed.
fn verify(keys: &Keys, client: &Client, table: &Table, query: &[u8]) {
    match tsig::verify(query, keys, world::NOW.into()) {
        Ok(signer) => assert!(signer.is_none(), "a signature is accepted without the key"),
        Err(TsigError::Malformed) => {}
        Err(TsigError::Refused(refusal)) => {
            let mut buffer = [0xff; 2 * PLAIN_UDP];
            let length = answer::refuse(query, client, table, rcode::NOTAUTH, &mut buffer);
            if let Ok(length) = refusal.append(&mut buffer, length, world::NOW.into())
                && length > 0
            {
                let reply = Reply::read(&buffer[..length]);
                let last = reply.additionals.last().expect("a TSIG record");
                assert_eq!((reply.rcode(), last.rtype, last.class), (rcode::NOTAUTH, rtype::TSIG, 255));
            }
        }
    }
}

/// Sends a query, checks the reply and passes it to `look`.
pub(crate) fn ask(table: &Table, setting: Setting, query: &[u8], look: impl FnOnce(&Reply<'_>)) {
    let Setting { client, seed } = setting;
    let room = match client.transport {
        Transport::Udp => usize::from(table.settings.udp_payload),
        Transport::Tcp => MAX_MESSAGE,
    };
    // Filled with bytes that cannot start a message, so that an excessive length is noticed.
    let mut buffer = vec![0xff; room];
    let mut responder = Responder::new(SmallRng::seed_from_u64(seed));
    let (verdict, allocations) =
        allocation::calls_during(|| responder.respond(query, &client, table, &mut buffer));
    assert_eq!(allocations, 0, "answering allocates");
    let asked = Asked::read(query);
    let facts = match (verdict, &asked) {
        (Disposition::Drop(DropReason::Short), None) => return,
        (Disposition::Drop(DropReason::Response), Some(asked)) if asked.flags & flag::QR != 0 => return,
        (Disposition::Drop(DropReason::PortZero), Some(_)) if client.port == 0 => return,
        (Disposition::Reply(facts), _) => facts,
        (Disposition::Drop(_), _) => panic!("{verdict:?} for {asked:?} by {client:?}"),
    };
    let asked = asked.expect("less than a header gets no reply");
    assert!(asked.flags & flag::QR == 0 && client.port != 0, "only a query gets a reply");

    let bytes = &buffer[..facts.length];
    let reply = Reply::read(bytes);
    check_header(&asked, &reply);
    check_size(&asked, &client, &table.settings, &reply, bytes.len());
    assert_eq!((facts.rcode, facts.truncated), (reply.rcode(), reply.flags & flag::TC != 0), "{facts:?}");
    check_sections(&reply);

    let picked = responder.picked().len();
    match facts.service {
        Some(served) if served.pool.is_some() => {
            let last = reply.answers.last().map(|record| record.owner.clone());
            let addresses = reply.answers.iter().filter(|record| Some(&record.owner) == last.as_ref());
            assert_eq!(picked, addresses.count(), "each picked backend is in the answer");
        }
        _ => assert_eq!(picked, 0, "nothing is picked unless a service answers"),
    }
    if readable_by_hickory(&reply) {
        let message = Message::from_vec(bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"));
        assert_eq!(message.answers.len(), reply.answers.len());
        assert_eq!(message.edns.is_some(), reply.opt.is_some());
    }
    // With the longest names, a signature leaves no room for the cookie.
    if facts.cookie == CookieProof::Proven && !facts.signed {
        assert!(reply.options().contains(&option::COOKIE), "a client with a cookie gets a new one");
    }
    look(&reply);
}

fn check_header(asked: &Asked<'_>, reply: &Reply<'_>) {
    // RD is defined only for standard queries.
    let defined = if asked.flags & flag::OPCODE == 0 { flag::RD } else { 0 };
    assert_eq!(reply.id, asked.id);
    assert!(reply.flags & flag::QR != 0, "a reply is a response");
    assert_eq!(
        reply.flags & (flag::OPCODE | flag::RD),
        asked.flags & (flag::OPCODE | defined),
        "the client's bits come back"
    );
    // Recursion is not available; Z, AD and CD are zero.
    assert_eq!(reply.flags & 0x00f0, 0);
    if asked.flags & flag::OPCODE == 0 || asked.is_notification() {
        assert_eq!(reply.question, asked.question, "the question comes back byte by byte");
        // A client may request only a cookie (RFC 7873, section 5.4).
        let is_cookie_alone = asked.questions == 0 && reply.rcode() == rcode::NOERROR && reply.opt.is_some();
        let is_other_version = asked.questions == 0 && asked.version != 0 && reply.rcode() == rcode::BADVERS;
        if !asked.whole && !is_cookie_alone && !is_other_version {
            assert_eq!(reply.rcode(), rcode::FORMERR, "{asked:?}");
        }
    } else {
        assert_eq!((reply.question, reply.rcode()), (None, rcode::NOTIMP));
    }
}

fn check_size(asked: &Asked<'_>, client: &Client, settings: &Settings, reply: &Reply<'_>, length: usize) {
    assert_eq!(reply.opt.is_some(), asked.payload.is_some(), "OPT is answered by OPT: {asked:?}");
    let limit = match (client.transport, asked.payload) {
        (Transport::Tcp, _) => MAX_MESSAGE,
        (Transport::Udp, None) => PLAIN_UDP,
        (Transport::Udp, Some(payload)) => usize::from(payload.clamp(512, settings.udp_payload)),
    };
    assert!(length <= limit, "{length} bytes, but the limit is {limit}");
    if let Some(opt) = &reply.opt {
        let [_, version, high, low] = opt.ttl.to_be_bytes();
        assert_eq!((opt.owner.as_slice(), opt.class), (&[0][..], settings.udp_payload));
        let dnssec_ok = if asked.dnssec_ok { 0x80 } else { 0 };
        assert_eq!((version, high, low), (0, dnssec_ok, 0), "version 0, and no flag but the client's DO");
        assert!(are_options(opt.data), "a truncated option: {:?}", opt.data);
    }
}

fn check_sections(reply: &Reply<'_>) {
    if reply.flags & flag::TC != 0 {
        let records = reply.answers.len() + reply.authorities.len() + reply.additionals.len();
        assert_eq!(records, 0, "a truncated reply has no partial answer");
    }
    let records = reply.answers.iter().chain(&reply.authorities).chain(&reply.additionals);
    let class = reply.question.and_then(|question| question.last_chunk()).copied();
    for record in records {
        assert_eq!(Some(record.class.to_be_bytes()), class, "{record:?}");
        assert!(record.ttl <= 0x7fff_ffff, "{record:?}");
    }
    match reply.rcode() {
        rcode::NOERROR | rcode::NXDOMAIN | rcode::YXDOMAIN => {}
        // An alias may lead to a service that is down.
        rcode::SERVFAIL => assert!(reply.authorities.is_empty()),
        _ => assert!(reply.answers.is_empty() && reply.authorities.is_empty() && reply.flags & flag::AA == 0),
    }
    // The reply to a notification says nothing about a name.
    let is_answer = reply.flags & flag::OPCODE == 0;
    let is_negative = reply.rcode() == rcode::NXDOMAIN
        || is_answer
            && reply.rcode() == rcode::NOERROR
            && reply.flags & flag::AA != 0
            && reply.answers.is_empty();
    let is_whole = reply.flags & flag::TC == 0;
    if is_negative && is_whole {
        let types: Vec<u16> = reply.authorities.iter().map(|record| record.rtype).collect();
        assert_eq!(types, [rtype::SOA], "a negative answer carries the SOA");
    }
}

/// Rules for rewriting a name (RFC 3403).
const NAPTR: u16 = 35;

/// Whether hickory-proto accepts all records. For some types it requires more of the data than BIND
/// and NSD, which load and serve it unchanged. It takes a record without data for part of an
/// update.
fn readable_by_hickory(reply: &Reply<'_>) -> bool {
    let mut records = reply.answers.iter().chain(&reply.authorities).chain(&reply.additionals);
    records.all(|record| match (record.rtype, record.data) {
        // ALPN identifiers in UTF-8; the standard allows any bytes (RFC 9460, section 7.1.1).
        (_, []) | (rtype::SVCB | rtype::HTTPS, _) => false,
        // Flags of letters and digits (RFC 3403, section 4.1).
        (NAPTR, [_, _, _, _, length, rest @ ..]) => {
            rest.iter().take(usize::from(*length)).all(u8::is_ascii_alphanumeric)
        }
        _ => true,
    })
}
