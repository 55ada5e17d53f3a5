//! Idle readers release a replaced zone, and it is freed on a thread that delays nothing: not one that
//! answers queries or probes backends, and not by a connection that ends.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what a test cannot do fails it")]
#![allow(unsafe_code, reason = "a global allocator needs it; every call is passed on unchanged")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use steerd::server::{self, Server};

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// The system's allocator; it records which thread frees a large block.
struct Watching;

/// The size from which a block counts as large: on a server without clients, only zones have such blocks.
const LARGE: usize = 1 << 20;
/// The kernel's limit for the name of a thread, including the terminator.
const NAME: usize = 16;

static IS_WATCHING: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicUsize = AtomicUsize::new(0);
static NAMES: Mutex<[[u8; NAME]; 256]> = Mutex::new([[0; NAME]; 256]);

// SAFETY: every call passes its arguments unchanged to the system's allocator.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller upholds the contract of `realloc`.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() >= LARGE && IS_WATCHING.load(Ordering::Relaxed) {
            let mut name = [0; NAME];
            // SAFETY: the call writes at most 16 bytes, and `name` has 16.
            unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
            let index = COUNT.fetch_add(1, Ordering::SeqCst);
            if let Some(place) = NAMES.lock().unwrap().get_mut(index) {
                *place = name;
            }
        }
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

/// The names of the threads that have freed large blocks since the last call.
fn freed_by() -> Vec<String> {
    let count = COUNT.swap(0, Ordering::SeqCst);
    let names = *NAMES.lock().unwrap();
    let shown =
        |name: &[u8; NAME]| String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap()).into();
    names.iter().take(count).map(shown).collect()
}

/// How long readers may keep replaced data: they check every 100 ms, on a busy machine.
const LET_GO: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);
/// Enough for each large part of a zone to be a large block.
const RECORDS: usize = 100_000;

fn write_zone(directory: &Path, serial: u32, records: usize) {
    let mut zone = format!(
        "$TTL 60\n@ SOA ns1 host {serial} 3600 600 604800 30\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n"
    );
    for index in 0..records {
        writeln!(zone, "a-host-with-a-name-{index} A 192.0.2.80").unwrap();
    }
    std::fs::write(directory.join("zone"), zone).unwrap();
}

async fn is_gone<T: ?Sized>(weak: &Weak<T>, within: Duration) -> Duration {
    let began = Instant::now();
    while weak.strong_count() > 0 {
        assert!(began.elapsed() < within, "{} still hold it after {within:?}", weak.strong_count());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// A query for `example.test`.
fn query(qtype: u8) -> Vec<u8> {
    let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x07example\x04test\x00\x00");
    query.extend([qtype, 0, 1]);
    query
}

fn framed(query: &[u8]) -> Vec<u8> {
    [&u16::try_from(query.len()).unwrap().to_be_bytes()[..], query].concat()
}

/// Makes every kind of reader read the table, and leaves the readers idle.
fn read_and_rest(dns: SocketAddr) -> TcpStream {
    // Sockets with different ports reach both workers.
    for _ in 0..32 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(&query(6), dns).unwrap();
        client.recv(&mut [0; 512]).unwrap();
    }
    let mut stream = TcpStream::connect(dns).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&framed(&query(6))).unwrap();
    stream.read_exact(&mut [0; 32]).unwrap();
    stream
}

async fn reload(running: &Server) {
    running.reload.reload("a test".into(), None).await.unwrap();
}

/// The workers of the runtime, which answer over TCP, start first; threads that may block start later.
const WORKERS: usize = 2;

#[test]
fn idle_readers_let_go_and_a_thread_of_its_own_frees() {
    let started = AtomicUsize::new(0);
    let name = move || match started.fetch_add(1, Ordering::SeqCst) {
        number if number < WORKERS => format!("worker-{number}"),
        number => format!("blocking-{number}"),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(WORKERS).thread_name_fn(name).enable_all().build().unwrap();
    runtime.block_on(let_go_and_free());
}

async fn let_go_and_free() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("steerd.toml");
    let config = "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n\
                  [zones.\"example.test\"]\nfile = \"zone\"\ntransfer = { networks = [\"127.0.0.0/8\"] }\n";
    std::fs::write(&file, config).unwrap();
    write_zone(directory.path(), 1, RECORDS);
    let setup = steerd::config::load(&file).unwrap();
    let mut running = server::start(setup, Some(file)).await.unwrap();
    running.answer().await.unwrap();
    let dns = running.dns[0];
    let published = &running.checker.published;

    let idle = read_and_rest(dns);
    let old = Arc::downgrade(&published.load());
    write_zone(directory.path(), 2, 1);
    IS_WATCHING.store(true, Ordering::SeqCst);
    reload(&running).await;
    let took = is_gone(&old, LET_GO).await;
    println!("{took:?} until all idle readers had let go");
    let by = freed_by();
    assert!(by.iter().any(|name| name == "retired-tables"), "{by:?}");
    let answers =
        |name: &String| name.starts_with("udp-") || name.starts_with("worker-") || name == "checker";
    assert!(!by.iter().any(answers), "{by:?}");
    IS_WATCHING.store(false, Ordering::SeqCst);
    drop(idle);

    // A configuration that is rejected after it was loaded: its state_dir is in use.
    let taken = tempfile::tempdir().unwrap();
    let lock = steerd::state::StateDirectory::take(taken.path().to_owned()).unwrap();
    let other = config.replace("workers", &format!("state_dir = \"{}\"\nworkers", taken.path().display()));
    write_zone(directory.path(), 2, RECORDS);
    std::fs::write(directory.path().join("steerd.toml"), other).unwrap();
    COUNT.store(0, Ordering::SeqCst);
    IS_WATCHING.store(true, Ordering::SeqCst);
    running.reload.reload("a test".into(), None).await.unwrap_err();
    IS_WATCHING.store(false, Ordering::SeqCst);
    let by = freed_by();
    assert!(!by.iter().any(answers), "{by:?}");
    drop(lock);
    std::fs::write(directory.path().join("steerd.toml"), config).unwrap();

    // A transfer holds the zone, but not the table; it frees neither.
    write_zone(directory.path(), 3, RECORDS);
    reload(&running).await;
    let mut transfer = read_and_rest(dns);
    transfer.write_all(&framed(&query(252))).unwrap();
    transfer.read_exact(&mut [0; 100]).unwrap();
    let old = Arc::downgrade(&published.load());
    let zones = Arc::downgrade(&published.load().catalog);
    write_zone(directory.path(), 4, 1);
    reload(&running).await;
    is_gone(&old, LET_GO).await;
    assert!(zones.strong_count() > 0, "the transfer is not over");
    // Frees the memory that the reload itself has used.
    tokio::task::spawn_blocking(|| ()).await.unwrap();
    COUNT.store(0, Ordering::SeqCst);
    IS_WATCHING.store(true, Ordering::SeqCst);
    drop(transfer);
    is_gone(&zones, PATIENCE).await;
    let by = freed_by();
    IS_WATCHING.store(false, Ordering::SeqCst);
    assert!(!by.is_empty() && by.iter().all(|name| name == "retired-tables"), "{by:?}");
    running.stop().await;
}
