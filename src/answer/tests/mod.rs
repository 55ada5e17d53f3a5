//! Tests replies with an independent parser (hickory-proto).

mod clients;
mod explained;
mod fast;
mod operations;
mod options;
mod persistent;
mod reflection;
mod services;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::name::Name;
use crate::pool::{Backend, Pool};
use crate::rules::RuleTableId;
use crate::service::{Answers, Persistence, Policy, Route, Service, WhenDown};
use crate::table::{PoolView, Services, Standing};
use crate::zone::{Catalog, reader};

const ZONE: &str = "\
$ORIGIN example.
$TTL 300
@ IN SOA ns1 hostmaster 1 3600 900 604800 60
@ NS ns1
@ NS ns2.elsewhere.
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
txt TXT hello world
mx MX 10 mail
mail A 192.0.2.25
alias CNAME www
chain CNAME alias
out CNAME www.elsewhere.
gone CNAME nothing
loop CNAME loop2
loop2 CNAME loop
self CNAME self
*.wild A 192.0.2.9
host.wild TXT here
x.y.ent A 192.0.2.10
sub NS ns.sub
sub NS ns.elsewhere.
ns.sub A 192.0.2.53
old DNAME new
a.new A 192.0.2.77
round DNAME round
below DNAME x.below
ping DNAME pong
pong DNAME x.ping
helps DNAME over
k.over DNAME m.helps
k.m.over A 192.0.2.78
$GENERATE 1-20 c$ CNAME c${1,0,d}
c21 A 192.0.2.79
www TXT beside
signed CNAME www
signed NSEC sub CNAME NSEC
$GENERATE 1-30 wide NS ns$.wide
$GENERATE 1-30 ns$.wide A 192.0.2.$
";

/// Four backends, 192.0.2.11 to .14, with weights 3, 2, 1 and 0; all services use them.
fn pool() -> Pool {
    let address = |index| IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10 + index));
    let backend = |(index, weight): (u8, u32)| Backend {
        weight,
        ..Backend::new(format!("b{index}"), vec![address(index)])
    };
    let backends = [(1, 3), (2, 2), (3, 1), (4, 0)].map(backend).to_vec();
    Pool::new("web", backends)
}

fn table(standing: [Standing; 4]) -> Table {
    table_of(&pool(), |backend| standing[backend])
}

/// A table in which all services answer from this pool.
fn table_of(pool: &Pool, standing: impl Fn(usize) -> Standing) -> Table {
    table_in(&[("example", ZONE)], pool, standing)
}

/// As [`table_of`], with these zones; the first one has the services.
fn table_in(zones: &[(&str, &str)], pool: &Pool, standing: impl Fn(usize) -> Standing) -> Table {
    let service = |name: &str, answers, policy, when_down| {
        let service = Service::new(Name::parse(name).unwrap(), vec![PoolId(0)]);
        Service { default: Route { answers, when_down, ..service.default }, policy, ..service }
    };
    let fixed = WhenDown::Addresses { ipv4: vec![Ipv4Addr::new(203, 0, 113, 1)], ipv6: vec![] };
    let by_client = Service {
        rules: vec![clients::rule("192.0.2.0/25", 5), clients::rule("2001:db8::/32", 6)],
        rule_table: Some(RuleTableId(0)),
        ..service("clients.example", Answers::AtMost(2), Policy::Weighted, WhenDown::NoData)
    };
    let rule_table = Arc::new(clients::compiled(&by_client));
    let services = [
        service("www.example", Answers::AtMost(2), Policy::Weighted, WhenDown::FailOpen),
        service("all.example", Answers::All, Policy::All, WhenDown::NoData),
        service("one.example", Answers::AtMost(1), Policy::Weighted, WhenDown::ServFail),
        service(
            "kept.example",
            Answers::AtMost(2),
            Policy::Persistent(Persistence::DEFAULT),
            WhenDown::FailOpen,
        ),
        service("*.apps.example", Answers::AtMost(2), Policy::Weighted, fixed),
        by_client,
    ];
    let zone = |(index, (apex, text)): (usize, &(&str, &str))| {
        let mut load = |_: &Path| Ok((*text).into());
        let mut zone = reader::read(Path::new("zone"), &Name::parse(apex).unwrap(), &mut load).unwrap();
        for (id, service) in (0..).zip(&services).filter(|_| index == 0) {
            zone.builder().bind_service(service.name.wire(), ServiceId(id)).unwrap();
        }
        zone.finish().unwrap()
    };
    let catalog = Catalog::new(zones.iter().enumerate().map(zone).collect());
    let services = Services::new(services);
    let view = PoolView::build(pool, None, |backend, _| standing(backend).into());
    Table::new(
        1,
        Arc::default(),
        Arc::new(catalog),
        Arc::new(services),
        [Arc::new(view)],
        SmallRng::seed_from_u64(1),
    )
    .with_rule_tables([rule_table].into())
}

const HEALTHY: [Standing; 4] = [Standing::Healthy; 4];

fn query(name: &str, rtype: u16, edns: Option<u16>) -> Vec<u8> {
    let mut wire = Vec::new();
    name::append_presentation(name.as_bytes(), &mut wire).unwrap();
    if wire.last() != Some(&0) {
        wire.push(0);
    }
    let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    query.extend(wire);
    query.extend(rtype.to_be_bytes());
    query.extend([0, 1]);
    if let Some(payload) = edns {
        query.extend([0, 0, 41]);
        query.extend(payload.to_be_bytes());
        query.extend([0, 0, 0x80, 0, 0, 0]);
    }
    query
}

fn client(transport: Transport) -> Client {
    Client { address: Ipv4Addr::LOCALHOST.into(), port: 5353, transport, time: 1 }
}

fn respond<'t>(table: &'t Table, query: &[u8], transport: Transport) -> (Disposition<'t>, Vec<u8>) {
    let mut responder = Responder::new(SmallRng::seed_from_u64(7));
    let mut buffer = vec![0; MAX_MESSAGE];
    let disposition = responder.respond(query, &client(transport), table, &mut buffer);
    if let Disposition::Reply(reply) = disposition {
        buffer.truncate(reply.length);
    }
    (disposition, buffer)
}

fn ask_over(table: &Table, name: &str, rtype: u16, edns: Option<u16>, transport: Transport) -> Message {
    let (disposition, reply) = respond(table, &query(name, rtype, edns), transport);
    assert!(matches!(disposition, Disposition::Reply(_)), "{name}: {disposition:?}");
    Message::from_vec(&reply).unwrap()
}

fn ask(table: &Table, name: &str, rtype: u16) -> Message {
    ask_over(table, name, rtype, Some(1232), Transport::Udp)
}

/// The records of a section as `owner ttl type data`.
fn shown(records: &[hickory_proto::rr::Record]) -> Vec<String> {
    records.iter().map(|r| format!("{} {} {} {}", r.name, r.ttl, r.record_type(), r.data)).collect()
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

const SOA: &str = "example. 60 SOA ns1.example. hostmaster.example. 1 3600 900 604800 60";

#[test]
fn static_answers() {
    let table = table(HEALTHY);
    let reply = ask(&table, "mx.example", rtype::MX);
    assert!(
        reply.metadata.authoritative
            && reply.metadata.recursion_desired
            && !reply.metadata.recursion_available
    );
    assert_eq!(reply.metadata.id, 0xabcd);
    assert_eq!(shown(&reply.answers), ["mx.example. 300 MX 10 mail.example."]);
    assert_eq!(shown(&reply.additionals), ["mail.example. 300 A 192.0.2.25"]);
    let reply = ask(&table, "example", rtype::NS);
    assert_eq!(reply.answers.len(), 2);
    assert_eq!(
        shown(&reply.additionals),
        ["ns1.example. 300 A 192.0.2.1", "ns1.example. 300 AAAA 2001:db8::1"]
    );
}

#[test]
fn negatives_carry_the_soa_with_the_smaller_ttl() {
    let table = table(HEALTHY);
    for (name, rtype, code) in [
        ("txt.example", rtype::A, ResponseCode::NoError),
        ("nothing.example", rtype::A, ResponseCode::NXDomain),
        ("a.txt.example", rtype::A, ResponseCode::NXDomain),
        ("ent.example", rtype::A, ResponseCode::NoError),
        ("y.ent.example", rtype::ANY, ResponseCode::NoError),
        ("z.y.ent.example", rtype::A, ResponseCode::NXDomain),
        ("a.wild.example", rtype::TXT, ResponseCode::NoError),
        ("www.example", rtype::MX, ResponseCode::NoError),
        ("www.example", rtype::HTTPS, ResponseCode::NoError),
        ("www.example", rtype::AAAA, ResponseCode::NoError),
        ("x.www.example", rtype::A, ResponseCode::NXDomain),
        ("apps.example", rtype::A, ResponseCode::NoError),
        ("example", rtype::DS, ResponseCode::NoError),
        ("sub.example", rtype::DS, ResponseCode::NoError),
    ] {
        let reply = ask(&table, name, rtype);
        assert_eq!(reply.metadata.response_code, code, "{name} {rtype}");
        assert!(reply.metadata.authoritative && reply.answers.is_empty(), "{name} {rtype}");
        assert_eq!(shown(&reply.authorities), [SOA], "{name} {rtype}");
    }
}

#[test]
fn aliases_are_followed_to_their_end_and_never_in_circles() {
    let table = table(HEALTHY);
    let reply = ask(&table, "chain.example", rtype::A);
    let answers = shown(&reply.answers);
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0], "chain.example. 300 CNAME alias.example.");
    assert_eq!(answers[1], "alias.example. 300 CNAME www.example.");
    assert!(answers[2].starts_with("www.example. 20 A 192.0.2.1"), "{answers:?}");
    assert_eq!(
        shown(&ask(&table, "out.example", rtype::A).answers),
        ["out.example. 300 CNAME www.elsewhere."]
    );
    let gone = ask(&table, "gone.example", rtype::A);
    assert_eq!((gone.metadata.response_code, gone.answers.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(shown(&gone.authorities), [SOA]);
    let nodata = ask(&table, "alias.example", rtype::MX);
    assert_eq!(
        (nodata.metadata.response_code, nodata.answers.len(), nodata.authorities.len()),
        (ResponseCode::NoError, 1, 1)
    );
    assert_eq!(ask(&table, "loop.example", rtype::A).answers.len(), 2);
    assert_eq!(ask(&table, "self.example", rtype::A).answers.len(), 1);
    assert_eq!(ask(&table, "chain.example", rtype::CNAME).answers.len(), 1);
}

#[test]
fn dname_is_followed_by_its_cname() {
    let table = table(HEALTHY);
    let answers = ask(&table, "A.old.example", rtype::A).answers;
    assert_eq!(
        (answers[0].record_type(), answers[0].name.to_string()),
        (RecordType::DNAME, "old.example.".into())
    );
    assert_eq!(
        shown(&answers[1..]),
        ["A.old.example. 300 CNAME a.new.example.", "a.new.example. 300 A 192.0.2.77"]
    );
    assert_eq!(shown(&ask(&table, "x.round.example", rtype::A).answers).len(), 2);
    let long = format!("{0}.{0}.{0}.{1}.round.example", "a".repeat(63), "b".repeat(46));
    assert_eq!(ask(&table, &long, rtype::A).metadata.response_code, ResponseCode::NoError);
    let longer = format!("{0}.{0}.{0}.{1}.old.example", "a".repeat(63), "b".repeat(48));
    assert_eq!(ask(&table, &longer, rtype::TXT).metadata.response_code, ResponseCode::NXDomain);
}

/// A resolver that followed these records up to its own limit would gain nothing.
#[test]
fn a_rewriting_that_cannot_help_ends_after_its_first_round() {
    let table = table(HEALTHY);
    let cnames = |name: &str| {
        let answers = ask(&table, name, rtype::A).answers;
        let cnames = answers.iter().filter(|record| record.record_type() == RecordType::CNAME);
        (answers.len(), cnames.map(|record| record.data.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(cnames("a.below.example"), (2, vec!["a.x.below.example.".into()]));
    assert_eq!(cnames("a.ping.example"), (4, vec!["a.pong.example.".into(), "a.x.ping.example.".into()]));
    // The second use of the same record leads to a different name.
    let told = vec!["k.k.over.example.".into(), "k.m.helps.example.".into(), "k.m.over.example.".into()];
    assert_eq!(cnames("k.k.helps.example"), (6, told));
}

#[test]
fn a_chain_is_followed_as_far_as_documented() {
    let table = table(HEALTHY);
    assert_eq!(ask(&table, "c5.example", rtype::A).answers.len(), 16 + 1, "16 aliases and the address");
    let longer = ask(&table, "c4.example", rtype::A);
    assert_eq!(longer.answers.len(), 16);
    assert!(longer.answers.iter().all(|record| record.record_type() == RecordType::CNAME));
    assert_eq!(longer.metadata.response_code, ResponseCode::NoError);
}

#[test]
fn referrals_are_not_authoritative_and_carry_glue() {
    let table = table(HEALTHY);
    for name in ["sub.example", "a.b.sub.example"] {
        let reply = ask(&table, name, rtype::A);
        assert!(!reply.metadata.authoritative && reply.answers.is_empty());
        assert_eq!(
            shown(&reply.authorities),
            ["sub.example. 300 NS ns.sub.example.", "sub.example. 300 NS ns.elsewhere."]
        );
        assert_eq!(shown(&reply.additionals), ["ns.sub.example. 300 A 192.0.2.53"]);
    }
    let reply = ask_over(&table, "a.wide.example", rtype::A, None, Transport::Udp);
    assert!(reply.metadata.truncation && !reply.metadata.authoritative);
}

#[test]
fn what_stands_beside_an_alias_is_not_followed() {
    let table = table(HEALTHY);
    let reply = ask(&table, "signed.example", rtype::NSEC);
    assert!(matches!(&reply.answers[..], [record] if record.record_type() == RecordType::NSEC));
    let reply = ask(&table, "signed.example", rtype::CNAME);
    assert_eq!(shown(&reply.answers), ["signed.example. 300 CNAME www.example."]);
    assert_eq!(ask(&table, "signed.example", rtype::TXT).answers.len(), 2);
}

#[test]
fn of_the_flags_only_rd_comes_back() {
    for (high, low) in [(0, 0xff), (1, 0xff), (0x7, 0)] {
        let mut query = query("mail.example", rtype::A, None);
        query[2..4].copy_from_slice(&[high, low]);
        let (_, reply) = respond(&table(HEALTHY), &query, Transport::Udp);
        assert_eq!(reply[2..4], [0x84 | high & 1, 0], "{high:#x} {low:#x}");
    }
}

#[test]
fn any_gets_one_small_answer() {
    let table = table(HEALTHY);
    for name in ["example", "www.example", "a.wild.example", "x.apps.example"] {
        let reply = ask(&table, name, rtype::ANY);
        assert_eq!(reply.answers.len(), 1, "{name}");
        assert_eq!(reply.answers[0].record_type(), RecordType::HINFO, "{name}");
    }
    assert_eq!(ask(&table, "nothing.example", rtype::ANY).metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn what_is_not_ours_is_refused() {
    let table = table(HEALTHY);
    for name in ["elsewhere", ".", "xexample", "com"] {
        let reply = ask(&table, name, rtype::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{name}");
        assert!(!reply.metadata.authoritative && reply.authorities.is_empty() && reply.edns.is_some());
        assert_eq!(reply.queries.len(), 1);
    }
    for (at, value) in [(1, 3), (1, 4), (1, 254), (1, 255), (0, 1)] {
        let mut query = query("www.example", rtype::A, None);
        let class = query.len() - 2;
        query[class + at] = value;
        let (_, reply) = respond(&table, &query, Transport::Udp);
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "class byte {value}");
        assert!(reply.answers.is_empty());
    }
}

#[test]
fn truncation_keeps_the_opt_record_and_drops_all_else() {
    let mut many = pool();
    many.backends = (0..100)
        .map(|index| Backend::new(index.to_string(), vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, index))]))
        .collect();
    let table = table_of(&many, |_| Standing::Healthy);
    for (edns, transport, full) in [
        (None, Transport::Udp, false),
        (Some(1232), Transport::Udp, false),
        (Some(65_535), Transport::Udp, false),
        (None, Transport::Tcp, true),
        (Some(512), Transport::Tcp, true),
    ] {
        let reply = ask_over(&table, "all.example", rtype::A, edns, transport);
        assert_eq!(reply.metadata.truncation, !full, "{edns:?} {transport:?}");
        assert_eq!(reply.answers.len(), if full { 100 } else { 0 });
        assert_eq!(reply.edns.is_some(), edns.is_some());
        if let Some(edns) = &reply.edns {
            assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (1232, true));
        }
    }
}

#[test]
fn an_edns_version_we_do_not_know_is_badvers() {
    let mut query = query("www.example", rtype::A, Some(1232));
    let version = query.len() - 5;
    query[version] = 1;
    let table = table(HEALTHY);
    let (disposition, reply) = respond(&table, &query, Transport::Udp);
    assert!(matches!(disposition, Disposition::Reply(Reply { rcode: rcode::BADVERS, .. })));
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), rcode::BADVERS);
    assert!(reply.answers.is_empty() && reply.edns.is_some());
}

#[test]
fn the_gate() {
    let table = table(HEALTHY);
    let good = query("www.example", rtype::A, None);
    for opcode in 0..16_u8 {
        for response in [false, true] {
            for questions in [0, 1, 2] {
                let mut query = good.clone();
                query[2] = opcode << 3 | u8::from(response) << 7;
                query[5] = questions;
                let (disposition, reply) = respond(&table, &query, Transport::Udp);
                let expected = match (response, opcode, questions) {
                    (true, ..) => {
                        assert_eq!(disposition, Disposition::Drop(DropReason::Response));
                        continue;
                    }
                    (_, 0, 1) => rcode::NOERROR,
                    (_, 0 | 4, 0 | 2) => rcode::FORMERR,
                    _ => rcode::NOTIMP,
                };
                assert!(
                    matches!(disposition, Disposition::Reply(Reply { rcode, .. }) if rcode == expected),
                    "{disposition:?}"
                );
                assert_eq!(reply[2] & 0xf8, 0x80 | opcode << 3, "the operation code is copied");
            }
        }
    }
    let mut responder = Responder::new(SmallRng::seed_from_u64(7));
    let client = Client { port: 0, ..client(Transport::Udp) };
    assert_eq!(
        responder.respond(&good, &client, &table, &mut [0; 512]),
        Disposition::Drop(DropReason::PortZero)
    );
}

/// Prefixes, flipped bytes and noise: nothing panics, and every reply can be parsed, is no longer
/// than the client accepts, and has the id of the query.
#[test]
fn hostile_bytes() {
    let table = table(HEALTHY);
    let seeds: Vec<Vec<u8>> =
        ["www.example", "chain.example", "x.round.example", "a.b.sub.example", "nothing.example"]
            .iter()
            .flat_map(|name| [query(name, rtype::A, Some(4096)), query(name, rtype::ANY, None)])
            .collect();
    let seed = 99;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cases: Vec<Vec<u8>> =
        seeds.iter().flat_map(|s| (0..=s.len()).map(|cut| s[..cut].to_vec())).collect();
    for _ in 0..50_000 {
        let mut case = seeds[rng.random_range(0..seeds.len())].clone();
        for _ in 0..rng.random_range(1..5) {
            let at = rng.random_range(0..case.len());
            case[at] = rng.random();
        }
        cases.push(case);
    }
    for _ in 0..20_000 {
        cases.push((0..rng.random_range(0..80)).map(|_| rng.random()).collect());
    }
    for case in cases {
        for transport in [Transport::Udp, Transport::Tcp] {
            let (disposition, reply) = respond(&table, &case, transport);
            match disposition {
                Disposition::Drop(DropReason::Short) => assert!(case.len() < 12),
                Disposition::Drop(_) => assert!(case[2] & 0x80 != 0, "{case:02x?} (seed {seed})"),
                Disposition::Reply(_) => {
                    assert!(reply.len() <= 1232 || transport == Transport::Tcp);
                    assert_eq!(reply[..2], case[..2]);
                    let read = Message::from_vec(&reply);
                    assert!(read.is_ok(), "{case:02x?} -> {reply:02x?}: {read:?} (seed {seed})");
                }
            }
        }
    }
}

#[test]
fn an_address_of_the_reply_is_the_address_of_the_backend() {
    let reply = ask(&table(HEALTHY), "all.example", rtype::A);
    let mut got: Vec<Ipv4Addr> = reply
        .answers
        .iter()
        .map(|record| match &record.data {
            RData::A(address) => address.0,
            other => panic!("{other}"),
        })
        .collect();
    got.sort();
    assert_eq!(got, [11, 12, 13].map(|last| Ipv4Addr::new(192, 0, 2, last)), "weight 0 is never answered");
}
