//! Values of the keys that describe a request and the expected response.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use data_encoding::BASE64_NOPAD;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};

use crate::check::Version;
use crate::config::labels;
use crate::config::value::{NamedValue, TomlValue};

/// Status codes of HTTP (RFC 9110, section 15).
const STATUS: RangeInclusive<u16> = 100..=599;

/// Range of `body_limit`, bytes.
pub(super) const BODY_LIMITS: RangeInclusive<usize> = 1..=1024 * 1024;

/// The most headers. Servers reject a head of more than a few kilobytes, and a check needs far fewer headers.
const MAX_HEADERS: usize = 32;
/// The longest value of a header, and the longest name of a gRPC service, bytes.
const MAX_TEXT: usize = 1024;

pub(super) const VERSIONS: [(&str, Version); 2] = [("1.1", Version::Http1), ("2", Version::Http2)];

/// Headers that belong to the connection or frame the message (RFC 9110, section 7.6.1; RFC 9112, section 6). The
/// probe sets them; another value would make the request malformed.
const OF_CONNECTION: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether the gRPC call itself sets this header.
pub(super) fn is_of_call(name: &str) -> bool {
    name == "content-type" || name.starts_with("grpc-")
}

/// Whether a value is base64, with or without padding, as binary metadata of gRPC must be.
pub(super) fn is_base64(value: &str) -> bool {
    value.split(',').map(str::trim).all(|part| {
        let bytes = part.trim_end_matches('=').as_bytes();
        BASE64_NOPAD.decode(bytes).is_ok() && (part.len() == bytes.len() || part.len().is_multiple_of(4))
    })
}

/// Splits `HOST:PORT`. An IPv6 address keeps its brackets.
pub(super) fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A host in the form in which it is sent: as A-labels if it is not ASCII.
pub(super) fn sent(host: &str) -> String {
    labels::to_ascii(host).map_or_else(|| host.to_owned(), std::borrow::Cow::into_owned)
}

pub(super) fn port_number(value: TomlValue<'_>, digits: &str) -> Option<u16> {
    let port = digits.parse().ok().filter(|&port| port > 0);
    if port.is_none() {
        value.at.error(format!("a port is a number from 1 to 65535, not `{digits}`"));
    }
    port
}

pub(super) fn host(value: TomlValue<'_>) -> Option<&str> {
    checked_host(value, value.string("a host name")?)
}

/// Checks the value of a Host header: a name or an address, and optionally a port (RFC 9110, section 7.2).
pub(super) fn checked_host<'s>(value: TomlValue<'s>, text: &'s str) -> Option<&'s str> {
    // The message does not quote the text, which may contain a password.
    if text.contains('@') {
        value.at.concealed().error("a host has no user and no password before it");
        return None;
    }
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        value.at.error_with_hint(
            format!("`{text}` is a URL, and a host is a name or an address, with or without a port"),
            format!("did you mean \"{host}\"?"),
        );
        return None;
    }
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
    let is_name = labels::to_ascii(name)
        .is_some_and(|name| (1..=253).contains(&name.len()) && name.bytes().all(allowed));
    if is_address || is_name {
        return Some(text);
    }
    let hint = text.contains(':').then(|| "write an IPv6 address in brackets: \"[2001:db8::1]\"".to_owned());
    value.at.error_with_hint(format!("`{text}` is not a host name"), hint);
    None
}

pub(super) fn path(value: TomlValue<'_>) -> Option<&str> {
    checked_path(value, value.string("a path such as \"/healthz\"")?)
}

/// Checks the path of a request line, with or without a query.
pub(super) fn checked_path<'s>(value: TomlValue<'s>, text: &'s str) -> Option<&'s str> {
    if !text.starts_with('/') {
        // The query may contain a token.
        let path = text.split_once('?').map_or(text.into(), |(path, _)| format!("{path}?..."));
        value.at.error(format!("the path of a check begins with a slash; this is `{path}`"));
        return None;
    }
    if let Some(bad) = text.chars().find(|character| !character.is_ascii_graphic() || *character == '#') {
        let message = format!("{bad:?} is not allowed in the path of a check");
        value.at.error_with_hint(message, "write it as %XX, its bytes in hexadecimal".to_owned());
        return None;
    }
    Some(text)
}

/// A token (RFC 9110, section 9.1); methods are case-sensitive.
pub(super) fn method(value: TomlValue<'_>) -> Option<&str> {
    let text = value.string("a method such as \"GET\" or \"HEAD\"")?;
    let upper = text.to_ascii_uppercase();
    if upper == Method::CONNECT.as_str() {
        value.at.error("CONNECT asks for a tunnel, and its outcome says nothing about the backend");
        return None;
    }
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    if text != upper && known.contains(&upper.as_str()) {
        value.must_be("written as servers know it", format!("did you mean \"{upper}\"?"));
        return None;
    }
    if Method::from_bytes(text.as_bytes()).is_err() {
        value.must_be(format!("a method such as \"GET\" or \"HEAD\"; this is `{text}`"), None);
        return None;
    }
    Some(text)
}

/// Headers with their names in lower case, so that equal headers give equal probes.
pub(super) fn headers(value: TomlValue<'_>) -> Option<BTreeMap<String, String>> {
    if !value.is_table() {
        value.expected("a table of headers, such as { Accept = \"text/plain\" }", None);
        return None;
    }
    let entries = value.entries();
    if entries.len() > MAX_HEADERS {
        value.must_be(format!("a table of at most {MAX_HEADERS} headers; these are {}", entries.len()), None);
        return None;
    }
    let mut first = std::collections::HashMap::new();
    let mut sound = true;
    let mut headers = BTreeMap::new();
    for entry in entries {
        let Some((name, text)) = header(entry) else {
            sound = false;
            continue;
        };
        if let Some(first) = first.insert(name.clone(), entry.at) {
            entry.at.error_beside(format!("header `{name}` is set already"), first, "first here");
            sound = false;
        }
        headers.insert(name, text);
    }
    sound.then_some(headers)
}

fn header(entry: NamedValue<'_>) -> Option<(String, String)> {
    let name = header_name(entry.at, entry.name)?;
    if name == "host" {
        let hint = "set `host` of the check: with https it is the name that the certificate must have too";
        entry.at.error_with_hint("the Host header is not set by `headers`", hint.to_owned());
        return None;
    }
    if OF_CONNECTION.contains(&name.as_str()) {
        entry.at.error(format!("the probe itself decides about the header `{name}`"));
        return None;
    }
    let text = entry.value.string("the value of a header")?;
    if text.len() > MAX_TEXT {
        entry.value.must_be(format!("at most {MAX_TEXT} bytes; this has {}", text.len()), None);
        return None;
    }
    if text.trim() != text {
        entry.value.must_be("without space at its ends: servers remove it", None);
        return None;
    }
    let bad = text.chars().find(|character| !character.is_ascii() || character.is_ascii_control());
    if let Some(bad) = bad.filter(|bad| *bad != '\t') {
        entry.value.at.error(format!("{bad:?} is not allowed in the value of a header"));
        return None;
    }
    HeaderValue::from_str(text).ok()?;
    Some((name, text.to_owned()))
}

/// The name of a header, a token, in lower case (RFC 9110, section 5.1).
fn header_name(at: crate::config::source::At<'_>, text: &str) -> Option<String> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= MAX_TEXT);
    if name.is_none() {
        at.error(format!("`{text}` is not the name of a header"));
    }
    name.map(|name| name.as_str().to_owned())
}

pub(super) fn weight_header(value: TomlValue<'_>) -> Option<String> {
    header_name(value.at, value.string("the name of a header")?)
}

pub(super) fn status(value: TomlValue<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let what = "a list of status codes and ranges, such as [\"200-299\", 401]";
    if value.is_integer() {
        let code = value.integer(STATUS)?;
        value.expected(what, format!("did you mean [{code}]?"));
        return None;
    }
    ranges(value.list(what)?)
}

/// A list of status codes; it may be empty.
pub(super) fn drain_status(value: TomlValue<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    ranges(value.list_or_none("a list of status codes and ranges, such as [503]")?)
}

/// Reports the faults of all elements, before the first fault makes the list wrong.
fn ranges(values: Vec<TomlValue<'_>>) -> Option<Vec<RangeInclusive<u16>>> {
    let read: Vec<_> = values.into_iter().map(status_range).collect();
    read.into_iter().collect()
}

fn status_range(value: TomlValue<'_>) -> Option<RangeInclusive<u16>> {
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

pub(super) fn service(value: TomlValue<'_>) -> Option<&str> {
    checked_service(value, value.string("the name of a gRPC service")?)
}

/// Checks the name of a gRPC service; the empty name means the server as a whole.
pub(super) fn checked_service<'s>(value: TomlValue<'s>, text: &'s str) -> Option<&'s str> {
    if text.len() > MAX_TEXT {
        value.at.error(format!("the name of a gRPC service has at most {MAX_TEXT} bytes"));
        return None;
    }
    let is_allowed = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '/' | ':')
    };
    if let Some(bad) = text.chars().find(|character| !is_allowed(*character)) {
        value.at.error_with_hint(
            format!("{bad:?} is not allowed in the name of a gRPC service"),
            "write it as the server registers it, such as \"my.package.Service\"".to_owned(),
        );
        return None;
    }
    Some(text)
}
