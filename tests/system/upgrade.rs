//! A new process takes over from a running one: `steerd upgrade`, SIGUSR2.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Nginx, Process, STEERD, ZONE, free_port, http_get, wait_for};
use crate::support::message::{A, Query, wire};
use crate::support::traffic::Ledger;
use crate::support::{TOKEN, http_with, over_unix};

/// A server of its own copy of the program, which a test may replace, and all processes that it became.
struct Upgraded {
    ledger: Option<Ledger>,
    first: Process,
    /// The ids of the processes that took over.
    others: Vec<u32>,
    dns: SocketAddr,
    admin: SocketAddr,
    directory: TempDir,
}

impl Upgraded {
    fn start(config: &str, admin: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("zone"), ZONE).unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        let (dns, admin_port) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
        let binary = directory.path().join("steerd");
        std::fs::copy(STEERD, &binary).unwrap();
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:{dns}\"]\nstate_dir = \"state\"\n[admin]\nlisten = \
             \"127.0.0.1:{admin_port}\"\n{admin}\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n{config}"
        );
        let file = directory.path().join("steerd.toml");
        std::fs::write(&file, text).unwrap();
        let first = Process::start(Command::new(&binary).arg("serve").arg("-c").arg(&file));
        let [dns, admin] = [dns, admin_port].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        wait_for("DNS is answered", || first.said("DNS is answered").pop());
        Self { ledger: Some(Ledger::of(admin)), first, others: Vec::new(), dns, admin, directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("steerd.toml")
    }

    /// Replaces the program by a script.
    fn replace_program(&self, script: &str) {
        let path = self.directory.path().join("steerd");
        let new = self.directory.path().join("new");
        std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(new, path).unwrap();
    }

    fn restore_program(&self) {
        let new = self.directory.path().join("new");
        std::fs::copy(STEERD, &new).unwrap();
        std::fs::rename(new, self.directory.path().join("steerd")).unwrap();
    }

    /// Requests an upgrade by the API.
    fn upgrade(&mut self) -> (u16, Value) {
        let (status, body) = http_with(self.admin, "POST", "/api/v1/upgrade", TOKEN, "");
        let reply: Value = serde_json::from_str(&body).unwrap();
        if status == 200 {
            self.others.push(u32::try_from(reply["pid"].as_u64().unwrap()).unwrap());
            self.count_test_queries();
        }
        (status, reply)
    }

    /// An upgrade sends five queries over UDP and five over TCP.
    fn count_test_queries(&self) {
        for ledger in std::iter::repeat_n(&self.ledger, 5).flatten() {
            ledger.sent.datagram();
            ledger.sent.message();
        }
    }

    /// The process that serves.
    fn pid(&self) -> u32 {
        self.others.last().copied().unwrap_or(self.first.id())
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&http_get(self.admin, path).1).unwrap()
    }

    fn metric(&self, series: &str) -> Option<f64> {
        let (_, body) = http_get(self.admin, "/metrics");
        body.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }
}

fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        drop(self.ledger.take());
        for pid in self.others.iter().filter(|pid| is_running(**pid)) {
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {pid}")]).status();
        }
    }
}

/// A query for the A records of a name, with this id.
fn query(id: u16, name: &str) -> Vec<u8> {
    Query::plain(wire(name), A).encode(id)
}

/// The time limit for a reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// Clients that send queries until they are stopped, over UDP and over connections that they keep.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    answered: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Load {
    fn start(server: &Upgraded, udp: usize, tcp: usize) -> Self {
        Self::start_with(server, udp, tcp, PATIENCE)
    }

    fn start_with(server: &Upgraded, udp: usize, tcp: usize, patience: Duration) -> Self {
        let (stop, answered, lost) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let mut clients = Vec::new();
        for number in 0..udp + tcp {
            let (stop, answered, lost) = (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&lost));
            let (dns, sent) = (server.dns, server.ledger.as_ref().unwrap().sent.clone());
            clients.push(std::thread::spawn(move || {
                let mut exchange: Box<dyn FnMut(u16) -> bool> = if number < udp {
                    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
                    socket.connect(dns).unwrap();
                    socket.set_read_timeout(Some(patience)).unwrap();
                    Box::new(move |id| {
                        sent.datagram();
                        socket.send(&query(id, "www.lb.example.test")).unwrap();
                        let mut reply = [0; 512];
                        socket.recv(&mut reply).is_ok() && reply[..2] == id.to_be_bytes() && reply[7] > 0
                    })
                } else {
                    let mut stream = TcpStream::connect(dns).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(patience)).unwrap();
                    Box::new(move |id| {
                        sent.message();
                        let message = query(id, "www.lb.example.test");
                        let length = u16::try_from(message.len()).unwrap();
                        let mut length_of_reply = [0; 2];
                        let exchanged = stream
                            .write_all(&[&length.to_be_bytes()[..], &message].concat())
                            .and_then(|()| stream.read_exact(&mut length_of_reply));
                        let mut reply = vec![0; u16::from_be_bytes(length_of_reply).into()];
                        exchanged.and_then(|()| stream.read_exact(&mut reply)).is_ok()
                            && reply[..2] == id.to_be_bytes()
                            && reply[7] > 0
                    })
                };
                let mut id = 0_u16;
                while !stop.load(Ordering::Relaxed) {
                    id = id.wrapping_add(1);
                    let counter = if exchange(id) { &answered } else { &lost };
                    counter.fetch_add(1, Ordering::Relaxed);
                    std::thread::park_timeout(Duration::from_micros(500));
                }
            }));
        }
        Self { stop, clients, answered, lost }
    }

    /// Stops the clients. At most this many queries may have been lost.
    fn end(self, most_lost: u64) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        let answered = self.answered.load(Ordering::Relaxed);
        let lost = self.lost.load(Ordering::Relaxed);
        assert!(lost <= most_lost, "{lost} are lost, of {answered}");
        assert!(answered > 100, "{answered}");
    }
}

fn pool(port: u16) -> String {
    format!(
        "[pools.web]\ncheck = {{ type = \"http\", path = \"/healthz\", port = {port}, interval = \"1s\" }}\n\
         [[pools.web.backends]]\nname = \"gw1\"\naddress = \"127.0.0.1\"\n\
         [[pools.web.backends]]\nname = \"gw2\"\naddress = \"127.0.0.3\"\n\
         [[pools.web.backends]]\nname = \"gw3\"\naddress = \"127.0.0.4\"\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    )
}

/// The new process reads the files, so an upgrade undoes a rollback.
#[test]
fn the_end_of_a_rollback_is_told() {
    let pools = |address: &str| {
        format!(
            "[pools.web]\nbackends = [\"{address}\"]\n[services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
        )
    };
    let mut server = Upgraded::start(&pools("192.0.2.1"), "");
    let text = std::fs::read_to_string(server.file()).unwrap();
    std::fs::write(server.file(), text.replace("192.0.2.1", "192.0.2.2")).unwrap();
    for path in ["/api/v1/reload", "/api/v1/rollback"] {
        assert_eq!(http_with(server.admin, "POST", path, TOKEN, "").0, 200, "{path}");
    }
    let (status, reply) = server.upgrade();
    assert_eq!(status, 200, "{reply}");
    let warning = reply["warning"].as_str().unwrap();
    assert!(
        warning.starts_with("the process before ran the earlier configuration 1 because of a rollback"),
        "{warning}"
    );
    assert!(!server.first.said("this one runs the files on disk").is_empty());
    let (status, reply) = server.upgrade();
    assert_eq!((status, &reply["warning"]), (200, &Value::Null), "{reply}");
}

#[test]
fn nothing_is_lost_when_a_new_process_takes_over() {
    let port = free_port("127.0.0.1");
    let _nginx: Vec<Nginx> =
        ["127.0.0.1", "127.0.0.3"].map(|address| Nginx::start(address, port, "return 200;")).into();
    let mut server = Upgraded::start(&pool(port), "");
    let drain = "/api/v1/pools/web/backends/gw2/override";
    let (status, _) =
        http_with(server.admin, "PUT", drain, TOKEN, "{\"state\": \"drain\", \"reason\": \"kernel\"}");
    assert_eq!(status, 200);
    let before = server.json("/api/v1/pools/web");
    let state = |document: &Value| -> Vec<(Value, Value, Value)> {
        let backends = document["backends"].as_array().unwrap().iter();
        backends
            .map(|backend| {
                let address = &backend["addresses"][0];
                (address["state"].clone(), address["since"].clone(), backend["override"]["since"].clone())
            })
            .collect()
    };
    let load = Load::start(&server, 3, 3);
    for _ in 0..3 {
        let old = server.pid();
        let (status, reply) = server.upgrade();
        assert_eq!(status, 200, "{reply}");
        assert!(reply["connections"].as_u64() >= Some(3), "{reply}");
        wait_for("the old process ends", || (!is_running(old)).then_some(()));
        assert_eq!(state(&server.json("/api/v1/pools/web")), state(&before));
    }
    load.end(0);
    assert_eq!(server.metric("steerd_upgrades_total{result=\"success\"}"), Some(3.0));
    let audit = server.json("/api/v1/audit?action=upgrade");
    let entries = audit["entries"].as_array().unwrap();
    let pid = server.pid();
    assert_eq!(entries.len(), 3, "{audit}");
    assert_eq!(
        entries[0]["after"],
        format!("process {pid}, version {}", env!("CARGO_PKG_VERSION")),
        "{audit}"
    );
    assert_eq!(entries[0]["outcome"], "done", "{audit}");
    assert!(server.first.said("stopped").len() == 4 - 1, "{:?}", server.first.said("stopped"));
}

/// However the new process fails, the old one goes on, says why, and loses nothing.
#[test]
fn the_old_process_goes_on_if_the_new_one_fails() {
    let port = free_port("127.0.0.1");
    let _nginx = Nginx::start("127.0.0.1", port, "return 200;");
    let mut server = Upgraded::start(&pool(port), "");
    let load = Load::start(&server, 2, 2);
    let take_over = format!("{STEERD} \"$@\"");
    let first = server.first.id();
    let descriptors = || std::fs::read_dir(format!("/proc/{first}/fd")).unwrap().count();
    wait_for("all clients are served", || (load.answered.load(Ordering::Relaxed) > 1000).then_some(()));
    let at_first = descriptors();
    for (script, reason) in [
        ("exit 3", "ended while it was to start (exit status: 3)"),
        ("exec /nonexistent", "ended while it was to start (exit status: 127)"),
        ("kill -9 $$", "ended while it was to start (signal: 9 (SIGKILL))"),
        (
            "python3 -c 'import socket; s=socket.socket(fileno=0); m=b\"{\\\"message\\\":\\\"hello\\\",\\\"protocol\\\":99,\\\"version\\\":\\\"9.0\\\",\\\"pid\\\":1}\"; s.send(len(m).to_bytes(4,\"big\")+m); s.recv(1)'",
            "steerd 9.0 cannot take over from this version (its protocol is 99",
        ),
        (
            "python3 -c 'import socket; socket.socket(fileno=0).send(b\"HTTP/1.1 200 OK\")'",
            "could not be told to start",
        ),
        // It takes over, and crashes while the old process watches it.
        (
            &*format!("exec 3<&0; {take_over} <&3 & exec 3<&-; sleep 1.5; kill -9 $!; wait"),
            "ended while it was to",
        ),
        // It hangs after its first answers.
        (&*format!("(sleep 1.5; kill -STOP $$) <&- & exec {take_over}"), "answers no query on"),
    ] {
        server.replace_program(script);
        let (status, reply) = server.upgrade();
        assert!([502, 409].contains(&status), "{script}: {reply}");
        let detail = reply["detail"].as_str().unwrap();
        assert!(detail.contains(reason) && detail.ends_with("this process goes on"), "{script}: {detail}");
        assert!(!server.first.said(reason).is_empty(), "{script}");
    }
    server.restore_program();
    let config = std::fs::read_to_string(server.file()).unwrap();
    std::fs::write(server.file(), format!("{config}\n[pools.web2]\n")).unwrap();
    let (status, reply) = server.upgrade();
    assert_eq!(status, 502, "{reply}");
    assert!(reply["detail"].as_str().unwrap().contains("gave up: the configuration is not valid"), "{reply}");
    std::fs::write(server.file(), config).unwrap();
    wait_for("the descriptors of the upgrades are closed", || (descriptors() <= at_first + 2).then_some(()));
    let failures = server.metric("steerd_upgrades_total{result=\"failure\"}");
    assert_eq!(failures, Some(8.0));
    let notices = server.json("/api/v1/status")["notices"].to_string();
    assert!(notices.contains("the last upgrade failed, and a restart may fail too"), "{notices}");
    let (status, reply) = server.upgrade();
    assert_eq!(status, 200, "{reply}");
    // Each client may lose a query that the killed and the stopped process had read; and nobody has their counters.
    load.end(8);
    std::mem::forget(server.ledger.take());
}

/// Keys that a reload cannot change take effect, and nothing is lost, whether workers come or go and whether one address
/// includes the other.
#[test]
fn other_addresses_and_workers_take_effect_without_loss() {
    let port = free_port("127.0.0.1");
    let _nginx = Nginx::start("127.0.0.1", port, "return 200;");
    let mut server = Upgraded::start(&pool(port), "");
    let first = std::fs::read_to_string(server.file()).unwrap();
    let (dns, admin) = (server.dns.port(), server.admin);
    let load = Load::start(&server, 2, 2);
    let mut upgrade = |listen: &str, workers: usize, admin: &str| {
        let text = first
            .replace(
                &format!("listen = [\"127.0.0.1:{dns}\"]"),
                &format!("listen = [{listen}]\nworkers = {workers}"),
            )
            .replace(&format!("listen = \"{}\"", server.admin), &format!("listen = \"{admin}\""));
        std::fs::write(server.file(), text).unwrap();
        let (status, reply) = server.upgrade();
        assert_eq!(status, 200, "{reply}");
        server.admin = admin.replace("0.0.0.0", "127.0.0.1").parse().unwrap();
        wait_for("the admin server listens", || (http_get(server.admin, "/readyz").0 == 200).then_some(()));
    };
    let specific = format!("\"127.0.0.1:{dns}\"");
    upgrade(&specific, 4, &admin.to_string());
    upgrade(&specific, 1, &admin.to_string());
    upgrade(&format!("\"0.0.0.0:{dns}\""), 2, &admin.to_string());
    let other = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    upgrade(&format!("{specific}, \"127.0.0.7:{dns}\""), 2, &other);
    load.end(0);
    let socket = UdpSocket::bind("127.0.0.2:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&query(7, "www.lb.example.test"), ("127.0.0.7", dns)).unwrap();
    socket.recv(&mut [0; 512]).unwrap();
    wait_for("the old admin address is closed", || TcpStream::connect(admin).is_err().then_some(()));
    // The second address had test queries of its own, and the counters are those of another address now.
    std::mem::forget(server.ledger.take());
}

/// The process that serves has the file of a Unix socket: it is handed over, and goes only when nobody wants it.
#[test]
fn a_unix_socket_of_the_admin_server_is_handed_over() {
    let mut server = Upgraded::start("", "");
    let first = std::fs::read_to_string(server.file()).unwrap();
    let socket = server.directory.path().join("admin.sock");
    let tcp = format!("\"{}\"", server.admin);
    let file = server.file();
    let listen = |listen: &str| {
        let text = first.replace(&format!("listen = {tcp}"), &format!("listen = {listen}"));
        std::fs::write(&file, text).unwrap();
    };
    let with = format!("[{tcp}, \"unix:admin.sock\"]");
    let is_ready = || over_unix(&socket, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200);
    let inode = || std::fs::metadata(&socket).unwrap().ino();

    listen(&with);
    assert_eq!(server.upgrade().0, 200);
    assert!(is_ready());
    let created = inode();
    // Clients connect all the time, and each is answered by one of both processes.
    let stop = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let (stop, socket) = (Arc::clone(&stop), socket.clone());
        move || {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let (status, _) =
                    over_unix(&socket, "GET", "/healthz", "").expect("the socket is never gone");
                assert_eq!(status, 200);
                answered += 1;
            }
            answered
        }
    });
    assert_eq!(server.upgrade().0, 200);
    server.replace_program("exit 1");
    assert_eq!(server.upgrade().0, 502);
    server.restore_program();
    let before = server.pid();
    assert_eq!(server.upgrade().0, 200);
    wait_for("the old process ends", || (!is_running(before)).then_some(()));
    stop.store(true, Ordering::Relaxed);
    assert!(client.join().unwrap() > 0);
    assert_eq!(inode(), created, "it is the same file");

    let before = server.pid();
    listen(&tcp);
    assert_eq!(server.upgrade().0, 200);
    wait_for("the old process ends", || (!is_running(before)).then_some(()));
    assert!(!socket.exists(), "nobody wants it any more");

    listen(&with);
    assert_eq!(server.upgrade().0, 200);
    assert!(is_ready());
    let serving = server.pid();
    Command::new("sh").args(["-c", &format!("kill -TERM {serving}")]).status().unwrap();
    wait_for("the process ends", || (!is_running(serving)).then_some(()));
    assert!(!socket.exists(), "a regular stop removes it");
    // The server that counts is gone.
    std::mem::forget(server.ledger.take());
}

/// SIGUSR2 upgrades; a SIGHUP meanwhile is obeyed afterwards; the lock of `state_dir` goes with it.
#[test]
fn a_signal_upgrades_and_the_lock_goes_with_it() {
    let port = free_port("127.0.0.1");
    let mut server = Upgraded::start(&pool(port), "");
    server.first.signal("USR2");
    wait_for("the new process starts", || server.first.said("are taken over").pop());
    server.first.signal("HUP");
    let line = wait_for("the upgrade is done", || server.first.said("has taken over").pop());
    let pid: u32 = line.split("pid=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    server.others.push(pid);
    server.count_test_queries();
    assert_eq!(server.first.ended(), Some(0));
    wait_for("the reload is done", || server.first.said("reloaded: nothing has changed").pop());
    let path = server.directory.path().join("state/lock");
    let lock = || std::fs::read_to_string(&path).unwrap();
    assert_eq!(lock().trim(), pid.to_string());
    // Another server with the same directory, but other addresses.
    let config = std::fs::read_to_string(server.file()).unwrap();
    let other = server.directory.path().join("other.toml");
    let ports = config
        .replace(&server.dns.to_string(), "127.0.0.1:0")
        .replace(&server.admin.to_string(), "127.0.0.1:0");
    std::fs::write(&other, ports).unwrap();
    let second = Command::new(STEERD).arg("serve").arg("-c").arg(other).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains(&format!("in use by process {pid}")), "{said}");
    // A refused upgrade changes nothing of that.
    std::fs::write(server.file(), config + "\n[pools.none]\n").unwrap();
    assert_eq!(server.upgrade().0, 502);
    assert_eq!(lock().trim(), pid.to_string());
}

/// Clients wait no longer than usual, also while the new process probes new backends and has more workers than sockets.
#[test]
fn nobody_waits_while_the_new_process_probes() {
    let port = free_port("127.0.0.1");
    let _nginx = Nginx::start("127.0.0.1", port, "return 200;");
    let mut server = Upgraded::start(&pool(port), "");
    // It accepts connections and never replies.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = std::fs::read_to_string(server.file()).unwrap();
    let workers = |count: usize| {
        text.replacen("[server]\n", &format!("[server]\nworkers = {count}\nstartup_wait = \"2s\"\n"), 1)
    };
    std::fs::write(server.file(), workers(1)).unwrap();
    assert_eq!(server.upgrade().0, 200);
    let load = Load::start_with(&server, 3, 3, Duration::from_millis(500));
    let more = format!(
        "[pools.slow]\nbackends = [\"127.0.0.1\"]\ncheck = {{ type = \"http\", path = \"/\", port = {}, timeout = \"5s\", interval = \"10s\" }}\n",
        silent.local_addr().unwrap().port()
    );
    std::fs::write(server.file(), workers(4) + &more).unwrap();
    let began = std::time::Instant::now();
    let (status, reply) = server.upgrade();
    assert_eq!(status, 200, "{reply}");
    assert!(began.elapsed() > Duration::from_secs(3), "it did not wait for the first probes");
    // With other sockets that share the port.
    std::fs::write(
        server.file(),
        workers(1).replace(&format!("\"{}\"", server.dns), &format!("\"0.0.0.0:{}\"", server.dns.port())),
    )
    .unwrap();
    assert_eq!(server.upgrade().0, 200);
    load.end(0);
}

/// A new process that takes no connection costs none of them.
#[test]
fn connections_survive_a_new_process_that_does_not_take_them() {
    // A tenth of the places is for one network.
    const CONNECTIONS: usize = 90;
    let mut server = Upgraded::start(&pool(free_port("127.0.0.1")), "");
    let mut connections: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(server.dns).unwrap()).collect();
    let ask = |stream: &mut TcpStream| {
        let message = query(1, "ns1.lb.example.test");
        let length = u16::try_from(message.len()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        stream.read_exact(&mut vec![0; u16::from_be_bytes(head).into()])
    };
    for stream in &mut connections {
        ask(stream).unwrap();
    }
    server.replace_program(
        "exec python3 -c '
import signal, socket
s = socket.socket(fileno=0)
def tell(message):
    s.sendall(len(message).to_bytes(4, \"big\") + message)
def until(word):
    got = b\"\"
    while word not in got:
        got += socket.recv_fds(s, 4096, 200)[0]
tell(b\"{\\\"message\\\":\\\"hello\\\",\\\"protocol\\\":1,\\\"version\\\":\\\"0\\\",\\\"pid\\\":1}\")
until(b\"descriptors\")
tell(b\"{\\\"message\\\":\\\"bound\\\",\\\"startup_wait_milliseconds\\\":0}\")
until(b\"state\")
tell(b\"{\\\"message\\\":\\\"ready\\\"}\")
until(b\"answer\")
s.shutdown(socket.SHUT_RD)
tell(b\"{\\\"message\\\":\\\"answering\\\"}\")
signal.pause()
'",
    );
    let (status, reply) = server.upgrade();
    assert_eq!(status, 502, "{reply}");
    assert!(reply["detail"].as_str().unwrap().contains("take over a connection"), "{reply}");
    let lost = connections.iter_mut().filter_map(|stream| ask(stream).err()).count();
    assert_eq!(lost, 0, "of {CONNECTIONS}");
    std::mem::forget(server.ledger.take());
}
