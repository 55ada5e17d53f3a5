//! The cases: the data that all servers share, and the queries and correct answers of each case. How to configure
//! servers does not belong here.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::support::message::{A, NOERROR, NXDOMAIN, Query, Reply, wire};

/// The zone of all names.
pub(crate) const ZONE: &str = "bench.test";
/// Number of names with one address each, from `n0`.
const MANY: u32 = 100_000;
/// Number of names below the wildcard, or nonexistent, that are queried in turn.
const SOME: u32 = 10_000;
/// The address of the first of the many names; the others follow.
const FIRST: u32 = u32::from_be_bytes([10, 0, 0, 1]);
/// The addresses of `four`.
const FOUR: [Ipv4Addr; 4] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv4Addr::new(192, 0, 2, 3),
    Ipv4Addr::new(192, 0, 2, 4),
];
/// The name answered with one of [`BACKENDS`], and the one answered with four of them.
pub(crate) const ONE_OF_EIGHT: &str = "one-of-eight";
pub(crate) const FOUR_OF_EIGHT: &str = "four-of-eight";

/// The names that only steerd serves: answered with four of [`FIFTY`] by a draw, and by a ranking for the client.
pub(crate) const FOUR_OF_FIFTY: &str = "four-of-fifty";
pub(crate) const RANKED_OF_FIFTY: &str = "ranked-of-fifty";
const FIFTY: u8 = 50;

/// Backends with their weights. The weights of each pair of neighbours have the same sum, so that gdnsd's groups of
/// two give one address each.
pub(crate) const BACKENDS: [(Ipv4Addr, u32); 8] = [
    (Ipv4Addr::new(127, 1, 0, 1), 3),
    (Ipv4Addr::new(127, 1, 0, 2), 1),
    (Ipv4Addr::new(127, 1, 0, 3), 2),
    (Ipv4Addr::new(127, 1, 0, 4), 2),
    (Ipv4Addr::new(127, 1, 0, 5), 3),
    (Ipv4Addr::new(127, 1, 0, 6), 1),
    (Ipv4Addr::new(127, 1, 0, 7), 2),
    (Ipv4Addr::new(127, 1, 0, 8), 2),
];

/// A case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    asked: Asked,
    pub(crate) rcode: u16,
    answers: usize,
    pub(crate) edns: EdnsUse,
    pub(crate) transport: Transport,
}

/// Names to query.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    One(&'static str),
    Many,
    BelowWildcard,
    Missing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EdnsUse {
    Without,
    With,
    /// With a cookie that the server has given this client.
    Cookie,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    /// With this many queries per connection; `None` is no limit.
    Tcp(Option<u32>),
}

const UDP: Case = Case {
    name: "static A",
    asked: Asked::One("static"),
    rcode: NOERROR,
    answers: 1,
    edns: EdnsUse::With,
    transport: Transport::Udp,
};

/// All cases, in the order of the table. Resolvers use EDNS, so the cases use it too.
pub(crate) const CASES: [Case; 14] = [
    UDP,
    Case { name: "static A, without EDNS", edns: EdnsUse::Without, ..UDP },
    Case { name: "EDNS with cookie", edns: EdnsUse::Cookie, ..UDP },
    Case { name: "4 static A", asked: Asked::One("four"), answers: 4, ..UDP },
    Case { name: "1 of 8", asked: Asked::One(ONE_OF_EIGHT), ..UDP },
    Case { name: "4 of 8", asked: Asked::One(FOUR_OF_EIGHT), answers: 4, ..UDP },
    Case { name: "4 of 50", asked: Asked::One(FOUR_OF_FIFTY), answers: 4, ..UDP },
    Case { name: "4 of 50, persistent", asked: Asked::One(RANKED_OF_FIFTY), answers: 4, ..UDP },
    Case { name: "100,000 names", asked: Asked::Many, ..UDP },
    Case { name: "NXDOMAIN", asked: Asked::Missing, rcode: NXDOMAIN, answers: 0, ..UDP },
    Case { name: "wildcard", asked: Asked::BelowWildcard, ..UDP },
    Case { name: "TCP pipelined", transport: Transport::Tcp(None), ..UDP },
    Case { name: "TCP, 10 per connection", transport: Transport::Tcp(Some(10)), ..UDP },
    Case { name: "TCP, 1 per connection", transport: Transport::Tcp(Some(1)), ..UDP },
];

impl Case {
    /// Names, each with the addresses that its answers may contain. The order is mixed, so that neighbours in memory
    /// are not queried one after the other.
    fn names(self) -> Vec<(String, Vec<Ipv4Addr>)> {
        // A prime that divides neither count: each name once, far from the last.
        const STEP: u32 = 7_919;
        let mixed = |count: u32| (0..count).map(move |index| index * STEP % count);
        match self.asked {
            Asked::One(name) => vec![(format!("{name}.{ZONE}"), addresses(name))],
            Asked::Many => mixed(MANY)
                .map(|index| (format!("n{index}.{ZONE}"), vec![Ipv4Addr::from(FIRST + index)]))
                .collect(),
            Asked::BelowWildcard => {
                mixed(SOME).map(|index| (format!("w{index}.wild.{ZONE}"), vec![FOUR[0]])).collect()
            }
            Asked::Missing => mixed(SOME).map(|index| (format!("x{index}.{ZONE}"), Vec::new())).collect(),
        }
    }

    /// Whether peers take part.
    pub(crate) fn is_shared(self) -> bool {
        !matches!(self.asked, Asked::One(FOUR_OF_FIFTY | RANKED_OF_FIFTY))
    }

    /// Writes the queries in the form that dnsperf reads.
    pub(crate) fn write_queries(self, directory: &Path) -> io::Result<PathBuf> {
        let path = directory.join(self.name.replace([' ', ','], "-"));
        let lines: Vec<String> = self.names().into_iter().map(|(name, _)| format!("{name} A\n")).collect();
        fs::write(&path, lines.concat())?;
        Ok(path)
    }

    /// Some of the queries, each with a function that tells how a reply is wrong.
    pub(crate) fn samples(self) -> Vec<(Query, impl Fn(&Reply) -> Option<String>)> {
        let sample = move |(name, addresses): (String, Vec<Ipv4Addr>)| {
            let edns = crate::support::message::Edns { version: 0, payload: 1232, dnssec_ok: false };
            let edns = (self.edns != EdnsUse::Without).then_some(edns);
            (Query { edns, ..Query::plain(wire(&name), A) }, move |reply: &Reply| {
                self.fault(reply, &addresses)
            })
        };
        let names = self.names();
        // A name alone may have different answers.
        let times = if names.len() == 1 { 20 } else { 1 };
        names.iter().take(20).cycle().take(names.len().min(20) * times).cloned().map(sample).collect()
    }

    fn fault(self, reply: &Reply, addresses: &[Ipv4Addr]) -> Option<String> {
        let mut found: Vec<Ipv4Addr> = Vec::new();
        for record in &reply.answer {
            match <[u8; 4]>::try_from(record.data.as_slice()) {
                Ok(octets) if record.rtype == A => found.push(octets.into()),
                _ => return Some(format!("an answer of type {}", record.rtype)),
            }
        }
        let count = found.len();
        found.sort();
        found.dedup();
        let is_right = reply.rcode == self.rcode
            && reply.authoritative
            && !reply.truncated
            && (count, found.len()) == (self.answers, self.answers)
            && found.iter().all(|address| addresses.contains(address))
            && (reply.edns.is_some() == (self.edns != EdnsUse::Without));
        (!is_right).then(|| {
            format!(
                "rcode {}, authoritative {}, truncated {}, EDNS {}, answers {found:?}",
                reply.rcode,
                reply.authoritative,
                reply.truncated,
                reply.edns.is_some()
            )
        })
    }
}

fn addresses(name: &str) -> Vec<Ipv4Addr> {
    match name {
        "static" => vec![FOUR[0]],
        "four" => FOUR.to_vec(),
        FOUR_OF_FIFTY | RANKED_OF_FIFTY => fifty().map(|(address, _)| address).collect(),
        _ => BACKENDS.iter().map(|(address, _)| *address).collect(),
    }
}

/// Fifty backends with their weights.
pub(crate) fn fifty() -> impl Iterator<Item = (Ipv4Addr, u32)> {
    (1..=FIFTY).map(|last| (Ipv4Addr::new(192, 0, 2, 100 + last), u32::from(last % 3) + 1))
}

/// How a server's zone file defines the names that are answered with some of [`BACKENDS`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dynamic {
    /// With one and four of the addresses, always the same.
    Fixed,
    /// With gdnsd's plugin.
    Gdnsd,
    /// Not at all: they are in the server's configuration.
    Elsewhere,
}

/// The zone file of a server.
pub(crate) fn zone(dynamic: Dynamic) -> String {
    let mut zone = format!(
        "$ORIGIN {ZONE}.\n$TTL 300\n@ SOA ns1 hostmaster 1 3600 600 604800 300\n@ NS ns1\nns1 A 127.0.0.1\n\
         static A {first}\n*.wild A {first}\n",
        first = FOUR[0]
    );
    let mut line = |name: &str, data: &str| writeln!(zone, "{name} {data}").expect("a string");
    for address in FOUR {
        line("four", &format!("A {address}"));
    }
    for (name, count) in [(ONE_OF_EIGHT, 1), (FOUR_OF_EIGHT, 4)] {
        match dynamic {
            Dynamic::Fixed => {
                for (address, _) in BACKENDS.into_iter().take(count) {
                    line(name, &format!("A {address}"));
                }
            }
            Dynamic::Gdnsd => line(name, &format!("DYNA weighted!{name}")),
            Dynamic::Elsewhere => {}
        }
    }
    for index in 0..MANY {
        line(&format!("n{index}"), &format!("A {}", Ipv4Addr::from(FIRST + index)));
    }
    zone
}
