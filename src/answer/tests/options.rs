//! EDNS options and what they bring back.

use std::net::IpAddr;

use super::*;
use crate::cookie::{Cookie, CookieSecrets};
use crate::network::{Network, Networks};
use crate::settings::{Chaos, Cookies, Settings};
use crate::wire::edns::option;

const CLIENT_COOKIE: [u8; 8] = *b"12345678";

fn secrets() -> CookieSecrets {
    CookieSecrets::new(vec![[7; 16]]).unwrap()
}

pub(super) fn table_with(change: impl FnOnce(&mut Settings)) -> Table {
    let mut settings = Settings {
        nsid: Some(Box::from(&b"here"[..])),
        cookies: Some(Cookies { secrets: secrets(), required: false }),
        client_subnet: ["127.0.0.0/8".parse::<Network>().unwrap()].into_iter().collect(),
        chaos: Chaos::Version,
        ..Settings::default()
    };
    change(&mut settings);
    Table { settings: Arc::new(settings), ..table(HEALTHY) }
}

/// A query for `name` with these options.
fn query_with(name: &str, rtype: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = query(name, rtype, Some(1232));
    let data: Vec<u8> = options
        .iter()
        .flat_map(|(code, value)| {
            let length = u16::try_from(value.len()).unwrap();
            [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
        })
        .collect();
    let at = bytes.len() - 2;
    bytes[at..].copy_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

/// The response code and the options of the reply, which ends with its OPT record.
fn told(table: &Table, query: &[u8], transport: Transport) -> (u16, Vec<(u16, Vec<u8>)>) {
    let (verdict, reply) = respond(table, query, transport);
    let Verdict::Reply(facts) = verdict else { panic!("{verdict:?}") };
    Message::from_vec(&reply).unwrap();
    let opt = (0..reply.len() - 10)
        .rev()
        .find(|&at| {
            reply[at..].starts_with(&[0, 0, 41, 4, 208])
                && usize::from(reply[at + 9]) << 8 | usize::from(reply[at + 10]) == reply.len() - at - 11
        })
        .expect("an OPT record at the end");
    let mut rest = &reply[opt + 11..];
    let mut options = Vec::new();
    while let [c0, c1, l0, l1, after @ ..] = rest {
        let (value, after) = after.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        options.push((u16::from_be_bytes([*c0, *c1]), value.to_vec()));
        rest = after;
    }
    assert!(rest.is_empty());
    (facts.rcode, options)
}

fn options_of(table: &Table, options: &[(u16, &[u8])]) -> (u16, Vec<(u16, Vec<u8>)>) {
    told(table, &query_with("www.example", rtype::A, options), Transport::Udp)
}

#[test]
fn unknown_options_are_passed_over_and_nsid_only_answers_who_asks() {
    let table = table_with(|_| {});
    assert_eq!(options_of(&table, &[(65_001, b"x"), (12, &[0; 40])]), (0, vec![]));
    assert_eq!(options_of(&table, &[(option::NSID, b"")]), (0, vec![(option::NSID, b"here".to_vec())]));
    let silent = table_with(|settings| settings.nsid = None);
    assert_eq!(options_of(&silent, &[(option::NSID, b"")]), (0, vec![]));
}

#[test]
fn cookies_are_checked_renewed_and_required_when_asked_for() {
    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let optional = table_with(|_| {});
    let (code, options) = options_of(&optional, &[(option::COOKIE, &CLIENT_COOKIE)]);
    assert_eq!((code, options[0].0, &options[0].1[..8]), (0, option::COOKIE, &CLIENT_COOKIE[..]));
    assert_eq!(secrets().check(&options[0].1, client, 1), Cookie::Proven(CLIENT_COOKIE));
    let good = options[0].1.clone();

    for malformed in [0, 1, 7, 9, 15, 41] {
        assert_eq!(
            options_of(&optional, &[(option::COOKIE, &vec![1; malformed])]).0,
            rcode::FORMERR,
            "{malformed}"
        );
    }
    let foreign = [&CLIENT_COOKIE[..], &[9; 16]].concat();
    assert_eq!(options_of(&optional, &[(option::COOKIE, &foreign)]).0, rcode::NOERROR);

    let required =
        table_with(|settings| settings.cookies = Some(Cookies { secrets: secrets(), required: true }));
    assert_eq!(options_of(&required, &[(option::COOKIE, &good)]).0, rcode::NOERROR);
    let (code, options) = options_of(&required, &[(option::COOKIE, &foreign)]);
    assert_eq!((code, options.len()), (rcode::BADCOOKIE, 1), "the cookie to come back with is in the error");
    let bare = query("www.example", rtype::A, None);
    let (verdict, _) = respond(&required, &bare, Transport::Udp);
    assert!(matches!(verdict, Verdict::Reply(Reply { truncated: true, service: None, .. })));
    let (verdict, _) = respond(&required, &bare, Transport::Tcp);
    assert!(matches!(verdict, Verdict::Reply(Reply { truncated: false, .. })));

    let off = table_with(|settings| settings.cookies = None);
    assert_eq!(options_of(&off, &[(option::COOKIE, b"x")]), (0, vec![]));
}

#[test]
fn a_cookie_can_be_asked_for_alone() {
    let mut alone = query_with("x", rtype::A, &[(option::COOKIE, &CLIENT_COOKIE)]);
    alone.drain(12..12 + 3 + 4);
    alone[5] = 0;
    let (code, options) = told(&table_with(|_| {}), &alone, Transport::Udp);
    assert_eq!((code, options[0].0), (rcode::NOERROR, option::COOKIE));
    let without = table_with(|settings| settings.cookies = None);
    assert_eq!(told(&without, &alone, Transport::Udp).0, rcode::FORMERR);
}

#[test]
fn client_subnets_come_back_with_scope_0_to_those_that_are_believed() {
    let subnet: &[u8] = &[0, 1, 24, 0, 192, 0, 2];
    let believed = table_with(|_| {});
    assert_eq!(
        options_of(&believed, &[(option::CLIENT_SUBNET, subnet)]),
        (0, vec![(option::CLIENT_SUBNET, subnet.to_vec())])
    );
    assert_eq!(options_of(&believed, &[(option::CLIENT_SUBNET, &[0, 1, 24, 0, 192])]).0, rcode::FORMERR);
    let nobody = table_with(|settings| settings.client_subnet = Networks::default());
    assert_eq!(options_of(&nobody, &[(option::CLIENT_SUBNET, subnet)]), (0, vec![]));
    assert_eq!(options_of(&nobody, &[(option::CLIENT_SUBNET, &[0, 1, 24, 0, 192])]), (0, vec![]));
}

#[test]
fn keepalive_is_for_tcp() {
    let table = table_with(|_| {});
    let ask = |value: &[u8]| query_with("www.example", rtype::A, &[(option::KEEPALIVE, value)]);
    assert_eq!(told(&table, &ask(b""), Transport::Tcp).1, [(option::KEEPALIVE, vec![0, 100])]);
    assert_eq!(told(&table, &ask(&[0, 1]), Transport::Tcp).0, rcode::FORMERR);
    assert_eq!(told(&table, &ask(b""), Transport::Udp).1, []);
}

#[test]
fn errors_are_explained() {
    let table = table_with(|_| {});
    for (name, rtype, code, explained) in [
        ("elsewhere", rtype::A, rcode::REFUSED, 20),
        ("example", rtype::AXFR, rcode::REFUSED, 18),
        ("example", rtype::IXFR, rcode::REFUSED, 18),
    ] {
        let (rcode, options) = told(&table, &query_with(name, rtype, &[]), Transport::Udp);
        assert_eq!((rcode, options), (code, vec![(option::EXTENDED_ERROR, vec![0, explained])]));
    }
    let down = Table { pools: super::table([Standing::Unhealthy; 4]).pools, ..table };
    let (rcode, options) = told(&down, &query_with("one.example", rtype::A, &[]), Transport::Udp);
    assert_eq!((rcode, &options[0].1[2..]), (rcode::SERVFAIL, &b"no healthy backend"[..]));
}

/// Every option at once takes room from nothing: the reply still fits, or is truncated whole.
#[test]
fn options_and_the_limit() {
    let table = table_with(|settings| settings.nsid = Some(vec![b'n'; crate::settings::MAX_NSID].into()));
    let options: &[(u16, &[u8])] = &[
        (option::NSID, b""),
        (option::COOKIE, &CLIENT_COOKIE),
        (option::CLIENT_SUBNET, &[0, 2, 128, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ];
    for name in ["www.example", "elsewhere", "chain.example", "example"] {
        let mut query = query_with(name, rtype::A, options);
        let payload = query.len() - 2 - options.iter().map(|(_, value)| 4 + value.len()).sum::<usize>() - 6;
        query[payload..payload + 2].copy_from_slice(&512_u16.to_be_bytes());
        let (verdict, reply) = respond(&table, &query, Transport::Udp);
        assert!(matches!(verdict, Verdict::Reply(_)) && reply.len() <= 512, "{name}");
        assert!(Message::from_vec(&reply).unwrap().edns.is_some());
    }
}

#[test]
fn chaos_says_version_and_name_when_it_may() {
    let ask = |table: &Table, name: &str, qtype: u16| {
        let mut bytes = query(name, qtype, None);
        let class = bytes.len() - 1;
        bytes[class] = 3;
        let (_, reply) = respond(table, &bytes, Transport::Udp);
        let message = Message::from_vec(&reply).unwrap();
        let text = message.answers.first().map(|record| record.data.to_string());
        (u16::from(message.metadata.response_code), text)
    };
    let version = table_with(|_| {});
    let expected = Some(format!("steerd {}", env!("CARGO_PKG_VERSION")));
    for name in ["version.bind", "VERSION.server"] {
        assert_eq!(ask(&version, name, rtype::TXT), (0, expected.clone()), "{name}");
    }
    for name in ["id.server", "hostname.bind"] {
        assert_eq!(ask(&version, name, rtype::TXT), (0, Some("here".into())), "{name}");
    }
    for (name, qtype) in [("version.bind", rtype::A), ("authors.bind", rtype::TXT), ("www.example", rtype::A)]
    {
        assert_eq!(ask(&version, name, qtype), (rcode::REFUSED, None), "{name}");
    }
    let refusing = table_with(|settings| settings.chaos = Chaos::Refuse);
    assert_eq!(ask(&refusing, "version.bind", rtype::TXT), (rcode::REFUSED, None));
}
