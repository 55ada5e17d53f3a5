//! `[server]`: listen addresses, and settings that apply to every answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use crate::config::source::At;
use crate::config::value::{Located, NamedValue, TomlTable, TomlValue};
use crate::config::{ServerSettings, address, binding, visibility};
use crate::cookie::CookieSecrets;
use crate::listener::rate_limit::RateLimit;
use crate::listener::{Limits, Steering};
use crate::network::{Network, Networks};
use crate::pool::Family;
use crate::printable::quoted;
use crate::settings::{Chaos, Cookies, MAX_NSID, Settings};
use crate::visibility::VisibilitySettings;

/// More than one per core are useless.
const WORKERS: RangeInclusive<usize> = 0..=1024;
static STEERING: [(&str, Steering); 2] = [("hash", Steering::Hash), ("cpu", Steering::Cpu)];
/// RFC 6891, section 6.2.3, forbids less. Larger replies are fragmented, and often lost.
pub(super) const UDP_PAYLOADS: RangeInclusive<u16> = 512..=4096;
const TCP_CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
/// In units of 100 ms (RFC 7828). No client needs more than two minutes.
const TCP_IDLE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(120);
const RESPONSES_PER_SECOND: RangeInclusive<u32> = 1..=1_000_000;
const SLIP: RangeInclusive<u32> = 0..=255;
/// As in BIND and NSD. A client whose address is used in a flood probably gets through at its second attempt.
const DEFAULT_SLIP: u32 = 2;
const STARTUP_WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

const DEFAULT_LISTEN: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 53),
    SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), 53),
];
const DEFAULT_STARTUP_WAIT: Duration = Duration::from_secs(3);

/// The cookie secret if no file provides one. It is random, and the same as long as the process runs, so that cookies
/// stay valid over a reload.
static OWN_SECRET: LazyLock<[u8; 16]> = LazyLock::new(rand::random);

/// Listen addresses with their locations. A default has the location of the table that lacks the key.
pub(super) type Listen<'s> = Vec<Located<'s, SocketAddr>>;

/// `[server]`, separated by the module that uses the settings.
pub(super) struct ReadServer<'s> {
    pub(super) server: ServerSettings,
    pub(super) settings: Settings,
    pub(super) startup_wait: Duration,
    pub(super) listen: Listen<'s>,
}

/// Reads `[server]`. The section may be missing in `file`.
pub(super) fn read_server<'s>(entry: Option<NamedValue<'s>>, file: At<'s>) -> ReadServer<'s> {
    let mut server = ServerSettings {
        listen: Vec::new(),
        workers: 0,
        steering: Steering::Hash,
        limits: Limits::default(),
        state_dir: None,
        visibility: VisibilitySettings::default(),
        start_with_last_good: false,
        watch: false,
    };
    let mut settings = Settings { cookies: cookies(Some(false), None), ..Settings::default() };
    let mut startup_wait = DEFAULT_STARTUP_WAIT;
    let at = entry.map_or(file, |entry| entry.at);
    let mut listen: Listen<'_> = DEFAULT_LISTEN.map(|value| Located { value, at, inherited: true }).to_vec();
    if let Some(entry) = entry
        && let Some(mut table) = entry.value.table(entry.at)
    {
        if let Some(read) = table.read("listen", listeners) {
            listen = read.value;
        }
        if let Some(workers) = table.read("workers", |value| value.integer(WORKERS)) {
            server.workers = workers.value;
        }
        if let Some(steering) = table.read("steering", |value| value.word(&STEERING, None)) {
            server.steering = steering.value;
        }
        if let Some(payload) = table.read("udp_payload", |value| value.integer(UDP_PAYLOADS)) {
            settings.udp_payload = payload.value;
        }
        read_identity(&mut table, &mut settings);
        read_cookies(&mut table, &mut settings);
        if let Some(networks) = table.read("client_subnet", resolvers) {
            settings.client_subnet = networks.value;
        }
        if let Some(connections) = table.read("tcp_connections", |value| value.integer(TCP_CONNECTIONS)) {
            server.limits.tcp.connections = connections.value;
        }
        if let Some(idle) = table.read("tcp_idle", |value| value.duration(TCP_IDLE)) {
            server.limits.tcp.idle = idle.value;
            settings.tcp_idle = tenths(idle.value);
        }
        if let Some(entry) = table.get("rate_limit") {
            server.limits.rate = read_rate_limit(entry);
        }
        server.visibility = visibility::read(&mut table);
        server.state_dir = table.read("state_dir", directory).map(|read| read.value);
        if let Some(read) = table.read("start_with_last_good", TomlValue::boolean) {
            server.start_with_last_good = read.value;
            if read.value && server.state_dir.is_none() && table.get("state_dir").is_none() {
                read.at.error_with_hint(
                    "`start_with_last_good` needs `state_dir`, which has the last good configuration",
                    "set `state_dir` to a directory of this server alone".to_owned(),
                );
            }
        }
        if let Some(read) = table.read("watch", TomlValue::boolean) {
            server.watch = read.value;
        }
        if let Some(wait) = table.read("startup_wait", |value| value.duration(STARTUP_WAITS)) {
            startup_wait = wait.value;
        }
        table.close();
    }
    listen.iter().for_each(binding::warn);
    server.listen = listen.iter().map(|address| address.value).collect();
    ReadServer { server, settings, startup_wait, listen }
}

/// Data about the server that clients can request.
fn read_identity(table: &mut TomlTable<'_>, settings: &mut Settings) {
    let nsid = |value: TomlValue<'_>| {
        let text = value.string("a text")?;
        if text.is_empty() || text.len() > MAX_NSID {
            value.must_be(format!("a text of 1 to {MAX_NSID} bytes"), None);
            return None;
        }
        Some(text.as_bytes().into())
    };
    if let Some(nsid) = table.read("nsid", nsid) {
        settings.nsid = Some(nsid.value);
    }
    let words = [("refuse", Chaos::Refuse), ("version", Chaos::Version)];
    if let Some(chaos) = table.read("chaos", |value| value.word(&words, None)) {
        settings.chaos = chaos.value;
    }
}

/// Cookies are on by default. A single server can use a secret of its own; servers that share an address must share a
/// file.
fn read_cookies(table: &mut TomlTable<'_>, settings: &mut Settings) {
    let word = |value: TomlValue<'_>| match value.as_str() {
        Some(_) => {
            value.word_or(&[("required", Some(true))], Some("true or false"), value.boolean_in_quotes())
        }
        None => value.boolean().map(|on| on.then_some(false)),
    };
    let required = table.read("cookies", word).map_or(Some(false), |read| read.value);
    let secrets = table.read("cookie_secret_file", cookie_secrets);
    if let (None, Some(file)) = (required, &secrets) {
        file.at.error("`cookie_secret_file` has no use while `cookies = false`");
    }
    settings.cookies = cookies(required, secrets.map(|file| file.value));
}

fn cookies(required: Option<bool>, secrets: Option<CookieSecrets>) -> Option<Cookies> {
    let secrets = secrets.or_else(|| CookieSecrets::new(vec![*OWN_SECRET]));
    required.zip(secrets).map(|(required, secrets)| Cookies { secrets, required })
}

/// Reads secrets of 32 hexadecimal digits, one per line. The first makes cookies; all are accepted.
fn cookie_secrets(value: TomlValue<'_>) -> Option<CookieSecrets> {
    let (path, text) = value.secret_file()?;
    let refuse = |reason: String| value.refuse_file(&path, reason);
    let mut secrets = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let digits = line.trim();
        let parsed =
            u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32 && !digits.starts_with('+'));
        let Some(secret) = parsed else {
            refuse(format!("line {number} is not a secret: 32 hexadecimal digits are expected"));
            return None;
        };
        secrets.push(secret.to_be_bytes());
    }
    let secrets = CookieSecrets::new(secrets);
    if secrets.is_none() {
        refuse("it holds no secret: a line of 32 hexadecimal digits is expected".to_owned());
    }
    secrets
}

/// An existing directory. If it is not writable, this is only a warning: the server works without it.
fn directory(value: TomlValue<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    let refuse = |reason: &dyn std::fmt::Display| {
        value.at.error_with_hint(
            format!("`state_dir` {}: {reason}", quoted(&path.to_string_lossy())),
            "create the directory, and let the user that runs steerd write to it".to_owned(),
        );
    };
    match value.at.findings().look_at(&path).and_then(|()| std::fs::metadata(&path)) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            refuse(&"this is not a directory");
            return None;
        }
        Err(error) => {
            refuse(&error);
            return None;
        }
    }
    if let Err(error) = try_writing(&path) {
        value.at.warning(
            format!("`state_dir` {} cannot be written to: {error}", quoted(&path.to_string_lossy())),
            "health and overrides will not survive a restart; let the user that runs steerd write to it"
                .to_owned(),
        );
    }
    Some(path)
}

/// Creates a nameless file (`O_TMPFILE`), which disappears at once. If the file system does not support this, only the
/// first write shows whether writing is possible.
fn try_writing(directory: &Path) -> io::Result<()> {
    let unnamed = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(directory);
    match unnamed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn read_rate_limit(entry: NamedValue<'_>) -> Option<RateLimit> {
    let mut table = entry.value.table(entry.at)?;
    let rate =
        table.require("responses_per_second", "rate_limit", |value| value.integer(RESPONSES_PER_SECOND));
    let all = table.read("all_responses_per_second", |value| value.integer(RESPONSES_PER_SECOND));
    if let (Some(rate), Some(all)) = (&rate, &all)
        && all.value < rate.value
    {
        all.at.error(format!(
            "all responses together cannot have a lower limit than equal ones: at least {}, the \
             `responses_per_second`, is expected",
            rate.value
        ));
    }
    let slip = table.read("slip", |value| value.integer(SLIP));
    let exempt = table.read("networks_exempt", TomlValue::networks);
    table.close();
    Some(RateLimit {
        responses_per_second: rate?.value,
        all_responses_per_second: all.map(|all| all.value),
        slip: slip.map_or(DEFAULT_SLIP, |slip| slip.value),
        networks_exempt: exempt.map(|exempt| exempt.value).unwrap_or_default(),
    })
}

/// Networks of resolvers, or `["any"]`.
fn resolvers(value: TomlValue<'_>) -> Option<Networks> {
    let any = |value: &TomlValue<'_>| value.as_str() == Some("any");
    let list = if value.is_list() { value.list_or_none("a list of networks")? } else { Vec::new() };
    if list.len() == 1 && list.iter().any(any) {
        return Some(Family::ALL.into_iter().map(Network::all).collect());
    }
    value.networks()
}

/// In units of 100 ms (RFC 7828).
fn tenths(duration: Duration) -> u16 {
    u16::try_from(duration.as_millis() / 100).unwrap_or(u16::MAX)
}

pub(super) fn listeners(value: TomlValue<'_>) -> Option<Listen<'_>> {
    let mut listen: Listen<'_> = Vec::new();
    for value in value.list("a list of addresses with ports, such as [\"0.0.0.0:53\", \"[::]:53\"]")? {
        let Some(address) = socket_address(value) else { continue };
        let other = listen.iter().find_map(|other| Some((other, binding::conflict(address, other.value)?)));
        match other {
            Some((first, _)) if first.value == address => {
                value.at.error_beside(format!("`{address}` is in this list already"), first.at, "first here");
            }
            Some((other, reason)) => {
                let message = format!(
                    "one server cannot listen on `{address}` and on `{}`: {reason}; leave one of them out",
                    other.value
                );
                value.at.error_beside(message, other.at, "the other");
            }
            None => listen.push(Located { value: address, at: value.at, inherited: false }),
        }
    }
    Some(listen)
}

pub(super) fn socket_address(value: TomlValue<'_>) -> Option<SocketAddr> {
    let what = "an address with a port, such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"";
    let text = value.string(what)?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        value.must_be(format!("{what}; this is `{text}`"), address::listen_hint(text));
        return None;
    };
    let unusable = match address.ip() {
        ip if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    };
    if let Some(unusable) = unusable {
        value.at.error_with_hint(
            format!("`{text}` is {unusable}, which no server can answer from"),
            "write an address of this machine, or \"0.0.0.0:53\" for all of them".to_owned(),
        );
        return None;
    }
    if let IpAddr::V6(v6) = address.ip()
        && let Some(v4) = v6.to_ipv4_mapped()
    {
        let hint = format!("did you mean \"{v4}:{}\"?", address.port());
        value.at.error_with_hint(format!("`{text}` is an IPv4 address written as an IPv6 one"), hint);
        return None;
    }
    Some(address)
}
