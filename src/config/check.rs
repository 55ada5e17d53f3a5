//! Checks: a URL or a table, completed by `[defaults.check]`, then by what is built in.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::checker::Check;
use crate::config::source::At;
use crate::config::value::{Entry, Located, Shown, Table, Value, closest, either};
use crate::health::Timing;
use crate::probe::Probe;
use crate::probe::http::{HttpProbe, TlsSettings};
use crate::probe::tcp::TcpProbe;

/// From one probe to the next, and while a state is in doubt.
const INTERVALS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
/// The longest a probe may take; `interval` is the other bound.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Consecutive outcomes that flip a state.
const FLIPS: RangeInclusive<u16> = 1..=100;
/// Status codes of HTTP (RFC 9110, section 15).
const STATUS: RangeInclusive<u16> = 100..=599;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// Four fifths of the interval where that is less.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval where that is less.
const DEFAULT_RECHECK: Duration = Duration::from_secs(1);
const DEFAULT_RISE: u16 = 2;
const DEFAULT_FALL: u16 = 3;

/// What a check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Https,
    Tcp,
}

const KINDS: [(&str, Kind); 3] = [("http", Kind::Http), ("https", Kind::Https), ("tcp", Kind::Tcp)];

/// The keys of a check that are set in one place.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckKeys<'s> {
    kind: Option<Located<'s, Kind>>,
    port: Option<Located<'s, u16>>,
    host: Option<Located<'s, &'s str>>,
    path: Option<Located<'s, &'s str>>,
    status: Option<Located<'s, Vec<RangeInclusive<u16>>>>,
    interval: Option<Located<'s, Duration>>,
    timeout: Option<Located<'s, Duration>>,
    rise: Option<Located<'s, u16>>,
    fall: Option<Located<'s, u16>>,
    recheck: Option<Located<'s, Duration>>,
    verify: Option<Located<'s, bool>>,
    ca_file: Option<Located<'s, PathBuf>>,
    name: Option<Located<'s, &'s str>>,
    /// Whether something was wrong: then nothing is concluded from what is left.
    faulty: bool,
}

impl<'s> CheckKeys<'s> {
    /// Reads a check of a pool: a URL or a table.
    pub(super) fn read(value: Value<'s>) -> Option<Self> {
        let before = value.at.findings().errors();
        let mut keys = if value.is_table() {
            Self::read_table(value.table(value.at)?)
        } else if let Some(text) = value.as_str() {
            Self::read_url(value, text)?
        } else {
            value.expected("a URL such as \"http://:8080/healthz\", or a table", None);
            return None;
        };
        keys.faulty = value.at.findings().errors() > before;
        Some(keys)
    }

    /// Reads `[defaults.check]`.
    pub(super) fn read_defaults(entry: Entry<'s>) -> Self {
        let before = entry.at.findings().errors();
        let mut keys = entry.value.table(entry.at).map(Self::read_table).unwrap_or_default();
        keys.faulty = entry.at.findings().errors() > before;
        keys
    }

    fn read_table(mut table: Table<'s>) -> Self {
        let mut keys = Self {
            kind: table.read("type", |value| value.word(&KINDS, None)),
            port: table.read("port", |value| value.integer(1..=u16::MAX)),
            host: table.read("host", host),
            path: table.read("path", path),
            status: table.read("status", status),
            interval: table.read("interval", |value| value.duration(INTERVALS)),
            timeout: table.read("timeout", |value| value.duration(TIMEOUTS)),
            rise: table.read("rise", |value| value.integer(FLIPS)),
            fall: table.read("fall", |value| value.integer(FLIPS)),
            recheck: table.read("recheck", |value| value.duration(INTERVALS)),
            ..Self::default()
        };
        if let Some(tls) = table.get("tls")
            && let Some(mut tls) = tls.value.table(tls.at)
        {
            keys.verify = tls.read("verify", Value::boolean);
            keys.ca_file = tls.read("ca_file", certificates);
            keys.name = tls.read("name", server_name);
            tls.close();
            if let (Some(Located { value: false, .. }), Some(ca_file)) = (&keys.verify, &keys.ca_file) {
                ca_file.at.error("`ca_file` says whom to trust, but `verify = false` trusts everyone");
            }
        }
        table.close();
        keys
    }

    /// Reads `SCHEME://[HOST][:PORT][/PATH]`. What the URL leaves out is left to the defaults.
    fn read_url(value: Value<'s>, text: &'s str) -> Option<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            value.must_be("a URL such as \"http://:8080/healthz\", or a table", None);
            return None;
        };
        let Some((_, kind)) = KINDS.into_iter().find(|(word, _)| *word == scheme) else {
            let hint = closest(scheme, KINDS.map(|(word, _)| word)).map_or_else(
                || format!("a check is {}", either(&KINDS.map(|(word, _)| word.to_owned()))),
                |near| format!("did you mean `{near}`?"),
            );
            value.at.error_with_hint(format!("`{scheme}` is not a type of check"), hint);
            return None;
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (name, port) = split_port(authority);
        if kind == Kind::Tcp && (!name.is_empty() || !target.is_empty()) {
            let message = "a tcp check has a port only: it connects to the addresses of the backends";
            value.at.error_with_hint(message, format!("write \"tcp://:{}\"", port.unwrap_or("5432")));
            return None;
        }
        let port = match port {
            None => None,
            Some(digits) => Some(port_number(value, digits)?),
        };
        let host = if name.is_empty() { None } else { Some(checked_host(value, authority)?) };
        let path = if target.is_empty() { None } else { Some(checked_path(value, target)?) };
        Some(Self {
            kind: Some(Located { value: kind, at: value.at, inherited: false }),
            port: port.map(|port| Located { value: port, at: value.at, inherited: false }),
            host: host.map(|host| Located { value: host, at: value.at, inherited: false }),
            path: path.map(|path| Located { value: path, at: value.at, inherited: false }),
            ..Self::default()
        })
    }

    /// These keys, and those of the defaults that are not set here.
    fn or_default(self, defaults: &Self) -> Self {
        Self {
            kind: Located::or_default(self.kind, defaults.kind.as_ref()),
            port: Located::or_default(self.port, defaults.port.as_ref()),
            host: Located::or_default(self.host, defaults.host.as_ref()),
            path: Located::or_default(self.path, defaults.path.as_ref()),
            status: Located::or_default(self.status, defaults.status.as_ref()),
            interval: Located::or_default(self.interval, defaults.interval.as_ref()),
            timeout: Located::or_default(self.timeout, defaults.timeout.as_ref()),
            rise: Located::or_default(self.rise, defaults.rise.as_ref()),
            fall: Located::or_default(self.fall, defaults.fall.as_ref()),
            recheck: Located::or_default(self.recheck, defaults.recheck.as_ref()),
            verify: Located::or_default(self.verify, defaults.verify.as_ref()),
            ca_file: Located::or_default(self.ca_file, defaults.ca_file.as_ref()),
            name: Located::or_default(self.name, defaults.name.as_ref()),
            faulty: self.faulty || defaults.faulty,
        }
    }

    /// The check that these keys and the defaults make; `at` is where the pool sets it.
    pub(super) fn resolve(self, defaults: &Self, at: At<'s>) -> Option<Check> {
        let keys = self.or_default(defaults);
        if keys.faulty {
            return None;
        }
        let Some(Located { value: kind, .. }) = keys.kind else {
            at.error_with_hint("the check has no `type`", "for example type = \"http\"".to_owned());
            return None;
        };
        keys.report_misfits(kind);
        let timing = keys.timing();
        let Some(port) = keys.port.map(|port| port.value).or(kind.default_port()) else {
            at.error("a tcp check needs a `port`");
            return None;
        };
        let probe = match kind {
            Kind::Tcp => Probe::Tcp(TcpProbe::connect(port)),
            Kind::Http => Probe::Http(keys.http(port, None)),
            Kind::Https => {
                let tls = keys.tls(at)?;
                Probe::Http(keys.http(port, Some(tls)))
            }
        };
        Some(Check::new(probe, timing?))
    }

    /// Reports keys that say nothing in a check of this kind. A default that does not fit is no
    /// fault: it is for the checks that it fits.
    fn report_misfits(&self, kind: Kind) {
        fn own<'s, T>(key: Option<&Located<'s, T>>) -> Option<At<'s>> {
            key.filter(|key| !key.inherited).map(|key| key.at)
        }
        let of_http: &[(&str, Option<At<'s>>)] = &[
            ("host", own(self.host.as_ref())),
            ("path", own(self.path.as_ref())),
            ("status", own(self.status.as_ref())),
        ];
        let of_https: &[(&str, Option<At<'s>>)] = &[
            ("tls.verify", own(self.verify.as_ref())),
            ("tls.ca_file", own(self.ca_file.as_ref())),
            ("tls.name", own(self.name.as_ref())),
        ];
        let report = |keys: &[(&str, Option<At<'s>>)], fit: &str| {
            for (key, at) in keys.iter().filter_map(|(key, at)| Some((key, (*at)?))) {
                at.error(format!("`{key}` belongs to {fit} checks, and this is {}", kind.with_article()));
            }
        };
        if kind != Kind::Https {
            report(of_https, "https");
        }
        if kind == Kind::Tcp {
            report(of_http, "http and https");
        }
    }

    fn timing(&self) -> Option<Timing> {
        let set = |key: Option<Located<'s, Duration>>| key.map(|key| key.value);
        let interval = set(self.interval).unwrap_or(DEFAULT_INTERVAL);
        let timeout = set(self.timeout).unwrap_or(DEFAULT_TIMEOUT.min(interval * 4 / 5));
        let recheck = set(self.recheck).unwrap_or(DEFAULT_RECHECK.min(interval));
        let mut sound = true;
        let mut contradiction = |key: Option<Located<'s, Duration>>, message: String| {
            sound = false;
            // The one that is set nearer is the one to look at.
            match (key, self.interval) {
                (Some(key), Some(interval)) if key.inherited => {
                    interval.at.error_beside(message, key.at, "the other is set here");
                }
                (Some(key), Some(interval)) => {
                    key.at.error_beside(message, interval.at, "the interval is set here");
                }
                (Some(key), None) => key.at.error(message),
                (None, _) => {}
            }
        };
        if timeout >= interval {
            let message =
                format!("`timeout` ({}) must be below `interval` ({})", Shown(timeout), Shown(interval));
            contradiction(self.timeout, message);
        }
        if recheck > interval {
            let message =
                format!("`recheck` ({}) must not be above `interval` ({})", Shown(recheck), Shown(interval));
            contradiction(self.recheck, message);
        }
        sound.then(|| Timing {
            interval,
            timeout,
            rise: self.rise.map_or(DEFAULT_RISE, |rise| rise.value),
            fall: self.fall.map_or(DEFAULT_FALL, |fall| fall.value),
            recheck,
            interval_down: interval,
            damping: true,
        })
    }

    fn http(&self, port: u16, tls: Option<TlsSettings>) -> HttpProbe {
        let mut probe = HttpProbe::get(port, self.path.map_or("/", |path| path.value));
        probe.tls = tls;
        probe.host = self.host.map(|host| host.value.to_owned());
        if let Some(status) = &self.status {
            probe.status.clone_from(&status.value);
        }
        probe
    }

    fn tls(&self, at: At<'s>) -> Option<TlsSettings> {
        let insecure = self.verify.is_some_and(|verify| !verify.value);
        let name = self.name.map(|name| name.value).or_else(|| {
            let (name, _) = split_port(self.host?.value);
            Some(name.trim_start_matches('[').trim_end_matches(']'))
        });
        match name {
            None if !insecure => {
                at.error_with_hint(
                    "an https check must know which name the certificate has to have",
                    "set `host` or `tls.name`, or `tls.verify = false` to accept any certificate".to_owned(),
                );
                return None;
            }
            Some(name) if ServerName::try_from(name).is_err() => {
                at.error(format!("`{name}` is no name that a certificate can have"));
                return None;
            }
            _ => {}
        }
        Some(TlsSettings {
            name: name.map(str::to_owned),
            insecure,
            ca_file: self.ca_file.as_ref().map(|file| file.value.clone()),
            min_days_left: None,
        })
    }
}

impl Kind {
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Tcp => None,
        }
    }

    fn with_article(self) -> &'static str {
        match self {
            Self::Http => "an http check",
            Self::Https => "an https check",
            Self::Tcp => "a tcp check",
        }
    }
}

/// Host and port of `HOST:PORT`; the brackets of an IPv6 address stay with the host.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn port_number(value: Value<'_>, digits: &str) -> Option<u16> {
    let port = digits.parse().ok().filter(|&port| port > 0);
    if port.is_none() {
        value.at.error(format!("a port is a number from 1 to 65535, not `{digits}`"));
    }
    port
}

fn host(value: Value<'_>) -> Option<&str> {
    checked_host(value, value.string("a host name")?)
}

/// What may stand in a Host header: a name or an address, and a port (RFC 9110, section 7.2).
fn checked_host<'s>(value: Value<'s>, text: &'s str) -> Option<&'s str> {
    let (name, port) = split_port(text);
    if let Some(port) = port
        && (!name.contains(':') || name.ends_with(']'))
    {
        port_number(value, port)?;
    }
    let is_address = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_name = (1..=253).contains(&name.len()) && name.bytes().all(allowed);
    if is_address || is_name {
        return Some(text);
    }
    let hint = text.contains(':').then(|| "an IPv6 address stands in brackets: \"[2001:db8::1]\"".to_owned());
    value.at.error_with_hint(format!("`{text}` is not a host name"), hint);
    None
}

fn path(value: Value<'_>) -> Option<&str> {
    checked_path(value, value.string("a path such as \"/healthz\"")?)
}

/// What may stand in a request line: a path, with or without a query.
fn checked_path<'s>(value: Value<'s>, text: &'s str) -> Option<&'s str> {
    if !text.starts_with('/') {
        value.at.error(format!("the path of a check begins with a slash; this is `{text}`"));
        return None;
    }
    if let Some(bad) = text.chars().find(|character| !character.is_ascii_graphic() || *character == '#') {
        let message = format!("{bad:?} cannot stand in the path of a check");
        value.at.error_with_hint(message, "write it as %XX, its bytes in hexadecimal".to_owned());
        return None;
    }
    Some(text)
}

fn status(value: Value<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let what = "a list of status codes and ranges, such as [\"200-299\", 401]";
    // All elements are looked at before one that is wrong makes the list wrong.
    let read: Vec<_> = value.list(what)?.into_iter().map(status_range).collect();
    read.into_iter().collect()
}

fn status_range(value: Value<'_>) -> Option<RangeInclusive<u16>> {
    if value.is_integer() {
        return value.integer(STATUS).map(|code| code..=code);
    }
    let what = "a status code or a range such as \"200-299\"";
    let text = value.string(what)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.trim().parse().ok().zip(last.trim().parse().ok()).map(|(first, last)| first..=last);
    let valid = range.filter(|range: &RangeInclusive<u16>| {
        !range.is_empty() && STATUS.contains(range.start()) && STATUS.contains(range.end())
    });
    if valid.is_none() {
        value.must_be(format!("{what}, within 100 to 599; this is `{text}`"), None);
    }
    valid
}

fn certificates(value: Value<'_>) -> Option<PathBuf> {
    let path = value.path()?;
    let refuse = |reason: String| value.at.error(format!("`ca_file` {}: {reason}", path.display()));
    let pem = std::fs::read(&path).map_err(|error| refuse(error.to_string())).ok()?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(found) if !found.is_empty() => return Some(path),
        Ok(_) => refuse("it holds no certificate in PEM form".to_owned()),
        Err(error) => refuse(error.to_string()),
    }
    None
}

fn server_name(value: Value<'_>) -> Option<&str> {
    let text = value.string("the name in the certificate")?;
    if ServerName::try_from(text).is_err() {
        value.must_be(format!("a host name or an address; this is `{text}`"), None);
        return None;
    }
    Some(text)
}
