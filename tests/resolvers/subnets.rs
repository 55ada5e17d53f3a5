//! Resolvers that send the networks of their clients (RFC 7871): each network gets the answers of its own rule.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::programs::{Program, Resolver};
use crate::support::client::Client;
use crate::support::message::{A, NOERROR, Query, Reply, wire};
use crate::support::{Steerd, http_get, relay};
use crate::{ZONE, ZONE_FILE};

/// Networks of clients, and the last byte of the only address for each. The first two are from a geographic database;
/// the others are from `networks`, one of them divided into two /25.
const CLIENTS: [(&str, u8); 8] = [
    ("127.0.1.5", 1),
    ("127.0.1.77", 1),
    ("127.0.2.5", 2),
    ("127.0.4.5", 4),
    ("127.0.5.9", 5),
    ("127.0.6.1", 5),
    ("127.9.9.9", 9),
    ("127.200.1.1", 9),
];

/// Starts a server with a pool for each network of clients.
fn start() -> Steerd {
    let mut config = format!(
        "client_subnet = [\"127.0.0.0/8\"]\n[geo]\ndatabase = [\"places.mmdb\"]\n\
         [zones.\"{ZONE}\"]\nfile = \"zone\"\n"
    );
    for pool in [1, 2, 4, 5, 9] {
        writeln!(config, "[pools.p{pool}]\nbackends = [\"192.0.2.{pool}\"]").unwrap();
    }
    write!(
        config,
        "[services.\"www.{ZONE}\"]\npools = [\"p9\"]\nanswers = 1\nrules = [\
         {{ countries = [\"DE\"], pools = [\"p1\"] }},\
         {{ continents = [\"EU\"], pools = [\"p2\"] }},\
         {{ networks = [\"127.0.4.0/24\"], pools = [\"p4\"] }},\
         {{ networks = [\"127.0.5.0/24\", \"127.0.6.0/24\"], pools = [\"p5\"] }}]\n"
    )
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE_FILE).unwrap();
    let places = include_bytes!("../fixtures/geo/places.mmdb");
    std::fs::write(directory.path().join("places.mmdb"), places).unwrap();
    Steerd::start_in(directory, &config)
}

/// Asks for all clients in turn, several times, so that most answers are from the resolver's cache.
fn judge(program: Program) {
    let steerd = start();
    let authority = relay::start(steerd.dns, &steerd.ledger.sent);
    let resolver = Resolver::start(program, ZONE, authority);
    let query = Query { recursion_desired: true, ..Query::plain(wire(&format!("www.{ZONE}")), A) };
    let rounds = 5;
    for round in 0..rounds {
        // In both directions, so that each client asks after each other one.
        let clients: Vec<_> =
            if round % 2 == 0 { CLIENTS.to_vec() } else { CLIENTS.iter().rev().copied().collect() };
        for (client, last) in clients {
            let source = SocketAddr::new(client.parse().unwrap(), 0);
            let reply = Reply::decode(&Client::at(source, resolver.address()).ask(&query, 1)).unwrap();
            assert_eq!(reply.rcode, NOERROR, "{client}: {reply:?}");
            let addresses: Vec<&[u8]> = reply.answer.iter().map(|record| &*record.data).collect();
            assert_eq!(addresses, [[192, 0, 2, last]], "{program:?}, {client} in round {round}");
        }
    }
    let (_, metrics) = http_get(steerd.admin, "/metrics");
    let counts = metrics.lines().filter(|line| line.starts_with("steerd_service_answers_total{"));
    let answered: u32 = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum();
    // At most one query for each client, and perhaps a few in which the resolver learns that subnets are answered.
    assert!(
        (1..=12).contains(&answered),
        "40 questions led to {answered} queries: the resolver does not cache"
    );
}

#[test]
fn clients_behind_unbound_get_their_own_pools() {
    judge(Program::UnboundSubnets);
}

#[test]
fn clients_behind_the_powerdns_recursor_get_their_own_pools() {
    judge(Program::PdnsRecursorSubnets);
}
