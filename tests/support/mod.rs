//! Starts real programs, waits for conditions with a deadline, and ends what it started.
//!
//! Shared by several test programs. Queries and expected replies do not belong here.
#![allow(dead_code, reason = "each test program uses only a part of this")]

pub(crate) mod client;
pub(crate) mod message;
pub(crate) mod relay;
pub(crate) mod traffic;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::traffic::{Ledger, Sent};

/// The program under test.
pub(crate) const STEERD: &str = env!("CARGO_BIN_EXE_steerd");

/// Far longer than any awaited condition takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `ask` until it returns a value; panics with `what` after [`PATIENCE`].
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

/// A port of `address` that is currently free for TCP and UDP.
pub(crate) fn free_port(address: &str) -> u16 {
    wait_for("a free port", || {
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        UdpSocket::bind((address, port)).ok().map(|_| port)
    })
}

/// A process that is killed on drop, and its standard error so far.
pub(crate) struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let program = format!("{command:?}");
        let mut child =
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{program}: {error}; tests/run installs the programs for tests")
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

    /// All lines of standard error that contain `text`.
    pub(crate) fn said(&self, text: &str) -> Vec<String> {
        self.said.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub(crate) fn signal(&self, name: &str) {
        // Not every machine has a `kill` program, but every shell has it built in.
        let kill = format!("kill -{name} {}", self.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the process to end, and returns its exit code.
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

/// A running steerd with a configuration file in its own directory.
pub(crate) struct Steerd {
    /// The first field, so that it reads the counters before the process ends.
    pub(crate) ledger: Ledger,
    pub(crate) process: Process,
    pub(crate) dns: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) directory: TempDir,
}

/// The token that [`Steerd::request`] sends, for configurations that require one.
pub(crate) const TOKEN: &str = "0123456789abcdef";

impl Steerd {
    /// Starts a server on a free loopback port and waits until it answers. `config` follows
    /// `[server] listen` and precedes `[admin]`. `files` are written to the directory first.
    pub(crate) fn start(config: &str, files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Self::start_in(directory, config)
    }

    /// Like [`Steerd::start`], in an existing directory.
    pub(crate) fn start_in(directory: TempDir, config: &str) -> Self {
        write_config(&directory.path().join("steerd.toml"), config, "");
        Self::start_again(directory)
    }

    /// Starts with the files that are in a directory.
    pub(crate) fn start_again(directory: TempDir) -> Self {
        let path = directory.path().join("steerd.toml");
        let mut process = Process::start(
            Command::new(STEERD).arg("serve").arg("-c").arg(&path).args(["--log-format", "json"]),
        );
        let dns = wait_for("DNS is answered", || {
            assert!(process.is_running(), "steerd ended: {:?}", process.said(""));
            address_in(&process, "DNS is answered")
        });
        let admin = address_in(&process, "admin server listens").unwrap();
        Self { ledger: Ledger::of(admin), process, dns, admin, directory }
    }

    /// Writes another configuration, with additional keys of `[admin]`, without reloading it.
    pub(crate) fn configure(&self, config: &str, admin: &str) {
        write_config(&self.directory.path().join("steerd.toml"), config, admin);
    }

    /// Ends the process with a signal, and keeps the directory.
    pub(crate) fn end(self, signal: &str) -> TempDir {
        let Self { ledger, mut process, directory, .. } = self;
        drop(ledger);
        process.signal(signal);
        process.ended();
        directory
    }

    /// The status code and the JSON body of an API request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
        let (status, text) = http_with(self.admin, method, path, TOKEN, body);
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        (status, value)
    }

    /// The value of a series, given its name and labels as printed.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = http_get(self.admin, "/metrics");
        body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

pub(crate) fn write_config(path: &Path, config: &str, admin: &str) {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n{config}\n[admin]\nlisten = \"127.0.0.1:0\"\n{admin}\n"
    );
    std::fs::write(path, text).unwrap();
}

/// The address in the last log line that contains `text` and has one.
pub(crate) fn address_in(process: &Process, text: &str) -> Option<SocketAddr> {
    process.said(text).iter().rev().find_map(|line| {
        let (_, after) = line.split_once("\"address\":\"")?;
        after.split_once('"')?.0.parse().ok()
    })
}

/// The path of a directory, in the form for configurations.
pub(crate) fn directory_of(directory: &TempDir) -> String {
    directory.path().display().to_string()
}

/// The path of a program. Also searches the system directories, which a user's PATH may lack.
pub(crate) fn program(name: &str) -> PathBuf {
    let places = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = places.split(':').map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not installed; tests/run installs the programs for tests"))
}

/// Where `dig` sends datagrams to a server on `127.0.0.1` from. It shares its port (`SO_REUSEPORT`), so
/// the system may give it the port of a server whose workers share theirs. From the address of the
/// server, it would then send the query to itself.
pub(crate) const DIG_FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The output of `dig`, which sends one datagram, or with `+tcp` one message, and does not retry.
pub(crate) fn full_dig(server: SocketAddr, sent: &Sent, arguments: &[&str]) -> String {
    let mut dig = Command::new(program("dig"));
    if arguments.contains(&"+tcp") {
        sent.message();
    } else {
        sent.datagram();
        if server.is_ipv4() {
            dig.args(["-b", &DIG_FROM.to_string()]);
        }
    }
    let output = dig
        .args(["+tries=1", "+time=5", "+ignore", "-p", &server.port().to_string()])
        .arg(format!("@{}", server.ip()))
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of `dig +short`.
pub(crate) fn dig(server: SocketAddr, sent: &Sent, arguments: &[&str]) -> Vec<String> {
    let text = full_dig(server, sent, &[&["+short"], arguments].concat());
    text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}

/// The status code and the body of a plain GET.
pub(crate) fn http_get(server: SocketAddr, path: &str) -> (u16, String) {
    http(server, "GET", path)
}

/// The status code and the body of a request without a body.
pub(crate) fn http(server: SocketAddr, method: &str, path: &str) -> (u16, String) {
    exchange(server, &format!("{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: 0\r\n"), "")
}

/// Like [`http`], with a bearer token and a JSON body.
pub(crate) fn http_with(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {length}\r\n\
         Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n"
    );
    exchange(server, &head, body)
}

/// The status code and the JSON body of a request over a Unix socket, or why there is no connection.
pub(crate) fn over_unix(
    path: &Path,
    method: &str,
    target: &str,
    body: &str,
) -> std::io::Result<(u16, serde_json::Value)> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nContent-Type: application/json\r\n",
        body.len()
    );
    let (status, text) = converse(stream, &head, body);
    Ok((status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))))
}

pub(crate) fn exchange(server: SocketAddr, head: &str, body: &str) -> (u16, String) {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    converse(stream, head, body)
}

fn converse(mut stream: impl Read + Write, head: &str, body: &str) -> (u16, String) {
    write!(stream, "{head}Connection: close\r\n\r\n{body}").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.into())
}
