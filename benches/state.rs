//! The cost of saving health for a restart: 100,000 backends, 1,000 flips a second.
//!
//! The checker is the real one. Its probes go to one listener on all loopback addresses, which
//! closes and opens again each interval, so that each probe is a flip. The first half runs without
//! a `state_dir`, the second with one: the difference is the cost of saving, in the checker and in
//! the keeper, including surveys and snapshots. Meanwhile overrides are set, and the time until
//! they are on disk is measured. `STEERD_BENCH_SECONDS` sets the length of each half. The exit code
//! is 1 if a bar is missed.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a bench")]

mod measure;

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use measure::{cpu_time, float, quantile};
use steerd::check::{Check, PoolSetup, Probe, TcpProbe, Timing};
use steerd::checker::{self, CheckerCommand, CheckerHandle};
use steerd::events::Events;
use steerd::fleet::{
    Capacity, FleetSetup, MAX_IN_FLIGHT, Memory, Outputs, OverrideChange, OverrideRequest, Precondition,
};
use steerd::metrics::Metrics;
use steerd::pool::{Backend, Override, Pool, Require};
use steerd::served::Served;
use steerd::settings::Settings;
use steerd::state::{FILE, Keeper, StateDirectory};
use steerd::zone::Catalog;
use tokio::sync::oneshot;

const BACKENDS: u32 = 100_000;
const IN_A_POOL: u32 = 100;
/// Each probe is a flip, so this gives 1,000 flips a second.
const INTERVAL: Duration = Duration::from_secs(100);
const SECONDS: u64 = 200;
/// Time between two overrides.
const MARK_EVERY: Duration = Duration::from_secs(2);

/// The bars: share of a core, bytes per second, and the time until an override is on disk.
const MOST_CPU: f64 = 0.05;
const MOST_BYTES: f64 = 1e6;
const MOST_DELAY: Duration = Duration::from_secs(1);

fn served(port: u16) -> Served {
    let timing = Timing {
        interval: INTERVAL,
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 1,
        recheck: INTERVAL,
        interval_down: INTERVAL,
        damping: false,
    };
    let backend = |number: u32| {
        let [_, a, b, c] = number.to_be_bytes();
        Backend::new(format!("gateway-{number}"), vec![Ipv4Addr::new(127, a + 1, b, c).into()])
    };
    let pool = |number: u32| PoolSetup {
        pool: Pool {
            // In this benchmark, all backends of a pool fail at once.
            suspect_self: None,
            ..Pool::new(
                format!("pool-{number}"),
                (number * IN_A_POOL..(number + 1) * IN_A_POOL).map(backend).collect(),
            )
        },
        checks: vec![Check::new(Probe::Tcp(TcpProbe::connect(port)), timing)],
        require: Require::All,
    };
    Served {
        settings: Settings::default(),
        catalog: Catalog::new(Vec::new()),
        services: Vec::new(),
        rule_tables: Vec::new(),
        pools: (0..BACKENDS / IN_A_POOL).map(pool).collect(),
        startup_wait: Duration::from_secs(60),
    }
}

/// Bytes written by this process so far.
fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a line");
    line.parse().expect("a number")
}

/// Listens on all loopback addresses during every other interval.
fn alternate(port: u16) {
    std::thread::spawn(move || {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is ours");
            listener.set_nonblocking(true).expect("a socket");
            let began = Instant::now();
            while began.elapsed() < INTERVAL {
                while listener.accept().is_ok() {}
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(listener);
            std::thread::sleep(INTERVAL);
        }
    });
}

/// The lengths of the journals in bytes.
fn lengths(directory: &Path) -> HashMap<PathBuf, u64> {
    let entries = fs::read_dir(directory).expect("the directory").filter_map(Result::ok);
    let journals = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".journal"));
    journals.filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.len()))).collect()
}

/// The bytes of a file from an offset on; empty if the file is gone.
fn since(path: &Path, place: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(place))?;
        file.read_to_end(&mut bytes)
    });
    bytes
}

/// Sets an override. Returns the time until it is in a journal or in a newer snapshot.
async fn mark(handle: &CheckerHandle, directory: &Path, number: u32) -> Duration {
    let before = lengths(directory);
    let reason = format!("mark {number} of the bench");
    let (reply, answer) = oneshot::channel();
    let request = OverrideRequest {
        pool: "pool-7".into(),
        backend: format!("gateway-{}", 700 + number % IN_A_POOL),
        change: OverrideChange::State(Some(Override::Drain)),
        length: None,
        reason: Some(reason.clone()),
        force: true,
        by: "the bench".into(),
        expected: Precondition::default(),
    };
    handle.commands.send(CheckerCommand::Override(request, reply)).await.expect("the checker runs");
    answer.await.expect("the checker runs").expect("a backend");
    let began = Instant::now();
    loop {
        for (path, length) in lengths(directory) {
            let from = before.get(&path).copied().unwrap_or(0);
            let new = since(&path, from.min(length));
            if memchr::memmem::find(&new, reason.as_bytes()).is_some() {
                return began.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Measures for some seconds. Returns CPU time and written bytes, per second.
async fn measure<F: Future<Output = ()>>(seconds: u64, meanwhile: impl FnOnce() -> F) -> (f64, f64) {
    let (bytes, cpu, began) = (written(), cpu_time(std::process::id()), Instant::now());
    tokio::time::timeout(Duration::from_secs(seconds), async {
        meanwhile().await;
        std::future::pending::<()>().await;
    })
    .await
    .ok();
    let took = began.elapsed().as_secs_f64();
    let cpu = cpu_time(std::process::id()).saturating_sub(cpu).as_secs_f64();
    (cpu / took, float(written() - bytes) / took)
}

fn main() -> ExitCode {
    let seconds =
        std::env::var("STEERD_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(seconds))
}

async fn run(seconds: u64) -> ExitCode {
    let directory = tempfile::TempDir::new().expect("a directory");
    let port = {
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        free.local_addr().expect("an address").port()
    };
    alternate(port);
    let metrics = Arc::new(Metrics::new(1));
    let capacity = Capacity { counting_threads: 1, probes: MAX_IN_FLIGHT };
    let setup = FleetSetup { served: served(port), memory: Memory::default() };
    let outputs = Outputs { metrics: Arc::clone(&metrics), events: Events::new(SystemTime::now()) };
    let handle = checker::start(setup, capacity, outputs).expect("a checker");
    let mut ready = handle.ready.clone();
    ready.wait_for(|ready| *ready).await.expect("the checker runs");
    let generation = handle.published.load().generation;
    let (without, _) = measure(seconds, || async {}).await;
    println!(
        "without state_dir: CPU {:.2} % of a core, for probes and their backends; {} tables published",
        100.0 * without,
        handle.published.load().generation - generation
    );

    let place = StateDirectory::take(directory.path().into()).expect("a lock");
    let keeper = Keeper::start(Some(place), handle.clone(), metrics);
    let mut delays = Vec::new();
    let (with, bytes) = measure(seconds, || async {
        for number in 0.. {
            delays.push(mark(&handle, directory.path(), number).await);
            tokio::time::sleep(MARK_EVERY).await;
        }
    })
    .await;
    let snapshot = fs::metadata(directory.path().join(FILE)).map_or(0, |metadata| metadata.len());
    let journals: u64 = lengths(directory.path()).values().sum();
    keeper.stop().await;
    let (cpu, worst) = (with - without, quantile(&mut delays, 1.0));
    println!(
        "with state_dir: snapshot {:.1} MB, journals {:.1} MB at the end, {} overrides set",
        float(snapshot) / 1e6,
        float(journals) / 1e6,
        delays.len()
    );
    let bars = [
        ("CPU, % of a core", 100.0 * cpu, 100.0 * MOST_CPU),
        ("written, kB/s", bytes / 1e3, MOST_BYTES / 1e3),
        ("override to the disk at most, ms", 1e3 * worst.as_secs_f64(), 1e3 * MOST_DELAY.as_secs_f64()),
    ];
    for (what, found, bar) in bars {
        println!("{what}: {found:.1}, bar {bar:.0}: {}", if found <= bar { "kept" } else { "missed" });
    }
    let is_kept = !delays.is_empty() && snapshot > 0 && bars.iter().all(|(_, found, bar)| found <= bar);
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
