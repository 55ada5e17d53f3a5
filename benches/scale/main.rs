//! Very many backends: whether probes are on time, their cost, and how soon answers follow.
//!
//! ```text
//! cargo bench --bench scale                            everything, about ten minutes
//! cargo bench --bench scale -- start steady            some parts: start steady scrape deaf follow stuck
//! cargo bench --bench scale -- --backends 10000 --pools 100 --seconds 10
//! ```
//!
//! The real program runs with 100,000 backends in 1,000 pools, each probed by HTTP every 10 s. One
//! listener of this process plays all backends (`fleet`); it shares the machine with the server, as
//! does the DNS client (`questions`). Nothing needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot continue ends"
)]
#![allow(clippy::unchecked_time_subtraction, reason = "clocks go forwards")]

#[path = "../measure/mod.rs"]
mod measure;
#[path = "../../tests/support/mod.rs"]
mod support;

mod fleet;
mod questions;
mod server;

use std::io::Read as _;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::fleet::{Change, Fleet, Size};
use crate::measure::{cpu_time, float, quantile, resident, run_alone, shown};
use crate::questions::{ask_during, look_for_changes};
use crate::server::{Log, Server, service};
use crate::support::client::Client;
use crate::support::message::{A, Query, wire};
use crate::support::wait_for;

/// DNS queries per second.
const RATE: usize = 10_000;
/// Backends that change state per second in the storm.
const STORM: f64 = 5_000.0;

/// Number of admin clients that do not read.
const DEAF: usize = 64;

/// Command line options.
struct Options {
    parts: Vec<String>,
    size: Size,
    time: Duration,
}

fn main() -> ExitCode {
    if let Some(code) = run_alone() {
        return code;
    }
    let Some(options) = Options::parse() else {
        eprintln!(
            "usage: cargo bench --bench scale -- [--backends N] [--pools N] \
             [--interval N] [--seconds N] [PART]..."
        );
        return ExitCode::from(2);
    };
    let (fleet, changes) = Fleet::start(options.size).expect("backends");
    let empty = options.wants("start").then(|| empty(&options));
    if ["start", "steady", "scrape", "deaf", "follow"].iter().any(|part| options.wants(part)) {
        let server = start(&fleet);
        if options.wants("steady") {
            steady(&server, &fleet, &options, empty.as_ref());
        }
        if options.wants("scrape") {
            scrape(&server, &fleet, &options);
        }
        if options.wants("deaf") {
            deaf(&server, &fleet, &options);
        }
        if options.wants("follow") {
            follow_few(&options);
            follow(&server, &fleet, &changes, &options);
        }
    }
    if options.wants("stuck") {
        stuck(&fleet, &options);
    }
    ExitCode::SUCCESS
}

impl Options {
    fn parse() -> Option<Self> {
        let size = Size { backends: 100_000, pools: 1_000, interval: Duration::from_secs(10) };
        let mut options = Self { parts: Vec::new(), size, time: Duration::from_secs(30) };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--backends" => options.size.backends = arguments.next()?.parse().ok()?,
                "--pools" => options.size.pools = arguments.next()?.parse().ok()?,
                "--interval" => {
                    options.size.interval = Duration::from_secs(arguments.next()?.parse().ok()?);
                }
                "--seconds" => options.time = Duration::from_secs(arguments.next()?.parse().ok()?),
                word if word.starts_with('-') => return None,
                word => options.parts.push(word.into()),
            }
        }
        Some(options)
    }

    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|wanted| wanted == part)
    }

    fn names(&self) -> Vec<String> {
        (0..self.size.pools).map(service).collect()
    }
}

fn title(text: &str) {
    println!("\n{text}");
}

fn line(what: &str, found: &str) {
    println!("  {what:48} {found}");
}

/// An almost idle server, for comparison.
struct Empty {
    memory: u64,
}

fn empty(options: &Options) -> Empty {
    title("A server with one backend");
    let size = Size { backends: 1, pools: 1, interval: options.size.interval };
    let (fleet, _changes) = Fleet::start(size).expect("backends");
    let mut server = Server::start(size, fleet.port, Log::File);
    line("start to the first answer", &shown(server.answers() - server.spawned));
    let (mut replies, ()) = ask_during(server.dns, &[service(0)], RATE, || sleep(options.time / 2));
    line(&format!("DNS at {RATE} q/s"), &replies.shown());
    let memory = resident(server.id());
    line("memory", &format!("{:.1} MB", float(memory) / 1e6));
    Empty { memory }
}

/// Starts the server of all backends and waits until each has been probed.
fn start(fleet: &Arc<Fleet>) -> Server {
    let Size { backends, pools, interval } = fleet.size;
    title(&format!("Start with {backends} backends in {pools} pools, interval {interval:?}"));
    let mut server = Server::start(fleet.size, fleet.port, Log::File);
    wait_for("probes begin", || (fleet.known() > 0).then_some(()));
    line("start to the first probe", &shown(server.spawned.elapsed()));
    let first = Instant::now();
    wait_for("all have been probed", || (fleet.known() == backends).then_some(()));
    line("first probe to all probed", &shown(first.elapsed()));
    line("start to the first answer", &shown(server.answers() - server.spawned));
    line("CPU time until then", &shown(cpu_time(server.id())));
    let (text, _) = server.get("/metrics");
    let sick =
        text.lines().filter(|line| line.starts_with("steerd_backend_healthy{") && line.ends_with(" 0"));
    line("backends judged wrongly", &sick.count().to_string());
    server
}

fn steady(server: &Server, fleet: &Fleet, options: &Options, empty: Option<&Empty>) {
    title("All backends healthy");
    // Skips the first round, which is faster than the others.
    sleep(fleet.size.interval * 2);
    fleet.gaps();
    let (cpu, probes, began) = (cpu_time(server.id()), fleet.probes(), Instant::now());
    sleep(options.time);
    let (cpu, probes) = (cpu_time(server.id()) - cpu, fleet.probes() - probes);
    line("probes in a second", &format!("{:.0}", float(probes) / began.elapsed().as_secs_f64()));
    line("CPU time per probe", &format!("{:.1} us", cpu.as_secs_f64() * 1e6 / float(probes)));

    let lag = server.histogram("probe_lag_seconds");
    sleep(Duration::from_secs(2));
    let (mut replies, ()) = ask_during(server.dns, &options.names(), RATE, || sleep(options.time));
    line("lag of probes, with DNS", &server.histogram("probe_lag_seconds").since(&lag).shown());
    on_time(fleet);
    line(&format!("DNS at {RATE} q/s"), &replies.shown());
    let memory = resident(server.id());
    line("memory", &format!("{:.1} MB", float(memory) / 1e6));
    if let Some(empty) = empty {
        let each = float(memory - empty.memory) / float(fleet.size.backends.into());
        line("memory per backend", &format!("{each:.0} bytes"));
    }
}

fn on_time(fleet: &Fleet) {
    let (longest, late) = fleet.gaps();
    line("longest time between two probes", &shown(longest));
    line("probes more than 100 ms late", &late.to_string());
}

fn scrape(server: &Server, fleet: &Fleet, options: &Options) {
    title("Reads by operators meanwhile");
    for path in ["/metrics", "/api/v1/status"] {
        let before = server.histogram("probe_lag_seconds");
        fleet.gaps();
        let (mut replies, (size, mut times)) = ask_during(server.dns, &options.names(), RATE, || {
            let end = Instant::now() + options.time / 2;
            let (mut size, mut times) = (0, Vec::new());
            while Instant::now() < end {
                let (text, took) = server.get(path);
                size = text.len();
                times.push(took);
                sleep(Duration::from_secs(2));
            }
            (size, times)
        });
        let count = times.len();
        let (p50, most) = (quantile(&mut times, 0.5), quantile(&mut times, 1.0));
        line(
            &format!("GET {path}, {count} times"),
            &format!("p50 {}, most {}, {:.1} MB", shown(p50), shown(most), float(size as u64) / 1e6),
        );
        line("lag of probes", &server.histogram("probe_lag_seconds").since(&before).shown());
        on_time(fleet);
        line(&format!("DNS at {RATE} q/s"), &replies.shown());
    }
    line("memory after it", &format!("{:.1} MB", float(resident(server.id())) / 1e6));
}

/// Clients that request the status and never read it, and reconnect when they are disconnected.
fn deaf(server: &Server, fleet: &Fleet, options: &Options) {
    title(&format!("{DEAF} clients that ask for /api/v1/status and do not read"));
    // Gives the server time to free the memory of earlier requests.
    sleep(fleet.size.interval);
    let before = resident(server.id());
    let lag = server.histogram("probe_lag_seconds");
    fleet.gaps();
    let client = Client::of(server.dns);
    let query = Query::plain(wire(&service(0)), A);
    let (mut tcp, mut overrides, mut most) = (Vec::new(), Vec::new(), 0);
    let ask = || server.send("GET", "/api/v1/status", "");
    let mut clients: Vec<_> = (0..DEAF).map(|_| ask()).collect();
    let mut let_go = 0;
    let end = Instant::now() + options.time;
    while Instant::now() < end {
        for number in 0..20 {
            let asked = Instant::now();
            client.ask_tcp(&query, number);
            tcp.push(asked.elapsed());
            most = most.max(resident(server.id()));
            sleep(Duration::from_millis(20));
        }
        for client in &mut clients {
            if !matches!(SockRef::from(&*client).take_error(), Ok(None)) {
                *client = ask();
                let_go += 1;
            }
        }
        let backend = fleet.size.addresses(1).next().expect("a backend");
        let path = format!("/api/v1/pools/p1/backends/{backend}/override");
        let asked = Instant::now();
        let mut reply = Vec::new();
        server.send("PUT", &path, "{\"state\": \"drain\"}").read_to_end(&mut reply).expect("a reply");
        assert!(reply.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&reply));
        overrides.push(asked.elapsed());
    }
    drop(clients);
    line("clients that were disconnected and asked again", &let_go.to_string());
    let times = |times: &mut [Duration]| {
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| shown(quantile(times, share)));
        format!("p50 {p50}, p99 {p99}, most {most}, of {}", times.len())
    };
    line("DNS over TCP", &times(&mut tcp));
    line("an override", &times(&mut overrides));
    line("lag of probes", &server.histogram("probe_lag_seconds").since(&lag).shown());
    on_time(fleet);
    let share = float(most) / float(before);
    line(
        "memory before, most",
        &format!("{:.1} MB, {:.1} MB: {share:.2} x", float(before) / 1e6, float(most) / 1e6),
    );
}

/// How soon answers follow with few backends.
fn follow_few(options: &Options) {
    title("From a probe to the answer, with 100 backends");
    let size = Size { backends: 100, pools: 10, interval: Duration::from_millis(200) };
    let (fleet, changes) = Fleet::start(size).expect("backends");
    let mut server = Server::start(size, fleet.port, Log::File);
    server.answers();
    let names: Vec<String> = (0..size.pools).map(service).collect();
    fleet.watch(size.pools, Duration::from_millis(20));
    let mut found = look_for_changes(server.dns, &names, &fleet, &changes, options.time);
    followed("one change at a time", &mut found);
    line("building and publishing a table", &server.histogram("table_publish_seconds").shown());
}

fn follow(server: &Server, fleet: &Fleet, changes: &mpsc::Receiver<Change>, options: &Options) {
    title(&format!("From a probe to the answer, with {} backends", fleet.size.backends));
    let names = options.names();
    fleet.watch(fleet.size.pools / 10, Duration::from_millis(20));
    let mut found = look_for_changes(server.dns, &names, fleet, changes, options.time);
    followed("one change at a time", &mut found);

    let others = f64::from(fleet.size.backends) * 0.9 / fleet.size.interval.as_secs_f64();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1,000")]
    fleet.storm((STORM / others * 1000.0).min(1000.0) as u32);
    sleep(fleet.size.interval);
    fleet.gaps();
    let (cpu, lag) = (cpu_time(server.id()), server.histogram("probe_lag_seconds"));
    let (publish, flips, began) =
        (server.histogram("table_publish_seconds"), transitions(server), Instant::now());
    let (mut replies, mut found) = ask_during(server.dns, &names, RATE, || {
        look_for_changes(server.dns, &names, fleet, changes, options.time)
    });
    let cpu = cpu_time(server.id()) - cpu;
    let flips = (transitions(server) - flips) / began.elapsed().as_secs_f64();
    followed(&format!("while {flips:.0} backends a second change"), &mut found);
    line(
        "building and publishing a table",
        &server.histogram("table_publish_seconds").since(&publish).shown(),
    );
    line("lag of probes", &server.histogram("probe_lag_seconds").since(&lag).shown());
    on_time(fleet);
    line(&format!("DNS at {RATE} q/s"), &replies.shown());
    line("CPU time of a second", &shown(cpu.div_f64(options.time.as_secs_f64())));
    fleet.calm();
}

fn followed(what: &str, (found, lost): &mut (Vec<Duration>, usize)) {
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| shown(quantile(found, share)));
    line(what, &format!("p50 {p50}, p99 {p99}, most {most}, of {}, {lost} not seen", found.len()));
}

/// Number of state changes of backends so far.
fn transitions(server: &Server) -> f64 {
    let (text, _) = server.get("/metrics");
    let of_line = |line: &str| {
        let rest = line.strip_prefix("steerd_backend_transitions_total{")?;
        rest.rsplit_once(' ')?.1.parse::<f64>().ok()
    };
    text.lines().filter_map(of_line).sum()
}

/// The log is not read while the server logs a lot.
fn stuck(fleet: &Arc<Fleet>, options: &Options) {
    title("Standard error is a pipe that nobody reads");
    fleet.calm();
    let mut server = Server::start(fleet.size, fleet.port, Log::Stuck);
    server.answers();
    fleet.storm(500);
    sleep(fleet.size.interval * 2);
    fleet.gaps();
    let (probes, began) = (fleet.probes(), Instant::now());
    sleep(options.time);
    let probes = fleet.probes() - probes;
    line("probes in a second", &format!("{:.0}", float(probes) / began.elapsed().as_secs_f64()));
    on_time(fleet);
    fleet.calm();
}
