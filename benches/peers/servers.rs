//! The servers: each with the same data, one UDP worker and no rate limiting, on the first core. Queries and
//! measurements do not belong here.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::cases::{
    self, BACKENDS, Case, Dynamic, EdnsUse, FOUR_OF_EIGHT, FOUR_OF_FIFTY, ONE_OF_EIGHT, RANKED_OF_FIFTY,
    Transport, ZONE,
};
use crate::measure::tree;
use crate::support::client::{Client, framed, read_message};
use crate::support::message::{NOERROR, Reply};
use crate::support::{Process, STEERD, directory_of, free_port, program, wait_for};

/// The cores of the servers and of everything else.
pub(crate) const SERVER_CORE: &str = "0";
pub(crate) const CLIENT_CORE: &str = "1";
/// Interval of checks, seconds: the shortest that gdnsd allows.
const INTERVAL: u32 = 2;
/// More TCP connections than any case opens at once. In steerd, one client may hold a tenth of them.
const CONNECTIONS: u32 = 1_000;
/// The secret of server cookies, 16 bytes in hexadecimal.
const SECRET: &str = "000102030405060708090a0b0c0d0e0f";
/// The client's part of a cookie.
const CLIENT_COOKIE: &[u8; 8] = b"a client";
/// The type of the OPT record, and the code of its cookie option.
const OPT: [u8; 3] = [0, 0, 41];
const COOKIE: [u8; 2] = [0, 10];
/// Longest wait for a reply before the query is sent again.
const REPLY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Software {
    Echo,
    Steerd,
    Nsd,
    Knot,
    Gdnsd,
    Pdns,
    Bind,
}

/// All servers with their names, in the order of the table.
pub(crate) const SOFTWARE: [(Software, &str); 7] = [
    (Software::Echo, "echo"),
    (Software::Steerd, "steerd"),
    (Software::Nsd, "nsd"),
    (Software::Knot, "knot"),
    (Software::Gdnsd, "gdnsd"),
    (Software::Pdns, "pdns"),
    (Software::Bind, "bind"),
];

impl Software {
    pub(crate) fn name(self) -> &'static str {
        SOFTWARE.iter().find(|(software, _)| *software == self).map_or("", |(_, name)| name)
    }

    /// Whether this is neither the echo nor steerd.
    pub(crate) fn is_peer(self) -> bool {
        !matches!(self, Self::Echo | Self::Steerd)
    }

    /// Whether the server takes part in a case.
    pub(crate) fn serves(self, case: Case) -> bool {
        match self {
            Self::Echo => case.transport == Transport::Udp,
            Self::Steerd => true,
            _ => case.is_shared(),
        }
    }

    /// The programs and files that the server needs, and their packages.
    pub(crate) fn needs(self) -> &'static [crate::programs::Need] {
        match self {
            Self::Echo | Self::Steerd => &[],
            Self::Nsd => &[("nsd", "nsd")],
            Self::Knot => &[("knotd", "knot")],
            Self::Gdnsd => &[("gdnsd", "gdnsd")],
            Self::Pdns => {
                &[("pdns_server", "pdns-server"), ("/usr/share/pdns-backend-bind", "pdns-backend-bind")]
            }
            Self::Bind => &[("named", "bind9")],
        }
    }
}

/// A command that runs on one core.
pub(crate) fn on_core(core: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", core]).arg(program);
    command
}

/// Accepts the connections of checks until the bench ends, so that all backends are healthy. Returns the port.
pub(crate) fn backends() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            // The client closes first, so that no port on this side stays in use.
            let _ = connection.set_read_timeout(Some(REPLY));
            let _ = connection.read(&mut [0; 1]);
        }
    });
    port
}

/// A running server.
pub(crate) struct Server {
    pub(crate) software: Software,
    pub(crate) address: SocketAddr,
    process: Process,
    _directory: TempDir,
}

impl Server {
    /// Starts a server, and waits until it answers. Checks go to `backends`.
    pub(crate) fn start(software: Software, backends: u16) -> Self {
        let directory = TempDir::new().expect("a directory");
        let port = free_port("127.0.0.1");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let path = directory.path();
        let dir = directory_of(&directory);
        let write = |name: &str, text: &str| fs::write(path.join(name), text).expect("a file");
        write(
            "zone",
            &cases::zone(match software {
                Software::Steerd => Dynamic::Elsewhere,
                Software::Gdnsd => Dynamic::Gdnsd,
                _ => Dynamic::Fixed,
            }),
        );
        let mut command = match software {
            Software::Echo => {
                let bench = std::env::current_exe().expect("this program");
                let mut command = on_core(SERVER_CORE, bench);
                command.args(["--echo", &address.to_string()]);
                command
            }
            Software::Steerd => {
                write("config", &steerd(address, backends));
                started(STEERD, &["serve", "-c"], path)
            }
            Software::Nsd => {
                write("config", &nsd(&dir, port));
                started(program("nsd"), &["-d", "-c"], path)
            }
            Software::Knot => {
                write("config", &knot(&dir, port));
                started(program("knotd"), &["-c"], path)
            }
            Software::Gdnsd => {
                fs::create_dir(path.join("zones")).expect("a directory");
                fs::rename(path.join("zone"), path.join("zones").join(ZONE)).expect("a file");
                write("config", &gdnsd(&dir, port, backends));
                let mut command = on_core(SERVER_CORE, program("gdnsd"));
                command.arg("-c").arg(path).arg("start");
                command
            }
            Software::Pdns => {
                write("pdns.conf", &pdns(&dir, port));
                write("config", &format!("zone \"{ZONE}\" {{ type master; file \"{dir}/zone\"; }};\n"));
                let mut command = on_core(SERVER_CORE, program("pdns_server"));
                command.arg(format!("--config-dir={dir}"));
                command
            }
            Software::Bind => {
                write("config", &bind(&dir, port));
                started(program("named"), &["-g", "-n", "1", "-c"], path)
            }
        };
        let process = Process::start(command.stdout(std::process::Stdio::null()));
        let mut server = Self { software, address, process, _directory: directory };
        wait_for(&format!("{} answers", software.name()), || {
            assert!(server.process.is_running(), "{} ended: {:?}", software.name(), server.process.said(""));
            let (query, _) = cases::CASES[0].samples().swap_remove(0);
            let reply = Reply::decode(&Client::of(address).try_ask(&query, 1)?).ok()?;
            (reply.rcode == NOERROR && (reply.authoritative || software == Software::Echo)).then_some(())
        });
        server
    }

    /// The processes of the server.
    pub(crate) fn processes(&self) -> Vec<u32> {
        tree(self.process.id())
    }

    /// Sends some queries of a case and checks the replies. Returns the lengths of the shortest and longest reply,
    /// bytes.
    pub(crate) fn verify(&self, case: Case) -> (usize, usize) {
        let mut cookie = None;
        let mut lengths = Vec::new();
        for (query, fault) in case.samples() {
            let mut message = query.encode(1);
            if case.edns == EdnsUse::Cookie {
                let cookie = cookie.get_or_insert_with(|| self.cookie(case));
                message = with_cookie(&message, cookie);
            }
            let reply = self.ask(case, &message).unwrap_or_else(|| {
                panic!("{} does not answer \"{}\": dig {query}", self.software.name(), case.name)
            });
            lengths.push(reply.len());
            let fault = match Reply::decode(&reply) {
                _ if self.software == Software::Echo => None,
                Ok(reply) => fault(&reply),
                Err(fault) => Some(fault),
            };
            if let Some(fault) = fault {
                panic!("{} answers \"{}\" wrongly: {fault}: dig {query}", self.software.name(), case.name);
            }
        }
        let least = lengths.iter().min().copied().unwrap_or_default();
        (least, lengths.iter().max().copied().unwrap_or_default())
    }

    /// Sends a message, repeats it if there is no reply, and returns the reply.
    fn ask(&self, case: Case, message: &[u8]) -> Option<Vec<u8>> {
        if let Transport::Tcp(_) = case.transport {
            let mut stream = std::net::TcpStream::connect(self.address).ok()?;
            stream.set_read_timeout(Some(REPLY)).ok()?;
            std::io::Write::write_all(&mut stream, &framed(message)).ok()?;
            return read_message(&mut stream).ok();
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        socket.connect(self.address).ok()?;
        socket.set_read_timeout(Some(REPLY)).ok()?;
        let mut buffer = vec![0; 4096];
        let length = (0..3).find_map(|_| {
            socket.send(message).ok()?;
            socket.recv(&mut buffer).ok()
        })?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// A cookie that the server has given to a client: both parts.
    pub(crate) fn cookie(&self, case: Case) -> Vec<u8> {
        let (query, _) = case.samples().swap_remove(0);
        let reply = self.ask(case, &with_cookie(&query.encode(1), CLIENT_COOKIE)).expect("a reply");
        if self.software == Software::Echo {
            return CLIENT_COOKIE.to_vec();
        }
        let option = [&COOKIE[..], &[0]].concat();
        let found = reply.windows(option.len()).position(|bytes| bytes == option).map(|at| at + option.len());
        let cookie = found.and_then(|at| reply.get(at + 1..)?.get(..usize::from(reply[at])));
        let cookie = cookie.filter(|cookie| cookie.starts_with(CLIENT_COOKIE) && cookie.len() > 8);
        cookie.unwrap_or_else(|| panic!("{} gives no cookie: {reply:02x?}", self.software.name())).to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // In order, so that a server with several processes ends all of them.
        if self.process.is_running() && !thread::panicking() {
            self.process.signal("TERM");
            self.process.ended();
        }
    }
}

/// A query with a cookie in its OPT record, which is the last record and empty.
fn with_cookie(query: &[u8], cookie: &[u8]) -> Vec<u8> {
    let length = u8::try_from(cookie.len()).expect("at most 40 bytes");
    let head = &query[..query.len() - 2];
    debug_assert!(head.windows(OPT.len()).any(|bytes| bytes == OPT), "a query with EDNS");
    [head, &[0, length + 4], &COOKIE, &[0, length], cookie].concat()
}

fn started(program: impl AsRef<OsStr>, arguments: &[&str], directory: &Path) -> Command {
    let mut command = on_core(SERVER_CORE, program);
    command.args(arguments).arg(directory.join("config"));
    command
}

fn steerd(address: SocketAddr, backends: u16) -> String {
    let mut config = format!(
        "[server]\nlisten = [\"{address}\"]\nworkers = 1\ncookies = true\ntcp_connections = {}\n\
         [zones.\"{ZONE}\"]\nfile = \"zone\"\n\
         [pools.eight]\ncheck = {{ type = \"tcp\", port = {backends}, interval = \"{INTERVAL}s\", timeout = \"1s\" }}\nbackends = [\n",
        10 * CONNECTIONS
    );
    for (address, weight) in BACKENDS {
        writeln!(config, "  {{ name = \"{address}\", address = \"{address}\", weight = {weight} }},")
            .expect("a string");
    }
    config += "]\n";
    for (name, answers) in [(ONE_OF_EIGHT, 1), (FOUR_OF_EIGHT, 4)] {
        writeln!(config, "[services.\"{name}.{ZONE}\"]\npools = [\"eight\"]\nanswers = {answers}")
            .expect("a string");
    }
    config += "[pools.fifty]\nbackends = [\n";
    for (address, weight) in cases::fifty() {
        writeln!(config, "  {{ address = \"{address}\", weight = {weight} }},").expect("a string");
    }
    config += "]\n";
    for (name, policy) in [(FOUR_OF_FIFTY, "weighted"), (RANKED_OF_FIFTY, "persistent")] {
        writeln!(
            config,
            "[services.\"{name}.{ZONE}\"]\npools = [\"fifty\"]\nanswers = 4\npolicy = \"{policy}\""
        )
        .expect("a string");
    }
    config
}

fn nsd(dir: &str, port: u16) -> String {
    format!(
        "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n database: \"\"\n \
         zonesdir: \"{dir}\"\n zonelistfile: \"{dir}/zones\"\n xfrdfile: \"{dir}/xfrd\"\n xfrdir: \"{dir}\"\n \
         pidfile: \"{dir}/pid\"\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n tcp-count: {CONNECTIONS}\n \
         minimal-responses: yes\n answer-cookie: yes\n cookie-secret: \"{SECRET}\"\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: \"{ZONE}\"\n zonefile: \"{dir}/zone\"\n"
    )
}

/// Knot's cookie module looks at each query; without an OPT record this costs almost nothing.
fn knot(dir: &str, port: u16) -> String {
    format!(
        "server:\n    rundir: \"{dir}\"\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    \
         background-workers: 1\n    tcp-max-clients: {CONNECTIONS}\n\
         database:\n    storage: \"{dir}\"\n\
         mod-cookies:\n  - id: all\n    secret: 0x{SECRET}\n\
         template:\n  - id: default\n    storage: \"{dir}\"\n    zonefile-sync: -1\n    journal-content: none\n    \
         global-module: mod-cookies/all\n\
         zone:\n  - domain: \"{ZONE}\"\n    file: \"{dir}/zone\"\n"
    )
}

fn gdnsd(dir: &str, port: u16, backends: u16) -> String {
    let mut config = format!(
        "options => {{ listen => \"127.0.0.1:{port}\", run_dir => {dir}/run, state_dir => {dir}/state, \
         udp_threads => 1, tcp_threads => 1, tcp_clients_per_thread => {CONNECTIONS} }}\n\
         service_types => {{ check => {{ plugin => tcp_connect, port => {backends}, interval => {INTERVAL}, timeout => 1 }} }}\n\
         plugins => {{ weighted => {{ service_types => check\n{ONE_OF_EIGHT} => {{ multi => false\n"
    );
    let mut line = |text: String| writeln!(config, "{text}").expect("a string");
    for (index, (address, weight)) in BACKENDS.into_iter().enumerate() {
        line(format!("b{index} => [ {address}, {weight} ]"));
    }
    line(format!("}}\n{FOUR_OF_EIGHT} => {{ multi => true"));
    for (group, backends) in BACKENDS.chunks(2).enumerate() {
        let [(one, weight), (other, rest)] = backends else { continue };
        line(format!("g{group} => {{ b0 => [ {one}, {weight} ], b1 => [ {other}, {rest} ] }}"));
    }
    line("} } }".into());
    config
}

/// One distributor thread, so that one thread receives and distributes. The packet and query caches keep their
/// defaults: they are part of how this server answers.
fn pdns(dir: &str, port: u16) -> String {
    format!(
        "launch=bind\nbind-config={dir}/config\nsocket-dir={dir}\nlocal-address=127.0.0.1\nlocal-port={port}\n\
         receiver-threads=1\ndistributor-threads=1\nguardian=no\ndaemon=no\nsecurity-poll-suffix=\n\
         max-tcp-connections={CONNECTIONS}\nmax-tcp-transactions-per-conn=0\nedns-cookie-secret={SECRET}\n\
         loglevel=3\n"
    )
}

fn bind(dir: &str, port: u16) -> String {
    format!(
        "options {{ directory \"{dir}\"; pid-file none; session-keyfile none; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; empty-zones-enable no; notify no; \
         minimal-responses yes; tcp-clients {CONNECTIONS}; answer-cookie yes; cookie-secret \"{SECRET}\"; }};\n\
         controls {{ }};\n\
         zone \"{ZONE}\" {{ type primary; file \"{dir}/zone\"; }};\n"
    )
}
