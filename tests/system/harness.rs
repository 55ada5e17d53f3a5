//! Starts the real programs, waits for conditions with a deadline, and ends what it started.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The program under test.
pub(crate) const STEERD: &str = env!("CARGO_BIN_EXE_steerd");

/// Far beyond what any awaited condition takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; panics with `what` after [`PATIENCE`].
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A port of `address` that is free for TCP and UDP now.
pub(crate) fn free_port(address: &str) -> u16 {
    wait_for("a free port", || {
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        UdpSocket::bind((address, port)).ok().map(|_| port)
    })
}

/// A process that ends with its handle, and what it has said on standard error so far.
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let program = format!("{command:?}");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
            panic!("{program}: {error}; tests/run installs what the system tests need")
        });
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let sink = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sink.lock().unwrap().push(line);
            }
        });
        Self { child, said }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All lines on standard error that hold `text`.
    pub(crate) fn said(&self, text: &str) -> Vec<String> {
        self.said.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, name: &str) {
        // Not every machine has a program for it, but every shell does it.
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the process to end by itself, and answers its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait_for("the process ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- standard error of process {}:\n{}",
                self.id(),
                self.said.lock().unwrap().join("\n")
            );
        }
    }
}

/// A running steerd with a configuration of its own.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    _directory: TempDir,
}

/// The zone of the tests: `lb.example.test`.
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
    /// Starts a server with these pools and services beside [`ZONE`], and waits until it answers.
    pub(crate) fn start(pools_and_services: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("zone"), ZONE).unwrap();
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [zones.\"lb.example.test\"]\nfile = \"zone\"\n{pools_and_services}"
        );
        let path = directory.path().join("steerd.toml");
        std::fs::write(&path, config).unwrap();
        let mut process = Process::start(
            Command::new(STEERD).arg("serve").arg("-c").arg(&path).args(["--log-format", "json"]),
        );
        let dns = wait_for("DNS is answered", || {
            assert!(process.is_running(), "steerd ended: {:?}", process.said(""));
            address_in(&process, "DNS is answered")
        });
        let admin = address_in(&process, "admin server listens").unwrap();
        Self { process, dns, admin, _directory: directory }
    }

    /// The value of a series, its name and labels as printed.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = http_get(self.admin, "/metrics");
        body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// The sum of all series of a name.
    pub(crate) fn metric_sum(&self, name: &str) -> f64 {
        let (_, body) = http_get(self.admin, "/metrics");
        body.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Bytes of memory the process holds.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

/// The address in the log line that holds `text`.
pub(crate) fn address_in(process: &Process, text: &str) -> Option<SocketAddr> {
    let line = process.said(text).pop()?;
    let (_, after) = line.split_once("\"address\":\"")?;
    after.split_once('"')?.0.parse().ok()
}

/// The status code and the body that a plain GET brings.
pub(crate) fn http_get(server: SocketAddr, path: &str) -> (u16, String) {
    http(server, "GET", path)
}

/// The status code and the body that a request without a body brings.
pub(crate) fn http(server: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.into())
}

/// A real nginx on one loopback address.
pub(crate) struct Nginx {
    process: Process,
    _directory: TempDir,
}

impl Nginx {
    /// Starts nginx; `location` is what it does with `/healthz`.
    pub(crate) fn start(address: &str, port: u16, location: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("nginx.conf");
        let mut config = String::from("daemon off; master_process off; worker_processes 1;\n");
        writeln!(
            config,
            "pid {0}/pid; error_log stderr warn; events {{ worker_connections 64; }}",
            dir(&directory)
        )
        .unwrap();
        writeln!(config, "http {{ access_log off;").unwrap();
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(config, "{kind}_temp_path {}/{kind};", dir(&directory)).unwrap();
        }
        writeln!(config, "server {{ listen {address}:{port}; location /healthz {{ {location} }} }} }}")
            .unwrap();
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

    /// Keeps the listening socket, and does nothing any more.
    pub(crate) fn hang(&self) {
        self.process.signal("STOP");
    }
}

/// A real Unbound that gets one zone from a server on loopback.
pub(crate) struct Unbound {
    _process: Process,
    pub(crate) address: SocketAddr,
    _directory: TempDir,
}

impl Unbound {
    pub(crate) fn start(zone: &str, authority: SocketAddr) -> Self {
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
            dir(&directory),
            authority.ip(),
            authority.port()
        );
        std::fs::write(&path, config).unwrap();
        let process = Process::start(Command::new(program("unbound")).arg("-d").arg("-c").arg(&path));
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
        wait_for("Unbound answers", || {
            (!dig(address, &["static.lb.example.test", "A"]).is_empty()).then_some(())
        });
        Self { _process: process, address, _directory: directory }
    }
}

fn dir(directory: &TempDir) -> String {
    directory.path().display().to_string()
}

/// Where a program is: also in the folders of system programs, which a user's PATH may lack.
pub(crate) fn program(name: &str) -> PathBuf {
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = places.split(':').map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed; tests/run installs what the system tests need"))
}

/// What `dig +short` prints, line by line.
pub(crate) fn dig(server: SocketAddr, question: &[&str]) -> Vec<String> {
    let output = Command::new(program("dig"))
        .args(["+short", "+tries=2", "+time=2", "-p", &server.port().to_string()])
        .arg(format!("@{}", server.ip()))
        .args(question)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}
