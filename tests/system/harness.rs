//! The server for the system tests, and the real programs around it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::support::traffic::{Ledger, Sent};
pub(crate) use crate::support::{PATIENCE, Process, STEERD, dig, free_port, http, http_get, wait_for};
use crate::support::{Steerd, directory_of, full_dig, program, relay};

/// A running steerd with its own configuration.
pub(crate) struct Server {
    /// The first field, so that the counters are read before the process ends.
    pub(crate) ledger: Ledger,
    pub(crate) process: Process,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    directory: TempDir,
}

/// The zone for the tests: `lb.example.test`.
pub(crate) const ZONE: &str = "\
$TTL 300
@ IN SOA ns1 hostmaster 1 3600 900 604800 2
@ NS ns1
@ NS ns2
ns1 A 127.0.0.1
ns2 A 127.0.0.2
static A 192.0.2.80
www TXT \"beside the service\"
";

impl Server {
    /// Starts a server with [`ZONE`] and these pools and services, and waits until it answers.
    pub(crate) fn start(pools_and_services: &str) -> Self {
        let config = format!("[zones.\"lb.example.test\"]\nfile = \"zone\"\n{pools_and_services}");
        let Steerd { ledger, process, dns, admin, directory } = Steerd::start(&config, &[("zone", ZONE)]);
        Self { ledger, process, dns, admin, directory }
    }

    /// The output of `steerd check --json` for its configuration.
    pub(crate) fn checked(&self) -> serde_json::Value {
        let file = self.directory.path().join("steerd.toml");
        let output = Command::new(STEERD).args(["check", "--json", "-c"]).arg(file).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The output of `dig +short`, line by line.
    pub(crate) fn dig(&self, arguments: &[&str]) -> Vec<String> {
        dig(self.dns, &self.ledger.sent, arguments)
    }

    /// The complete output of `dig`.
    pub(crate) fn full_dig(&self, arguments: &[&str]) -> String {
        full_dig(self.dns, &self.ledger.sent, arguments)
    }

    /// The value of a series, given its name and labels as printed.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = http_get(self.admin, "/metrics");
        body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// The sum of all series with this name.
    pub(crate) fn metric_sum(&self, name: &str) -> f64 {
        let (_, body) = http_get(self.admin, "/metrics");
        body.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Memory used by the process, bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// A real nginx on one loopback address.
pub(crate) struct Nginx {
    process: Process,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx; `location` says how it answers `/healthz`.
    pub(crate) fn start(address: &str, port: u16, location: &str) -> Self {
        let server = format!("server {{ listen {address}:{port}; location /healthz {{ {location} }} }}");
        Self::start_with(address, port, &server)
    }

    /// Starts nginx with these servers; one of them listens here.
    pub(crate) fn start_with(address: &str, port: u16, servers: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("nginx.conf");
        let mut config = String::from("daemon off; master_process off; worker_processes 1;\n");
        writeln!(
            config,
            "pid {0}/pid; error_log stderr warn; events {{ worker_connections 64; }}",
            directory_of(&directory)
        )
        .unwrap();
        writeln!(config, "http {{ access_log off;").unwrap();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(config, "{kind}_temp_path {}/{kind};", directory_of(&directory)).unwrap();
        }
        writeln!(config, "{servers} }}").unwrap();
        std::fs::write(&path, config).unwrap();
        let process = Process::start(
            Command::new(program("nginx"))
                .arg("-p")
                .arg(directory.path())
                .arg("-c")
                .arg(&path)
                .args(["-e", "stderr"]),
        );
        wait_for("nginx listens", || TcpStream::connect((address, port)).ok());
        Self { process, _directory: directory }
    }

    /// Makes it hang: the listening socket stays open.
    pub(crate) fn hang(&self) {
        self.process.signal("STOP");
    }
}

/// A real Unbound that gets one zone from a server on loopback.
pub(crate) struct Unbound {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl Unbound {
    /// Starts Unbound; a relay counts its queries to the server.
    pub(crate) fn start(zone: &str, server: &Server) -> Self {
        let authority = relay::start(server.dns, &server.ledger.sent);
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("unbound.conf");
        let port = free_port("127.0.0.1");
        let config = format!(
            "server:\n interface: 127.0.0.1@{port}\n do-daemonize: no\n use-syslog: no\n logfile: \"\"\n username: \"\"\n \
             chroot: \"\"\n directory: \"{0}\"\n pidfile: \"{0}/pid\"\n do-not-query-localhost: no\n \
             access-control: 127.0.0.0/8 allow\n module-config: \"iterator\"\n num-threads: 1\n use-caps-for-id: yes\n \
             qname-minimisation-strict: yes\n local-zone: \"test.\" nodefault\n\
             remote-control:\n control-enable: no\n\
             stub-zone:\n name: \"{zone}\"\n stub-addr: {1}@{2}\n",
            directory_of(&directory),
            authority.ip(),
            authority.port()
        );
        std::fs::write(&path, config).unwrap();
        let process = Process::start(Command::new(program("unbound")).arg("-d").arg("-c").arg(&path));
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        let unbound = Self { _process: process, address, _directory: directory };
        wait_for("Unbound answers", || {
            (!unbound.dig(&["static.lb.example.test", "A"]).is_empty()).then_some(())
        });
        unbound
    }

    /// The output of `dig +short`, line by line.
    pub(crate) fn dig(&self, arguments: &[&str]) -> Vec<String> {
        dig(self.address, &Sent::default(), arguments)
    }
}

/// Otherwise a query that `dig` sends from the port of the server would not reach it.
#[test]
fn dig_cannot_send_a_query_to_itself() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let asking = std::thread::spawn(move || full_dig(address, &Sent::default(), &["x.test", "A"]));
    let mut message = [0; 512];
    let (length, from) = server.recv_from(&mut message).unwrap();
    assert_ne!(from.ip(), address.ip());
    message[2] |= 0x80;
    server.send_to(&message[..length], from).unwrap();
    let shown = asking.join().unwrap();
    assert!(shown.contains("status: NOERROR"), "{shown}");
}
