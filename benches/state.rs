//! What it costs to keep health over a restart: 100,000 backends, 1,000 flips a second.
//!
//! The part of the checker is played by a task that has the memory ready, so the figures are those
//! of the keeper: asking, writing the journal, and the snapshots. `STEERD_BENCH_SECONDS` says how long;
//! the default is long enough for two snapshots.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a bench")]

mod measure;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use measure::{cpu_time, float};
use steerd::checker::{Command, Handle, Memory, MemoryChanges, RememberedState};
use steerd::health::Verdict;
use steerd::metrics::Metrics;
use steerd::state::{FILE, Keeper, Place};
use steerd::table::{Published, Table};
use steerd::zone::Catalog;
use tokio::sync::{mpsc, watch};

const BACKENDS: u32 = 100_000;
const IN_A_POOL: u32 = 100;
const FLIPS_A_SECOND: u32 = 1_000;
const SECONDS: u32 = 240;

fn state(number: u32, verdict: Verdict) -> RememberedState {
    let [_, a, b, c] = number.to_be_bytes();
    RememberedState {
        pool: format!("pool-{}", number / IN_A_POOL).into(),
        backend: format!("gateway-{number}").into(),
        address: std::net::Ipv4Addr::new(10, a, b, c).into(),
        check: "http".into(),
        verdict,
        since: SystemTime::now(),
    }
}

/// What the process has written so far, bytes.
fn written() -> u64 {
    let text = fs::read_to_string("/proc/self/io").expect("Linux has it");
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a line");
    line.parse().expect("a number")
}

async fn answer(
    mut commands: mpsc::Receiver<Command>,
    memory: Arc<Mutex<Vec<RememberedState>>>,
    untold: Arc<Mutex<MemoryChanges>>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Memory(reply) => {
                let states = memory.lock().expect("no panic").clone();
                untold.lock().expect("no panic").everything = false;
                let _ = reply.send(Memory { states, overrides: Vec::new() });
            }
            Command::MemoryChanges(reply) => {
                let _ = reply.send(std::mem::take(&mut *untold.lock().expect("no panic")));
            }
            _ => {}
        }
    }
}

fn main() {
    let seconds =
        std::env::var("STEERD_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(seconds));
}

async fn run(seconds: u32) {
    let directory = tempfile::TempDir::new().expect("a directory");
    let memory =
        Arc::new(Mutex::new((0..BACKENDS).map(|number| state(number, Verdict::Healthy)).collect::<Vec<_>>()));
    let untold = Arc::new(Mutex::new(MemoryChanges { everything: true, ..MemoryChanges::default() }));
    let (commands, received) = mpsc::channel(64);
    tokio::spawn(answer(received, Arc::clone(&memory), Arc::clone(&untold)));
    let table = Table {
        generation: 1,
        settings: Arc::default(),
        catalog: Arc::new(Catalog::new(Vec::new())),
        services: Arc::new([]),
        pools: Box::new([]),
    };
    let handle = Handle { published: Published::new(table), ready: watch::channel(true).1, commands };
    let place = Place::take(directory.path().into()).expect("a lock");
    let keeper = Keeper::start(Some(place), handle, Arc::new(Metrics::new(1)));
    while !directory.path().join(FILE).exists() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let snapshot = fs::metadata(directory.path().join(FILE)).expect("the snapshot").len();
    println!(
        "{BACKENDS} backends, snapshot {:.1} MB; {FLIPS_A_SECOND} flips a second for {seconds} s",
        float(snapshot) / 1e6
    );

    let (bytes, cpu) = (written(), cpu_time(std::process::id()));
    let began = tokio::time::Instant::now();
    let mut flip = 0_u32;
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while began.elapsed() < Duration::from_secs(seconds.into()) {
        tick.tick().await;
        for _ in 0..FLIPS_A_SECOND / 10 {
            let number = flip.wrapping_mul(7_919) % BACKENDS;
            let verdict = [Verdict::Unhealthy, Verdict::Healthy][(flip / BACKENDS) as usize % 2];
            let mut memory = memory.lock().expect("no panic");
            if let Some(kept) = memory.get_mut(number as usize) {
                (kept.verdict, kept.since) = (verdict, SystemTime::now());
                untold.lock().expect("no panic").states.push(kept.clone());
            }
            flip += 1;
        }
    }
    let took = began.elapsed().as_secs_f64();
    let cpu = cpu_time(std::process::id()).saturating_sub(cpu).as_secs_f64();
    let bytes = float(written() - bytes);
    let journal = fs::read_dir(directory.path()).expect("the directory").filter_map(Result::ok);
    let names: Vec<String> = journal.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    println!(
        "CPU {:.2} % of a core, {:.0} kB/s written, {:.0} bytes for each flip",
        100.0 * cpu / took,
        bytes / took / 1e3,
        bytes / f64::from(flip)
    );
    println!("in the end: {}", names.join(", "));
    keeper.stop().await;
}
