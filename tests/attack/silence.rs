//! Clients of the admin server that start a request and never complete it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::streams::Target;
use crate::support::client::connect;
use crate::support::{TOKEN, http_get, http_with};
use crate::{Over, is_full};

const ZONE: &str = "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\nns1 A 192.0.2.1\n";
const BACKEND: &str = "[pools.a]\ncheck = \"tcp://:9\"\nbackends = [\"127.0.0.1\"]\n";
/// The longest that a liveness probe may wait. It is far below the time limit of a head.
const BAR: Duration = Duration::from_secs(1);
/// The address of both the attackers and the probe, as on loopback.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn start() -> Target {
    Target::start("[zones.\"example.test\"]\nfile = \"zone\"\n", &[("zone", ZONE)])
}

/// Beginnings of requests that are never continued.
const BEGINNINGS: [&str; 5] = [
    "",
    "G",
    "GET /healthz HTTP/1.1\r\nHost: 127",
    // A body that never arrives.
    "PUT /api/v1/pools/a/backends/b/override HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\
     Content-Type: application/json\r\n\r\n",
    // A reply that is not read, and an incomplete second head.
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
];

fn begin(target: &Target, beginning: &str) -> Option<TcpStream> {
    begin_from(HERE, target, beginning)
}

fn begin_from(from: Ipv4Addr, target: &Target, beginning: &str) -> Option<TcpStream> {
    let mut stream = connect(from, target.admin, true).ok()?;
    stream.write_all(beginning.as_bytes()).ok()?;
    Some(stream)
}

/// All beginnings in turn.
fn beginnings() -> impl Iterator<Item = &'static str> {
    BEGINNINGS.into_iter().cycle()
}

fn assert_alive(target: &Target, what: &str) {
    for path in ["/healthz", "/readyz"] {
        let begun = Instant::now();
        assert_eq!(http_get(target.admin, path).0, 200, "{what}");
        let waited = begun.elapsed();
        assert!(waited < BAR, "{what}: {path} takes {waited:?}");
    }
}

#[test]
fn silent_clients_do_not_shut_the_admin_server() {
    let target = start();
    let mut silent = Vec::new();
    for count in if is_full() { vec![64, 500, 2000, 8000] } else { vec![64, 500, 2000] } {
        for kinds in [&BEGINNINGS[2..3], &BEGINNINGS[..]] {
            silent.clear();
            silent.extend(kinds.iter().cycle().take(count).filter_map(|kind| begin(&target, kind)));
            assert_alive(&target, &format!("{count} silent clients of {} kinds", kinds.len()));
            let begun = Instant::now();
            let (status, _) = http_with(target.admin, "GET", "/api/v1/status", TOKEN, "");
            assert!(status == 200 && begun.elapsed() < 5 * BAR, "{status} after {:?}", begun.elapsed());
        }
    }
}

/// The clients reconnect as soon as they are disconnected.
#[test]
fn silent_clients_that_come_again_do_not_shut_the_admin_server() {
    let target = start();
    let (over, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // In one case they share the address of the probe, in the other they have a hundred.
        for addresses in [1, 100] {
            let (target, over, opened) = (&target, &over, &opened);
            scope.spawn(move || {
                crate::leave_the_processor_to_the_server();
                let mut silent: Vec<Option<TcpStream>> = (0..200).map(|_| None).collect();
                for (index, beginning) in (0..200_000).zip(beginnings()) {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let from = Ipv4Addr::new(127, 0, 0, u8::try_from(index % addresses + 1).unwrap());
                    silent[index % 200] = begin_from(from, target, beginning);
                    opened.fetch_add(usize::from(silent[index % 200].is_some()), Ordering::Relaxed);
                }
            });
        }
        // Ends the flood if the test fails; otherwise the test would wait for the flood.
        let _over = Over(&over);
        let (rounds, least) = if is_full() { (200, 50_000) } else { (20, 2_000) };
        let mut round = 0;
        while round < rounds || opened.load(Ordering::Relaxed) < least {
            assert_alive(&target, &format!("round {round}, {} connections", opened.load(Ordering::Relaxed)));
            round += 1;
        }
    });
    assert!(target.metric("steerd_admin_evicted_total") > 0.0, "a flood without an eviction");
}

/// Clients that send requests and do not read take all places for clients without the token.
#[test]
fn the_token_has_places_of_its_own() {
    let config = format!("[zones.\"example.test\"]\nfile = \"zone\"\n{BACKEND}");
    let target = Target::start(&config, &[("zone", ZONE), ("token", TOKEN)]);
    target.want_token(&config);
    let request = "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(40);
    for round in 0..3 {
        let deaf: Vec<_> = (0..300).map(|_| begin(&target, &request)).collect();
        let begun = Instant::now();
        let path = "/api/v1/pools/a/backends/127.0.0.1/override";
        let (status, reply) = http_with(target.admin, "PUT", path, TOKEN, "{\"state\": \"drain\"}");
        assert_eq!(status, 200, "round {round}: {reply}");
        assert!(begun.elapsed() < BAR, "round {round}: {:?}", begun.elapsed());
        assert_alive(&target, &format!("round {round}"));
        drop(deaf);
    }
}

/// A client that completes its heads in time keeps its connection.
#[test]
fn an_operator_beside_silent_clients_keeps_the_connection() {
    let target = start();
    let mut operator = connect(HERE, target.admin, false).unwrap();
    operator.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let silent: Vec<_> = beginnings().take(40).map(|beginning| begin(&target, beginning)).collect();
    for _ in 0..3 {
        operator.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut answer = [0; 12];
        operator.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let mut rest = [0; 4096];
        assert!(operator.read(&mut rest).unwrap() > 0);
    }
    drop(silent);
}
