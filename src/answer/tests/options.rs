//! EDNS options of queries, and the options of the replies.

use std::net::IpAddr;

use super::*;
use crate::cookie::{Cookie, CookieSecrets};
use crate::network::{Network, Networks};
use crate::settings::{Chaos, Cookies, Settings};
use crate::wire::HEADER;
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
    let mut table = table(HEALTHY);
    table.settings = Arc::new(settings);
    table
}

/// A query for `name` with these options.
pub(super) fn query_with(name: &str, rtype: u16, options: &[(u16, &[u8])]) -> Vec<u8> {
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

/// The response code and the options of the reply.
fn told(table: &Table, query: &[u8], transport: Transport) -> (u16, Vec<(u16, Vec<u8>)>) {
    let (disposition, reply) = respond(table, query, transport);
    let Disposition::Reply(facts) = disposition else { panic!("{disposition:?}") };
    (facts.rcode, options_in(&reply))
}

/// The options of a reply; its last record must be OPT.
pub(super) fn options_in(reply: &[u8]) -> Vec<(u16, Vec<u8>)> {
    Message::from_vec(reply).unwrap();
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
    options
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
    let (disposition, _) = respond(&required, &bare, Transport::Udp);
    assert!(matches!(disposition, Disposition::Reply(Reply { truncated: true, service: None, .. })));
    let (disposition, _) = respond(&required, &bare, Transport::Tcp);
    assert!(matches!(disposition, Disposition::Reply(Reply { truncated: false, .. })));

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
    let mut down = super::table([Standing::Unhealthy; 4]);
    down.settings = table.settings;
    let (rcode, options) = told(&down, &query_with("one.example", rtype::A, &[]), Transport::Udp);
    assert_eq!((rcode, &options[0].1[2..]), (rcode::SERVFAIL, &b"no healthy backend"[..]));
}

/// Even with all options, the reply fits or is truncated.
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
        let (disposition, reply) = respond(&table, &query, Transport::Udp);
        assert!(matches!(disposition, Disposition::Reply(_)) && reply.len() <= 512, "{name}");
        assert!(Message::from_vec(&reply).unwrap().edns.is_some());
    }
}

/// A query of class IN for a name of `name` bytes, with these options and a TSIG record of
/// `signature` bytes (none if that is too short for a record).
fn signed_query(name: usize, payload: u16, options: &[u8], signature: usize) -> Vec<u8> {
    let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let mut left = name - 1;
    while left > 0 {
        // Otherwise the last label would be empty.
        let label = if left == 65 { 62 } else { (left - 1).min(63) };
        query.push(u8::try_from(label).unwrap());
        query.extend(vec![b'q'; label]);
        left -= label + 1;
    }
    query.extend([0, 0, 1, 0, 1, 0, 0, 41]);
    query.extend(payload.to_be_bytes());
    query.extend([0, 0, 0x80, 0]);
    query.extend(u16::try_from(options.len()).unwrap().to_be_bytes());
    query.extend(options);
    if let Some(data) = signature.checked_sub(11) {
        query[11] += 1;
        query.extend([0, 0, 250, 0, 255, 0, 0, 0, 0]);
        query.extend(u16::try_from(data).unwrap().to_be_bytes());
        query.extend(vec![7; data]);
    }
    query
}

/// RFC 6891, section 7: options may be left out, the last of them first.
#[test]
fn an_opt_record_is_answered_by_one_whatever_the_sizes() {
    let client_subnet: &[u8] = &[0, 2, 128, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
    // In order of importance, with the length of the reply to each.
    let options: [(u16, &[u8], usize); 4] = [
        (option::COOKIE, &CLIENT_COOKIE, 24),
        (option::CLIENT_SUBNET, client_subnet, 20),
        (option::KEEPALIVE, b"", 2),
        (option::NSID, b"", crate::settings::MAX_NSID),
    ];
    let table = table_with(|settings| {
        settings.nsid = Some(vec![b'n'; crate::settings::MAX_NSID].into());
        settings.udp_payload = 4096;
    });
    let believed = Client { address: Ipv4Addr::LOCALHOST.into(), ..client(Transport::Udp) };
    let mut reply = vec![0; MAX_MESSAGE];
    let mut responder = Responder::new(SmallRng::seed_from_u64(1));
    for (name, asked) in (3..=255).step_by(3).flat_map(|name| (0..16_u8).map(move |asked| (name, asked))) {
        let is_asked = |index: usize| asked >> index & 1 == 1;
        let data: Vec<u8> = (0..4)
            .filter(|&index| is_asked(index))
            .flat_map(|index| {
                let (code, value, _) = options[index];
                [&code.to_be_bytes()[..], &u16::try_from(value.len()).unwrap().to_be_bytes(), value].concat()
            })
            .collect();
        for (transport, payload) in [
            (Transport::Udp, 0),
            (Transport::Udp, 513),
            (Transport::Udp, 700),
            (Transport::Udp, 4096),
            (Transport::Tcp, 512),
        ] {
            for signature in [0, 27, 61, 115, 200, 230, 241, 358, 600] {
                let query = signed_query(name, payload, &data, signature);
                let client = Client { transport, ..believed };
                let Disposition::Reply(facts) = responder.respond(&query, &client, &table, &mut reply) else {
                    panic!("a reply is due");
                };
                let case = format!("name {name}, payload {payload}, signature {signature}, asked {asked:b}");
                let limit = if transport == Transport::Tcp { MAX_MESSAGE } else { payload.max(512).into() };
                assert!(facts.length <= limit && facts.limit == limit, "{case}: {facts:?}");
                let message = &reply[..facts.length];
                let edns = find_edns(&Header::read(message).unwrap(), message);
                let edns = edns.unwrap_or_else(|| panic!("no OPT record: {case}"));
                assert_eq!(message.len(), HEADER + name + 4 + edns.record_length(), "{case}");
                let told: Vec<u16> = edns.options().map(|(code, _)| code).collect();
                // The room for the signature is kept if possible, and options fill the rest.
                let kept = signature.min(limit - HEADER - name - 4 - OPT_LENGTH);
                assert!(facts.length + kept <= limit, "{case}");
                let mut left = limit - HEADER - name - 4 - OPT_LENGTH - kept;
                for (index, (code, _, length)) in options.into_iter().enumerate() {
                    let applies =
                        is_asked(index) && (code != option::KEEPALIVE || transport == Transport::Tcp);
                    let fits = applies && 4 + length <= left;
                    assert_eq!(told.contains(&code), fits, "option {code}: {case}");
                    left -= if fits { 4 + length } else { 0 };
                }
                assert_eq!(told.contains(&option::EXTENDED_ERROR), left >= 6, "{case}");
            }
        }
    }
}

/// This holds even if the query is not answered.
#[test]
fn an_opt_record_is_answered_by_one_also_with_an_error() {
    let good = query("www.example", rtype::A, Some(1232));
    let header = |change: &[(usize, u8)]| {
        let mut query = good.clone();
        for &(at, value) in change {
            query[at] = value;
        }
        query
    };
    // A second question, a record in the answer section, one in the authority section.
    let question = b"\x03www\x07example\x00\x00\x01\x00\x01";
    let record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\xc0\x00\x02\x01";
    let inserted = |count: usize, bytes: &[u8]| {
        let mut query = header(&[(count, good[count] + 1)]);
        let end_of_question = HEADER + question.len();
        query.splice(end_of_question..end_of_question, bytes.iter().copied());
        query
    };
    let trailing = [&good[..], b"x"].concat();
    let second = {
        let mut query = header(&[(11, 2)]);
        query.extend(&good[good.len() - 11..]);
        query
    };
    let mut none = header(&[(5, 0)]);
    none.drain(HEADER..HEADER + question.len());
    let mut queries = vec![
        (rcode::FORMERR, inserted(5, question)),
        (rcode::FORMERR, inserted(7, record)),
        (rcode::FORMERR, inserted(9, record)),
        (rcode::FORMERR, trailing),
        (rcode::FORMERR, second),
        (rcode::FORMERR, none),
    ];
    // Inverse query, status, notify, update, and unsupported or unassigned operations.
    queries.extend([1, 2, 3, 4, 5, 6, 15].map(|opcode| (rcode::NOTIMP, header(&[(2, opcode << 3)]))));
    let table = table(HEALTHY);
    for (code, query) in queries {
        for transport in [Transport::Udp, Transport::Tcp] {
            let (disposition, reply) = respond(&table, &query, transport);
            let Disposition::Reply(facts) = disposition else { panic!("{disposition:?}") };
            assert_eq!(facts.rcode, code, "{query:?}");
            assert!(find_edns(&Header::read(&reply).unwrap(), &reply).is_some(), "{query:?}");
        }
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
