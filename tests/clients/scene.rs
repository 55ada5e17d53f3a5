//! The environment for an example client: steerd as its resolver, and backends that refuse, are silent, fail
//! now and then, or answer.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::support::{Process, STEERD, http_with, wait_for};

/// An address without a listener.
pub(crate) const DEAD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// An address with a listener that accepts no further connections.
pub(crate) const SILENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
/// The port of all backends.
pub(crate) const PORT: u16 = 8080;

/// How long after its removal a backend may still get requests: the TTL of a second, the longest time that a
/// client keeps a connection (five seconds), and the time of the slowest request, on a loaded machine.
const FOLLOWS: Duration = Duration::from_secs(15);
/// How many consecutive lines show that a client has left a backend.
const SETTLED: usize = 10;
/// One of this many requests to backends that answer gets a 503, never two in a row.
const FAILS: usize = 4;
/// A connection to loopback that takes longer counts as not accepted.
const NOT_TAKEN: Duration = Duration::from_millis(500);

/// A running steerd that answers on port 53.
pub(crate) struct Steerd {
    _process: Process,
    _directory: TempDir,
}

impl Steerd {
    /// Answers `service` with all of `backends`. Dead and silent ones nearly always come first, so only a
    /// client that tries the addresses in turn reaches the others. There are no checks, so they stay in the
    /// answers.
    pub(crate) fn start(service: &str, backends: &[(&str, Ipv4Addr, u32)]) -> Self {
        let listed: Vec<String> = backends
            .iter()
            .map(|(name, address, weight)| {
                format!("{{ name = \"{name}\", address = \"{address}\", weight = {weight} }}")
            })
            .collect();
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[admin]\nlisten = \"127.0.0.1:8053\"\n\
             [zones.\"lb.example.com\"]\nfile = \"zone\"\n[pools.web]\nbackends = [{}]\n\
             [services.\"{service}\"]\npools = [\"web\"]\nanswers = \"all\"\nttl = \"1s\"\n",
            listed.join(", ")
        );
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("steerd.toml");
        std::fs::write(&path, config).unwrap();
        std::fs::write(
            directory.path().join("zone"),
            "@ 60 IN SOA ns1 hostmaster 1 60 60 600 1\n@ 60 IN NS ns1\nns1 60 IN A 127.0.0.1\n",
        )
        .unwrap();
        let process = Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(path));
        wait_for("DNS is answered", || process.said("DNS is answered").pop());
        Self { _process: process, _directory: directory }
    }

    /// Removes a backend from the answers.
    pub(crate) fn disable(backend: &str) {
        let admin = SocketAddr::from(([127, 0, 0, 1], 8053));
        let path = format!("/api/v1/pools/web/backends/{backend}/override");
        let (status, reply) = http_with(admin, "PUT", &path, "", r#"{"state": "disabled", "force": true}"#);
        assert_eq!(status, 200, "{reply}");
    }
}

/// A listener with a full backlog: a connection to it is neither accepted nor refused.
pub(crate) struct Silent {
    _listener: Socket,
    _backlog: Vec<Socket>,
}

impl Silent {
    pub(crate) fn start() -> Self {
        let address = SocketAddr::from((SILENT, PORT));
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        Self { _listener: listener, _backlog: fill(address) }
    }
}

/// Fills the backlog of a listener that accepts nothing.
pub(crate) fn fill(address: SocketAddr) -> Vec<Socket> {
    let mut taken = Vec::new();
    wait_for("the backlog is full", || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let is_full = socket.connect_timeout(&address.into(), NOT_TAKEN).is_err();
        taken.push(socket);
        is_full.then_some(())
    });
    taken
}

/// Starts backends that answer with their names and keep connections alive, until the test ends. Of every
/// [`FAILS`] requests to them, the last gets a 503.
pub(crate) fn answering(backends: &[(&'static str, Ipv4Addr)]) {
    let served = Arc::new(AtomicUsize::new(0));
    for &(name, address) in backends {
        let listener = TcpListener::bind((address, PORT)).unwrap();
        let served = Arc::clone(&served);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let served = Arc::clone(&served);
                let fails = move || (served.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(FAILS);
                std::thread::spawn(move || serve(&stream, name, fails));
            }
        });
    }
}

fn serve(mut stream: &TcpStream, name: &str, fails: impl Fn() -> bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while lines.next().transpose()?.is_some() {
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let status = if fails() { "503 Service Unavailable" } else { "200 OK" };
        let reply = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        stream.write_all(reply.as_bytes())?;
    }
    Ok(())
}

/// The path of an example.
pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients").join(name)
}

/// The Python interpreter with the packages that the examples need.
pub(crate) fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python/bin/python");
    assert!(python.exists(), "{} is missing: tests/run makes it", python.display());
    python
}

/// A client that sends one request after another, and prints the status and the backend of each reply.
pub(crate) struct Client {
    process: Process,
    printed: PathBuf,
    _directory: TempDir,
}

impl Client {
    pub(crate) fn start(command: &mut Command) -> Self {
        let directory = TempDir::new().unwrap();
        let printed = directory.path().join("printed");
        let process = Process::start(command.stdout(std::fs::File::create(&printed).unwrap()));
        Self { process, printed, _directory: directory }
    }

    /// The output so far, line by line.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.printed).unwrap();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().map(str::to_owned).collect()
    }

    /// The backend of each reply, when there are `count` replies. Panics if a reply is not good.
    pub(crate) fn replies(&mut self, count: usize) -> Vec<String> {
        loop {
            let replies = self.good_replies();
            if replies.len() >= count {
                return replies;
            }
            // This is the limit for each reply, not for all together.
            wait_for("the next reply", || {
                let is_running = self.process.is_running();
                assert!(is_running, "the client ended: {replies:?} {:?}", self.process.said(""));
                (self.lines().len() > replies.len()).then_some(())
            });
        }
    }

    fn good_replies(&self) -> Vec<String> {
        let lines = self.lines();
        let backend = |line: &String| match line.strip_prefix("200 ") {
            Some(backend) => backend.to_owned(),
            None => panic!("a request failed: {line}\nall replies: {lines:?}"),
        };
        lines.iter().map(backend).collect()
    }

    /// Removes the client's current backend from the answers, and checks that the client soon uses only
    /// `others`, without a failed request. The backend continues to answer.
    pub(crate) fn follows(&mut self) {
        let replies = self.replies(1);
        let left = replies.last().unwrap();
        Steerd::disable(left);
        let removed = Instant::now();
        let (mut seen, mut in_a_row) = (replies.len(), 0);
        while in_a_row < SETTLED {
            let replies = self.replies(seen + 1);
            for backend in &replies[seen..] {
                in_a_row = if backend == left { 0 } else { in_a_row + 1 };
            }
            let took = removed.elapsed();
            assert!(
                in_a_row > 0 || took < FOLLOWS,
                "{left} is still used {took:?} after its removal: {replies:?}"
            );
            seen = replies.len();
        }
    }
}
