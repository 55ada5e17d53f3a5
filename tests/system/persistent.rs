//! Persistent services: two servers send each client to the same backend.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::process::Command;

use hickory_proto::rr::RecordType;

use crate::client::{self, Client, query};
use crate::harness::{STEERD, ZONE};
use crate::support::Steerd;

const BACKENDS: u8 = 50;
/// All prefixes of 24 bits from 10.0.0.0 on, as many as this.
const CLIENTS: u32 = 100_000;
/// Queries on the way at once.
const WINDOW: u32 = 64;
const NAME: &str = "www.lb.example.test.";

/// Fair shares deviate by less standard deviations, except in one run in a million.
const FAIR: f64 = 5.6;

fn weight(backend: u8) -> u32 {
    u32::from(backend % 5) + 1
}

/// A server with [`BACKENDS`] backends, listed in this order.
fn start(backends: impl Iterator<Item = u8>) -> Steerd {
    let backends: Vec<String> = backends
        .map(|index| {
            format!(
                "{{ name = \"gw{index}\", addresses = [\"192.0.2.{index}\", \"2001:db8::{index}\"], weight = {} }}",
                weight(index)
            )
        })
        .collect();
    let config = format!(
        "client_subnet = [\"127.0.0.1\"]\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [{}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\npolicy = \"persistent\"\n",
        backends.join(", ")
    );
    Steerd::start(&config, &[("zone", ZONE)])
}

/// The query of a resolver for a client in the network with this number.
fn query_for(network: u32) -> Vec<u8> {
    let [_, id @ ..] = network.to_be_bytes();
    let mut message = query(u16::from_be_bytes([id[1], id[2]]), NAME, RecordType::A);
    message[11] = 1;
    let [_, a, b, c] = network.to_be_bytes();
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 10 + a, b, c]);
    message
}

/// The backend for each network, by the last byte of its address. Each answer must be for the whole network only.
fn backends_of(server: &Steerd, networks: u32) -> Vec<u8> {
    let client = Client::to(server.dns, &server.ledger.sent);
    let first = query_for(0).len() - 22;
    let mut found = vec![None; networks as usize];
    let mut buffer = [0; 4096];
    let (mut next, mut missing) = (0, networks);
    while missing > 0 {
        let end = networks.min(next + WINDOW);
        let asked: Vec<u32> = (next..end).filter(|network| found[*network as usize].is_none()).collect();
        for network in &asked {
            client.send(&query_for(*network));
        }
        let mut left = asked.len();
        // A reply that does not arrive is asked for again.
        while left > 0
            && let Some(reply) = client.receive(&mut buffer)
        {
            let id = u32::from(u16::from_be_bytes([reply[0], reply[1]]));
            // A late reply to a query that was repeated is for an earlier network.
            let Some(network) = (next..end).find(|network| network & 0xffff == id) else { continue };
            assert_eq!(reply[6..8], [0, 1], "one answer");
            assert_eq!(reply[reply.len() - 4], 24, "the scope");
            if found[network as usize].replace(reply[first + 15]).is_none() {
                missing -= 1;
                left -= 1;
            }
        }
        if left == 0 {
            next = end;
        }
    }
    found.into_iter().map(Option::unwrap).collect()
}

#[test]
fn two_servers_agree_for_every_client_and_loads_follow_the_weights() {
    let (one, two) = (start(1..=BACKENDS), start((1..=BACKENDS).rev()));
    let backends = backends_of(&one, CLIENTS);
    assert!(backends == backends_of(&two, CLIENTS), "the servers differ");
    let mut counts: HashMap<u8, u32> = HashMap::new();
    for backend in &backends {
        *counts.entry(*backend).or_default() += 1;
    }
    let total: u32 = (1..=BACKENDS).map(weight).sum();
    for backend in 1..=BACKENDS {
        let (count, clients) = (counts.get(&backend).copied().unwrap_or(0), f64::from(CLIENTS));
        let share = f64::from(weight(backend)) / f64::from(total);
        let off = (f64::from(count) - clients * share).abs() / (clients * share * (1.0 - share)).sqrt();
        assert!(off < FAIR, "gw{backend} has {count} of {CLIENTS} clients, wanted {share}");
    }

    // Clients that ask by themselves are known by their own address.
    for third in 0..200 {
        let source = Ipv4Addr::new(127, 9, third, 7);
        let ask = |server: &Steerd, name: &str, rtype| {
            Client::at(source, server.dns, &server.ledger.sent).ask(name, rtype)
        };
        let [first, second] = [&one, &two].map(|server| client::addresses(&ask(server, NAME, RecordType::A)));
        assert_eq!(first, second, "{source}");
        let ipv6 = ask(&one, NAME, RecordType::AAAA).answers[0].data.to_string();
        assert_eq!(ipv6, format!("2001:db8::{}", first[0].octets()[3]), "{source}");
    }
}

#[test]
fn a_drained_backend_moves_only_its_own_clients_and_gets_them_back() {
    let server = start(1..=BACKENDS);
    let steerd = |arguments: &[&str]| {
        let admin = format!("http://{}", server.admin);
        let output = Command::new(STEERD).args(arguments).args(["--admin", &admin]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let before = backends_of(&server, 10_000);
    steerd(&["drain", "web/gw9"]);
    let drained = backends_of(&server, 10_000);
    let mut moved = 0;
    for (before, drained) in before.iter().zip(&drained) {
        assert_eq!(*before == 9, before != drained);
        moved += u32::from(*before == 9);
    }
    assert!(moved > 100, "{moved}");
    steerd(&["auto", "web/gw9"]);
    assert!(backends_of(&server, 10_000) == before, "after its return");
}
