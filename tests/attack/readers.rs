//! TCP clients that request large replies and do not read them.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::is_full;
use crate::streams::{Target, held, kernel_memory};
use crate::support::client::{connect, framed, read_message};
use crate::support::message::{A, AXFR, Query, TXT, wire};
use crate::support::{http_get, wait_for};

/// The attackers' network.
const NETWORK: [u8; 3] = [127, 7, 7];
/// Maximum kernel memory for all attackers, bytes.
const MOST: u64 = 64 << 20;

/// A zone with an answer of 39 kB, and far more data for a transfer.
fn zone() -> String {
    let mut zone = String::from("$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\nns1 A 192.0.2.1\n");
    for index in 0..150 {
        writeln!(zone, "large TXT \"{index:0>250}\"").unwrap();
    }
    for index in 0..120 {
        writeln!(zone, "middle TXT \"{index:0>60}\"").unwrap();
    }
    for index in 0..5000 {
        writeln!(zone, "host{index} A 192.0.2.{}", index % 250).unwrap();
    }
    zone
}

fn start(connections: usize) -> Target {
    let config = format!(
        "tcp_connections = {connections}\ntcp_idle = \"3s\"\n[zones.\"example.test\"]\nfile = \"zone\"\n\
         transfer = {{ networks = [\"127.0.0.0/8\"] }}\n"
    );
    Target::start(&config, &[("zone", &zone())])
}

fn queries(name: &str, rtype: u16, count: u16) -> Vec<u8> {
    (0..count).flat_map(|id| framed(&Query::plain(wire(name), rtype).encode(id))).collect()
}

/// Requests that the client at this index sends and does not read.
fn ask(index: usize, stream: &mut TcpStream) {
    stream.set_nonblocking(true).unwrap();
    // The server may not accept all of it; errors are ignored.
    let _ = match index % 5 {
        // Queries repeatedly.
        0 | 1 => stream.write(&queries("large.example.test", TXT, 500)),
        // Closes its side and does not read; the reply is larger or smaller than a buffer.
        2 => stream.write(&queries("large.example.test", TXT, 1)),
        3 => stream.write(&queries("middle.example.test", TXT, 1)),
        _ => stream.write(&queries("example.test", AXFR, 3)),
    };
    if matches!(index % 5, 2 | 3) {
        stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// How long another client waits for an answer.
fn others_wait(target: &Target) -> Duration {
    let begun = Instant::now();
    let mut stream = connect(Ipv4Addr::new(127, 9, 9, 9), target.dns, false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&queries("ns1.example.test", A, 1)).unwrap();
    let reply = read_message(&mut stream).unwrap();
    assert_eq!(reply[7], 1, "one address");
    begun.elapsed()
}

/// How long other clients may wait in 99 of 100 cases. Builds without optimisation are several times slower.
const WAIT: Duration = Duration::from_millis(if cfg!(debug_assertions) { 60 } else { 20 });
/// Other tests run on this machine, so clients may wait longer in some attempts.
const ATTEMPTS: usize = 3;

#[test]
fn clients_that_do_not_read_hold_little_and_leave_nothing() {
    let count = if is_full() { 1000 } else { 300 };
    // In one case the attackers' network has room for all of them, in the other for a third.
    for connections in [count * 10, count * 10 / 3] {
        let mut attempts = (0..ATTEMPTS).map(|_| others_wait_beside(count, connections));
        assert!(attempts.any(|wait| wait < WAIT), "others wait longer than {WAIT:?} in each attempt");
    }
}

/// Attacks a server with `count` clients. Returns how long other clients wait at most in 99 of 100 cases.
fn others_wait_beside(count: usize, connections: usize) -> Duration {
    let target = start(connections);
    let before = kernel_memory();
    let mut clients = Vec::new();
    for index in 0..count {
        let host = u8::try_from(index % 250 + 1).unwrap();
        let from = Ipv4Addr::new(NETWORK[0], NETWORK[1], NETWORK[2], host);
        let mut stream = connect(from, target.dns, true).unwrap();
        ask(index, &mut stream);
        clients.push(stream);
    }
    let (mut most, mut memory, mut waits) = (0, 0, Vec::new());
    wait_for("the server lets go of all of them", || {
        let now = held(target.dns, NETWORK);
        most = most.max(now.bytes);
        memory = memory.max(kernel_memory().saturating_sub(before));
        waits.push(others_wait(&target));
        (target.metric("steerd_tcp_connections") == 0.0).then_some(())
    });
    let ended = Instant::now();
    wait_for("nothing is left in the kernel", || (held(target.dns, NETWORK).sockets == 0).then_some(()));
    let left = ended.elapsed();
    waits.sort();
    let wait = waits[waits.len() * 99 / 100];
    println!(
        "{count} clients, {connections} connections: {most} bytes waited, {memory} bytes of kernel memory \
         on both sides, others waited {wait:?} (p99 of {}); nothing was left after {left:?}",
        waits.len()
    );
    assert!(most < MOST / 4, "{most} bytes wait for clients that do not read");
    assert!(memory < MOST, "{memory} bytes of kernel memory");
    assert!(left < Duration::from_secs(2), "sockets were left for {left:?}");
    drop(clients);
    wait
}

/// A client that reads slowly is not affected by the limits.
#[test]
fn clients_that_read_slowly_get_every_byte() {
    let target = start(100);
    let mut stream = connect(Ipv4Addr::new(127, 7, 8, 1), target.dns, true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&queries("large.example.test", TXT, 20)).unwrap();
    stream.write_all(&queries("example.test", AXFR, 1)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    for _ in 0..20 {
        let reply = read_message(&mut stream).unwrap();
        assert!(reply.len() > 39_000, "{}", reply.len());
    }
    let mut records = 0;
    while let Ok(message) = read_message(&mut stream) {
        records += u16::from_be_bytes([message[6], message[7]]);
    }
    assert_eq!(records, 150 + 120 + 5000 + 4);
}

/// The admin server limits the kernel memory of its clients as DNS does.
#[test]
fn admin_clients_that_do_not_read_hold_little_and_leave_nothing() {
    let mut config = String::from("[zones.\"example.test\"]\nfile = \"zone\"\n");
    for pool in 0..40 {
        write!(
            config,
            "[pools.p{pool}]\ncheck = {{ type = \"tcp\", port = 9, interval = \"1h\" }}\nbackends = ["
        )
        .unwrap();
        for backend in 0..25 {
            write!(config, "\"127.20.{pool}.{}\", ", backend + 1).unwrap();
        }
        config.push_str("]\n");
    }
    let target = Target::start(&config, &[("zone", &zone())]);
    let before = kernel_memory();
    let requests = b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(40);
    let mut clients = Vec::new();
    for index in 0..if is_full() { 1000 } else { 300 } {
        let host = u8::try_from(index % 250 + 1).unwrap();
        let mut stream = connect(Ipv4Addr::new(127, 7, 9, host), target.admin, true).unwrap();
        stream.set_nonblocking(true).unwrap();
        // It may have been evicted already.
        let _ = stream.write(&requests);
        clients.push(stream);
    }
    let (mut memory, mut slowest) = (0, Duration::ZERO);
    wait_for("the server closes all of them", || {
        memory = memory.max(kernel_memory().saturating_sub(before));
        let begun = Instant::now();
        assert_eq!(http_get(target.admin, "/healthz").0, 200);
        slowest = slowest.max(begun.elapsed());
        (held(target.admin, [127, 7, 9]).sockets == 0).then_some(())
    });
    println!(
        "{} clients: {memory} bytes of kernel memory on both sides, liveness within {slowest:?}",
        clients.len()
    );
    assert!(memory < MOST, "{memory} bytes of kernel memory");
    assert!(slowest < Duration::from_secs(1), "liveness takes {slowest:?}");
}
