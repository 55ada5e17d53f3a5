//! Many small requests to the admin server, over connections that stay open: DNS is answered as soon as before.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::streams::Target;
use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::wait_for;
use crate::{Over, is_full, leave_the_processor_to_the_server};

const CONFIG: &str = "[zones.\"example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [\"192.0.2.1\"]\n\
     [services.\"www.example.test\"]\npools = [\"web\"]\n";
const ZONE: &str = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 127.0.0.1\n";
const CONNECTIONS: u32 = 8;
/// In a second, over all connections, if neither side is late: somewhat more than 10,000.
const REQUESTS: u32 = 12_000;
/// Requests that are sent together on a connection: the clients need less of this machine's processors.
const TOGETHER: u32 = 10;
/// Pause between two queries.
const PAUSE: Duration = Duration::from_millis(1);
/// How much longer 99 of 100 answers may take. Builds without optimisation are several times slower.
const DELAY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 30 } else { 10 });
/// One measurement must meet the limit, because other builds and tests may run on this machine.
const ATTEMPTS: u32 = 3;

/// The times in which half and 99 of 100 queries are answered.
fn measure(dns: SocketAddr) -> [Duration; 2] {
    let count = if is_full() { 10_000 } else { 1000 };
    let client = Client::of(dns);
    let query = Query::plain(wire("www.example.test"), A);
    let mut times: Vec<Duration> = (0..count)
        .map(|id| {
            let sent = Instant::now();
            client.try_ask(&query, id).expect("an answer");
            let time = sent.elapsed();
            std::thread::park_timeout(PAUSE);
            time
        })
        .collect();
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() * 99 / 100]]
}

/// Sends requests over one connection, at its share of the rate.
fn request(admin: SocketAddr, answered: &AtomicU32, over: &AtomicBool) {
    let mut stream = BufReader::new(TcpStream::connect(admin).unwrap());
    let request = format!("GET /api/v1/status HTTP/1.1\r\nHost: {admin}\r\n\r\n");
    let requests = request.repeat(TOGETHER as usize);
    let pause = Duration::from_secs(1) * CONNECTIONS * TOGETHER / REQUESTS;
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        stream.get_mut().write_all(requests.as_bytes()).unwrap();
        for _ in 0..TOGETHER {
            read_reply(&mut stream);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        // A client that is late catches up a little.
        next = (next + pause).max(Instant::now().checked_sub(10 * pause).unwrap());
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
}

fn read_reply(stream: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
    while !line.trim().is_empty() {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    assert!(length > 0, "a reply without a length");
    std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
}

#[test]
fn many_requests_do_not_delay_dns() {
    let target = Target::start(CONFIG, &[("zone", ZONE)]);
    let mut worst = String::new();
    for _ in 0..ATTEMPTS {
        let without = measure(target.dns);
        let (answered, over) = (AtomicU32::new(0), AtomicBool::new(false));
        let (with, rate) = std::thread::scope(|scope| {
            let _over = Over(&over);
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    leave_the_processor_to_the_server();
                    request(target.admin, &answered, &over);
                });
            }
            wait_for("requests are answered", || (answered.load(Ordering::Relaxed) > 100).then_some(()));
            let (began, before) = (Instant::now(), answered.load(Ordering::Relaxed));
            let with = measure(target.dns);
            let count = answered.load(Ordering::Relaxed) - before;
            (with, f64::from(count) / began.elapsed().as_secs_f64())
        });
        let figures = format!(
            "{rate:.0} requests/s; half and 99 of 100 queries are answered in {without:?} without them, in {with:?} with them"
        );
        println!("{figures}");
        assert!(rate > 100.0, "there was no load: {figures}");
        if with[1] <= without[1] + DELAY {
            return;
        }
        worst = figures;
    }
    panic!("DNS is delayed: {worst}");
}
