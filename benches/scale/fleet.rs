//! Many backends on loopback, all played by one listener. The destination address identifies the
//! backend, and a script decides its answer.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socket2::{Domain, Socket, Type};

/// Number of threads that answer probes, each with its own listening socket.
const THREADS: u64 = 2;
/// Length of the accept queue of each thread.
const BACKLOG: i32 = 4096;
/// How long a thread waits for a connection, and for the request on it.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much the niceness of its threads is raised.
const BACK: i32 = 5;
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const SICK: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// Marks a pool without a sick backend.
const WHOLE: u32 = u32::MAX;

/// The number of backends and pools, and the interval of probes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) backends: u32,
    pub(crate) pools: u32,
    pub(crate) interval: Duration,
}

impl Size {
    /// The addresses of a pool.
    pub(crate) fn addresses(self, pool: u32) -> impl Iterator<Item = Ipv4Addr> {
        let each = self.backends / self.pools;
        (pool * each..(pool + 1) * each).map(|index| Ipv4Addr::from(FIRST + index))
    }

    fn pool_of(self, backend: u32) -> u32 {
        backend / (self.backends / self.pools)
    }
}

const FIRST: u32 = u32::from_be_bytes([127, 1, 0, 0]);

/// A watched pool has become sick or healthy again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    pub(crate) pool: u32,
    pub(crate) sick: bool,
    /// Taken just before the backend answers the probe that reveals the change.
    pub(crate) at: Instant,
}

/// All backends.
pub(crate) struct Fleet {
    pub(crate) size: Size,
    pub(crate) port: u16,
    origin: Instant,
    /// Microseconds from the origin to the last probe of each backend; 0 before the first.
    seen: Vec<AtomicU64>,
    sick: Vec<AtomicBool>,
    probes: AtomicU64,
    /// Number of backends that have been probed at least once.
    known: AtomicU32,
    /// The longest time between two probes of one backend, microseconds; and how many gaps were too
    /// long.
    longest: AtomicU64,
    late: AtomicU64,
    script: Script,
}

/// How backends deviate from healthy answers.
struct Script {
    /// Pools below this number are watched: in each, one backend at a time fails one probe.
    watched: AtomicU32,
    /// The sick backend of each pool.
    sick_of: Vec<AtomicU32>,
    /// The minimum time between two watched changes, microseconds; and when it ends.
    pause: AtomicU64,
    next: AtomicU64,
    /// Whether a change is currently awaited in the answers. Only one is awaited at a time.
    busy: AtomicBool,
    changes: mpsc::SyncSender<Change>,
    /// How many of 1,000 probes of other backends reveal a change.
    storm: AtomicU32,
}

impl Fleet {
    /// Starts listening. Changes are sent to the receiver.
    pub(crate) fn start(size: Size) -> io::Result<(Arc<Self>, mpsc::Receiver<Change>)> {
        let (changes, receiver) = mpsc::sync_channel(1);
        let sockets: Vec<Socket> = (0..THREADS).map(|_| listen(0)).take(1).collect::<io::Result<_>>()?;
        let first = sockets.first().and_then(|socket| socket.local_addr().ok()?.as_socket());
        let port = first.map_or(0, |address| address.port());
        let others = (1..THREADS).map(|_| listen(port)).collect::<io::Result<Vec<_>>>()?;
        let fleet = Arc::new(Self {
            size,
            port,
            origin: Instant::now(),
            seen: (0..size.backends).map(|_| AtomicU64::new(0)).collect(),
            sick: (0..size.backends).map(|_| AtomicBool::new(false)).collect(),
            probes: AtomicU64::new(0),
            known: AtomicU32::new(0),
            longest: AtomicU64::new(0),
            late: AtomicU64::new(0),
            script: Script {
                watched: AtomicU32::new(0),
                sick_of: (0..size.pools).map(|_| AtomicU32::new(WHOLE)).collect(),
                pause: AtomicU64::new(0),
                next: AtomicU64::new(0),
                busy: AtomicBool::new(false),
                changes,
                storm: AtomicU32::new(0),
            },
        });
        for (seed, socket) in (0..).zip(sockets.into_iter().chain(others)) {
            let fleet = Arc::clone(&fleet);
            thread::spawn(move || serve(&fleet, &socket.into(), seed));
        }
        Ok((fleet, receiver))
    }

    pub(crate) fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    pub(crate) fn known(&self) -> u32 {
        self.known.load(Ordering::Relaxed)
    }

    /// The longest time between two probes of one backend since the last call, and how many gaps
    /// exceeded the limit.
    pub(crate) fn gaps(&self) -> (Duration, u64) {
        let longest = Duration::from_micros(self.longest.swap(0, Ordering::Relaxed));
        (longest, self.late.swap(0, Ordering::Relaxed))
    }

    /// Watches the first pools: one at a time becomes sick, and healthy again at its next probe.
    pub(crate) fn watch(&self, pools: u32, pause: Duration) {
        self.script.pause.store(microseconds(pause), Ordering::Relaxed);
        self.script.watched.store(pools, Ordering::Relaxed);
    }

    /// Makes this many of 1,000 probes of unwatched backends reveal another state.
    pub(crate) fn storm(&self, share: u32) {
        self.script.storm.store(share, Ordering::Relaxed);
    }

    /// Makes every backend healthy from its next probe on.
    pub(crate) fn calm(&self) {
        self.storm(0);
        self.watch(0, Duration::ZERO);
        self.sick.iter().for_each(|sick| sick.store(false, Ordering::Relaxed));
        self.script.sick_of.iter().for_each(|sick| sick.store(WHOLE, Ordering::Relaxed));
        self.looked();
    }

    /// Records that the last change was found, or that waiting for it was given up.
    pub(crate) fn looked(&self) {
        self.script.busy.store(false, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        microseconds(self.origin.elapsed())
    }

    /// Counts a probe. Returns whether the backend is healthy, and the change that this reveals.
    fn probed(&self, backend: u32, rng: &mut SmallRng) -> (bool, Option<Change>) {
        let now = self.now();
        self.probes.fetch_add(1, Ordering::Relaxed);
        let Some(seen) = self.seen.get(backend as usize) else { return (true, None) };
        match seen.swap(now, Ordering::Relaxed) {
            0 => {
                self.known.fetch_add(1, Ordering::Relaxed);
            }
            last => {
                let gap = now.saturating_sub(last);
                self.longest.fetch_max(gap, Ordering::Relaxed);
                // Probes are due with up to 5 % jitter; a further tenth of a second is allowed.
                let limit = self.size.interval.mul_f64(1.05) + Duration::from_millis(100);
                self.late.fetch_add(u64::from(gap > microseconds(limit)), Ordering::Relaxed);
            }
        }
        let pool = self.size.pool_of(backend);
        let script = &self.script;
        if pool < script.watched.load(Ordering::Relaxed) {
            return self.watched(pool, backend, now);
        }
        let Some(sick) = self.sick.get(backend as usize) else { return (true, None) };
        if rng.random_range(0..1000) < script.storm.load(Ordering::Relaxed) {
            sick.fetch_xor(true, Ordering::Relaxed);
        }
        (!sick.load(Ordering::Relaxed), None)
    }

    fn answer(&self, mut stream: TcpStream, rng: &mut SmallRng) -> io::Result<()> {
        let IpAddr::V4(asked) = stream.local_addr()?.ip() else { return Ok(()) };
        // A probe's request is one segment.
        if stream.read(&mut [0; 1024])? == 0 {
            return Ok(());
        }
        let (well, change) = self.probed(u32::from(asked) - FIRST, rng);
        let written = stream.write_all(if well { HEALTHY } else { SICK });
        if let Some(change) = change
            && self.script.changes.try_send(change).is_err()
        {
            self.looked();
        }
        written
    }

    fn watched(&self, pool: u32, backend: u32, now: u64) -> (bool, Option<Change>) {
        let script = &self.script;
        let Some(sick_of) = script.sick_of.get(pool as usize) else { return (true, None) };
        let change = |sick| Change { pool, sick, at: Instant::now() };
        let sick = sick_of.load(Ordering::Relaxed);
        if sick == backend {
            sick_of.store(WHOLE, Ordering::Relaxed);
            let looking = !script.busy.swap(true, Ordering::Relaxed);
            return (true, looking.then(|| change(false)));
        }
        let due = sick == WHOLE && now >= script.next.load(Ordering::Relaxed);
        if due && !script.busy.swap(true, Ordering::Relaxed) {
            sick_of.store(backend, Ordering::Relaxed);
            script.next.store(now + script.pause.load(Ordering::Relaxed), Ordering::Relaxed);
            return (false, Some(change(true)));
        }
        (true, None)
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Opens a listening socket. Operations on it and its connections time out after [`PATIENCE`].
fn listen(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Answers one probe after the other: the request has usually arrived when its connection is
/// accepted.
fn serve(fleet: &Fleet, listener: &TcpListener, seed: u64) {
    step_back();
    let mut rng = SmallRng::seed_from_u64(seed);
    loop {
        if let Ok((stream, _)) = listener.accept() {
            let _ = fleet.answer(stream, &mut rng);
        }
    }
}

/// Lowers the priority of this thread, because it plays other machines and must not slow the
/// server.
fn step_back() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    // The fields after the name in parentheses are numbers; number 17 is the niceness.
    let now = text.rsplit(')').next().and_then(|fields| fields.split(' ').nth(17)?.parse::<i32>().ok());
    let (Some(id), Some(now)) = (thread.file_name(), now) else { return };
    let _ = Command::new("renice")
        .args(["-n", &(now + BACK).to_string(), "-p"])
        .arg(id)
        .stdout(Stdio::null())
        .status();
}
