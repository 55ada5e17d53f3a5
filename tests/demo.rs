//! The demo as a newcomer runs it: the program, its words, DNS, and a backend that breaks.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the program when the test ends early.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the words of the demo say after `before`, up to the next blank or slash.
fn word_after<'a>(text: &'a str, before: &str) -> &'a str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in {text}")).1;
    rest.split([' ', '/', '\n']).next().unwrap()
}

fn http(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The last byte of each address in the answer for `www.demo.test A`.
fn ask(port: u16) -> Vec<u8> {
    let question = b"\x03www\x04demo\x04test\x00\x00\x01\x00\x01";
    let header = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(&[&header[..], question].concat(), ("127.0.0.1", port)).unwrap();
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).unwrap();
    // Each record ends with its length of 4 and the address.
    let answers = &reply[header.len() + question.len()..length];
    answers.windows(6).filter(|bytes| bytes.starts_with(&[0, 4, 127, 0, 0])).map(|bytes| bytes[5]).collect()
}

/// Asks until twenty answers in a row are as wanted.
fn wait_until(port: u16, what: &str, wanted: impl Fn(&[u8]) -> bool) {
    let begun = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let answer = ask(port);
        in_a_row = if wanted(&answer) { in_a_row + 1 } else { 0 };
        assert!(begun.elapsed() < PATIENCE, "{what}: the last answer is {answer:?}");
    }
}

#[test]
fn a_broken_backend_leaves_the_answers_and_comes_back() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_steerd"))
        .args(["demo", "--port", "0", "--admin-port", "0", "--backend-port", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut demo = Demo(child);
    let mut words = String::new();
    for line in output.lines() {
        let line = line.unwrap();
        words.push_str(&line);
        words.push('\n');
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let port: u16 = word_after(&words, "dig @127.0.0.1 -p ").parse().unwrap();
    let backend = word_after(&words, "curl -X POST http://");
    let admin = word_after(&words, "curl http://");

    wait_until(port, "two of the three", |answer| answer.len() == 2);
    let answer = http(backend, "GET /break");
    assert!(answer.starts_with("HTTP/1.1 405 "), "a link must not break anything: {answer}");
    http(backend, "POST /break");
    wait_until(port, "without the broken one", |answer| answer.len() == 2 && !answer.contains(&12));
    let status = http(admin, "GET /api/v1/status");
    assert!(status.contains("\"state\":\"degraded\"") && status.contains("status 503"), "{status}");
    http(backend, "POST /fix");
    let begun = Instant::now();
    while !ask(port).contains(&12) {
        assert!(begun.elapsed() < PATIENCE, "the backend does not come back");
    }

    Command::new("kill").args(["-INT", &demo.0.id().to_string()]).status().unwrap();
    assert!(demo.0.wait().unwrap().success(), "SIGINT is an orderly end");
}
