//! The cost of a health check: steerd, HAProxy and gdnsd side by side, against one nginx on
//! loopback. DNS does not belong here.
//!
//! Each program checks 1,000 servers (`127.x.y.z`) five times a second; gdnsd, whose shortest interval
//! is 2 s, checks 10,000. HTTPS is checked once a second, because nginx shares the machine. The
//! programs run in turn, so that other load on the machine affects all of them. The compared figure is
//! the CPU time of the checking process per connection that it opened, as the kernel counts them: nginx
//! would miss connections that HAProxy's TCP check resets during the handshake. HAProxy has one thread;
//! the others use their defaults.
#![allow(
    clippy::unchecked_time_subtraction,
    clippy::naive_bytecount,
    reason = "clocks go forwards, logs are short"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::measure::{connections_begun, cpu_time, float, quantile, resident};
use crate::programs::Need;
use crate::support::{Process, STEERD, free_port, program, wait_for};

/// Number of servers to check.
const SERVERS: u32 = 1_000;
/// The shortest interval of gdnsd, seconds.
const GDNSD_INTERVAL: u32 = 2;
/// How long a program runs before the measurement, so that its first round is over.
const WARM_UP: Duration = Duration::from_secs(4);
/// The name in nginx's certificate.
const NAME: &str = "backend.test";

/// A kind of check and its interval.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    check: Check,
    /// In milliseconds.
    interval: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    Tcp,
    Http,
    /// With or without resumption of TLS sessions.
    Https {
        resumed: bool,
    },
}

/// All kinds, in the order of the table.
pub(crate) const KINDS: [Kind; 4] = [
    Kind { name: "checks, tcp", check: Check::Tcp, interval: 200 },
    Kind { name: "checks, http", check: Check::Http, interval: 200 },
    Kind { name: "checks, https, resumed", check: Check::Https { resumed: true }, interval: 1_000 },
    Kind { name: "checks, https, in full", check: Check::Https { resumed: false }, interval: 1_000 },
];

/// A checking program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Checker {
    Steerd,
    Haproxy,
    Gdnsd,
}

const CHECKERS: [(Checker, &str); 3] =
    [(Checker::Steerd, "steerd"), (Checker::Haproxy, "haproxy"), (Checker::Gdnsd, "gdnsd")];

/// The result of a measurement.
#[derive(Clone, Copy)]
struct Measured {
    /// CPU time per check, microseconds.
    cost: f64,
    /// Checks per second.
    rate: f64,
    /// Resident memory, bytes.
    memory: u64,
    /// Share of handshakes that resumed a session.
    resumed: f64,
}

/// The checking programs and the backend, and their packages.
pub(crate) const NEEDS: [Need; 3] = [("nginx", "nginx-light"), ("haproxy", "haproxy"), ("gdnsd", "gdnsd")];

/// Measures these kinds of checks, and prints a table.
pub(crate) fn run(kinds: &[Kind], rounds: usize, time: Duration) {
    let nginx = Nginx::start();
    let mut found: Vec<(Kind, Checker, Vec<Measured>)> = Vec::new();
    for round in 1..=rounds {
        for kind in kinds.iter().copied() {
            for (checker, name) in CHECKERS {
                if checker == Checker::Gdnsd && matches!(kind.check, Check::Https { .. }) {
                    continue;
                }
                let measured = measure(checker, kind, &nginx, time);
                eprintln!("round {round}: {} {name} {:.1} us/check", kind.name, measured.cost);
                match found.iter_mut().find(|entry| (entry.0, entry.1) == (kind, checker)) {
                    Some((_, _, rounds)) => rounds.push(measured),
                    None => found.push((kind, checker, vec![measured])),
                }
            }
        }
    }
    print(&found);
}

fn print(found: &[(Kind, Checker, Vec<Measured>)]) {
    println!(
        "| check | program | checks/s | CPU us per check, median (least) | of HAProxy's | resumed | memory |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (kind, checker, rounds) in found {
        let median = |rounds: &[Measured]| {
            let mut costs: Vec<f64> = rounds.iter().map(|measured| measured.cost).collect();
            quantile(&mut costs, 0.5)
        };
        let of_peer = found
            .iter()
            .find(|(other, peer, _)| other == kind && *peer == Checker::Haproxy)
            .map_or(f64::NAN, |(_, _, peer)| median(rounds) / median(peer));
        let least = rounds.iter().map(|measured| measured.cost).fold(f64::INFINITY, f64::min);
        let Some(last) = rounds.last() else { continue };
        let name = CHECKERS.iter().find(|(one, _)| one == checker).map_or("", |(_, name)| name);
        let resumed = match kind.check {
            Check::Https { .. } => format!("{:.1} %", last.resumed * 100.0),
            _ => "-".into(),
        };
        println!(
            "| {} | {name} | {:.0} | {:.1} ({least:.1}) | {of_peer:.2} | {resumed} | {:.0} MB |",
            kind.name,
            last.rate,
            median(rounds),
            float(last.memory) / 1e6,
        );
    }
}

fn measure(checker: Checker, kind: Kind, nginx: &Nginx, time: Duration) -> Measured {
    let directory = TempDir::new().expect("a directory");
    let begun = connections_begun();
    let mut process = match checker {
        Checker::Steerd => steerd(directory.path(), kind, nginx),
        Checker::Haproxy => haproxy(directory.path(), kind, nginx),
        Checker::Gdnsd => gdnsd(directory.path(), kind, nginx),
    };
    wait_for("checks begin", || {
        assert!(process.is_running(), "{checker:?} ended: {:?}", process.said(""));
        (connections_begun() > begun + u64::from(SERVERS)).then_some(())
    });
    sleep(WARM_UP);
    let (started, handshakes) = (Instant::now(), nginx.handshakes());
    let (cpu, begun) = (cpu_time(process.id()), connections_begun());
    sleep(time);
    let (cpu, begun) = (cpu_time(process.id()) - cpu, connections_begun() - begun);
    let took = started.elapsed();
    Measured {
        cost: cpu.as_secs_f64() * 1e6 / float(begun),
        rate: float(begun) / took.as_secs_f64(),
        memory: resident(process.id()),
        resumed: nginx.handshakes().resumed_since(&handshakes),
    }
}

/// The addresses of this many servers.
fn servers(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    (0..count).map(move |index| Ipv4Addr::from(first + index))
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("a file");
    path
}

fn steerd(directory: &Path, kind: Kind, nginx: &Nginx) -> Process {
    let port = nginx.port(kind.check);
    let check = match kind.check {
        Check::Tcp => "type = \"tcp\"".to_owned(),
        Check::Http => "type = \"http\", path = \"/\"".to_owned(),
        Check::Https { .. } => {
            let authority = nginx.authority.display();
            format!(
                "type = \"https\", path = \"/\", tls = {{ name = \"{NAME}\", ca_file = \"{authority}\" }}"
            )
        }
    };
    let (interval, timeout) = (kind.interval, kind.interval * 3 / 4);
    let mut config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[zones.\"peers.test\"]\nfile = \"zone\"\n\
         [defaults.check]\ninterval = \"{interval}ms\"\ntimeout = \"{timeout}ms\"\n"
    );
    let addresses: Vec<String> = servers(SERVERS).map(|address| format!("\"{address}\"")).collect();
    for (pool, addresses) in addresses.chunks(100).enumerate() {
        writeln!(
            config,
            "[pools.p{pool}]\ncheck = {{ {check}, port = {port} }}\nbackends = [{}]",
            addresses.join(", ")
        )
        .expect("a string");
    }
    write(
        directory,
        "zone",
        "$TTL 60\n@ SOA ns1 hostmaster 1 3600 600 604800 30\n@ NS ns1\nns1 A 127.0.0.1\n",
    );
    let path = write(directory, "steerd.toml", &config);
    Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(path))
}

fn haproxy(directory: &Path, kind: Kind, nginx: &Nginx) -> Process {
    let port = nginx.port(kind.check);
    let authority = nginx.authority.display();
    let options = match kind.check {
        Check::Tcp | Check::Http => String::new(),
        Check::Https { resumed } => format!(
            "check-ssl check-sni {NAME} verify required ca-file {authority} verifyhost {NAME}{}",
            if resumed { "" } else { " no-ssl-reuse" }
        ),
    };
    let (interval, timeout) = (kind.interval, kind.interval * 3 / 4);
    let mut config = format!(
        "global\n    nbthread 1\n    maxconn 4000\ndefaults\n    mode tcp\n    timeout connect {timeout}ms\n    \
         timeout check {timeout}ms\n    timeout client 10s\n    timeout server 10s\n\
         listen servers\n    bind 127.0.0.1:{}\n",
        free_port("127.0.0.1")
    );
    if kind.check != Check::Tcp {
        config += "    option httpchk\n    http-check send meth GET uri / ver HTTP/1.1 hdr host backend.test\n    \
                   http-check expect status 200-299\n";
    }
    for (index, address) in servers(SERVERS).enumerate() {
        writeln!(config, "    server s{index} {address}:{port} check inter {interval}ms {options}")
            .expect("a string");
    }
    let path = write(directory, "haproxy.cfg", &config);
    Process::start(Command::new(program("haproxy")).arg("-db").arg("-f").arg(path))
}

fn gdnsd(directory: &Path, kind: Kind, nginx: &Nginx) -> Process {
    let port = nginx.port(kind.check);
    let plugin = if kind.check == Check::Tcp { "tcp_connect" } else { "http_status" };
    let path = directory.display();
    let mut config = format!(
        "options => {{ listen => \"127.0.0.1:{}\", run_dir => {path}/run, state_dir => {path}/state }}\n\
         service_types => {{ check => {{ plugin => {plugin}, port => {port}, interval => {GDNSD_INTERVAL}, timeout => 1 }} }}\n\
         plugins => {{ multifo => {{ service_types => check\n",
        free_port("127.0.0.1")
    );
    let count = SERVERS * GDNSD_INTERVAL * 1_000 / kind.interval;
    let addresses: Vec<Ipv4Addr> = servers(count).collect();
    for (resource, addresses) in addresses.chunks(50).enumerate() {
        write!(config, "r{resource} => {{ ").expect("a string");
        for (index, address) in addresses.iter().enumerate() {
            write!(config, "b{index} => {address}, ").expect("a string");
        }
        config += "}\n";
    }
    config += "} }\n";
    fs::create_dir(directory.join("zones")).expect("a directory");
    write(directory, "config", &config);
    Process::start(Command::new(program("gdnsd")).arg("-c").arg(directory).arg("start"))
}

/// The backend of all programs.
struct Nginx {
    plain: u16,
    resumable: u16,
    full: u16,
    authority: PathBuf,
    /// One byte per handshake, which tells whether it resumed a session.
    log: PathBuf,
    _process: Process,
    _directory: TempDir,
}

/// Number of handshakes so far.
struct Handshakes {
    all: usize,
    resumed: usize,
}

impl Handshakes {
    fn resumed_since(&self, before: &Self) -> f64 {
        let all = (self.all - before.all) as u64;
        if all == 0 { 0.0 } else { float((self.resumed - before.resumed) as u64) / float(all) }
    }
}

impl Nginx {
    fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let certified = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let authority = write(directory.path(), "certificate.pem", &certified.cert.pem());
        let key = write(directory.path(), "key.pem", &certified.signing_key.serialize_pem());
        let [plain, resumable, full] = [(); 3].map(|()| free_port("0.0.0.0"));
        let (path, certificate, key) = (directory.path().display(), authority.display(), key.display());
        let log = directory.path().join("handshakes");
        let mut temporary = String::new();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(temporary, "{kind}_temp_path {path}/{kind};").expect("a string");
        }
        let tls = format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; location / {{ return 200 ok; }}"
        );
        let config = format!(
            "user root root; daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 16000;\n\
             pid {path}/pid; error_log {path}/errors crit;\n\
             events {{ worker_connections 8000; multi_accept on; }}\n\
             http {{ access_log off; {temporary}\n\
             log_format handshake $ssl_session_reused;\n\
             server {{ listen 0.0.0.0:{plain} backlog=4096; location / {{ return 200 ok; }} }}\n\
             server {{ listen 0.0.0.0:{resumable} ssl backlog=4096; ssl_session_cache shared:resumable:32m;\n\
             access_log {path}/handshakes handshake; {tls} }}\n\
             server {{ listen 0.0.0.0:{full} ssl backlog=4096; ssl_session_cache off; ssl_session_tickets off; {tls} }} }}\n"
        );
        let file = write(directory.path(), "nginx.conf", &config);
        let process = Process::start(
            Command::new(program("nginx"))
                .arg("-p")
                .arg(directory.path())
                .arg("-c")
                .arg(file)
                .args(["-e", "stderr"]),
        );
        wait_for("nginx listens", || TcpStream::connect((Ipv4Addr::LOCALHOST, plain)).ok());
        Self { plain, resumable, full, authority, log, _process: process, _directory: directory }
    }

    fn port(&self, check: Check) -> u16 {
        match check {
            Check::Tcp | Check::Http => self.plain,
            Check::Https { resumed: true } => self.resumable,
            Check::Https { resumed: false } => self.full,
        }
    }

    fn handshakes(&self) -> Handshakes {
        let text = fs::read(&self.log).unwrap_or_default();
        let count = |wanted| text.iter().filter(|byte| **byte == wanted).count();
        Handshakes { all: count(b'\n'), resumed: count(b'r') }
    }
}
