//! Measures the largest reply that a query with a forged source address can send to a victim.
//! docs/OPERATIONS.md has a table of the figures; a test compares it with the measurements.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::cookie::CookieSecrets;
use crate::settings::{Chaos, Cookies, MAX_NSID, Settings};
use crate::wire::edns::option;
use crate::zone::Zone;

const DOCUMENT: &str = include_str!("../../../docs/OPERATIONS.md");

const ZONE: &str = "\
$ORIGIN lb.example.com.
$TTL 300
@ SOA ns1 hostmaster 1 3600 900 604800 60
@ NS ns1
@ NS ns2
ns1 A 192.0.2.1
ns1 AAAA 2001:db8::1
ns2 A 192.0.2.2
ns2 AAAA 2001:db8::2
web A 192.0.2.80
sub NS ns1.sub
sub NS ns2.sub
ns1.sub A 192.0.2.53
ns1.sub AAAA 2001:db8::53
ns2.sub A 192.0.2.54
ns2.sub AAAA 2001:db8::54
txt TXT LONG
$GENERATE 1-7 big TXT $LONG
";

/// The name for `id.server` and NSID.
const IDENTITY: &str = "ns1.lb.example.com";

/// The most addresses that a service with this name may have: `config` rejects more.
const MOST_IPV4: usize = 72;
const MOST_IPV6: usize = 41;
/// The most addresses that fit without EDNS.
const MOST_PLAIN: u16 = 29;

fn zone(services: &[Service]) -> Zone {
    let apex = Name::parse("lb.example.com").unwrap();
    // 200 bytes of record data with the length byte.
    let text = ZONE.replace("LONG", &"x".repeat(199));
    let mut zone = reader::read(Path::new("zone"), &apex, &mut |_| Ok(text.clone().into())).unwrap();
    for (id, service) in (0..).zip(services) {
        zone.builder().bind_service(service.name.wire(), ServiceId(id)).unwrap();
    }
    zone.finish().unwrap()
}

/// The default settings. The services answer with one or more addresses, except `off`, which is
/// down.
fn table_with(change: impl FnOnce(&mut Settings)) -> Table {
    let secrets = CookieSecrets::new(vec![[7; 16]]).unwrap();
    let mut settings =
        Settings { cookies: Some(Cookies { secrets, required: false }), ..Settings::default() };
    change(&mut settings);
    let service = |name: &str, answers| {
        let tiers = vec![PoolId(u32::from(name == "off"))];
        let service = Service::new(Name::parse(&format!("{name}.lb.example.com")).unwrap(), tiers);
        let default = Route { answers, when_down: WhenDown::ServFail, ..service.default };
        Service { default, policy: Policy::All, ..service }
    };
    let services = [
        service("one", Answers::AtMost(1)),
        service("www", Answers::AtMost(2)),
        service("mid", Answers::AtMost(MOST_PLAIN)),
        service("max", Answers::All),
        service("off", Answers::All),
    ];
    let address = |index: usize| IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::try_from(index).unwrap()));
    let ipv6 = |index: usize| IpAddr::V6(Ipv6Addr::from(0x2001 << 112 | index as u128));
    let addresses = (0..MOST_IPV4).map(address).chain((0..MOST_IPV6).map(ipv6)).collect();
    let backends = vec![Backend::new("all", addresses)];
    let pool = Pool::new("web", backends);
    let view = |standing| Arc::new(PoolView::build(&pool, None, |_, _| Standing::into(standing)));
    let catalog = Catalog::new(vec![zone(&services)]);
    let services = Services::new(services);
    let pools = [view(Standing::Healthy), view(Standing::Unhealthy)];
    Table::new(
        1,
        Arc::new(settings),
        Arc::new(catalog),
        Arc::new(services),
        pools,
        SmallRng::seed_from_u64(1),
    )
}

/// The length of a query and of its reply, bytes.
type Measured = (usize, usize);

/// Sends the query and returns the lengths. Panics if there is no reply or it has another response
/// code.
fn measure(table: &Table, query: &[u8], rcode: u16) -> Measured {
    let (disposition, bytes) = respond(table, query, Transport::Udp);
    let Disposition::Reply(reply) = disposition else { panic!("{disposition:?}") };
    assert_eq!(reply.rcode, rcode);
    (query.len(), bytes.len())
}

/// The lengths without EDNS, and with an OPT record without options.
fn both(table: &Table, name: &str, rtype: u16, rcode: u16) -> [Option<Measured>; 2] {
    [None, Some(4096)].map(|edns| Some(measure(table, &query(name, rtype, edns), rcode)))
}

/// Like [`both`], with modified queries.
fn changed(table: &Table, name: &str, rcode: u16, change: impl Fn(&mut [u8])) -> [Option<Measured>; 2] {
    [None, Some(4096)].map(|edns| {
        let mut query = query(name, rtype::TXT, edns);
        change(&mut query);
        Some(measure(table, &query, rcode))
    })
}

/// A query with one option.
fn with_option(name: &str, code: u16, value: &[u8]) -> Vec<u8> {
    let mut query = query(name, rtype::A, Some(4096));
    let length = query.len();
    query[length - 2..].copy_from_slice(&u16::try_from(4 + value.len()).unwrap().to_be_bytes());
    query.extend(code.to_be_bytes());
    query.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    query.extend(value);
    query
}

fn slipped(table: &Table, edns: Option<u16>) -> Measured {
    let query = query("www.lb.example.com", rtype::A, edns);
    let mut buffer = vec![0; MAX_MESSAGE];
    let client = client(Transport::Udp);
    let Disposition::Reply(reply) = slip(&query, &client, table, &mut buffer) else {
        panic!("a slip is a reply");
    };
    (query.len(), reply.length)
}

/// Every kind of reply, without EDNS and with it.
fn measured() -> Vec<(&'static str, [Option<Measured>; 2])> {
    let table = table_with(|_| {});
    let open = table_with(|settings| {
        settings.chaos = Chaos::Version;
        settings.nsid = Some(IDENTITY.as_bytes().into());
    });
    let strict = table_with(|settings| settings.cookies.as_mut().unwrap().required = true);
    let ask = |name: &str, rtype| both(&table, &format!("{name}.lb.example.com"), rtype, rcode::NOERROR);
    let version_1 = {
        let mut query = query("www.lb.example.com", rtype::A, Some(4096));
        let version = query.len() - 5;
        query[version] = 1;
        measure(&table, &query, rcode::BADVERS)
    };
    let bad_cookie = with_option("www.lb.example.com", option::COOKIE, b"12345678");
    vec![
        ("service: 1 IPv4 address", ask("one", rtype::A)),
        ("service: 2 IPv4 addresses", ask("www", rtype::A)),
        ("service: 2 IPv6 addresses", ask("www", rtype::AAAA)),
        ("service: 29 IPv4 addresses, the most that fit without EDNS", ask("mid", rtype::A)),
        ("service: 72 IPv4 addresses, the most that fit", ask("max", rtype::A)),
        ("service: 41 IPv6 addresses, the most that fit", ask("max", rtype::AAAA)),
        ("service all down: SERVFAIL", both(&table, "off.lb.example.com", rtype::A, rcode::SERVFAIL)),
        ("static: 1 IPv4 address", ask("web", rtype::A)),
        ("static: TXT of 200 bytes", ask("txt", rtype::TXT)),
        ("static: too large, so truncated", ask("big", rtype::TXT)),
        ("NS of the zone, with addresses", both(&table, "lb.example.com", rtype::NS, rcode::NOERROR)),
        ("SOA", both(&table, "lb.example.com", rtype::SOA, rcode::NOERROR)),
        ("ANY", both(&table, "lb.example.com", rtype::ANY, rcode::NOERROR)),
        ("referral to 2 servers, with glue", ask("x.sub", rtype::A)),
        ("NODATA", ask("www", rtype::MX)),
        ("NXDOMAIN", both(&table, "no.lb.example.com", rtype::A, rcode::NXDOMAIN)),
        ("REFUSED: not our zone", both(&table, "www.example.org", rtype::A, rcode::REFUSED)),
        ("REFUSED: zone transfer", both(&table, "lb.example.com", rtype::AXFR, rcode::REFUSED)),
        ("FORMERR", both(&table, "www.lb.example.com", rtype::TSIG, rcode::FORMERR)),
        ("NOTIMP", changed(&table, "lb.example.com", rcode::NOTIMP, |query| query[2] |= 5 << 3)),
        ("BADVERS", [None, Some(version_1)]),
        ("BADCOOKIE", [None, Some(measure(&strict, &bad_cookie, rcode::BADCOOKIE))]),
        ("cookies required, none sent", both(&strict, "max.lb.example.com", rtype::A, rcode::NOERROR)),
        ("CHAOS: `id.server`, refused", changed(&table, "id.server", rcode::REFUSED, chaos)),
        ("CHAOS: `id.server`, 18 bytes", changed(&open, "id.server", rcode::NOERROR, chaos)),
        ("limited by `rate_limit`: a slip", [None, Some(4096)].map(|edns| Some(slipped(&table, edns)))),
    ]
}

/// Changes the class of a TXT query to CH.
fn chaos(query: &mut [u8]) {
    let end = 12 + query[12..].windows(4).position(|bytes| bytes == [0, 16, 0, 1]).unwrap();
    query[end + 3] = 3;
}

#[test]
fn the_documented_figures_are_those_of_the_replies() {
    let mut table = String::from("| reply | without EDNS | with EDNS |\n|---|---|---|\n");
    for (kind, measured) in measured() {
        let [plain, edns] = measured.map(|measured| match measured {
            None => "-".to_owned(),
            Some((query, reply)) => {
                let tenths = (reply * 10 + query / 2) / query;
                format!("{query} → {reply}: {}.{}", tenths / 10, tenths % 10)
            }
        });
        writeln!(table, "| {kind} | {plain} | {edns} |").unwrap();
    }
    assert!(DOCUMENT.contains(&table), "docs/OPERATIONS.md must have this table:\n{table}");
}

/// Apart from configured data, no reply is large enough to be worth a forgery.
#[test]
fn what_is_no_answer_hardly_exceeds_the_query() {
    let mut seen = 0;
    for (kind, measured) in measured() {
        for (measured, limit) in measured.into_iter().zip([512, 1232]) {
            let Some((query, reply)) = measured else { continue };
            assert!(reply <= limit, "{kind}: {reply}");
            let small = [
                "REFUSED",
                "FORMERR",
                "NOTIMP",
                "BAD",
                "truncated",
                "required",
                "refused",
                "slip",
                "SERVFAIL",
            ];
            if small.iter().any(|word| kind.contains(word)) {
                seen += 1;
                // An extended error with its text; a server cookie.
                let more = if kind.contains("SERVFAIL") { 24 } else { 16 };
                assert!(reply <= query + more, "{kind}: {query} bytes bring {reply}");
            }
        }
    }
    assert!(seen > 15, "{seen} replies that are no answers");
}

#[test]
fn what_options_bring_in_addition() {
    let longest = Box::from([b'n'; MAX_NSID]);
    let table = table_with(|settings| {
        settings.nsid = Some(longest);
        settings.client_subnet =
            ["127.0.0.0/8".parse::<crate::network::Network>().unwrap()].into_iter().collect();
    });
    let name = "www.lb.example.com";
    let (query_length, reply_length) = measure(&table, &query(name, rtype::A, Some(4096)), rcode::NOERROR);
    for (code, value, more) in [
        (option::COOKIE, &b"12345678"[..], 16),
        (option::NSID, b"", MAX_NSID),
        (option::CLIENT_SUBNET, b"\0\x01\x18\0\xc0\0\x02", 0),
        (65_001, b"unknown", 0),
    ] {
        let with = measure(&table, &with_option(name, code, value), rcode::NOERROR);
        let (sent, brought) = (with.0 - query_length, with.1 - reply_length);
        assert!(brought <= sent + more && (more == 0 || brought == sent + more), "{code}: {sent}, {brought}");
    }
}
