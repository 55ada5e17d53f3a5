//! `[server]` and `[admin]`: where this process listens.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::ServerSettings;
use crate::config::source::At;
use crate::config::value::{Entry, Located, Value};
use crate::listener::TcpLimits;
use crate::settings::Settings;

/// Of each address; more than one for each core is of no use.
const WORKERS: RangeInclusive<usize> = 0..=1024;
/// RFC 6891, section 6.2.3, forbids less; more is lost in fragments.
const UDP_PAYLOADS: RangeInclusive<u16> = 512..=4096;
const STARTUP_WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

const DEFAULT_LISTEN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 53),
    SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 53),
];
const DEFAULT_STARTUP_WAIT: Duration = Duration::from_secs(3);

type Listen<'s> = Vec<Located<'s, SocketAddr>>;

/// `[server]`, by who has to do with it.
pub(super) struct ReadServer<'s> {
    pub(super) server: ServerSettings,
    pub(super) settings: Settings,
    pub(super) startup_wait: Duration,
    pub(super) listen: Listen<'s>,
}

/// Reads `[server]`, which may be missing.
pub(super) fn read_server(entry: Option<Entry<'_>>) -> ReadServer<'_> {
    let mut server =
        ServerSettings { listen: DEFAULT_LISTEN.to_vec(), workers: 0, tcp: TcpLimits::default() };
    let mut settings = Settings::default();
    let mut startup_wait = DEFAULT_STARTUP_WAIT;
    let mut listen = Vec::new();
    if let Some(entry) = entry
        && let Some(mut table) = entry.value.table(entry.at)
    {
        if let Some(read) = table.read("listen", listeners) {
            listen = read.value;
            server.listen = listen.iter().map(|address| address.value).collect();
        }
        if let Some(workers) = table.read("workers", |value| value.integer(WORKERS)) {
            server.workers = workers.value;
        }
        if let Some(payload) = table.read("udp_payload", |value| value.integer(UDP_PAYLOADS)) {
            settings.udp_payload = payload.value;
        }
        if let Some(wait) = table.read("startup_wait", |value| value.duration(STARTUP_WAITS)) {
            startup_wait = wait.value;
        }
        table.close();
    }
    ReadServer { server, settings, startup_wait, listen }
}

/// Reads `[admin]`; without it, or without its `listen`, there is no admin server.
pub(super) fn read_admin(entry: Option<Entry<'_>>, dns: &Listen<'_>) -> Option<SocketAddr> {
    let mut table = entry.and_then(|entry| entry.value.table(entry.at))?;
    let listen = table.read("listen", socket_address);
    table.close();
    let Located { value: address, at, .. } = listen?;
    if !address.ip().is_loopback() {
        at.error_with_hint(
            format!("the admin server asks nobody for a password, so it cannot listen on {address}"),
            "use a loopback address such as \"127.0.0.1:8053\", and for other machines a tunnel or a proxy \
             that knows its users"
                .to_owned(),
        );
    }
    if let Some(same) = dns.iter().find(|other| other.value == address && address.port() != 0) {
        at.error_beside(format!("{address} is the DNS server's already"), same.at, "here");
    }
    Some(address)
}

fn listeners(value: Value<'_>) -> Option<Listen<'_>> {
    let mut first: HashMap<SocketAddr, At<'_>> = HashMap::new();
    let mut listen = Vec::new();
    for value in value.list("a list of addresses with ports, such as [\"0.0.0.0:53\", \"[::]:53\"]")? {
        let Some(address) = socket_address(value) else { continue };
        // Port 0 takes another free port each time.
        match first.insert(address, value.at) {
            Some(first) if address.port() != 0 => {
                value.at.error_beside(format!("{address} is in this list already"), first, "first here");
            }
            _ => listen.push(Located { value: address, at: value.at, inherited: false }),
        }
    }
    Some(listen)
}

fn socket_address(value: Value<'_>) -> Option<SocketAddr> {
    let what = "an address with a port, such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"";
    let text = value.string(what)?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        let hint = match text.parse() {
            Ok(address) => Some(format!("did you mean \"{}\"?", SocketAddr::new(address, 53))),
            Err(_) => None,
        };
        value.must_be(format!("{what}; this is `{text}`"), hint);
        return None;
    };
    if let IpAddr::V6(v6) = address.ip()
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let hint = format!("did you mean \"{v4}:{}\"?", address.port());
        value.at.error_with_hint(format!("{text} is an IPv4 address written as an IPv6 one"), hint);
        return None;
    }
    Some(address)
}
