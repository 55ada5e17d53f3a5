//! The two senders of queries, on the clients' core: dnsperf, and a client that opens a connection for a few queries.
//! dnsperf waits up to 100 ms before it opens the next connection, so it cannot load a server with short connections.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use socket2::{Domain, Socket, Type};

use crate::cases::{Case, EdnsUse, Transport};
use crate::servers::{CLIENT_CORE, on_core};
use crate::support::client::{framed, read_message};
use crate::support::message::NXDOMAIN;

/// Connections that dnsperf keeps open.
const KEPT: &str = "20";
/// Concurrent connections of the other client, one thread each.
const AT_A_TIME: u8 = 16;
/// Longest wait for a reply, seconds.
const REPLY: u64 = 1;
/// The code of the cookie option.
const COOKIE: u8 = 10;

/// The outcome of some queries.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Replies with the right rcode.
    pub(crate) right: u64,
    pub(crate) seconds: f64,
}

/// Runs dnsperf for this many seconds with the queries in a file. `cookie` is the client's cookie.
pub(crate) fn dnsperf(
    server: SocketAddr,
    case: Case,
    rcode: u16,
    cookie: Option<&[u8]>,
    queries: &Path,
    seconds: u64,
) -> Counts {
    let mut command = on_core(CLIENT_CORE, "dnsperf");
    command
        .args(["-s", &server.ip().to_string(), "-p", &server.port().to_string()])
        .args(["-T", "1", "-t", &REPLY.to_string(), "-l", &seconds.to_string(), "-O", "suppress=timeout"])
        .arg("-d")
        .arg(queries);
    if case.edns != EdnsUse::Without {
        command.arg("-e");
    }
    if let Some(cookie) = cookie {
        command.args(["-E", &format!("{COOKIE}:{}", data_encoding::HEXLOWER.encode(cookie))]);
    }
    if case.transport != Transport::Udp {
        command.args(["-m", "tcp", "-c", KEPT]);
    }
    let output = command.output().expect("taskset runs");
    let report = String::from_utf8_lossy(&output.stdout);
    read(&report, if rcode == NXDOMAIN { "NXDOMAIN" } else { "NOERROR" })
        .unwrap_or_else(|| panic!("dnsperf failed:\n{report}\n{}", String::from_utf8_lossy(&output.stderr)))
}

/// The counts in dnsperf's report.
fn read(report: &str, rcode: &str) -> Option<Counts> {
    let after = |name: &str| report.lines().find_map(|line| Some(line.trim().strip_prefix(name)?.trim()));
    let first = |text: &str| text.split([' ', ',']).next().map(str::to_owned);
    let rcodes = after("Response codes:").unwrap_or_default();
    let right = rcodes.split_once(rcode).and_then(|(_, count)| first(count.trim())?.parse().ok());
    Some(Counts {
        sent: first(after("Queries sent:")?)?.parse().ok()?,
        right: right.unwrap_or_default(),
        seconds: first(after("Run time (s):")?)?.parse().ok()?,
    })
}

/// Opens connections one after the other for this many seconds, in several threads. Sends this many queries at once on
/// each connection, and closes it after the last reply.
pub(crate) fn connections(
    server: SocketAddr,
    query: &[u8],
    rcode: u16,
    per_connection: u32,
    seconds: u64,
) -> Counts {
    let queries = framed(query).repeat(per_connection as usize);
    let began = Instant::now();
    let end = began + Duration::from_secs(seconds);
    let client = |index: u8| {
        let mut core = CpuSet::new();
        core.set(CLIENT_CORE.parse().expect("a number"));
        sched_setaffinity(None, &core).expect("a core");
        let mut counts = Counts::default();
        while Instant::now() < end {
            counts.sent += u64::from(per_connection);
            // The queries of a failed connection count as lost, as the table shows.
            let _ = exchange(server, index, &queries, per_connection, rcode, &mut counts.right);
        }
        counts
    };
    let counts: Vec<Counts> = thread::scope(|scope| {
        let clients: Vec<_> = (1..=AT_A_TIME).map(|index| scope.spawn(move || client(index))).collect();
        clients.into_iter().map(|client| client.join().expect("no client panics")).collect()
    });
    Counts {
        sent: counts.iter().map(|counts| counts.sent).sum(),
        right: counts.iter().map(|counts| counts.right).sum(),
        seconds: began.elapsed().as_secs_f64(),
    }
}

/// Exchanges the messages of one connection. Each client has its own address, because a port cannot be reused
/// immediately.
fn exchange(
    server: SocketAddr,
    client: u8,
    queries: &[u8],
    count: u32,
    rcode: u16,
    right: &mut u64,
) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 2, 0, client), 0)).into())?;
    socket.set_tcp_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(REPLY)))?;
    socket.connect(&server.into())?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(queries)?;
    for _ in 0..count {
        let reply = read_message(&mut stream)?;
        *right += u64::from(reply.get(3).is_some_and(|flags| u16::from(flags & 0xf) == rcode));
    }
    Ok(())
}
