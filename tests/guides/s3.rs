//! `docs/guides/S3.md`: a fleet of S3 gateways, with boto3 as its client all the while.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::guide::Guide;
use crate::hosts::{PORT, add_addresses, write_ssh, write_web_server};
use crate::namespace;
use crate::support::{Process, wait_for};

/// The hosts of the guide.
const GATEWAYS: [(&str, &str); 5] = [
    ("gw1", "192.0.2.11"),
    ("gw2", "192.0.2.12"),
    ("gw3", "192.0.2.13"),
    ("gw4", "198.51.100.11"),
    ("gw5", "198.51.100.12"),
];
/// The TTL of the service in the guide.
const TTL: Duration = Duration::from_secs(5);
/// Operations of the client during the upgrade, at least. With `STEERD_GUIDES=full` the upgrade is repeated until there
/// are [`ALL_REQUESTS`].
const REQUESTS: usize = 1_000;
const ALL_REQUESTS: usize = 10_000;

/// The Python interpreter with boto3 and moto.
fn python() -> PathBuf {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python/bin/python");
    assert!(python.exists(), "{} is missing: tests/run makes it", python.display());
    python
}

/// A gateway: it hands requests to the store, and names itself.
fn locations(name: &str) -> String {
    format!(
        "location / {{ proxy_pass http://127.0.0.1:5000; proxy_set_header Host $http_host; \
         add_header X-Gateway {name} always; }}"
    )
}

/// The store behind all gateways.
fn start_store() -> Process {
    let store = Process::start(
        Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "5000"])
            // Otherwise it takes the first label of the service's name for a bucket.
            .env("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true"),
    );
    wait_for("the store listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, 5000)).ok());
    store
}

/// A client that writes and reads objects until all operations are done.
struct Load {
    process: Process,
    printed: PathBuf,
}

impl Load {
    fn start(directory: &Path) -> Self {
        let printed = directory.join("load");
        let process = Process::start(
            Command::new(python())
                .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guides/load.py"))
                .args(["http://s3.lb.example.com:8080", "5"])
                .envs([("AWS_ACCESS_KEY_ID", "examples"), ("AWS_SECRET_ACCESS_KEY", "examples")])
                .env("AWS_DEFAULT_REGION", "us-east-1")
                .stdout(std::fs::File::create(&printed).unwrap()),
        );
        let load = Self { process, printed };
        wait_for("the first operations", || (load.lines().len() > 20).then_some(()));
        load
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.printed).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The sum of all retries.
    fn retries(&self) -> u32 {
        let retries = |line: &String| line.split_once(' ').and_then(|(_, count)| count.parse::<u32>().ok());
        self.lines().iter().filter_map(retries).sum()
    }

    /// Ends the client, and returns how many operations there were. None has failed.
    fn end(mut self) -> usize {
        self.process.signal("TERM");
        assert_eq!(self.process.ended(), Some(0));
        self.gateways(0).len()
    }

    /// The gateways of the operations after the first `count`. None of all operations has failed.
    fn gateways(&self, count: usize) -> Vec<String> {
        let lines = self.lines();
        let failed: Vec<&String> = lines.iter().filter(|line| line.starts_with("failed")).collect();
        assert!(failed.is_empty(), "{} of {} operations failed: {failed:?}", failed.len(), lines.len());
        let gateway = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
        lines.iter().skip(count).map(gateway).collect()
    }
}

/// A client that neither retries nor tries a second address, but respects the TTL.
struct Plain {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(usize, Vec<String>)>,
}

impl Plain {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = thread::spawn(move || {
            let (mut count, mut failures) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let address = ("s3.lb.example.com", PORT).to_socket_addrs().unwrap().next().unwrap();
                let answered = Instant::now();
                while answered.elapsed() < TTL && !stopped.load(Ordering::Relaxed) {
                    count += 1;
                    failures.extend(request(address).err().map(|error| format!("{address}: {error}")));
                }
            }
            (count, failures)
        });
        Self { stop, task }
    }

    /// The number of requests, and the failures.
    fn end(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.join().unwrap()
    }
}

fn request(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply)?;
    if reply.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(io::Error::other(reply)) }
}

#[test]
fn a_rolling_restart_by_drain_fails_no_request() {
    namespace::run("s3::a_rolling_restart_by_drain_fails_no_request", || {
        add_addresses(GATEWAYS.map(|(_, address)| address));
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        for (name, address) in GATEWAYS {
            write_web_server(path, name, address, &locations(name));
        }
        write_ssh(path);
        let _store = start_store();
        let mut guide = Guide::open("S3.md", path);
        guide.also(&format!("PATH={}:$PATH", path.display()));
        guide.also("for host in gw1 gw2 gw3 gw4 gw5; do ssh $host sudo systemctl start s3-gateway; done");
        guide.also(&format!(
            "export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x AWS_DEFAULT_REGION=us-east-1; python3() {{ {} \"$@\"; }}; \
             cp {}/examples/clients/with_boto3.py .",
            python().display(),
            env!("CARGO_MANIFEST_DIR")
        ));
        guide.follow_until("Upgrade the gateways, one after the other");
        let (load, plain) = (Load::start(path), Plain::start());
        let before = load.lines().len();
        guide.follow_until("Try a new version with a part of the traffic");
        let during = || load.gateways(before).len();
        let wanted = if std::env::var_os("STEERD_GUIDES").is_some() { ALL_REQUESTS } else { REQUESTS };
        while during() < wanted {
            guide.repeat();
        }
        let (count, failures) = plain.end();
        assert!(failures.is_empty(), "{} of {count} plain requests failed: {failures:?}", failures.len());
        assert!(count > REQUESTS, "{count}");
        let (seen, retries) = (load.lines().len(), load.retries());
        println!(
            "during the upgrade: {} operations of boto3 with {retries} retries, and {count} requests without retries or \
             second addresses; none failed",
            during()
        );
        guide.follow_until("Lose a site, or leave it");
        guide.follow();
        wait_for("all three gateways of the first site", || {
            let gateways = load.gateways(seen);
            ["gw1", "gw2", "gw3"]
                .into_iter()
                .all(|name| gateways.iter().any(|gateway| gateway == name))
                .then_some(())
        });
        println!("in all: {} operations, none failed", load.end());
    });
}
