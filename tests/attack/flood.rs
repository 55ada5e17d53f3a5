//! Connections that are opened faster than the server has room for.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::is_full;
use crate::streams::Target;
use crate::support::client::{connect, framed, read_message};
use crate::support::message::{A, Query, wire};
use crate::support::{Steerd, wait_for};

const ZONE: &str = "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\nns1 A 192.0.2.1\n";
/// Number of flooding networks.
const NETWORKS: u64 = 40;
/// Maximum number of connections that a flood opens.
const MOST: u64 = 300_000;
/// Round trip of the honest clients.
const ROUND_TRIP: Duration = Duration::from_millis(300);

/// Opens silent connections from 40 networks, and keeps as many open as the server would.
fn flood(target: &Target, keep: usize, opened: &AtomicU64, over: &AtomicBool) {
    let mut kept = VecDeque::new();
    while !over.load(Ordering::Relaxed) {
        let index = opened.fetch_add(1, Ordering::Relaxed);
        if index >= MOST {
            return;
        }
        let network = u8::try_from(index % NETWORKS).unwrap();
        let host = u8::try_from(index / NETWORKS % 250 + 1).unwrap();
        kept.extend(connect(Ipv4Addr::new(127, 10, network, host), target.dns, false).ok());
        if kept.len() > keep {
            kept.pop_front();
        }
    }
}

#[test]
fn a_flood_of_connections_leaves_distant_clients_their_answers() {
    let connections = if is_full() { 1000 } else { 200 };
    let config = format!("tcp_connections = {connections}\n[zones.\"example.test\"]\nfile = \"zone\"\n");
    let target = Target::start(&config, &[("zone", ZONE)]);
    let (opened, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let begun = Instant::now();
    let mut answered = 0;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| flood(&target, connections, &opened, &over));
        }
        // The flood reaches its full size before the first honest client connects.
        wait_for("the server is full", || {
            (opened.load(Ordering::Relaxed) > 2 * connections as u64).then_some(())
        });
        for index in 0..10 {
            let clients: Vec<_> = (0..5)
                .map(|client| {
                    let from = Ipv4Addr::new(127, 20, index * 5 + client, 1);
                    connect(from, target.dns, false).unwrap()
                })
                .collect();
            // Meanwhile their queries are on the way.
            std::thread::park_timeout(ROUND_TRIP);
            for mut stream in clients {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let query = framed(&Query::plain(wire("ns1.example.test"), A).encode(1));
                let reply = stream.write_all(&query).and_then(|()| read_message(&mut stream));
                answered += u32::from(reply.is_ok_and(|reply| reply[7] == 1));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let opened = opened.load(Ordering::Relaxed);
    let evicted = target.metric("steerd_tcp_evicted_total");
    println!("{opened} connections in {:?}, {evicted} evicted, {answered} of 50 answered", begun.elapsed());
    assert!(evicted > 0.0, "there was room for all");
    assert_eq!(answered, 50, "each honest client is answered");
}

/// Limits the descriptor numbers that a process may open to those below `limit`.
fn limit_descriptors(process: u32, limit: usize) {
    // The hard limit stays, because raising it again would need a privilege.
    let (process, limit) = (process.to_string(), format!("--nofile={limit}:"));
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap();
    assert!(status.success(), "prlimit ended with {status}");
}

/// Even with very few descriptors, clients that send queries are answered, and silent ones are
/// evicted.
#[test]
fn silent_connections_keep_no_descriptors_from_those_who_ask() {
    const SILENT: u8 = 50;
    let config = "tcp_idle = \"2m\"\n[zones.\"example.test\"]\nfile = \"zone\"\n";
    let server = Steerd::start(config, &[("zone", ZONE)]);
    let silent: Vec<_> = (1..=SILENT)
        .map(|host| connect(Ipv4Addr::new(127, 30, 0, host), server.dns, false).unwrap())
        .collect();
    wait_for("all are accepted", || {
        (server.metric("steerd_tcp_connections")? >= f64::from(SILENT)).then_some(())
    });
    let process = server.process.id();
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let open: Vec<usize> =
        open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    limit_descriptors(process, (0..=open.len()).find(|number| !open.contains(number)).unwrap());
    let mut answered = Vec::new();
    for host in 1..=20 {
        let mut stream = connect(Ipv4Addr::new(127, 31, 0, host), server.dns, false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let query = framed(&Query::plain(wire("ns1.example.test"), A).encode(1));
        server.ledger.sent.message();
        stream.write_all(&query).unwrap();
        let reply = read_message(&mut stream).unwrap_or_else(|error| panic!("client {host}: {error}"));
        assert_eq!(reply[7], 1, "client {host}");
        answered.push(stream);
    }
    limit_descriptors(process, 1024);
    let evicted = server.metric("steerd_tcp_evicted_total").unwrap();
    assert!(evicted >= 1.0, "{evicted} were evicted: there were descriptors for all");
    drop(silent);
}
