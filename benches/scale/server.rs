//! The real program, configured for a fleet.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::fleet::Size;
use crate::support::message::{A, Query, wire};
use crate::support::{STEERD, free_port, wait_for};

/// The answer of a service while its watched pool is sick.
pub(crate) const STANDBY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const ZONE: &str = "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 127.0.0.1\n";

/// The destination of the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// A file.
    File,
    /// A pipe that nobody reads.
    Stuck,
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) spawned: Instant,
    directory: TempDir,
}

/// The name of the service of a pool.
pub(crate) fn service(pool: u32) -> String {
    format!("s{pool}.scale.test")
}

/// The configuration of a fleet with backends on `port`: one service per pool, with a standby pool
/// as its second tier.
fn config(size: Size, port: u16, dns: SocketAddr, admin: SocketAddr) -> String {
    let interval = size.interval.as_millis();
    let timeout = (size.interval * 3 / 4).min(Duration::from_secs(2)).as_millis();
    let mut config = format!(
        "[server]\nlisten = [\"{dns}\"]\nstartup_wait = \"1m\"\n[admin]\nlisten = \"{admin}\"\n\
         [zones.\"scale.test\"]\nfile = \"zone\"\n\
         [defaults.check]\ninterval = \"{interval}ms\"\ntimeout = \"{timeout}ms\"\nrise = 1\nfall = 1\n{EXTRA_DEFAULTS}\
         [pools.standby]\nbackends = [\"{STANDBY}\"]\n"
    );
    for pool in 0..size.pools {
        let addresses: Vec<String> = size.addresses(pool).map(|address| format!("\"{address}\"")).collect();
        write!(
            config,
            "[pools.p{pool}]\ncheck = \"http://:{port}/health\"\nmin_healthy = \"100%\"\nbackends = [{}]\n\
             [services.\"{}\"]\npools = [\"p{pool}\", \"standby\"]\nanswers = 1\n",
            addresses.join(", "),
            service(pool)
        )
        .expect("a string");
    }
    config
}

/// Settings with which each outcome counts at once.
const EXTRA_DEFAULTS: &str = "damping = false\n[defaults.pool]\nsuspect_self = \"off\"\n";

impl Server {
    /// Starts a server with its own directory.
    pub(crate) fn start(size: Size, port: u16, log: Log) -> Self {
        let directory = TempDir::new().expect("a directory");
        let [dns, admin] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port("127.0.0.1"))));
        fs::write(directory.path().join("zone"), ZONE).expect("a file");
        let path = directory.path().join("steerd.toml");
        fs::write(&path, config(size, port, dns, admin)).expect("a file");
        let stderr = match log {
            Log::File => File::create(directory.path().join("log")).expect("a file").into(),
            Log::Stuck => Stdio::piped(),
        };
        let spawned = Instant::now();
        let child = Command::new(STEERD)
            .args(["serve", "-c"])
            .arg(path)
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("it starts");
        Self { child, dns, admin, spawned, directory }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until DNS is answered, and returns the time of the first answer.
    pub(crate) fn answers(&mut self) -> Instant {
        let query = Query::plain(wire("ns1.scale.test"), A).encode(1);
        wait_for("DNS is answered", || {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("steerd ended with {status}: {}", self.log());
            }
            let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
            socket.connect(self.dns).ok()?;
            socket.set_read_timeout(Some(Duration::from_millis(20))).ok()?;
            socket.send(&query).ok()?;
            socket.recv(&mut [0; 512]).ok().map(|_| Instant::now())
        })
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Opens a connection and sends a request, without reading the reply.
    pub(crate) fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let stream = TcpStream::connect(self.admin).expect("it listens");
        let length = body.len();
        write!(
            &stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .expect("a request");
        stream
    }

    /// The body of a GET, and the time to its last byte.
    pub(crate) fn get(&self, path: &str) -> (String, Duration) {
        let began = Instant::now();
        let mut stream = self.send("GET", path, "");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("a reply");
        let reply = String::from_utf8_lossy(&reply);
        let (head, body) = reply.split_once("\r\n\r\n").expect("a reply");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
        (body.to_owned(), began.elapsed())
    }

    pub(crate) fn histogram(&self, name: &str) -> Histogram {
        Histogram::read(&self.get("/metrics").0, name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Prometheus histogram without labels: upper bounds in seconds with their cumulative counts.
pub(crate) struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    fn read(text: &str, name: &str) -> Self {
        let prefix = format!("steerd_{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?))
        };
        Self(text.lines().filter_map(bucket).collect())
    }

    /// The counts added since an earlier reading.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let buckets = self.0.iter().zip(&before.0);
        Self(buckets.map(|((bound, count), (_, earlier))| (*bound, count - earlier)).collect())
    }

    /// The bound below which this share of the values lies.
    pub(crate) fn p(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        self.0.iter().find(|(_, count)| *count >= all * share).map_or(f64::NAN, |(bound, _)| *bound)
    }

    pub(crate) fn shown(&self) -> String {
        let [p50, p99, all] = [0.5, 0.99, 1.0].map(|share| self.p(share) * 1e3);
        format!("p50 <= {p50} ms, p99 <= {p99} ms, all <= {all} ms")
    }
}
