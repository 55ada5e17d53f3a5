//! Clients that request large replies from the admin server and do not read them, disconnect, or repeat
//! the request. The cost to probes, answers, memory and other operators must be small.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::{PATIENCE, Steerd, TOKEN, http_with, wait_for};
use crate::{Over, is_full};

/// Number of clients at a time.
const CLIENTS: usize = 64;
const ZONE: &str = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 127.0.0.1\n";
/// How often the service is measured during an attack; one measurement must meet the time limits, because
/// other builds and tests may run on this machine.
const ATTEMPTS: u32 = 3;
const WITHIN_BARS: u32 = 2;
/// Builds without optimisation are several times slower.
const SLACK: u32 = if cfg!(debug_assertions) { 3 } else { 1 };
/// How long DNS over TCP may take in 99 of 100 cases.
const DNS: Duration = Duration::from_millis(20 * SLACK as u64);
/// The longest time that an override may take.
const OVERRIDE: Duration = Duration::from_millis(1000 * SLACK as u64);

/// Backends in pools of 100, and half of them in one large pool. One listener plays all of them.
struct Fleet {
    server: Steerd,
    stop: Arc<AtomicBool>,
}

impl Fleet {
    fn start(backends: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        listener.set_nonblocking(false).unwrap();
        let ended = Arc::clone(&stop);
        thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                drop(listener.accept());
            }
        });
        let interval = if is_full() { 10 } else { 5 };
        let mut config = format!(
            "startup_wait = \"1m\"\n[zones.\"status.test\"]\nfile = \"zone\"\n\
             [defaults.check]\ninterval = \"{interval}s\"\ntimeout = \"2s\"\n"
        );
        let mut first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
        let small = backends / 200;
        for (pool, size) in (0..small).map(|_| 100).chain([backends - small * 100]).enumerate() {
            let addresses: Vec<String> =
                (first..first + size).map(|address| format!("\"{}\"", Ipv4Addr::from(address))).collect();
            first += size;
            let addresses = addresses.join(", ");
            write!(
                config,
                "[pools.p{pool}]\ncheck = \"tcp://:{port}\"\nbackends = [{addresses}]\n\
                 [services.\"s{pool}.status.test\"]\npools = [\"p{pool}\"]\nanswers = 1\n"
            )
            .unwrap();
        }
        // The measuring clients send the token, because clients without it on one address evict
        // each other.
        let server = Steerd::start(&config, &[("zone", ZONE), ("token", TOKEN)]);
        server.configure(&config, "token_file = \"token\"");
        assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
        Self { server, stop }
    }

    /// Resident memory of the process, bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The number of probes that started more than a quarter of a second late, and of all probes.
    fn late_probes(&self) -> (f64, f64) {
        let (_, text) = self.get("/metrics");
        let value = |series: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
            line.unwrap().parse().unwrap()
        };
        let all = value("steerd_probe_lag_seconds_count");
        (all - value("steerd_probe_lag_seconds_bucket{le=\"0.25\"}"), all)
    }

    /// The status code and the body of a GET with the token.
    fn get(&self, path: &str) -> (u16, String) {
        http_with(self.server.admin, "GET", path, TOKEN, "")
    }

    fn connect(&self, request: &str) -> TcpStream {
        let stream = TcpStream::connect(self.server.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (&stream).write_all(request.as_bytes()).unwrap();
        stream
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Asserts that honest clients are served during an attack. Measures for `time`, repeatedly if necessary.
fn assert_served(fleet: &Fleet, memory: u64, what: &str, time: Duration) {
    let mut within = 0;
    for attempt in 1..=ATTEMPTS {
        within += u32::from(is_served(fleet, memory, what, time));
        if within == WITHIN_BARS {
            return;
        }
        assert!(
            attempt - within <= ATTEMPTS - WITHIN_BARS,
            "{what}: {within} of {attempt} attempts within the bars"
        );
    }
}

/// Measures the service to honest clients for `time`. Returns whether it meets the time limits.
fn is_served(fleet: &Fleet, memory: u64, what: &str, time: Duration) -> bool {
    let client = Client::counting(fleet.server.dns, &fleet.server.ledger.sent);
    let (mut slowest_override, mut dns, mut most) = (Duration::ZERO, Vec::new(), 0);
    let (late, all) = fleet.late_probes();
    let began = Instant::now();
    let mut number = 0;
    while began.elapsed() < time {
        number += 1;
        let asked = Instant::now();
        client.ask_tcp(&Query::plain(wire("s0.status.test"), A), number);
        dns.push(asked.elapsed());
        if number % 16 == 0 {
            let asked = Instant::now();
            let path = "/api/v1/pools/p0/backends/127.1.0.1/override";
            let body = format!("{{\"state\": \"drain\", \"reason\": \"{number}\"}}");
            let (status, reply) = fleet.server.request("PUT", path, &body);
            assert_eq!((status, reply["override"]["reason"].as_str()), (200, Some(&*number.to_string())));
            slowest_override = slowest_override.max(asked.elapsed());
        }
        most = most.max(fleet.memory());
        thread::park_timeout(Duration::from_millis(10));
    }
    dns.sort();
    let p99 = dns[dns.len() * 99 / 100];
    let (late, all) = {
        let now = fleet.late_probes();
        (now.0 - late, now.1 - all)
    };
    println!(
        "{what}: DNS over TCP p99 {p99:?}, override {slowest_override:?}, memory {} -> {} kB, {late} of {all} probes late",
        memory / 1024,
        most / 1024
    );
    assert!(most < memory + memory / 2 + (4 << 20), "{what}: {memory} bytes before, {most} during it");
    p99 < DNS && slowest_override < OVERRIDE && late <= all / 100.0
}

/// One server, and one attack of each kind after the other.
#[test]
fn clients_of_large_replies_cost_others_little() {
    let fleet = Fleet::start(if is_full() { 20_000 } else { 2_000 });
    let time = Duration::from_secs(if is_full() { 15 } else { 3 });
    for path in ["/api/v1/status", "/api/v1/pools", "/metrics"] {
        assert_eq!(fleet.get(path).0, 200);
    }
    let memory = fleet.memory();

    let paths = ["/api/v1/status", "/api/v1/pools", "/metrics", "/api/v1/pools/p10", "/api/v1/services"];
    let deaf: Vec<TcpStream> = (0..CLIENTS).map(|_| fleet.connect(&get("/api/v1/status"))).collect();
    assert_served(&fleet, memory, "status, not read", time);
    drop(deaf);
    let deaf: Vec<TcpStream> =
        (0..CLIENTS).map(|index| fleet.connect(&get(paths[index % paths.len()]).repeat(50))).collect();
    assert_served(&fleet, memory, "all replies, pipelined, not read", time);
    drop(deaf);

    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for shape in 0..4 {
            let (fleet, over) = (&fleet, &over);
            scope.spawn(move || {
                crate::leave_the_processor_to_the_server();
                let mut number = 0;
                while !over.load(Ordering::Relaxed) {
                    number += 1;
                    let request = match shape {
                        0 => get(paths[number % paths.len()]),
                        1 => get(&format!("/api/v1/pools/p{}", number % 12)),
                        2 => get(&format!("/api/v1/pools/{}{number}", "x".repeat(4000))),
                        _ => get("/api/v1/status").replace("GET", "HEAD"),
                    };
                    // Sends a request and disconnects; the last kind reads the head first.
                    let mut stream = fleet.connect(&request);
                    if shape == 3 {
                        let _ = stream.read(&mut [0; 512]);
                    }
                }
            });
        }
        let _over = Over(&over);
        assert_served(&fleet, memory, "asked for and left, again and again", time);
    });

    assert_overrides_at_once(&fleet);
    // After all attacks the status is complete.
    let (status, body) = fleet.get("/api/v1/status");
    let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, shown["pools"].as_array().unwrap().len()), (200, if is_full() { 101 } else { 11 }));
}

/// [`CLIENTS`] simultaneous overrides are all done within a second.
fn assert_overrides_at_once(fleet: &Fleet) {
    let began = Instant::now();
    thread::scope(|scope| {
        for index in 0..CLIENTS {
            scope.spawn(move || {
                let path = format!("/api/v1/pools/p1/backends/127.1.0.{}/override", 100 + index);
                assert_eq!(http_with(fleet.server.admin, "DELETE", &path, TOKEN, "").0, 200, "{path}");
            });
        }
    });
    assert!(began.elapsed() < OVERRIDE, "{:?}", began.elapsed());
}

/// Clients that read nothing, or one byte now and then, are disconnected.
#[test]
fn slow_readers_are_let_go_of() {
    let fleet = Fleet::start(2_000);
    // More bytes than the buffers of both sides can hold.
    let deaf = fleet.connect(&get("/api/v1/status").repeat(16));
    let mut drip = fleet.connect(&get("/api/v1/status").repeat(16));
    wait_for("both have an answer", || (drip.peek(&mut [0; 1]).ok()? > 0).then_some(()));
    let connections = |server: SocketAddr| {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let local = format!("0100007F:{:04X} ", server.port());
        // In any state but LISTEN and TIME-WAIT: an ended connection must not linger either.
        let is_one = |line: &&str| {
            line.contains(&format!(": {local}")) && ![" 0A ", " 06 "].iter().any(|state| line.contains(state))
        };
        table.lines().filter(is_one).count()
    };
    assert!(connections(fleet.server.admin) >= 2);
    // Clients may keep the server waiting for 10 s.
    let deadline = Instant::now() + Duration::from_secs(20);
    while connections(fleet.server.admin) > 0 {
        assert!(Instant::now() < deadline, "clients that do not read are still connected");
        let _ = drip.read(&mut [0; 1]);
        thread::park_timeout(Duration::from_millis(50));
    }
    drop(deaf);
}
