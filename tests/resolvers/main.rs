//! Real resolvers between steerd and its clients: clients get the intended answers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

mod programs;
mod subnets;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::programs::{Program, Resolver};
use crate::support::client::Client;
use crate::support::message::{
    A, AAAA, CNAME, DS, Edns, HTTPS, MX, NOERROR, NXDOMAIN, Query, Reply, SRV, TXT, wire,
};
use crate::support::{Steerd, relay};

const ZONE: &str = "lb.example.test";

/// The records that do not belong to a service. The short negative TTL is intentional: clients must see it.
const ZONE_FILE: &str = "\
$TTL 300
@ SOA ns1 hostmaster 1 3600 900 604800 7
@ NS ns1
@ NS ns2
ns1 A 127.0.0.1
ns2 A 127.0.0.1
static A 192.0.2.80
www TXT \"beside the service\"
_http._tcp SRV 0 0 80 www
alias CNAME www
chain CNAME alias
dangling CNAME nope
to-wild CNAME any.apps
x.y.ent A 192.0.2.81
*.wild A 192.0.2.82
host.wild TXT \"not the wildcard's\"
a.deep.wild A 192.0.2.83
d DNAME apps
$GENERATE 1-100 huge A 203.0.113.$
";

/// The addresses of the pool `web`.
const WEB: [u8; 4] = [11, 12, 13, 14];
/// The TTL of services that set none.
const SERVICE_TTL: u32 = 20;

fn start() -> Steerd {
    let mut config = format!("[zones.\"{ZONE}\"]\nfile = \"zone\"\n");
    let mut pool = |name: &str, addresses: &mut dyn Iterator<Item = String>| {
        let addresses: Vec<String> = addresses.map(|address| format!("\"{address}\"")).collect();
        writeln!(config, "[pools.{name}]\nbackends = [{}]", addresses.join(", ")).unwrap();
    };
    let web4 = WEB.iter().map(|last| format!("192.0.2.{last}"));
    let web6 = WEB.iter().map(|last| format!("2001:db8::{last}"));
    pool("web", &mut web4.chain(web6));
    pool("four", &mut ["198.51.100.4".to_owned()].into_iter());
    pool("six", &mut ["2001:db8::6".to_owned()].into_iter());
    pool("big", &mut (1..=40).map(|last| format!("203.0.113.{last}")));
    for (service, pool, answers) in [
        ("www", "web", "2"),
        ("v4only", "four", "2"),
        ("v6only", "six", "2"),
        ("big", "big", "\"all\""),
        ("*.apps", "web", "2"),
    ] {
        writeln!(config, "[services.\"{service}.{ZONE}\"]\npools = [\"{pool}\"]\nanswers = {answers}")
            .unwrap();
    }
    Steerd::start(&config, &[("zone", ZONE_FILE)])
}

/// A resolver in front of steerd. The resolver ends first, so steerd has then counted everything that the
/// resolver sent.
struct Path {
    resolver: Resolver,
    steerd: Steerd,
}

impl Path {
    fn of(program: Program) -> Self {
        let steerd = start();
        let resolver = Resolver::start(program, ZONE, relay::start(steerd.dns, &steerd.ledger.sent));
        Self { resolver, steerd }
    }

    fn ask(&self, name: &str, qtype: u16) -> Reply {
        let query = Query {
            edns: Some(Edns { version: 0, payload: 1232, dnssec_ok: false }),
            recursion_desired: true,
            ..Query::plain(wire(&format!("{name}.{ZONE}")), qtype)
        };
        self.resolver.resolve(&query)
    }

    /// The data of all records of a type in a positive answer.
    fn data(&self, name: &str, qtype: u16) -> BTreeSet<Vec<u8>> {
        let reply = self.ask(name, qtype);
        assert_eq!(reply.rcode, NOERROR, "{name} {qtype}: {reply:?}");
        reply.answer.into_iter().filter(|record| record.rtype == qtype).map(|record| record.data).collect()
    }

    fn addresses(&self, name: &str) -> BTreeSet<[u8; 4]> {
        self.data(name, A).into_iter().map(|data| data.try_into().unwrap()).collect()
    }

    fn judge(&self) {
        self.services();
        self.aliases();
        self.negatives();
        self.wildcards();
        self.large_answers();
    }

    fn web(&self, name: &str) {
        let addresses = self.addresses(name);
        assert_eq!(addresses.len(), 2, "{name}: {addresses:?}");
        let ours = |address: &[u8; 4]| address.starts_with(&[192, 0, 2]) && WEB.contains(&address[3]);
        assert!(addresses.iter().all(ours), "{name}: {addresses:?}");
    }

    fn services(&self) {
        self.web("www");
        self.web("WwW");
        assert_eq!(self.data("www", AAAA).len(), 2);
        let reply = self.ask("www", A);
        assert!(reply.answer.iter().all(|record| record.ttl <= SERVICE_TTL), "{reply:?}");
        assert_eq!(self.addresses("static"), [[192, 0, 2, 80]].into());
        assert_eq!(self.addresses("v4only"), [[198, 51, 100, 4]].into());
        assert_eq!(self.data("v6only", AAAA).len(), 1);
        assert_eq!(self.data("www", TXT).len(), 1);
        assert_eq!(self.data("_http._tcp", SRV).len(), 1);
    }

    fn aliases(&self) {
        for name in ["alias", "chain", "to-wild", "x.d"] {
            self.web(name);
        }
        let chain = self.ask("chain", A);
        assert_eq!(chain.answer.iter().filter(|record| record.rtype == CNAME).count(), 2, "{chain:?}");
        assert_eq!(self.ask("dangling", A).rcode, NXDOMAIN);
    }

    /// Checks that there is no answer, and that this is cached no longer than the zone allows.
    fn nothing(&self, name: &str, qtype: u16, rcode: u16) {
        let reply = self.ask(name, qtype);
        assert_eq!((reply.rcode, reply.answer.len()), (rcode, 0), "{name} {qtype}: {reply:?}");
        let kept = reply.authority.iter().all(|record| record.ttl <= 7);
        assert!(kept && !reply.authority.is_empty(), "{name} {qtype}: {reply:?}");
    }

    fn negatives(&self) {
        for (name, qtype) in
            [("v4only", AAAA), ("v6only", A), ("www", MX), ("www", HTTPS), ("www", DS), ("static", AAAA)]
        {
            self.nothing(name, qtype, NOERROR);
        }
        for name in ["nope", "x.static", "x.www"] {
            self.nothing(name, A, NXDOMAIN);
        }
        // BIND answers this without an SOA record, from its cache entry for `nope` (RFC 8020).
        assert_eq!(self.ask("a.b.nope", A).rcode, NXDOMAIN);
        // An empty non-terminal exists, and so do names below it (RFC 8020).
        self.nothing("ent", A, NOERROR);
        self.nothing("z.y.ent", A, NXDOMAIN);
        self.nothing("y.ent", A, NOERROR);
        assert_eq!(self.addresses("x.y.ent"), [[192, 0, 2, 81]].into());
        self.nothing("_tcp", A, NOERROR);
    }

    fn wildcards(&self) {
        for name in ["any.wild", "x.y.wild"] {
            assert_eq!(self.addresses(name), [[192, 0, 2, 82]].into(), "{name}");
        }
        assert_eq!(self.addresses("a.deep.wild"), [[192, 0, 2, 83]].into());
        self.nothing("deep.wild", A, NOERROR);
        self.nothing("b.deep.wild", A, NXDOMAIN);
        self.nothing("host.wild", A, NOERROR);
        self.nothing("any.wild", AAAA, NOERROR);
        self.web("shop.apps");
        self.web("a.b.apps");
        self.nothing("shop.apps", TXT, NOERROR);
        self.nothing("apps", A, NOERROR);
    }

    /// The second one does not fit into a datagram, so the resolver must retry over TCP.
    fn large_answers(&self) {
        let huge = Query::plain(wire(&format!("huge.{ZONE}")), A);
        let direct = Client::counting(self.steerd.dns, &self.steerd.ledger.sent).ask(&huge, 1);
        assert!(Reply::decode(&direct).unwrap().truncated);
        for (name, count) in [("big", 40), ("huge", 100)] {
            let wanted: BTreeSet<[u8; 4]> = (1..=count).map(|last| [203, 0, 113, last]).collect();
            assert_eq!(self.addresses(name), wanted, "{name}");
        }
    }
}

#[test]
fn through_unbound() {
    Path::of(Program::Unbound).judge();
}

#[test]
fn through_bind() {
    Path::of(Program::Named).judge();
}

#[test]
fn through_knot_resolver() {
    Path::of(Program::Kresd).judge();
}

#[test]
fn through_powerdns_recursor() {
    Path::of(Program::PdnsRecursor).judge();
}
