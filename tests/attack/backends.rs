//! Hostile backends that use up the checker's time. Other backends must not be affected.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::support::{Steerd, http_get, wait_for};
use crate::{is_full, leave_the_processor_to_the_server};

/// Nearly all probes must start within this time, a bucket bound of the histogram. Other tests on the same
/// machine also cause some lag.
const LAG: &str = "0.1";

/// Handles each connection in its own thread, until the test ends.
fn listen(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let treat = Arc::new(treat);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let treat = Arc::clone(&treat);
            // Without a thread the connection is closed, which also counts as a failure.
            let _ = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || treat(stream));
        }
    });
    port
}

/// Like [`listen`], for backends that are always busy.
fn listen_busily(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    listen(move |stream| {
        leave_the_processor_to_the_server();
        treat(stream);
    })
}

/// Reads a request up to its empty line.
fn request(stream: &mut TcpStream) {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        text.push(byte[0]);
    }
}

/// Answers each request with a head and a body.
fn answering(body: Vec<u8>) -> u16 {
    listen(answer(body))
}

fn answer(body: Vec<u8>) -> impl Fn(TcpStream) {
    move |mut stream| {
        request(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        let _ = stream.read(&mut [0]);
    }
}

fn random_letters(count: usize, seed: u64) -> Vec<u8> {
    eprintln!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(b'a'..=b'z')).collect()
}

/// A pool with backends at the loopback addresses `127.0.NET.1` onwards.
fn pool(name: &str, net: u8, count: u8, check: &str) -> String {
    pool_every("500ms", name, net, count, check)
}

fn pool_every(interval: &str, name: &str, net: u8, count: u8, check: &str) -> String {
    let backends: Vec<String> = (1..=count).map(|host| format!("\"127.0.{net}.{host}\"")).collect();
    format!(
        "[pools.{name}]\nbackends = [{}]\ncheck = {{ interval = \"{interval}\", interval_down = \"{interval}\", \
         timeout = \"400ms\", recheck = \"100ms\", {check} }}\nsuspect_self = \"off\"\n",
        backends.join(", ")
    )
}

/// The number of a pool's probes in the text of the metrics: with one outcome, or all if it is empty.
fn probes(metrics: &str, pool: &str, outcome: &str) -> f64 {
    let (pool, outcome) = (format!("pool=\"{pool}\""), format!("outcome=\"{outcome}"));
    let lines = metrics.lines().filter(|line| line.starts_with("steerd_probes_total{"));
    let lines = lines.filter(|line| line.contains(&pool) && line.contains(&outcome));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// A server with a good pool of 20 backends and some hostile pools.
struct Attacked {
    server: Steerd,
    began: Instant,
    lagged: (f64, f64),
    /// The metrics when the measurement began.
    before: String,
    /// How often the log had contained [`UNSEARCHED`] by then.
    unsearched: usize,
}

/// The words for a probe without a verdict, because there was no time for its search.
const UNSEARCHED: &str = "could not be searched";

const GOOD: u8 = 20;

impl Attacked {
    /// Starts the server and waits until the good pool is healthy.
    fn start(hostile: &[String]) -> Self {
        // Too long to be searched in one step, so its searches compete with those for the hostile pools.
        let good = answering([b"all is well, ".repeat(32 * 1024 / 13), b"ready".to_vec()].concat());
        let check = format!("type = \"http\", port = {good}, body = {{ matches = \"ready|fine\" }}");
        let mut config = hostile.concat();
        config.push_str(&pool("good", 41, GOOD, &check));
        let zone = "@ 300 SOA ns1 hostmaster 1 3600 900 604800 2\n@ 300 NS ns1\nns1 300 A 127.0.0.1\n";
        config.push_str(
            "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[services.\"www.lb.example.test\"]\npools = [\"good\"]\n",
        );
        let server = Steerd::start(&config, &[("zone", zone)]);
        let mut attacked =
            Self { server, began: Instant::now(), lagged: (0.0, 0.0), before: String::new(), unsearched: 0 };
        wait_for("the good pool is healthy", || attacked.is_good_pool_well().then_some(()));
        attacked.begin();
        attacked
    }

    /// Starts the measurement now, because the start of the process is not representative.
    fn begin(&mut self) {
        self.began = Instant::now();
        self.lagged = self.lag();
        self.before = self.metrics();
        self.unsearched = self.server.process.said(UNSEARCHED).len();
    }

    fn metrics(&self) -> String {
        http_get(self.server.admin, "/metrics").1
    }

    /// The number of a pool's probes since the measurement began: with one outcome, or all if it is empty.
    fn probes(&self, pool: &str, outcome: &str) -> f64 {
        probes(&self.metrics(), pool, outcome) - probes(&self.before, pool, outcome)
    }

    fn metric(&self, name: &str) -> f64 {
        self.server.metric(name).unwrap_or_default()
    }

    /// Resident memory of the server, bytes.
    fn memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    }

    /// The number of probes that started in time, and the number of all probes.
    fn lag(&self) -> (f64, f64) {
        let in_time = self.metric(&format!("steerd_probe_lag_seconds_bucket{{le=\"{LAG}\"}}"));
        (in_time, self.metric("steerd_probe_lag_seconds_count"))
    }

    fn is_good_pool_well(&self) -> bool {
        self.metric("steerd_pool_healthy_weight{pool=\"good\"}") >= f64::from(GOOD)
    }

    /// Waits until the good pool was due `rounds` times, and asserts that it was probed in time.
    fn assert_good_pool_unharmed(&mut self, rounds: u32) {
        let due = Duration::from_millis(500) * rounds;
        wait_for("the attack has lasted", || (self.began.elapsed() >= due).then_some(()));
        let probes = self.probes("good", "passed");
        let wanted = self.began.elapsed().as_secs_f64() / 0.5 * f64::from(GOOD);
        let (in_time, all) = self.lag();
        let (in_time, all) = (in_time - self.lagged.0, all - self.lagged.1);
        eprintln!("good pool: {probes} of {wanted:.0} probes; {in_time} of {all} within {LAG} s");
        assert!(probes >= wanted * 0.75, "the good pool got {probes} of {wanted} probes");
        assert!(in_time >= all * 0.95, "{in_time} of {all} probes started within {LAG} s");
        assert!(self.is_good_pool_well());
    }

    /// Asserts that a hostile pool has no void probes, and that the last detail of each backend
    /// contains `words`.
    fn assert_fails(&self, pool: &str, words: &str) {
        self.assert_searched(pool);
        let details = wait_for("each backend of the hostile pool has failed", || self.details(pool));
        for detail in details {
            assert!(detail.contains(words), "{pool}: {detail:?} does not contain {words:?}");
        }
    }

    /// Asserts that no search for a pool's probes ended without a verdict, and nearly no probe did. On a
    /// busy machine, the server itself may occasionally be late.
    fn assert_searched(&self, pool: &str) {
        let (void, all) = (self.probes(pool, "void"), self.probes(pool, ""));
        eprintln!("{pool}: {void} of {all} probes are void");
        assert!(void <= all / 100.0, "{pool}: {void} of {all} probes are void");
        let unsearched = self.server.process.said(UNSEARCHED);
        let unsearched = unsearched.get(self.unsearched..).unwrap();
        assert!(unsearched.is_empty(), "{unsearched:?}");
    }

    /// The last detail of each backend of a pool; `None` unless all are unhealthy.
    fn details(&self, pool: &str) -> Option<Vec<String>> {
        let (_, body) = self.server.request("GET", &format!("/api/v1/pools/{pool}"), "");
        let backends = body.pointer("/backends")?.as_array()?;
        let detail = |backend: &serde_json::Value| {
            let address = backend.pointer("/addresses/0")?;
            let is_down = address.get("state")? == "unhealthy";
            is_down.then_some(address.pointer("/checks/0/last/detail")?.as_str()?.to_owned())
        };
        backends.iter().map(detail).collect()
    }
}

/// How many intervals an attack lasts.
fn rounds() -> u32 {
    if is_full() { 60 } else { 12 }
}

#[test]
fn expressions_that_take_long() {
    let slow = "[a-m].{40}[0-9]";
    let body = answering(random_letters(64 * 1024, 1));
    let letters = random_letters(64 * 1024, 2);
    // Sent in pieces, so that the search starts again and again.
    let words = listen(move |mut stream| {
        for piece in letters.chunks(1400) {
            if stream.write_all(piece).is_err() {
                return;
            }
            std::thread::yield_now();
        }
        let _ = stream.read(&mut [0]);
    });
    let mut attacked = Attacked::start(&[
        pool("body", 42, 8, &format!("type = \"http\", port = {body}, body = {{ matches = '{slow}' }}")),
        pool("words", 43, 8, &format!("type = \"tcp\", port = {words}, expect = '{slow}'")),
    ]);
    attacked.assert_good_pool_unharmed(rounds());
    for pool in ["body", "words"] {
        attacked.assert_fails(pool, "");
    }
    let said = [attacked.details("body").unwrap(), attacked.details("words").unwrap()].concat();
    // The time limit may end a probe before its search gets its share of time; with enough time, a search
    // examines everything.
    let own_words = |detail: &String| {
        let words = [
            "of processor time",
            "(looking for what is expected",
            "do not hold a match",
            "was not in the first",
        ];
        words.iter().any(|words| detail.contains(words))
    };
    assert!(said.iter().all(own_words), "{said:?}");
}

/// Each of these backends needs a separate long search, different from all others.
#[test]
fn slow_searches_of_hundreds() {
    const POOL: u8 = 250;
    let pools = if is_full() { 4 } else { 1 };
    let body = listen_busily(answer(random_letters(64 * 1024, 4)));
    let check = format!("type = \"http\", port = {body}, body = {{ matches = '[a-m].{{40}}[0-9]' }}");
    let names: Vec<String> = (0..pools).map(|number| format!("slow{number}")).collect();
    let hostile = names.iter().zip(50..).map(|(name, net)| pool_every("1s", name, net, POOL, &check));
    let mut attacked = Attacked::start(&hostile.collect::<Vec<_>>());
    attacked.assert_good_pool_unharmed(rounds());
    // In this order, because more probes pass meanwhile.
    let (all, passed) = (attacked.probes("good", ""), attacked.probes("good", "passed"));
    assert!(passed >= all, "{passed} of {all} probes of the good pool passed");
    for name in &names {
        attacked.assert_searched(name);
        assert!(attacked.probes(name, "passed") == 0.0);
        attacked.details(name).unwrap_or_else(|| panic!("a backend of {name} has not failed"));
    }
}

/// A probe that ends at its time limit must free the memory of its search: the search would never be
/// scheduled again while newer ones have used less time.
#[test]
fn searches_of_ended_probes_leave_no_memory_behind() {
    const MIB: usize = 1 << 20;
    let body = answering(random_letters(MIB, 3));
    let check = format!(
        "type = \"http\", port = {body}, body_limit = \"1MiB\", body = {{ matches = '[a-m].{{40}}[0-9]\\b' }}"
    );
    // `\b` is only decided at the end of the body, so each search keeps all of it.
    let attacked = Attacked::start(&[pool("body", 47, 24, &check)]);
    let before = attacked.memory();
    wait_for("the attack has lasted", || (attacked.began.elapsed() >= Duration::from_secs(8)).then_some(()));
    let grown = attacked.memory().saturating_sub(before);
    eprintln!("{} MiB more than at the start", grown / MIB);
    assert!(grown < 80 * MIB, "{} MiB more than at the start", grown / MIB);
}

#[test]
fn one_byte_at_a_time_from_many() {
    let hosts = if is_full() { 250 } else { 100 };
    let dribble = |byte: u8| {
        move |mut stream: TcpStream| {
            let _ = stream.set_nodelay(true);
            while stream.write_all(&[byte]).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    let (words, other) = (listen_busily(dribble(b'x')), listen_busily(dribble(b'H')));
    let mut attacked = Attacked::start(&[
        pool("words", 44, hosts, &format!("type = \"tcp\", port = {words}, expect = 'ready'")),
        pool("garbage", 45, 4, &format!("type = \"http\", port = {other}")),
    ]);
    attacked.assert_good_pool_unharmed(rounds());
    attacked.assert_fails("words", "no answer within 400ms (waiting for what is expected; heard \"xxx");
    attacked.assert_fails("garbage", "not HTTP/1.1");
}

/// As many useless bytes as a connection accepts.
#[test]
fn floods_that_mean_nothing() {
    let flood = |beginning: &'static [u8], again: Vec<u8>| {
        listen_busily(move |mut stream| {
            if !beginning.is_empty() {
                request(&mut stream);
            }
            let _ = stream.write_all(beginning);
            while stream.write_all(&again).is_ok() {}
        })
    };
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let zeros = flood(chunked, vec![b'0'; 16 * 1024]);
    let chunks = flood(chunked, b"1\r\nx\r\n".repeat(2000));
    let heads = flood(b"HTTP/1.1 103 Early\r\n\r\n", b"HTTP/1.1 103 Early\r\n\r\n".repeat(700));
    let words = flood(b"", b"blah ".repeat(3000));
    let mut attacked = Attacked::start(&[
        pool("zeros", 46, 4, &format!("type = \"http\", port = {zeros}")),
        pool(
            "chunks",
            47,
            4,
            &format!("type = \"http\", port = {chunks}, body = {{ contains = \"ready\" }}"),
        ),
        pool("heads", 48, 4, &format!("type = \"http\", port = {heads}")),
        pool("words", 49, 4, &format!("type = \"tcp\", port = {words}, expect = '(b|l|a|h| )*ready'")),
    ]);
    attacked.assert_good_pool_unharmed(rounds());
    attacked.assert_fails("zeros", "chunk framing");
    attacked.assert_fails("chunks", "do not hold \"ready\"");
    attacked.assert_fails("heads", "of headers");
    attacked.assert_fails("words", "was not in the first 64 KiB");
}
