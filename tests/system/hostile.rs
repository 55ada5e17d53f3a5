//! Malicious packets and connections: they get no answer unless one is due, memory stays limited,
//! and other clients are served meanwhile.

use std::io::Read;
use std::net::Shutdown;

use hickory_proto::rr::RecordType;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::client::{self, Client};
use crate::harness::{Server, wait_for};
use crate::support::client::{framed, read_message};

const NAME: &str = "www.lb.example.test.";

fn server() -> Server {
    Server::start(
        "[pools.web]\nbackends = [\"192.0.2.11\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
    )
}

fn assert_serves(server: &Server) {
    let reply = Client::of(server).ask(NAME, RecordType::A);
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn prefixes_noise_and_responses_over_udp() {
    let server = server();
    let query = client::query(1, NAME, RecordType::A);
    let mut sent = 0_u32;
    let client = Client::of(&server);
    let mut send = |bytes: &[u8]| {
        // The receive queue of the server is finite, and these packets must not overflow it.
        if sent % 50 == 49 {
            assert_serves(&server);
        }
        client.send(bytes);
        sent += 1;
    };
    for cut in 0..=query.len() {
        send(&query[..cut]);
    }
    let seed = 4;
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..2000 {
        let noise: Vec<u8> = (0..rng.random_range(0..600)).map(|_| rng.random()).collect();
        send(&noise);
    }
    let mut response = query.clone();
    response[2] |= 0x80;
    for _ in 0..50 {
        send(&response);
    }
    assert_serves(&server);
    let responses = || server.metric("steerd_dropped_total{reason=\"response\"}");
    wait_for("responses are counted as such", || responses().filter(|&count| count >= 50.0));
}

#[test]
fn a_response_gets_no_answer() {
    let server = server();
    let client = Client::of(&server);
    let mut response = client::query(99, NAME, RecordType::A);
    response[2] |= 0x80;
    client.send(&response);
    // The next reply on this socket belongs to the query sent after it.
    let reply = client.ask(NAME, RecordType::A);
    assert_eq!(reply.metadata.id, 4711);
}

#[test]
fn tcp_lengths_that_lie_and_clients_that_dawdle() {
    let server = server();
    let before = server.memory();
    let mut dawdlers = Vec::new();
    for index in 0..60_usize {
        // A length of 65,535 and no data; half a length; the beginning of a query.
        dawdlers.push(match index % 3 {
            0 => client::stream(&server, &[0xff, 0xff]),
            1 => client::stream(&server, &[0]),
            _ => client::stream(&server, &framed(&client::query(1, NAME, RecordType::A))[..7]),
        });
    }
    assert_serves(&server);
    assert_eq!(ask_tcp(&server), 1, "another client is served over TCP");
    assert!(server.memory() < before + (16 << 20), "60 connections took {} bytes", server.memory() - before);
    // All connections are closed in the end: those with a wrong length at once, slow ones after the
    // time limit.
    for mut stream in dawdlers {
        let mut byte = [0];
        let closed = stream.read(&mut byte);
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(matches!(closed, Ok(0)) || closed.as_ref().is_err_and(reset), "{closed:?}");
    }
}

#[test]
fn a_connection_for_each_byte() {
    let server = server();
    let bytes = framed(&client::query(1, NAME, RecordType::A));
    for round in 0..20 {
        for byte in &bytes {
            client::stream(&server, &[*byte]);
        }
        assert_serves(&server);
        assert_eq!(ask_tcp(&server), 1, "round {round}");
    }
}

#[test]
fn noise_over_tcp() {
    let server = server();
    let mut rng = SmallRng::seed_from_u64(8);
    for _ in 0..200 {
        let noise: Vec<u8> = (0..rng.random_range(1..2000)).map(|_| rng.random()).collect();
        let mut stream = client::stream(&server, &noise);
        stream.shutdown(Shutdown::Write).unwrap();
        // Read to the end, because a connection that its client resets may be lost unread. The
        // server may reset it, which is allowed.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_serves(&server);
    assert_eq!(ask_tcp(&server), 1);
}

/// Queries over TCP; returns the number of answer records.
fn ask_tcp(server: &Server) -> u16 {
    let mut stream = client::stream(server, &framed(&client::query(5, NAME, RecordType::A)));
    let reply = read_message(&mut stream).unwrap();
    u16::from_be_bytes([reply[6], reply[7]])
}
