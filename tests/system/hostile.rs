//! Packets and connections that mean no good: no answer where none is due, bounded memory, and
//! other clients are served meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::client;
use crate::harness::{PATIENCE, Server, wait_for};

const NAME: &str = "www.lb.example.test.";

fn server() -> Server {
    Server::start(
        "[pools.web]\nbackends = [\"192.0.2.11\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
    )
}

fn assert_serves(server: &Server) {
    let reply = client::ask(&client::socket(server.dns), NAME, RecordType::A);
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn prefixes_noise_and_responses_over_udp() {
    let server = server();
    let query = client::query(1, NAME, RecordType::A);
    let mut sent = 0_u32;
    let socket = client::socket(server.dns);
    let mut send = |bytes: &[u8]| {
        // The receive queue of the server is finite: what this sends must not overflow it.
        if sent % 50 == 49 {
            assert_serves(&server);
            sent += 1;
        }
        socket.send(bytes).unwrap();
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
    sent += 1;
    // Every packet is a reply or a drop; a packet that a full queue lost would show here.
    let counted = || server.metric_sum("steerd_responses_total") + server.metric_sum("steerd_dropped_total");
    wait_for("every packet is accounted for", || (counted() == f64::from(sent)).then_some(()));
    assert!(server.metric("steerd_dropped_total{reason=\"response\"}").unwrap() >= 50.0);
}

#[test]
fn a_response_gets_no_answer() {
    let server = server();
    let socket = client::socket(server.dns);
    let mut response = client::query(99, NAME, RecordType::A);
    response[2] |= 0x80;
    socket.send(&response).unwrap();
    // The next reply on this socket is that to the query sent after it.
    let reply = client::ask(&socket, NAME, RecordType::A);
    assert_eq!(reply.metadata.id, 4711);
}

#[test]
fn tcp_lengths_that_lie_and_clients_that_dawdle() {
    let server = server();
    let before = server.memory();
    let mut dawdlers = Vec::new();
    for index in 0..60_usize {
        let mut stream = TcpStream::connect(server.dns).unwrap();
        // A length of 65,535 and nothing; half a length; a query that comes byte by byte.
        match index % 3 {
            0 => stream.write_all(&[0xff, 0xff]).unwrap(),
            1 => stream.write_all(&[0]).unwrap(),
            _ => stream.write_all(&framed(&client::query(1, NAME, RecordType::A))[..7]).unwrap(),
        }
        dawdlers.push(stream);
    }
    assert_serves(&server);
    assert_eq!(ask_tcp(server.dns), 1, "another client is served over TCP");
    assert!(server.memory() < before + (16 << 20), "60 connections took {} bytes", server.memory() - before);
    // Each is closed at last: the liars at once, the dawdlers after the time limit.
    for mut stream in dawdlers {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
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
            let mut stream = TcpStream::connect(server.dns).unwrap();
            stream.write_all(&[*byte]).unwrap();
        }
        assert_serves(&server);
        assert_eq!(ask_tcp(server.dns), 1, "round {round}");
    }
}

#[test]
fn noise_over_tcp() {
    let server = server();
    let mut rng = SmallRng::seed_from_u64(8);
    for _ in 0..200 {
        let mut stream = TcpStream::connect(server.dns).unwrap();
        let noise: Vec<u8> = (0..rng.random_range(1..2000)).map(|_| rng.random()).collect();
        // The server may have closed already, which is its right.
        let _ = stream.write_all(&noise);
    }
    assert_serves(&server);
    assert_eq!(ask_tcp(server.dns), 1);
}

fn framed(query: &[u8]) -> Vec<u8> {
    let length = u16::try_from(query.len()).unwrap().to_be_bytes();
    [&length[..], query].concat()
}

/// Asks over TCP; the number of answer records.
fn ask_tcp(server: SocketAddr) -> u16 {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(&framed(&client::query(5, NAME, RecordType::A))).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).unwrap();
    u16::from_be_bytes([reply[6], reply[7]])
}
